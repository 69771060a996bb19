"""Label adaptation: from the points that a network gives to those that an annotator would set.

Two schemes, or the habits of two annotators, differ by what a linear map can learn from some
hundreds of faces; no pixels are needed. The points are brought to a common frame by the similarity
that aligns them with their mean shape, and ridge regression (Hoerl and Kennard, 1970) maps them
there. Its penalty is the one whose predictions of left-out faces are nearest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.errors import KptoolsError, RecordError
from kptools.storage import scheme_files
from kptools.storage.tensor_metadata import read_metadata
from kptools.storage.tensors import read_tensors, write_tensors
from kptools.units import Box

VERSION = 1
PENALTIES = tuple(10.0**power for power in range(-4, 5))
MIN_FACES = 10


@dataclass(frozen=True)
class Adapter:
    """A map from L points to K points of `scheme`.

    `mean` (L, 2) is the mean shape of the given points in fractions of the box. `weight`
    (2 K, 2 L) and `offset` (2 K,) map aligned points, less the mean shape, to aligned points.
    """

    scheme: str
    mean: g.Points
    weight: NDArray[np.float64]
    offset: NDArray[np.float64]

    @property
    def inputs(self) -> int:
        """L."""
        return len(self.mean)

    @property
    def count(self) -> int:
        """K."""
        return len(self.offset) // 2

    @property
    def identity(self) -> str:
        """What tells it from other adapters: a hash of its numbers."""
        digest = blake2b(self.scheme.encode(), digest_size=8)
        for array in (self.mean, self.weight, self.offset):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def apply(self, points: g.Points, box: Box) -> g.Points:
        """Points (L, 2) of a face in this box to (K, 2), file frame. RecordError where they are not
        L, or not finite, or all in one place."""
        to_frame = _to_frame(points, self.mean, box)
        aligned = g.normalize(g.transform(to_frame, points), box) - self.mean
        mapped = (self.weight @ aligned.ravel() + self.offset).reshape(-1, 2)
        return g.transform(g.invert(to_frame), g.denormalize(mapped, box))

    def save(self, path: Path, provenance: Mapping[str, Any] | None = None) -> None:
        """Write it whole or not at all, and where it comes from. KptoolsError where the disk is
        full."""
        tensors = {
            "mean": torch.from_numpy(self.mean),
            "weight": torch.from_numpy(self.weight),
            "offset": torch.from_numpy(self.offset),
        }
        meta: dict[str, Any] = {"adapter": VERSION, "scheme": self.scheme}
        if provenance is not None:
            meta["run"] = {"provenance": provenance}
        write_tensors(path, tensors, meta | scheme_files.metadata_of(self.scheme))


def is_adapter(path: str) -> bool:
    """Whether the file holds an adapter. KptoolsError where it is none of kptools' files."""
    return "adapter" in read_metadata(path)


def load(path: str) -> Adapter:
    """KptoolsError where the file is not there, or holds no sound adapter."""
    tensors, meta = read_tensors(path)
    if meta.get("adapter") != VERSION:
        version = meta.get("adapter")
        raise KptoolsError(f"{path} is an adapter of version {version!r}, not {VERSION}")
    try:
        mean, weight, offset = (tensors[name].numpy() for name in ("mean", "weight", "offset"))
        found = Adapter(str(meta["scheme"]), mean, weight, offset)
        sound = weight.shape == (2 * found.count, 2 * found.inputs) and mean.shape[1:] == (2,)
        sound = sound and all(np.isfinite(a).all() for a in (mean, weight, offset))
    except (KeyError, ValueError, TypeError, IndexError):
        sound = False
    scheme_files.learn(path, meta)
    if not sound:
        raise KptoolsError(f"{path} is broken: its tensors are not an adapter's; train it again")
    return found


def fit(
    given: Sequence[g.Points], wanted: Sequence[g.Points], boxes: Sequence[Box], scheme: str
) -> tuple[Adapter, dict[str, Any]]:
    """The adapter from points (L, 2) to points (K, 2), NaN where not annotated, of N faces; and its
    figures: the penalty, and the mean distance of left-out faces, in fractions of sqrt(box area),
    of `given` where both are of one length (`before`) and of what it makes of them (`after`).
    KptoolsError for too few faces."""
    if len(given) < MIN_FACES:
        raise KptoolsError(f"{len(given)} faces with `pred` and `points`; {MIN_FACES} are needed")
    mean = np.mean([g.normalize(p, box) for p, box in zip(given, boxes, strict=True)], axis=0)
    x, y = [], []
    for points, truth, box in zip(given, wanted, boxes, strict=True):
        to_frame = _to_frame(points, mean, box)
        x.append((g.normalize(g.transform(to_frame, points), box) - mean).ravel())
        y.append(g.normalize(g.transform(to_frame, truth), box).ravel())
    inputs, targets = np.stack(x), np.stack(y)  # (N, 2 L), (N, 2 K)
    annotated = np.isfinite(targets).sum(axis=0)[::2]
    if annotated.min() < MIN_FACES:
        raise KptoolsError(
            f"point {int(annotated.argmin())} is annotated on {annotated.min()} faces; "
            f"{MIN_FACES} are needed"
        )
    count = targets.shape[1]
    weight, offset = np.zeros((count, inputs.shape[1])), np.zeros(count)
    best: dict[str, Any] = {}
    for penalty in PENALTIES:
        w, b, left_out = _ridge(inputs, targets, penalty)
        after = float(np.nanmean(np.hypot(left_out[:, ::2], left_out[:, 1::2])))
        if not best or after < best["after"]:
            best = {"penalty": penalty, "faces": len(given), "after": after}
            weight, offset = w, b
    if inputs.shape[1] == count:
        off = inputs + mean.ravel() - targets
        best["before"] = float(np.nanmean(np.hypot(off[:, ::2], off[:, 1::2])))
    return Adapter(scheme, mean, weight, offset), best


def _ridge(
    x: NDArray[np.float64], y: NDArray[np.float64], penalty: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """The weights (2 K, 2 L) and offsets (2 K,) of y (N, 2 K) on x (N, 2 L), each coordinate on the
    faces where it is known; and the residuals (N, 2 K) of faces as if each had been left out."""
    weight, offset = np.zeros((y.shape[1], x.shape[1])), np.zeros(y.shape[1])
    residuals = np.full(y.shape, np.nan)
    known = np.isfinite(y)
    patterns, which = np.unique(known, axis=1, return_inverse=True)
    for index, pattern in enumerate(patterns.T):
        columns = np.flatnonzero(which.ravel() == index)
        xs, ys = x[pattern], y[np.ix_(pattern, columns)]
        centre, level = xs.mean(axis=0), ys.mean(axis=0)
        u, s, vt = np.linalg.svd(xs - centre, full_matrices=False)
        shrunk = s**2 / (s**2 + penalty * len(xs) * 1e-4)
        fitted = (u * shrunk) @ (u.T @ (ys - level))
        leverage = ((u * u) @ shrunk) + 1 / len(xs)
        residuals[np.ix_(pattern, columns)] = (ys - level - fitted) / (1 - leverage[:, None])
        inverse = np.divide(shrunk, s, out=np.zeros_like(s), where=s > 1e-12)
        weight[columns] = ((vt.T * inverse) @ (u.T @ (ys - level))).T
        offset[columns] = level - weight[columns] @ centre
    return weight, offset, residuals


def require_shape(points: g.Points) -> None:
    """RecordError where points (L, 2) are no shape to map: one is null, or all are in one place."""
    if not np.isfinite(points).all():
        raise RecordError("bad_points", "a predicted point is null; the adapter needs them all")
    if not np.ptp(points, axis=0).any():
        raise RecordError("bad_points", "the predicted points lie in one place")


def _to_frame(points: g.Points, mean: g.Points, box: Box) -> g.Matrix:
    """The similarity (2, 3), continuous, file to file, that aligns points (L, 2) with the mean
    shape in this box. RecordError where there is none."""
    if points.shape != mean.shape:
        raise RecordError(
            "bad_points", f"{len(points)} predicted points; the adapter takes {len(mean)}"
        )
    require_shape(points)
    return g.similarity(points, g.denormalize(mean, box))
