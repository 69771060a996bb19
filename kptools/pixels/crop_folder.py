"""Crops that are kept between runs: a folder with a file for each set of faces.

A file is called by what its pixels are made from: which photos, of which size and time, which
boxes, which crops of them, and the library that decodes. So a photo, a box or a setting that
changes makes another file, and the old one goes when the folder is full. A file holds the crops as
they lie in memory, and after them, as JSON, which faces have none, and why.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TypeAlias

import orjson
import PIL
from PIL import features

from kptools.errors import KptoolsError
from kptools.pixels.crop_spec import CropSpec
from kptools.records.face import Face
from kptools.specs import FILL
from kptools.storage import files, remote
from kptools.storage.remote import ARCHIVES

VERSION = 1  # of what a file holds
SUFFIX = ".crops"
WHAT = "the crops to keep"

Errors: TypeAlias = Mapping[int, tuple[str, str]]  # by face: the status, and why


@dataclass
class StoredCrops:
    """The crops of a set of faces in a file, which is whole at `path` or being made at `part`.

    `errors` are those of a whole one: by face that has no crop, the status and why. `handle` is of
    the process that makes the file, and holds its lock."""

    path: Path
    errors: Errors | None = None
    handle: IO[bytes] | None = field(default=None, repr=False)

    @property
    def is_whole(self) -> bool:
        return self.errors is not None

    @property
    def mapped(self) -> Path:
        """The file to map."""
        return self.path if self.is_whole else files.part_of(self.path)

    def finish(self, errors: Errors) -> None:
        """Give the file its name, once all crops are in it. Where the disk says no there is none,
        and the next run decodes again."""
        assert self.handle is not None
        with suppress(OSError), self.handle as handle:
            handle.write(orjson.dumps([(index, *error) for index, error in errors.items()]))
            handle.flush()
            os.fsync(handle.fileno())
            if files.is_same_file(handle, files.part_of(self.path)):
                os.replace(files.part_of(self.path), self.path)
        self.handle = None


@dataclass(frozen=True)
class CropFolder:
    """A folder of crops of at most `size` bytes; what was used last goes last."""

    path: Path
    size: int

    def open(self, faces: Sequence[Face], spec: CropSpec, size: int) -> StoredCrops | None:
        """The crops of these faces, `size` bytes: a whole file, or one to be made. None where they
        cannot be kept: another run makes the same file, or a photo is on a server, which may change
        it. Raises KptoolsError where the folder cannot be used or is too small."""
        key = key_of(faces, spec)
        if key is None:
            return None
        path = self.path / (key + SUFFIX)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            found = _read_errors(path, size)
            if found is not None:
                os.utime(path)
                return StoredCrops(path, found)
            self._make_room(size)
            try:
                handle = files.open_locked(files.part_of(path), path)
            except KptoolsError:
                return None
            try:
                handle.truncate(0)
                files.reserve_space(handle, self.path, size, WHAT)
                handle.truncate(size)
            except BaseException:
                files.part_of(path).unlink(missing_ok=True)
                handle.close()
                raise
        except OSError as error:
            raise KptoolsError(f"--cache {self.path}: {error.strerror}") from None
        return StoredCrops(path, handle=handle)

    def _make_room(self, size: int) -> None:
        """Remove what no run finished, and what was used longest ago, until so many bytes fit."""
        if size > self.size:
            raise KptoolsError(
                f"--cache {self.path}: the crops of these faces take {size / 1e9:.3g} GB; raise "
                "--cache-size, or leave --cache out"
            )
        for part in self.path.glob(f"*{SUFFIX}.part"):
            with suppress(KptoolsError, OSError), files.open_locked(part, part):
                part.unlink()
        kept = []
        for path in self.path.glob(f"*{SUFFIX}"):
            with suppress(FileNotFoundError):  # another run made room, too
                status = path.stat()
                kept.append((status.st_mtime_ns, status.st_size, path))
        total = sum(bytes_of for _, bytes_of, _ in kept) + size
        for _, bytes_of, path in sorted(kept):
            if total <= self.size:
                return
            path.unlink(missing_ok=True)  # a run that has it mapped keeps it
            total -= bytes_of


def key_of(faces: Sequence[Face], spec: CropSpec) -> str | None:
    """What tells the crops of these faces from all others; None where a photo is on a server."""
    seen = spec.input
    library = (PIL.__version__, features.version("jpg"), features.version("zlib"))
    how = (VERSION, library, FILL, spec.size, spec.ratio, seen.size, seen.margin, seen.grey)
    key = hashlib.sha256(repr(how).encode())
    for face in faces:
        name = face.image
        path = name
        if remote.is_remote(name):
            if name.partition("://")[0] not in ARCHIVES:
                return None
            path = name.partition("::")[2]
        try:
            status = os.stat(path)
            file = (os.path.abspath(path), status.st_size, status.st_mtime_ns)
        except (OSError, ValueError):
            file = (os.path.abspath(path), -1, -1)
        member = name if path is not name else ""
        key.update(repr((file, member, tuple(map(float, face.box)))).encode())
    return key.hexdigest()[:40]


def _read_errors(path: Path, size: int) -> Errors | None:
    """Of a whole file, by face why it has no crop; None where there is no such file."""
    try:
        with open(path, "rb") as file:
            file.seek(size)
            return {index: (status, text) for index, status, text in orjson.loads(file.read())}
    except (FileNotFoundError, TypeError, ValueError):
        return None
