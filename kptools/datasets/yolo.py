"""YOLO-pose as Ultralytics has it: a text a picture, numbers in fractions of its size.

    DIR/data.yaml               kpt_shape: [68, 3]  flip_idx: [16, 15, ..]  names: {0: face}
    DIR/labels/train/a.txt      class cx cy w h px py v px py v ..      a line a face
    DIR/images/train/a.jpg

As in Ultralytics' own conversion from COCO, a box is of continuous pixels, and px times the width
is the 0-based pixel. v is 0 not annotated, 1 hidden, 2 seen; of a kpt_shape with 2 numbers a
negative one is not annotated. Ultralytics leaves out a picture with a point outside of it.
data.yaml as written has no `path`, which is its own folder then: to Ultralytics "." is the folder
that it runs in.
"""

import os
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from kptools.console import report
from kptools.datasets import numbers
from kptools.datasets.common import SchemeChoice, image_beside, read_text, start, walk
from kptools.datasets.labels import Labels, by_picture, picture_of, points_of
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.ids import FileNames
from kptools.records.item import Item
from kptools.records.keys import Point, Record, fail, failed
from kptools.storage import images, remote
from kptools.units import Size

CONFIG = "data.yaml"
_BOM = "\xef\xbb\xbf"  # of UTF-8, as `read_text` gives it


def read(root: str, scheme: str | None = None) -> Iterator[Item]:
    """The faces of a folder, in order of path and line. Raises UsageError, KptoolsError."""
    labels = os.path.join(root, "labels")
    if not os.path.isdir(labels):
        raise UsageError(f"there is no folder {labels}; name the folder above it")
    count, numbers_a_point, names = _config(os.path.join(root, CONFIG))
    choice = SchemeChoice(scheme, root)
    for path in walk(labels, [".txt"]):
        below = os.path.relpath(path, labels)[: -len(".txt")]
        image = image_beside(os.path.join(root, "images", below))
        begun = start(root, image, below)
        folder = below.split(os.sep)[0]
        begun_with: Record = {"split": folder if folder in keys.SPLITS else "train"}
        try:
            lines = [line.split() for line in read_text(path).removeprefix(_BOM).splitlines()]
        except RecordError as error:
            yield Item(fail(begun, error), path, 1)
            continue
        faces = 0
        for number, words in enumerate(lines, start=1):
            if not words:
                continue
            faces += 1
            record = dict(begun)
            if faces > 1:
                record["id"] += f"#{faces}"
            try:
                if not failed(record):
                    size = (record["size"][0], record["size"][1])
                    record |= _face(words, size, count, numbers_a_point)
                    record |= choice.keys(count) | begun_with
                    name = names.get(int(words[0]))
                    record |= {} if name in (None, "face") else {"category": name}
            except RecordError as error:
                fail(record, error)
            yield Item(record, path, number)


def _config(path: str) -> tuple[int, int, dict[int, str]]:
    """How many points, how many numbers a point, and the names of the classes."""
    try:
        import yaml
    except ImportError:
        raise KptoolsError("data.yaml needs PyYAML: pip install pyyaml") from None
    try:
        with open(path, encoding="utf-8-sig") as handle:
            found = yaml.safe_load(handle)
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}; it has kpt_shape") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise KptoolsError(f"{path} is no YAML") from None
    shape = found.get("kpt_shape") if isinstance(found, dict) else None
    if not isinstance(shape, list) or len(shape) != 2:
        shape = [0, 0]
    if type(shape[0]) is not int or shape[0] < 1 or shape[1] not in (2, 3):
        raise KptoolsError(f"{path} has no kpt_shape: [K, 2] or [K, 3]")
    names = found.get("names")
    names = dict(enumerate(names)) if isinstance(names, list) else names
    named = {k: str(v) for k, v in names.items()} if isinstance(names, dict) else {}
    return shape[0], shape[1], named


def _face(words: list[str], size: Size, count: int, numbers_a_point: int) -> Record:
    """Raises RecordError."""
    due = 5 + count * numbers_a_point
    if len(words) != due or not (words[0].isdecimal() and len(words[0]) < 9):
        problem = f"{len(words)} words; class, box and {count} points are {due}"
        raise RecordError("bad_record", problem)
    found: Record = {"box": _box(words[1:5], size), "box_source": "dataset"}
    keys.box(found)
    xs, ys = words[5::numbers_a_point], words[6::numbers_a_point]
    try:
        points: list[Point] = [
            [numbers.of_fraction(x, size[0]), numbers.of_fraction(y, size[1])]
            for x, y in zip(xs, ys, strict=True)
        ]
        if numbers_a_point == 2:
            flags = [0.0 if min(p or ()) < 0 else 2.0 for p in points]
        else:
            flags = [float(v) for v in words[7::3]]
    except ValueError as error:
        raise RecordError("bad_points", str(error)) from None
    if not {0, 1, 2} >= set(flags):
        raise RecordError("bad_points", "each third number of a point is 0, 1 or 2")
    found |= points_of(flags, points)
    keys.points(found)
    return found


def _box(words: list[str], size: Size) -> list[float]:
    try:
        cx, cy, width, height = (
            numbers.times(word, size[axis]) for word, axis in zip(words, (0, 1, 0, 1), strict=True)
        )
    except ValueError as error:
        raise RecordError("bad_box", str(error)) from None
    half = Decimal("0.5")
    edges = (cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2)
    return [float(edge - half) for edge in edges]


def write(
    items: Iterable[Item], fail: Fail, what: str, folder: str | None
) -> Iterator[tuple[str, bytes | Path]]:
    """The files of a folder: labels and pictures by split, and data.yaml, which is of the first
    face: those of another number of points fail. So does a face of another split than that of the
    face before it on the same picture."""
    names, splits = FileNames(), set[str]()
    first: Record = {}
    count = outside = 0
    for faces in by_picture(items, fail):
        lines: list[str] = []
        is_outside, split = False, ""
        for item in faces:
            try:
                labels = Labels.of(item.record, what)
                if count not in (0, len(labels.points)):
                    problem = f"{len(labels.points)} points, and the faces before it have {count}"
                    raise RecordError("bad_points", problem)
                own = keys.split(item.record) or "train"
                if lines and own != split:
                    problem = f"its split is {own}, but {split} that of a face before it on the "
                    raise RecordError("bad_record", problem + "same picture; make them one")
                picture = picture_of(keys.image(item.record))
                size = _size(item.record)
                lines.append(_line(item.record, labels, size))
                count, first, split = len(labels.points), first or item.record, own
                is_outside |= _is_outside(labels, size)
            except RecordError as error:
                fail(item, error)
        if lines:
            image = keys.image(faces[0].record)
            name = f"{split}/{names.of_photo(image)}"
            splits.add(split)
            outside += is_outside
            suffix = os.path.splitext(remote.path_of(image))[1]
            yield f"images/{name}{suffix}", picture
            yield f"labels/{name}.txt", ("\n".join(lines) + "\n").encode()
    if outside:
        report(
            f"kp-prep: {outside} {'picture has' if outside == 1 else 'pictures have'} a point "
            "outside; Ultralytics leaves those out where that is by over a hundredth of the size"
        )
    if first:
        yield CONFIG, _yaml(first, count, splits).encode()


def _size(record: Record) -> Size:
    """The size of the picture. RecordError where the record has another one."""
    image, size = keys.image(record), keys.size(record)
    found = images.shown_size(image)
    if found != size:
        problem = f"{image} has {found[0]}x{found[1]} pixels, and `size` says {size[0]}x{size[1]}"
        raise RecordError("bad_record", problem)
    return size


def _is_outside(labels: Labels, size: Size) -> bool:
    """Whether a point has a fraction below 0 or above 1."""
    known = [point for point in labels.points if point is not None]
    return not all(0 <= x <= size[0] and 0 <= y <= size[1] for x, y in known)


def _line(record: Record, labels: Labels, size: Size) -> str:
    """Raises RecordError."""
    box = keys.box(record)
    exact = [numbers.plus(edge, 0.5) for edge in box]
    sides: list[Any] = [
        ((exact[0] + exact[2]) / 2, size[0]),
        ((exact[1] + exact[3]) / 2, size[1]),
        (exact[2] - exact[0], size[0]),
        (exact[3] - exact[1], size[1]),
    ]
    words = [repr(float(side / whole)) for side, whole in sides]
    if any("e" in word for word in words) or _box(words, size) != list(box):
        words = [numbers.quotient(side, whole) for side, whole in sides]
    for point, flag in zip(labels.points, labels.visibility(), strict=True):
        x, y = point or (0.0, 0.0)
        words += [numbers.fraction(x, size[0]), numbers.fraction(y, size[1]), str(flag)]
    return " ".join(["0", *words])


def _yaml(record: Record, count: int, splits: set[str]) -> str:
    val = next((s for s in ("val", "test", "train") if s in splits), "train")
    train = "train" if "train" in splits else val
    lines = [f"train: images/{train}", f"val: images/{val}"]
    lines += ["test: images/test"] if "test" in splits else []
    lines.append(f"kpt_shape: [{count}, 3]")
    known = keys.known_scheme(record, count)
    if known is not None and known.swap is not None:
        lines.append(f"flip_idx: [{', '.join(map(str, known.swap))}]")
    return "\n".join([*lines, "names:", "  0: face", ""])
