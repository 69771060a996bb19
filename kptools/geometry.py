"""Matrices and boxes: the one home of the pixel convention.

Records hold pixels whose centres are whole numbers (file frame). Every matrix here acts in
continuous coordinates, whose origin is the outer corner of the top-left pixel, so that scaling,
mirroring and resampling are plain arithmetic. This module adds the half pixel and takes it off
again; nothing else in the project does.

A matrix is a float64 array of shape (2, 3), [[a, b, tx], [c, d, ty]], applied to columns (x, y, 1).
"""

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kptools.units import Box, Degrees, Fraction, Pixels, Radians, Size

Matrix: TypeAlias = NDArray[np.float64]  # (2, 3), continuous to continuous
Points: TypeAlias = NDArray[np.float64]  # (K, 2), NaN where not annotated

IDENTITY: Matrix = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def translation(dx: Pixels, dy: Pixels) -> Matrix:
    """(2, 3): continuous coordinates moved by (dx, dy)."""
    return np.array([[1.0, 0.0, dx], [0.0, 1.0, dy]])


def scaling(sx: float, sy: float) -> Matrix:
    """(2, 3): continuous coordinates times (sx, sy), about the corner of the picture."""
    return np.array([[sx, 0.0, 0.0], [0.0, sy, 0.0]])


def rotation(angle: Radians) -> Matrix:
    """Counter-clockwise as seen, with y down."""
    cos, sin = math.cos(angle), math.sin(angle)
    return np.array([[cos, sin, 0.0], [-sin, cos, 0.0]])


def compose(*matrices: Matrix) -> Matrix:
    """The matrix that applies the last argument first, as in a product."""
    result = matrices[-1]
    for m in reversed(matrices[:-1]):
        product = m[:, :2] @ result
        product[:, 2] += m[:, 2]
        result = product
    return result


def invert(m: Matrix) -> Matrix:
    """(2, 3): the map back; ZeroDivisionError where there is none."""
    (a, b, x), (c, d, y) = m.tolist()
    scale = 1 / (a * d - b * c)
    a, b, c, d = d * scale, -b * scale, -c * scale, a * scale
    return np.array([[a, b, -(a * x + b * y)], [c, d, -(c * x + d * y)]])


def zoom(m: Matrix) -> float:
    """How many times larger lengths become: the root of the factor of areas."""
    (a, b, _), (c, d, _) = m.tolist()
    return math.sqrt(abs(a * d - b * c))


def about(m: Matrix, x: Pixels, y: Pixels) -> Matrix:
    """The same map with (x, y), continuous, as its origin."""
    return compose(translation(x, y), m, translation(-x, -y))


def similarity(source: Points, target: Points) -> Matrix:
    """The turn, scale and move, continuous, that brings `source` nearest to `target` in the mean
    square (Umeyama, 1991). (K, 2) and (K, 2), file frame; a point that is NaN in either has no
    part. Of a single point, or of points in one place, the move alone."""
    known = np.isfinite(source).all(axis=1) & np.isfinite(target).all(axis=1)
    if not known.any():
        return IDENTITY.copy()
    centre_s, centre_t = source[known].mean(axis=0), target[known].mean(axis=0)
    s, t = source[known] - centre_s, target[known] - centre_t
    spread = float((s * s).sum())
    a, b = 1.0, 0.0
    if spread > 1e-12:
        a = float((s * t).sum()) / spread
        b = float((s[:, 0] * t[:, 1] - s[:, 1] * t[:, 0]).sum()) / spread
    linear = np.array([[a, -b], [b, a]])
    move = (centre_t + 0.5) - linear @ (centre_s + 0.5)
    return np.column_stack([linear, move])


def aligned(shapes: Points, rounds: int = 4) -> tuple[NDArray[Any], NDArray[Any]]:
    """Shapes (N, K, 2), each whole and of more than one place, brought by turn, scale and move onto
    their mean (generalised Procrustes analysis; Gower, 1975): the shapes (N, K) and the mean (K,),
    complex, about the origin, the mean of a radius near 1."""
    shape = shapes @ np.array([1, 1j])  # (N, K): a similarity is a complex factor
    shape -= shape.mean(axis=1, keepdims=True)
    squares = (abs(shape) ** 2).sum(axis=1)
    mean = shape[0]
    for _ in range(rounds):
        mean = mean / np.sqrt((abs(mean) ** 2).mean())
        found = shape * ((shape.conj() @ mean) / squares)[:, None]
        mean = found.mean(axis=0)
    return found, mean


def from_complex(shape: NDArray[Any]) -> NDArray[np.float64]:
    """(..., K) complex to (..., 2 K), x and y in turn."""
    pairs = np.stack([shape.real, shape.imag], axis=-1)
    return pairs.reshape(*shape.shape[:-1], -1)


def transform(m: Matrix, points: Points) -> Points:
    """Map pixels to pixels, both with whole numbers at the centres. (..., 2) to (..., 2)."""
    moved: Points = (points + 0.5) @ m[:, :2].T + (m[:, 2] - 0.5)
    return moved


def to_continuous(m: Matrix, point: Sequence[float]) -> NDArray[np.float64]:
    """A pixel of the file through `m` to continuous coordinates. (2,)."""
    moved: NDArray[np.float64] = m[:, :2] @ (np.asarray(point) + 0.5) + m[:, 2]
    return moved


def to_unit(m: Matrix, points: Points, size: Size) -> Points:
    """File pixels through `m` (file to input) to fractions of the input. (K, 2) to (K, 2)."""
    unit: Points = ((points + 0.5) @ m[:, :2].T + m[:, 2]) / size
    return unit


def unit_to_map(unit: Points, size: tuple[float, float]) -> Points:
    """Fractions of the input to pixels of a map of this size, whole at the centres."""
    return unit * size - 0.5


def map_to_unit(points: Points, size: tuple[float, float]) -> Points:
    """The inverse of `unit_to_map`."""
    return (points + 0.5) / size


def map_to_file(m: Matrix, input_size: Size, map_size: tuple[float, float]) -> Matrix:
    """The matrix from a heatmap's pixels to the file's, both whole at the centres; `m` is file to
    input, continuous."""
    sx, sy = input_size[0] / map_size[0], input_size[1] / map_size[1]
    return centred(compose(invert(m), scaling(sx, sy)))


def centred(m: Matrix) -> Matrix:
    """The same map written for pixels whose centres are whole numbers, as files hold it."""
    return compose(translation(-0.5, -0.5), m, translation(0.5, 0.5))


def uncentred(m: Matrix) -> Matrix:
    """The inverse of `centred`."""
    return compose(translation(0.5, 0.5), m, translation(-0.5, -0.5))


def from_list(points: Sequence[Sequence[float] | None]) -> Points:
    """Points of a record as (K, 2) float64; NaN where null."""
    nothing = (math.nan, math.nan)
    known = [nothing if p is None else p for p in points]
    flat = np.fromiter(chain.from_iterable(known), np.float64, 2 * len(known))
    return flat.reshape(-1, 2)


def to_list(points: Points) -> list[list[float] | None]:
    """The inverse of `from_list`."""
    pairs: list[list[float]] = points.tolist()
    return [p if all(map(math.isfinite, p)) else None for p in pairs]


def whole_image(size: Size) -> Box:
    """The box of the whole image: its outer edges, in the file frame."""
    width, height = size
    return (-0.5, -0.5, width - 0.5, height - 0.5)


def from_edges(x0: Pixels, y0: Pixels, x1: Pixels, y1: Pixels) -> Box:
    """A box of the file frame from continuous edges, such as a detector's."""
    return (float(x0) - 0.5, float(y0) - 0.5, float(x1) - 0.5, float(y1) - 0.5)


def box_of_points(points: Points) -> Box:
    """The tight box of the annotated points; at least a pixel wide and high."""
    x0, y0 = np.nanmin(points, axis=0).tolist()
    x1, y1 = np.nanmax(points, axis=0).tolist()
    grow_x, grow_y = max(0.0, 1 - (x1 - x0)) / 2, max(0.0, 1 - (y1 - y0)) / 2
    return (x0 - grow_x, y0 - grow_y, x1 + grow_x, y1 + grow_y)


def side(box: Box) -> Pixels:
    """sqrt(box area): the unit of shifts and margins."""
    return math.sqrt((box[2] - box[0]) * (box[3] - box[1]))


def overlap(a: Box, b: Box) -> float:
    """Of two boxes, the area that they share over that of both: intersection over union."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (side(a) ** 2 + side(b) ** 2 - shared)


def centre(box: Box) -> tuple[Pixels, Pixels]:
    """The box's centre, continuous."""
    return ((box[0] + box[2]) / 2 + 0.5, (box[1] + box[3]) / 2 + 0.5)


def upright(box: Box, roll: Degrees) -> Box:
    """The box that a face turned by `roll` has when it is turned upright about the box's centre:
    where it lies rather on its side, width and height change places."""
    if abs(math.cos(math.radians(roll))) >= math.sqrt(0.5) - 1e-9:
        return box
    x0, y0, x1, y1 = box
    grow = ((y1 - y0) - (x1 - x0)) / 2  # of the width, which the height loses
    return (x0 - grow, y0 + grow, x1 + grow, y1 - grow)


def half_extent(box: Box, margin: Fraction) -> tuple[Pixels, Pixels]:
    """Half the width and height of the box with its margin on each side."""
    grow = margin * side(box)
    return ((box[2] - box[0]) / 2 + grow, (box[3] - box[1]) / 2 + grow)


def enlarged(box: Box, margin: Fraction) -> Box:
    """The box with its margin on each side: what a network's input shows."""
    grow = margin * side(box)
    return (box[0] - grow, box[1] - grow, box[2] + grow, box[3] + grow)


def distance_outside(points: Points, box: Box, margin: Fraction) -> NDArray[np.float64]:
    """How far (K,) the points lie outside the box and its margin, pixels along the axis where it is
    most; negative within, NaN where not known."""
    outside: NDArray[np.float64] = np.abs(points + 0.5 - centre(box)) - half_extent(box, margin)
    furthest: NDArray[np.float64] = outside.max(axis=1)
    return furthest


def rectangle_to_size(
    centre: tuple[Pixels, Pixels], half: tuple[Pixels, Pixels], size: Size
) -> Matrix:
    """The rectangle of that centre and half extent onto [0, W] x [0, H]; each axis stretched."""
    sx, sy = size[0] / (2 * half[0]), size[1] / (2 * half[1])
    return np.array(
        [[sx, 0.0, size[0] / 2 - sx * centre[0]], [0.0, sy, size[1] / 2 - sy * centre[1]]]
    )


def box_to_input(box: Box, margin: Fraction, size: Size) -> Matrix:
    """File to network input: the box with its margin, stretched to the input."""
    return rectangle_to_size(centre(box), half_extent(box, margin), size)


def part(box: Box, fractions: Box) -> Box:
    """A part of the box (left, top, right, bottom), which is given in fractions of it."""
    x0, y0, x1, y1 = box
    left, top, right, bottom = fractions
    width, height = x1 - x0, y1 - y0
    return (x0 + left * width, y0 + top * height, x0 + right * width, y0 + bottom * height)


def denormalize(shape: Points, box: Box) -> Points:
    """A shape in fractions of a box, (0, 0) its top-left corner, placed in this box. (K, 2)."""
    x0, y0, x1, y1 = box
    placed: Points = shape * (x1 - x0, y1 - y0) + (x0, y0)
    return placed


def normalize(points: Points, box: Box) -> Points:
    """The inverse of `denormalize`: points as fractions of the box. (K, 2)."""
    x0, y0, x1, y1 = box
    shape: Points = (points - (x0, y0)) / (x1 - x0, y1 - y0)
    return shape
