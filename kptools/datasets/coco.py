"""COCO keypoints (Lin et al., 2014): one JSON document, of faces, bodies or anything else.

    {"images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}, ..],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0,
                      "bbox": [x, y, width, height], "keypoints": [x, y, v, ..]}, ..],
     "categories": [{"id": 1, "name": "face", "keypoints": ["nose", ..], "skeleton": [[1, 2], ..]}]}

Keypoints are 0-based pixels; v is 0 not annotated, 1 hidden, 2 seen. In a file without any 2, a 1
does not mean hidden (MMPose's files of 300-W, AFLW and WFLW). A bbox is of continuous pixels, with
the origin in the corner of the image. Annotations are read one by one, twice (`coco_file`).

What COCO has no key for is written as an annotation's `record`, and read again.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from kptools.console import report
from kptools.datasets import numbers
from kptools.datasets.coco_file import Document, Pictures
from kptools.datasets.common import FaceIds, SchemeChoice, located, named_from, split_of, start
from kptools.datasets.common import photo as photo_of
from kptools.datasets.labels import Labels, is_text, points_of
from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Point, Record, fail, failed
from kptools.schemes.scheme import Scheme

# Keys of a record that other keys of COCO hold, of its points and of its prediction
_HELD = {
    "points": ("image", "size", "box", "points", "visible"),
    "pred": ("image", "size", "box", "points", "visible", "pred", "score"),
}
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
        document.report_without_face(reader.ids.pictures)


class _Reader:
    """Annotations to records."""

    def __init__(self, document: Document, folder: str, choice: SchemeChoice) -> None:
        self.document, self.folder, self.choice = document, folder, choice
        self.ids = FaceIds()
        self.split = split_of(document.path)
        self._reported: set[int | str] = set()  # categories whose lines were left out
        self._image: object = None  # the id of the last one, and its first keys
        self._start: Record = {}
        self._named: dict[int | str, Scheme | None] = {}  # by category, that of its names

    def record(self, annotation: Any, number: int) -> Record:
        record: Record = {}
        try:
            if not isinstance(annotation, dict):
                raise RecordError("bad_record", f"annotation {number} is no object")
            record |= self._picture(annotation)
            record |= self._labels(annotation)
            extra = annotation.get("record")
            if isinstance(extra, dict):
                record = _with_kept(record, extra)
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
        found: Record = {"box": _box_of(annotation.get("bbox")), "box_source": "dataset"}
        key = annotation.get("category_id")
        if not isinstance(key, int | str | None):
            raise RecordError("bad_record", "category_id is neither a number nor a string")
        category = {} if key is None else self.document.categories.get(key, {})
        flat = annotation.get("keypoints")
        if flat:
            count = len(flat) // 3 if isinstance(flat, list) else 0
            if not count or keys.per_point({"keypoints": flat}, "keypoints", 3 * count) is None:
                raise RecordError("bad_points", "keypoints is not a list of numbers x, y, v")
            flags = [int(v) for v in flat[2::3]]
            if flags != flat[2::3] or not {0, 1, 2} >= set(flags):
                raise RecordError("bad_points", "keypoints: each third number is 0, 1 or 2")
            if not self.document.marks_hidden:
                flags = [2 if v else 0 for v in flags]
            points: list[Point] = [[x, y] for x, y in zip(flat[::3], flat[1::3], strict=True)]
            ours = annotation.get("record")
            is_ours = isinstance(ours, dict) and "scheme" in ours  # and so is the order
            named = None if is_ours else self._by_names(key, category, count)
            if named is not None:
                at = {str(name): index for index, name in enumerate(category["keypoints"])}
                order = [at[name] for name in named.names]
                points, flags = [points[i] for i in order], [flags[i] for i in order]
            if any(flags):
                found |= points_of(flags, points)
            found |= self._scheme(count, key, category, ours, named)
        found["split"] = self.split
        if category.get("name") not in (None, "face"):
            found["category"] = category["name"]
        if annotation.get("iscrowd"):
            found["iscrowd"] = 1
        return found

    def _by_names(
        self, number: int | str | None, category: dict[str, Any], count: int
    ) -> Scheme | None:
        """The scheme whose points are called as those of the category are."""
        names = category.get("keypoints")
        if number is None or not isinstance(names, list) or len(names) != count:
            return None
        if number not in self._named:
            self._named[number] = self.choice.by_names(map(str, names))
        return self._named[number]

    def _scheme(
        self,
        count: int,
        number: int | str | None,
        category: dict[str, Any],
        ours: Any,
        named: Scheme | None,
    ) -> Record:
        """The scheme; of points of none, their names and the lines between them (0-based)."""
        has_own = isinstance(ours, dict) and "scheme" in ours
        found = {"scheme": ours["scheme"]} if has_own else self.choice.keys(count, named)
        if not found.get("scheme"):
            if category.get("keypoints"):
                found["point_names"] = category["keypoints"]
            lines = category.get("skeleton", [])
            sound = [[line[0] - 1, line[1] - 1] for line in lines if _is_line(line, 1, count)]
            if sound:
                found["skeleton"] = sound
            if number is not None and len(sound) < len(lines) and number not in self._reported:
                self._reported.add(number)
                report(
                    f"kp-prep: {self.document.path}: {len(lines) - len(sound)} lines of the "
                    f"skeleton of category {number} do not join two of the points 1 to {count}; "
                    "they are left out"
                )
        return found


def _with_kept(record: Record, kept: Record) -> Record:
    """The record with the keys that `write` kept. RecordError where one of them is wrong."""
    found = record | {key: kept[key] for key in kept if key not in _KEPT_FROM}
    if found.get("scheme", "") is None:
        del found["scheme"]
    for key in ("id", "group", "scheme"):
        value = found.get(key, "")
        is_number = key == "group" and isinstance(value, int | None)
        if not is_number and not is_text(value):
            raise RecordError("bad_record", f"record: `{key}` is not a string of UTF-8")
    keys.split(found)
    if "points" in found:
        keys.per_point(found, "visible", len(keys.points(found)))
    return found


def _is_line(line: Any, first: int, last: int) -> bool:
    """Whether it is a pair of indices from `first` to `last`."""
    return (
        isinstance(line, list | tuple)
        and len(line) == 2
        and all(type(end) is int and first <= end <= last for end in line)
    )


def _box_of(bbox: Any) -> list[float]:
    """The box of a bbox. RecordError where it is not four numbers; `keys.box` checks the result."""
    sound = isinstance(bbox, list) and len(bbox) == 4
    if not sound or not all(type(v) in (int, float) for v in bbox):
        raise RecordError("bad_box", "bbox is not four numbers x, y, width, height")
    try:
        x, y, width, height = bbox
        right, bottom = numbers.plus(x, width), numbers.plus(y, height)
        return [float(numbers.plus(edge, -0.5)) for edge in (x, y, right, bottom)]
    except ValueError as error:
        raise RecordError("bad_box", f"bbox: {error}") from None


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
                size, name = keys.size(item.record), keys.image(item.record)
                annotation = _annotation(item.record, what, categories)
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
    box = list(keys.box(record))
    bbox = [float(numbers.plus(edge, 0.5)) for edge in box[:2]]
    bbox += [float(numbers.plus(box[i + 2], -box[i])) for i in (0, 1)]
    extra = {key: value for key, value in record.items() if key not in _HELD[what]}
    if _box_of(bbox) != box:
        extra["box"] = box
    labels = Labels.of(record, what) if what == "pred" or what in record else None
    number, held = _category(record, what, categories)  # last: a failed face adds no category
    found: dict[str, Any] = {"category_id": number, "iscrowd": 0, "bbox": bbox}
    found["area"] = bbox[2] * bbox[3]
    if record.get("iscrowd") == 1:
        found["iscrowd"] = extra.pop("iscrowd")
    if labels is not None:
        flags = labels.visibility()
        extra.setdefault("scheme", None)
        if not any(flags):
            extra["points"] = labels.points
        if labels.visible is not None:
            again = points_of(flags, labels.points).get("visible") if 2 in flags else None
            if again != labels.visible:
                extra["visible"] = labels.visible
        triples = zip(labels.points, flags, strict=True)
        found["keypoints"] = [v for p, flag in triples for v in (*(p or (0, 0)), flag)]
        found["num_keypoints"] = sum(flag > 0 for flag in flags)
        if labels.score is not None:
            found["score"] = sum(labels.score) / len(labels.score)
            found["keypoint_scores"] = labels.score
    else:
        if "visible" in record:
            extra["visible"] = record["visible"]
        if isinstance(record.get("point_names"), list):
            extra.setdefault("scheme", None)
            found |= {"keypoints": [0] * (3 * len(record["point_names"])), "num_keypoints": 0}
    return found | {"record": {key: v for key, v in extra.items() if key not in held}}


def _category(
    record: Record, what: str, categories: dict[str, dict[str, Any]]
) -> tuple[int, set[str]]:
    """The number of the category of the record: one a scheme, or a name and its points; and the
    keys of the record that it holds."""
    names: Any = record.get("point_names")
    lines: Any = record.get("skeleton")
    name = record.get("category")
    labelled = record.get(what, names)
    count = len(labelled) if isinstance(labelled, list) else 0
    known = keys.known_scheme(record, count)
    held: set[str] = set()
    if not (isinstance(names, list) and len(names) == count > 0):
        names = None
    if not (isinstance(lines, list) and all(_is_line(line, 0, count - 1) for line in lines)):
        lines = []
    if known is not None:
        names, lines = list(known.names), known.edges or []
    elif record.get("scheme") is None:  # else these keys are not read from the category
        held |= {key for key, v in (("point_names", names), ("skeleton", lines)) if v}
    if isinstance(name, str) and name != "face":
        held.add("category")
    else:
        name = "face"
    key = orjson.dumps([name, record.get("scheme"), count, names, lines]).decode()
    if key not in categories:
        categories[key] = {
            "id": len(categories) + 1,
            "name": name,
            "supercategory": "person",
            "keypoints": names or [str(i) for i in range(count)],
            "skeleton": [[a + 1, b + 1] for a, b in lines],
        }
    return categories[key]["id"], held
