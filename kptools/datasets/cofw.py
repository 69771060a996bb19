"""COFW (Burgos-Artizzu et al., 2013): 29 points, of which some are hidden.

    COFW_train_color.mat    IsTr, bboxesTr, phisTr      1,345 faces
    COFW_test_color.mat     IsT, bboxesT, phisT         507 faces

MATLAB's files of version 7.3, which are HDF5: h5py (the extra `formats`) reads them. `Is` refers to
a picture a face, `bboxes` has x y width height, `phis` 29 x, 29 y and 29 times 1 where the point is
hidden. Pixels count from 1; a box holds the pixels x to x + width - 1, as in Piotr's toolbox. The
pictures are written as PNG files.

Source: https://data.caltech.edu/records/20099
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kptools.datasets import numbers
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.records import keys
from kptools.records.item import Item
from kptools.records.keys import Record, fail
from kptools.schemes.catalog import FULL
from kptools.storage import files, images

SCHEME = FULL["cofw29"]
PARTS = {"train": ("IsTr", "bboxesTr", "phisTr"), "test": ("IsT", "bboxesT", "phisT")}


def read(file: str, out: Path) -> Iterator[Item]:
    """The faces in the order of the file; their pictures go to the folder `out`. Raises UsageError,
    KptoolsError."""
    if not os.path.isfile(file):
        raise UsageError(f"there is no file {file}; name COFW_train_color.mat or COFW_test_..")
    try:
        import h5py
    except ImportError:
        raise KptoolsError("a .mat file of COFW needs h5py: pip install h5py") from None
    files.make_folder(out)
    try:
        with h5py.File(file, "r") as mat:
            split = next((s for s, names in PARTS.items() if all(n in mat for n in names)), None)
            if split is None:
                raise KptoolsError(f"{file} holds neither IsTr, bboxesTr, phisTr nor those of IsT")
            found, boxes, shapes = (mat[name] for name in PARTS[split])
            count = shapes.shape[-1]
            if shapes.shape != (3 * SCHEME.count, count) or boxes.shape != (4, count):
                raise KptoolsError(f"{file}: phis and bboxes are not of 87 and 4 numbers a face")
            if found.size != count:
                raise KptoolsError(f"{file}: {found.size} pictures, and {count} faces")
            references = np.asarray(found).ravel()
            for index in range(count):
                name = f"{split}-{index + 1:04d}"
                record: Record = {"image": str(out / f"{name}.png"), "id": name, "group": name}
                try:
                    stored = np.asarray(mat[references[index]])
                    record["size"] = _picture(stored, out / f"{name}.png")
                    record |= _labels(boxes[:, index], shapes[:, index]) | {"split": split}
                    keys.box(record)
                    keys.points(record)
                except RecordError as error:
                    fail(record, error)
                yield Item(record, file, index + 1)
    except OSError as error:
        reason = error.strerror or "it is no HDF5, MATLAB's format 7.3"
        raise KptoolsError(f"{error.filename or file}: {reason}") from None
    except (KeyError, ValueError, TypeError, RuntimeError) as error:
        raise KptoolsError(f"{file} is broken: {error}") from None


def _picture(stored: Any, path: Path) -> list[int]:
    """Write a picture, (3, width, height) or (width, height): h5py turns MATLAB's axes round. Its
    size."""
    shape = stored.shape
    if stored.dtype != np.uint8 or not (len(shape) == 2 or (len(shape) == 3 == shape[0])):
        raise RecordError("unreadable", f"a picture of {stored.dtype}, {shape}; not 8-bit")
    picture = Image.fromarray(np.ascontiguousarray(stored.T))
    files.write_unsynced(path, images.encode(picture))
    return list(picture.size)


def _labels(box: Any, shape: Any) -> Record:
    """RecordError where a number is NaN, or too large."""
    x, y, width, height = map(float, box)
    xs, ys, hidden = np.asarray(shape, dtype=np.float64).reshape(3, -1).tolist()
    status = "bad_box"
    try:
        corners = (x, y, numbers.plus(x, width), numbers.plus(y, height))
        edges = [float(numbers.plus(v, -1.5)) for v in corners]
        status = "bad_points"
        points = [[numbers.moved(v, -1) for v in pair] for pair in zip(xs, ys, strict=True)]
    except ValueError as error:
        raise RecordError(status, str(error)) from None
    found: Record = {"box": edges, "box_source": "dataset", "points": points}
    return found | {"visible": [int(not h) for h in hidden], "scheme": SCHEME.name}
