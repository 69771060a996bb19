"""The shape of a head: the mean face and what varies, who it is, its surface and its mesh."""

import json
from pathlib import Path

import numpy as np

from kptools.datasets.synthetic import Array, Rng
from kptools.datasets.synthetic.surface import Hair

SCHEME = "ibug68"


JAW, MOUTH = slice(0, 17), slice(48, 68)
BROWS, EYES = (slice(17, 22), slice(22, 27)), (slice(36, 42), slice(42, 48))  # image-left first

# Aggregate statistics of annotated shapes (tests/benchmarks/shapes.py): where annotators put the
# points, how these vary, and how much further down and back the edge of the jaw is, seen from the
# side, than its outline, seen from the front
_SHAPE = json.loads(Path(__file__).with_name("shape.json").read_text())
_MEAN = np.array(_SHAPE["mean"])  # (68, 3)
_MODES = np.array(_SHAPE["modes"])  # (25, 68, 2), each of one standard deviation
_EDGE = np.array(_SHAPE["edge"])  # (17, 2): y and z
MEAN = _MEAN[:, :2]
_TIP = MEAN[30]  # of the nose
_LOW_JAW = np.clip(MEAN[JAW, 1] / 1.54, 0, 1) ** 2  # (17,): 0 at the ears, 1 at the chin
_LOWER_LIP = [55, 56, 57, 58, 59, 65, 66, 67]


def _random_shape(rng: Rng) -> Array:
    """(68, 2): somebody with an expression; a little more varied than the annotated ones."""
    p = MEAN + np.tensordot(1.1 * rng.normal(size=len(_MODES)).clip(-2.7, 2.7), _MODES, 1)
    if rng.random() < 0.15:
        _open_mouth(p, rng.uniform(0.2, 1))
    lids = np.full(2, rng.uniform(0.1, 0.6) if rng.random() < 0.06 else 1.0)
    lids[rng.integers(2)] *= 0.2 if rng.random() < 0.02 else 1  # a wink
    for eye, lid in zip(EYES, lids, strict=True):
        upper, lower = p[eye][1:3], p[eye][[5, 4]]
        p[eye.start + 1 : eye.start + 3, 1] = lower[:, 1] - lid * (lower - upper)[:, 1].clip(0.012)
    for lips in ([61, 67], [62, 66], [63, 65]):  # which touch, and do not cross
        if p[lips[0], 1] > p[lips[1], 1]:
            p[lips, 1] = p[lips, 1].mean()
    return p


def _open_mouth(p: Array, amount: float) -> None:
    p[_LOWER_LIP, 1] += 0.3 * amount * np.array([0.6, 1, 1, 1, 0.6, 1, 1, 1])
    p[[48, 54, 60, 64], 1] += 0.1 * amount
    p[JAW, 1] += 0.24 * amount * _LOW_JAW


# The grid on which the depth of a head's bumps is known: x, y in the head frame
_GRID_X, _GRID_Y = np.linspace(-1.6, 1.6, 97), np.linspace(-1.8, 2.2, 121)


class Head:
    """The surface of a face: z of (x, y), a smooth shell with bumps placed by the points."""

    def __init__(self, points: Array, bumps: Array) -> None:
        """points: (68, 2), head frame; bumps: (n, 5): x, y, radius in x, radius in y, height."""
        self.points = points
        x, y, rx, ry, height = bumps.T[:, :, None]
        across, down = np.exp(-(((_GRID_X - x) / rx) ** 2)), np.exp(-(((_GRID_Y - y) / ry) ** 2))
        self._bumps = (height * down).T @ across  # (121, 97)

    def lift(self, xy: Array) -> Array:
        """(n, 3): the points of the surface over (n, 2)."""
        x, y = xy[:, 0], xy[:, 1]
        shell = 0.62 - 0.95 * abs(x) ** 2.3 - 0.1 * (y - 0.5) ** 2
        return np.column_stack([x, y, shell + _bilinear(self._bumps, x, y)])


def _bilinear(grid: Array, x: Array, y: Array) -> Array:
    """(n,): the values between those of the grid (121, 97)."""
    column = ((x - _GRID_X[0]) / (_GRID_X[1] - _GRID_X[0])).clip(0, len(_GRID_X) - 1.001)
    row = ((y - _GRID_Y[0]) / (_GRID_Y[1] - _GRID_Y[0])).clip(0, len(_GRID_Y) - 1.001)
    i, j = row.astype(np.intp), column.astype(np.intp)
    s, t = row - i, column - j
    upper = grid[i, j] * (1 - t) + grid[i, j + 1] * t
    lower = grid[i + 1, j] * (1 - t) + grid[i + 1, j + 1] * t
    return np.asarray(upper * (1 - s) + lower * s)


def _features(p: Array) -> Array:
    """(20, 5): the bumps of a face with points p (68, 2)."""
    tip, chin, mouth = p[30], p[8], p[MOUTH].mean(0)
    return np.array(
        [
            (*(0.7 * p[27] + 0.3 * tip), 0.1, 0.25, 0.13),  # the bridge of the nose, ...
            (*(0.35 * p[27] + 0.65 * tip), 0.13, 0.22, 0.2),
            (tip[0], tip[1] + 0.03, 0.15, 0.13, 0.26),  # ... its tip and wings
            (p[31, 0] * 0.85, p[31, 1] - 0.05, 0.09, 0.09, 0.12),
            (p[35, 0] * 0.85, p[35, 1] - 0.05, 0.09, 0.09, 0.12),
            (*mouth, 0.4, 0.25, 0.1),
            (*((p[57] + chin) / 2 - (0, 0.1)), 0.25, 0.08, -0.06),
            (*(chin - (0, 0.16)), 0.24, 0.15, 0.12),
            *((*p[eye].mean(0), 0.25, 0.17, -0.15) for eye in EYES),  # the socket, ...
            *((*p[eye].mean(0), 0.14, 0.1, 0.07) for eye in EYES),  # ... and the ball in it
            *((*p[brow].mean(0), 0.32, 0.11, 0.07) for brow in BROWS),
            (-0.6, 0.42, 0.26, 0.24, 0.09),  # the cheeks
            (0.6, 0.42, 0.26, 0.24, 0.09),
        ]
    )


_REACH = 0.2  # head units: how far a correction of the surface at a point reaches


def _corrections(p: Array) -> Array:
    """(68, 5): bumps that bring the surface to the measured depth of each point."""
    return np.column_stack([p, np.full((68, 2), _REACH), _HEIGHTS])


def _correction_heights() -> Array:
    """(68,): those with which the mean face's points lie as deep as measured."""
    missing = _MEAN[:, 2] - Head(MEAN, _features(MEAN)).lift(MEAN)[:, 2]
    far = ((MEAN[:, None] - MEAN) ** 2).sum(-1)
    overlap = np.exp(-far / _REACH**2)
    return np.asarray(np.linalg.solve(overlap + 0.05 * np.eye(68), missing))


_HEIGHTS = _correction_heights()


def random_head(rng: Rng) -> Head:
    p = _random_shape(rng)
    features = _features(p)
    features[:, 4] *= rng.lognormal(0, 0.2, len(features)).clip(0.6, 1.6)
    return Head(p, np.concatenate([features, _corrections(p)]))


def curve(points: Array, pieces: int = 5) -> Array:
    """A Catmull-Rom curve through (n, 2) points; every `pieces`-th point of it is one of them."""
    before, after = 2 * points[:1] - points[1:2], 2 * points[-1:] - points[-2:-1]
    around = np.concatenate([before, points, after])
    a, b, c, d = (around[i : len(around) - 3 + i, None] for i in range(4))
    t = (np.arange(pieces) / pieces)[:, None]
    curved = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([curved.reshape(-1, 2), points[-1:]])


# The mesh is rings round the tip of the nose. Ring 10 is the rim: the outline of the jaw and, over
# the forehead, the hair line. Ring 11 is the edge of the jaw. Those beyond go back over the skull
# and under the jaw.
RIM = 10
JAW_SPOKES = slice(0, 33, 2)  # those that end in the 17 jaw points
_SPREAD = np.linspace(0, 1, RIM + 1)[:, None, None]  # from tip to rim
_UV_BEYOND = np.array([1.1, 1.25, 1.45, 1.7])[:, None, None]  # in (u, v) they just go on
# Size of the rim in x and y, and how far back it goes, for each ring beyond it
_SKULL = [(1.07, 1.08, -0.22), (1.1, 1.14, -0.6), (1.0, 1.1, -1.1), (0.5, 0.6, -1.6)]
_UNDER = [(1, 1, 0), (0.9, 0.97, -0.2), (0.7, 0.9, -0.5), (0.4, 0.8, -0.9)]
_SKULL_CENTRE = (0, -0.2, -0.7)
_FOREHEAD = np.linspace(0, np.pi, 25)[1:-1, None]


def _rim(jaw: Array, forehead: float) -> Array:
    """(56, 2): from the 17 jaw points (every second one, from 0) and back over the top."""
    centre, arm = (jaw[16] + jaw[0]) / 2, (jaw[16] - jaw[0]) / 2
    cos, sin = np.cos(_FOREHEAD), np.sin(_FOREHEAD)
    arc = centre + arm * np.sign(cos) * abs(cos) ** 0.8 + np.array([0, -forehead]) * sin**0.9
    return np.concatenate([curve(jaw, pieces=2), arc])


UV = _TIP + np.concatenate([_SPREAD, _UV_BEYOND]) * (_rim(MEAN[JAW], 1.15) - _TIP)  # (15, 56, 2)


_RINGS, _SPOKES = UV.shape[:2]


def _triangles() -> Array:
    """(T, 3) int: the vertices (ring * spokes + spoke) of each triangle of the mesh."""
    ring, spoke = np.mgrid[: _RINGS - 1, :_SPOKES]
    a, b = ring * _SPOKES + spoke, ring * _SPOKES + (spoke + 1) % _SPOKES
    c, d = a + _SPOKES, b + _SPOKES
    return np.stack([np.stack([a, b, c], -1), np.stack([b, d, c], -1)]).reshape(-1, 3)


TRIANGLES = _triangles()


def _jaw_edge() -> Array:
    """(spokes, 3): from the rim to the edge of the jaw; over the forehead it does not matter."""
    below = np.column_stack([np.zeros(33), curve(_EDGE, pieces=2)])
    share = np.linspace(0, 1, _SPOKES - 33)[:, None]
    return np.concatenate([below, below[-1] + share * (below[0] - below[-1])])


_TO_EDGE = _jaw_edge()


def mesh_of(head: Head, hair: Hair, forehead: float) -> Array:
    """(rings, spokes, 3) float64: the head's vertices, head frame. forehead: its height."""
    rim, tip = _rim(head.points[JAW], forehead), head.points[30]
    face = head.lift((tip + _SPREAD * (rim - tip)).reshape(-1, 2)).reshape(RIM + 1, _SPOKES, 3)
    top = np.clip((0.35 - rim[:, 1]) / 0.5, 0, 1)[:, None]  # 1 over the forehead, 0 at the jaw
    rings = [*face]
    for skull, under in zip(_SKULL, _UNDER, strict=True):
        size = top * (*skull[:2], 1) + (1 - top) * (*under[:2], 1)
        back = top * (0, 0, skull[2]) + (1 - top) * (0, 0, under[2])
        rings.append(face[-1] * size + back + (1 - top) * _TO_EDGE)
    mesh = np.stack(rings)
    hairy = np.clip((hair.line(UV[..., 0]) + 0.1 - UV[..., 1]) / 0.25, 0, 1)
    outward = mesh - _SKULL_CENTRE
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    return np.asarray(mesh + hair.volume * hairy[..., None] * outward)


def normals_of(mesh: Array) -> Array:
    """(rings, spokes, 3): unit normals that look outward."""
    along = np.gradient(mesh, axis=0)
    around = np.roll(mesh, -1, axis=1) - np.roll(mesh, 1, axis=1)
    normals = np.cross(around, along)
    normals[0] = normals[1].mean(0)
    return np.asarray(normals / (np.linalg.norm(normals, axis=-1, keepdims=True) + 1e-9))
