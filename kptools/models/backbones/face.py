"""The full-face network of the course project: two convolution and pooling blocks, three
convolutions, and linear layers of 1000, 300 and 2K units."""

import torch
from torch import Tensor, nn

from kptools.models.heads.points import PointsHead
from kptools.models.network import Network
from kptools.units import Size


class FullFace(Network):
    """(B, 1, H, W) grey in -0.5..0.5 to (B, K, 3), as PointsHead gives it."""

    head: PointsHead

    def __init__(self, count: int, size: Size) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 7, padding=3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            flat = self.features(torch.zeros(1, 1, size[1], size[0])).shape[1]
        self.head = PointsHead(flat, (1000, 300), count, relu=True)

    def forward(self, x: Tensor) -> Tensor:
        points: Tensor = self.head(self.features(x))
        return points


def build(name: str, count: int, size: Size, weights: str = "none") -> FullFace:
    return FullFace(count, size)
