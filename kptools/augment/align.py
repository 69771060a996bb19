"""Alignment: a face levelled, centred and scaled so that its points lie as the mean shape does.

A face in its box is turned, and a detector's boxes jump by a tenth of their size. A network that is
asked twice, the second time about the face as its first answer would align it, need not know all of
that; so it is trained on aligned faces too, about which chance plays less.
"""

from dataclasses import dataclass

import numpy as np

from kptools import geometry as g
from kptools.units import Box, Fraction

JITTER: Fraction = 0.35  # of a policy's turns, scales and shifts: what happens to an aligned face
LIMIT = 2.0  # how much larger or smaller a face may become; past it a shape is none to align by


@dataclass(frozen=True)
class Alignment:
    """How a network's faces are aligned: `mean`, a shape (K, 2) in fractions of the box, and of
    each `share` of them in training, by chance."""

    mean: g.Points
    share: Fraction = 0.0

    def matrix(self, points: g.Points, box: Box) -> g.Matrix:
        """The map (2, 3), file to file, continuous, that aligns a face with these points (K, 2) in
        this box; the identity where they are no shape to align by."""
        m = g.similarity(points, g.denormalize(self.mean, box))
        zoom = g.zoom(m)
        if not np.isfinite(m).all() or not 1 / LIMIT <= zoom <= LIMIT:
            return g.IDENTITY.copy()
        return m
