"""Forward and decode: what every network does."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from kptools import geometry as g
from kptools import runtime
from kptools.models.archs import DECODER
from kptools.models.codecs import heatmap
from kptools.specs import Model


def forward(network: nn.Module, x: Tensor, precision: str) -> Tensor:
    """The network's output; under bf16 its inner arithmetic is autocast."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        output: Tensor = network(x.contiguous(memory_format=runtime.memory_format(x.device)))
    return output


@dataclass
class Decoded:
    """Points (B, K, 2) in fractions of the input, NaN where the network gave no finite number;
    of heatmaps scores (B, K) and the logits (B, K, H, W), on the network's device."""

    unit: g.Points
    scores: g.Points | None = None
    maps: Tensor | None = None


def decode(output: Tensor, model: Model, method: str = DECODER) -> Decoded:
    """The points of a network's output."""
    maps = output.detach()
    if not model.heatmap:
        return Decoded(maps.float().cpu().numpy().astype(np.float64))
    points, scores = heatmap.decode(maps, method, model.sigma)
    return Decoded(g.map_to_unit(points, model.map_size), scores, maps)
