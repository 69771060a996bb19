"""A head that gives points: linear layers, trained on the coordinates themselves."""

import math
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kptools import geometry as g
from kptools import runtime
from kptools.models.decoded import Decoded
from kptools.models.heads import confidence
from kptools.models.network import Criterion, Loss
from kptools.runtime import send
from kptools.units import Size

DISTANCE = 0.05  # expected at the start, fractions of the input
LIMIT = 10.0  # of the log of a distance
HIDDEN = 200  # units of the layer before the last, behind a deep backbone


class PointsHead(nn.Sequential):
    """(B, inputs) features to (B, K, 3): points (B, K, 2) in fractions of the network's input, and
    the log of the distance, in the same unit, by which each is expected to be off. Linear layers,
    with ReLU between them if `relu`.

    They learn points as deviations from a mean shape, in units of their spread over the training
    set: `start` sets both. Without it a network first has to learn where a face's points are at
    all. Behind a deep backbone a ReLU here dies within an epoch at Adam's 1e-3 (its features share
    a sign), and the network gives the mean shape for ever after: leave it out there.

    The distance is learnt from the last layer's input, to which no gradient goes back from it: the
    points are what they would be without it.

    It computes in float32 under autocast too: bf16 has 8 bits, a third of a pixel at 224.
    """

    decoders: ClassVar[tuple[str, ...]] = ()
    mean: Tensor  # (2 * count,)
    spread: Tensor  # (2 * count,)

    def __init__(self, inputs: int, hidden: tuple[int, ...], count: int, *, relu: bool) -> None:
        layers: list[nn.Module] = []
        for units in hidden:
            layers.append(nn.Linear(inputs, units))
            if relu:
                layers.append(nn.ReLU())
            inputs = units
        super().__init__(*layers, nn.Linear(inputs, 2 * count))
        self.register_buffer("mean", torch.full((2 * count,), 0.5))
        self.register_buffer("spread", torch.ones(2 * count))
        self.distance_weight = nn.Parameter(torch.zeros(count, inputs))
        self.distance_bias = nn.Parameter(torch.full((count,), math.log(DISTANCE)))

    def forward(self, x: Tensor) -> Tensor:
        points, distance = self.points_and_distance(x)
        return torch.cat([points, distance.unsqueeze(-1)], dim=-1)

    def points_and_distance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of features (B, inputs): points (B, K, 2) in fractions of the input, and the logs of the
        distances (B, K), both float32."""
        with runtime.without_autocast(x):
            x = x.float()
            for layer in list(self)[:-1]:
                x = layer(x)
            distance = F.linear(x.detach(), self.distance_weight, self.distance_bias)
            distance = LIMIT * torch.tanh(distance / LIMIT)  # its exponential stays finite
            flat = torch.addcmul(self.mean, self[-1](x), self.spread)
            return flat.reshape(x.shape[0], -1, 2), distance

    def loss(self, output: Tensor, truth: g.Points, criterion: Criterion) -> Loss:
        """The mean over the coordinates of the annotated points."""
        estimates = self.estimates(output).float()
        target = send(torch.from_numpy(truth), output.device, torch.float32)
        known = target.isfinite()
        target = torch.nan_to_num(target)
        losses = criterion(estimates, target.unsqueeze(1).expand_as(estimates)).mean(dim=1)
        count = known.float().sum().clamp(min=1)
        mean = (losses * known).sum() / count
        points, distance = output[..., :2].detach().float(), output[..., 2]
        off = (points - target).norm(dim=-1)
        mean = confidence.with_likelihood(mean, off, distance, known.all(dim=-1))
        return Loss(mean, count)

    def estimates(self, output: Tensor) -> Tensor:
        """Of the output all points that are to be learnt, (B, estimates, K, 2)."""
        return output[..., :2].unsqueeze(1)

    def decode(
        self, output: Tensor, method: str | None = None, size: Size | None = None
    ) -> Decoded:
        points = output[..., :2].detach().float().cpu().numpy().astype(np.float64)
        if not self.distance_weight.any():  # of a checkpoint of before there were scores
            return Decoded(points)
        scores = confidence.score(output[..., 2].detach().float().exp())
        return Decoded(points, scores.cpu().numpy().astype(np.float64))

    def decode_in_graph(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """As `decode`."""
        return output[..., :2], confidence.score(output[..., 2].exp())

    def start(self, mean: Tensor, spread: Tensor) -> None:
        self.mean.copy_(mean.flatten())
        self.spread.copy_(spread.flatten())
