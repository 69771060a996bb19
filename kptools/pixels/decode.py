"""From a file to a stored crop."""

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.limits import MAX_IMAGE_PIXELS
from kptools.pixels.crop_spec import CropSpec
from kptools.specs import FILL
from kptools.storage import images
from kptools.units import Box, Size

Pixels8 = NDArray[np.uint8]  # (H, W, C)


def decode_crop(path: str, box: Box, spec: CropSpec) -> Pixels8:
    """Decode the stored crop of the face in this box of the file, (H, W, C) uint8. RecordError."""
    try:
        return _decode(path, box, spec)
    except MemoryError:
        raise RecordError(
            "too_large", f"{path} does not fit in memory; try fewer --workers"
        ) from None


def _decode(path: str, box: Box, spec: CropSpec) -> Pixels8:
    shrink = next(s for s in (8, 4, 2, 1) if s <= max(_reduction(box, spec), 1.0))
    picture, to_picture = images.read(path, grey=spec.input.grey, shrink=shrink)
    return crop_picture(picture, to_picture, box, spec, path)


def _reduction(box: Box, spec: CropSpec) -> float:
    """How many of the file's pixels there are for one of the crop, along the finer axis."""
    _, (half_x, half_y) = spec.rectangle(box)
    return min(2 * half_x / spec.size[0], 2 * half_y / spec.size[1])


def crop_picture(
    picture: Image.Image, to_picture: g.Matrix, box: Box, spec: CropSpec, name: str
) -> Pixels8:
    """The stored crop (H, W, C) uint8 of a picture, in mode L for a grey input, else RGB.
    `to_picture` maps the file of `name`, which the box refers to, to the picture, continuous.
    RecordError where the box lies outside."""
    (x, y), (half_x, half_y) = spec.rectangle(box)
    linear, offset = to_picture[:, :2], to_picture[:, 2]
    left, top = linear @ (x - half_x, y - half_y) + offset
    right, bottom = linear @ (x + half_x, y + half_y) + offset
    if right <= 0 or bottom <= 0 or left >= picture.width or top >= picture.height:
        raise RecordError(
            "bad_box", f"the box lies outside {name} ({picture.width}x{picture.height}); fix it"
        )
    picture, dx, dy = _canvas(picture, (left, top, right, bottom), spec.size)
    region = (left - dx, top - dy, right - dx, bottom - dy)
    crop = picture.resize(spec.size, Image.Resampling.BILINEAR, box=region)
    return np.array(crop).reshape(spec.size[1], spec.size[0], spec.input.channels)


def _canvas(
    picture: Image.Image, region: tuple[float, float, float, float], size: Size
) -> tuple[Image.Image, int, int]:
    """A picture that holds all of the region, filled where the file has nothing, and where its
    origin lies in the old one."""
    left, top, right, bottom = region
    if left >= 0 and top >= 0 and right <= picture.width and bottom <= picture.height:
        return picture, 0, 0
    # the antialiasing filter looks one stored pixel further
    pad_x = math.ceil((right - left) / size[0]) + 1
    pad_y = math.ceil((bottom - top) / size[1]) + 1
    x0, y0 = math.floor(left) - pad_x, math.floor(top) - pad_y
    x1, y1 = math.ceil(right) + pad_x, math.ceil(bottom) + pad_y
    if (x1 - x0) * (y1 - y0) > MAX_IMAGE_PIXELS:
        raise RecordError("bad_box", f"the box spans {x1 - x0}x{y1 - y0} pixels; fix it")
    canvas = Image.new(picture.mode, (x1 - x0, y1 - y0), (FILL,) * len(picture.getbands()))
    inside = (max(x0, 0), max(y0, 0), min(x1, picture.width), min(y1, picture.height))
    canvas.paste(picture.crop(inside), (inside[0] - x0, inside[1] - y0))
    return canvas, x0, y0
