"""COCO keypoints (Lin et al., 2014): one JSON document, of faces, bodies or anything else.

    {"images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}, ..],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0,
                      "bbox": [x, y, width, height], "keypoints": [x, y, v, ..]}, ..],
     "categories": [{"id": 1, "name": "face", "keypoints": ["nose", ..], "skeleton": [[1, 2], ..]}]}

Keypoints are 0-based pixels; v is 0 not annotated, 1 hidden, 2 seen. In a file without any 2, v
says nothing of what is seen (300-W, AFLW and WFLW as MMPose has them). A bbox is of continuous
pixels, with the origin in the corner of the image. Annotations are read one by one, twice
(`coco_file`).

What COCO has no key for is written as an annotation's `record`, and read again.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from kptools.datasets import numbers
from kptools.datasets.coco_file import Document, Pictures
from kptools.datasets.common import FaceIds, SchemeChoice, located, named_from, split_of, start
from kptools.datasets.common import photo as photo_of
from kptools.datasets.labels import Labels, points_of
from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Point, Record, fail, failed
from kptools.units import Box

# Keys of a record that other keys of COCO hold
_HELD = ("image", "size", "box", "points", "visible", "pred", "score")
_KEPT_FROM = ("image", "size", "status", "error")  # what a `record` does not change


def read(file: str, images: str | None = None, scheme: str | None = None) -> Iterator[Item]:
    """The faces in the order of the file; `images` is the folder of its pictures [the file's own].
    Pictures without annotations give none, and are counted in a note. Raises UsageError,
    KptoolsError."""
    choice = SchemeChoice(scheme, file)
    with Document(file) as document:
        reader = _Reader(document, document.folder if images is None else images, choice)
        for number, annotation in enumerate(document.annotations(), start=1):
            yield Item(reader.record(annotation, number), file, number)
        document.report_bare(reader.ids.pictures)


class _Reader:
    """Annotations to records."""

    def __init__(self, document: Document, folder: str, choice: SchemeChoice) -> None:
        self.document, self.folder, self.choice = document, folder, choice
        self.ids = FaceIds()
        self.split = split_of(document.path)
        self._image: object = None  # the id of the last one, and its first keys
        self._start: Record = {}

    def record(self, annotation: Any, number: int) -> Record:
        record: Record = {}
        try:
            if not isinstance(annotation, dict):
                raise RecordError("bad_record", f"annotation {number} is no object")
            record |= self._picture(annotation)
            found = self._labels(annotation)
            extra = annotation.get("record")
            if isinstance(extra, dict):
                found |= {key: extra[key] for key in extra if key not in _KEPT_FROM}
                if found.get("scheme", "") is None:
                    del found["scheme"]
            record |= found
            keys.box(record)
        except RecordError as error:
            record.setdefault("id", f"{self.document.path}:{number}")
            if not failed(record):
                fail(record, error)
        if failed(record):  # status and error close the record
            record |= {key: record.pop(key) for key in ("status", "error")}
        return record

    def _picture(self, annotation: dict[str, Any]) -> Record:
        """image, id, group, size."""
        number = annotation.get("image_id")
        if number != self._image or not self._start:
            name, width, height = self.document.pictures.find(number)
            self._start = start(self.folder, located(self.folder, name), name)
            self._image = number
            size = self._start.get("size")
            if size is not None and width and height and size != [width, height]:
                problem = (
                    f"{self._start['image']} has {size[0]}x{size[1]} pixels, and the file says "
                    f"{width}x{height}: its points are of another picture"
                )
                fail(self._start, RecordError("bad_record", problem))
        record = dict(self._start)
        name = record["id"]
        return record | {"id": self.ids.unique_id(name), "group": photo_of(name)}

    def _labels(self, annotation: dict[str, Any]) -> Record:
        x, y, width, height = _numbers(annotation.get("bbox"), 4, "bbox", "bad_box")
        right, bottom = numbers.moved(x, width), numbers.moved(y, height)
        edges = [numbers.moved(edge, -0.5) for edge in (x, y, right, bottom)]
        found: Record = {"box": edges, "box_source": "dataset"}
        category = self.document.categories.get(annotation.get("category_id"), {})
        flat = annotation.get("keypoints")
        if flat:
            count = len(flat) // 3 if isinstance(flat, list) else 0
            flat = _numbers(flat, 3 * count, "keypoints", "bad_points")
            flags = [int(v) for v in flat[2::3]]
            if flags != flat[2::3] or not {0, 1, 2} >= set(flags):
                raise RecordError("bad_points", "keypoints: each third number is 0, 1 or 2")
            if not self.document.marks_hidden:
                flags = [2 if v else 0 for v in flags]
            if any(flags):
                points: list[Point] = [[x, y] for x, y in zip(flat[::3], flat[1::3], strict=True)]
                found |= points_of(flags, points)
            found |= self._scheme(count, category, annotation.get("record"))
        found["split"] = self.split
        if category.get("name") not in (None, "face"):
            found["category"] = category["name"]
        if annotation.get("iscrowd"):
            found["iscrowd"] = 1
        return found

    def _scheme(self, count: int, category: dict[str, Any], ours: Any) -> Record:
        """The scheme; of points of none, their names and the lines between them (0-based)."""
        has_own = isinstance(ours, dict) and "scheme" in ours
        found = {"scheme": ours["scheme"]} if has_own else self.choice.keys(count)
        if not found.get("scheme"):
            if category.get("keypoints"):
                found["point_names"] = category["keypoints"]
            if category.get("skeleton"):
                found["skeleton"] = [[a - 1, b - 1] for a, b in category["skeleton"]]
        return found


def _numbers(value: Any, count: int, key: str, status: str) -> list[float]:
    """RecordError where the value is no list of so many numbers."""
    sound = isinstance(value, list) and len(value) == count > 0
    if not sound or keys.per_point({key: value}, key, count) is None:
        raise RecordError(status, f"{key} is not a list of numbers as COCO has them")
    numbers_of: list[float] = value
    return numbers_of


def write(items: Iterable[Item], fail: Fail, what: str, folder: str | None) -> Iterator[bytes]:
    """The lines of a document, an annotation a line as its face comes; the pictures follow, whose
    names are relative to `folder`. A prediction has `score`, the mean of its points'."""
    yield b'{"info":{"description":"written by kptools"},"annotations":['
    with Pictures() as pictures:
        categories: dict[str, dict[str, Any]] = {}
        count = 0
        for item in items:
            if item.failed:
                continue
            try:
                annotation = _annotation(item.record, what, categories)
                size, name = keys.size(item.record), keys.image(item.record)
                annotation["image_id"] = pictures.add(named_from(folder, name), *size)
            except RecordError as error:
                fail(item, error)
                continue
            count += 1
            annotation["id"] = count
            yield (b"," if count > 1 else b"") + orjson.dumps(annotation)
        yield b'],"images":['
        for index, (number, name, width, height) in enumerate(pictures):
            entry = {"id": number, "file_name": name, "width": width, "height": height}
            yield (b"," if index else b"") + orjson.dumps(entry)
        yield b'],"categories":' + orjson.dumps(list(categories.values())) + b"}"


def _annotation(record: Record, what: str, categories: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All but the ids. Raises RecordError."""
    box = keys.box(record)
    x, y = (numbers.moved(edge, 0.5) for edge in box[:2])
    width, height = (numbers.moved(box[i + 2], -box[i]) for i in (0, 1))
    extra = {key: value for key, value in record.items() if key not in _HELD}
    if _read_box(x, y, width, height) != box:
        extra["box"] = list(box)
    found: dict[str, Any] = {"category_id": _category(record, what, categories)}
    found |= {"iscrowd": extra.pop("iscrowd", 0), "bbox": [x, y, width, height]}
    found["area"] = width * height
    if what in record:
        labels = Labels.of(record, what)
        flags = labels.visibility()
        extra.setdefault("scheme", None)
        if labels.visible is not None and 2 not in flags:
            extra["visible"] = record["visible"]
        triples = zip(labels.points, flags, strict=True)
        found["keypoints"] = [v for p, flag in triples for v in (*(p or (0, 0)), flag)]
        found["num_keypoints"] = sum(flag > 0 for flag in flags)
        if labels.score is not None:
            found["score"] = sum(labels.score) / len(labels.score)
            found["keypoint_scores"] = labels.score
    elif isinstance(record.get("point_names"), list):
        found |= {"keypoints": [0] * (3 * len(record["point_names"])), "num_keypoints": 0}
    for key in ("category", "point_names", "skeleton"):
        extra.pop(key, None)
    return found | {"record": extra}


def _read_box(x: float, y: float, width: float, height: float) -> Box:
    """The box that `_Reader` makes of a bbox."""
    right, bottom = numbers.moved(x, width), numbers.moved(y, height)
    left, top, right, bottom = (numbers.moved(edge, -0.5) for edge in (x, y, right, bottom))
    return (left, top, right, bottom)


def _category(record: Record, what: str, categories: dict[str, dict[str, Any]]) -> int:
    """The number of the category of the record: one a scheme, or a name and its points."""
    names = record.get("point_names")
    labelled = record.get(what, names)
    count = len(labelled) if isinstance(labelled, list) else 0
    known = keys.known_scheme(record, count)
    lines: Any = record.get("skeleton", [])
    if known is not None:
        names, lines = [str(i) for i in range(known.count)], known.edges
    name = record.get("category", "face")
    key = orjson.dumps([name, record.get("scheme"), count, names, lines]).decode()
    if key not in categories:
        categories[key] = {
            "id": len(categories) + 1,
            "name": name,
            "supercategory": "person",
            "keypoints": names or [str(i) for i in range(count)],
            "skeleton": [[a + 1, b + 1] for a, b in lines],
        }
    found: int = categories[key]["id"]
    return found
