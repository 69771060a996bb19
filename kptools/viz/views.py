"""What a picture shows of a face: the crop that a network sees, or the box with its surroundings,
or the whole image.

All go through `crops`, so that a picture is resampled, warped and coloured as training does it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from kptools import geometry as g
from kptools.augment import sample, transform
from kptools.augment.transform import Draw
from kptools.pixels import batch
from kptools.pixels.decode import decode_crop
from kptools.pixels.layout import OVERSAMPLE, Layout, crop_spec
from kptools.records import keys, policy
from kptools.records.keys import Record
from kptools.specs import FILL, Frame
from kptools.storage import images
from kptools.units import Box, Fraction, Size

MARGIN: Fraction = 0.25


CELL: Size = (224, 224)


@dataclass(frozen=True)
class View:
    """What is shown, and how large at most. `network`: exactly its input, enlarged; its aspect
    is the input's. Otherwise the aspect is the box's own (with `margin`; by default a quarter,
    or none about a box that is the whole image), or with `whole` the image's."""

    cell: Size = CELL
    margin: Fraction | None = None
    network: Frame | None = None
    whole: bool = False
    epoch: int = 0
    policy: bool = True  # whether what the record's policy draws is applied


@dataclass(frozen=True)
class Seen:
    """A picture (RGB) of a face; `matrix` maps the file, after the draw, to it, continuous."""

    picture: Image.Image
    matrix: g.Matrix
    drawn: Draw
    swap: tuple[int, ...] | None

    def place(self, points: g.Points) -> g.Points:
        """Points of the file (K, 2) to pixels of the picture, whole numbers at the centres."""
        return g.transform(self.matrix, transform.follow(points, self.drawn, self.swap))

    def place_names(self, values: Sequence[float] | None) -> Sequence[float] | None:
        """A number a point, in the order that `place` gives the points."""
        if values is None or not self.drawn.flipped or self.swap is None:
            return values
        return [values[i] for i in self.swap]

    def corners(self, box: Box) -> g.Points:
        """The corners (4, 2) of a box; a policy leaves the box where it is."""
        x0, y0, x1, y1 = box
        return g.transform(self.matrix, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))


def check(record: Record, view: View) -> tuple[int, ...] | None:
    """Whether the record can be shown; its swap table where one is needed. Raises RecordError."""
    keys.image(record)
    stages = policy.policy(record) if view.policy else []
    if not view.whole or stages or record.get("box") is not None:
        keys.box(record)
    keys.identity(record)
    keys.copy_index(record)
    return policy.swap_table(record) if policy.flips(stages) else None


def plan(faces: Sequence[Record], view: View) -> Layout | None:
    """How the crops of these faces are stored on the way to a network; each has been checked."""
    return None if view.network is None else crop_spec(faces, view.network)


def see(record: Record, view: View, layout: Layout | None = None) -> Seen:
    """The picture of one face. Raises RecordError. `layout` is what `plan` gave."""
    swap = check(record, view)
    drawn = sample.draw(record, view.epoch) if view.policy else Draw()
    box = g.whole_image(images.shown_size(keys.image(record))) if view.whole else None
    box = box or keys.box(record)
    if view.network is not None:
        layout = layout or crop_spec([record], view.network)
    else:
        layout = _layout(record, box, view)
    stored = decode_crop({**record, "box": list(box)}, layout)
    x = batch.look(torch.from_numpy(stored.copy())[None], [box], [drawn], layout)
    matrix = layout.frame.matrix(box)
    picture = _image(x)
    if view.network is not None:
        picture, matrix = _enlarge(picture, matrix, view.cell)
    return Seen(picture, matrix, drawn, swap)


def _layout(record: Record, box: Box, view: View) -> Layout:
    """Of a crop with the box's own aspect, as large as the cell allows."""
    margin = view.margin
    if view.whole:
        margin = 0.0
    elif margin is None:
        margin = 0.0 if record.get("box_source") == "image" else MARGIN
    frame = Frame(inside(g.half_extent(box, margin), view.cell), margin, False)
    if view.whole and view.policy and record.get("augment"):
        size = tuple(round(side * OVERSAMPLE) for side in frame.size)
        return Layout(frame, (size[0], size[1]), (1.0, 1.0))
    return crop_spec([record] if view.policy else [], frame)


def inside(shape: tuple[float, float], cell: Size) -> Size:
    """The largest size of that shape's aspect in a cell."""
    zoom = min(cell[0] / shape[0], cell[1] / shape[1])
    return (max(1, round(zoom * shape[0])), max(1, round(zoom * shape[1])))


def _image(x: torch.Tensor) -> Image.Image:
    """What `look` gives, (1, C, H, W), as an RGB picture."""
    levels = x[0].mul(255).add_(FILL).round_().clamp_(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).squeeze(2).contiguous().numpy()).convert("RGB")


def _enlarge(picture: Image.Image, m: g.Matrix, cell: Size) -> tuple[Image.Image, g.Matrix]:
    """The picture as large as the cell allows, smoothly, and the matrix that goes with it."""
    size = inside(picture.size, cell)
    if size == picture.size:
        return picture, m
    zoom = g.scaling(size[0] / picture.width, size[1] / picture.height)
    return picture.resize(size, Image.Resampling.BICUBIC), g.compose(zoom, m)
