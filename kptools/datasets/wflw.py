"""WFLW (Wu et al., 2018): 98 points, and six attributes of each face.

    WFLW_annotations/list_98pt_rect_attr_train_test/list_98pt_rect_attr_train.txt
    WFLW_images/0--Parade/0_Parade_marchingband_1_1018.jpg

A line of a list: 196 coordinates, x_min y_min x_max y_max of the box, six attributes (0 or 1), the
image below WFLW_images. Coordinates are 0-based pixels: toolkits (MMPose, HRNet's lists) take them
as they are. Edges of the box are of continuous pixels, so that its width is x_max - x_min. The
split is that of the list's name.

Source: https://wywu.github.io/projects/LAB/WFLW.html
"""

import os
from collections.abc import Iterator

from kptools.datasets import numbers
from kptools.datasets.common import FaceIds, photo, split_of, start
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.limits import MAX_LINE_BYTES
from kptools.records.item import Item
from kptools.records.keys import Record, fail, failed
from kptools.schemes.catalog import FULL

SCHEME = FULL["wflw98"]
ATTRIBUTES = ("pose", "expression", "illumination", "makeup", "occlusion", "blur")
IMAGES = "WFLW_images"
_COORDINATES = 2 * SCHEME.count
_WORDS = _COORDINATES + 4 + len(ATTRIBUTES) + 1


def read(file: str, images: str | None = None) -> Iterator[Item]:
    """The faces of a list, in its order; `images` is the folder WFLW_images [looked for in the
    folder of the list and the three above it]. Raises UsageError, KptoolsError."""
    if not os.path.isfile(file):
        raise UsageError(f"there is no file {file}; name list_98pt_rect_attr_train.txt or .._test")
    root = _images(file) if images is None else images
    ids, split = FaceIds(), split_of(file)
    try:
        with open(file, encoding="utf-8-sig") as handle:
            number = 0
            while line := handle.readline(MAX_LINE_BYTES):
                number += 1
                if line.strip():
                    words = line.strip().split(maxsplit=_WORDS - 1)  # a path may have spaces
                    if len(words) == _WORDS:
                        record = _face(words, root, ids, split)
                    else:
                        record = fail({"id": f"{file}:{number}"}, _too_few(words))
                    yield Item(record, file, number)
    except OSError as error:
        raise KptoolsError(f"cannot read {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise KptoolsError(f"{file} is no text in UTF-8; it is no list of WFLW") from None


def _images(file: str) -> str:
    folder = os.path.dirname(os.path.abspath(file))
    for _ in range(4):
        if os.path.isdir(os.path.join(folder, IMAGES)):
            found = os.path.join(folder, IMAGES)
            return found if os.path.isabs(file) else os.path.relpath(found)
        folder = os.path.dirname(folder)
    raise UsageError(f"no {IMAGES} in the folder of {file} or above it; give --images DIR")


def _too_few(words: list[str]) -> RecordError:
    problem = f"{len(words)} words; a line has {_WORDS}: points, box, attributes, image"
    return RecordError("bad_record", problem)


def _face(words: list[str], root: str, ids: FaceIds, split: str) -> Record:
    name = words[-1]
    record = start(root, os.path.join(root, name), name)
    record |= {"id": ids.unique_id(record["id"]), "group": photo(record["id"])}
    try:
        edges = [_number(word, "bad_box", -0.5) for word in words[_COORDINATES:][:4]]
        flat = [_number(word, "bad_points", 0) for word in words[:_COORDINATES]]
        attributes = words[_COORDINATES + 4 : -1]
        if not set(attributes) <= {"0", "1"}:
            raise RecordError("bad_record", "an attribute is neither 0 nor 1")
        points = [list(pair) for pair in zip(flat[::2], flat[1::2], strict=True)]
        record |= {"box": edges, "box_source": "dataset", "points": points}
        record |= {"scheme": SCHEME.name, "split": split}
        record |= dict(zip(ATTRIBUTES, map(int, attributes), strict=True))
    except RecordError as error:
        if not failed(record):
            fail(record, error)
    if failed(record):  # status and error close the record
        record |= {key: record.pop(key) for key in ("status", "error")}
    return record


def _number(word: str, status: str, shift: float) -> float:
    try:
        return numbers.moved(word, shift)
    except ValueError as error:
        raise RecordError(status, str(error)) from None
