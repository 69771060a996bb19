"""What a picture shows of a face: the crop that a network sees, or the box with its surroundings,
or the whole image.

All go through `kptools.pixels`, so that a picture is resampled, warped and coloured as in training.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from kptools import geometry as g
from kptools.augment.sample import sample
from kptools.augment.transform import Transform
from kptools.datasets import box_maps
from kptools.pixels.batch import visible_pixels
from kptools.pixels.crop_spec import OVERSAMPLE, CropSpec, crop_spec
from kptools.pixels.decode import decode_crop
from kptools.records import keys, policy
from kptools.records.face import Face
from kptools.records.keys import Record
from kptools.specs import FILL, InputSpec, ModelSpec
from kptools.storage import images
from kptools.units import Box, Fraction, Size

MARGIN: Fraction = 0.25
CELL: Size = (224, 224)


@dataclass(frozen=True)
class View:
    """What is shown, and how large at most. `network`: exactly its input, enlarged, with the
    aspect of that; of a trained network, `model`, in the box that it would look at. Otherwise the
    aspect is the box's own (with `margin`; by default a quarter, or none about a box that is the
    whole image), or with `whole` the image's."""

    cell: Size = CELL
    margin: Fraction | None = None
    network: InputSpec | None = None
    model: ModelSpec | None = None
    whole: bool = False
    epoch: int = 0
    policy: bool = True  # whether what the record's policy does is shown


@dataclass(frozen=True)
class Shown:
    """A picture (RGB) of a face; `matrix` maps the file, transformed, to it, continuous."""

    picture: Image.Image
    matrix: g.Matrix
    transform: Transform

    def place(self, points: g.Points) -> g.Points:
        """Points of the file (K, 2) to pixels of the picture, whole numbers at the centres."""
        return g.transform(self.matrix, self.transform.transform_points(points))

    def corners(self, box: Box) -> g.Points:
        """The corners (4, 2) of a box; a policy leaves the box where it is."""
        x0, y0, x1, y1 = box
        return g.transform(self.matrix, np.array([[x0, y0], [x1, y0], [x1, y1], [x0, y1]]))


def parse(record: Record, view: View) -> Face:
    """The face of a record that is to be shown. Where the whole image is shown and nothing happens
    to it, it needs no box. Raises RecordError."""
    keys.identity(record)
    keys.copy_index(record)
    needs_box = record.get("box") is not None or not view.whole
    if not needs_box and not (view.policy and policy.stages(record)):
        return Face(record, keys.image(record), (0.0, 0.0, 1.0, 1.0), [])
    face = Face.parse(record, with_policy=view.policy, level=not view.whole)
    if view.model is not None:
        face = box_maps.reframed(face, view.model)
    return face if view.network is None else face.focused(view.network)


def crops_of(faces: Sequence[Face], view: View) -> CropSpec | None:
    """How the crops of these faces are stored on the way to a network."""
    return None if view.network is None else crop_spec(faces, view.network)


def show(face: Face, view: View, spec: CropSpec | None = None) -> Shown:
    """The picture of one face. Raises RecordError. `spec` is what `crops_of` gave."""
    transform = sample(face, view.epoch)
    box = g.whole_image(images.shown_size(face.image)) if view.whole else face.box
    if view.network is not None:
        spec = spec or crop_spec([face], view.network)
    else:
        spec = _spec(face, box, view)
    stored = decode_crop(face.image, box, spec)
    x = visible_pixels(torch.from_numpy(stored.copy())[None], [box], [transform], spec)
    matrix = spec.input.matrix(box)
    picture = _image(x)
    if view.network is not None:
        picture, matrix = _enlarge(picture, matrix, view.cell)
    return Shown(picture, matrix, transform)


def _spec(face: Face, box: Box, view: View) -> CropSpec:
    """Of a crop with the box's own aspect, as large as the cell allows."""
    margin = view.margin
    if view.whole:
        margin = 0.0
    elif margin is None:
        margin = 0.0 if face.record.get("box_source") == "image" else MARGIN
    spec = InputSpec(inside(g.half_extent(box, margin), view.cell), margin, False)
    if view.whole and face.stages:
        size = tuple(round(side * OVERSAMPLE) for side in spec.size)
        return CropSpec(spec, (size[0], size[1]), (1.0, 1.0))
    return crop_spec([face], spec)


def inside(shape: tuple[float, float], cell: Size) -> Size:
    """The largest size of that shape's aspect in a cell."""
    zoom = min(cell[0] / shape[0], cell[1] / shape[1])
    return (max(1, round(zoom * shape[0])), max(1, round(zoom * shape[1])))


def _image(x: torch.Tensor) -> Image.Image:
    """What `visible_pixels` gives, (1, C, H, W), as an RGB picture."""
    levels = x[0].mul(255).add_(FILL).round_().clamp_(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).squeeze(2).contiguous().numpy()).convert("RGB")


def _enlarge(picture: Image.Image, m: g.Matrix, cell: Size) -> tuple[Image.Image, g.Matrix]:
    """The picture as large as the cell allows, smoothly, and the matrix that goes with it."""
    size = inside(picture.size, cell)
    if size == picture.size:
        return picture, m
    zoom = g.scaling(size[0] / picture.width, size[1] / picture.height)
    return picture.resize(size, Image.Resampling.BICUBIC), g.compose(zoom, m)
