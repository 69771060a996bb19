"""A video: its frames as pictures, written once, and the faces that a detector finds on them.

    talk.mp4  ->  frames/talk-000000.jpg  frames/talk-000001.jpg  ..

A record has the `time` of its frame in seconds, as the file has it, which need not be of even
steps. To search a frame takes ten times as long as all else, so that one of each `detect_every` is
searched; the faces of the others are in the boxes of the last frame that was, and their records
say of when these are (`box_time`). A frame without a face is a record with `status` no_face.
"""

import os
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

from PIL import Image

from kptools import geometry as g
from kptools.datasets import detectors
from kptools.errors import KptoolsError, RecordError
from kptools.records import keys
from kptools.records.item import Item
from kptools.records.keys import Record, fail
from kptools.storage import files, images, video
from kptools.units import Seconds


def read(
    file: str,
    out: Path,
    fps: float | None,
    format: str,
    box: str,
    detector: str,
    detect_every: int,
) -> Iterator[Item]:
    """The faces of each frame, from left to right, once the frame is written. `box`: with
    `detector` the one of that name finds them, with `image` each frame is one whole. The item's
    line is the number of the frame in the video, from 1. Raises KptoolsError."""
    video.require()
    faces = _Faces(detector, detect_every) if box == "detector" else None
    files.make_folder(out)
    below = os.path.splitext(file)[0].replace(os.sep, "/")
    stem = _stem(below)
    for frame in video.frames(file, fps):
        name = f"{frame.index:06d}"
        path = f"{out}/{stem}-{name}.{format}"
        _save(frame.picture, Path(path))
        shown: Record = {
            "image": path,
            "id": f"{below}/{name}",
            "group": below,
            "size": list(frame.picture.size),
            "time": frame.time,
            "split": "test",
        }
        for index, face in enumerate(_whole(shown) if faces is None else faces.of(shown), start=1):
            if index > 1:
                face["id"] += f"#{index}"
            yield Item(face, file, frame.index + 1)


def _stem(video: str) -> str:
    """How the names of a video's frames begin: as it is called, and a hash of its folder where it
    has one, so that two videos of one name do not replace each other's frames."""
    name = os.path.basename(video)
    stem = keys.file_stem({"id": name})
    if name == video:
        return stem
    return f"{stem}-{blake2b(os.fsencode(video), digest_size=4).hexdigest()}"


def _save(picture: Image.Image, path: Path) -> None:
    """Whole or not at all, and not synced to the disk, which can take longer than all else."""
    part = files.part_of(path)
    try:
        part.write_bytes(images.encode(picture, path.suffix, level=3))
        os.replace(part, path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise KptoolsError(f"cannot write {path}: {error.strerror}; make room there") from None


def _whole(frame: Record) -> list[Record]:
    width, height = frame["size"]
    return [frame | {"box": list(g.whole_image((width, height))), "box_source": "image"}]


class _Faces:
    """Finds the faces of one of each `every` frames, and has them stay there until the next."""

    def __init__(self, detector: str, every: int) -> None:
        module = detectors.module(detector)
        self._detect, self._source, self._every = module.load(), module.SOURCE, every
        self._count = 0  # frames
        self._found: list[detectors.Found] = []
        self._time: Seconds = 0.0  # of the frame that was searched

    def of(self, frame: Record) -> list[Record]:
        """A record for each face of the frame, or one that says why there is none."""
        carried = {}
        try:
            if self._count % self._every == 0:
                self._found = []
                self._time = frame["time"]
                self._found = sorted(self._detect(frame["image"]), key=lambda face: face.box)
            else:
                carried = {"box_time": self._time}
            if not self._found:
                problem = f"no face was found at {self._time:.2f} s; --box image takes frames whole"
                raise RecordError("no_face", problem)
        except RecordError as error:
            return [fail(frame, error)]
        finally:
            self._count += 1
        return [
            frame
            | {"box": list(face.box), "box_source": self._source}
            | carried
            | ({} if face.roll is None else {"roll": face.roll})
            for face in self._found
        ]
