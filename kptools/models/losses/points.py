"""Losses of points: unreduced, then one mean over what is annotated.

Points are (B, K, 2) in fractions of the network's input.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WING_WIDTH, WING_CURVE = 0.04, 0.008  # fractions of the input


def point_losses(predicted: Tensor, truth: Tensor, loss: str) -> Tensor:
    """(B, K, 2): the loss of each coordinate. `wing` is Feng et al., 2018."""
    if loss == "mse":
        return (predicted - truth).square()
    if loss == "l1":
        return (predicted - truth).abs()
    if loss == "smooth_l1":
        return F.smooth_l1_loss(predicted, truth, reduction="none", beta=0.01)
    if loss == "wing":
        distance = (predicted - truth).abs()
        near = WING_WIDTH * torch.log1p(distance / WING_CURVE)
        gap = WING_WIDTH - WING_WIDTH * math.log1p(WING_WIDTH / WING_CURVE)
        return torch.where(distance < WING_WIDTH, near, distance - gap)
    raise ValueError(f"no loss of points {loss!r}")


def point_loss(predicted: Tensor, truth: Tensor, loss: str) -> Tensor:
    """The mean over the coordinates of the annotated points; NaN in `truth` marks the others."""
    known = truth.isfinite()
    losses = point_losses(predicted.float(), torch.nan_to_num(truth), loss)
    return (losses * known).sum() / known.float().sum().clamp(min=1)
