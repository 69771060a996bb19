"""IMM face database (Nordstrøm et al., 2004): 240 pictures of 40 persons, 58 points.

    imm_face_db/
        01-1m.asf  01-1m.jpg  ..  40-6m.asf  40-6m.jpg      PERSON-PICTUREsex

An `.asf` file: blank and # lines aside, the number of points; a row a point, `path type x y
point# from to` (some files have three more columns; tabs and spaces mixed), x and y 0-based
pixels over width and height; then the name of an image, which can be wrong, so that picture and
points are paired by their stem. There are no boxes. Pictures have no EXIF orientation.

In nine pictures the points of an eye run the other way round; `repair` sets them right.

Source: http://www2.compute.dtu.dk/~aam/datasets/datasets.html
"""

import os
from collections.abc import Iterator

import numpy as np

from kptools import geometry as g
from kptools.datasets.common import find_root, image_beside, read_text, start, walk
from kptools.errors import KptoolsError, RecordError
from kptools.limits import MAX_COORDINATE
from kptools.records.item import Item
from kptools.records.keys import Point, fail, failed
from kptools.schemes.catalog import FULL

FOLDER = "imm_face_db"
SOURCE = (
    "get imm_face_db.tar.gz from http://www2.compute.dtu.dk/~aam/datasets/datasets.html, "
    "unpack it, and name its folder"
)
SCHEME = FULL["imm58"]
TRAIN_PERSONS = 32  # of 40: the course's split


def read(root: str | None, repair: bool = False) -> Iterator[Item]:
    """The faces in order of file name. Raises UsageError, KptoolsError."""
    root = find_root(root, FOLDER, SOURCE)
    files = walk(root, [".asf"])
    if not files:
        raise KptoolsError(f"{root} holds no .asf file; {SOURCE}")
    return _faces(root, files, repair)


def _faces(root: str, files: list[str], repair: bool) -> Iterator[Item]:
    for path in files:
        record = start(root, image_beside(path[: -len(".asf")]))
        person = os.path.basename(path).partition("-")[0]
        train = not person.isdecimal() or int(person) <= TRAIN_PERSONS
        record |= {"group": person, "split": "train" if train else "val"}
        if not failed(record):
            size = (record["size"][0], record["size"][1])
            try:
                points = read_asf(path, size)
                record |= {"box": list(g.whole_image(size)), "box_source": "image"}
                if repair:
                    turned = turn_eyes(points)
                    if turned:
                        record["repaired"] = turned
                record |= {"points": points, "scheme": SCHEME.name}
            except RecordError as error:
                fail(record, error)
        yield Item(record, path, 1)


def read_asf(path: str, size: tuple[int, int]) -> list[Point]:
    """The points of an .asf file in the file frame. Raises RecordError."""
    rows = [
        (number, line.split())
        for number, line in enumerate(read_text(path).splitlines(), start=1)
        if line.strip() and not line.lstrip().startswith("#")
    ]
    if not rows or len(rows[0][1]) != 1 or rows[0][1][0] != str(SCHEME.count):
        raise RecordError("bad_points", f"{path}: it does not begin with the count {SCHEME.count}")
    points: list[Point] = [None] * SCHEME.count
    for number, words in rows[1 : 1 + SCHEME.count]:
        try:
            x, y, index = float(words[2]) * size[0], float(words[3]) * size[1], int(words[4])
        except (ValueError, IndexError):
            raise RecordError(
                "bad_points", f"{path}:{number}: not a row of `path type x y point# from to`"
            ) from None
        if not (0 <= index < SCHEME.count and points[index] is None):
            raise RecordError("bad_points", f"{path}:{number}: point {index} is twice or too many")
        if not (abs(x) <= MAX_COORDINATE and abs(y) <= MAX_COORDINATE):
            raise RecordError("bad_points", f"{path}:{number}: a coordinate is out of bounds")
        points[index] = [x, y]
    if None in points:
        raise RecordError("bad_points", f"{path}: point {points.index(None)} is not there")
    return points


def turn_eyes(points: list[Point]) -> list[str]:
    """Turn, in place, the eyes whose points run the other way round; their names.

    An eye is a ring of 8 points: the outer corner, three of the upper lid, the inner corner,
    three of the lower lid. Outward is away from the other eye.
    """
    turned = []
    shape = g.from_list(points)
    eyes = [list(SCHEME.regions[name]) for name in ("right_eye", "left_eye")]
    for side, name in enumerate(("right_eye", "left_eye")):
        ring = shape[eyes[side]]
        outward = ring.mean(axis=0) - shape[eyes[1 - side]].mean(axis=0)
        x, y = ring.T
        area = float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
        at_inner = bool((ring[4] - ring[0]) @ outward > 0)
        backward = (area < 0) if name == "right_eye" else (area > 0)
        if at_inner or backward:
            first = 4 if at_inner else 0
            order = [(first - i if backward else first + i) % 8 for i in range(8)]
            for index, old in zip(eyes[side], order, strict=True):
                points[index] = ring[old].tolist()
            turned.append(name)
    return turned
