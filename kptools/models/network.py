"""What every network has: a forward pass, and a head that owns its loss and its decoding.

A network takes (B, C, H, W). What it gives is its head's own: points, heatmaps, or what comes. Who
trains or predicts asks the head for the loss and for the points, and nothing else.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kptools import geometry as g
from kptools import runtime
from kptools.models.decoded import Decoded
from kptools.models.shape_prior import ShapePrior, ShapePriors
from kptools.units import Size

Criterion = Callable[..., Any]  # `loss` of one of the modules in `kptools.models.losses`


@dataclass(frozen=True)
class Loss:
    """A loss, reduced: its mean, a scalar to call `backward` on, and how many terms that is the
    mean of. Of several processes the mean is the sum of mean * count over the sum of the counts."""

    mean: Tensor
    count: Tensor


class Head(Protocol):
    """The end of a network."""

    @property
    def decoders(self) -> tuple[str, ...]:
        """How its output can be decoded; none where there is one way alone."""

    def loss(self, output: Any, truth: g.Points, criterion: Criterion) -> Loss:
        """The loss of the network's output against points (B, K, 2) in fractions of its input, NaN
        where not annotated, reduced in float32."""

    def decode(self, output: Any, method: str | None = None, size: Size | None = None) -> Decoded:
        """The points of the network's output. `method` is one of `decoders`, and `size` the (W, H)
        of the input, where it is not that which the network was built for."""

    def decode_in_graph(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, K, 2) in fractions of the input, and scores (B, K), of the network's output,
        by operations that a graph can hold (`kptools.inference.export`)."""

    def start(self, mean: Tensor, spread: Tensor) -> None:
        """Let it start from a mean shape and the standard deviation about it, both (K, 2) in
        fractions of the input."""


class Network(nn.Module):
    """A backbone that ends in a `head`."""

    head: Head
    takes_any_size = False  # whether it also takes inputs that it was not built for

    def wrap_head(self, wrap: Callable[[Any], Any]) -> None:
        """Put in the place of its head what `wrap` makes of it."""
        self.head = wrap(self.head)

    @property
    def shape_prior(self) -> ShapePrior | ShapePriors | None:
        """That of its head, where the head has one."""
        prior: ShapePrior | ShapePriors | None = getattr(self.head, "shape_prior", None)
        return prior


def forward(network: nn.Module, x: Tensor, precision: str) -> Any:
    """The network's output; under bf16 its inner arithmetic is autocast."""
    with torch.autocast(x.device.type, torch.bfloat16, enabled=precision == "bf16"):
        return network(x.contiguous(memory_format=runtime.memory_format(x.device)))
