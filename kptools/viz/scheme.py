"""A picture of a scheme: its points with their numbers, its lines, and its regions in colour."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from kptools import geometry as g
from kptools.schemes.scheme import Scheme
from kptools.units import Pixels, Size
from kptools.viz.colours import INK, PALE, PAPER, Rgb
from kptools.viz.labels import place
from kptools.viz.marks import Layer, mark
from kptools.viz.text import font, text_width, wrap

COLOURS: tuple[Rgb, ...] = (
    (31, 97, 180),
    (214, 39, 40),
    (30, 130, 60),
    (200, 100, 0),
    (125, 60, 170),
    (0, 130, 140),
    (190, 30, 120),
    (120, 80, 50),
    (90, 110, 0),
    (60, 60, 150),
)
OTHER: Rgb = PALE  # of points of no region, and of lines between two regions
LEAST: Pixels = 10.0  # of a number's font
ROWS = 40  # of text beside the picture, at least


@dataclass(frozen=True)
class _Entry:
    """A line of text beside the picture, with a spot of its colour where it has one."""

    text: str
    colour: Rgb | None = None


def draw(
    scheme: Scheme, layout: g.Points, size: Size, *, names: bool = False, title: str = ""
) -> Image.Image:
    """The scheme on white, its points where `layout` (K, 2) has them, in any units: it is fitted
    into `size`. Regions are listed on the right, and with `names` each point, too."""
    unit = max(LEAST, min(size) / (45 if scheme.count > 30 else 32))
    points = _fitted(layout, size, 2.2 * unit)
    colours = _colours(scheme)
    picture = Image.new("RGB", size, PAPER)
    picture = mark(picture, _layers(scheme, points, colours), extent=(0.6 * size[0], 0.6 * size[1]))
    _number(picture, points, colours, round(unit), scheme.edges)
    entries = list(_regions(scheme))
    if names:
        entries.append(_Entry(""))
        numbered = zip(scheme.names, colours, strict=True)
        entries += [_Entry(f"{i}  {name}", colour) for i, (name, colour) in enumerate(numbered)]
    head = title or f"{scheme.name}: {scheme.count} points"
    return _page(picture, entries, head, max(12, round(min(size) / 50)))


def on_circle(scheme: Scheme) -> g.Points:
    """Places (K, 2) for the points of a scheme without a layout: on a circle, region by region."""
    order = [i for region in scheme.regions.values() for i in region]
    order = list(dict.fromkeys([*order, *range(scheme.count)]))
    angles = 2 * np.pi * np.argsort(order) / scheme.count
    return np.stack([np.sin(angles), -np.cos(angles)], axis=1)


def _fitted(layout: g.Points, size: Size, border: Pixels) -> g.Points:
    """The points, as large as they fit inside the picture and its border."""
    low, high = layout.min(axis=0), layout.max(axis=0)
    room = np.maximum(np.array(size) - 2 * border, 1)
    extent = np.maximum(high - low, 1e-9)
    scale = float((room / extent).min()) if (high > low).any() else 1.0
    fitted: g.Points = (layout - (low + high) / 2) * scale + np.array(size) / 2
    return fitted


def _colours(scheme: Scheme) -> list[Rgb]:
    """The colour of each point: that of the first region that has it."""
    found = [OTHER] * scheme.count
    for number, region in reversed(list(enumerate(scheme.regions.values()))):
        for index in region:
            found[index] = COLOURS[number % len(COLOURS)]
    return found


def _layers(scheme: Scheme, points: g.Points, colours: Sequence[Rgb]) -> list[Layer]:
    """A layer for each colour, on one for the lines between two of them."""
    within = [a for a in scheme.edges if colours[a[0]] == colours[a[1]]]
    layers = [Layer(points, OTHER, edges=[edge for edge in scheme.edges if edge not in within])]
    for colour in dict.fromkeys(colours):
        mine = np.array([one == colour for one in colours])[:, None]
        edges = [edge for edge in within if colours[edge[0]] == colour]
        layers.append(Layer(np.where(mine, points, np.nan), colour, edges=edges))
    return layers


def _number(
    picture: Image.Image,
    points: g.Points,
    colours: Sequence[Rgb],
    unit: int,
    edges: Sequence[tuple[int, int]],
) -> None:
    """Write the number of each point beside it, with a line to it where it is not near."""
    pen, face = ImageDraw.Draw(picture), font(unit)
    texts = [str(index) for index in range(len(points))]
    sizes = np.array([(text_width(text, face) + 3, 0.95 * unit) for text in texts])
    drawn = [_along(points[a], points[b], 0.6 * unit) for a, b in edges]
    lines = np.concatenate([np.empty((0, 2)), *drawn])
    centres = place(points, sizes, picture.size, 0.45 * unit, lines)
    for point, centre, size in zip(points, centres, sizes, strict=True):
        if math.hypot(*np.maximum(abs(centre - point) - size / 2, 0)) > 0.7 * unit:
            pen.line([tuple(point), tuple(centre)], (170, 170, 170), 1)
    for centre, size, text, colour in zip(centres, sizes, texts, colours, strict=True):
        corners: NDArray[np.float64] = np.concatenate([centre - size / 2, centre + size / 2])
        pen.rectangle(corners.tolist(), PAPER)
        pen.text(tuple(centre), text, colour, face, anchor="mm")


def _along(start: g.Points, end: g.Points, step: Pixels) -> g.Points:
    """Points (M, 2) of a line, from end to end."""
    count = 2 + math.ceil(math.hypot(*(end - start)) / step)
    at = np.linspace(0, 1, count)[:, None]
    along: g.Points = start * (1 - at) + end * at
    return along


def _regions(scheme: Scheme) -> Iterator[_Entry]:
    for number, (name, region) in enumerate(scheme.regions.items()):
        yield _Entry(f"{name}: {_spans(region)}", COLOURS[number % len(COLOURS)])
    if scheme.corners:
        yield _Entry(f"interocular: {_spans(scheme.corners)}")
    if scheme.pupils:
        yield _Entry("interpupil: " + " and ".join(map(_spans, scheme.pupils)))
    if scheme.nose is not None:
        yield _Entry(f"tip of the nose: {scheme.nose}")
    if scheme.swap is None:
        yield _Entry("left and right: not known")
    else:
        pairs = sum(i < other for i, other in enumerate(scheme.swap))
        yield _Entry(f"left and right: {pairs} pairs")


def _spans(indices: Sequence[int]) -> str:
    """`0-16, 30`."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and index == runs[-1][-1] + 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return ", ".join(f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def _page(picture: Image.Image, entries: list[_Entry], title: str, unit: int) -> Image.Image:
    """The picture below its title, and the entries to its right, in as many columns as they
    need."""
    face, large, step = font(unit), font(round(1.5 * unit)), round(1.45 * unit)
    top, width, height = round(3 * unit), picture.width, picture.height
    lines = [
        (line, entry.colour if part == 0 else None, part > 0)
        for entry in entries
        for part, line in enumerate(wrap(entry.text, face, 15 * unit) or [""])
    ]
    rows = max(ROWS, height // step - 1)
    wide = max((text_width(line, face) for line, _, _ in lines), default=0)
    column = math.ceil(wide + 2.5 * unit)
    columns = -(-len(lines) // rows)
    size = (width + columns * column + unit, top + max(height, min(rows, len(lines)) * step + unit))
    page = Image.new("RGB", size, PAPER)
    page.paste(picture, (0, top))
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(wrap(title, large, page.width - 2 * unit)[:1]):
        pen.text((unit, unit + number * step), line, INK, large)
    for number, (line, colour, inset) in enumerate(lines):
        x = width + number // rows * column
        y = top + number % rows * step
        if colour is not None:
            spot = (x, y + 0.25 * unit, x + 0.7 * unit, y + 0.95 * unit)
            pen.ellipse(spot, colour)
        pen.text((x + 1.2 * unit + (0.5 * unit if inset else 0), y), line, INK, face)
    return page
