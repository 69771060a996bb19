"""What of a record the writers of other formats need: its points, or its prediction."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.ids import SeenIds
from kptools.records.item import Item
from kptools.records.keys import Point, Record
from kptools.storage import remote


@dataclass(frozen=True)
class Labels:
    """The K points [x, y] in the file frame, None where not annotated; `visible` 0 where hidden;
    `score` 0..1, of a prediction."""

    points: list[Point]
    visible: Sequence[float] | None = None
    score: Sequence[float] | None = None

    @classmethod
    def of(cls, record: Record, what: str) -> "Labels":
        """`what` is `points`, or `pred`. Raises RecordError."""
        points = keys.points(record, what)
        if what == "pred":
            return cls(points, score=keys.per_point(record, "score", len(points)))
        return cls(points, visible=keys.per_point(record, "visible", len(points)))

    def visibility(self) -> list[int]:
        """COCO's visibility of each point: 0 not annotated, 1 hidden, 2 seen."""
        seen = [2] * len(self.points)
        if self.visible is not None:
            seen = [2 if v else 1 for v in self.visible]
        return [0 if p is None else v for p, v in zip(self.points, seen, strict=True)]


def is_text(value: object) -> bool:
    """Whether it is a string that UTF-8 can encode: JSON's may hold half of a surrogate pair."""
    return isinstance(value, str) and value.encode(errors="replace").decode() == value


def points_of(flags: Sequence[float], points: Sequence[Point]) -> Record:
    """`points`, and `visible` where one is hidden, from COCO's visibility: 0 is null."""
    found: Record = {"points": [p if v else None for p, v in zip(points, flags, strict=True)]}
    if 1 in flags:
        found["visible"] = [int(v != 1) for v in flags]
    return found


def picture_of(image: str) -> bytes | Path:
    """The file of an image, or the bytes of one that is elsewhere. Raises RecordError."""
    if remote.is_remote(image):
        return remote.read(image)
    if not os.path.isfile(image):
        raise RecordError("missing", f"{image} does not exist; check the path")
    return Path(image)


def by_picture(items: Iterable[Item], fail: Fail) -> Iterator[list[Item]]:
    """The faces of each picture, which come one after the other; those of a picture that came
    before others already fail."""
    pictures = SeenIds()
    faces: list[Item] = []
    image = ""
    for item in items:
        if item.failed:
            continue
        try:
            found = keys.image(item.record)
            if found != image:
                if faces:
                    yield faces
                faces, image = [], found
                if pictures.was_seen(found):
                    image = ""
                    raise RecordError(
                        "bad_record",
                        f"other faces of {found} were written before; bring them together: sort "
                        "the records",
                    )
            faces.append(item)
        except RecordError as error:
            fail(item, error)
    if faces:
        yield faces
