"""From an expected distance to a score.

A head that knows how far its points are likely to be off, in fractions of its input, says of each
how probable it is that it lies within NEAR of the truth, where distances are exponential about
their mean: 1 - exp(-NEAR / mean).
"""

import torch
from torch import Tensor

NEAR = 0.02  # fractions of the input


def score(distance: Tensor) -> Tensor:
    """The probability, 0 to 1, by the expected distance (B, K) in fractions of the input."""
    return 1 - torch.exp(-NEAR / distance.clamp(min=1e-6))
