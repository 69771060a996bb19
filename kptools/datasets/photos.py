"""One's own photos: files, or folders and all that lies below them.

    holiday/IMG_0001.jpg  holiday/day2/IMG_0002.JPG  ..

A detector (`kptools.datasets.detectors`) finds the faces; without one the box is the whole image.
The frame is that of the picture as shown, after EXIF orientation. Several photos are decoded and
searched at once, by a thread a core, or by the nodes of a Ray cluster. A photo without a face is a
record with `status` no_face.
"""

import os
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache, partial
from itertools import chain

from kptools import geometry as g
from kptools.console import report
from kptools.datasets import detectors
from kptools.datasets.box_files import Boxes
from kptools.datasets.common import IMAGE_SUFFIXES, walk, with_size
from kptools.datasets.detectors import Detector
from kptools.errors import RecordError, UsageError
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Record, fail, failed
from kptools.records.ray_map import mark_failed, ray_map
from kptools.records.shard import WHOLE, Shard

PHOTO_SUFFIXES = (*IMAGE_SUFFIXES, ".avif", ".heic", ".heif")
AHEAD = 2  # photos for each thread that are begun before their turn
SPLIT = {"split": "test"}  # of each photo


def read(
    paths: Sequence[str],
    box: str,
    detector: str,
    boxes: str | None = None,
    shard: Shard = WHOLE,
    on_ray: bool = False,
) -> Iterator[Item]:
    """The faces of each photo of the shard, from left to right. `box`: with `detector` the one of
    that name finds them, with `image` each photo is one whole. `boxes` names a file that has them
    (`kptools.datasets.box_files`), in its own order. `on_ray`: photos are opened, and searched, on
    the Ray cluster that is used. Raises UsageError, KptoolsError."""
    for path in paths:
        if not os.path.exists(path):
            raise UsageError(f"there is no {path}; name photos, or folders of them")
    if boxes is not None and box == "image":
        raise UsageError("--box image and --boxes: give the one or the other")
    known = Boxes(boxes) if boxes is not None else None
    searching = box == "detector" and known is None
    photos = _photos(paths, shard)
    found: Iterator[Record]
    if on_ray:
        found = _by_ray(photos, detector if searching else None)
    elif searching:
        module = detectors.module(detector)
        found = chain.from_iterable(_searched(photos, module.load(), module.SOURCE))
    else:
        found = map(_opened, photos)
    if known is not None:
        found = _given(found, known, whole=shard == WHOLE)
    elif not searching:
        found = map(_whole, found)
    return (Item(face, face["image"], 1) for face in found)


def _photos(paths: Sequence[str], shard: Shard) -> Iterator[Record]:
    """The first keys of each photo of the shard, none of which is opened."""
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
            name = os.path.splitext(below)[0].replace(os.sep, "/")
            if stems[os.path.splitext(path)[0]] > 1:  # IMG_1.jpg beside IMG_1.png
                name = below
            yield {"image": path, "id": name, "group": name}


def _opened(photo: Record) -> Record:
    """The record of the photo, which says so where it cannot be read."""
    return with_size(photo) | SPLIT


def _whole(photo: Record) -> Record:
    if failed(photo):
        return photo
    width, height = photo["size"]
    return photo | {"box": list(g.whole_image((width, height))), "box_source": "image"}


def _given(photos: Iterator[Record], boxes: Boxes, whole: bool) -> Iterator[Record]:
    """The faces of each photo in the boxes that a file gives them. `whole`: of all photos."""
    for photo in photos:
        if failed(photo):
            yield photo
            continue
        suffix = os.path.splitext(photo["image"])[1]
        found = boxes.of(photo["image"], photo["id"].removesuffix(suffix) + suffix)
        if found:
            yield from _numbered([photo | {"box_source": "dataset"} | box for box in found])
        else:
            problem = f"{boxes.path} has no box for {photo['image']}"
            yield fail(photo, RecordError("no_face", problem))
    if whole and boxes.unused():
        report(f"kp-prep: {boxes.path}: {boxes.unused()} of its photos are not among those named")


def _numbered(faces: list[Record]) -> list[Record]:
    """The faces of a photo: the second has `#2` in its id, and so on."""
    for index, face in enumerate(faces[1:], start=2):
        face["id"] += f"#{index}"
    return faces


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
    photo = _opened(photo)
    if failed(photo):
        return [photo]
    try:
        found = sorted(detect(photo["image"]), key=lambda face: face.box)
        if not found:
            problem = f"no face was found in {photo['image']}; --box image takes it whole"
            raise RecordError("no_face", problem)
    except RecordError as error:
        return [fail(photo, error)]
    return _numbered(
        [
            photo
            | {"box": list(face.box), "box_source": source}
            | ({} if face.roll is None else {"roll": face.roll})
            for face in found
        ]
    )


def _by_ray(photos: Iterator[Record], detector: str | None) -> Iterator[Record]:
    """The records of the photos, or with a detector of the faces that it finds there."""
    items = (Item(photo, photo["image"], 1) for photo in photos)
    # a photo a task: where a damaged one takes the process with it, the others are found
    for item in ray_map(partial(_work, detector), items, mark_failed, size=1):
        yield item.record | SPLIT


def _work(detector: str | None, items: list[Item], fail: Fail) -> Iterator[Iterator[Item]]:
    """On a node: for each photo the items of what is found there."""
    for item in items:
        photo = item.record
        found = [_opened(photo)] if detector is None else _faces(photo, *_loaded(detector))
        yield map(item.derive, found)


@lru_cache(maxsize=1)
def _loaded(detector: str) -> tuple[Detector, str]:
    """The detector of a process, and the source of its boxes. KptoolsError."""
    module = detectors.module(detector)
    return module.load(), module.SOURCE
