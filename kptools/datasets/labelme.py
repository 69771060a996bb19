"""labelme's files: a JSON a picture, in which each point is a shape.

    DIR/a.json  DIR/a.jpg       {"imagePath": "a.jpg", "imageWidth": 640, "imageHeight": 480,
                                 "shapes": [{"label": "0", "points": [[x, y]], "group_id": 1,
                                             "shape_type": "point", "flags": {}}, ..]}

Shapes of one `group_id` are one face: points, and the rectangle of its box. A label that is a
number is the index of its point; other labels are the names of the points of a scheme, or are put
in order by --labels. A flag `hidden` is a
point that is not visible. Coordinates are continuous, with the origin in the corner of the image as
shown (Qt's frame): 0.5 is taken from each. labelme keeps no score.
"""

import json
import os
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import orjson

from kptools import geometry as g
from kptools.console import report
from kptools.datasets import numbers
from kptools.datasets.common import SchemeChoice, located, named_from, split_of, start, walk
from kptools.datasets.labels import Labels, by_picture, is_text
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.limits import MAX_LINE_BYTES
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.ids import FileNames
from kptools.records.item import Item
from kptools.records.keys import Record, fail, failed
from kptools.schemes import catalog

VERSION = "5.5.0"  # of labelme, whose files these are
Shape = dict[str, Any]


def read(root: str, labels: str | None = None, scheme: str | None = None) -> Iterator[Item]:
    """The faces of a tree of files, in order of path and of `group_id`. `labels`: those of the
    points in their order, with commas. Files without a face give none, and are counted in a note.
    A file that needs another option is a KptoolsError while no face was read, and later a failed
    record. Raises UsageError, KptoolsError."""
    if not os.path.isdir(root):
        raise UsageError(f"{root} is not a folder; name one that holds labelme's files")
    paths = walk(root, [".json"])
    if not paths:
        raise KptoolsError(f"{root} holds no .json file")
    choice = SchemeChoice(scheme, root)
    order = None if labels is None else [label.strip() for label in labels.split(",")]
    without_face, was_read = 0, False
    for path in paths:
        key = os.path.splitext(os.path.relpath(path, root))[0].replace(os.sep, "/")
        try:
            document = _load(path)
        except RecordError as error:
            yield Item(fail({"id": key}, error), path, 1)
            continue
        folder = os.path.dirname(path)
        begun = start(root, located(folder, document["imagePath"]), key)
        _check_size(begun, document)
        faces = _faces(document["shapes"])
        without_face += not faces
        for number, shapes in enumerate(faces, start=1):
            record = dict(begun)
            if number > 1:
                record["id"] += f"#{number}"
            try:
                record |= _labels(path, shapes, order, choice) | {"split": split_of(root)}
                was_read = True
            except RecordError as error:
                if not failed(record):
                    fail(record, error)
            except KptoolsError as error:
                if not was_read:
                    raise
                if not failed(record):
                    fail(record, RecordError("bad_points", str(error)))
            if failed(record):  # status and error close the record
                record |= {key: record.pop(key) for key in ("status", "error")}
            yield Item(record, path, 1)
    if without_face:
        report(f"kp-prep: {root}: {without_face} of {len(paths)} files have no face")


def _load(path: str) -> dict[str, Any]:
    """A file, its numbers exact. Raises RecordError."""
    try:
        if os.path.getsize(path) > MAX_LINE_BYTES:
            raise RecordError("bad_record", f"{path} is over {MAX_LINE_BYTES >> 20} MiB")
        with open(path, encoding="utf-8-sig") as handle:
            found = json.load(handle, parse_float=Decimal)
    except OSError as error:
        raise RecordError("bad_record", f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise RecordError("bad_record", f"{path} is no JSON: {error}") from None
    sound = (
        isinstance(found, dict)
        and isinstance(found.get("imagePath"), str)
        and isinstance(found.get("shapes"), list)
        and all(isinstance(shape, dict) for shape in found["shapes"])
    )
    if not sound:
        raise RecordError("bad_record", f"{path} has no imagePath and shapes; it is not labelme's")
    if not is_text(found["imagePath"]) or "\0" in found["imagePath"]:
        raise RecordError("bad_record", f"imagePath of {path} can be no name of a file")
    found["imagePath"] = found["imagePath"].replace("\\", "/")  # of Windows
    document: dict[str, Any] = found
    return document


def _check_size(record: Record, document: dict[str, Any]) -> None:
    given = [document.get("imageWidth"), document.get("imageHeight")]
    if not failed(record) and all(given) and given != record["size"]:
        problem = f"{record['image']} is not of {given[0]}x{given[1]} pixels, as its labels say"
        fail(record, RecordError("bad_record", problem))


def _faces(shapes: list[Shape]) -> list[list[Shape]]:
    """The points and rectangles of each face."""
    faces: dict[str, list[Shape]] = {}
    for shape in shapes:
        if shape.get("shape_type") in ("point", "rectangle"):
            faces.setdefault(str(shape.get("group_id")), []).append(shape)
    return list(faces.values())


def _labels(
    path: str, shapes: list[Shape], order: list[str] | None, choice: SchemeChoice
) -> Record:
    points = [shape for shape in shapes if shape["shape_type"] == "point"]
    boxes = [shape for shape in shapes if shape["shape_type"] == "rectangle"]
    found: Record = {}
    if len(boxes) > 1:
        raise RecordError("bad_box", f"{len(boxes)} rectangles; give each face a group_id")
    if boxes:
        corners = [_place(corner, "bad_box") for corner in _corners(boxes[0], 2, "bad_box")]
        xs, ys = sorted(x for x, _ in corners), sorted(y for _, y in corners)
        found |= {"box": [xs[0], ys[0], xs[1], ys[1]], "box_source": "dataset"}
    if points:
        names = [str(shape.get("label")) for shape in points]
        named = choice.by_names(names) if order is None else None
        if choice.known is not None and order is None and set(names) <= set(choice.known.names):
            named = choice.known  # also where some points are not annotated
        if named is not None:
            order = list(named.names)
        at = _indices(path, names, order)
        count = choice.count or (max(at) + 1 if order is None else len(order))
        places: list[Any] = [None] * count
        visible = [1] * count
        for index, shape in zip(at, points, strict=True):
            if not 0 <= index < count or places[index] is not None:
                raise RecordError("bad_points", f"point {index} is twice, or over {count - 1}")
            places[index] = _place(_corners(shape, 1, "bad_points")[0], "bad_points")
            flags = shape.get("flags")
            visible[index] = int(not (isinstance(flags, dict) and flags.get("hidden")))
        found["points"] = places
        if 0 in visible:
            found["visible"] = visible
        if not boxes:
            found |= {"box": list(g.box_of_points(g.from_list(places))), "box_source": "points"}
        found |= choice.keys(count, named)
    keys.box(found)
    return found


def _indices(path: str, labels: list[str], order: list[str] | None) -> list[int]:
    """The index of each point: by `order`, else by its number; of labels that are all the same, by
    its place. KptoolsError where they are names."""
    if order is not None:
        missing = [label for label in labels if label not in order]
        if missing:
            raise RecordError("bad_points", f"{missing[0]!r} is none of --labels")
        return [order.index(label) for label in labels]
    if all(label.isdecimal() and len(label) < 5 for label in labels):
        return [int(label) for label in labels]
    if len(set(labels)) == 1:
        return list(range(len(labels)))
    raise KptoolsError(
        f"{path}: the labels are names, not numbers; name their scheme by --scheme, or give their "
        "order, as --labels " + ",".join(labels)[:500]
    )


def _corners(shape: Shape, count: int, status: str) -> list[Any]:
    found = shape.get("points")
    if not isinstance(found, list) or len(found) != count:
        raise RecordError(status, f"a {shape['shape_type']} has not {count} points")
    return found


def _place(corner: Any, status: str) -> list[float]:
    sound = isinstance(corner, list) and len(corner) == 2
    if not sound or not all(isinstance(v, int | Decimal) for v in corner):
        raise RecordError(status, "a point is not [x, y]")
    try:
        return [numbers.moved(str(v), -0.5) for v in corner]
    except ValueError as error:
        raise RecordError(status, str(error)) from None


def write(
    items: Iterable[Item], fail: Fail, what: str, folder: str | None
) -> Iterator[tuple[str, bytes]]:
    """A file a picture: its name, and its bytes. A face without points is its box; one without a
    prediction fails where `what` is pred."""
    names = FileNames()
    for faces in by_picture(items, fail):
        shapes: list[Shape] = []
        for number, item in enumerate(faces, start=1):
            try:
                shapes += _shapes(item.record, what, number)
            except RecordError as error:
                fail(item, error)
        if shapes:
            image = keys.image(faces[0].record)
            width, height = keys.size(faces[0].record)
            document: dict[str, Any] = {"version": VERSION, "flags": {}, "shapes": shapes}
            document |= {"imagePath": named_from(folder, image), "imageData": None}
            document |= {"imageHeight": height, "imageWidth": width}
            data = orjson.dumps(document, option=orjson.OPT_INDENT_2)
            yield f"{names.of_photo(image)}.json", data


def _shapes(record: Record, what: str, number: int) -> list[Shape]:
    """Raises RecordError."""
    keys.size(record)
    x0, y0, x1, y1 = keys.box(record)
    shapes = [_shape("face", "rectangle", [(x0, y0), (x1, y1)], number)]
    if what == "pred" or what in record:
        labels = Labels.of(record, what)
        own = catalog.own_of(keys.scheme_name(record))  # built-in ones are known by number
        known = keys.known_scheme(record, len(labels.points)) if own is not None else None
        for index, point in enumerate(labels.points):
            if point is not None:
                label = known.names[index] if known is not None else str(index)
                shape = _shape(label, "point", [(point[0], point[1])], number)
                if labels.visible is not None and not labels.visible[index]:
                    shape["flags"] = {"hidden": True}
                shapes.append(shape)
    return shapes


def _shape(label: str, kind: str, corners: list[tuple[float, float]], number: int) -> Shape:
    return {
        "label": label,
        "points": [[_exact(x), _exact(y)] for x, y in corners],
        "group_id": number,
        "description": "",
        "shape_type": kind,
        "flags": {},
    }


def _exact(value: float) -> orjson.Fragment:
    """The number in continuous pixels, with all its digits."""
    return orjson.Fragment(numbers.text(numbers.plus(value, 0.5)))
