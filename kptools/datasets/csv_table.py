"""A table of faces, one a line: CSV, of any columns.

    image,box_x0,box_y0,box_x1,box_y1,0_x,0_y,0_visible,1_x,1_y,1_visible,person

The columns of the image, the box and the points are found by their names (`columns`), or named by
options; the other columns are keys of the record. A cell without text is null. Edges of a box bound
an area in the same frame as the points: the first pixel is called `base`. A cell that is a number,
or a list, an object or a text in quotes as JSON has them, is that value; any other is a text.
"""

import csv
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

import orjson

from kptools import geometry as g
from kptools.console import report
from kptools.datasets import numbers
from kptools.datasets.columns import Columns, find
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

_TEXTS = ("id", "group", "scheme", "split", "box_source", "dataset")
_HELD = ("image", "size", "box", "points", "visible", *PREDICTION)
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
            reader = _Reader(file, folder, columns, choice, base)
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
        self, file: str, folder: str, columns: Columns, choice: SchemeChoice, base: int
    ) -> None:
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
            if row[at] and name not in ("size", "status", "error")
        }
        found: Record = {}
        pairs = [(self._number(row[x]), self._number(row[y])) for x, y in self.columns.points]
        for index, (x, y) in enumerate(pairs):
            if (x is None) != (y is None):
                raise RecordError("bad_points", f"point {index} has one coordinate of two")
        points: list[Point] = [None if x is None or y is None else [x, y] for x, y in pairs]
        if any(points):
            found["points"] = points
        for key, places in (("visible", self.columns.visible), ("score", self.columns.score)):
            cells = [row[at] for at in places]
            if any(cells) and any(points):
                found[key] = [_value(cell) if cell else int(key == "visible") for cell in cells]
                keys.per_point(found, key, len(points))
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
            found |= self.choice.keys(len(points))
            others.pop("scheme", None)
        found |= {"split": self.split} | others
        keys.box(found)
        return found

    def _number(self, cell: str, status: str = "bad_points") -> float | None:
        if not cell or cell.lower() == "nan":
            return None
        try:
            return numbers.moved(cell, -self.base)
        except ValueError as error:
            raise RecordError(status, str(error)) from None


def _value(cell: str) -> Any:
    """What a cell says."""
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
    of the first face; keys that later ones have beyond them are counted in a note."""
    table = _Table(what, base)
    writer = csv.writer(_Line(), delimiter=_character(delimiter), lineterminator="")
    for item in items:
        if item.failed:
            continue
        try:
            row = table.row(item.record, folder)
        except RecordError as error:
            fail(item, error)
            continue
        if table.count == 1:
            yield writer.writerow(table.names)
        yield writer.writerow(row)
    if table.left_out:
        names = ", ".join(sorted(table.left_out))
        report(f"kp-prep to csv: keys without a column were left out: {names}")


class _Line:
    """What the module `csv` writes to: it gives the line back."""

    def write(self, line: str) -> bytes:
        return line.encode(errors="surrogatepass")


class _Table:
    """The columns of the first face, and rows of these."""

    def __init__(self, what: str, base: int) -> None:
        self.what, self.base = what, base
        self.count = 0
        self.names: list[str] = []
        self.left_out: set[str] = set()
        self._keys: list[str] = []
        self._kinds: tuple[int, bool, bool] | None = None

    def row(self, record: Record, folder: str | None) -> list[str]:
        """Raises RecordError."""
        labels = Labels.of(record, self.what)
        points = len(labels.points)
        if self._kinds is None:
            self._begin(record, labels)
        assert self._kinds is not None
        of_first, has_visible, has_score = self._kinds
        if points != of_first:
            problem = f"{points} points, but the table's columns are of {of_first}"
            raise RecordError("bad_points", problem)
        others = {key: value for key, value in record.items() if key not in _HELD}
        row = [named_from(folder, keys.image(record))]
        row += [_cell(key, others.get(key)) for key in self._keys]
        row += [self._shown(edge) for edge in keys.box(record)]
        seen = [1] * points if labels.visible is None else labels.visible
        score = [0.0] * points if labels.score is None else labels.score
        for index, point in enumerate(labels.points):
            row += ["", ""] if point is None else [self._shown(v) for v in point]
            row += [str(seen[index])] * has_visible + [str(score[index])] * has_score
        self.left_out |= others.keys() - set(self._keys)
        if labels.visible is not None and not has_visible:
            self.left_out.add("visible")
        self.count += 1
        return row

    def _begin(self, record: Record, labels: Labels) -> None:
        keys.box(record)
        keys.image(record)
        self._kinds = (len(labels.points), labels.visible is not None, labels.score is not None)
        self._keys = [key for key in record if key not in _HELD]
        ends = ["x", "y", *["visible"] * self._kinds[1], *["score"] * self._kinds[2]]
        self.names = ["image", *self._keys, "box_x0", "box_y0", "box_x1", "box_y1"]
        self.names += [f"{index}_{end}" for index in range(self._kinds[0]) for end in ends]

    def _shown(self, value: float) -> str:
        return numbers.text(numbers.plus(value, self.base)) if self.base else repr(value)


def _cell(key: str, value: Any) -> str:
    """A value as `_value` reads it."""
    if value is None:
        return ""
    if isinstance(value, str) and (key in _TEXTS or _value(value) == value):
        return value
    return orjson.dumps(value).decode()
