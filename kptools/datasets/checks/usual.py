"""What is usual among the faces of one scheme: their shapes, where their boxes lie, their errors.

It is learned from a sample, which may hold faults: medians bear them, and the fits of the shapes
leave the furthest out.
"""

import math
import random
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.datasets.checks.shapes import MIN_FACES, ShapeModel
from kptools.records import keys
from kptools.records.keys import Record
from kptools.records.points import points_array
from kptools.schemes.scheme import Scheme
from kptools.units import Box

SAMPLE = 5000  # faces, from which what is usual is learned
OUTLIER = 4.0  # robust standard deviations of the logarithm of a distance
BOX_OUTLIER = 5.0  # of where a box lies: its middle across and down, and its size, together
CONVENTION = 0.1  # of a box's side: boxes further from each other are of two conventions
_NEARLY_WHOLE = 0.8  # of the points are annotated
_LEAST_SPREAD = 0.05  # of a logarithm
_LEAST_BOX_SPREAD = 0.01  # of the box's side
_MAD = 1.4826  # a standard deviation, in median absolute deviations


Kind: TypeAlias = tuple[str, str, str]  # box_source, dataset and split


class BoxModel:
    """Where the boxes of one kind lie about the faces: `places` (N, 3), as far as `poses` (N, M)
    explain them, by least squares without the furthest."""

    def __init__(self, poses: NDArray[np.float64], places: NDArray[np.float64]) -> None:
        given = _with_one(poses)
        kept = np.ones(len(given), bool)
        for _ in range(3):
            self._weights = np.linalg.lstsq(given[kept], places[kept], rcond=None)[0]
            off = places - given @ self._weights
            spread = _MAD * np.median(abs(off), axis=0)
            self._spread = np.maximum(spread, _LEAST_BOX_SPREAD)
            kept = np.linalg.norm(off / self._spread, axis=1) <= BOX_OUTLIER
        self.of_mean: NDArray[np.float64] = self._weights[0]

    def distance(self, pose: NDArray[np.float64], place: NDArray[np.float64]) -> float:
        """How far a face (M,), (3,) is from that, in robust standard deviations."""
        off = place - (_with_one(pose[None]) @ self._weights)[0]
        return float(np.linalg.norm(off / self._spread))


def _with_one(poses: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([np.ones((len(poses), 1)), poses], axis=1)


@dataclass(frozen=True)
class Annotated:
    """A face: its points (K, 2) in the file frame, its box, whose convention that should be, and
    its error: how far `pred` is from the points, in units of the box's side; NaN where none is."""

    points: g.Points
    box: Box
    kind: Kind
    error: float

    @classmethod
    def parse(cls, record: Record) -> "Annotated":
        """Raises RecordError."""
        points, box = points_array(record), keys.box(record)
        error = math.nan
        if record.get("pred") is not None:
            predicted = points_array(record, "pred")
            if len(predicted) == len(points):
                off = np.linalg.norm(predicted - points, axis=1)
                known = off[np.isfinite(off)]
                error = float(known.mean()) / g.side(box) if len(known) else math.nan
        kind = (str(record.get(key, "")) for key in ("box_source", "dataset", "split"))
        return cls(points, box, (next(kind), next(kind), next(kind)), error)

    @property
    def is_shape(self) -> bool:
        """Whether there are two points in different places."""
        known = self.points[self._known]
        return len(known) > 1 and bool(np.ptp(known, axis=0).any())

    @property
    def is_nearly_whole(self) -> bool:
        """Whether so few points are missing that it is known where the face lies."""
        return self.is_shape and bool(self._known.mean() >= _NEARLY_WHOLE)

    @property
    def _known(self) -> NDArray[np.bool_]:
        known: NDArray[np.bool_] = np.isfinite(self.points[:, 0])
        return known


@dataclass
class Usual:
    """What is usual among the faces of one scheme."""

    scheme: Scheme | None
    faces: int = 0
    sample: list[Annotated] = field(default_factory=list)
    shapes: ShapeModel | None = None
    shape_limit: float = math.inf
    point_limit: float = math.inf
    error_limit: float = math.inf
    boxes: "dict[Kind, BoxModel]" = field(default_factory=dict)
    odd_boxes: set[Kind] = field(default_factory=set)

    def add(self, face: Annotated, chance: random.Random) -> None:
        """Keep a sample, of which each face is a part as likely as any other."""
        self.faces += 1
        if len(self.sample) < SAMPLE:
            self.sample.append(face)
        elif (place := chance.randrange(self.faces)) < SAMPLE:
            self.sample[place] = face

    @property
    def whole(self) -> int:
        """How many of the sample have all points."""
        return sum(bool(np.isfinite(face.points).all()) for face in self.sample)

    def learn(self) -> None:
        whole = [face.points for face in self.sample if np.isfinite(face.points).all()]
        try:
            self.shapes = ShapeModel(
                np.array(whole), self.scheme.swap if self.scheme is not None else None
            )
        except ValueError:
            return  # too few
        found = np.array([self.shapes.distances(face.points) for face in self.sample])
        self.shape_limit, self.point_limit = (_limit(column) for column in found.T)
        self.error_limit = _limit(face.error for face in self.sample)
        self._learn_boxes()

    def _learn_boxes(self) -> None:
        faces: dict[Kind, list[Annotated]] = {}
        for face in self.sample:
            if face.is_nearly_whole:
                faces.setdefault(face.kind, []).append(face)
        known = {kind: found for kind, found in faces.items() if len(found) >= MIN_FACES}
        for kind, found in known.items():
            poses = np.array([self.poses(face) for face in found])
            self.boxes[kind] = BoxModel(poses, np.array([self.place(face) for face in found]))
        if known:
            most = self.boxes[max(known, key=lambda kind: len(known[kind]))].of_mean
            self.odd_boxes = {
                kind
                for kind, boxes in self.boxes.items()
                if abs(boxes.of_mean - most).max() > CONVENTION
            }

    def poses(self, face: Annotated) -> NDArray[np.float64]:
        assert self.shapes is not None
        return self.shapes.pose(face.points)

    def place(self, face: Annotated) -> NDArray[np.float64]:
        """Where the face lies in its box (3,): the middle of its shape across and down, and the
        logarithm of its size, in units of the box's side."""
        assert self.shapes is not None
        to_mean = g.similarity(face.points, self.shapes.mean)
        side = g.side(face.box)
        middle = g.transform(g.invert(to_mean), np.zeros((1, 2)))[0] + 0.5
        across, down = (middle - g.centre(face.box)) / side
        return np.array([across, down, -math.log(g.zoom(to_mean) * side)])

    def judge(self, face: Annotated) -> dict[str, float]:
        """What is suspicious about a face, and how far beyond the limit it is."""
        found: dict[str, float] = {}
        if self.shapes is None or not face.is_shape:
            return found
        shape, point = self.shapes.distances(face.points)
        if self.shapes.is_mirrored(face.points):
            found["mirrored"] = max(2.0, shape / self.shape_limit)
        found["shape"] = shape / self.shape_limit
        found["point"] = point / self.point_limit
        found["prediction"] = face.error / self.error_limit
        if face.kind in self.boxes and face.is_nearly_whole:
            boxes = self.boxes[face.kind]
            found["box"] = boxes.distance(self.poses(face), self.place(face)) / BOX_OUTLIER
        if face.kind in self.odd_boxes:
            found["box_convention"] = 1.01
        return {flag: by for flag, by in found.items() if by > 1}


def _limit(distances: Iterable[float]) -> float:
    """Beyond it a distance is unusual; infinite where too few are known."""
    known = np.array([d for d in distances if math.isfinite(d) and d > 0])
    if len(known) < MIN_FACES:
        return math.inf
    logs = np.log(known)
    middle = float(np.median(logs))
    spread = max(_LEAST_SPREAD, _MAD * float(np.median(abs(logs - middle))))
    return math.exp(middle + OUTLIER * spread)
