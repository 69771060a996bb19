"""Which faces to label next: those that a network is least sure of, and no two that are alike.

Of the least sure faces a pool is kept, a few times as many as are wanted. Of these the least sure
is taken, then again and again the one whose shape is furthest from all that were taken (the greedy
k-center of Sener and Savarese, 2018, on shapes in place of features).
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.points import points_array

POOL = 4  # faces that are kept for each that is wanted


def doubt(record: Record, measure: str) -> float:
    """How unsure the prediction of a face is: 1 less the mean `score`; the mean `spread` of its
    copies, in units of the box's side; or how many `flags` it has. Raises RecordError where the
    record lacks that."""
    if measure == "flags":
        return float(len(keys.flags(record)))
    pred = record.get("pred")
    values = keys.per_point(record, measure, len(pred) if isinstance(pred, list) else 0)
    if values is None:
        raise RecordError("bad_points", f"no `{measure}`; kp-predict gives `pred` and `score`")
    mean = float(np.mean(values))
    return 1 - mean if measure == "score" else mean / g.side(keys.box(record))


@dataclass(order=True)
class _Candidate:
    doubt: float
    number: int  # the later one goes first, of equals
    item: Item = field(compare=False)
    shape: g.Points = field(compare=False)  # (K, 2), in units of the box


class Selector:
    """Takes `count` faces of a stream of any length; it holds `pool` times as many."""

    def __init__(self, count: int, measure: str, pool: int = POOL) -> None:
        self.count, self.measure, self.pool = count, measure, pool
        self.seen = 0
        self._pool: list[_Candidate] = []

    def add(self, item: Item) -> None:
        """Offer a face. Raises RecordError."""
        record = item.record
        how_much = doubt(record, self.measure)
        shape = g.normalize(points_array(record, "pred"), keys.box(record))
        if not np.isfinite(shape).all():
            raise RecordError("bad_points", "`pred` has a null; kp-predict gives all points")
        self.seen += 1
        if self.measure == "flags" and not how_much:
            return
        candidate = _Candidate(how_much, -self.seen, item, shape)
        if len(self._pool) < self.pool * self.count:
            heapq.heappush(self._pool, candidate)
        else:
            heapq.heappushpop(self._pool, candidate)

    def selected(self) -> list[Item]:
        """The faces that were taken, in that order."""
        left = sorted(self._pool, reverse=True)
        taken: list[Item] = []
        nearest = np.full(len(left), math.inf)
        while left and len(taken) < self.count:
            place = int(np.argmax(nearest))  # of equals the least sure
            chosen = left.pop(place)
            nearest = np.delete(nearest, place)
            taken.append(chosen.item)
            if left:
                nearest = np.minimum(nearest, _distances(chosen, left))
        return taken


def _distances(one: _Candidate, others: Sequence[_Candidate]) -> np.ndarray:
    """How far shapes are from one, in units of the box: infinite where they have other points."""
    return np.array(
        [
            float(np.sqrt(((one.shape - other.shape) ** 2).sum(axis=1).mean()))
            if one.shape.shape == other.shape.shape
            else math.inf
            for other in others
        ]
    )
