"""Polygons and lines on a picture, with smooth edges that lie where they should."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

from kptools.datasets.synthetic import Array

Place: TypeAlias = Callable[[Array], Array]  # (n, 2) of some frame to (n, 2) pixels of the file
Colour: TypeAlias = tuple[int, int, int, int]  # red, green, blue, opacity; 0..255
_TURN = np.linspace(0, 2 * np.pi, 32, endpoint=False)
CIRCLE = np.column_stack([np.cos(_TURN), np.sin(_TURN)])  # (32, 2), radius 1


class Stroke(NamedTuple):
    """A polygon (`width` 0) or a line, in the frame of whoever paints it."""

    points: Array  # (n, 2)
    colour: Colour
    width: float = 0.0  # pixels of the file


def ink(colour: Array, opacity: float = 1.0) -> Colour:
    """From a colour (3,), 0..1."""
    r, g, b = (round(255 * min(max(v, 0.0), 1.0)) for v in colour.tolist())
    return r, g, b, round(255 * opacity)


def paint(
    image: Image.Image, strokes: list[Stroke], *, zoom: int, place: Place | None = None
) -> None:
    """Paint on the picture at `zoom` times its size; what is not painted stays as it was.

    place: from the strokes' frame to the file's; None where that is their frame. A point p of
    the file (the centre of a pixel is whole) lies at (p + 0.5) * zoom - 0.5 on the large picture.
    """
    points = np.concatenate([stroke.points for stroke in strokes])
    pixels = points if place is None else place(points)
    margin = 2 + max(stroke.width for stroke in strokes)
    low = np.floor(pixels.min(0) - margin).astype(int).clip(-1)
    high = np.ceil(pixels.max(0) + margin).astype(int).clip(None, np.array(image.size) + 1)
    if (high <= low).any():
        return  # all of it is outside
    (x0, y0), (x1, y1) = low.tolist(), high.tolist()
    large = ((x1 - x0) * zoom, (y1 - y0) * zoom)
    patch = image.crop((x0, y0, x1, y1)).resize(large, Image.Resampling.NEAREST)
    blended, opaque = ImageDraw.Draw(patch, "RGBA"), ImageDraw.Draw(patch)  # which is faster
    zoomed = np.rint((pixels - low + 0.5) * zoom - 0.5).astype(int).ravel().tolist()
    start = 0
    for stroke in strokes:
        end = start + 2 * len(stroke.points)
        brush = opaque if stroke.colour[3] == 255 else blended
        if stroke.width:
            brush.line(zoomed[start:end], stroke.colour, max(1, round(stroke.width * zoom)))
        else:
            brush.polygon(zoomed[start:end], stroke.colour)
        start = end
    image.paste(patch.reduce(zoom), (x0, y0))
