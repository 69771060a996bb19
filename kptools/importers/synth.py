"""Drawn faces with known points: a dataset that needs no download.

    OUT/000000.jpg  OUT/000001.jpg  ...      one face each, 160 to 224 pixels a side

A coarse 3-D head (a mean shape, varied in identity and expression) is turned, projected,
rasterised with numpy and lit; eyes, brows, nostrils and lips are painted on it through the very
points that the record gives, so that these are exact to 0.1 px. Points are in the file frame: the
centre of the top-left pixel is (0, 0). Jaw points that a turned cheek hides slide to its contour,
as annotators of iBUG-300W place them. The box is what a detector would give: square, about brow
to chin, a few percent off, and not made from the points.

Face `index` of `seed` is the same whatever else is drawn. Head frame: x to image-right, y down,
z to the camera, the unit is half a face's width, the origin lies between the eyes.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from kptools import schemes
from kptools.units import Box, Size

SCHEME = "ibug68"

Array: TypeAlias = NDArray[Any]
Rng: TypeAlias = np.random.Generator
Place: TypeAlias = Callable[[Array], Array]  # (n, 2) or (n, 3) to (n, 2) pixels
Colour: TypeAlias = tuple[int, int, int, int]  # red, green, blue, opacity; 0..255


@dataclass(frozen=True, slots=True)
class Face:
    """One drawn face."""

    image: Image.Image  # RGB
    points: Array  # (68, 2) float64, pixels of the image, file frame
    visible: Array  # (68,) bool; False: hidden by hair, the head itself, glasses or an object
    box: Box  # pixels, file frame; may leave the image
    quality: int  # of the JPEG file


# --- The mean face ------------------------------------------------------------------------------

_JAW, _NOSE, _MOUTH = slice(0, 17), slice(27, 36), slice(48, 68)
_BROWS, _EYES = (slice(17, 22), slice(22, 27)), (slice(36, 42), slice(42, 48))  # image-left first
_UPPER_LIP, _LOWER_LIP = [48, 49, 50, 51, 52, 53, 54], [54, 55, 56, 57, 58, 59, 48]
_UPPER_INNER, _LOWER_INNER = [60, 61, 62, 63, 64], [64, 65, 66, 67, 60]

_HALF = {  # (x, y) of the points on image-left and on the midline; the scheme mirrors the rest
    **dict(enumerate([(-1.0, 0.05), (-0.985, 0.33), (-0.95, 0.6), (-0.89, 0.86), (-0.78, 1.09),
                      (-0.62, 1.28), (-0.43, 1.42), (-0.22, 1.52), (0, 1.56)])),
    **dict(enumerate([(-0.8, -0.17), (-0.68, -0.28), (-0.5, -0.31), (-0.33, -0.285),
                      (-0.16, -0.22)], 17)),
    **dict(enumerate([(0, -0.01), (0, 0.16), (0, 0.325), (0, 0.5), (-0.2, 0.615),
                      (-0.105, 0.65), (0, 0.68)], 27)),
    **dict(enumerate([(-0.6, 0.01), (-0.495, -0.06), (-0.365, -0.055), (-0.255, 0.035),
                      (-0.375, 0.06), (-0.5, 0.058)], 36)),
    **dict(enumerate([(-0.385, 0.93), (-0.243, 0.872), (-0.1, 0.843), (0, 0.868)], 48)),
    57: (0, 1.14), 58: (-0.11, 1.128), 59: (-0.248, 1.067),
    60: (-0.325, 0.937), 61: (-0.1, 0.927), 62: (0, 0.938), 66: (0, 0.952), 67: (-0.103, 0.945),
}  # fmt: skip


def _mean_face() -> Array:
    """(68, 2) float64, head frame."""
    swap = schemes.get(SCHEME).swap
    assert swap is not None
    mean = np.zeros((68, 2))
    for index, (x, y) in _HALF.items():
        mean[index], mean[swap[index]] = (x, y), (-x if x else 0.0, y)
    return mean


def _curve(points: Array, pieces: int = 5) -> Array:
    """A Catmull-Rom curve through (n, 2) points; every `pieces`-th point of it is one of them."""
    before, after = 2 * points[:1] - points[1:2], 2 * points[-1:] - points[-2:-1]
    around = np.concatenate([before, points, after])
    a, b, c, d = (around[i : len(around) - 3 + i, None] for i in range(4))
    t = (np.arange(pieces) / pieces)[:, None]
    curve = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([curve.reshape(-1, 2), points[-1:]])


# The head's mesh: rings round the tip of the nose. Ring 10 is the jaw line and, over the forehead,
# the hair line; those beyond it go back over the skull and under the jaw.
_RINGS = 10
_SPREAD = np.linspace(0, 1, _RINGS + 1)[:, None, None]
_BEYOND = np.array([1.1, 1.25, 1.45, 1.7])[:, None, None]  # of the rings beyond, in (u, v) alone
_SKULL = np.array([(1.07, 1.08, -0.22), (1.1, 1.14, -0.6), (1.0, 1.1, -1.1), (0.5, 0.6, -1.6)])
_UNDER = np.array([(0.975, 0.99, -0.12), (0.86, 0.95, -0.4), (0.7, 0.9, -0.7), (0.4, 0.8, -1.1)])
_FOREHEAD = np.linspace(0, np.pi, 25)[1:-1, None]


def _rim(jaw: Array, height: float) -> Array:
    """(56, 2): ring 10 from the 17 jaw points (every second one, from 0) and back over the top."""
    centre, arm = (jaw[16] + jaw[0]) / 2, (jaw[16] - jaw[0]) / 2
    cos, sin = np.cos(_FOREHEAD), np.sin(_FOREHEAD)
    arc = centre + arm * np.sign(cos) * abs(cos) ** 0.8 + np.array([0, -height]) * sin**0.9
    return np.concatenate([_curve(jaw, pieces=2), arc])


_MEAN = _mean_face()
_CENTRE = _MEAN[30]
_UV = _CENTRE + np.concatenate([_SPREAD, _BEYOND]) * (_rim(_MEAN[_JAW], 1.15) - _CENTRE)
_RING_COUNT, _SPOKES = _UV.shape[:2]


def _triangles() -> Array:
    """(T, 3) int: the vertices (ring * spokes + spoke) of each triangle of the mesh."""
    ring, spoke = np.mgrid[: _RING_COUNT - 1, :_SPOKES]
    a, b = ring * _SPOKES + spoke, ring * _SPOKES + (spoke + 1) % _SPOKES
    c, d = a + _SPOKES, b + _SPOKES
    return np.stack([np.stack([a, b, c], -1), np.stack([b, d, c], -1)]).reshape(-1, 3)


_TRIANGLES = _triangles()


# --- Who it is, and how they look ---------------------------------------------------------------


def _person(rng: Rng) -> Array:
    """(68, 2) float64, head frame: the mean face with an identity and an expression."""
    p = _MEAN.copy()
    n = np.clip(rng.normal(size=17), -2.2, 2.2)
    low = np.clip(p[_JAW, 1] / 1.56, 0, 1) ** 2  # 0 at the ears, 1 at the chin

    def scale(part: slice, x: float, y: float, about: Array | None = None) -> None:
        middle = p[part].mean(0) if about is None else about
        p[part] = middle + (p[part] - middle) * (x, y)

    # identity
    p[_JAW, 0] *= 1 + 0.25 * n[0] * low * (1 - low) + 0.04 * n[1]
    p[_JAW, 1] += 0.07 * n[2] * low
    for side, eye, brow in zip((-1, 1), _EYES, _BROWS, strict=True):
        scale(eye, 1 + 0.08 * n[3], 1 + 0.16 * n[4])
        p[eye, 0] += side * 0.025 * n[5]
        p[eye, 1] += 0.12 * n[6] * (abs(p[eye, 0]) - 0.42)
        scale(brow, 1 + 0.06 * n[7], 1 + 0.35 * n[8])
        p[brow, 1] += 0.04 * n[9] + 0.12 * n[10] * (abs(p[brow, 0]) - 0.48)
    scale(_NOSE, 1 + 0.13 * n[11], 1 + 0.08 * n[12], _MEAN[27])
    scale(_MOUTH, 1 + 0.09 * n[13], 1 + 0.2 * n[14])
    p[_MOUTH, 1] += 0.045 * n[15]
    p[17:, 1] *= 1 + 0.05 * n[16]

    # expression
    opened = min(max(0.0, rng.normal(0.1, 0.5)), 1.2) * (rng.random() < 0.6)
    smile = min(max(-0.7, rng.normal(0.15, 0.55)), 1.3)
    wide = abs(p[_MOUTH, 0]) / 0.385
    p[_MOUTH, 0] *= 1 + 0.2 * smile - 0.13 * opened
    p[_MOUTH, 1] -= 0.09 * smile * (wide**2 - 0.5)
    p[[55, 56, 57, 58, 59, 65, 66, 67], 1] += 0.3 * opened * np.array([0.6, 1, 1, 1, 0.6, 1, 1, 1])
    p[[48, 54, 60, 64], 1] += 0.1 * opened
    p[_JAW, 1] += 0.24 * opened * low
    raised, lean = 0.06 * rng.normal(), 0.025 * rng.normal()
    lids = np.full(2, rng.normal(0.95, 0.3)).clip(0.12, 1.35)
    lids[0] *= 0.2 if rng.random() < 0.03 else 1  # a wink
    for side, eye, brow, lid in zip((-1, 1), _EYES, _BROWS, lids, strict=True):
        p[brow, 1] -= raised + lean * side
        lower = p[eye, 1].max()
        p[eye, 1] = lower + (p[eye, 1] - lower) * np.where(p[eye, 1] < lower - 0.05, lid, 1)
    return p + rng.normal(0, 0.006, p.shape)


@dataclass(frozen=True, slots=True)
class _Head:
    """The surface of a face: z of (x, y), a smooth shell with bumps placed by the points."""

    points: Array  # (68, 2), head frame
    bumps: Array  # (n, 5): x, y, radius in x, radius in y, height

    def lift(self, xy: Array) -> Array:
        """(n, 3): the points of the surface over (n, 2)."""
        x, y = xy[:, 0], xy[:, 1]
        cx, cy, rx, ry, height = self.bumps.T[:, :, None]
        bumps = height * np.exp(-(((x - cx) / rx) ** 2) - ((y - cy) / ry) ** 2)
        shell = 0.62 - 0.95 * abs(x) ** 2.3 - 0.1 * (y - 0.5) ** 2
        return np.column_stack([x, y, shell + bumps.sum(0)])


def _head(rng: Rng, p: Array) -> _Head:
    tip, chin, mouth = p[30], p[8], p[_MOUTH].mean(0)
    bumps = [
        (*(0.7 * p[27] + 0.3 * tip), 0.1, 0.25, 0.13),  # the bridge of the nose, ...
        (*(0.35 * p[27] + 0.65 * tip), 0.13, 0.22, 0.2),
        (tip[0], tip[1] + 0.03, 0.15, 0.13, 0.26),  # ... its tip and wings
        (p[31, 0] * 0.85, p[31, 1] - 0.05, 0.09, 0.09, 0.12),
        (p[35, 0] * 0.85, p[35, 1] - 0.05, 0.09, 0.09, 0.12),
        (*mouth, 0.4, 0.25, 0.1),
        (*((p[57] + p[8]) / 2 - (0, 0.1)), 0.25, 0.08, -0.06),
        (*(chin - (0, 0.16)), 0.24, 0.15, 0.12),
        *((*p[eye].mean(0), 0.25, 0.17, -0.15) for eye in _EYES),
        *((*p[eye].mean(0), 0.14, 0.1, 0.07) for eye in _EYES),
        *((*p[brow].mean(0), 0.32, 0.11, 0.07) for brow in _BROWS),
        (-0.6, 0.42, 0.26, 0.24, 0.09),  # the cheeks
        (0.6, 0.42, 0.26, 0.24, 0.09),
    ]
    table = np.array(bumps)
    table[:, 4] *= rng.lognormal(0, 0.2, len(table)).clip(0.6, 1.6)
    return _Head(p, table)


@dataclass(frozen=True, slots=True)
class _Hair:
    """Hair grows where v < line(u); `jags` is where the line stands, at `_HAIR_U`."""

    jags: Array  # (n,)
    volume: float  # head units
    colour: Array  # (3,), 0..1
    natural: Array  # (3,), of brows and beard: under a hat, the hair's own
    strands: Array  # (n,) brightness
    long: bool


_HAIR_U = np.linspace(-2, 2, 129)
_PER_U = 32  # of them in a unit
_KNOTS = np.array([-1.3, -1.0, -0.85, -0.5, 0, 0.5, 0.85, 1.0, 1.3])
_BALD = np.full(9, -9.0)
_SHORT = np.array([0.45, -0.05, -0.45, -0.8, -0.9, -0.8, -0.45, -0.05, 0.45])
_FRINGE = np.array([0.6, 0.3, -0.2, -0.5, -0.55, -0.5, -0.2, 0.3, 0.6])
_PARTED = np.array([0.6, 0.1, -0.45, -0.85, -0.8, -0.55, -0.2, 0.2, 0.6])
_LONG = np.array([4.0, 1.4, 0.1, -0.6, -0.95, -0.6, 0.1, 1.4, 4.0])
_HAIR_COLOURS = np.array([(20, 16, 15), (45, 30, 22), (85, 55, 35), (140, 95, 55), (200, 165, 105),
                          (125, 50, 25), (150, 148, 145), (60, 60, 66)]) / 255  # fmt: skip
_SKINS = np.array([(247, 214, 192), (236, 190, 160), (222, 170, 135), (198, 140, 102),
                   (150, 98, 68), (96, 62, 46)]) / 255  # fmt: skip


def _mix(rng: Rng, palette: Array, spread: float) -> Array:
    """(3,), 0..1: a colour between two neighbours of the palette, and a little off."""
    at = rng.uniform(0, len(palette) - 1)
    low = int(at)
    colour = palette[low] + (at - low) * (palette[low + 1] - palette[low])
    return np.asarray(colour * rng.normal(1, spread, 3)).clip(0.02, 1)


def _hair(rng: Rng) -> _Hair:
    style = rng.choice(5, p=[0.1, 0.3, 0.2, 0.2, 0.2])
    line = [_BALD, _SHORT, _FRINGE, _PARTED, _LONG][style]
    line = line[:: rng.choice([-1, 1])] + rng.normal(0, 0.08)
    line = line + rng.uniform(0, 0.35) * np.exp(-(_KNOTS**2) * 3) * (style == 2)
    colour = natural = _mix(rng, _HAIR_COLOURS, 0.05)
    if hat := style > 0 and rng.random() < 0.1:
        line, colour = np.full(9, -rng.uniform(0.45, 0.7)), rng.random(3)
    rough = 0.01 if hat else rng.uniform(0.02, 0.09)
    jags = np.interp(_HAIR_U, _KNOTS, line) + rng.normal(0, rough, len(_HAIR_U))
    strands = rng.normal(1, 0.05 if hat else 0.22, 512).clip(0.4, 2)
    volume = 0.0 if style == 0 else rng.uniform(0.04, 0.2 if style < 4 else 0.28)
    return _Hair(jags, volume, colour, natural, strands, style == 4)


# --- The camera and the raster ------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Camera:
    """From the head frame to pixels of the file."""

    rotation: Array  # (3, 3)
    scale: float  # pixels per head unit, at the pivot
    centre: Array  # (2,) pixels: where the pivot falls
    distance: float  # head units; infinite: weak perspective

    def project(self, xyz: Array) -> Array:
        """(n, 3) float64: x, y in pixels of the file, and depth (nearer is more) in head units."""
        turned = (xyz - _PIVOT) @ self.rotation.T
        near = self.scale / (1 - turned[:, 2:] / self.distance)
        return np.concatenate([self.centre + turned[:, :2] * near, turned[:, 2:]], axis=1)


_PIVOT = np.array([0, 0.62, -0.2])


def _rotation(yaw: float, pitch: float, roll: float) -> Array:
    """(3, 3); degrees."""
    (cy, cp, cr), (sy, sp, sr) = (f(np.radians([yaw, pitch, roll])) for f in (np.cos, np.sin))
    turn = np.array([(cy, 0, sy), (0, 1, 0), (-sy, 0, cy)])
    nod = np.array([(1, 0, 0), (0, cp, sp), (0, -sp, cp)])
    tilt = np.array([(cr, sr, 0), (-sr, cr, 0), (0, 0, 1)])
    return np.asarray(tilt @ nod @ turn)


def _camera(rng: Rng, size: Size) -> _Camera:
    yaw, pitch, roll = (rng.normal(0, 0.45, 3).clip(-1, 1)) * (40, 20, 25)
    centre = np.array(size) * rng.normal((0.5, 0.53), (0.11, 0.09))
    side = rng.uniform(0.4, 0.66) * min(size)
    distance = rng.uniform(5, 14) if rng.random() < 0.7 else np.inf
    return _Camera(_rotation(yaw, pitch, roll), side / 2, centre, distance)


def _mesh(head: _Head, hair: _Hair, forehead: float) -> Array:
    """(rings, spokes, 3) float64: the head's vertices, head frame."""
    rim, tip = _rim(head.points[_JAW], forehead), head.points[30]
    face = head.lift((tip + _SPREAD * (rim - tip)).reshape(-1, 2)).reshape(_RINGS + 1, _SPOKES, 3)
    top = np.clip((0.35 - rim[:, 1]) / 0.5, 0, 1)[:, None]
    beyond = [
        face[-1] * (top * (*skull[:2], 1) + (1 - top) * (*under[:2], 1))
        + (0, 0, 1) * (top * skull[2] + (1 - top) * under[2])
        for skull, under in zip(_SKULL, _UNDER, strict=True)
    ]
    mesh = np.concatenate([face, beyond])
    hairy = np.clip((np.interp(_UV[..., 0], _HAIR_U, hair.jags) + 0.1 - _UV[..., 1]) / 0.25, 0, 1)
    out = mesh - (0, -0.2, -0.7)
    out /= np.linalg.norm(out, axis=-1, keepdims=True)
    return np.asarray(mesh + hair.volume * hairy[..., None] * out)


def _normals(mesh: Array) -> Array:
    """(rings, spokes, 3): unit normals that look outward."""
    along = np.gradient(mesh, axis=0)
    around = np.roll(mesh, -1, axis=1) - np.roll(mesh, 1, axis=1)
    normals = np.cross(around, along)
    normals[0] = normals[1].mean(0)
    return np.asarray(normals / (np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9))


def _raster(corners: Array, values: Array, size: Size) -> tuple[Array, Array]:
    """Draw the mesh, far triangles first: (n,) flat pixel indices, (n, C) values there.

    corners: (V, 3) pixels and depth; values: (V, C), interpolated over each triangle.
    """
    w, h = size
    a, b, c = (corners[_TRIANGLES[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    facing = np.flatnonzero(area > 1e-9)
    order = facing[np.argsort((a + b + c)[facing, 2], kind="stable")]
    a, b, c, area, triangles = a[order], b[order], c[order], area[order], _TRIANGLES[order]
    low = np.ceil(np.minimum(np.minimum(a, b), c)[:, :2]).clip(0, (w, h)).astype(np.int32)
    high = np.floor(np.maximum(np.maximum(a, b), c)[:, :2]).clip(-1, (w - 1, h - 1))
    span = (high.astype(np.int32) - low + 1).clip(0)
    count = span[:, 0] * span[:, 1]

    # every pixel of every triangle's bounding rectangle, and its two barycentric coordinates
    slopes = np.stack([c[:, 1] - a[:, 1], a[:, 0] - c[:, 0], a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]])
    slopes /= area
    offsets = [-(slopes[i] * a[:, 0] + slopes[i + 1] * a[:, 1]) for i in (0, 2)]
    starts = np.cumsum(count) - count
    t = np.repeat(np.arange(len(order), dtype=np.int32), count)
    span_x, low_x, low_y, start = np.stack([span[:, 0], *low.T, starts]).astype(np.int32)
    row, column = np.divmod(np.arange(len(t), dtype=np.int32) - start[t], span_x[t])
    x, y = column + low_x[t], row + low_y[t]
    bx, by, cx, cy, b0, c0 = np.stack([*slopes, *offsets]).astype(np.float32)
    fx, fy = x.astype(np.float32), y.astype(np.float32)
    to_b, to_c = bx[t] * fx + by[t] * fy + b0[t], cx[t] * fx + cy[t] * fy + c0[t]
    inside = np.flatnonzero((np.minimum(to_b, to_c) >= -1e-4) & (to_b + to_c <= 1 + 1e-4))

    front = np.full(w * h, -1, np.int32)
    front[(y * w + x)[inside]] = inside  # where triangles overlap, the last one stays
    pixels = np.flatnonzero(front >= 0)
    winner = front[pixels]
    v0, v1, v2 = (values[triangles[:, i]] for i in range(3))
    t, to_b, to_c = t[winner], to_b[winner, None], to_c[winner, None]
    return pixels, v0[t] + to_b * (v1 - v0)[t] + to_c * (v2 - v0)[t]


def _contour(corners: Array, camera: _Camera) -> Array:
    """(17, 3) of corners (rings, spokes, 3): jaw points, slid to the contour where turned away."""
    spokes = corners[_RINGS // 2 : _RINGS + 1, 0:33:2]
    outward = (_MEAN[_JAW] - _CENTRE) @ camera.rotation[:2, :2].T
    ring = (spokes[..., :2] * outward).sum(-1).argmax(0)
    return np.asarray(spokes[ring, np.arange(17)])


# --- Painting -----------------------------------------------------------------------------------


class _Stroke(NamedTuple):
    """A polygon (`width` 0) or a line, in the frame of whoever paints it."""

    points: Array  # (n, 2) or (n, 3)
    colour: Colour
    width: float = 0.0  # pixels of the file


def _paint(image: Image.Image, strokes: list[_Stroke], place: Place | None, zoom: int) -> None:
    """Paint on the picture at `zoom` times its size; what is not painted stays as it was.

    place: from the strokes' frame to pixels of the file; None where that is their frame. A point
    p of the file (the centre of a pixel is whole) lies at (p + 0.5) * zoom - 0.5 on the large one.
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
        ink = opaque if stroke.colour[3] == 255 else blended
        if stroke.width:
            ink.line(zoomed[start:end], stroke.colour, max(1, round(stroke.width * zoom)))
        else:
            ink.polygon(zoomed[start:end], stroke.colour)
        start = end
    image.paste(patch.reduce(zoom), (x0, y0))


_TURN = np.linspace(0, 2 * np.pi, 32, endpoint=False)
_CIRCLE = np.column_stack([np.cos(_TURN), np.sin(_TURN)])


def _ink(colour: Array, opacity: float = 1.0) -> Colour:
    r, g, b = (round(255 * min(max(v, 0.0), 1.0)) for v in colour.tolist())
    return r, g, b, round(255 * opacity)


def _between(points: Array, upper: Array, lower: Array) -> Array:
    """The part of a shape (n, 2) between two curves, each from small x to large x."""
    x = points[:, 0].clip(upper[0, 0], upper[-1, 0])
    low, high = np.interp(x, *upper.T), np.interp(x, *lower.T)
    return np.column_stack([x, np.minimum(points[:, 1].clip(low), high)])


@dataclass(frozen=True, slots=True)
class _Look:
    """What the features have in common, colours 0..1 without light."""

    iris: Array  # (3,)
    gaze: Array  # (2,) of an eye's width
    lashes: float
    shadow: float  # opacity on the lid
    lips: Array  # (3,)
    brows: Array  # (3,)
    thick: float  # half a brow's height, head units
    unit: float  # pixels per head unit


def _look(rng: Rng, skin: Array, hair: _Hair, unit: float) -> _Look:
    irises = np.array([(0.45, 0.3, 0.2), (0.35, 0.5, 0.65)])
    red = np.array((1, 0.2, 0.3)) * rng.uniform(0.4, 0.8)
    return _Look(
        iris=rng.uniform(0.05, 1) * irises[rng.integers(2)],
        gaze=rng.normal(0, 0.07, 2) * (1, 0.4),
        lashes=rng.uniform(0.04, 0.065),
        shadow=0.25 + 0.5 * rng.random() ** 2,
        lips=skin * (0.85, 0.6, 0.6) if rng.random() < 0.7 else red,
        brows=(0.5 * hair.natural + 0.1 * skin) * rng.uniform(0.6, 1.2),
        thick=rng.uniform(0.015, 0.065),
        unit=unit,
    )


def _eye(corners: Array, look: _Look) -> list[_Stroke]:
    """corners: (6, 2), the outline from image-left over the top, as in the scheme."""
    upper, lower = _curve(corners[:4]), _curve(corners[[3, 4, 5, 0]])
    lid = upper - (0, look.lashes)
    width = np.ptp(corners[:, 0])
    middle = corners.mean(0) + look.gaze * width
    discs = [(0.22, look.iris * 0.45), (0.187, look.iris), (0.09, np.full(3, 0.03))]
    glint = middle + (0.03, -0.035) + _CIRCLE * 0.018
    clip = upper, lower[::-1]
    return [
        _Stroke(np.concatenate([lid, upper[::-1]]), _ink(np.array((0.3, 0.15, 0.1)), look.shadow)),
        _Stroke(np.concatenate([upper, lower]), (238, 232, 228, 255)),
        *(_Stroke(_between(middle + _CIRCLE * r * width, *clip), _ink(c)) for r, c in discs),
        _Stroke(_between(glint, *clip), (255, 255, 255, 230)),
        _Stroke(upper, (25, 15, 12, 235), look.unit * width * look.lashes),
        _Stroke(lower, (90, 45, 40, 170), look.unit * width * 0.025),
        _Stroke(lid, (60, 30, 25, 120), look.unit * width * 0.03),
    ]


def _brow(spine: Array, look: _Look) -> list[_Stroke]:
    """spine: (5, 2), the middle of the brow."""
    spine = _curve(spine)
    taper = np.interp(abs(spine[:, 0]), (0.15, 0.3, 0.6, 0.85), (0.75, 1, 0.8, 0.15))
    half = np.column_stack([0 * taper, look.thick * taper])
    up, down = spine - half, spine + half
    hairs = [np.stack([down[i], up[i + 1]]) for i in range(0, len(spine) - 2, 2)]
    return [
        _Stroke(np.concatenate([up, down[::-1]]), _ink(look.brows, 0.8)),
        *(_Stroke(hair, _ink(look.brows * 0.6, 0.7), look.unit * 0.015) for hair in hairs),
    ]


def _mouth(rng: Rng, p: Array, look: _Look) -> list[_Stroke]:
    upper, lower = _curve(p[_UPPER_LIP]), _curve(p[_LOWER_LIP])
    inner_up, inner_low = _curve(p[_UPPER_INNER]), _curve(p[_LOWER_INNER])
    clip = inner_up, inner_low[::-1]
    cavity = np.concatenate([inner_up, inner_low])
    gap = max(0.0, p[66, 1] - p[62, 1])
    bite = np.array((0, min(gap * 0.6, rng.uniform(0.03, 0.11))))
    teeth = np.concatenate([inner_up, inner_up[::-1] + bite])
    tongue = p[66] + (0, 0.06) + _CIRCLE * (0.17, gap * rng.uniform(0.2, 0.6))
    shine = (p[57] + p[66]) / 2 + _CIRCLE * (0.12, 0.018)
    return [
        _Stroke(np.concatenate([upper, inner_up[::-1]]), _ink(look.lips * 0.85)),
        _Stroke(np.concatenate([lower, inner_low[::-1]]), _ink(look.lips)),
        _Stroke(cavity, (45, 14, 16, 255)),
        _Stroke(_between(teeth, *clip), _ink(rng.uniform(0.7, 0.95) * np.array((1, 0.98, 0.92)))),
        _Stroke(_between(tongue, *clip), (165, 80, 80, 255)),
        _Stroke(shine, (255, 235, 230, int(rng.uniform(10, 80)))),
        _Stroke(cavity, (60, 20, 20, 190), look.unit * 0.018),
        _Stroke(p[57] + (0, 0.05) + _CIRCLE * (0.2, 0.03), (40, 20, 10, 40)),
    ]


def _nose(rng: Rng, p: Array, look: _Look) -> list[_Stroke]:
    wide = 0.13 * (p[35, 0] - p[31, 0])
    strokes = [
        _Stroke(_curve(p[27:31]), (255, 245, 235, int(rng.uniform(15, 60))), look.unit * 0.06),
        _Stroke(p[30] + _CIRCLE * 0.05, (255, 248, 240, int(rng.uniform(25, 90)))),
        _Stroke(_curve(p[31:36]), (70, 30, 20, 110), look.unit * 0.035),
    ]
    wing_shape = np.array([(0.025, -0.16), (0.05, -0.1), (0.045, -0.02), (0, 0)])
    depth = int(rng.uniform(5, 70))
    for wing, nostril, mouth, sign in ((31, 32, 48, -1), (35, 34, 54, 1)):
        hole = p[nostril] + (sign * 0.77 * wide, -0.02) + _CIRCLE * (wide, 0.028)
        fold = p[[wing, mouth]] + np.array([(0.08, -0.04), (0.12, -0.12)]) * (sign, 1)
        strokes += [
            _Stroke(hole, (40, 14, 12, 220)),
            _Stroke(_curve(p[wing] + wing_shape * (sign, 1)), (70, 30, 20, 120), look.unit * 0.025),
            _Stroke(fold, (70, 30, 20, depth), look.unit * 0.03),
        ]
    return strokes


def _features(
    image: Image.Image, rng: Rng, head: _Head, camera: _Camera, look: _Look, ridge: Image.Image
) -> None:
    """Eyes, brows, mouth and nose, where the points are. ridge: the nose's pixels, which hide."""

    def place(xy: Array) -> Array:
        return camera.project(head.lift(xy))[:, :2]

    p, bare = head.points, image.copy()
    for eye, brow in zip(_EYES, _BROWS, strict=True):
        _paint(image, _eye(p[eye], look) + _brow(p[brow], look), place, zoom=8)
    _paint(image, _mouth(rng, p, look), place, zoom=8)
    image.paste(bare, mask=ridge)
    _paint(image, _nose(rng, p, look), place, zoom=8)


def _clutter(rng: Rng, size: Size) -> list[_Stroke]:
    """Stripes and shapes for the background, some of them like eyes, mouths and heads."""
    strokes = []
    if rng.random() < 0.3:  # stripes: a fence, a shelf, bricks
        step, turn = rng.uniform(6, 30), rng.uniform(0, np.pi)
        across, along = (np.array([np.cos(a), np.sin(a)]) for a in (turn, turn + np.pi / 2))
        colour = _ink(rng.random(3), rng.uniform(0.1, 0.7))
        for offset in np.arange(-160, 161, step):
            middle = np.array(size) / 2 + offset * across
            strokes.append(_Stroke(middle + np.outer((-160, 160), along), colour, step * 0.3))
    for _ in range(rng.integers(2, 10)):
        middle, radius = rng.random(2) * size, rng.uniform(4, 40) * rng.uniform(0.4, 1, 2)
        colour = _ink(rng.random(3), rng.uniform(0.3, 1))
        match rng.integers(4):
            case 0:
                corners = rng.normal(0, 1, (rng.integers(3, 6), 2))
                strokes.append(_Stroke(middle + corners * radius, colour))
            case 1:
                strokes.append(_Stroke(middle + _CIRCLE * radius, colour))
            case 2:  # like an eye
                size_of = rng.uniform(4, 10)
                strokes.append(
                    _Stroke(middle + _CIRCLE * (size_of, size_of / 2), (230, 225, 220, 255))
                )
                strokes.append(_Stroke(middle + _CIRCLE * size_of * 0.4, _ink(rng.random(3) * 0.4)))
            case _:  # like a mouth or a face
                face = _ink(_mix(rng, _SKINS, 0.05))
                strokes.append(_Stroke(middle + _CIRCLE * radius * (1, 1.3), face))
                strokes.append(_Stroke(middle + _CIRCLE * radius * (0.5, 0.12), (150, 60, 60, 255)))
    return strokes


def _body(rng: Rng, camera: _Camera, skin: Array, hair: _Hair, light: Array) -> list[_Stroke]:
    """Long hair behind, shoulders, neck and ears; in pixels. light: (3,), the mean on the face."""
    half_turned = camera.rotation * 0.5 + np.eye(3) * 0.5
    upright = _Camera(half_turned, camera.scale, camera.centre, np.inf)
    strokes = []

    def add(xy: Array, z: float, colour: Array, width: float = 0.0) -> None:
        xyz = np.column_stack([xy, np.full(len(xy), z)])
        strokes.append(_Stroke(upright.project(xyz)[:, :2], _ink(colour), width))

    def both_sides(right: Array) -> Array:
        return np.concatenate([right, right[::-1] * (-1, 1)])

    if hair.long:
        length, wide = rng.uniform(1.2, 3), rng.uniform(1.1, 1.5)
        tone = hair.colour * light * 0.8
        down = np.where(_CIRCLE[:, 1] > 0, length, 1.5)
        add(np.column_stack([_CIRCLE[:, 0] * wide, 0.2 + _CIRCLE[:, 1] * down]), -0.9, tone)
        for x in rng.uniform(-wide, wide, 14):
            lock = np.array([(x * 0.8, -0.6), (x, 0.2 + length * 0.7)])
            add(lock, -0.9, tone * rng.uniform(0.6, 1.4), camera.scale * 0.06)
    wide, top, neck = rng.uniform(1.7, 2.4), rng.uniform(1.95, 2.3), rng.uniform(0.5, 0.72)
    cloth = rng.random(3) * light
    add(both_sides(np.array([(0.5, top), (wide * 0.8, top + 0.45), (wide, 5)])), -0.8, cloth)
    column = both_sides(np.array([(neck, 0.9), (neck * 0.95, 1.6), (neck * 1.25, top + 0.1)]))
    for k in np.linspace(1, 0.15, 6):  # shaded to its sides, and under the chin
        part = column * (k, 1) + (0, 0.25 * (1 - k))
        add(part, -0.55, skin * light * (0.45 + 0.3 * (1 - k)))
    collar = [(0, top + rng.uniform(0.15, 0.4)), (neck * 1.3, top - 0.05), (wide * 0.8, top + 0.5)]
    add(both_sides(np.array([*collar, (wide, 5)])), -0.5, cloth)
    for sign in (-1, 1):  # the ears
        for k in (1.0, 0.6):
            rim = _CIRCLE * (0.14, 0.27) * k
            x, y = sign * 1.05 + rim[:, 0], 0.2 + rim[:, 1]
            xyz = np.column_stack([x, y, -0.55 - 0.25 * (abs(x) - 1)])
            shade = _ink(skin * light * k**0.6 * 0.85)
            strokes.append(_Stroke(camera.project(xyz)[:, :2], shade))
    return strokes


def _scene(rng: Rng, size: Size) -> Image.Image:
    """A blurred background."""
    rough = rng.random((*rng.integers(2, 9, 2), 3)) * rng.uniform(0.2, 1)
    rough += rng.uniform(0, 1 - rough.max())
    rough += rng.random() * (rough.mean(axis=2, keepdims=True) - rough)  # not always so colourful
    return Image.fromarray((rough * 255).astype(np.uint8)).resize(size, Image.Resampling.BICUBIC)


def _albedo(rng: Rng, u: Array, v: Array, skin: Array, hair: _Hair) -> tuple[Array, Array]:
    """(n, 3) colours of the head's pixels without light, 0..1, and (n,) which of them are hair."""
    side = abs(u)
    grain = 1 + rng.uniform(0.01, 0.05) * rng.standard_normal((len(u), 1), dtype=np.float32)
    colour = skin.astype(np.float32) * grain
    blush = rng.uniform(0, 0.35) * np.exp(-(((side - 0.52) / 0.25) ** 2) - ((v - 0.5) / 0.22) ** 2)
    tired = rng.uniform(0, 0.3) * np.exp(-(((side - 0.4) / 0.28) ** 2) - ((v - 0.05) / 0.14) ** 2)
    colour *= 1 - blush[:, None] * np.array((0, 0.6, 0.5), np.float32) - tired[:, None]
    angle = np.arctan2(u, v + 0.3) * 40 + v * 3
    strands = hair.strands[(angle * 2).astype(np.int32) % 512]
    if rng.random() < 0.25:  # a beard, or stubble
        edge = np.interp(side, (0, 0.3, 0.42, 0.6, 0.9, 1.1), (1.22, 1.15, 0.85, 0.8, 0.4, 0.2))
        beard = (v > edge + 0.05 * (strands - 1)) & (v > rng.choice([-9, 0.7, 1.1]))
        beard |= (side < 0.42) & (v > 0.74) & (v < 0.9) & (rng.random() < 0.8)
        dense = beard * rng.uniform(0.25, 0.9)
        tone = hair.natural * strands[:, None]
        colour += dense[:, None] * (tone - colour)
    hairy = v < hair.jags[np.rint((u - _HAIR_U[0]) * _PER_U).astype(np.int32)]
    colour[hairy] = hair.colour * strands[hairy, None]
    return colour, hairy


def _light(rng: Rng, normals: Array, camera: _Camera) -> Array:
    """(n, 3) float: the light on each vertex, colour by colour, about 1 where it is well lit."""
    turned = normals.reshape(-1, 3) @ camera.rotation.T
    key = np.array([rng.normal(0, 0.9), rng.normal(-0.5, 0.5), rng.uniform(0.35, 1.2)])
    key /= np.linalg.norm(key)
    rim = np.array([rng.choice([-1, 1]), rng.normal(0, 0.4), 0.1])
    half = key + np.array((0, 0, 1))
    half /= np.linalg.norm(half)
    ambient = rng.uniform(0.25, 0.6) * rng.normal(1, 0.08, 3)
    diffuse = (1.15 - ambient.mean()) * rng.normal(1, 0.07, 3) * rng.uniform(0.85, 1.15)
    soft = rng.uniform(0, 0.3)
    lit = ((turned @ key + soft) / (1 + soft)).clip(0)
    glint = rng.uniform(0, 0.35) * (turned @ half).clip(0) ** rng.uniform(12, 40)
    edge = rng.uniform(0, 0.5) * (rng.random() < 0.4) * (turned @ rim).clip(0) ** 2
    open_sky = 0.75 - 0.25 * turned[:, 1]  # less comes from below
    return np.asarray(
        ambient * open_sky[:, None] + diffuse * lit[:, None] + (glint + edge)[:, None] * np.ones(3)
    )


def _glasses(image: Image.Image, rng: Rng, head: _Head, camera: _Camera) -> bool:
    """Glasses on the face; whether they hide the eyes."""
    dark = rng.random() < 0.3
    rim, lens = _ink(rng.random(3) * 0.5), (200, 220, 235, 30)
    if dark:
        lens = _ink(rng.random(3) * 0.15, 0.95)
    radius = np.array([rng.uniform(0.29, 0.36), rng.uniform(0.2, 0.34)])
    shape = np.sign(_CIRCLE) * abs(_CIRCLE) ** rng.uniform(0.45, 1) * radius
    z = head.lift(head.points[27:28] + np.array((0, 0.03)))[0, 2] + 0.05

    def at(xy: Array, back: Array | float = 0.0) -> Array:
        xyz = np.column_stack([xy, z - 0.18 * xy[:, 0] ** 2 - back])
        return camera.project(xyz)[:, :2]

    thick = camera.scale * rng.uniform(0.02, 0.08)
    middles = [head.points[eye].mean(0) + np.array((0, 0.03)) for eye in _EYES]
    bridge = np.stack([middles[0] + (radius[0], -0.03), middles[1] - (radius[0], 0.03)])
    strokes = [_Stroke(at(bridge), rim, thick)]
    for middle, sign in zip(middles, (-1, 1), strict=True):
        ring = at(middle + shape)
        reflection = at(middle + shape * (0.15, 0.7) - (0.1, 0))
        strokes += [
            _Stroke(ring, lens),
            _Stroke(reflection, (255, 255, 255, rng.choice([0, 60]))),
            _Stroke(np.concatenate([ring, ring[:2]]), rim, thick),
        ]
        if sign * camera.rotation[0, 2] < 0.15:  # the far arm is behind the face
            arm = np.array([(middle[0] + sign * radius[0], middle[1] - 0.08), (sign * 1.02, 0.0)])
            strokes.append(_Stroke(at(arm, np.array([0, 0.55])), rim, thick))
    _paint(image, strokes, None, zoom=4)
    return dark


def _occluder(image: Image.Image, rng: Rng, points: Array, unit: float, skin: Array) -> Array:
    """A hand, a scarf or some object before the face; (68,) bool: the points that it hides."""
    aim = points[rng.integers(68)] + rng.normal(0, 0.3 * unit, 2)
    turn = rng.uniform(0, 2 * np.pi)
    axes = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]) * unit
    colour = rng.random(3)
    white: Colour = (255, 255, 255, 255)
    match rng.integers(3):
        case 0:  # a hand: a palm, and fingers
            shapes = [_Stroke(aim + (_CIRCLE * (0.5, 0.45) + (0.4, 0)) @ axes, white)]
            for y in np.linspace(-0.33, 0.33, 4):
                finger = np.array([(0.2, y), (y**2 * 2 - 0.65, y * 1.3)])
                shapes.append(_Stroke(aim + finger @ axes, white, 0.2 * unit))
                shapes.append(_Stroke(aim + (finger[1] + _CIRCLE * 0.1) @ axes, white))
            colour = skin * rng.uniform(0.6, 1)
        case 1:  # a scarf, or a mask over mouth and chin
            edge = np.linspace(points[2], points[14], 5) + rng.normal(0, 0.08 * unit, (5, 2))
            edge = _curve(edge)
            fall = np.array([0, unit * rng.uniform(1.9, 2.8)])
            shapes = [_Stroke(np.concatenate([edge, edge[::-1] + fall]), white)]
        case _:  # a book, a telephone, a cup
            box = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * rng.uniform(0.25, 0.7, 2)
            shapes = [_Stroke(aim + box @ axes, white)]
    cover = Image.new("RGB", image.size)
    _paint(cover, shapes, None, zoom=2)
    mask = cover.getchannel(0)
    fabric = rng.normal(1, 0.2, (*rng.integers(3, 24, 2), 1)).clip(0.4, 1.6) * colour * 255
    texture = Image.fromarray(fabric.clip(0, 255).astype(np.uint8))
    image.paste(texture.resize(image.size, Image.Resampling.BICUBIC), mask=mask)
    return _at_points(np.asarray(mask), points) > 127


def _at_points(values: Array, points: Array) -> Array:
    """(n,): the values (h, w) at the pixels nearest to the points; 0 outside."""
    h, w = values.shape
    x, y = np.rint(points).astype(int).T
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    return np.where(inside, values[y.clip(0, h - 1), x.clip(0, w - 1)], 0)


def _photograph(image: Image.Image, rng: Rng) -> Image.Image:
    """Blur, exposure and sensor noise; points stay where they are."""
    far = rng.random() < 0.25  # out of focus
    image = image.filter(
        ImageFilter.GaussianBlur(rng.uniform(0.7, 2)) if far else ImageFilter.BoxBlur(0.25)
    )
    if rng.random() < 0.12:
        image = image.convert("L").convert("RGB")
    grain = rng.integers(0, 256, (2, image.height, image.width, 1), dtype=np.uint8)
    noise = (grain[0].astype(np.float32) - grain[1]) * np.float32(rng.uniform(0.5, 7) / 104)
    contrast = rng.uniform(0.7, 1.15)
    pixels = np.asarray(image) * np.float32(contrast)
    pixels += noise + np.float32(128 * (1 - contrast) + rng.normal(0, 12))
    return Image.fromarray(pixels.clip(0, 255, out=pixels).astype(np.uint8))


# --- One face, many faces -----------------------------------------------------------------------


def draw(seed: int, index: int) -> Face:
    """Face `index` of `seed`, both 0 to 2**64 - 1; no other face has a say in it."""
    rng = np.random.Generator(np.random.Philox(key=[seed, index]))
    w, h = size = (int(rng.integers(160, 225)), int(rng.integers(160, 225)))
    camera, head, hair = _camera(rng, size), _head(rng, _person(rng)), _hair(rng)
    skin = _mix(rng, _SKINS, 0.03)

    # the head's mesh, and what each pixel of the head shows
    mesh = _mesh(head, hair, rng.uniform(1.05, 1.25))
    corners = camera.project(mesh.reshape(-1, 3))
    light = _light(rng, _normals(mesh), camera)
    values = np.column_stack([_UV.reshape(-1, 2), corners[:, 2], light]).astype(np.float32)
    at, values = _raster(corners, values, size)
    (u, v, depth), light = np.ascontiguousarray(values[:, :3].T), values[:, 3:]
    colour, hairy = _albedo(rng, u, v, skin, hair)

    # the points, and which of them the head itself or its hair hides
    placed = camera.project(head.lift(head.points)).round(3)
    placed[_JAW] = _contour(corners.reshape(mesh.shape), camera).round(3)
    points = placed[:, :2]
    front = np.full(h * w, -9, np.float32)
    front[at] = np.where(hairy, 9, depth)
    visible = placed[:, 2] > _at_points(front.reshape(h, w), points) - 0.15

    # the features are painted, all is lit, and the head set before what is behind it
    bare = np.zeros((h * w, 3), np.uint8)
    bare[at] = (colour * 255).clip(0, 255)
    ridge = np.zeros(h * w, np.uint8)
    ridge[at] = 255 * ((abs(u) < 0.1 + 0.15 * v) & (v < 0.66))
    painted = Image.fromarray(bare.reshape(h, w, 3))
    look = _look(rng, skin, hair, camera.scale)
    _features(painted, rng, head, camera, look, Image.fromarray(ridge.reshape(h, w)))
    flesh = np.asarray(painted).reshape(-1, 3)[at]
    np.copyto(flesh, bare[at], where=hairy[:, None])
    scene = _scene(rng, size)
    mean_light = light.mean(0) if len(light) else np.ones(3)
    behind = _clutter(rng, size) + _body(rng, camera, skin, hair, mean_light)
    _paint(scene, behind, None, zoom=2)
    pixels = np.array(scene)
    pixels.reshape(-1, 3)[at] = (flesh * light).clip(0, 255)
    image = Image.fromarray(pixels)

    if rng.random() < 0.2 and _glasses(image, rng, head, camera):
        visible[_EYES[0]] = visible[_EYES[1]] = False
    if rng.random() < 0.18:
        visible &= ~_occluder(image, rng, points, camera.scale, skin)
    side = 2 * camera.scale * rng.lognormal(0.02, 0.06)
    middle = camera.centre + rng.normal(0, 0.035, 2) * side
    x0, y0, x1, y1 = np.concatenate([middle - side / 2, middle + side / 2]).round(3).tolist()
    quality = int(rng.integers(45, 96))
    return Face(_photograph(image, rng), points, visible, (x0, y0, x1, y1), quality)


def read(out: Path, count: int, seed: int) -> Iterator[dict[str, Any]]:
    """Draw `count` faces into `out`, one as each record is asked for."""
    out.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        face = draw(seed, index)
        name = f"{index:06d}"
        path = out / f"{name}.jpg"
        part = path.with_name(path.name + ".part")
        try:
            face.image.save(part, "JPEG", quality=face.quality)
            os.replace(part, path)
        finally:
            part.unlink(missing_ok=True)
        yield {
            "image": f"{out}/{name}.jpg",
            "id": name,
            "group": name,
            "size": list(face.image.size),
            "box": list(face.box),
            "box_source": "detector:synth",
            "points": face.points.tolist(),
            "visible": face.visible.astype(int).tolist(),
            "scheme": SCHEME,
            "split": "train",
        }
