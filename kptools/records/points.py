"""The points of records as arrays, of one face and of many."""

import math
import struct
from collections.abc import Sequence

import numpy as np

from kptools import geometry as g
from kptools.records import keys
from kptools.records.keys import Record


def points_array(record: Record, key: str = "points") -> g.Points:
    """The points (K, 2) under `key`, file frame, NaN where not annotated. Raises RecordError."""
    array: g.Points = stack([keys.coordinates(record, key)])[0]
    return array


def stack(faces: Sequence[tuple[float, ...]]) -> g.Points:
    """(B, K, 2): the coordinates of B faces of K points each, as `keys.coordinates` gives them."""
    pack = struct.Struct(f"{len(faces[0])}d").pack  # a quarter of the time of np.array
    planes = np.frombuffer(b"".join([pack(*face) for face in faces])).reshape(len(faces), 2, -1)
    return planes.swapaxes(1, 2).copy()


def are_known(coordinates: tuple[float, ...]) -> bool:
    """Whether none of the points is missing."""
    return math.isfinite(sum(coordinates))
