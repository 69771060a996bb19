"""Crops: the pixels of each face, decoded once, and what a network sees of them.

Two steps, both exact affine maps of the file. `cut` decodes the part of a file that a face may
need, antialiased, into a stored crop of a fixed size (uint8). `network_input` makes what a network
takes of a batch of stored crops, on their device: one bilinear warp that holds the augmentation
and the box, then colour, blur, noise and what is erased. A face without a policy is cut at the
input's own size, so that nothing is resampled twice.
"""

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from kptools import augment, files, images, records
from kptools import geometry as g
from kptools.augment import Draw
from kptools.config import Normalization
from kptools.errors import RecordError
from kptools.images import FILL
from kptools.limits import MAX_IMAGE_PIXELS
from kptools.records import Record
from kptools.units import Box, Fraction, Pixels, Size

Pixels8 = NDArray[np.uint8]  # (H, W, C)

# Stored pixels for each pixel of the input, where a warp follows
OVERSAMPLE = 1.25

# The variance, over step^2 - 1, of what smooths an image before every `step`-th pixel is taken: a
# little over the 1/6 of a triangle, so that stripes of 2.6 pixels at half size keep 3.8 levels,
# nearly as Pillow's resize leaves them (3.2), and not 6.4
PREFILTER = 0.22
MIN_PREFILTER = 0.45  # pixels; a narrower Gaussian costs more than it changes

_NOISE_CHUNK = 1 << 22  # pixels of noise made at a time

GREY: Normalization = ((FILL / 255,), (1.0,))
IMAGENET: Normalization = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class Frame:
    """What a network sees of a face: the box and its margin, stretched to `size`."""

    size: Size
    margin: Fraction
    grey: bool
    normalization: Normalization | None = None  # None: grey's, or ImageNet's

    @property
    def channels(self) -> int:
        return 1 if self.grey else 3

    def matrix(self, box: Box) -> g.Matrix:
        """File to input, continuous."""
        return g.box_to_input(box, self.margin, self.size)

    def to_file(self, unit: g.Points, box: Box) -> g.Points:
        """Fractions of the input to pixels of the file. (K, 2) to (K, 2)."""
        return g.place(unit, g.enlarged(box, self.margin))

    def normalise(self, x: Tensor, black: float, white: float) -> Tensor:
        """The network's numbers, in place, of pixels that run from `black` to `white`: by default
        grey from -0.5 to 0.5, RGB with ImageNet's mean and deviation. (B, C, H, W) float32."""
        default = GREY if self.grey else IMAGENET
        mean, std = (np.array(values) for values in self.normalization or default)
        factor = 1 / (std * (white - black))
        constants = np.stack((factor, -mean / std - black * factor))
        scale, offset = send(torch.from_numpy(constants), x.device, x.dtype)
        last = x.permute(0, 2, 3, 1)
        if last.is_contiguous():  # channels last: by whole rows, for three at a time are slow
            rows, width = last.flatten(2), x.shape[3]
            torch.addcmul(offset.repeat(width), rows, scale.repeat(width), out=rows)
        else:
            torch.addcmul(offset.view(-1, 1, 1), x, scale.view(-1, 1, 1), out=x)
        return x


@dataclass(frozen=True)
class Layout:
    """The stored crops of a set of faces: `size` (width, height) in stored pixels, and `ratio`, by
    how much they reach further than the network's input along x and y, both about the box's
    centre."""

    frame: Frame
    size: Size
    ratio: tuple[float, float]

    def rectangle(self, box: Box) -> tuple[tuple[Pixels, Pixels], tuple[Pixels, Pixels]]:
        """(centre, half extent) of a stored crop; file frame, continuous."""
        half = g.half_extent(box, self.frame.margin)
        return g.centre(box), (half[0] * self.ratio[0], half[1] * self.ratio[1])

    def matrix(self, box: Box) -> g.Matrix:
        """File to stored crop, continuous."""
        return g.fit(*self.rectangle(box), self.size)


def plan(faces: Iterable[Record], frame: Frame) -> Layout:
    """The layout that holds all that the policies of these faces may bring into the input."""
    ratio_x = ratio_y = 1.0
    warped = False
    for record in faces:
        stages = record.get("augment")
        if stages:
            warped = True
            box = records.box(record)
            half = g.half_extent(box, frame.margin)
            far = augment.reach(stages, half, g.side(box))
            ratio_x, ratio_y = max(ratio_x, far[0] / half[0]), max(ratio_y, far[1] / half[1])
    if not warped:
        return Layout(frame, frame.size, (1.0, 1.0))
    width, height = frame.size
    size = (math.ceil(width * OVERSAMPLE * ratio_x), math.ceil(height * OVERSAMPLE * ratio_y))
    return Layout(frame, size, (ratio_x, ratio_y))


def cut(record: Record, layout: Layout) -> Pixels8:
    """Decode one stored crop, (H, W, C) uint8. Raises RecordError."""
    try:
        return _cut(records.image(record), records.box(record), layout)
    except MemoryError:
        raise RecordError(
            "too_large", f"{records.image(record)} does not fit in memory; try fewer --workers"
        ) from None


def _cut(path: str, box: Box, layout: Layout) -> Pixels8:
    (x, y), (half_x, half_y) = layout.rectangle(box)
    wanted = min(2 * half_x / layout.size[0], 2 * half_y / layout.size[1])
    shrink = next(s for s in (8, 4, 2, 1) if s <= max(wanted, 1.0))
    picture, m = images.read(path, grey=layout.frame.grey, shrink=shrink)
    left, top = m[:, :2] @ (x - half_x, y - half_y) + m[:, 2]
    right, bottom = m[:, :2] @ (x + half_x, y + half_y) + m[:, 2]
    if right <= 0 or bottom <= 0 or left >= picture.width or top >= picture.height:
        raise RecordError(
            "bad_box", f"the box lies outside {path} ({picture.width}x{picture.height}); mend it"
        )
    picture, dx, dy = _canvas(picture, (left, top, right, bottom), layout.size)
    region = (left - dx, top - dy, right - dx, bottom - dy)
    crop = picture.resize(layout.size, Image.Resampling.BILINEAR, box=region)
    return np.array(crop).reshape(layout.size[1], layout.size[0], layout.frame.channels)


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
        raise RecordError("bad_box", f"the box spans {x1 - x0}x{y1 - y0} pixels; mend it")
    canvas = Image.new(picture.mode, (x1 - x0, y1 - y0), (FILL,) * len(picture.getbands()))
    inside = (max(x0, 0), max(y0, 0), min(x1, picture.width), min(y1, picture.height))
    canvas.paste(picture.crop(inside), (inside[0] - x0, inside[1] - y0))
    return canvas, x0, y0


@contextmanager
def threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that decode; at the end what they have not begun is dropped. After an error, or a
    signal, nobody waits for what they are at: it may be a file system that does not answer."""
    pool = ThreadPoolExecutor(max(1, count))
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise
    pool.shutdown(cancel_futures=True)


class Store:
    """The stored crops of N faces: `pixels`, (N, Hs, Ws, C) uint8, in memory or, where `memory` is
    fewer bytes, in an unnamed memory-mapped file.

    The threads of `pool` fill it, once begun, while others work; the row of a face is whole after
    `wait_for` it. `failed(i, error)` is called, by the one who waits, once for each face that has
    no crop.
    """

    def __init__(
        self,
        faces: Sequence[Record],
        layout: Layout,
        pool: ThreadPoolExecutor,
        *,
        memory: int,
        failed: Callable[[int, RecordError], None],
    ) -> None:
        width, height = layout.size
        shape = (len(faces), height, width, layout.frame.channels)
        self.mapped = math.prod(shape) > memory
        if self.mapped:
            room, what = Path(tempfile.gettempdir()), "the cache of crops"
            with tempfile.TemporaryFile() as file:
                files.reserve(file, room, math.prod(shape), what)
                self._rows: Pixels8 = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
        else:
            self._rows = np.empty(shape, dtype=np.uint8)
        self.pixels = torch.from_numpy(self._rows)
        self.layout = layout
        self._faces = faces
        self._pool, self._failed = pool, failed
        self._crops: dict[int, Future[RecordError | None]] = {}
        self._told: set[int] = set()

    def begin(self, order: Iterable[int] | None = None) -> None:
        """Let the threads decode all faces, in this order; once begun, it stays as it is."""
        if not self._crops:
            order = range(len(self._faces)) if order is None else order
            self._crops = {i: self._pool.submit(self._decode, i) for i in order}

    def wait_for(self, index: int) -> bool:
        """Wait until this face is decoded; whether it has a crop."""
        error = self._crops[index].result()
        if error is not None and index not in self._told:
            self._told.add(index)
            self._failed(index, error)
        return error is None

    def finish(self) -> None:
        """Wait for all."""
        self.begin()
        for index in range(len(self._faces)):
            self.wait_for(index)

    def settle(self, device: torch.device) -> None:
        """Where all is decoded, move to where a batch is quickest to take: to a GPU that holds the
        crops and has as much room again."""
        if device.type != "cuda" or self.pixels.is_cuda:
            return
        room, _ = torch.cuda.mem_get_info(device)
        if 2 * self.pixels.nbytes < room and all(crop.done() for crop in self._crops.values()):
            self.pixels = self.pixels.to(device)
            self._rows = np.empty(0, dtype=np.uint8)

    def _decode(self, index: int) -> RecordError | None:
        try:
            self._rows[index] = cut(self._faces[index], self.layout)
        except RecordError as error:
            return error
        return None


def send(values: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Values on a device. CUDA takes its copy when its turn comes, and nobody waits for the step
    that runs; of memory that is not pinned it has read all before the call returns."""
    return values.to(device, dtype or values.dtype, non_blocking=device.type == "cuda")


def network_input(
    crops: Tensor, boxes: Sequence[Box], draws: Sequence[Draw], layout: Layout
) -> Tensor:
    """What `look` gives, in the network's numbers. (B, Hs, Ws, C) uint8 to (B, C, H, W) float32."""
    frame = layout.frame
    if _as_cut(draws, layout):
        return frame.normalise(crops.permute(0, 3, 1, 2).to(torch.float32), 0, 255)
    black = -FILL / 255
    return frame.normalise(look(crops, boxes, draws, layout), black, black + 1)


def _as_cut(draws: Sequence[Draw], layout: Layout) -> bool:
    """Whether the stored crops are already what the network sees."""
    plain = layout.size == layout.frame.size and layout.ratio == (1.0, 1.0)
    return plain and all(drawn.idle for drawn in draws)


def look(crops: Tensor, boxes: Sequence[Box], draws: Sequence[Draw], layout: Layout) -> Tensor:
    """What the network sees, before normalisation.

    `crops`: (B, Hs, Ws, C) uint8 stored crops. Returns (B, C, H, W) float32, mid-grey (`FILL`) at
    0 and 255 levels to 1.
    """
    size = layout.frame.size
    if _as_cut(draws, layout):
        return warp(crops, [g.IDENTITY] * len(boxes), size)
    matrices = []  # input to stored crop
    for box, drawn in zip(boxes, draws, strict=True):
        inverse = g.compose(g.invert(drawn.matrix), g.invert(layout.frame.matrix(box)))
        matrices.append(g.compose(layout.matrix(box), inverse))
    zooms = [layout.frame.matrix(box) for box in boxes]
    return recolour(warp(crops, matrices, size), draws, zooms)


def warp(pixels: Tensor, matrices: Sequence[g.Matrix], size: Size) -> Tensor:
    """Resample bilinearly, filtered where that shrinks: (B, Hs, Ws, C) uint8 to (B, C, H, W)
    float32, mid-grey at 0. Each matrix maps the output's continuous coordinates to the source's."""
    centred = pixels.permute(0, 3, 1, 2).to(torch.float32).sub_(FILL)
    source = (pixels.shape[2], pixels.shape[1])
    if source != size or np.abs(np.stack(matrices) - g.IDENTITY).max() > 1e-6:
        centred = _prefiltered(centred, np.stack(matrices))
        normalised = np.stack([_normalised(m, size, source) for m in matrices])
        theta = send(torch.from_numpy(normalised), pixels.device, torch.float32)
        shape = [len(matrices), pixels.shape[3], size[1], size[0]]
        grid = F.affine_grid(theta, shape, align_corners=False)
        centred = F.grid_sample(centred, grid, "bilinear", "zeros", align_corners=False)
    return centred.div_(255)


def _prefiltered(x: Tensor, matrices: NDArray[np.float64]) -> Tensor:
    """The images (B, C, Hs, Ws), those of them smoothed whose pixels the warp is to skip: bilinear
    resampling looks at the four nearest, however far apart the next ones are (aliasing).
    `matrices`: (B, 2, 3), output to source."""
    step = np.hypot(matrices[:, :, 0], matrices[:, :, 1])  # (B, 2): source pixels an output pixel
    sigmas = np.sqrt(np.maximum(step**2 - 1, 0) * PREFILTER)
    sigmas[sigmas < MIN_PREFILTER] = 0.0
    shrunk = np.flatnonzero(sigmas.any(axis=1)).tolist()
    if len(shrunk) == len(x):
        return _blur(x, sigmas.tolist())
    if shrunk:
        where = torch.tensor(shrunk, device=x.device)
        x = x.index_copy(0, where, _blur(x[where], sigmas[shrunk].tolist()))
    return x


def _normalised(m: g.Matrix, output: Size, source: Size) -> g.Matrix:
    """The same map between coordinates that run from -1 to 1, as grid_sample has them."""
    half_out = g.compose(g.scaling(output[0] / 2, output[1] / 2), g.translation(1, 1))
    half_in = g.compose(g.translation(-1, -1), g.scaling(2 / source[0], 2 / source[1]))
    return g.compose(half_in, m, half_out)


def recolour(x: Tensor, draws: Sequence[Draw], zooms: Sequence[g.Matrix]) -> Tensor:
    """Blur, colour, noise and erasure, as drawn. (B, C, H, W), mid-grey at 0, to the same.

    `zooms` map the file to these pixels (continuous); the axes are not turned.
    """
    if any(d.blur for d in draws):
        x = _blur(
            x, [(d.blur * z[0, 0], d.blur * z[1, 1]) for d, z in zip(draws, zooms, strict=True)]
        )
    if any(d.colour is not None for d in draws):
        x = _colour(x, draws)
    if any(d.noise for d in draws):
        x = _add_noise(x, draws)
    for image, drawn, zoom in zip(x, draws, zooms, strict=True):
        for box in drawn.erased:
            x0, y0 = np.round(g.to_continuous(zoom, box[:2])).astype(int).clip(0).tolist()
            x1, y1 = np.round(g.to_continuous(zoom, box[2:])).astype(int).clip(0).tolist()
            image[:, y0:y1, x0:x1] = 0
    return x


def _colour(x: Tensor, draws: Sequence[Draw]) -> Tensor:
    """One affine map of colour for each image; of a grey image the map's effect on grey."""
    identity = np.eye(3, 4)
    maps = np.stack([identity if d.colour is None else d.colour for d in draws])
    if x.shape[1] == 1:
        grey = maps[:, :, :3].sum(axis=2).mean(axis=1)
        maps = np.stack([grey, maps[:, :, 3].mean(axis=1)], axis=1)[:, None, :]  # (B, 1, 2)
    affine = send(torch.from_numpy(maps), x.device, x.dtype)
    mixed = torch.baddbmm(affine[:, :, -1:], affine[:, :, :-1], x.flatten(2))
    return mixed.clamp_(-FILL / 255, 1 - FILL / 255).view_as(x)


def _blur(x: Tensor, sigmas: Sequence[tuple[Pixels, Pixels]]) -> Tensor:
    """Gaussian blur, each image with its own deviations (x, y), cut off at 3 of them."""
    batch, channels, height, width = x.shape
    # all images as the channels of one, which on a CPU are to lie together
    x = x.permute(2, 3, 0, 1).reshape(1, height, width, batch * channels).permute(0, 3, 1, 2)
    for axis, length in ((1, height), (0, width)):
        sigma = np.array([s[axis] for s in sigmas])
        reach = np.minimum(np.ceil(3 * sigma), length - 1)
        radius = int(reach.max())
        if not radius:
            continue
        at = np.abs(np.arange(-radius, radius + 1))
        taps = np.exp(-0.5 * (at / np.maximum(sigma, 1e-3)[:, None]) ** 2) * (at <= reach[:, None])
        taps /= taps.sum(axis=1, keepdims=True)
        kernel = send(torch.from_numpy(taps), x.device, x.dtype).repeat_interleave(channels, 0)
        shape = (-1, 1, 1, 2 * radius + 1) if axis == 0 else (-1, 1, 2 * radius + 1, 1)
        edge = (radius, radius, 0, 0) if axis == 0 else (0, 0, radius, radius)
        x = F.pad(x, edge, mode="replicate")
        x = F.conv2d(x, kernel.view(shape), groups=batch * channels)
    return x.view(batch, channels, height, width)


def _add_noise(x: Tensor, draws: Sequence[Draw]) -> Tensor:
    """Normal noise of each image's own deviation, in place. That of a large picture is made a few
    rows at a time: while they are made its numbers take four times their memory."""
    batch, channels, height, width = x.shape
    levels = send(torch.tensor([d.noise for d in draws], dtype=x.dtype), x.device)
    keys = [d.noise_key for d in draws]
    if x.numel() <= _NOISE_CHUNK:
        noise = _gaussian(keys, x[0].numel(), x.device).view(x.shape)
        x.add_(noise.mul_(levels.view(-1, 1, 1, 1)))
        return x.clamp_(-FILL / 255, 1 - FILL / 255)
    rows = max(1, _NOISE_CHUNK // (batch * width))
    for channel in range(channels):
        for row in range(0, height, rows):
            part = x[:, channel, row : row + rows]  # (B, rows, W)
            first = (channel * height + row) * width
            noise = _gaussian(keys, part[0].numel(), x.device, first).view(part.shape)
            part.add_(noise.mul_(levels.view(-1, 1, 1)))
    return x.clamp_(-FILL / 255, 1 - FILL / 255)


def _gaussian(keys: Sequence[int], count: int, device: torch.device, first: int = 0) -> Tensor:
    """(B, count) normal numbers, each a hash of its key and its place, from `first` on: the same in
    any batch and on any device. The hash is lowbias32 (Wellons), the numbers Box and Muller's."""
    key = send(torch.tensor(keys, dtype=torch.int32), device).view(-1, 1).mul_(_signed(0x85EBCA6B))
    h = torch.arange(first, first + count, device=device, dtype=torch.int32)
    h = h.mul_(_signed(0x9E3779B1)) + key
    for shift, factor in ((16, 0x21F0AAAD), (15, 0x735A2D97)):
        h.bitwise_xor_(_shifted(h, shift)).mul_(factor)
    h.bitwise_xor_(_shifted(h, 15))
    radius = _shifted(h, 16).float().add_(0.5).div_(65536).log_().mul_(-2).sqrt_()
    return radius.mul_((h & 0xFFFF).float().mul_(2 * math.pi / 65536).cos_())


def _signed(word: int) -> int:
    """32 bits as the signed number that they are, too: MPS has no 64-bit arithmetic to spare, and
    that of 32 bits wraps to the same bits."""
    return word - (1 << 32) if word >> 31 else word


def _shifted(h: Tensor, bits: int) -> Tensor:
    """The 32 bits moved to the right, zeros from the left."""
    return (h >> bits) & ((1 << (32 - bits)) - 1)


def whole(picture: Image.Image, drawn: Draw) -> Image.Image:
    """A draw applied to a whole picture (RGB or L), by the same steps as `look`; the size stays."""
    pixels = torch.from_numpy(np.array(picture)).view(1, picture.height, picture.width, -1)
    x = warp(pixels, [g.invert(drawn.matrix)], picture.size)
    x = recolour(x, [drawn], [g.IDENTITY])
    levels = x[0].mul_(255).add_(FILL).round_().clamp_(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).squeeze(2).contiguous().numpy())
