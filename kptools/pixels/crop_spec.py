"""How far the stored crops of a set of faces reach."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from kptools import geometry as g
from kptools.augment.extent import extent
from kptools.records.face import Face
from kptools.specs import InputSpec
from kptools.units import Box, Pixels, Size

# How much further than the input a crop reaches, for a pass on the face as it is aligned
REACH = 1.3
# Stored pixels for each pixel of the input, where the warp of a policy, or a levelling, follows
OVERSAMPLE = 1.25


@dataclass(frozen=True)
class CropSpec:
    """The stored crops of a set of faces: `size` (width, height) in stored pixels, and `ratio`, by
    how much they reach further than the network's input along x and y, both about the box's
    centre."""

    input: InputSpec
    size: Size
    ratio: tuple[float, float]

    def rectangle(self, box: Box) -> tuple[tuple[Pixels, Pixels], tuple[Pixels, Pixels]]:
        """(centre, half extent) of a stored crop; file frame, continuous."""
        half = g.half_extent(box, self.input.margin)
        return g.centre(box), (half[0] * self.ratio[0], half[1] * self.ratio[1])

    def matrix(self, box: Box) -> g.Matrix:
        """File to stored crop, continuous."""
        return g.rectangle_to_size(*self.rectangle(box), self.size)

    def from_input(self, box: Box, shown: g.Matrix) -> g.Matrix:
        """Input to stored crop, continuous, of a face that `shown` maps, file to file, before the
        network sees it."""
        return g.compose(
            self.matrix(box), g.compose(g.invert(shown), g.invert(self.input.matrix(box)))
        )

    @property
    def is_input(self) -> bool:
        """Whether a stored crop is just the network's input, so that nothing is resampled twice."""
        return self.size == self.input.size and self.ratio == (1.0, 1.0)


def crop_spec(faces: Iterable[Face], input_spec: InputSpec, *, align: bool = False) -> CropSpec:
    """The crops that hold all that their `roll` and policies may bring into the input, and with
    `align` what their alignment brings there; of a box that is far off it may lack some.

    Without either their pixels are those of the input, and for the alignment some more on each
    side: what a first pass sees is cut out of them, and not resampled."""
    width, height = input_spec.size
    ratio_x = ratio_y = REACH if align else 1.0
    is_warped = False
    for face in faces:
        if face.stages or face.roll:
            is_warped = True
            half = g.half_extent(face.box, input_spec.margin)
            far = extent(face.stages, half, g.side(face.box), face.roll)
            ratio_x, ratio_y = max(ratio_x, far[0] / half[0]), max(ratio_y, far[1] / half[1])
    if not is_warped:
        size = (_reaching(width, ratio_x), _reaching(height, ratio_y))
        return CropSpec(input_spec, size, (size[0] / width, size[1] / height))
    size = (math.ceil(width * OVERSAMPLE * ratio_x), math.ceil(height * OVERSAMPLE * ratio_y))
    return CropSpec(input_spec, size, (ratio_x, ratio_y))


def _reaching(side: int, ratio: float) -> int:
    """A side that is longer, by the same whole number at either end, by this ratio or more."""
    return side + 2 * math.ceil(side * (ratio - 1) / 2 - 1e-9)
