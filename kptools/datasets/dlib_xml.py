"""dlib's XML, as its imglab and its trainers have it: any number of points.

    <dataset><images>
      <image file='a.jpg' width='640' height='480'>
        <box top='74' left='74' width='138' height='148'>
          <part name='00' x='55' y='141'/> ...

Numbers are 0-based whole pixels of the picture as stored (dlib ignores EXIF): where a picture has
an EXIF orientation, its boxes and points are turned to the picture as shown, and the record says so
(`orientation`); what is written is turned back. A box is [left, left + width) by
[top, top + height). An image may have several boxes; a box may have no parts, parts in any order,
or some of them, and may leave the image. A name is the index of its point. dlib reads whole numbers
alone, so what is written is rounded.
"""

import math
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np

from kptools import geometry as g
from kptools.datasets.common import SchemeChoice, named_from, split_of, start
from kptools.datasets.labels import Labels, by_picture
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.limits import MAX_COORDINATE
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Point, Record, fail, failed
from kptools.storage import images
from kptools.units import Size

_CHUNK = 1 << 16
# What XML 1.0 has no character for
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def read(file: str, scheme: str | None = None) -> Iterator[Item]:
    """The faces of an XML file. Raises UsageError, KptoolsError."""
    if not os.path.isfile(file):
        raise UsageError(f"there is no file {file}")
    for item in faces(os.path.dirname(file), file, SchemeChoice(scheme, file)):
        item.record["split"] = split_of(file)
        yield item


def faces(
    root: str,
    path: str,
    scheme: SchemeChoice,
    box_source: str = "dataset",
    exact: Callable[[str], list[Point]] | None = None,
) -> Iterator[Item]:
    """The faces of the XML file at `path`, whose ids are paths below `root`. `exact` gives the
    points of the picture at a path without suffix, in place of the parts. Raises KptoolsError."""
    parser = _Parser(root, path, scheme, box_source, exact)
    try:
        with open(path, "rb") as handle:
            while chunk := handle.read(_CHUNK):
                yield from parser.feed(chunk)
            yield from parser.feed(b"", last=True)
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}") from None


class _Parser:
    """expat, fed a chunk at a time: it holds the faces of one chunk, and knows each one's line."""

    def __init__(
        self,
        root: str,
        path: str,
        scheme: SchemeChoice,
        box_source: str,
        exact: Callable[[str], list[Point]] | None,
    ) -> None:
        self.root, self.path, self.exact = root, path, exact
        self.scheme, self.box_source = scheme, box_source
        self.ready: list[Item] = []
        self.begun = False  # whether an element was seen
        self.file = ""
        self.first: Record = {}  # the keys that all faces of the image share
        self.faces = 0
        self.box: dict[str, str] | None = None
        self.line = 0
        self.parts: list[tuple[str, str, str]] = []
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
            self.box, self.parts, self.line = attributes, [], self.expat.CurrentLineNumber
        elif tag == "part" and self.box is not None:
            name, x, y = (attributes.get(key, "") for key in ("name", "x", "y"))
            self.parts.append((name, x, y))

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
        keys.box(found)
        if self.exact is not None:
            stem = os.path.splitext(os.path.join(os.path.dirname(self.path), self.file))[0]
            exact = self.exact(stem)
            return found | {"points": exact} | self.scheme.keys(len(exact))
        if not self.parts:
            return found | self.scheme.keys_of_none()
        points: list[Point] = [None] * (self.scheme.count or 0)
        for name, x, y in self.parts:
            index = self._index(name)
            points += [None] * (index + 1 - len(points))
            if points[index] is not None:
                raise RecordError("bad_points", f"part {name} is there twice")
            points[index] = [_number({"x": x}, "x"), _number({"y": y}, "y")]
        return found | {"points": points} | self.scheme.keys(len(points))

    def _index(self, name: str) -> int:
        """Which point a part is. Raises RecordError."""
        count = self.scheme.count or 10_000
        if not (name.isdecimal() and len(name) < 5 and int(name) < count):
            names = f"00 to {count - 1:02d}" if self.scheme.count else "numbers: 00, 01, and so on"
            raise RecordError("bad_points", f"a part named {name[:20]!r}; names are {names}")
        return int(name)


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


def turn(record: Record, image: str) -> None:
    """Bring, in place, the points and the box of the picture as stored to the picture as shown,
    and give the record its `orientation`, where these differ. Raises RecordError."""
    m, orientation = images.stored_to_shown(image)
    if orientation == 1:
        return
    record["orientation"] = orientation
    if record.get("points") is not None:
        record["points"] = _turned_points(m, record["points"], record)
    if record.get("box") is not None:
        record["box"] = _turned_box(m, record["box"])


def _turned_points(m: g.Matrix, points: list[Point], record: Record) -> list[Point]:
    """The points that `m` maps; where it mirrors, left and right change places."""
    turned = g.transform(m, g.from_list(points))
    scheme = keys.known_scheme(record, len(points))
    mirrored = float(np.linalg.det(m[:, :2])) < 0
    if mirrored and scheme is not None and scheme.swap is not None:
        turned = turned[list(scheme.swap)]
    return g.to_list(turned)


def _turned_box(m: g.Matrix, box: Sequence[float]) -> list[float]:
    x0, y0, x1, y1 = box
    corners = g.transform(m, np.array([[x0, y0], [x1, y1]]))
    return [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]


def write(items: Iterable[Item], fail: Fail, what: str, folder: str | None) -> Iterator[bytes]:
    """The lines of an XML file in `folder`, of the pictures as stored. A face without points is a
    box without parts; one without the prediction that was asked for fails."""
    yield b"<?xml version='1.0' encoding='UTF-8'?>"
    yield b"<dataset>\n<name>kptools</name>\n<images>"
    for faces in by_picture(items, fail):
        head, boxes = b"", []
        for item in faces:
            try:
                m, size = _shown_to_stored(item.record)
                head = _image(item.record, folder, size)
                boxes.append(_box(item.record, what, m))
            except RecordError as error:
                fail(item, error)
        if boxes:
            yield head
            yield from boxes
            yield b"  </image>"
    yield b"</images>\n</dataset>"


def _shown_to_stored(record: Record) -> tuple[g.Matrix, Size]:
    """The matrix from the picture as shown to the picture as stored, and the size of that. Raises
    RecordError, also where the record has another size than the picture."""
    image, (width, height) = keys.image(record), keys.size(record)
    found = images.shown_size(image)
    if found != (width, height):
        problem = f"{image} has {found[0]}x{found[1]} pixels, and `size` says {width}x{height}"
        raise RecordError("bad_record", problem)
    m, orientation = images.stored_to_shown(image)
    return g.invert(m), (height, width) if orientation > 4 else (width, height)


def _image(record: Record, folder: str | None, size: Size) -> bytes:
    """Raises RecordError where XML cannot hold the name."""
    name = named_from(folder, keys.image(record))
    if _NOT_XML.search(name):
        problem = f"XML cannot hold the name {name!a}; rename the picture"
        raise RecordError("bad_record", problem)
    return f"  <image file={quoteattr(name)} width='{size[0]}' height='{size[1]}'>".encode()


def _box(record: Record, what: str, m: g.Matrix) -> bytes:
    """A box as it stands in the file, rounded; `m` is from the picture as shown to the picture as
    stored. Raises RecordError."""
    box = _turned_box(m, keys.box(record))
    left, top, right, bottom = (_rounded(edge + 0.5) for edge in box)
    width, height = max(1, right - left), max(1, bottom - top)
    head = f"    <box top='{top}' left='{left}' width='{width}' height='{height}'"
    if what == "points" and what not in record:
        return f"{head}/>".encode()
    points = _turned_points(m, Labels.of(record, what).points, record)
    digits = max(2, len(str(len(points) - 1)))  # dlib puts them in the order of their names
    parts = [
        f"      <part name='{index:0{digits}d}' x='{_rounded(p[0])}' y='{_rounded(p[1])}'/>"
        for index, p in enumerate(points)
        if p is not None
    ]
    return "\n".join([f"{head}>", *parts, "    </box>"]).encode()


def _rounded(value: float) -> int:
    return math.floor(value + 0.5)
