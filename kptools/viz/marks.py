"""Marks on a picture: points, lines and boxes.

Everything is drawn larger than it is shown and then averaged down, so that discs and lines are
smooth and lie where they belong to an eighth of a pixel. Equal input gives equal bytes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from kptools import geometry as g
from kptools.units import Pixels, Size
from kptools.viz.colours import BOX, PAPER, ZOOM, Rgb

MAX_ENLARGED = 32_000_000  # pixels; a picture that would be larger is drawn on at a lower zoom
THIN = 0.6  # of the least strokes, on a face that is small in its photo and not to be hidden


@dataclass(frozen=True)
class Layer:
    """Points of one colour. `points`: (K, 2), pixels of the picture, whole numbers at the
    centres, NaN: none. What is not `visible` is drawn as a ring."""

    points: g.Points
    colour: Rgb
    visible: Sequence[float] | None = None
    edges: Sequence[tuple[int, int]] = ()


def mark(
    picture: Image.Image,
    layers: Sequence[Layer],
    *,
    joined: bool = False,
    box: g.Points | None = None,
    sparse: bool = False,
    extent: tuple[Pixels, Pixels] | None = None,
) -> Image.Image:
    """The picture (RGB) with the layers drawn on it, the last one on top.

    `joined` draws a line from each point of the first layer to that of the last. `box` holds the
    corners (N, 2) of a polygon. `sparse` leaves what is below to be seen: rings, or where there
    are many points, specks. Strokes suit a picture of the size `extent` (width, height), by default
    this one's own: a face in a photo is drawn on as in a picture of the face alone.
    """
    count = max((len(layer.points) for layer in layers), default=1)
    least = 1.0 if extent is None else THIN
    extent = extent or picture.size
    pen = _Pen(picture, extent, count, _crowding(extent, layers) if count > 5 else 1.0, least)
    hollow = sparse and count <= 30
    if sparse and not hollow:
        pen.radius *= 0.7
    if box is not None:
        pen.polygon(box, BOX)
    for layer in layers:
        for a, b in layer.edges:
            pen.line(layer.points[a], layer.points[b], layer.colour)
    if joined and len(layers) > 1:
        for a, b in zip(layers[0].points, layers[-1].points, strict=True):
            pen.line(a, b, PAPER)
    for layer in layers:
        for index, point in enumerate(layer.points):
            ring = hollow or (layer.visible is not None and not layer.visible[index])
            pen.disc(point, layer.colour, ring)
    return pen.finish()


def _crowding(extent: tuple[Pixels, Pixels], layers: Sequence[Layer]) -> float:
    """How much finer marks have to be where the points fill little of the picture."""
    extents = [
        math.sqrt(float(np.prod(np.nanmax(layer.points, axis=0) - np.nanmin(layer.points, axis=0))))
        for layer in layers
        if not np.isnan(layer.points).all()
    ]
    share = max(extents, default=0.0) / math.sqrt(extent[0] * extent[1])
    return min(1.0, max(0.7, share / 0.5))


class _Pen:
    """Draws on an enlarged copy of a picture, with strokes that suit its size and the number of
    points."""

    def __init__(
        self,
        picture: Image.Image,
        extent: tuple[Pixels, Pixels],
        count: int,
        fine: float,
        least: float = 1.0,
    ) -> None:
        width, height = picture.size
        most = math.isqrt(MAX_ENLARGED // (width * height))
        self._zoom = zoom = max(1, min(ZOOM, most))
        self._big = picture.resize((width * zoom, height * zoom), Image.Resampling.NEAREST)
        self._draw = ImageDraw.Draw(self._big, "RGBA")
        self._to_big = g.scaling(zoom, zoom)
        scale = fine * max(0.5 * least, math.sqrt(extent[0] * extent[1]) / 224)
        shown = 3.4 if count <= 5 else 2.4 if count <= 30 else 1.4 if count <= 80 else 1.15
        self.radius: Pixels = max(least, shown * scale)
        self.stroke: Pixels = max(0.8 * least, scale * (1.4 if count <= 30 else 0.9))
        self.rim: Pixels = 0.6 * scale if count <= 30 else 0.0  # of discs; many would be a fog

    def disc(self, point: g.Points, colour: Rgb, ring: bool = False) -> None:
        """A disc with a thin pale rim, or a ring, about the point."""
        x, y = g.to_continuous(self._to_big, point.tolist()).tolist()
        reach = (self.radius + 2) * self._zoom
        width, height = self._big.size
        if not (-reach <= x <= width + reach and -reach <= y <= height + reach):
            return  # NaN, or out of sight
        if ring:
            self._circle(x, y, 1.3 * self.radius * self._zoom, None, colour)
            return
        if self.rim:
            self._circle(x, y, (self.radius + self.rim) * self._zoom, (*PAPER, 190))
        self._circle(x, y, self.radius * self._zoom, (*colour, 255))

    def _circle(
        self,
        x: Pixels,
        y: Pixels,
        radius: Pixels,
        fill: tuple[int, int, int, int] | None,
        outline: Rgb | None = None,
    ) -> None:
        across = max(2, round(2 * radius))
        left, top = round(x - across / 2), round(y - across / 2)
        # Pillow's rectangle includes its last row and column
        bounds = (left, top, left + across - 1, top + across - 1)
        if outline is None:
            self._draw.ellipse(bounds, fill)
        else:
            self._draw.ellipse(bounds, None, outline, max(1, round(self.stroke * self._zoom)))

    def line(self, start: g.Points, end: g.Points, colour: Rgb) -> None:
        a = g.to_continuous(self._to_big, start.tolist()).tolist()
        b = g.to_continuous(self._to_big, end.tolist()).tolist()
        ends = clip((a[0], a[1], b[0], b[1]), self._big.size)
        if ends is not None:
            width = max(1, round(self.stroke * self._zoom))
            self._draw.line(ends, (*colour, 215), width)

    def polygon(self, corners: g.Points, colour: Rgb) -> None:
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            self.line(start, end, colour)

    def finish(self) -> Image.Image:
        return self._big.reduce(self._zoom)


def clip(
    line: tuple[float, float, float, float], size: Size
) -> tuple[float, float, float, float] | None:
    """The part of a line (x0, y0, x1, y1) that lies in [0, W] x [0, H], or None; Liang and
    Barsky's."""
    x0, y0, x1, y1 = line
    if not all(map(math.isfinite, line)):
        return None
    dx, dy = x1 - x0, y1 - y0
    first, last = 0.0, 1.0
    for step, room in ((-dx, x0), (dx, size[0] - x0), (-dy, y0), (dy, size[1] - y0)):
        if step == 0:
            if room < 0:
                return None
        elif step < 0:
            first = max(first, room / step)
        else:
            last = min(last, room / step)
    if first >= last:
        return None
    return (x0 + first * dx, y0 + first * dy, x0 + last * dx, y0 + last * dy)
