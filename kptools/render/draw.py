"""Drawing: text, marks on a picture, and sheets of captioned pictures.

Everything is drawn larger than it is shown and then averaged down, so that discs and lines are
smooth and lie where they belong to an eighth of a pixel. Equal input gives equal bytes.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from kptools import geometry as g
from kptools.errors import KptoolsError
from kptools.files import write_whole
from kptools.limits import MAX_IMAGE_PIXELS
from kptools.units import Pixels, Size

Rgb = tuple[int, int, int]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

TRUTH: Rgb = (226, 26, 28)
PREDICTION: Rgb = (0, 90, 255)
BOX: Rgb = (255, 200, 0)
INK: Rgb = (20, 20, 20)
PALE: Rgb = (110, 110, 110)
EMPTY: Rgb = (238, 238, 238)
PAPER: Rgb = (255, 255, 255)

ZOOM = 4  # drawn so much larger than shown


# Text


@lru_cache(maxsize=32)
def font(size: int) -> Font:
    """Pillow's own font, of this many pixels."""
    return ImageFont.load_default(size)


def text_width(text: str, face: Font) -> Pixels:
    return float(face.getlength(text))


def elide(text: str, face: Font, width: Pixels) -> str:
    """The text, its middle left out where it is wider than `width`."""
    text = printable(text)
    if text_width(text, face) <= width:
        return text
    low, high = 0, min(len(text), 1000)
    while low < high:  # how many characters may stay
        kept = (low + high + 1) // 2
        if text_width(_without_middle(text, kept), face) <= width:
            low = kept
        else:
            high = kept - 1
    return _without_middle(text, low)


def _without_middle(text: str, kept: int) -> str:
    tail = kept // 2
    return text[: kept - tail] + "..." + (text[-tail:] if tail else "")


def printable(text: str) -> str:
    """One line, without what no font can draw."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def wrap(text: str, face: Font, width: Pixels) -> list[str]:
    """The text in lines of at most `width`, broken at spaces."""
    lines: list[str] = []
    for word in printable(text).split():
        if lines and text_width(f"{lines[-1]} {word}", face) <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(elide(word, face, width))
    return lines


# Marks on a picture


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
) -> Image.Image:
    """The picture (RGB) with the layers drawn on it, the last one on top.

    `joined` draws a line from each point of the first layer to that of the last. `box` holds the
    corners (N, 2) of a polygon. `sparse` leaves what is below to be seen: rings, or where there
    are many points, specks.
    """
    count = max((len(layer.points) for layer in layers), default=1)
    pen = _Pen(picture, count, _crowding(picture.size, layers) if count > 5 else 1.0)
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


def _crowding(size: Size, layers: Sequence[Layer]) -> float:
    """How much finer marks have to be where the points fill little of the picture."""
    extents = [
        math.sqrt(float(np.prod(np.nanmax(layer.points, axis=0) - np.nanmin(layer.points, axis=0))))
        for layer in layers
        if not np.isnan(layer.points).all()
    ]
    share = max(extents, default=0.0) / math.sqrt(size[0] * size[1])
    return min(1.0, max(0.7, share / 0.5))


class _Pen:
    """Draws on an enlarged copy of a picture, with strokes that suit its size and the number of
    points."""

    def __init__(self, picture: Image.Image, count: int, fine: float) -> None:
        width, height = picture.size
        self._big = picture.resize((width * ZOOM, height * ZOOM), Image.Resampling.NEAREST)
        self._draw = ImageDraw.Draw(self._big, "RGBA")
        self._to_big = g.scaling(ZOOM, ZOOM)
        scale = fine * max(0.5, math.sqrt(width * height) / 224)
        shown = 3.4 if count <= 5 else 2.4 if count <= 30 else 1.4 if count <= 80 else 1.15
        self.radius: Pixels = max(1.0, shown * scale)
        self.stroke: Pixels = max(0.8, scale * (1.4 if count <= 30 else 0.9))
        self.rim: Pixels = 0.6 * scale if count <= 30 else 0.0  # of discs; many would be a fog

    def disc(self, point: g.Points, colour: Rgb, ring: bool = False) -> None:
        """A disc with a thin pale rim, or a ring, about the point."""
        x, y = g.to_continuous(self._to_big, point.tolist()).tolist()
        reach = (self.radius + 2) * ZOOM
        width, height = self._big.size
        if not (-reach <= x <= width + reach and -reach <= y <= height + reach):
            return  # NaN, or out of sight
        if ring:
            self._circle(x, y, 1.3 * self.radius * ZOOM, None, colour)
            return
        if self.rim:
            self._circle(x, y, (self.radius + self.rim) * ZOOM, (*PAPER, 190))
        self._circle(x, y, self.radius * ZOOM, (*colour, 255))

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
            self._draw.ellipse(bounds, None, outline, max(1, round(self.stroke * ZOOM)))

    def line(self, start: g.Points, end: g.Points, colour: Rgb) -> None:
        a = g.to_continuous(self._to_big, start.tolist()).tolist()
        b = g.to_continuous(self._to_big, end.tolist()).tolist()
        ends = clip((a[0], a[1], b[0], b[1]), self._big.size)
        if ends is not None:
            width = max(1, round(self.stroke * ZOOM))
            self._draw.line(ends, (*colour, 215), width)

    def polygon(self, corners: g.Points, colour: Rgb) -> None:
        for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
            self.line(start, end, colour)

    def finish(self) -> Image.Image:
        return self._big.reduce(ZOOM)


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


# Sheets


@dataclass(frozen=True)
class Cell:
    """A picture (RGB) and the lines of text below it: the first dark, the others pale."""

    picture: Image.Image
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Sheet:
    """What stands above the cells: title, a line in small print, and the legend's entries."""

    columns: int
    title: str = ""
    note: str = ""
    legend: Sequence[tuple[str, Rgb]] = field(default=())
    strip: Image.Image | None = None  # a colour scale from 0 to the peak


def layout_size(cells: Sequence[Cell]) -> Size:
    """The size of a cell that holds the largest picture."""
    width = max(cell.picture.width for cell in cells)
    return (width, max(cell.picture.height for cell in cells))


def sheet(cells: Sequence[Cell], spec: Sheet) -> Image.Image:
    """The cells in rows, row by row from the top left, on white."""
    width, height = layout_size(cells)
    unit = max(11, min(40, round(width / 17)))  # of text
    gap = max(10, round(width / 16))
    columns = max(1, min(spec.columns, len(cells)))
    rows = -(-len(cells) // columns)
    lines = max(len(cell.lines) for cell in cells)
    text_height = round(1.3 * unit) * lines + (round(0.5 * unit) if lines else 0)
    across = gap + columns * (width + gap)
    head = _header(max(across - 2 * gap, 1), unit, spec)
    top = gap + (head.height + gap if head is not None else 0)
    down = top + rows * (height + text_height + gap)
    if across * down > MAX_IMAGE_PIXELS:
        raise KptoolsError(
            f"a picture of {across}x{down} pixels is too large; lower --count or --size"
        )
    page = Image.new("RGB", (across, down), PAPER)
    if head is not None:
        page.paste(head, (gap, gap))
    for index, cell in enumerate(cells):
        row, column = divmod(index, columns)
        x = gap + column * (width + gap)
        y = top + row * (height + text_height + gap)
        _place(page, cell, (x, y), (width, height), unit)
    return page


def _place(page: Image.Image, cell: Cell, at: Size, size: Size, unit: int) -> None:
    """One cell: the picture at the bottom middle of its place, the text below."""
    x, y = at
    width, height = size
    left = x + (width - cell.picture.width) // 2
    page.paste(cell.picture, (left, y + height - cell.picture.height))
    pen = ImageDraw.Draw(page)
    baseline = y + height + round(0.45 * unit)
    for number, line in enumerate(cell.lines):
        text = elide(line, font(unit), width)
        inset = (width - text_width(text, font(unit))) / 2
        colour = PALE if number else INK
        pen.text((x + inset, baseline + number * round(1.3 * unit)), text, colour, font(unit))


def _header(width: int, unit: int, spec: Sheet) -> Image.Image | None:
    """Title, note and legend, as wide as the cells; the legend goes to the right of the note
    where both fit."""
    large, small = font(round(1.5 * unit)), font(unit)
    legend = _legend(spec, unit)
    titles = wrap(spec.title, large, width)
    beside = legend is not None and _note_width(spec.note, small) + legend.width + unit <= width
    notes = wrap(spec.note, small, width)
    step, title_step = round(1.4 * unit), round(1.9 * unit)
    height = title_step * len(titles) + step * len(notes)
    legend_top = height - step if beside and notes else height
    if legend is not None:
        height = legend_top + max(step, legend.height)
    if not height:
        return None
    head = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(head)
    for number, line in enumerate(titles):
        pen.text((0, number * title_step), line, INK, large)
    for number, line in enumerate(notes):
        pen.text((0, title_step * len(titles) + number * step), line, PALE, small)
    if legend is not None:
        left = max(0, width - legend.width) if beside else 0
        head.paste(legend, (left, legend_top))
    return head


def _note_width(note: str, face: Font) -> Pixels:
    return text_width(printable(note), face) if note else 0.0


def _legend(spec: Sheet, unit: int) -> Image.Image | None:
    """Discs with their names, then the colour scale."""
    if not spec.legend and spec.strip is None:
        return None
    face, height, disc = font(unit), round(1.4 * unit), round(0.62 * unit)
    names = [(name, colour, text_width(name, face)) for name, colour in spec.legend]
    scale_width = round(7 * unit) if spec.strip is not None else 0
    ends = 4 * unit if spec.strip is not None else 0
    width = sum(disc + 0.4 * unit + w + unit for _, _, w in names) + scale_width + ends
    width -= 0 if spec.strip is not None else unit
    picture = Image.new("RGB", (math.ceil(width), height), PAPER)
    pen = ImageDraw.Draw(picture)
    x = 0.0
    for name, colour, wide in names:
        spot = Image.new("RGB", (disc, disc), PAPER)
        side = (disc - 1) / 2
        marked = _spot(spot, side, colour)
        picture.paste(marked, (round(x), round(0.3 * unit)))
        pen.text((x + disc + 0.4 * unit, 0), name, INK, face)
        x += disc + 0.4 * unit + wide + unit
    if spec.strip is not None:
        pen.text((x, 0), "0", PALE, face)
        bar = spec.strip.resize((scale_width, disc), Image.Resampling.BILINEAR)
        picture.paste(bar, (round(x + 0.9 * unit), round(0.3 * unit)))
        pen.text((x + scale_width + 1.3 * unit, 0), "peak", PALE, face)
    return picture


def _spot(picture: Image.Image, radius: Pixels, colour: Rgb) -> Image.Image:
    big = picture.resize((picture.width * ZOOM, picture.height * ZOOM))
    edge = big.width - 1
    ImageDraw.Draw(big).ellipse((0, 0, edge, edge), colour)
    return big.reduce(ZOOM)


# Files


def encode(picture: Image.Image, suffix: str = ".png") -> bytes:
    """The picture as PNG, or as JPEG where the suffix says so."""
    data = io.BytesIO()
    if suffix.lower() in (".jpg", ".jpeg"):
        picture.save(data, "JPEG", quality=95, subsampling=0)
    else:
        picture.save(data, "PNG", compress_level=6)
    return data.getvalue()


def write(path: Path, data: bytes) -> None:
    """Write a file whole or not at all. KptoolsError where the disk says no."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise KptoolsError(f"cannot write {path}: {error.strerror}; make room there") from None
