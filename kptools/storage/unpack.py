"""A tar or zip file into a folder: regular files alone, none of them outside of it, within limits.

A name that leads out of the folder, a link, a device, more files or bytes than `limits` allow: the
archive is refused, and the folder does not appear.
"""

import os
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from kptools.errors import KptoolsError
from kptools.limits import MAX_UNPACKED_BYTES, MAX_UNPACKED_FILES

_CHUNK = 1 << 20


def unpack(archive: Path, folder: Path) -> None:
    """The files of the archive, in `folder`, which appears whole; a single folder at the top of the
    archive is `folder` itself. Raises KptoolsError."""
    part = folder.with_name(folder.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        if zipfile.is_zipfile(archive):
            _write(archive, part, _of_zip(archive))
        elif tarfile.is_tarfile(archive):
            _write(archive, part, _of_tar(archive))
        else:
            raise KptoolsError(f"{archive} is neither a tar nor a zip file; remove it")
        inside = list(part.iterdir())
        top = inside[0] if len(inside) == 1 and inside[0].is_dir() else part
        os.replace(top, folder)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError) as error:
        raise KptoolsError(f"{archive} is broken: {error}; remove it and run again") from None
    except OSError as error:
        raise KptoolsError(f"cannot unpack {archive} to {folder}: {error.strerror}") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _of_zip(archive: Path) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    """Name, whether it is a folder, and its bytes (None: neither folder nor file)."""
    with zipfile.ZipFile(archive) as members:
        for member in members.infolist():
            kind = member.external_attr >> 16 & 0o170000
            if member.is_dir():
                yield member.filename, True, None
            elif kind in (0, 0o100000):
                with members.open(member) as handle:
                    yield member.filename, False, handle
            else:
                yield member.filename, False, None


def _of_tar(archive: Path) -> Iterator[tuple[str, bool, IO[bytes] | None]]:
    with tarfile.open(archive) as members:
        for member in members:
            yield (
                member.name,
                member.isdir(),
                members.extractfile(member) if member.isreg() else None,
            )


def _write(
    archive: Path, folder: Path, members: Iterator[tuple[str, bool, IO[bytes] | None]]
) -> None:
    count = size = 0
    for name, is_folder, handle in members:
        inside = PurePosixPath(name.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts or ":" in name or "\0" in name:
            raise KptoolsError(f"{archive}: {name!r} leads out of the folder; it is not unpacked")
        path = folder / inside
        count += 1
        if is_folder:
            path.mkdir(parents=True, exist_ok=True)
            continue
        if handle is None:
            raise KptoolsError(f"{archive}: {name!r} is no regular file; it is not unpacked")
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "xb") as out:
            while chunk := handle.read(_CHUNK):
                size += len(chunk)
                if size > MAX_UNPACKED_BYTES or count > MAX_UNPACKED_FILES:
                    raise KptoolsError(
                        f"{archive} holds over {MAX_UNPACKED_BYTES >> 30} GiB or "
                        f"{MAX_UNPACKED_FILES:,} files; it is not unpacked"
                    )
                out.write(chunk)
