"""One's own photos: files, or folders and all that lies below them.

    holiday/IMG_0001.jpg  holiday/day2/IMG_0002.JPG  ..

With `detector` dlib's frontal face detector (King, 2009) finds the boxes: the one that the boxes of
iBUG 300-W come from, so that networks trained on those are at home. It needs the wheel `dlib-bin`
(the extra `detect`). Without it the box is the whole image. The frame is that of the picture as
shown, after EXIF orientation. A photo without a face is a record with `status` no_face.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from PIL import Image

from kptools import geometry as g
from kptools.datasets.common import IMAGE_SUFFIXES, start, walk
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.records.item import Item
from kptools.records.keys import Record, fail, failed
from kptools.storage import images
from kptools.units import Box

DETECTOR = "detector:dlib-frontal"
# The detector's smallest face is 80 pixels wide. A photo is searched at about this many pixels, in
# which it sees faces down to a thirtieth of a large photo's width.
SEARCH_PIXELS = 4_000_000
OTHER_SUFFIXES = (".heic", ".heif", ".avif")  # photos all the same, and reported as unreadable


def read(paths: Sequence[str], box: str) -> Iterator[Item]:
    """The faces of each photo, from left to right. `box`: `detector` finds them, with `image` each
    photo is one whole. Raises UsageError, KptoolsError."""
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(f"there is no {path}; name photos, or folders of them")
    return _faces(paths, _detector() if box == "detector" else None)


def _faces(paths: Sequence[str], detector: Callable[..., Any] | None) -> Iterator[Item]:
    several = len(paths) > 1
    for given in paths:
        suffixes = (*IMAGE_SUFFIXES, *OTHER_SUFFIXES)
        folder = os.path.isdir(given)
        found = walk(given, suffixes) if folder else [given]
        stems = Counter(os.path.splitext(path)[0] for path in found)
        for path in found:
            below = os.path.relpath(path, given) if folder and not several else path
            record = start(given, path, below)
            if stems[os.path.splitext(path)[0]] > 1:  # IMG_1.jpg beside IMG_1.png
                record["id"] = below
            record |= {"group": record["id"], "split": "test"}
            for index, face in enumerate(_split(record, path, detector), start=1):
                if index > 1:
                    face["id"] += f"#{index}"
                yield Item(face, path, 1)


def _split(record: Record, path: str, detector: Callable[..., Any] | None) -> Iterator[Record]:
    """A record for each face of the photo, or one that says why there is none."""
    if not failed(record):
        try:
            if detector is None:
                box = g.whole_image((record["size"][0], record["size"][1]))
                yield record | {"box": list(box), "box_source": "image"}
                return
            boxes = find(path, detector)
            for box in boxes:
                yield record | {"box": list(box), "box_source": DETECTOR}
            if boxes:
                return
            raise RecordError("no_face", f"no face was found in {path}; --box image takes it whole")
        except RecordError as error:
            fail(record, error)
    yield record


def find(path: str, detector: Callable[..., Any]) -> list[Box]:
    """The boxes of the faces in a photo, from left to right, file frame. Raises RecordError."""
    width, height = images.shown_size(path)
    zoom = (SEARCH_PIXELS / (width * height)) ** 0.5
    shrink = max(s for s in (1, 2, 4, 8) if s == 1 or s * zoom <= 1)
    picture, to_picture = images.read(path, shrink=shrink)
    size = (max(1, round(width * min(zoom, 2.0))), max(1, round(height * min(zoom, 2.0))))
    searched = picture.resize(size, Image.Resampling.BILINEAR)
    scale = g.scaling(size[0] / picture.width, size[1] / picture.height)
    back = g.invert(g.compose(scale, to_picture))
    boxes: list[Box] = []
    for found in detector(np.asarray(searched), 0):
        x0, y0 = back[:, :2] @ (found.left(), found.top()) + back[:, 2]
        x1, y1 = back[:, :2] @ (found.right() + 1, found.bottom() + 1) + back[:, 2]
        boxes.append(g.from_edges(x0, y0, x1, y1))
    return sorted(boxes)


def _detector() -> Callable[..., Any]:
    try:
        import dlib
    except ImportError:
        raise KptoolsError(
            "finding faces needs dlib: pip install dlib-bin; "
            "or take the whole image with --box image"
        ) from None
    detector: Callable[..., Any] = dlib.get_frontal_face_detector()
    return detector
