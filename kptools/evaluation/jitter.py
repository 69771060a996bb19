"""How much the points of a video tremble.

NMF, the normalised mean flicker of Micaelli et al. (CVPR 2023, "Recurrence without Recurrence:
Stable Video Landmark Detection with Deep Equilibrium Models"), is about the error: r(n, l) is the
vector from the truth to the prediction of point l in frame n, d(n) the size of the face, and

    NMF^2 = mean over n and l of |r(n, l) - r(n - 1, l)|^2 / d(n)^2

over one video; several have the mean of theirs. As in the authors' code (`video_NMJ` of
https://github.com/polo5/LDEQ_RwR), d is the root of the area of the box of the true points. Their
tables have it in percent of a face of 256 pixels: times 25,600.

Without truth there is the acceleration, which is that of the prediction p in place of the change of
r: p(n + 1) - 2 p(n) + p(n - 1), over the size of the box of p(n + 1). Motion is in it, too.
"""

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.keys import Record
from kptools.records.points import points_array
from kptools.units import Seconds

FIGURES = ("nmf", "acceleration")
GAP = 2.5  # times the step before or after it: that is a gap, over which nothing is compared
FEW = 5  # fewer points show no size of a face


@dataclass(slots=True)
class _Mean:
    """A mean of squares: root of `total` over `count`."""

    total: float = 0.0
    count: int = 0

    def add(self, moves: g.Points, size: float) -> None:
        """Moves (K, 2) in pixels, over the size of the face; NaN where not known."""
        squares = (moves**2).sum(axis=1) / size**2
        known = np.isfinite(squares)
        self.total += float(squares[known].sum())
        self.count += int(known.sum())


class _Frame(NamedTuple):
    """`offsets` (K, 2): from the truth to the prediction, and `size` of the true face; None and NaN
    where there is no truth."""

    time: Seconds
    predicted: g.Points
    offsets: g.Points | None
    size: float


class _Track:
    """A face of a video: its last frames, and what those before came to."""

    def __init__(self) -> None:
        self.time: Seconds = -math.inf
        self._frames: list[_Frame] = []  # two at most; the move between them is not counted yet
        self.flicker, self.acceleration = _Mean(), _Mean()

    def add(self, time: Seconds, predicted: g.Points, truth: g.Points | None) -> None:
        if self._frames and self._frames[-1].predicted.shape != predicted.shape:
            self.close()
        offsets = None if truth is None else predicted - truth
        size = math.nan if truth is None else _size(truth)
        self.time = time
        self._frames.append(_Frame(time, predicted, offsets, size))
        if len(self._frames) < 3:
            return
        a, b, c = self._frames
        first, second = b.time - a.time, c.time - b.time
        if first <= GAP * second:
            self._count(a, b)
            if second <= GAP * first:
                moves = c.predicted - 2 * b.predicted + a.predicted
                self.acceleration.add(moves, _size(c.predicted))
        self._frames = [c] if second > GAP * first else [b, c]

    def close(self) -> None:
        """Count the last move: no frame follows that could show it to be a gap."""
        if len(self._frames) == 2:
            self._count(*self._frames)
        self._frames = []

    def _count(self, before: _Frame, after: _Frame) -> None:
        if before.offsets is not None and after.offsets is not None:
            self.flicker.add(after.offsets - before.offsets, after.size)


class Jitter:
    """The figures of the faces that are added, track by track: those of one `group` and `track`."""

    def __init__(self) -> None:
        self.faces = self.failed = 0
        self._tracks: dict[tuple[str, str], _Track] = {}

    def fail(self) -> None:
        """Count a record that failed."""
        self.failed += 1

    def add(self, record: Record) -> None:
        """The next frame of a face. Raises RecordError."""
        time, predicted = keys.time(record), points_array(record, "pred")
        truth = None if record.get("points") is None else points_array(record)
        if len(predicted) < FEW:
            raise RecordError(
                "bad_points", f"{len(predicted)} points have no size to divide by; {FEW} are needed"
            )
        if truth is not None and truth.shape != predicted.shape:
            raise RecordError(
                "bad_points",
                f"{len(predicted)} points predicted, but {len(truth)} annotated; each needs its "
                "own",
            )
        name = (str(record.get("group", "")), str(record.get("track", "")))
        track = self._tracks.setdefault(name, _Track())
        if time <= track.time:
            raise RecordError(
                "bad_record",
                f"time {time:g} s does not come after {track.time:g} s of the same face; bring "
                "frames in order; kp-track tells several faces of a frame apart",
            )
        track.add(time, predicted, truth)
        self.faces += 1

    def report(self) -> dict[str, Any]:
        """The figures, None where no track has one; `faces`, those that `failed`, and `tracks`."""
        tracks = self._tracks.values()
        for track in tracks:
            track.close()
        return {
            "faces": self.faces,
            "failed": self.failed,
            "tracks": len(tracks),
            "nmf": _mean([track.flicker for track in tracks]),
            "acceleration": _mean([track.acceleration for track in tracks]),
        }


def _mean(all_found: list[_Mean]) -> float | None:
    known = [math.sqrt(found.total / found.count) for found in all_found if found.count]
    return math.fsum(known) / len(known) if known else None


def _size(points: g.Points) -> float:
    return g.side(g.box_of_points(points)) if np.isfinite(points).any() else math.nan
