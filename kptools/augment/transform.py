"""What happens to one face in one epoch, and where its points go."""

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.geometry import Matrix
from kptools.units import Box, Pixels

Colour: TypeAlias = NDArray[np.float64]  # (3, 4): rgb' = colour @ (r, g, b, 1), mid-grey = 0


@dataclass
class Draw:
    """What happens to one face in one epoch.

    `matrix` maps the file frame (continuous) to the file frame; `flipped` says whether left and
    right change places; `blur` is in pixels of the file; `noise` a fraction of white, and
    `noise_key` what its pixels are drawn from; each of `erased` is a box in the file frame.
    """

    matrix: Matrix = field(default_factory=lambda: g.IDENTITY.copy())
    flipped: bool = False
    colour: Colour | None = None
    blur: Pixels = 0.0
    noise: float = 0.0
    noise_key: int = 0
    erased: list[Box] = field(default_factory=list)
    idle: bool = True  # nothing at all happens


def follow(points: g.Points, drawn: Draw, swap: tuple[int, ...] | None) -> g.Points:
    """Where the points are after the draw; in a mirror image left and right change names. (K, 2)
    in the file frame to the same."""
    moved = g.transform(drawn.matrix, points)
    return moved[list(swap)] if drawn.flipped and swap is not None else moved


def unfollow(points: g.Points, drawn: Draw, swap: tuple[int, ...] | None) -> g.Points:
    """The inverse of `follow`."""
    if drawn.idle:
        return points
    named = points[list(swap)] if drawn.flipped and swap is not None else points
    return g.transform(g.invert(drawn.matrix), named)
