"""A face: what the work needs of a record, parsed and checked once."""

from dataclasses import dataclass, replace

import numpy as np

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.records import keys, policy
from kptools.records.keys import Record
from kptools.records.policy import Stage
from kptools.schemes.scheme import Scheme
from kptools.specs import InputSpec
from kptools.units import Box


@dataclass(frozen=True, slots=True)
class Face:
    """A face as the tools pass it on. `record` is the one that it was parsed from.

    `stages` is its augmentation policy, empty where it has none. `swap` is its scheme's table of
    left and right, there where the policy may flip. `key` is what chance is keyed by, where there
    is a policy. An annotated face has `points` (K, 2), file frame, NaN where not annotated, and its
    `scheme` where that is known.
    """

    record: Record
    image: str
    box: Box
    stages: list[Stage]
    swap: tuple[int, ...] | None = None
    key: str = ""
    points: g.Points | None = None
    scheme: Scheme | None = None

    @property
    def name(self) -> str:
        """Its id, or its image where it has none: for messages."""
        return keys.identity(self.record)

    @classmethod
    def parse(cls, record: Record, *, with_policy: bool = True) -> "Face":
        """The face of a record, without points; without `with_policy` nothing happens to it.
        Raises RecordError."""
        box = keys.box(record)
        stages = policy.stages(record) if with_policy else []
        swap = policy.swap_table(record) if policy.flips(stages) else None
        key = f"{keys.identity(record)}\0{keys.copy_index(record)}" if stages else ""
        return cls(record, keys.image(record), box, stages, swap, key)

    def annotated(self) -> "Face":
        """The same face with its points and its scheme; it has to have a point at least. Raises
        RecordError."""
        points = g.from_list(keys.points(self.record))
        if not np.isfinite(points).any():
            raise RecordError("bad_points", "no point is annotated; there is nothing to learn")
        return replace(self, points=points, scheme=keys.known_scheme(self.record, len(points)))

    def focused(self, spec: InputSpec) -> "Face":
        """The same face in the part of its box that a network looks at."""
        return replace(self, box=spec.focused(self.box))

    def without_policy(self) -> "Face":
        """The same face, to which nothing happens."""
        return replace(self, stages=[], swap=None, key="")
