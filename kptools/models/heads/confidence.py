"""How far a point is expected to be off, and the score that this comes to.

The distance, in fractions of the network's input, is taken to be exponential about its mean, which
a head learns by the likelihood of what it is on the training set. The score is the probability that
a point lies within NEAR of the truth: 1 - exp(-NEAR / mean). B: batch, K: points.
"""

import torch
from torch import Tensor

NEAR = 0.02  # fractions of the input


def score(distance: Tensor) -> Tensor:
    """The probability, 0 to 1, by the expected distance (B, K) in fractions of the input."""
    return 1 - torch.exp(-NEAR / distance.clamp(min=1e-6))


def with_likelihood(loss: Tensor, off: Tensor, log_distance: Tensor, known: Tensor) -> Tensor:
    """A loss whose gradient is also that of the negative log-likelihood of the distances `off`
    (B, K) about their expected means, given as logs (B, K): the mean over those of `known` points.
    The value stays that of `loss`, so that it says how good the points are."""
    count = known.float().sum().clamp(min=1)
    surprise = ((off.detach() * torch.exp(-log_distance) + log_distance) * known).sum() / count
    return loss + (surprise - surprise.detach())
