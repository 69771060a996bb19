"""The mean absolute error."""

from torch import Tensor


def loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """(B, K, 2): the absolute error of each coordinate."""
    return (predicted - truth).abs()
