"""From the head frame to pixels: the camera, the mesh in the picture, the light on it."""

from dataclasses import dataclass

import numpy as np

from kptools.datasets.synthetic import Array, Rng
from kptools.datasets.synthetic.head import JAW, JAW_SPOKES, MEAN, RIM, TRIANGLES
from kptools.units import Degrees, Size

_PIVOT = np.array([0, 0.62, -0.2])  # the head turns about it; head frame


@dataclass(frozen=True, slots=True)
class Camera:
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

    def pixels(self, xy: Array, z: Array | float) -> Array:
        """(n, 2) pixels of (n, 2) at one z, or each at its own."""
        return self.project(np.column_stack([xy, np.full(len(xy), z)]))[:, :2]


def rotation(yaw: Degrees, pitch: Degrees, roll: Degrees) -> Array:
    """(3, 3)."""
    (cy, cp, cr), (sy, sp, sr) = (f(np.radians([yaw, pitch, roll])) for f in (np.cos, np.sin))
    turn = np.array([(cy, 0, sy), (0, 1, 0), (-sy, 0, cy)])
    nod = np.array([(1, 0, 0), (0, cp, sp), (0, -sp, cp)])
    tilt = np.array([(cr, sr, 0), (-sr, cr, 0), (0, 0, 1)])
    return np.asarray(tilt @ nod @ turn)


def random_camera(rng: Rng, size: Size) -> Camera:
    yaw, pitch, roll = rng.normal(0, 0.45, 3).clip(-1.1, 1.1) * (50, 28, 25) + (0, 6, 0)
    centre = np.array(size) * rng.normal((0.5, 0.53), (0.11, 0.09))
    face_width = rng.uniform(0.45, 0.75) * min(size)
    distance = rng.uniform(9, 40) if rng.random() < 0.7 else np.inf
    return Camera(rotation(yaw, pitch, roll), face_width / 2, centre, distance)


def rasterise(corners: Array, values: Array, size: Size) -> tuple[Array, Array]:
    """Draw the mesh, far triangles first: (n,) flat pixel indices, (n, C) values there.

    corners: (V, 3) pixels and depth; values: (V, C), interpolated over each triangle.
    """
    w, h = size
    a, b, c = (corners[TRIANGLES[:, i]] for i in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    facing = np.flatnonzero(area > 1e-9)
    order = facing[np.argsort((a + b + c)[facing, 2], kind="stable")]
    a, b, c, area, triangles = a[order], b[order], c[order], area[order], TRIANGLES[order]

    # every pixel (x, y) of every triangle's (t) bounding rectangle
    low = np.ceil(np.minimum(np.minimum(a, b), c)[:, :2]).clip(0, (w, h)).astype(np.int32)
    high = np.floor(np.maximum(np.maximum(a, b), c)[:, :2]).clip(-1, (w - 1, h - 1))
    span = (high.astype(np.int32) - low + 1).clip(0)
    count = span[:, 0] * span[:, 1]
    start = (np.cumsum(count) - count).astype(np.int32)
    t = np.repeat(np.arange(len(order), dtype=np.int32), count)
    row, column = np.divmod(np.arange(len(t), dtype=np.int32) - start[t], span[:, 0][t])
    x, y = column + low[:, 0][t], row + low[:, 1][t]

    # its barycentric coordinates (how far towards corner b, and c) are linear in x and y
    slopes = np.stack([c[:, 1] - a[:, 1], a[:, 0] - c[:, 0], a[:, 1] - b[:, 1], b[:, 0] - a[:, 0]])
    slopes /= area
    offsets = [-(slopes[i] * a[:, 0] + slopes[i + 1] * a[:, 1]) for i in (0, 2)]
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


def contour(corners: Array, camera: Camera) -> Array:
    """(17, 3) of corners (rings, spokes, 3): the jaw points. On the side that turns to the camera
    they lie between outline and edge of the jaw, on the other they slide to the contour of the
    cheek, as annotators place them."""
    inner = corners[RIM // 2 : RIM + 1, JAW_SPOKES]
    outward = (MEAN[JAW] - MEAN[30]) @ camera.rotation[:2, :2].T
    ring = (inner[..., :2] * outward).sum(-1).argmax(0)
    hidden = inner[ring, np.arange(17)]
    outline, edge = corners[RIM, JAW_SPOKES], corners[RIM + 1, JAW_SPOKES]
    side = np.sign(np.arange(17) - 8.0)
    share = ((-side * camera.rotation[0, 2] - 0.07) / 0.4).clip(0, 1)[
        :, None
    ]  # from 4 to 28 degrees
    return np.asarray(np.where(share > 0, outline + share * (edge - outline), hidden))


def nearest(values: Array, points: Array) -> Array:
    """(n,): the values (h, w) at the pixels nearest to the points; 0 outside."""
    h, w = values.shape
    x, y = np.rint(points).astype(int).T
    inside = (x >= 0) & (x < w) & (y >= 0) & (y < h)
    return np.where(inside, values[y.clip(0, h - 1), x.clip(0, w - 1)], 0)


def random_light(rng: Rng, normals: Array, camera: Camera) -> Array:
    """(n, 3) float: the light on each vertex, colour by colour, about 1 where it is well lit."""
    turned = normals.reshape(-1, 3) @ camera.rotation.T
    key = _unit(np.array([rng.normal(0, 0.9), rng.normal(-0.5, 0.5), rng.uniform(0.35, 1.2)]))
    behind = np.array([rng.choice([-1, 1]), rng.normal(0, 0.4), 0.1])
    halfway = _unit(key + np.array((0, 0, 1)))  # between the key light and the camera
    ambient = rng.uniform(0.1, 0.6) * rng.normal(1, 0.08, 3)
    diffuse = (1.15 - ambient.mean()) * rng.normal(1, 0.07, 3) * rng.uniform(0.85, 1.15)
    softness = rng.uniform(0, 0.3)
    lit = ((turned @ key + softness) / (1 + softness)).clip(0)
    glint = rng.uniform(0, 0.35) * (turned @ halfway).clip(0) ** rng.uniform(12, 40)
    edge = rng.uniform(0, 0.5) * (rng.random() < 0.4) * (turned @ behind).clip(0) ** 2
    open_sky = 0.75 - 0.25 * turned[:, 1]  # less comes from below
    shine = glint + edge
    return np.asarray(ambient * open_sky[:, None] + diffuse * lit[:, None] + shine[:, None])


def _unit(vector: Array) -> Array:
    return np.asarray(vector / np.linalg.norm(vector))
