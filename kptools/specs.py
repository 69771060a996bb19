"""What a network expects of its input, and what a checkpoint says of its network."""

from dataclasses import dataclass

from kptools import geometry as g
from kptools.units import Box, Fraction, Normalization, Size


@dataclass(frozen=True)
class Model:
    """What a checkpoint says of its network: enough to build it and to feed it."""

    arch: str
    scheme: str
    count: int  # K
    input: Size
    grey: bool
    margin: Fraction
    heatmap: bool
    width: int
    stride: int
    box_sources: tuple[str, ...]
    mean: tuple[tuple[float, float], ...]  # the training mean shape, fractions of the box
    sigma: float = 1.0  # of the Gaussians that a heatmap was trained on, pixels of the map
    normalization: Normalization | None = None  # of the pixels; None: grey's, or ImageNet's

    @property
    def map_size(self) -> tuple[float, float]:
        """The input in pixels of a heatmap, (width, height); the last may be a part of one."""
        return (self.input[0] / self.stride, self.input[1] / self.stride)


FILL = 128  # the level of what lies outside a picture, and of what is transparent: mid-grey
GREY: Normalization = ((FILL / 255,), (1.0,))
IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Frame:
    """What a network sees of a face: the box and its margin, stretched to `size`."""

    size: Size
    margin: Fraction
    grey: bool
    normalization: Normalization | None = None  # None: grey's, or ImageNet's

    @property
    def channels(self) -> int:
        return 1 if self.grey else 3

    def matrix(self, box: Box) -> g.Matrix:
        """File to input, continuous."""
        return g.box_to_input(box, self.margin, self.size)

    def to_file(self, unit: g.Points, box: Box) -> g.Points:
        """Fractions of the input to pixels of the file. (K, 2) to (K, 2)."""
        return g.place(unit, g.enlarged(box, self.margin))
