"""iBUG 300-W (Sagonas et al., 2013) in dlib's layout: 68 points.

    ibug_300W_large_face_landmark_dataset/
        labels_ibug_300W_train.xml      <images><image file=".."><box ..><part ../></box></image>
        afw/134212_1.jpg  afw/134212_1.pts
        helen/trainset/..  lfpw/trainset/..  ibug/..

The formats are those of `dlib_xml` and `pts`. Both are of the picture as stored: where one has an
EXIF orientation, its boxes and points are turned to the picture as shown, and the record says so
(`orientation`). The `.pts` hold the points exactly, so for accuracy take the boxes from the XML and
the points from the `.pts`. Where the photos were shrunk, `to_original.json` in the root may hold,
by id, the factor from their pixels to the original photo's: the record's `scale`. The boxes of
iBUG's own files are those of dlib's frontal detector (`box_source`); those of other XML files are
called `dataset`.

Source: http://dlib.net/files/data/ibug_300W_large_face_landmark_dataset.tar.gz
"""

import math
import os
from collections.abc import Iterator
from pathlib import Path

import orjson

from kptools import geometry as g
from kptools.datasets import dlib_xml
from kptools.datasets.common import SchemeChoice, find_root, image_beside, start, walk
from kptools.datasets.detectors import dlib_frontal
from kptools.datasets.pts import read_pts
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.records.item import Item
from kptools.records.keys import Point, fail, failed
from kptools.schemes.catalog import FULL

FOLDER = "ibug_300W_large_face_landmark_dataset"
SOURCE = (
    "get it from http://dlib.net/files/data/ibug_300W_large_face_landmark_dataset.tar.gz, "
    "unpack it, and name its folder"
)
XML = "labels_ibug_300W_train.xml"
IBUG = "labels_ibug_300W"  # how the names of iBUG's own files begin
SCHEME = FULL["ibug68"]


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
    source = dlib_frontal.SOURCE if os.path.basename(path).startswith(IBUG) else "dataset"
    exact = _points if annotations == "pts" else None
    return dlib_xml.faces(root, path, SchemeChoice(SCHEME.name, path), source, exact)


def _points(stem: str) -> list[Point]:
    return read_pts(stem + ".pts", SCHEME.count)


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
            record |= {"box": None, "box_source": "points"}
            record |= {"points": _points(path[: -len(".pts")]), "scheme": SCHEME.name}
            if not failed(record):
                dlib_xml.turn(record, record["image"])
            record["box"] = list(g.box_of_points(g.from_list(record["points"])))
        except RecordError as error:
            record.pop("box", None)
            fail(record, error)
        yield Item(record, path, 1)


def is_test(xml: str | None) -> bool:
    """Whether the XML is a list of test faces, by its name."""
    return xml is not None and "test" in Path(xml).name
