"""Where annotators put the points of a face: aggregate statistics, for faces that are drawn.

    python tests/benchmarks/shapes.py faces.jsonl kptools/datasets/synthetic/shape.json

Reads records with 68 points of ibug68, no picture, and writes a mean shape in three dimensions,
the modes of its variation, and the edge of the jaw as it is seen from the side. Nothing of a
single face is kept. The 3-D mean comes from 2-D points by alternating the pose of each face and the
mean of all (non-rigid structure from motion with a rigid mean: Tomasi and Kanade, 1992; Bregler et
al., 2000). The frame is that of `kptools.datasets.synthetic`: x to image-right, y down, z to the
camera, half a face's width is 1.
"""

import json
import sys

import numpy as np

from kptools.schemes import catalog

SWAP = list(catalog.get("ibug68").swap or ())
MIRROR = np.diag([-1.0, 1.0, 1.0])
EYES = [36, 39, 42, 45]
WEIGHTS = np.r_[np.zeros(17), np.ones(31), np.full(20, 0.3)]  # of the points that give the pose
MODES = 25
# The frame: the distance of the outer corners of the eyes, y of the eyes, z of the nose's bridge
OUTER_EYES, EYE_LEVEL, NOSE_DEPTH = 1.2, 0.0225, 0.582


def turn(vector):
    """The rotation (3, 3) by a vector: its length is the angle (Rodrigues)."""
    angle = np.linalg.norm(vector)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    k = np.array([(0, -z, y), (z, 0, -x), (-y, x, 0)])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def pose(points, shape):
    """Scale, rotation (3, 3) and shift (2,) of a weak-perspective camera from the shape (68, 3) to
    the points (68, 2): least squares by Gauss and Newton."""
    w = WEIGHTS[:, None]
    middle, there = (w * shape).sum(0) / w.sum(), (w * points).sum(0) / w.sum()
    x, y, root = shape - middle, points - there, np.sqrt(w)
    affine = np.linalg.lstsq(root * x, root * y, rcond=None)[0].T
    u, size, vt = np.linalg.svd(affine, full_matrices=False)
    two = u @ vt
    rotation, scale, shift = np.vstack([two, np.cross(*two)]), size.mean(), np.zeros(2)
    for _ in range(10):
        turned = x @ rotation.T
        error = (root * (scale * turned[:, :2] + shift - y)).ravel()
        columns = [np.cross(axis, turned)[:, :2] * scale for axis in np.eye(3)]
        columns += [turned[:, :2], np.tile((1.0, 0), (68, 1)), np.tile((0, 1.0), (68, 1))]
        jacobian = np.stack([(root * c).ravel() for c in columns], axis=1)
        step = np.linalg.lstsq(jacobian, -error, rcond=None)[0]
        rotation, scale, shift = turn(step[:3]) @ rotation, scale + step[3], shift + step[4:]
        if abs(step).max() < 1e-9:
            break
    return scale, rotation, shift + there - scale * rotation[:2] @ middle


def yaw_and_pitch(rotation):
    """Degrees; to image-right and up are positive."""
    return np.degrees((np.arctan2(-rotation[2, 0], rotation[2, 2]), np.arcsin(rotation[2, 1])))


def posed(faces, shape):
    """The faces and their mirror images in units of the head: (2N, 68, 2) and rotations."""
    found = [pose(points, shape) for points in faces]
    flat = np.array([(p - t) / s for p, (s, _, t) in zip(faces, found, strict=True)])
    rotations = np.array([r for _, r, _ in found])
    mirrored = flat[:, SWAP] * (-1, 1)
    return np.concatenate([flat, mirrored]), np.concatenate(
        [rotations, MIRROR @ rotations @ MIRROR]
    )


def solve(rows, values):
    """The x that fits rows (N, 2, D) @ x = values (N, 2), with little weight for outliers."""
    weights = np.ones(len(rows))
    for _ in range(6):
        a = np.einsum("n,nij,nik->jk", weights, rows, rows) + 1e-6 * np.eye(rows.shape[2])
        x = np.linalg.solve(a, np.einsum("n,nij,ni->j", weights, rows, values))
        weights = 1 / (1 + (np.linalg.norm(values - rows @ x, axis=1) / 0.08) ** 2)
    return x


def spans(faces):
    """(N, 1, 1): from the one outer corner of the eyes to the other."""
    return np.linalg.norm(faces[:, 45] - faces[:, 36], axis=1)[:, None, None]


def mean_shape(faces):
    """(68, 3). Of the jaw, only the side that faces the camera counts."""
    x, y = np.mean([p - p[EYES].mean(0) for p in faces / spans(faces)], axis=0).T * OUTER_EYES
    shape = np.column_stack([x, y, -0.5 * x**2])
    shape[30, 2] += 0.3  # the tip of the nose stands out: this decides what is near and what is far
    for _ in range(20):
        flat, rotations = posed(faces, shape)
        yaw = np.array([yaw_and_pitch(r)[0] for r in rotations])
        found = np.zeros((68, 3))
        for k in range(68):
            side = -1 if k < 8 else 1 if 8 < k < 17 else 0
            seen = (abs(yaw) < 35) & (side * yaw < 4)
            found[k] = solve(rotations[seen, :2], flat[seen, k])
        found = (found + found[SWAP] * (-1, 1, 1)) / 2
        found *= OUTER_EYES / (found[45, 0] - found[36, 0])
        across = found[8, 1:] - found[27, 1:]  # upright: the chin is below the bridge of the nose
        cos, sin = across / np.linalg.norm(across)
        found[:, 1:] = found[:, 1:] @ np.array([(cos, -sin), (sin, cos)])
        found -= (0, found[EYES, 1].mean(), 0)
        shape = found
    return shape + np.array((0, EYE_LEVEL, NOSE_DEPTH - shape[27, 2]))


def jaw_depths(flat, rotations, shape):
    """(17, 2): y and z of the jaw points, where they have the shape's x."""
    rows = rotations[:, :2, 1:]
    return np.array(
        [solve(rows, flat[:, k] - rotations[:, :2, 0] * shape[k, 0]) for k in range(17)]
    )


def main() -> None:
    records, target = sys.argv[1:]
    with open(records) as lines:
        faces = np.array([json.loads(line)["points"] for line in lines])
    shape = mean_shape(faces)
    flat, rotations = posed(faces, shape)
    yaw, pitch = np.array([yaw_and_pitch(r) for r in rotations]).T
    n = len(faces)
    print(
        f"yaw, pitch: sd {yaw.std():.1f}, {pitch.std():.1f}; mean pitch {pitch.mean():.1f} degrees"
    )

    # what each face would be from the front, if it had the mean's depths
    front = np.linalg.solve(
        rotations[:, :2, :2], (flat - shape[:, 2:] * rotations[:, None, :2, 2]).transpose(0, 2, 1)
    ).transpose(0, 2, 1)
    front = front[(abs(yaw) < 16) & (abs(pitch) < 15)]
    front += (0, EYE_LEVEL) - front[:, EYES].mean(1, keepdims=True)
    shape[:, :2] = front.mean(0)
    _, size, modes = np.linalg.svd(
        (front - shape[:, :2]).reshape(len(front), -1), full_matrices=False
    )
    modes = (size[:MODES, None] / np.sqrt(len(front) - 1) * modes[:MODES]).reshape(-1, 68, 2)

    # the jaw: its outline where the face is seen from the front, its edge where from the side
    ahead, aside = (yaw > 4) & (yaw < 14), yaw > 24
    outline = jaw_depths(flat[ahead], rotations[ahead], shape)
    edge = jaw_depths(flat[aside], rotations[aside], shape)
    shape[:17, 2] = (outline[:, 1] + outline[::-1, 1]) / 2
    edge = edge[:9] - shape[:9, 1:]
    edge[8] = 0
    text = json.dumps(
        {
            "mean": shape.round(3).tolist(),
            "edge": np.concatenate([edge, edge[7::-1]]).round(3).tolist(),
            "modes": modes.round(4).tolist(),
        },
        separators=(",", ":"),
    )
    with open(target, "w") as file:
        print(text.replace('"edge"', '\n"edge"').replace('"modes"', '\n"modes"'), file=file)
    print(f"{n} faces; standard deviation of a point {np.sqrt((modes**2).sum((0, 2)).mean()):.3f}")


if __name__ == "__main__":
    main()
