"""What finds faces in photos, one detector a file.

A module of `DETECTORS` has `SOURCE`, the `box_source` of its boxes, and `load`, which gives a
`Detector` or raises KptoolsError where what it needs is not installed. Nothing here imports numpy,
so that `kp-prep --help` answers at once.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TypeAlias

from kptools.units import Box, Degrees


@dataclass(frozen=True, slots=True)
class Found:
    """A face that a detector found: its box, file frame; how sure the detector is, the more the
    better; and `roll`, by which the face is turned, clockwise as seen, -180 to 180, or None where
    the detector does not say."""

    box: Box
    score: float
    roll: Degrees | None = None


# The faces of the photo at a path. Raises RecordError. Several threads may call one at once.
Detector: TypeAlias = Callable[[str], list[Found]]

DETECTORS: Mapping[str, str] = {
    "yunet": "kptools.datasets.detectors.yunet",
    "dlib": "kptools.datasets.detectors.dlib_frontal",
}


def module(name: str) -> ModuleType:
    """The module of a detector."""
    return import_module(DETECTORS[name])
