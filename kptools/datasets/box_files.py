"""Boxes that somebody already has: a CSV table, or JSON Lines, by the name of the photo.

    image,x0,y0,x1,y1                                 {"image": "a.jpg", "box": [10, 20, 110, 140]}
    a.jpg,10,20,110,140

The columns of a table stand in its first line: `image` (or `file`, `filename`, `name`), and
`x0 y0 x1 y1` (or `left top right bottom`), or a corner and a size (`x y width height`, or `left top
width height`). All are pixels, and the edges of a box bound an area in the file frame. Objects have
`image` and `box`, and may have `box_source` and `roll`; without, the source is `dataset`.
"""

import csv
import os
from collections.abc import Iterator, Mapping
from typing import Any

import orjson

from kptools.errors import KptoolsError, RecordError
from kptools.records import keys
from kptools.records.keys import Record

_IMAGE = ("image", "file", "filename", "name")
_EDGES = (("x0", "y0", "x1", "y1"), ("left", "top", "right", "bottom"))
_SIZES = (("x", "y", "width", "height"), ("left", "top", "width", "height"), ("x", "y", "w", "h"))
_KEPT = ("box", "box_source", "roll")


class Boxes:
    """The boxes of a file, by photo: found by the photo's path, the path below its folder, or its
    bare name where only one photo of the file bears that."""

    def __init__(self, path: str) -> None:
        """Raises KptoolsError."""
        self.path = path
        self.by_name: dict[str, list[Record]] = {}
        for where, name, found in _rows(path):
            try:
                keys.box(found)
                keys.roll(found)
            except RecordError as error:
                raise KptoolsError(f"{where}: {error}") from None
            self.by_name.setdefault(_normal(name), []).append(found)
        names: dict[str, set[str]] = {}
        for name in self.by_name:
            names.setdefault(name.rpartition("/")[2], set()).add(name)
        self.by_bare_name = {bare: same.pop() for bare, same in names.items() if len(same) == 1}
        self.used: dict[str, str] = {}  # names of the file, and the photos that they were taken for

    def of(self, path: str, below: str) -> list[Record]:
        """The boxes of a photo, in the order of the file; none where it has none. KptoolsError
        where its boxes were those of another photo already."""
        for name in (_normal(path), _normal(below)):
            if name in self.by_name:
                break
        else:
            name = self.by_bare_name.get(_normal(path).rpartition("/")[2], "")
        if name not in self.by_name:
            return []
        other = self.used.setdefault(name, path)
        if other != path:
            raise KptoolsError(
                f"{self.path}: {name} may be {other} or {path}; write the folder before each name"
            )
        return self.by_name[name]

    def unused(self) -> int:
        """How many photos of the file have not been asked for."""
        return len(self.by_name.keys() - self.used.keys())


def _normal(name: str) -> str:
    return os.path.normpath(name).replace(os.sep, "/")


def _rows(path: str) -> Iterator[tuple[str, str, Record]]:
    """Of each row: where it stands, the photo's name, the keys of its box. Raises KptoolsError."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as handle:
            lines = handle.readlines()
        first = next((line for line in lines if line.strip()), "")
        rows = _objects if first.lstrip().startswith("{") else _table
        yield from rows(path, iter(lines))
    except csv.Error as error:
        raise KptoolsError(f"{path} is no CSV table: {error}") from None
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KptoolsError(f"{path} is no text in UTF-8; name a CSV or JSON Lines file") from None


def _objects(path: str, lines: Iterator[str]) -> Iterator[tuple[str, str, Record]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            found = orjson.loads(line)
            name = found["image"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            raise KptoolsError(f"{where}: not an object with `image` and `box`") from None
        if not isinstance(name, str) or not isinstance(found.get("box_source", ""), str):
            raise KptoolsError(f"{where}: `image` and `box_source` are names")
        yield where, name, {key: found[key] for key in _KEPT if key in found}


def _table(path: str, lines: Iterator[str]) -> Iterator[tuple[str, str, Record]]:
    reader = csv.DictReader(lines, skipinitialspace=True)
    columns = {name.strip().lower(): name for name in reader.fieldnames or ()}
    image = next((columns[name] for name in _IMAGE if name in columns), None)
    edges = next((names for names in _EDGES if columns.keys() >= set(names)), None)
    sizes = next((names for names in _SIZES if columns.keys() >= set(names)), None)
    chosen = edges or sizes
    if image is None or chosen is None:
        raise KptoolsError(
            f"{path}:1: the first line names no columns `image` and `x0,y0,x1,y1`, or "
            "`image` and `x,y,width,height`"
        )
    for row in reader:
        where = f"{path}:{reader.line_num}"
        a, b, c, d = (_number(where, row, columns[name]) for name in chosen)
        box = [a, b, c, d] if edges else [a, b, a + c, b + d]
        yield where, str(row[image]), {"box": box}


def _number(where: str, row: Mapping[str, Any], column: str) -> float:
    try:
        return float(row[column])
    except (TypeError, ValueError):
        raise KptoolsError(f"{where}: {column} is {row[column]!r}, and no number") from None
