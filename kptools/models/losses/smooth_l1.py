"""The smooth L1 loss (Girshick, 2015): squared where the error is small, else linear."""

import torch.nn.functional as F
from torch import Tensor

BETA = 0.01  # fraction of the input: where the two meet


def loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """(B, K, 2): the loss of each coordinate."""
    return F.smooth_l1_loss(predicted, truth, reduction="none", beta=BETA)
