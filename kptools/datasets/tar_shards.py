"""Records and their images packed into tar files, in the layout of WebDataset.

A shard holds for each picture its file as it is, `00000012.jpg`, and after it what the records of
its faces say, `00000012.0.json`, `00000012.1.json`: files of one name belong together. There are
then few files where there were many, and a disk or a network reads them in one go.
"""

import io
import os
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import orjson

from kptools.errors import KptoolsError, RecordError
from kptools.limits import MAX_IMAGE_BYTES
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.storage import files, remote

MEGABYTE = 10**6


def pack(items: Iterable[Item], folder: Path, size: int, fail: Fail) -> Iterator[Item]:
    """Each item again, in order, its `image` a member of a shard in `folder`, which is whole when
    the item comes. A shard is full at `size` megabytes. Faces of one picture that come one after
    the other share it. KptoolsError where the disk says no, or a shard is there already."""
    shard = _Shard(folder, 0, 0)
    for item in items:
        data: bytes | None = None
        try:
            if not item.failed and not shard.holds(image := keys.image(item.record)):
                data = _read(image)
        except RecordError as error:
            fail(item, error)
        if data is not None and shard.size >= size * MEGABYTE:
            yield from shard.close()
            shard = _Shard(folder, shard.number + 1, shard.pictures)
        shard.add(item, data)
    yield from shard.close()


def _read(image: str) -> bytes:
    """The bytes of an image file, which are packed as they are. Raises RecordError."""
    if remote.is_remote(image):
        return remote.read(image)
    try:
        files.require_regular(image)
        if os.path.getsize(image) > MAX_IMAGE_BYTES:
            raise RecordError(
                "too_large", f"{image} is over {MAX_IMAGE_BYTES >> 20} MiB; shrink it"
            )
        return Path(image).read_bytes()
    except FileNotFoundError:
        raise RecordError("missing", f"{image} does not exist; check the path") from None
    except OSError as error:
        raise RecordError("unreadable", f"{image} cannot be read: {error.strerror}") from None


class _Shard:
    """A shard that is being filled, and its items; `pictures` is the number of the next one."""

    def __init__(self, folder: Path, number: int, pictures: int) -> None:
        self.path = folder / f"{number:05d}.tar"
        self.number, self.pictures = number, pictures
        self.size = 0  # bytes
        self._items: list[Item] = []
        self._tar: tarfile.TarFile | None = None
        self._image = self._member = ""  # the last one, as its record has it and in the shard
        self._faces = 0  # of that one

    def holds(self, image: str) -> bool:
        """Whether this is the image of the last face."""
        return image == self._image

    def add(self, item: Item, data: bytes | None) -> None:
        """Add a face and the bytes of its image; None: that of the face before, or a failure,
        which has none."""
        self._items.append(item)
        if item.failed:
            return
        if data is not None:
            self._image = keys.image(item.record)
            suffix = Path(remote.path_of(self._image)).suffix.lower()
            self._member, self._faces = f"{self.pictures:08d}{suffix}", 0
            self.pictures += 1
            self._write(self._member, data)
        item.update({"image": f"tar://{self._member}::{self.path}"})
        stem = self._member.partition(".")[0]
        self._write(f"{stem}.{self._faces}.json", orjson.dumps(item.record))
        self._faces += 1

    def _write(self, name: str, data: bytes) -> None:
        if self._tar is None:
            self._tar = tarfile.open(fileobj=_begin(self.path), mode="w|")  # noqa: SIM115
        member = tarfile.TarInfo(name)
        member.size = len(data)
        try:
            self._tar.addfile(member, io.BytesIO(data))
        except OSError as error:
            raise _cannot_write(self.path, error) from None
        self.size += len(data)

    def close(self) -> list[Item]:
        """Give the file its name; its items."""
        if self._tar is not None:
            try:
                self._tar.close()
                files.finish(files.resolve_output(self.path))
            except OSError as error:
                raise _cannot_write(self.path, error) from None
        return self._items


def _begin(path: Path) -> io.BufferedRandom:
    """The shard's file, empty."""
    if path.exists():
        raise KptoolsError(f"{path} is there already; --out needs a folder without shards")
    try:
        handle = files.claim(path)
        assert handle is not None
        handle.truncate(0)
    except OSError as error:
        raise _cannot_write(path, error) from None
    return handle


def _cannot_write(path: Path, error: OSError) -> KptoolsError:
    return KptoolsError(f"cannot write {path}: {error.strerror}; make room there")
