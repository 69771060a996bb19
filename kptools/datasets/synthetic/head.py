"""The shape of a head: points of the mean face, who it is and how they look, surface and mesh."""

from dataclasses import dataclass

import numpy as np

from kptools.datasets.synthetic import Array, Rng
from kptools.datasets.synthetic.surface import Hair
from kptools.schemes import catalog

SCHEME = "ibug68"


JAW, NOSE, MOUTH = slice(0, 17), slice(27, 36), slice(48, 68)


BROWS, EYES = (slice(17, 22), slice(22, 27)), (slice(36, 42), slice(42, 48))  # image-left first
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
    swap = catalog.get(SCHEME).swap
    assert swap is not None
    mean = np.zeros((68, 2))
    for index, (x, y) in _HALF.items():
        mean[index], mean[swap[index]] = (x, y), (-x if x else 0.0, y)
    return mean


MEAN = _mean_face()
_TIP = MEAN[30]  # of the nose
_LOW_JAW = np.clip(MEAN[JAW, 1] / 1.56, 0, 1) ** 2  # (17,): 0 at the ears, 1 at the chin


def _random_identity(rng: Rng) -> Array:
    """(68, 2): the mean face made somebody's."""
    (
        cheeks, jaw_width, chin, eye_width, eye_height, eyes_apart, eye_slant,
        brow_width, brow_arch, brow_low, brow_slant, nose_width, nose_length,
        mouth_width, mouth_height, mouth_low, length,
    ) = np.clip(rng.normal(size=17), -2.2, 2.2)  # fmt: skip
    p = MEAN.copy()

    def scale(part: slice, x: float, y: float, about: Array | None = None) -> None:
        middle = p[part].mean(0) if about is None else about
        p[part] = middle + (p[part] - middle) * (x, y)

    p[JAW, 0] *= 1 + 0.25 * cheeks * _LOW_JAW * (1 - _LOW_JAW) + 0.04 * jaw_width
    p[JAW, 1] += 0.07 * chin * _LOW_JAW
    for side, eye, brow in zip((-1, 1), EYES, BROWS, strict=True):
        scale(eye, 1 + 0.08 * eye_width, 1 + 0.16 * eye_height)
        p[eye, 0] += side * 0.025 * eyes_apart
        p[eye, 1] += 0.12 * eye_slant * (abs(p[eye, 0]) - 0.42)
        scale(brow, 1 + 0.06 * brow_width, 1 + 0.35 * brow_arch)
        p[brow, 1] += 0.04 * brow_low + 0.12 * brow_slant * (abs(p[brow, 0]) - 0.48)
    scale(NOSE, 1 + 0.13 * nose_width, 1 + 0.08 * nose_length, about=MEAN[27])
    scale(MOUTH, 1 + 0.09 * mouth_width, 1 + 0.2 * mouth_height)
    p[MOUTH, 1] += 0.045 * mouth_low
    p[17:, 1] *= 1 + 0.05 * length
    return p


def _express(rng: Rng, p: Array) -> None:
    """Give the face p (68, 2) an expression."""
    opened = min(max(0.0, rng.normal(0.1, 0.5)), 1.2) * (rng.random() < 0.6)
    smile = min(max(-0.7, rng.normal(0.15, 0.55)), 1.3)
    aside = abs(p[MOUTH, 0]) / 0.385  # 1 at the corners of the mouth
    p[MOUTH, 0] *= 1 + 0.2 * smile - 0.13 * opened
    p[MOUTH, 1] -= 0.09 * smile * (aside**2 - 0.5)
    p[[55, 56, 57, 58, 59, 65, 66, 67], 1] += 0.3 * opened * np.array([0.6, 1, 1, 1, 0.6, 1, 1, 1])
    p[[48, 54, 60, 64], 1] += 0.1 * opened
    p[JAW, 1] += 0.24 * opened * _LOW_JAW
    raised, lean = 0.06 * rng.normal(), 0.025 * rng.normal()
    lids = np.full(2, rng.normal(0.95, 0.3)).clip(0.12, 1.35)
    lids[0] *= 0.2 if rng.random() < 0.03 else 1  # a wink
    for side, eye, brow, lid in zip((-1, 1), EYES, BROWS, lids, strict=True):
        p[brow, 1] -= raised + lean * side
        lower = p[eye, 1].max()
        p[eye, 1] = lower + (p[eye, 1] - lower) * np.where(p[eye, 1] < lower - 0.05, lid, 1)


@dataclass(frozen=True, slots=True)
class Head:
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


def random_head(rng: Rng) -> Head:
    p = _random_identity(rng)
    _express(rng, p)
    p += rng.normal(0, 0.006, p.shape)
    tip, chin, mouth = p[30], p[8], p[MOUTH].mean(0)
    bumps = np.array(
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
    bumps[:, 4] *= rng.lognormal(0, 0.2, len(bumps)).clip(0.6, 1.6)
    return Head(p, bumps)


def curve(points: Array, pieces: int = 5) -> Array:
    """A Catmull-Rom curve through (n, 2) points; every `pieces`-th point of it is one of them."""
    before, after = 2 * points[:1] - points[1:2], 2 * points[-1:] - points[-2:-1]
    around = np.concatenate([before, points, after])
    a, b, c, d = (around[i : len(around) - 3 + i, None] for i in range(4))
    t = (np.arange(pieces) / pieces)[:, None]
    curved = b + t / 2 * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return np.concatenate([curved.reshape(-1, 2), points[-1:]])


# The mesh is rings round the tip of the nose. Ring 10 is the rim: the jaw line and, over the
# forehead, the hair line. Those beyond it go back over the skull and under the jaw.
RIM = 10
JAW_SPOKES = slice(0, 33, 2)  # those that end in the 17 jaw points
_SPREAD = np.linspace(0, 1, RIM + 1)[:, None, None]  # from tip to rim
_UV_BEYOND = np.array([1.1, 1.25, 1.45, 1.7])[:, None, None]  # in (u, v) they just go on
# Size of the rim in x and y, and how far back it goes, for each ring beyond it
_SKULL = [(1.07, 1.08, -0.22), (1.1, 1.14, -0.6), (1.0, 1.1, -1.1), (0.5, 0.6, -1.6)]
_UNDER = [(0.975, 0.99, -0.12), (0.86, 0.95, -0.4), (0.7, 0.9, -0.7), (0.4, 0.8, -1.1)]
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


def mesh_of(head: Head, hair: Hair, forehead: float) -> Array:
    """(rings, spokes, 3) float64: the head's vertices, head frame. forehead: its height."""
    rim, tip = _rim(head.points[JAW], forehead), head.points[30]
    face = head.lift((tip + _SPREAD * (rim - tip)).reshape(-1, 2)).reshape(RIM + 1, _SPOKES, 3)
    top = np.clip((0.35 - rim[:, 1]) / 0.5, 0, 1)[:, None]  # 1 over the forehead, 0 at the jaw
    rings = [*face]
    for skull, under in zip(_SKULL, _UNDER, strict=True):
        size = top * (*skull[:2], 1) + (1 - top) * (*under[:2], 1)
        back = top * (0, 0, skull[2]) + (1 - top) * (0, 0, under[2])
        rings.append(face[-1] * size + back)
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
