"""The checks of a dataset, whose faces are seen twice.

`Checker.add` takes note of a few numbers of each face, `learn` finds what is usual, and `judge`
says what is suspicious about a face.
"""

import random
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np

from kptools import geometry as g
from kptools.datasets.checks import duplicates
from kptools.datasets.checks.duplicates import Look
from kptools.datasets.checks.shapes import MIN_POINTS
from kptools.datasets.checks.usual import Annotated, Usual
from kptools.records import keys
from kptools.records.keys import Record
from kptools.units import Box

# What each flag says, in the order of a record's `flags`
FLAGS: Mapping[str, str] = {
    "mirrored": "left and right of the labels are in each other's place",
    "shape": "the shape is unlike those of the other faces",
    "point": "a point is far from where the others say that it is",
    "box": "the box lies otherwise about the points than other boxes of its source",
    "box_convention": "boxes of this source, dataset and split are unlike most others",
    "outside": "half of the points are outside the box, or outside the picture",
    "prediction": "the points are far from `pred`",
    "size": "`size` is not that of the picture",
    "duplicate": "the same picture, or the same face, is there twice (`duplicate_of`)",
    "leak": "its group, or its duplicate, is in another split as well",
}
MAX_SCHEMES = 64
SAME_BOX = 0.8  # the least overlap of two boxes of one face of one picture
_OUTSIDE = 0.25  # of the box's side: how far beyond its edges points are still inside
_SURE = 1.5  # how far beyond its limit a fault counts that has no limit


@dataclass(frozen=True)
class Findings:
    """Of a face: its flags, the id of the face that it is a duplicate of, and how far it is beyond
    the limits, as a factor."""

    flags: tuple[str, ...]
    duplicate_of: str | None
    severity: float


class Checker:
    """The faces of a dataset: each is added once, then judged, by its number in that order."""

    def __init__(self) -> None:
        self._usual: dict[tuple[str, int], Usual] = {}
        self._skipped = False  # whether there were more schemes than that
        self._chance = random.Random(0)
        self._ids: list[str] = []
        self._splits: list[str | None] = []
        self._groups, self._images, self._boxes = array("Q"), array("Q"), array("d")
        self._schemes = array("Q")
        self._looked = array("Q")  # the faces whose pictures were looked at
        self._hashes: list[duplicates.Hashes] = []
        self._wrong_size: set[int] = set()
        self._duplicates: dict[int, int] = {}
        self._leaks: set[int] = set()

    def add(self, record: Record, look: Look | None) -> None:
        """Take note of a face, and of what was seen of its picture. Raises RecordError."""
        box, copy, split = keys.box(record), keys.copy_index(record), keys.split(record)
        identity, image = keys.identity(record), keys.image(record)
        if record.get("size") is not None:
            keys.size(record)
        face = _annotated(record)
        if face is not None:
            key = _scheme_of(record, face)
            if key not in self._usual and len(self._usual) < MAX_SCHEMES:
                self._usual[key] = Usual(keys.known_scheme(record, len(face.points)))
            if key in self._usual:
                self._usual[key].add(face, self._chance)
            else:
                self._skipped = True
        index = len(self._ids)
        self._ids.append(identity)
        self._splits.append(split)
        self._groups.append(_digest(str(record.get("group", identity))))
        self._images.append(_digest(f"{image}\0{copy}"))
        self._schemes.append(_digest(str(record.get("scheme"))))
        self._boxes.extend(box)
        if look is not None:
            if record.get("size") not in (None, list(look.size)):
                self._wrong_size.add(index)
            if not copy:
                self._looked.append(index)
                self._hashes.append(look.hashes)

    def learn(self) -> list[str]:
        """Find out what is usual, and what is there twice. A line for what could not be checked."""
        for usual in self._usual.values():
            usual.learn()
        self._find_group_leaks()
        self._find_duplicates()
        notes = [f"more than {MAX_SCHEMES} schemes: the shapes of others were not compared"]
        return (notes if self._skipped else []) + [
            f"{usual.whole} of {usual.faces} faces of {name or 'no scheme'} have all {count} "
            "points: too few to know which shapes are usual"
            for (name, count), usual in self._usual.items()
            if usual.shapes is None and count >= MIN_POINTS
        ]

    def judge(self, index: int, record: Record) -> Findings:
        """What is suspicious about face `index`."""
        found: dict[str, float] = {}
        face = _annotated(record)
        if face is not None:
            usual = self._usual.get(_scheme_of(record, face))
            found |= usual.judge(face) if usual is not None else {}
            if _is_outside(face, record):
                found["outside"] = _SURE
        if index in self._wrong_size:
            found["size"] = _SURE
        twin = self._duplicates.get(index)
        if twin is not None:
            found["duplicate"] = _SURE
        if index in self._leaks:
            found["leak"] = _SURE
        flags = tuple(flag for flag in FLAGS if flag in found)
        other = None if twin is None else self._ids[twin]
        return Findings(flags, other, max(found.values(), default=0.0))

    def _find_group_leaks(self) -> None:
        splits: dict[int, set[str]] = {}
        for group, split in zip(self._groups, self._splits, strict=True):
            if split is not None:
                splits.setdefault(group, set()).add(split)
        leaking = {group for group, found in splits.items() if len(found) > 1}
        for index, group in enumerate(self._groups):
            if group in leaking:
                self._leaks.add(index)

    def _find_duplicates(self) -> None:
        of_image: dict[int, list[int]] = {}
        for index, image in enumerate(self._images):
            of_image.setdefault(image, []).append(index)
        for faces in of_image.values():
            for at, first in enumerate(faces):
                for second in faces[at + 1 :]:
                    same_points = self._schemes[first] == self._schemes[second]
                    shared = g.overlap(self._box(first), self._box(second))
                    if same_points and shared > SAME_BOX:
                        self._pair(first, second)
        if not self._hashes:
            return
        hashes = np.stack(self._hashes)
        for plain, mirrored in ((0, 2), (1, 3)):
            for a, b in duplicates.near_pairs(hashes[:, plain], hashes[:, mirrored]):
                first, second = self._looked[a], self._looked[b]
                apart = self._images[first] != self._images[second]
                if apart and self._groups[first] != self._groups[second]:
                    self._pair(first, second)

    def _pair(self, first: int, second: int) -> None:
        """They are duplicates; each is that of the first one that was found."""
        self._duplicates.setdefault(first, second)
        self._duplicates.setdefault(second, first)
        splits = {self._splits[first], self._splits[second]} - {None}
        if len(splits) > 1:
            self._leaks |= {first, second}

    def _box(self, index: int) -> Box:
        x0, y0, x1, y1 = self._boxes[4 * index : 4 * index + 4]
        return (x0, y0, x1, y1)


def _annotated(record: Record) -> Annotated | None:
    """The face of a record, None where none of its points is annotated. Raises RecordError."""
    if record.get("points") is None:
        return None
    face = Annotated.parse(record)
    return face if np.isfinite(face.points).any() else None


def _scheme_of(record: Record, face: Annotated) -> tuple[str, int]:
    return str(record.get("scheme") or "")[:200], len(face.points)


def _is_outside(face: Annotated, record: Record) -> bool:
    """Whether half of the points are outside the box and a margin, or outside the picture."""
    known = face.points[np.isfinite(face.points).all(axis=1)]
    boxes = [g.enlarged(face.box, _OUTSIDE)]
    if record.get("size") is not None:
        boxes.append(g.whole_image(keys.size(record)))
    return any((g.distance_outside(known, box, 0.0) > 0).mean() >= 0.5 for box in boxes)


def _digest(text: str) -> int:
    """64 bits."""
    data = text.encode(errors="surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest())
