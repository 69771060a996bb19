"""A table of faces, one a line: CSV, of any columns.

    image,person,box_x0,box_y0,box_x1,box_y1,nose_tip_x,nose_tip_y,visible,record

The columns of the image, the box and the points are found by their names (`columns`), or named by
options; the other columns are keys of the record. A cell without text is null. Edges of a box bound
an area in the same frame as the points: the first pixel is called `base`. A cell that is a number,
true or false, or a list, an object or a text in quotes as JSON has them, is that value; any other
is a text. The columns are the keys of the first face. What has no column, or is no such value, is
written as the object `record`.
"""

import csv
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

import orjson

from kptools import geometry as g
from kptools.datasets import numbers
from kptools.datasets.columns import BOX, Columns, find, is_plain
from kptools.datasets.common import (
    FaceIds,
    SchemeChoice,
    located,
    named_from,
    photo,
    split_of,
    start,
)
from kptools.datasets.labels import Labels
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import PREDICTION, Point, Record, fail, failed
from kptools.schemes.scheme import Scheme

_TEXTS = ("id", "group", "scheme", "split", "box_source", "dataset")
_KEPT = ("image", "size", "status", "error")  # what other columns do not change
# by --what, the keys that have columns of their own, or that are not to be in the table
_HELD = {
    "points": ("image", "size", "box", "points", "visible"),
    "pred": ("image", "size", "box", "points", "visible", *PREDICTION),
}
_CONSTANTS = {"true": True, "false": False}
_TERMINATOR = "\r\n"
_NUMBER = re.compile(r"-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?")


def read(
    file: str,
    images: str | None = None,
    scheme: str | None = None,
    image_column: str | None = None,
    point_columns: str | None = None,
    box_columns: str | None = None,
    headerless: bool = False,
    base: int = 0,
    delimiter: str = ",",
) -> Iterator[Item]:
    """The faces in the order of the lines. Raises UsageError, KptoolsError."""
    if not os.path.isfile(file):
        raise UsageError(f"there is no file {file}")
    choice = SchemeChoice(scheme, file)
    folder = os.path.dirname(file) if images is None else images
    try:
        with open(file, encoding="utf-8-sig", newline="") as handle:
            rows = _rows(handle, delimiter)
            first = next(rows, None)
            if first is None:
                return
            names = [str(i) for i in range(len(first[1]))] if headerless else first[1]
            columns = find(file, names, image_column, point_columns, box_columns, headerless)
            named = choice.by_names(columns.names_of_points(names))
            if named is not None:
                columns = columns.in_order_of(named, names, file)
            reader = _Reader(file, folder, columns, choice, base, named)
            for number, row in [first] if headerless else []:
                yield Item(reader.record(row, number), file, number)
            for number, row in rows:
                yield Item(reader.record(row, number), file, number)
    except csv.Error as error:
        raise KptoolsError(f"{file} is no table: {error}") from None
    except OSError as error:
        raise KptoolsError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KptoolsError(f"{file} is no text in UTF-8") from None


def _rows(handle: TextIO, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """The rows that are not empty, and the line on which each ends."""
    reader = csv.reader(handle, delimiter=_character(delimiter), skipinitialspace=True)
    return ((reader.line_num, row) for row in reader if row)


def _character(delimiter: str) -> str:
    found = {"tab": "\t", "\\t": "\t", "space": " "}.get(delimiter, delimiter)
    if len(found) != 1 or found in '"\r\n':
        raise UsageError(f"--delimiter {delimiter!r}: one character, or tab")
    return found


class _Reader:
    """Rows to records."""

    def __init__(
        self,
        file: str,
        folder: str,
        columns: Columns,
        choice: SchemeChoice,
        base: int,
        named: Scheme | None,
    ) -> None:
        self.named = named
        self.file, self.folder, self.columns = file, folder, columns
        self.choice, self.base = choice, base
        self.ids, self.split = FaceIds(), split_of(file)
        self._name, self._start = "", Record()

    def record(self, row: list[str], number: int) -> Record:
        record: Record = {}
        try:
            if len(row) != self.columns.count:
                problem = f"{len(row)} cells, where there are {self.columns.count} columns"
                raise RecordError("bad_record", problem)
            record |= self._picture(row[self.columns.image])
            record |= self._labels(row, record)
        except RecordError as error:
            record.setdefault("id", f"{self.file}:{number}")
            if not failed(record):
                fail(record, error)
        if failed(record):  # status and error close the record
            record |= {key: record.pop(key) for key in ("status", "error")}
        return record

    def _picture(self, name: str) -> Record:
        if not name:
            raise RecordError("bad_record", "no name of an image")
        if name != self._name:
            self._start = start(self.folder, located(self.folder, name), name)
            self._name = name
        own = self._start["id"]
        return self._start | {"id": self.ids.unique_id(own), "group": photo(own)}

    def _labels(self, row: list[str], record: Record) -> Record:
        others = {
            name: row[at] if name in _TEXTS else _value(row[at])
            for name, at in self.columns.others
            if row[at] and name not in _KEPT
        }
        more = others.pop("record", None)
        if isinstance(more, dict):
            others |= {key: more[key] for key in more if key not in _KEPT}
        found: Record = {}
        pairs = [(self._number(row[x]), self._number(row[y])) for x, y in self.columns.points]
        for index, (x, y) in enumerate(pairs):
            if (x is None) != (y is None):
                raise RecordError("bad_points", f"point {index} has one coordinate of two")
        points: list[Point] = [None if x is None or y is None else [x, y] for x, y in pairs]
        if any(points):
            found["points"] = points
        for key in ("visible", "score"):
            keys.per_point(others, key, len(points))
        edges = [self._number(row[at], "bad_box") for at in self.columns.box]
        if edges and None not in edges:
            found |= {"box": edges, "box_source": "dataset"}
        elif any(points):
            known = g.from_list(points)
            found |= {"box": list(g.box_of_points(known)), "box_source": "points"}
        elif not failed(record):
            whole = g.whole_image(keys.size(record))
            found |= {"box": list(whole), "box_source": "image"}
        if not ("scheme" in others and self.choice.known is None) and points:
            found |= self.choice.keys(len(points), self.named)
            others.pop("scheme", None)
        found |= {"split": self.split} | others
        keys.box(found)
        return found

    def _number(self, cell: str, status: str = "bad_points") -> float | None:
        if not cell or cell.lower() == "nan":
            return None
        try:
            return numbers.moved(cell, -self.base) if self.base else numbers.number(cell)
        except ValueError as error:
            raise RecordError(status, str(error)) from None


def _value(cell: str) -> Any:
    """What a cell says."""
    if cell in _CONSTANTS:
        return _CONSTANTS[cell]
    if _NUMBER.fullmatch(cell) or cell[:1] in ("[", "{", '"'):
        try:
            return orjson.loads(cell)
        except orjson.JSONDecodeError:
            pass
    return cell


def write(
    items: Iterable[Item],
    fail: Fail,
    what: str,
    folder: str | None,
    base: int = 0,
    delimiter: str = ",",
) -> Iterator[bytes]:
    """The lines of a table, whose names of images are relative to `folder`. Its columns are those
    of the first face."""
    table, begun = _Table(what, base), False
    # cells with a character of the terminator are quoted; `_Line` takes it off
    writer = csv.writer(_Line(), delimiter=_character(delimiter), lineterminator=_TERMINATOR)
    for item in items:
        if item.failed:
            continue
        try:
            row = table.row(item.record, folder)
        except RecordError as error:
            fail(item, error)
            continue
        if not begun:
            begun = True
            yield writer.writerow(table.names)
        yield writer.writerow(row)


class _Line:
    """What the module `csv` writes to: it gives the line back."""

    def write(self, line: str) -> bytes:
        return line.removesuffix(_TERMINATOR).encode(errors="surrogatepass")


class _Table:
    """The columns of the first face, and rows of these."""

    def __init__(self, what: str, base: int) -> None:
        self.what, self.base = what, base
        self.names: list[str] = []
        self._points = 0
        self._scheme: Scheme | None = None  # after which the columns of points are called
        self._keys: list[str] = []

    def row(self, record: Record, folder: str | None) -> list[str]:
        """Raises RecordError."""
        labels = Labels.of(record, self.what)
        image = named_from(folder, keys.image(record))
        if image != image.lstrip():
            raise RecordError(
                "bad_record", f"a table cannot hold a name with a blank first: {image!r}"
            )
        row = [image]
        edges = [self._shown(edge) for edge in keys.box(record)]
        others = {key: value for key, value in record.items() if key not in _HELD[self.what]}
        scheme = keys.known_scheme(record, len(labels.points))
        if not self.names:
            self._begin(list(others), len(labels.points), scheme)
        if len(labels.points) != self._points:
            problem = f"{len(labels.points)} points; the table has columns for {self._points}"
            raise RecordError("bad_points", problem)
        if scheme is not None and self._scheme not in (None, scheme):
            problem = f"its points are of {scheme.name}; the table's columns are those of another"
            raise RecordError("bad_scheme", problem)
        for key in self._keys:
            cell = _cell(key, others[key]) if key in others else ""
            if cell:
                del others[key]
            row.append(cell)
        row += edges
        for point in labels.points:
            row += ["", ""] if point is None else [self._shown(v) for v in point]
        flags = labels.visible if self.what == "points" else labels.score
        return [*row, _json(flags) if flags else "", _json(others) if others else ""]

    def _begin(self, others: list[str], points: int, scheme: Scheme | None) -> None:
        self._keys, self._points = [key for key in others if is_plain(key)], points
        self.names = ["image", *self._keys, *BOX]
        self._scheme = scheme
        shown = scheme.names if scheme is not None else range(points)
        self.names += [f"{name}_{axis}" for name in shown for axis in "xy"]
        self.names += ["visible" if self.what == "points" else "score", "record"]

    def _shown(self, value: float) -> str:
        return numbers.text(numbers.plus(value, self.base)) if self.base else repr(value)


def _cell(key: str, value: Any) -> str:
    """The value as a cell that is read as the same; empty where there is none."""
    if isinstance(value, str) and _says(key, value, value):
        return value
    cell = _json(value)
    return cell if _says(key, cell, value) else ""


def _says(key: str, cell: str, value: Any) -> bool:
    """Whether a cell is read as this value."""
    read = cell if key in _TEXTS else _value(cell)
    return cell == cell.lstrip() and type(read) is type(value) and bool(read == value)


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
