"""Kaggle's Facial Keypoints Detection: 15 points of grey pictures of 96x96, all in one table.

    training.csv    left_eye_center_x,left_eye_center_y, .. 30 columns ..,Image
    test.csv        ImageId,Image

`Image` is 9,216 grey levels, row by row, with blanks between. Coordinates are 0-based pixels; many
faces of training.csv have some of the points alone, and their cells are empty. The pictures are
written as PNG files. There are no boxes: the box is the whole picture.

Source: https://www.kaggle.com/c/facial-keypoints-detection
"""

import csv
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from kptools import geometry as g
from kptools.datasets import numbers
from kptools.datasets.labels import Labels
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Point, Record, fail
from kptools.schemes.catalog import FULL
from kptools.storage import files, images

SCHEME = FULL["kaggle15"]
SIDE = 96
POINTS = SCHEME.names
COLUMNS = [f"{point}_{axis}" for point in POINTS for axis in "xy"]


def read(file: str, out: Path) -> Iterator[Item]:
    """The faces in the order of the table; their pictures go to the folder `out`. Faces of a table
    without points are of split test. Raises UsageError, KptoolsError."""
    if not os.path.isfile(file):
        raise UsageError(f"there is no file {file}")
    files.make_folder(out)
    try:
        with open(file, encoding="utf-8-sig", newline="") as handle:
            rows = csv.DictReader(handle)
            there = set(rows.fieldnames or ())
            has_points = there >= set(COLUMNS)
            if "Image" not in there or not (has_points or "ImageId" in there):
                raise KptoolsError(
                    f"{file} has no column Image with left_eye_center_x .. or ImageId; it is "
                    "neither training.csv nor test.csv"
                )
            split = "train" if has_points else "test"
            for number, row in enumerate(rows, start=1):
                name = f"{split}-{number:05d}"
                record: Record = {"image": str(out / f"{name}.png"), "id": name, "group": name}
                try:
                    record |= _face(row, out / f"{name}.png", has_points) | {"split": split}
                except RecordError as error:
                    fail(record, error)
                yield Item(record, file, rows.line_num)
    except csv.Error as error:
        raise KptoolsError(f"{file} is no table: {error}") from None
    except OSError as error:
        raise KptoolsError(f"{error.filename or file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KptoolsError(f"{file} is no text in UTF-8") from None


def _face(row: dict[str, str | None], path: Path, has_points: bool) -> Record:
    """Write the picture; the keys of the face. Raises RecordError, OSError."""
    try:
        levels = np.array((row["Image"] or "").split(), dtype=np.int64)
    except (ValueError, OverflowError):
        raise RecordError("unreadable", "Image holds a word that is no grey level") from None
    if levels.size != SIDE**2 or not (levels.min() >= 0 and levels.max() <= 255):
        raise RecordError("unreadable", f"Image is not {SIDE**2} grey levels from 0 to 255")
    picture = Image.fromarray(levels.reshape(SIDE, SIDE).astype(np.uint8))
    files.write_unsynced(path, images.encode(picture))
    found: Record = {"size": [SIDE, SIDE], "box": list(g.whole_image((SIDE, SIDE)))}
    found["box_source"] = "image"
    if has_points:
        points = [_point(row, name) for name in POINTS]
        if any(points):
            found["points"] = points
    elif row.get("ImageId"):
        found["ImageId"] = row["ImageId"]
    return found | {"scheme": SCHEME.name}


def _point(row: dict[str, str | None], name: str) -> Point:
    cells = [row[f"{name}_{axis}"] for axis in "xy"]
    if not any(cells):
        return None
    try:
        x, y = (numbers.moved(cell or "", 0) for cell in cells)
    except ValueError as error:
        raise RecordError("bad_points", f"{name}: {error}") from None
    return [x, y]


def write(items: Iterable[Item], fail: Fail, what: str, folder: str | None) -> Iterator[bytes]:
    """The lines of a training.csv, with the pictures, which are to be of 96x96."""
    yield ",".join([*COLUMNS, "Image"]).encode()
    for item in items:
        if item.failed:
            continue
        try:
            if item.record.get("scheme") != SCHEME.name:
                raise RecordError("bad_scheme", f"its scheme is not {SCHEME.name}")
            has_points = what == "pred" or item.record.get(what) is not None
            points = Labels.of(item.record, what).points if has_points else [None] * len(POINTS)
            picture, _ = images.read(keys.image(item.record), grey=True)
            if picture.size != (SIDE, SIDE):
                width, height = picture.size
                raise RecordError(
                    "bad_record", f"its picture is {width}x{height}, and Kaggle's are {SIDE}x{SIDE}"
                )
        except RecordError as error:
            fail(item, error)
            continue
        cells = [c for p in points for c in (("", "") if p is None else map(repr, p))]
        levels = " ".join(map(str, np.asarray(picture).ravel().tolist()))
        yield ",".join([*cells, levels]).encode()
