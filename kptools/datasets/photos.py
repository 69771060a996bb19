"""One's own photos: files, or folders and all that lies below them.

    holiday/IMG_0001.jpg  holiday/day2/IMG_0002.JPG  ..

A detector (`kptools.datasets.detectors`) finds the faces; without one the box is the whole image.
The frame is that of the picture as shown, after EXIF orientation. Several photos are decoded and
searched at once, by a thread a core. A photo without a face is a record with `status` no_face.
"""

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from kptools import geometry as g
from kptools.console import report
from kptools.datasets import detectors
from kptools.datasets.box_files import Boxes
from kptools.datasets.common import IMAGE_SUFFIXES, start, walk
from kptools.datasets.detectors import Detector
from kptools.errors import RecordError, UsageError
from kptools.records.item import Item
from kptools.records.keys import Record, fail, failed
from kptools.records.shard import WHOLE, Shard

PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, ".avif", ".heic", ".heif")
AHEAD = 2  # photos for each thread that are begun before their turn


def read(
    paths: Sequence[str],
    box: str,
    detector: str,
    boxes: str | None = None,
    shard: Shard = WHOLE,
) -> Iterator[Item]:
    """The faces of each photo of the shard, from left to right. `box`: with `detector` the one of
    that name finds them, with `image` each photo is one whole. `boxes` names a file that has them
    (`kptools.datasets.box_files`), in its own order. Raises UsageError, KptoolsError."""
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(f"there is no {path}; name photos, or folders of them")
    if boxes is not None:
        if box == "image":
            raise UsageError("--box image and --boxes: give the one or the other")
        return _items(_given(_photos(paths, shard), Boxes(boxes), whole=shard == WHOLE))
    if box == "image":
        return _items(map(_whole, _photos(paths, shard)))
    module = detectors.module(detector)
    return _items(_searched(_photos(paths, shard), module.load(), module.SOURCE))


def _photos(paths: Sequence[str], shard: Shard) -> Iterator[Record]:
    """A record for each photo of the shard, or one that says why it cannot be read."""
    several, number = len(paths) > 1, 0
    for given in paths:
        folder = os.path.isdir(given)
        found = walk(given, PHOTO_SUFFIXES) if folder else [given]
        stems = Counter(os.path.splitext(path)[0] for path in found)
        for path in found:
            number += 1
            if not shard.has(number):
                continue
            below = os.path.relpath(path, given) if folder and not several else path
            record = start(given, path, below)
            if stems[os.path.splitext(path)[0]] > 1:  # IMG_1.jpg beside IMG_1.png
                record["id"] = below
            yield record | {"group": record["id"], "split": "test"}


def _items(photos: Iterator[list[Record]]) -> Iterator[Item]:
    """An item for each face of each photo."""
    for faces in photos:
        for index, face in enumerate(faces, start=1):
            if index > 1:
                face["id"] += f"#{index}"
            yield Item(face, face["image"], 1)


def _whole(photo: Record) -> list[Record]:
    if failed(photo):
        return [photo]
    width, height = photo["size"]
    return [photo | {"box": list(g.whole_image((width, height))), "box_source": "image"}]


def _given(photos: Iterator[Record], boxes: Boxes, whole: bool) -> Iterator[list[Record]]:
    """The faces of each photo in the boxes that a file gives them. `whole`: of all photos."""
    for photo in photos:
        if failed(photo):
            yield [photo]
            continue
        suffix = os.path.splitext(photo["image"])[1]
        found = boxes.of(photo["image"], photo["id"].removesuffix(suffix) + suffix)
        faces = [photo | {"box_source": "dataset"} | box for box in found]
        problem = RecordError("no_face", f"{boxes.path} has no box for {photo['image']}")
        yield faces or [fail(photo, problem)]
    if whole and boxes.unused():
        report(f"kp-prep: {boxes.path}: {boxes.unused()} of its photos are not among those named")


def _searched(photos: Iterator[Record], detect: Detector, source: str) -> Iterator[list[Record]]:
    """The faces of each photo, in the order of the photos."""
    threads = os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    begun: deque[Future[list[Record]]] = deque()
    try:
        for photo in photos:
            begun.append(pool.submit(_faces, photo, detect, source))
            if len(begun) > AHEAD * threads:
                yield begun.popleft().result()
        while begun:
            yield begun.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _faces(photo: Record, detect: Detector, source: str) -> list[Record]:
    """A record for each face of the photo, or one that says why there is none."""
    if failed(photo):
        return [photo]
    try:
        found = sorted(detect(photo["image"]), key=lambda face: face.box)
        if not found:
            problem = f"no face was found in {photo['image']}; --box image takes it whole"
            raise RecordError("no_face", problem)
    except RecordError as error:
        return [fail(photo, error)]
    return [
        photo
        | {"box": list(face.box), "box_source": source}
        | ({} if face.roll is None else {"roll": face.roll})
        for face in found
    ]
