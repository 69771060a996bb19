"""iBUG 300-W (Sagonas et al., 2013) in dlib's layout: 68 points.

    ibug_300W_large_face_landmark_dataset/
        labels_ibug_300W_train.xml      <images><image file=".."><box ..><part ../></box></image>
        afw/134212_1.jpg  afw/134212_1.pts
        helen/trainset/..  lfpw/trainset/..  ibug/..

The XML's numbers are 0-based whole pixels of the picture as stored (dlib ignores EXIF), and so are
those of the `.pts`: where a picture has an EXIF orientation, its boxes and points are turned to the
picture as shown, and the record says so (`orientation`). A box is
[left, left + width) by [top, top + height). An image may have several boxes; a box may have no
parts, parts in any order, or some of them, and may leave the image. A `.pts` file has 1-based
floats, with or without a header (`version`, `n_points`, braces). The `.pts` hold the points
exactly, so for accuracy take the boxes from the XML and the points from the `.pts`. Where the
photos were shrunk, `to_original.json` in the root may hold, by id, the factor from their pixels to
the original photo's: the record's `scale`. The boxes of iBUG's own files are those of dlib's
frontal detector (`box_source`); those of other XML files are called `dataset`.

Source: http://dlib.net/files/data/ibug_300W_large_face_landmark_dataset.tar.gz
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path
from xml.parsers import expat

import numpy as np
import orjson

from kptools import geometry as g
from kptools.datasets.common import find_root, image_beside, read_text, start, walk
from kptools.datasets.detectors import dlib_frontal
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.limits import MAX_COORDINATE
from kptools.records.item import Item
from kptools.records.keys import Point, Record, fail, failed
from kptools.schemes.catalog import FULL
from kptools.storage import images

FOLDER = "ibug_300W_large_face_landmark_dataset"
SOURCE = (
    "get it from http://dlib.net/files/data/ibug_300W_large_face_landmark_dataset.tar.gz, "
    "unpack it, and name its folder"
)
XML = "labels_ibug_300W_train.xml"
IBUG = "labels_ibug_300W"  # how the names of iBUG's own files begin
SCHEME = FULL["ibug68"]
_CHUNK = 1 << 16


def read(root: str | None, xml: str | None, annotations: str) -> Iterator[Item]:
    """The faces of an XML file, or of a tree of .pts files, or of both joined by path.

    `annotations`: `xml` or `pts`. `xml`: a file, by itself or below the root; under `pts` it
    gives the boxes. All are train, but for those of a list of test faces. Raises UsageError,
    KptoolsError.
    """
    root = find_root(root, FOLDER, SOURCE)
    faces = _scaled(_faces(root, xml, annotations), os.path.join(root, "to_original.json"))
    return _with_split(faces, "test" if is_test(xml) else "train")


def _faces(root: str, xml: str | None, annotations: str) -> Iterator[Item]:
    if annotations == "pts" and xml is None:
        return _from_pts(root)
    path = xml or XML
    if not os.path.exists(path):
        path = os.path.join(root, path)
    if not os.path.isfile(path):
        raise UsageError(f"there is no {path}; name the XML with --xml FILE, or --annotations pts")
    return _from_xml(root, path, exact=annotations == "pts")


def _scaled(items: Iterator[Item], path: str) -> Iterator[Item]:
    """The items, with the `scale` that the file has for their photo."""
    factors = {}
    if os.path.isfile(path):
        try:
            with open(path, "rb") as handle:
                factors = orjson.loads(handle.read())
            if not all(0 < float(factor) < math.inf for factor in factors.values()):
                raise ValueError("a factor is not positive")
        except (OSError, ValueError, AttributeError, TypeError) as error:
            raise KptoolsError(f"{path} is not a table of factors: {error}") from None
    for item in items:
        factor = factors.get(item.record["id"].partition("#")[0])
        if factor is not None:
            item.record["scale"] = factor
        yield item


def _with_split(items: Iterator[Item], split: str) -> Iterator[Item]:
    for item in items:
        item.record["split"] = split
        yield item


def _from_pts(root: str) -> Iterator[Item]:
    for path in walk(root, [".pts"]):
        record = start(root, image_beside(path[: -len(".pts")]))
        try:
            record |= {"box": None, "box_source": "points", "points": read_pts(path)}
            if not failed(record):
                turn(record, record["image"])
            truth = g.from_list(record["points"])
            record |= {"box": list(g.box_of_points(truth)), "scheme": SCHEME.name}
        except RecordError as error:
            record.pop("box", None)
            fail(record, error)
        yield Item(record, path, 1)


def read_pts(path: str) -> list[Point]:
    """The points of a .pts file in the file frame: its numbers less 1. Raises RecordError."""
    points: list[Point] = []
    expected = None
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        words = line.replace(",", " ").split()
        if not words or words[0] in ("{", "}"):
            continue
        if words[0].rstrip(":") in ("version", "n_points"):
            if words[0].startswith("n_points") and words[-1].isdecimal():
                expected = int(words[-1]) if len(words[-1]) < 9 else -1
            continue
        try:
            x, y = (float(word) - 1 for word in words)
        except ValueError:
            raise RecordError(
                "bad_points", f"{path}:{number}: {line.strip()[:60]!r} is not x and y"
            ) from None
        if not (abs(x) <= MAX_COORDINATE and abs(y) <= MAX_COORDINATE):
            raise RecordError("bad_points", f"{path}:{number}: a coordinate is out of bounds")
        points.append([x, y])
    if len(points) != SCHEME.count or (expected is not None and expected != len(points)):
        raise RecordError(
            "bad_points", f"{path} has {len(points)} points; {SCHEME.name} has {SCHEME.count}"
        )
    return points


def turn(record: Record, image: str) -> None:
    """Bring, in place, the points and the box of the picture as stored to the picture as shown,
    and give the record its `orientation`, where these differ. Raises RecordError."""
    m, orientation = images.stored_to_shown(image)
    if orientation == 1:
        return
    record["orientation"] = orientation
    mirrored = float(np.linalg.det(m[:, :2])) < 0
    if record.get("points") is not None:
        points = g.transform(m, g.from_list(record["points"]))
        if mirrored and SCHEME.swap is not None:  # left and right change places
            points = points[list(SCHEME.swap)]
        record["points"] = g.to_list(points)
    if record.get("box") is not None:
        x0, y0, x1, y1 = record["box"]
        corners = g.transform(m, np.array([[x0, y0], [x1, y1]]))
        record["box"] = [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]


def _from_xml(root: str, path: str, *, exact: bool) -> Iterator[Item]:
    parser = _Parser(root, path, exact)
    try:
        with open(path, "rb") as handle:
            while chunk := handle.read(_CHUNK):
                yield from parser.feed(chunk)
            yield from parser.feed(b"", last=True)
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}") from None


class _Parser:
    """expat, fed a chunk at a time: it holds the faces of one chunk, and knows each one's line."""

    def __init__(self, root: str, path: str, exact: bool) -> None:
        self.root, self.path, self.exact = root, path, exact
        of_ibug = os.path.basename(path).startswith(IBUG)
        self.box_source = dlib_frontal.SOURCE if of_ibug else "dataset"
        self.ready: list[Item] = []
        self.begun = False  # whether an element was seen
        self.file = ""
        self.first: Record = {}  # the keys that all faces of the image share
        self.faces = 0
        self.box: dict[str, str] | None = None
        self.line = 0
        self.parts: dict[str, tuple[str, str]] = {}
        self.expat = expat.ParserCreate()
        self.expat.StartElementHandler = self._open
        self.expat.EndElementHandler = self._close
        self.expat.EntityDeclHandler = self._entity

    def feed(self, chunk: bytes, last: bool = False) -> Iterator[Item]:
        """The faces that end in this chunk; KptoolsError after them, where the XML is broken."""
        broken = None
        try:
            self.expat.Parse(chunk, last)
        except expat.ExpatError as error:
            broken = KptoolsError(
                f"{self.path}:{error.lineno}: not well-formed XML "
                f"({expat.ErrorString(error.code)}); the faces before it are out"
            )
        except (LookupError, ValueError) as error:
            if self.begun:
                raise
            # of the encoding, which Python lacks or cannot feed
            broken = KptoolsError(f"{self.path}: {error}; write it in UTF-8")
        yield from self.ready
        self.ready.clear()
        if broken is not None:
            raise broken

    def _entity(self, *_: object) -> None:
        raise KptoolsError(f"{self.path}: it declares entities; a list of faces needs none")

    def _open(self, tag: str, attributes: dict[str, str]) -> None:
        self.begun = True
        if tag == "image":
            self.file, self.faces = attributes.get("file", ""), 0
            path = os.path.join(os.path.dirname(self.path), self.file)
            self.first = start(self.root, path, self.file)
            if not self.file:
                self.first = {"id": f"{self.path}:{self.expat.CurrentLineNumber}"}
                fail(self.first, RecordError("bad_record", "an <image> without file="))
        elif tag == "box" and self.first:
            self.box, self.parts, self.line = attributes, {}, self.expat.CurrentLineNumber
        elif tag == "part" and self.box is not None:
            name = attributes.get("name", "")
            self.parts[name] = (attributes.get("x", ""), attributes.get("y", ""))

    def _close(self, tag: str) -> None:
        if tag == "box" and self.box is not None:
            self.faces += 1
            record = dict(self.first)
            if self.faces > 1:
                record["id"] += f"#{self.faces}"
            try:
                record |= self._annotations(self.box)
                if not failed(record):
                    turn(record, record["image"])
            except RecordError as error:
                if not failed(record):
                    fail(record, error)
            if failed(record):  # status and error close the record
                record |= {key: record.pop(key) for key in ("status", "error")}
            self.ready.append(Item(record, self.path, self.line))
            self.box = None
        elif tag == "image":
            self.first = {}

    def _annotations(self, box: dict[str, str]) -> Record:
        left, top, width, height = (_number(box, key) for key in ("left", "top", "width", "height"))
        if not (width > 0 and height > 0):
            raise RecordError("bad_box", f"a box of {width:g}x{height:g}; it has no area")
        found: Record = {
            "box": list(g.from_edges(left, top, left + width, top + height)),
            "box_source": self.box_source,
        }
        if self.exact:
            stem = os.path.splitext(os.path.join(os.path.dirname(self.path), self.file))[0]
            return found | {"points": read_pts(stem + ".pts"), "scheme": SCHEME.name}
        if self.parts:
            return found | {"points": _points(self.parts), "scheme": SCHEME.name}
        return found | {"scheme": SCHEME.name}


def _points(parts: dict[str, tuple[str, str]]) -> list[Point]:
    points: list[Point] = [None] * SCHEME.count
    for name, (x, y) in parts.items():
        index = int(name) if name.isdecimal() and len(name) < 5 else -1
        if not 0 <= index < SCHEME.count:
            raise RecordError("bad_points", f"a part named {name[:20]!r}; names are 00 to 67")
        points[index] = [_number({"x": x}, "x"), _number({"y": y}, "y")]
    return points


def _number(attributes: dict[str, str], key: str) -> float:
    text = attributes.get(key, "")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= MAX_COORDINATE:
        status = "bad_points" if key in ("x", "y") else "bad_box"
        raise RecordError(status, f'{key}="{text[:30]}" is not a number within bounds')
    return value


def is_test(xml: str | None) -> bool:
    """Whether the XML is a list of test faces, by its name."""
    return xml is not None and "test" in Path(xml).name
