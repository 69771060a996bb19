"""Output files: whole under their name, or not there."""

import os
import stat
from pathlib import Path


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
