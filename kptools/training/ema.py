"""The average of a network's weights over its last steps: what is validated, kept and saved.

At a constant rate the weights wander about their goal; their exponential moving average (Polyak
and Juditsky, 1992) does not, and is what a decayed rate would have come to.
"""

import copy

import torch

from kptools.models.network import Network


class EMA:
    """A copy of a network whose weights and statistics follow it, each step by 1 - decay.

    At first the decay is lower, (1 + n) / (10 + n) after n steps, so that the start is forgotten.
    With a decay of 0 it is the network itself.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.network = copy.deepcopy(network) if decay else network
        ours, theirs = self.network.state_dict(), network.state_dict()
        floats = [name for name, t in ours.items() if t.is_floating_point()]
        self._ours, self._theirs = [ours[n] for n in floats], [theirs[n] for n in floats]
        self._counts = [(t, theirs[n]) for n, t in ours.items() if not t.is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Follow one step of the network."""
        self.steps += 1
        if not self.decay:
            return
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self._ours, self._theirs, 1 - decay)
        for ours, theirs in self._counts:
            ours.copy_(theirs)
