"""A face: what the work needs of a record, parsed and checked once."""

import math
from dataclasses import dataclass, field, replace

import numpy as np

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.records import keys, policy
from kptools.records.keys import Record
from kptools.records.points import points_array
from kptools.records.policy import Stage
from kptools.schemes.scheme import Scheme
from kptools.specs import InputSpec
from kptools.units import Box, Degrees


@dataclass(frozen=True, slots=True)
class Face:
    """A face as the tools pass it on. `record` is the one that it was parsed from.

    `roll` is by how much it is turned in the file, clockwise as seen. `box` is that of the face
    turned upright (`levelling`); its centre is where it is in the file. The tools see each face
    upright, and what its policy does is done to that.

    `stages` is its augmentation policy, empty where it has none. `swap` is its scheme's table of
    left and right, there where the policy may flip. `key` is what chance is keyed by, where there
    is a policy. An annotated face has `points` (K, 2), file frame, NaN where not annotated, and its
    `scheme` where that is known.

    Where a network finds the points of several schemes, `union` is them all, and `block` where the
    face's own points are among those.

    `visible` (K,) is 1 where a point is seen, 0 where it is hidden, NaN where neither is known; it
    is there where it is asked for.
    """

    record: Record
    image: str
    box: Box
    stages: list[Stage]
    swap: tuple[int, ...] | None = None
    key: str = ""
    points: g.Points | None = None
    scheme: Scheme | None = None
    roll: Degrees = 0.0
    union: Scheme | None = None
    block: slice = field(default_factory=lambda: slice(None))
    visible: g.Points | None = None

    @property
    def name(self) -> str:
        """Its id, or its image where it has none: for messages."""
        return keys.identity(self.record)

    @classmethod
    def parse(cls, record: Record, *, with_policy: bool = True, level: bool = True) -> "Face":
        """The face of a record, without points; without `with_policy` its policy does not happen
        to it, and without `level` it stays as turned as it is. Raises RecordError."""
        roll = keys.roll(record) if level else 0.0
        box = g.upright(keys.box(record), roll)
        stages = policy.stages(record) if with_policy else []
        swap = policy.swap_table(record) if policy.flips(stages) else None
        key = f"{keys.identity(record)}\0{keys.copy_index(record)}" if stages else ""
        return cls(record, keys.image(record), box, stages, swap, key, roll=roll)

    def annotated(self, *, visibility: bool = False) -> "Face":
        """The same face with its points and its scheme, and with `visibility` what is seen of them;
        it has to have a point at least. Raises RecordError."""
        points = points_array(self.record)
        if not np.isfinite(points).any():
            raise RecordError("bad_points", "no point is annotated; there is nothing to learn")
        visible = None
        if visibility:
            given = keys.per_point(self.record, "visible", len(points))
            visible = (
                np.full(len(points), np.nan) if given is None else np.greater(given, 0.5) * 1.0
            )
            visible = np.where(np.isfinite(points).all(axis=1), visible, np.nan)
        scheme = keys.known_scheme(self.record, len(points))
        return replace(self, points=points, scheme=scheme, visible=visible)

    def among(self, union: Scheme) -> "Face":
        """The same face with the points of all these schemes; only those of its own are annotated.
        RecordError where its scheme is none of them."""
        name = keys.scheme_name(self.record)
        block = union.block(name)
        if block is None:
            parts = " and ".join(part.name for part in union.parts)
            raise RecordError("bad_scheme", f"its scheme is {name}, the network's are {parts}")
        points, swap, visible = self.points, self.swap, self.visible
        if points is not None:
            points = np.full((union.count, 2), np.nan)
            points[block] = self.points
        if visible is not None:
            visible = np.full(union.count, np.nan)
            visible[block] = self.visible
        if swap is not None:  # those of other schemes may have no table, and need none
            table = list(range(union.count))
            table[block] = [block.start + i for i in swap]
            swap = tuple(table)
        return replace(self, points=points, swap=swap, union=union, block=block, visible=visible)

    def focused(self, spec: InputSpec) -> "Face":
        """The same face in the part of its box that a network looks at."""
        return self.with_box(spec.focused(self.box))

    def with_box(self, box: Box) -> "Face":
        """The same face in another box, which is given in the frame of the upright face."""
        if self.roll:  # its place in the file
            x, y = g.centre(box)
            dx, dy = g.invert(self.levelling) @ (x, y, 1) - (x, y)
            box = (box[0] + dx, box[1] + dy, box[2] + dx, box[3] + dy)
        return replace(self, box=box)

    @property
    def levelling(self) -> g.Matrix:
        """The map (2, 3), file to file, continuous, that turns the face upright about the centre of
        its box."""
        return g.about(g.rotation(math.radians(self.roll)), *g.centre(self.box))

    def level(self, points: g.Points) -> g.Points:
        """Where these points (K, 2) of the file are when the face is turned upright."""
        return g.transform(self.levelling, points) if self.roll else points

    def place(self, shape: g.Points) -> g.Points:
        """A shape (K, 2), upright, in fractions of the box, to where it lies on the face in the
        file."""
        placed = g.denormalize(shape, self.box)
        return g.transform(g.invert(self.levelling), placed) if self.roll else placed

    def without_policy(self) -> "Face":
        """The same face, to which nothing happens."""
        return replace(self, stages=[], swap=None, key="")
