"""Sheets of captioned pictures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from PIL import Image, ImageDraw

from kptools.errors import KptoolsError
from kptools.limits import MAX_IMAGE_PIXELS
from kptools.units import Pixels, Size
from kptools.viz.colours import INK, PALE, PAPER, ZOOM, Rgb
from kptools.viz.text import Font, elide, font, printable, text_width, wrap


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
