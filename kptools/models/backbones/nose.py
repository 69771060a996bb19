"""The nose-tip network of the course project: three convolutions and two linear layers."""

import torch
from torch import Tensor, nn

from kptools.models.heads.points import PointsHead
from kptools.models.network import Network
from kptools.units import Size


class Nose(Network):
    """(B, 1, H, W) grey in -0.5..0.5 to (B, K, 3), as PointsHead gives it."""

    head: PointsHead

    def __init__(self, count: int, size: Size) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 12, 7, padding=3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(24, 32, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
        )
        with torch.no_grad():
            flat = self.features(torch.zeros(1, 1, size[1], size[0])).shape[1]
        self.head = PointsHead(flat, (128,), count, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        points: Tensor = self.head(self.features(x))
        return points


def build(name: str, count: int, size: Size, weights: str = "none") -> Nose:
    return Nose(count, size)
