"""What a network expects of its input, and what a checkpoint says of the network.

Descriptions alone: nothing here imports torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from kptools import geometry as g
from kptools.units import Box, Fraction, Normalization, Size

FILL = 128  # the level of what lies outside a picture, and of what is transparent: mid-grey
GREY: Normalization = ((FILL / 255,), (1.0,))
IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class InputSpec:
    """What a network sees of a face: its box with a margin on each side, stretched to `size`.

    `focus` is the part of the box that the face fills, in fractions of the box; where it is given,
    it is what the box of a record is brought to before all else (`focused`), for a detector's box
    is centred elsewhere and is of another size. `margin` is in units of sqrt(box area).
    `normalization` is the mean and the deviation of each
    channel, white being 1; None: grey from -0.5 to 0.5, or ImageNet's for RGB.
    """

    size: Size
    margin: Fraction
    grey: bool
    normalization: Normalization | None = None
    focus: Box | None = None

    def focused(self, box: Box) -> Box:
        """Where in this box of a record the face is: its `focus`, in the file frame."""
        return box if self.focus is None else g.part(box, self.focus)

    @property
    def channels(self) -> int:
        return 1 if self.grey else 3

    def matrix(self, box: Box) -> g.Matrix:
        """The map (2, 3) from the file to the input, continuous."""
        return g.box_to_input(box, self.margin, self.size)

    def to_file(self, unit: g.Points, box: Box) -> g.Points:
        """Fractions of the input to pixels of the file. (K, 2) to (K, 2)."""
        return g.denormalize(unit, g.enlarged(box, self.margin))


@dataclass(frozen=True)
class ModelSpec:
    """What a checkpoint says of its network: enough to build it and to feed it.

    `head` is one of those that its architecture can end in (None: its default), and `options` are
    those of both (`kptools.models.archs`). `mean` is the training mean shape (K, 2) in fractions of
    the box. `passes` is how often it looks at a face (`kptools.inference.passes`), and `flip`
    whether at its mirror image too, unless one asks otherwise. `visibility`: it says of each point
    how probably it is seen.
    """

    arch: str
    scheme: str
    count: int  # K
    input: InputSpec
    box_sources: tuple[str, ...]  # of the boxes that it was trained on
    mean: tuple[tuple[float, float], ...]
    options: Mapping[str, float] = field(default_factory=dict)
    head: str | None = None
    passes: int = 1
    flip: bool = False
    visibility: bool = False
