"""The learned filters of a convolution layer as a sheet of tiles."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import nn

from kptools.errors import UsageError
from kptools.units import Pixels
from kptools.viz import colours
from kptools.viz.text import font, text_width, wrap

TILE = 24  # pixels; no tile is smaller
TEXT = 13


@dataclass(frozen=True)
class Convolution:
    """A convolution's name and weights, (O, I, h, w)."""

    name: str
    weights: NDArray[np.float32]

    @property
    def text(self) -> str:
        out, inputs, height, width = self.weights.shape
        channels = "channel" if inputs == 1 else "channels"
        return f"{out} filters of {width}x{height} over {inputs} {channels}"


def layers(network: nn.Module) -> list[Convolution]:
    """The network's convolutions, in its own order."""
    return [
        Convolution(name, module.weight.detach().cpu().float().numpy())
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d)
    ]


def find(found: list[Convolution], name: str | None, where: str) -> Convolution:
    """The layer of that name; the first where none is named. Raises UsageError."""
    if not found:
        raise UsageError(f"{where} has no convolution layers")
    if name is None:
        return found[0]
    for layer in found:
        if layer.name == name:
            return layer
    names = [layer.name for layer in found]
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    raise UsageError(f"--layer {name}: {where} has {shown}; --list prints them all")


def picture(layer: Convolution, title: str, most: int = 16) -> Image.Image:
    """A tile for each filter of a layer over 1 or 3 channels; of a deeper one a row for each
    filter and a column for each input channel, at most `most` of both."""
    if layer.weights.shape[1] in (1, 3):
        return _tiles(layer, title)
    return _matrix(layer, title, most)


def _tiles(layer: Convolution, title: str) -> Image.Image:
    count, inputs, height, width = layer.weights.shape
    columns = _columns(count)
    zoom = _zoom(height, width, columns)
    step_x, step_y = width * zoom + _gap(zoom), height * zoom + _gap(zoom)
    rows = -(-count // columns)
    body = Image.new("RGB", (columns * step_x, rows * step_y), colours.PAPER)
    for index, weights in enumerate(layer.weights):
        levels = _grey(weights) if inputs == 1 else _rgb(weights)
        row, column = divmod(index, columns)
        body.paste(_enlarged(levels, zoom), (column * step_x, row * step_y))
    scale = (
        "grey 0, black and white the largest weight of each"
        if inputs == 1
        else "as RGB, each from its least to its largest weight"
    )
    return _page(body, title, f"{layer.name}: {layer.text}; {scale}", (0, 0))


def _matrix(layer: Convolution, title: str, most: int) -> Image.Image:
    out, inputs, height, width = layer.weights.shape
    rows, columns = min(out, most), min(inputs, most)
    zoom = _zoom(height, width, columns)
    step_x, step_y = width * zoom + _gap(zoom), height * zoom + _gap(zoom)
    letters = font(TEXT - 2)
    left = round(text_width(str(rows - 1), letters)) + 8
    top = TEXT + 5
    body = Image.new("RGB", (left + columns * step_x, top + rows * step_y), colours.PAPER)
    pen = ImageDraw.Draw(body)
    for row in range(rows):
        levels = _grey(layer.weights[row, :columns])  # one scale a filter
        y = top + row * step_y
        inset = text_width(str(row), letters)
        pen.text((left - 6 - inset, y + height * zoom / 2), str(row), colours.PALE, letters, "lm")
        for column in range(columns):
            body.paste(_enlarged(levels[column], zoom), (left + column * step_x, y))
    for column in range(columns):
        x = left + column * step_x + width * zoom / 2
        pen.text((x, top - 4), str(column), colours.PALE, letters, "ms")
    part = "" if (rows, columns) == (out, inputs) else f" (the first {rows} by {columns})"
    note = (
        f"{layer.name}: {layer.text}{part}; a row a filter, a column an input channel; "
        "grey 0, black and white the largest weight of the row"
    )
    return _page(body, title, note, (left, top))


def _page(body: Image.Image, title: str, note: str, inset: tuple[int, int]) -> Image.Image:
    """The tiles below the title and the note."""
    edge = 16
    width = max(body.width, 420)
    titles = wrap(title, font(TEXT + 5), width)
    notes = wrap(note, font(TEXT), width)
    head = round(1.7 * TEXT) * len(titles) + round(1.4 * TEXT) * len(notes) + 12
    page = Image.new("RGB", (width + 2 * edge, body.height + head + 2 * edge), colours.PAPER)
    pen = ImageDraw.Draw(page)
    y = edge
    for line in titles:
        pen.text((edge, y), line, colours.INK, font(TEXT + 5))
        y += round(1.7 * TEXT)
    for line in notes:
        pen.text((edge, y), line, colours.PALE, font(TEXT))
        y += round(1.4 * TEXT)
    page.paste(body, (edge, edge + head))
    return page


def _grey(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Weights of any shape to levels of it: 0 is mid-grey, the largest magnitude an end."""
    top = float(np.abs(weights).max(initial=0.0))
    levels = 127.5 + 127.5 * weights.astype(np.float64) / (top or 1.0)
    return np.round(levels).astype(np.uint8).reshape(weights.shape[-3:])


def _rgb(weights: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(3, h, w) to (h, w, 3) levels, from the least to the largest of all three channels."""
    least, most = float(weights.min()), float(weights.max())
    unit = (weights.astype(np.float64) - least) / ((most - least) or 1.0)
    levels: NDArray[np.uint8] = np.round(255 * unit).astype(np.uint8).transpose(1, 2, 0)
    return levels


def _enlarged(levels: NDArray[np.uint8], zoom: int) -> Image.Image:
    """Levels (h, w), (1, h, w) or (h, w, 3), each pixel as a square of `zoom`."""
    plane = levels[0] if levels.shape[0] == 1 and levels.ndim == 3 else levels
    tile = Image.fromarray(np.ascontiguousarray(plane)).convert("RGB")
    return tile.resize((tile.width * zoom, tile.height * zoom), Image.Resampling.NEAREST)


def _zoom(height: int, width: int, columns: int) -> int:
    """Whole pixels: a tile of at least TILE, larger where there are few."""
    tile = min(96.0, max(TILE, 640 / columns))
    return max(1, math.ceil(TILE / max(height, width)), round(tile / max(height, width)))


def _gap(zoom: int) -> Pixels:
    return max(3, min(6, zoom // 2))


def _columns(count: int) -> int:
    """Near a wide rectangle; a divisor of the count where one is near."""
    wanted = math.sqrt(1.6 * count)
    for columns in sorted(
        range(math.ceil(math.sqrt(count)), math.ceil(2.5 * wanted)),
        key=lambda n: abs(math.log(n / wanted)),
    ):
        if count % columns == 0:
            return columns
    return math.ceil(wanted)
