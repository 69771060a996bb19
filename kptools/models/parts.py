"""Networks out of parts: a backbone, a neck, a head."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from kptools.models.heads import HeadEntry
from kptools.models.necks.cells import Cells
from kptools.models.necks.finest import Finest
from kptools.models.necks.pyramid import Pyramid
from kptools.models.network import Head, Network
from kptools.units import Size

MAP_STRIDE = 2  # input pixels for each pixel of the maps on a pyramid


class Backbone(Protocol):
    """The module that a network of parts begins with: (B, C, H, W) of any size to its features, a
    list of (B, C_i, H_i, W_i) from fine to coarse. `channels` are the C_i; `strides`: how many
    pixels of the input one of theirs spans. `from_end`: where a side is no multiple of a stride, it
    is the first pixel that spans fewer, not the last."""

    channels: Sequence[int]
    strides: Sequence[int]
    from_end: bool


class PartsNetwork(Network):
    """(B, C, H, W) to what its head gives. Maps move with what they show, at any resolution; linear
    layers on a grid of cells know the resolution that they learnt."""

    def __init__(self, backbone: nn.Module, neck: nn.Module, head: Head) -> None:
        super().__init__()
        self.backbone, self.neck = backbone, neck
        self.head = head
        self.takes_any_size = not isinstance(neck, Cells)

    def forward(self, x: Tensor) -> Any:
        return self.head(self.neck(self.backbone(x)))  # type: ignore[operator]


def assemble(
    backbone: Any, entry: HeadEntry, count: int, size: Size, *, width: int, **options: float
) -> PartsNetwork:
    """The backbone, the neck that this head wants, a pyramid of `width` channels where it wants
    one, and the head, for `count` points and inputs of `size` (W, H). `options` are the head's
    own."""
    if entry.neck == "cells":
        return PartsNetwork(
            backbone, Cells(), entry.load().build(backbone.channels, count, **options)
        )
    channels, stride, upscale = backbone.channels[-1], backbone.strides[0], 1
    neck: nn.Module
    if len(backbone.channels) == 1:
        neck = Finest()
    else:
        neck, channels = Pyramid(backbone.channels, width, from_end=backbone.from_end), width
        upscale = max(1, stride // MAP_STRIDE)
    head: Head = entry.load().build(channels, count, size, stride, upscale, **options)
    return PartsNetwork(backbone, neck, head)
