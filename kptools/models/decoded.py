"""What the output of a network is decoded to. Nothing here imports torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kptools import geometry as g
from kptools.units import Pixels

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Maps:
    """Heatmaps (B, K, H, W) as logits, on the network's device; the size (W, H) of the input in
    their pixels, of which the last may be a part of one; and the `sigma` of the labels."""

    logits: "Tensor"
    size: tuple[float, float]
    sigma: Pixels


@dataclass
class Decoded:
    """Points (B, K, 2) in fractions of the input, NaN where the network gave no finite number; the
    scores (B, K) and the maps, where the head has them, and the probabilities (B, K) that a point
    is `visible`, where the network learnt it."""

    points: g.Points
    scores: g.Points | None = None
    maps: Maps | None = None
    visible: g.Points | None = None
