"""How far the stored crops of a set of faces reach."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kptools import geometry as g
from kptools.augment import extent
from kptools.records import keys
from kptools.records.keys import Record
from kptools.specs import Frame
from kptools.units import Box, Pixels, Size

# Stored pixels for each pixel of the input, where a warp follows
OVERSAMPLE = 1.25


@dataclass(frozen=True)
class Layout:
    """The stored crops of a set of faces: `size` (width, height) in stored pixels, and `ratio`, by
    how much they reach further than the network's input along x and y, both about the box's
    centre."""

    frame: Frame
    size: Size
    ratio: tuple[float, float]

    def rectangle(self, box: Box) -> tuple[tuple[Pixels, Pixels], tuple[Pixels, Pixels]]:
        """(centre, half extent) of a stored crop; file frame, continuous."""
        half = g.half_extent(box, self.frame.margin)
        return g.centre(box), (half[0] * self.ratio[0], half[1] * self.ratio[1])

    def matrix(self, box: Box) -> g.Matrix:
        """File to stored crop, continuous."""
        return g.fit(*self.rectangle(box), self.size)


def crop_spec(faces: Iterable[Record], frame: Frame) -> Layout:
    """The layout that holds all that the policies of these faces may bring into the input."""
    ratio_x = ratio_y = 1.0
    warped = False
    for record in faces:
        stages = record.get("augment")
        if stages:
            warped = True
            box = keys.box(record)
            half = g.half_extent(box, frame.margin)
            far = extent.reach(stages, half, g.side(box))
            ratio_x, ratio_y = max(ratio_x, far[0] / half[0]), max(ratio_y, far[1] / half[1])
    if not warped:
        return Layout(frame, frame.size, (1.0, 1.0))
    width, height = frame.size
    size = (math.ceil(width * OVERSAMPLE * ratio_x), math.ceil(height * OVERSAMPLE * ratio_y))
    return Layout(frame, size, (ratio_x, ratio_y))
