"""The policy of a record (`augment`): what may happen to its face."""

from typing import Any, TypeAlias

from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.keys import Record

Stage: TypeAlias = dict[str, Any]
# operation: (upper bound, what its number is)
OPERATIONS: dict[str, tuple[float, str]] = {
    "flip": (1.0, "probability"),
    "scale": (4.0, "fraction: a factor of up to 1 + F, or its inverse"),
    "rotate": (180.0, "degrees to either side"),
    "shift": (2.0, "fraction of sqrt(box area), along each axis"),
    "brightness": (1.0, "fraction"),
    "contrast": (1.0, "fraction"),
    "saturation": (1.0, "fraction"),
    "hue": (0.5, "fraction of a turn of the colour wheel"),
    "gray": (1.0, "probability"),
    "blur": (64.0, "largest standard deviation, pixels of the file"),
    "noise": (1.0, "largest standard deviation, fraction of white"),
    "erase": (1.0, "probability"),
}
# What kp-augment --preset names
PRESETS: dict[str, dict[str, float]] = {
    # a detector's boxes, and faces as they come in photos: chosen on iBUG's (docs/networks.md)
    "face": {
        "flip": 0.5,
        "scale": 0.25,
        "rotate": 30.0,
        "shift": 0.12,
        "brightness": 0.2,
        "contrast": 0.2,
        "saturation": 0.4,
        "gray": 0.2,
        "blur": 0.5,
        "noise": 0.02,
        "erase": 0.2,
    },
}


def stages(record: Record) -> list[Stage]:
    """The record's stages, checked; [] where it has none."""
    stages: list[Stage] | None = record.get("augment")
    if stages is None:
        return []
    if not isinstance(stages, list):
        raise RecordError("bad_record", "`augment` is not a list of stages; kp-augment writes one")
    for stage in stages:
        if not isinstance(stage, dict) or not isinstance(stage.get("seed", 0), int):
            raise RecordError("bad_record", "a stage of `augment` is no object with a whole seed")
        for name, value in stage.items():
            if name == "seed":
                continue
            if name not in OPERATIONS:
                known = ", ".join(OPERATIONS)
                raise RecordError("bad_record", f"no operation {name[:40]!r}; known are {known}")
            bound = OPERATIONS[name][0]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise RecordError("bad_record", f"`augment`: {name} is not a number")
            if not 0 <= value <= bound:
                raise RecordError("bad_record", f"`augment`: {name} is not within 0 to {bound:g}")
    return stages


def flips(stages: list[Stage]) -> bool:
    """Whether the policy may mirror the face, so that its scheme needs a swap table."""
    return any(stage.get("flip", 0) > 0 for stage in stages)


def swap_table(record: Record) -> tuple[int, ...]:
    """The table by which a mirror image exchanges left and right. RecordError without one."""
    scheme = keys.scheme(record)
    if scheme.swap is None:
        raise RecordError(
            "bad_scheme",
            f"{scheme.name} has no table of left and right; leave --flip out, or give --flip 0",
        )
    return scheme.swap
