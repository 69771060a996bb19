"""Output files: whole under their name or not there, and of one writer at a time.

A file is written as `FILE.part`, which its writer locks (`flock`), and takes its name when all of
it is on disk. A second process that wants the same file, or the same folder of files, fails at
once and says who has it; what a dead process left is no longer locked.
"""

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path
from typing import IO

from kptools.errors import KptoolsError

# What file systems answer that have no such locks, or (NFS) none for a folder
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL, errno.EBADF)
_claimed: dict[Path, BufferedRandom] = {}  # FILE: its FILE.part, open and locked
_folders: dict[Path, int] = {}  # folder: a locked descriptor of it


def resolve_output(path: str | os.PathLike[str]) -> Path:
    """Where an output really goes: through a link to what it names, so that the link stays; but
    /dev/stdout, and what else is no regular file, as it is."""
    given = Path(path)
    return given if is_special(given) else Path(os.path.realpath(path))


def is_special(path: Path) -> bool:
    """Whether this is there and is no regular file (a pipe, a device): it is written as it is."""
    return path.exists() and not stat.S_ISREG(path.stat().st_mode)


def part_of(path: Path) -> Path:
    """What a file is called until all of it is there."""
    return path.with_name(path.name + ".part")


def require_regular(path: str | os.PathLike[str]) -> None:
    """Raise OSError unless this is a regular file: to open a pipe or a device may wait for ever,
    and a folder cannot be read. FileNotFoundError where it does not exist."""
    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is not a regular file", os.fspath(path))


def open_locked(name: Path, path: Path) -> BufferedRandom:
    """The file `name` for appending and reading, created where needed and locked until it is
    closed. Raises OSError, and KptoolsError, which names `path`, where another process has it
    locked."""
    while True:
        handle = open(name, "ab+")  # noqa: SIM115 (it lives as long as the lock)
        try:
            _lock(handle.fileno(), path)
            if is_same_file(handle, name):
                return handle
        except BaseException:
            handle.close()
            raise
        handle.close()  # its writer was done with it, and it has another name now, or none


def claim(path: Path) -> BufferedRandom | None:
    """Make this process the writer of a file until it gives it its name (`finish`) or ends. Returns
    FILE.part, for appending, or None where the file is special. Raises OSError, and KptoolsError
    where another process is writing it."""
    path = resolve_output(path)
    if is_special(path):
        return None
    if path.name.endswith(".part"):
        raise KptoolsError(f"{path}: names in .part are of unfinished files; choose another one")
    if path not in _claimed:
        _claimed[path] = open_locked(part_of(path), path)
    return _claimed[path]


def finish(path: Path) -> None:
    """Give FILE.part, which this process has claimed, its name, once all of it is on disk. Raises
    OSError, and KptoolsError where somebody has put another file in its place."""
    handle = _claimed[path]
    handle.flush()
    os.fsync(handle.fileno())
    if not is_same_file(handle, part_of(path)):
        raise KptoolsError(
            f"{part_of(path)} was removed or replaced while it was written; run again"
        )
    os.replace(part_of(path), path)
    _claimed.pop(path).close()


def abandon(path: Path) -> None:
    """Remove FILE.part of a file that this process has claimed and will not finish."""
    handle = _claimed.pop(resolve_output(path), None)
    if handle is None:
        return
    if is_same_file(handle, part_of(resolve_output(path))):
        part_of(resolve_output(path)).unlink()
    handle.close()


def claim_folder(path: Path) -> None:
    """Make this process, until it ends, the only one that writes into a folder. Raises
    KptoolsError where another process does, OSError."""
    path = resolve_output(path)
    if path in _folders:
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        _lock(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    _folders[path] = descriptor


def release() -> None:
    """Give up all claims; a FILE.part that holds nothing is removed."""
    while _claimed:
        path, handle = _claimed.popitem()
        if handle.closed:
            continue
        if os.fstat(handle.fileno()).st_size == 0 and is_same_file(handle, part_of(path)):
            part_of(path).unlink()
        handle.close()
    while _folders:
        os.close(_folders.popitem()[1])


def is_same_file(handle: IO[bytes], name: Path) -> bool:
    """Whether the open file is the one under this name."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), name.stat())
    except FileNotFoundError:
        return False


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise KptoolsError(
            f"{path} is being written by {_holder(descriptor)}; wait for it, or choose another name"
        ) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # some network file systems have none
            raise


def _holder(descriptor: int) -> str:
    """Who has this file locked: its process and command line, as far as the system knows."""
    inode = str(os.fstat(descriptor).st_ino)
    try:
        rows = [row.split() for row in Path("/proc/locks").read_text().splitlines()]
        owner = next(
            row[4] for row in rows if row[1] == "FLOCK" and row[5].rpartition(":")[2] == inode
        )
        line = Path(f"/proc/{owner}/cmdline").read_bytes().decode(errors="replace")
        words = line.strip("\0").split("\0")
    except (OSError, StopIteration, IndexError):
        return "another process"
    if len(words) > 1 and Path(words[0]).name.startswith("python"):
        words = [Path(words[1]).name, *words[2:]]
    return f"process {owner} ({' '.join(words)[:100]})"


@contextmanager
def writing(path: Path) -> Iterator[IO[bytes]]:
    """FILE.part, empty, to write to; it takes its name at the end of the block, and is removed
    where the block fails. `path` is no special file. Raises OSError, and KptoolsError where another
    process is writing it."""
    path = resolve_output(path)
    handle = claim(path)
    assert handle is not None
    try:
        handle.truncate(0)
        yield handle
        finish(path)
    except BaseException:
        abandon(path)
        raise


@contextmanager
def writing_on(path: Path) -> Iterator[BufferedRandom]:
    """FILE.part as an earlier run left it, to go on with; it takes its name at the end of the
    block, and stays where the block fails. Raises OSError, and KptoolsError where another process
    is writing it."""
    handle = claim(path)
    assert handle is not None
    yield handle
    finish(resolve_output(path))


def write_whole(path: Path, data: bytes | memoryview) -> None:
    """Write a file that appears under its name only when all of it is on disk. Raises OSError, and
    KptoolsError where another process is writing it."""
    path = resolve_output(path)
    if is_special(path):
        path.write_bytes(data)
        return
    with writing(path) as handle:
        handle.write(data)


def write_unsynced(path: Path, data: bytes) -> None:
    """Write a file whole or not at all, without the wait until it is on disk: one of many, which
    are made again where the machine goes down. Raises OSError."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def copy_file(source: Path, path: Path) -> None:
    """Copy a file whole or not at all, as `write_unsynced` writes one. Raises OSError."""
    part = path.with_name(path.name + ".part")
    try:
        shutil.copyfile(source, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def require_space(folder: Path, needed: int, what: str) -> None:
    """Raise KptoolsError where the disk of `folder` has fewer bytes free than `what` will take."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise KptoolsError(
            f"{folder} has {free / 1e6:.0f} MB free, and {what} takes {needed / 1e6:.0f} MB; "
            "make room"
        )


def reserve_space(file: IO[bytes], folder: Path, size: int, what: str) -> None:
    """Take the disk that a file of `size` bytes needs: to map a file that the disk then cannot
    hold would kill the process. Raises KptoolsError where there is not enough."""
    require_space(folder, size, what)
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:  # some file systems cannot say
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise KptoolsError(f"{folder}: no room for {what}: {error.strerror}") from None


def make_folder(path: Path) -> None:
    """Make a folder for output that this process alone writes into. KptoolsError where it cannot
    be made, or another process is writing there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        claim_folder(path)
    except OSError as error:
        raise KptoolsError(f"cannot make the folder {path}: {error.strerror}") from None


def claim_output(path: Path) -> None:
    """Make this process the writer of a file, before the work: KptoolsError where another process
    is writing it, or it cannot be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        claim(path)
    except OSError as error:
        raise KptoolsError(f"cannot write {path}: {error.strerror}") from None


def write_output(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all. KptoolsError where the disk says no."""
    try:
        write_whole(path, data)
    except OSError as error:
        raise KptoolsError(f"cannot write {path}: {error.strerror}; make room there") from None
