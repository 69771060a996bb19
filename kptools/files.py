"""Output files: whole under their name, or not there."""

import errno
import os
import shutil
import stat
from pathlib import Path
from typing import IO

from kptools.errors import KptoolsError


def target(path: str | os.PathLike[str]) -> Path:
    """Where an output really goes: through a link to what it names, so that the link stays."""
    return Path(os.path.realpath(path))


def special(path: Path) -> bool:
    """Whether this is there and is no regular file (a pipe, a device): it is written as it is."""
    return path.exists() and not stat.S_ISREG(path.stat().st_mode)


def part(path: Path) -> Path:
    """What a file is called until all of it is there."""
    return path.with_name(path.name + ".part")


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file that appears under its name only when all of it is on disk. OSError."""
    path = target(path)
    if special(path):
        path.write_bytes(data)
        return
    unfinished = part(path)
    try:
        with open(unfinished, "wb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(unfinished, path)
    except OSError:
        unfinished.unlink(missing_ok=True)
        raise


def need_room(folder: Path, needed: int, what: str) -> None:
    """Raise KptoolsError where the disk of `folder` has fewer bytes free than `what` will take."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise KptoolsError(
            f"{folder} has {free / 1e6:.0f} MB free, and {what} takes {needed / 1e6:.0f} MB; "
            "make room"
        )


def reserve(file: IO[bytes], folder: Path, size: int, what: str) -> None:
    """Take the disk that a file of `size` bytes needs: to map a file that the disk then cannot
    hold would kill the process. Raises KptoolsError where there is not enough."""
    need_room(folder, size, what)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:  # some file systems cannot say
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise KptoolsError(f"{folder}: no room for {what}: {error.strerror}") from None
