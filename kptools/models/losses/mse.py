"""The mean squared error."""

from torch import Tensor


def loss(predicted: Tensor, truth: Tensor) -> Tensor:
    """(B, K, 2): the squared error of each coordinate."""
    return (predicted - truth).square()
