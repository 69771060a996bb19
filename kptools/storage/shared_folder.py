"""A folder of files that the processes of many machines write, each its own, for one command, which
alone has claimed it (`files.claim_folder`).

A file has no lock, which a machine that is lost may hold for minutes. It gets its name from a part
that no other process has, since a machine that seems to be lost may go on writing.
"""

import os
import platform
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kptools.errors import KptoolsError
from kptools.storage.files import resolve_output


@contextmanager
def marked(folder: Path) -> Iterator[Path]:
    """A file in the folder for as long as the block, by which others know it. KptoolsError."""
    try:
        mark = tempfile.NamedTemporaryFile(dir=folder, prefix=".shared-")  # noqa: SIM115 (below)
    except OSError as error:
        raise KptoolsError(f"cannot write into {folder}: {error.strerror}") from None
    with mark:
        yield folder / os.path.basename(mark.name)


def require_marked(mark: Path) -> None:
    """KptoolsError where the folder of this mark is not the one that was marked."""
    if not mark.exists():
        raise KptoolsError(
            f"the node {platform.node()} does not share the folder {mark.parent} with the machine "
            "of the command; name one on a file system that all nodes share"
        )


def own_part(path: Path) -> Path:
    """What a file is called until all of it is there."""
    return path.with_name(f"{path.name}.{os.urandom(4).hex()}.part")


def write_output(path: Path, data: bytes | memoryview) -> None:
    """Write a file whole or not at all, once it is on disk. KptoolsError where the disk says no."""
    path = resolve_output(path)
    part = own_part(path)
    try:
        with open(part, "xb") as handle:
            handle.write(data)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(part, path)
    except OSError as error:
        raise KptoolsError(f"cannot write {path}: {error.strerror}; make room there") from None
    finally:
        part.unlink(missing_ok=True)
