"""The linear layers that end a network of points."""

import torch
from torch import Tensor, nn


class Head(nn.Sequential):
    """(B, inputs) features to (B, 2 * count): linear layers with ReLU between them.

    It computes in float32 under autocast too: bf16 has 8 bits, a third of a pixel at 224.
    """

    def __init__(self, inputs: int, hidden: tuple[int, ...], count: int) -> None:
        layers: list[nn.Module] = []
        for units in hidden:
            layers += [nn.Linear(inputs, units), nn.ReLU()]
            inputs = units
        super().__init__(*layers, nn.Linear(inputs, 2 * count))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = x.float()
            for layer in self:
                x = layer(x)
        return x
