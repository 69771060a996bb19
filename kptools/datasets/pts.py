"""Files of points, `.pts` (Cootes; 300-W): a face each, any number of points, beside its picture.

    DIR/a.pts  DIR/a.jpg  DIR/more/b.pts  DIR/more/b.png

    version: 1
    n_points:  68
    {
    115.167660 220.807529
    ...
    }

Numbers are 1-based floats, so 1 is taken from each; the header and the braces may be missing. There
are no boxes: the box is that of the points. A point that is not annotated has no form here.
"""

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from kptools import geometry as g
from kptools.datasets import numbers
from kptools.datasets.common import SchemeChoice, image_beside, read_text, start, walk
from kptools.datasets.labels import Labels, picture_of
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.ids import FileNames
from kptools.records.item import Item
from kptools.records.keys import Point, fail
from kptools.storage import images, remote

BASE = 1  # what its first pixel is called
_BOM = "\xef\xbb\xbf"  # of UTF-8, as `read_text` gives it
_HEADER = re.compile(r"\s*(version|n_points)\b[\s:]*(\S*)")


def read(root: str, scheme: str | None = None) -> Iterator[Item]:
    """The faces of a tree of .pts files, in order of path. Raises UsageError, KptoolsError."""
    if not os.path.isdir(root):
        raise UsageError(f"{root} is not a folder; name one that holds .pts files")
    files = sorted(walk(root, [".pts"]), key=lambda path: path[: -len(".pts")])
    if not files:
        raise KptoolsError(f"{root} holds no .pts file")
    choice = SchemeChoice(scheme, root)
    for path in files:
        record = start(root, image_beside(path[: -len(".pts")]))
        try:
            points = read_pts(path)
            record |= {"box": list(g.box_of_points(g.from_list(points))), "box_source": "points"}
            record |= {"points": points} | choice.keys(len(points)) | {"split": "train"}
        except RecordError as error:
            fail(record, error)
        yield Item(record, path, 1)


def read_pts(path: str, count: int | None = None) -> list[Point]:
    """The points of a .pts file in the file frame: its numbers less 1. RecordError where it is no
    such file, or has not `count` points."""
    points: list[Point] = []
    expected = None
    text = read_text(path).removeprefix(_BOM)
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.replace(",", " ").split()
        if not words or words[0] in ("{", "}"):
            continue
        if header := _HEADER.match(line):
            key, value = header.groups()
            if key == "n_points" and value.isdecimal():
                expected = int(value) if len(value) < 9 else -1
            continue
        try:
            x, y = (numbers.moved(word, -BASE) for word in words)
        except ValueError:
            raise RecordError(
                "bad_points", f"{path}:{number}: {line.strip()[:60]!r} is not x and y"
            ) from None
        points.append([x, y])
    due = count or expected or len(points) or 1
    if len(points) != due or expected not in (None, due):
        raise RecordError("bad_points", f"{path} has {len(points)} points; it should have {due}")
    return points


def write(
    items: Iterable[Item], fail: Fail, what: str, folder: str | None
) -> Iterator[tuple[str, bytes | Path]]:
    """A file a face, named by its id, and its picture: names, and what they hold."""
    names = FileNames()
    for item in items:
        if item.failed:
            continue
        try:
            labels = Labels.of(item.record, what)
            if None in labels.points:
                missing = labels.points.index(None)
                raise RecordError(
                    "bad_points", f"point {missing} is null, which .pts does not hold"
                )
            image = keys.image(item.record)
            picture = picture_of(image)
            images.shown_size(image)  # it can be read
            name = names.tree_name(item.record)
        except RecordError as error:
            fail(item, error)
            continue
        rows = [f"{_shown(p[0])} {_shown(p[1])}" for p in labels.points if p is not None]
        head = f"version: 1\nn_points: {len(rows)}\n{{\n"
        yield f"{name}{os.path.splitext(remote.path_of(image))[1]}", picture
        yield f"{name}.pts", (head + "\n".join(rows) + "\n}\n").encode()


def _shown(value: float) -> str:
    return numbers.text(numbers.plus(value, BASE))
