"""Faces followed over the frames of a video: which is which, their points smoothed, jumps found.

A face is linked as its record comes, without a look at what follows: to the track of its group,
not yet taken in this frame, whose box overlaps most (intersection over union) with its own. The
box of a track is where it would be had it moved on as before, so that two faces that cross keep
their names; where no such box is near, it is where it was last.
"""

import math
from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from statistics import median

import numpy as np

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.inference.one_euro import OneEuro
from kptools.units import Box, Fraction, Pixels, Seconds

JUMP = "jump"  # the flag
OVERLAP = 0.3  # of two boxes, at least, that are of one face: intersection over union
FEW = 5  # fewer points are no box of a face
GROUPS = 64  # whose tracks are remembered, those seen last
# A jump: a step of this many face sizes from one frame to the next, and so many times the largest
# of a usual frame, which is the median of the last frames, of so many at least
LARGE_STEP: Fraction = 0.1
TIMES_USUAL = 4.0
USUAL_OF, USUAL_FROM = 30, 5


@dataclass(slots=True)
class Track:
    """A face that is followed: its name, and what it was in the last frame that has it."""

    name: str
    smooth: OneEuro | None
    points: g.Points
    box: Box
    time: Seconds
    velocity: tuple[float, float] = (0.0, 0.0)  # of the centre of the box, pixels a second
    steps: deque[Fraction] = field(default_factory=lambda: deque(maxlen=USUAL_OF))

    def at(self, time: Seconds) -> Box:
        """The box that it has at that time, if it moves on as before."""
        dx, dy = (v * (time - self.time) for v in self.velocity)
        x0, y0, x1, y1 = self.box
        return (x0 + dx, y0 + dy, x1 + dx, y1 + dy)

    def step_to(self, points: g.Points, size: Pixels) -> bool:
        """Take note of how far the points went; whether one of them jumped."""
        steps = np.hypot(*(points - self.points).T) / size
        if np.isnan(steps).all():
            return False
        largest = float(np.nanmax(steps))
        usual = median(self.steps) if len(self.steps) >= USUAL_FROM else math.inf
        self.steps.append(largest)
        return largest > max(LARGE_STEP, TIMES_USUAL * usual)


@dataclass(slots=True)
class _Group:
    """The tracks of a video, and those that were seen in the frame of this time."""

    time: Seconds = -math.inf
    tracks: list[Track] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)

    def nearest(self, box: Box, count: int) -> Track | None:
        """The track of so many points, not yet taken in this frame, that a face in this box goes
        on: by where it would be had it moved on; where no such box is near, by where it was."""
        free = [t for t in self.tracks if t.name not in self.taken and len(t.points) == count]
        for boxes in ([t.at(self.time) for t in free], [t.box for t in free]):
            fits = [g.overlap(one, box) for one in boxes]
            if fits and max(fits) >= OVERLAP:
                return free[fits.index(max(fits))]
        return None


@dataclass(frozen=True, slots=True)
class Tracked:
    """A face in its track: its name, the points (K, 2), smoothed, and what is suspicious."""

    track: str
    points: g.Points
    flags: tuple[str, ...]


class Tracker:
    """Follows faces; `min_cutoff` and `beta` are those of the filter, None: nothing is smoothed.
    A face that was gone for more than `max_gap` seconds is another track."""

    def __init__(self, min_cutoff: float | None, beta: float, max_gap: Seconds) -> None:
        self._min_cutoff, self._beta, self._max_gap = min_cutoff, beta, max_gap
        self._groups: OrderedDict[str, _Group] = OrderedDict()
        self._names: Iterator[int] = count(1)

    def add(self, group: str, time: Seconds, points: g.Points, box: Box | None) -> Tracked:
        """The next face of a group: its points (K, 2), file frame, NaN where missing. `box` is that
        of its record, which counts where the points are too few for one. RecordError where there is
        neither, or the time goes back."""
        if np.isfinite(points[:, 0]).sum() >= FEW:
            box = g.box_of_points(points)
        if box is None:
            raise RecordError("bad_box", f"fewer than {FEW} points, and no `box`; give it one")
        tracks = self._at(group, time)
        track = tracks.nearest(box, len(points))
        flags: tuple[str, ...] = ()
        size = g.side(box)
        if track is None:
            filter = None if self._min_cutoff is None else OneEuro(self._min_cutoff, self._beta)
            track = Track(str(next(self._names)), filter, points, box, time)
            tracks.tracks.append(track)
        else:
            flags = (JUMP,) if track.step_to(points, size) else ()
            (x0, y0), (x1, y1), passed = g.centre(track.box), g.centre(box), time - track.time
            track.velocity = ((x1 - x0) / passed, (y1 - y0) / passed)
            track.points, track.box, track.time = points, box, time
        tracks.taken.add(track.name)
        smooth = track.smooth(points, time, size) if track.smooth is not None else points
        return Tracked(track.name, smooth, flags)

    def _at(self, name: str, time: Seconds) -> _Group:
        """The group at this time: those of its tracks that may go on. Raises RecordError."""
        group = self._groups.setdefault(name, _Group())
        self._groups.move_to_end(name)
        if len(self._groups) > GROUPS:
            self._groups.popitem(last=False)
        if time < group.time:
            raise RecordError(
                "bad_record",
                f"time {time:g} s comes after {group.time:g} s of the same `group`; bring the "
                "frames of a video in order",
            )
        if time > group.time:
            group.time, group.taken = time, set()
            group.tracks = [t for t in group.tracks if time - t.time <= self._max_gap]
        return group
