"""A convolution, batch normalisation and ReLU."""

from torch import nn


def convolution(inputs: int, outputs: int, kernel: int, *, stride: int = 1) -> nn.Sequential:
    """(B, inputs, H, W) to (B, outputs, H/stride, W/stride), rounded up."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )
