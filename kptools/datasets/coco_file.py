"""A COCO document of any length, read a piece at a time, and the table of its pictures on disk.

`json` decodes one element after the other: 17,000 faces of 68 points a second. ijson takes as long
(2.6 s against 2.9 for 50,000 faces) and reads one part of a document in a pass; orjson takes nine
bytes of memory for each of the file.
"""

import json
import os
import sqlite3
from collections.abc import Iterator
from typing import Any, TextIO

from kptools.console import report
from kptools.datasets.labels import is_text
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.limits import MAX_LINE_BYTES

_CHUNK = 1 << 20  # characters
_SPACE = " \t\r\n"
EMPTY = object()  # stands for the elements of a list that has none


class Pictures:
    """A table of pictures in a temporary file: so many bytes of memory, whatever their number."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._do("PRAGMA journal_mode = OFF")
        self._do("CREATE TABLE picture (number INTEGER PRIMARY KEY, key UNIQUE, name, w, h)")
        self._last: tuple[str, int] = ("", 0)
        self._count = 0

    def __enter__(self) -> "Pictures":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """The table is gone."""
        self._db.close()

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[tuple[int, str, int, int]]:
        """Number, name, width and height, in the order in which they came."""
        for number, name, width, height in self._do(
            "SELECT number, name, w, h FROM picture ORDER BY number"
        ):
            yield number, json.loads(name), width, height

    def add(self, name: str, width: int, height: int) -> int:
        """The number of a picture, from 1, which it has from now on."""
        if name != self._last[0]:
            key = json.dumps(name)
            row = self._do("SELECT number FROM picture WHERE key = ?", key).fetchone()
            number = row[0] if row else self._insert(key, key, width, height)
            self._last = (name, number)
        return self._last[1]

    def put(self, picture: Any) -> None:
        """Keep an element of `images`. RecordError where it is none."""
        if not isinstance(picture, dict) or not isinstance(picture.get("file_name"), str):
            raise RecordError("bad_record", "one of `images` is no object with a file_name")
        sides = [picture.get("width"), picture.get("height")]
        width, height = (
            side if isinstance(side, int | float) and 0 < side < 2**31 else 0 for side in sides
        )
        name = json.dumps(picture["file_name"])
        self._insert(json.dumps(picture.get("id")), name, width, height)

    def find(self, number: Any) -> tuple[str, float, float]:
        """Name, width and height (0: not known) of the picture of this id. RecordError where there
        is none, or its name can be none of a file."""
        row = self._do(
            "SELECT name, w, h FROM picture WHERE key = ?", json.dumps(number)
        ).fetchone()
        if row is None:
            raise RecordError("bad_record", f"no picture of `images` has the id {str(number)[:40]}")
        name = json.loads(row[0])
        if not is_text(name) or not name or "\0" in name:
            raise RecordError("bad_record", f"file_name {row[0][:60]} can be no name of a file")
        return name, row[1], row[2]

    def _insert(self, *values: str | float) -> int:
        done = self._do("INSERT OR IGNORE INTO picture VALUES (NULL, ?, ?, ?, ?)", *values)
        self._count += done.rowcount
        return done.lastrowid or 0

    def _do(self, statement: str, *values: str | float) -> sqlite3.Cursor:
        try:
            return self._db.execute(statement, values)
        except sqlite3.Error as error:
            raise KptoolsError(f"the table of pictures: {error}; make room in $TMPDIR") from None


class Document:
    """The pictures and categories of a document, and then its annotations. `marks_hidden`: one of
    its keypoints is marked as seen (2), so that 1 is hidden. Raises UsageError, KptoolsError."""

    def __init__(self, path: str) -> None:
        if not os.path.isfile(path):
            raise UsageError(f"there is no file {path}")
        self.path, self.folder = path, os.path.dirname(path)
        self.pictures = Pictures()
        self.categories: dict[Any, dict[str, Any]] = {}
        self.marks_hidden = False
        found = set()
        for key, value in elements(path):
            found.add(key)
            if value is EMPTY:
                continue
            if key == "images":
                self._put(value)
            elif key == "categories":
                self._name(value)
            elif key == "annotations" and not self.marks_hidden:
                keypoints = value.get("keypoints") if isinstance(value, dict) else None
                self.marks_hidden = isinstance(keypoints, list) and 2 in keypoints[2::3]
        missing = [key for key in ("images", "annotations") if key not in found]
        if missing:
            raise KptoolsError(f"{path} has no `{missing[0]}`; it is no file of COCO keypoints")

    def __enter__(self) -> "Document":
        return self

    def __exit__(self, *_: object) -> None:
        self.pictures.close()

    def annotations(self) -> Iterator[Any]:
        """The annotations in their order."""
        for key, value in elements(self.path):
            if key == "annotations" and value is not EMPTY:
                yield value

    def report_without_face(self, annotated: int) -> None:
        """Report how many pictures have no annotation."""
        count = len(self.pictures) - annotated
        if count > 0:
            report(f"kp-prep: {self.path}: {count} of {len(self.pictures)} pictures have no face")

    def _put(self, picture: Any) -> None:
        try:
            self.pictures.put(picture)
        except RecordError as error:
            raise KptoolsError(f"{self.path}: {error}") from None

    def _name(self, category: Any) -> None:
        """Keep a category: its name, and its `keypoints` and `skeleton` where they are lists."""
        if not isinstance(category, dict) or not isinstance(category.get("id"), int | str):
            raise KptoolsError(f"{self.path}: one of `categories` is no object with an id")
        lists = {key: category.get(key) for key in ("keypoints", "skeleton")}
        found = {key: value if isinstance(value, list) else [] for key, value in lists.items()}
        self.categories[category["id"]] = {"name": category.get("name")} | found


def elements(path: str) -> Iterator[tuple[str, Any]]:
    """The keys of the object in a JSON file with their values; of a list each of its elements,
    `EMPTY` where it has none. KptoolsError where it is no object in JSON."""
    try:
        with open(path, encoding="utf-8-sig") as handle:
            yield from _Scanner(path, handle).elements()
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KptoolsError(f"{path} is no text in UTF-8; it is no JSON") from None


class _Scanner:
    """A text of JSON, of which a piece is held, and the place in it."""

    def __init__(self, path: str, handle: TextIO) -> None:
        self.path, self.handle = path, handle
        self.text, self.at, self.before, self.ended = "", 0, 0, False
        self.decode = json.JSONDecoder(parse_constant=lambda _: None).raw_decode

    def elements(self) -> Iterator[tuple[str, Any]]:
        if self._next() != "{":
            raise self._broken("it does not begin with {, so it is no COCO file")
        self.at += 1
        while self._next() != "}":
            key = self._value()
            if not isinstance(key, str) or self._next() != ":":
                raise self._broken("a key and a colon are expected")
            self.at += 1
            if self._next() == "[":
                self.at += 1
                empty = True
                while self._next() != "]":
                    yield key, self._value()
                    empty = False
                    self._separator("]")
                self.at += 1
                if empty:
                    yield key, EMPTY
            else:
                yield key, self._value()
            self._separator("}")

    def _separator(self, end: str) -> None:
        found = self._next()
        if found == ",":
            self.at += 1
        elif found != end:
            raise self._broken(f"a comma or {end} is expected")

    def _next(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self.at < len(self.text):
                if self.text[self.at] not in _SPACE:
                    return self.text[self.at]
                self.at += 1
            if not self._more(_CHUNK):
                return ""

    def _value(self) -> Any:
        size = _CHUNK
        self._next()
        while True:
            try:
                value, end = self.decode(self.text, self.at)
            except (ValueError, RecursionError) as error:
                if len(self.text) - self.at > MAX_LINE_BYTES:
                    raise self._broken(f"{error} (or over {MAX_LINE_BYTES >> 20} MiB)") from None
                if not self._more(size):
                    raise self._broken(str(error)) from None
                size *= 2
                continue
            if end == len(self.text) and self._more(_CHUNK):  # a number may go on
                continue
            self.at = end
            return value

    def _more(self, size: int) -> bool:
        """Read on; whether there was more."""
        piece = self.handle.read(size)
        if piece:
            self.before += self.at
            self.text, self.at = self.text[self.at :] + piece, 0
        return bool(piece)

    def _broken(self, why: str) -> KptoolsError:
        why = why.partition(": line")[0]
        place = self.before + self.at + 1
        return KptoolsError(f"{self.path}: no JSON from character {place} on: {why}")
