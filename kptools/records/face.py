"""A face: what the work needs of a record, parsed and checked once."""

from dataclasses import dataclass

import numpy as np

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.records import keys, policy
from kptools.records.keys import Record
from kptools.records.policy import Stage
from kptools.units import Box


@dataclass(frozen=True, slots=True)
class Face:
    """A face as the tools pass it on. `record` is the one that it was parsed from.

    `stages` is its augmentation policy, empty where it has none. `swap` is its scheme's table of
    left and right, there where the policy may flip. `key` is what chance is keyed by, where there
    is a policy. `points` (K, 2), file frame, NaN where not annotated, are there where they were
    asked for.
    """

    record: Record
    image: str
    box: Box
    stages: list[Stage]
    swap: tuple[int, ...] | None = None
    key: str = ""
    points: g.Points | None = None

    @property
    def name(self) -> str:
        """Its id, or its image where it has none: for messages."""
        return keys.identity(self.record)

    @classmethod
    def parse(cls, record: Record, *, annotated: bool = False) -> "Face":
        """The face of a record; with `annotated` it has to have a point at least. RecordError."""
        image, box = keys.image(record), keys.box(record)
        stages = policy.stages(record)
        swap = policy.swap_table(record) if policy.flips(stages) else None
        key = f"{keys.identity(record)}\0{keys.copy_index(record)}" if stages else ""
        points = None
        if annotated:
            points = g.from_list(keys.points(record))
            if not np.isfinite(points).any():
                raise RecordError("bad_points", "no point is annotated; there is nothing to learn")
        return cls(record, image, box, stages, swap, key, points)
