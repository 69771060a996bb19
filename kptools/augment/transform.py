"""What happens to one face in one epoch, and where its points go."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.geometry import Matrix
from kptools.units import Box, Pixels

Colour: TypeAlias = NDArray[np.float64]  # (3, 4): rgb' = colour @ (r, g, b, 1), mid-grey = 0


@dataclass
class Transform:
    """What happens to one face in one epoch: a sample of its policy.

    `matrix` maps the file frame (continuous) to the file frame; in a mirror image (`flipped`) left
    and right change names, by the table `swap`; `blur` is in pixels of the file; `noise` a fraction
    of white, and `noise_key` what its pixels are made from; each of `erased` is a box in the file
    frame. `is_identity`: there was no policy.
    """

    matrix: Matrix = field(default_factory=lambda: g.IDENTITY.copy())
    flipped: bool = False
    swap: tuple[int, ...] | None = None
    colour: Colour | None = None
    blur: Pixels = 0.0
    noise: float = 0.0
    noise_key: int = 0
    erased: list[Box] = field(default_factory=list)
    is_identity: bool = True

    def transform_points(self, points: g.Points) -> g.Points:
        """Where the points are afterwards, under the names that they then have. (K, 2) in the file
        frame to the same."""
        return self._renamed(g.transform(self.matrix, points))

    def invert_points(self, points: g.Points) -> g.Points:
        """The inverse of `transform_points`."""
        if self.is_identity:
            return points
        return g.transform(g.invert(self.matrix), self._renamed(points))

    def rename(self, values: Sequence[float]) -> Sequence[float]:
        """A number a point (K,), in the order that `transform_points` gives the points. It is its
        own inverse."""
        if not self.flipped or self.swap is None:
            return values
        return [values[i] for i in self.swap]

    def _renamed(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (K, ...) by their new names: a table of left and right is its own inverse."""
        if not self.flipped or self.swap is None:
            return points
        return points[list(self.swap)]
