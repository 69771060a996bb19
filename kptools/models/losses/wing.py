"""The wing loss (Feng et al., 2018): logarithmic where the error is small, else linear."""

import math

import torch
from torch import Tensor

WIDTH, CURVE = 0.04, 0.008  # fractions of the input: w and epsilon of the paper


def loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """(B, K, 2): the loss of each coordinate."""
    distance = (predicted - truth).abs()
    near = WIDTH * torch.log1p(distance / CURVE)
    gap = WIDTH - WIDTH * math.log1p(WIDTH / CURVE)
    return torch.where(distance < WIDTH, near, distance - gap)
