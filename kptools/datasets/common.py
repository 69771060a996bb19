"""What the importers share: where a dataset lies, and the first keys of a record."""

import os
import re
from collections.abc import Sequence
from pathlib import Path

from kptools.errors import RecordError, UsageError
from kptools.records.keys import Record, fail
from kptools.storage import images

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")


def find_root(given: str | None, folder: str, source: str) -> str:
    """The dataset's folder: what was given, else `folder` below $KPTOOLS_DATA or ./data."""
    if given is not None:
        if not os.path.isdir(given):
            raise UsageError(f"{given} is not a folder; {source}")
        return given
    roots = [root for root in (os.environ.get("KPTOOLS_DATA"), "data") if root]
    places = [os.path.join(root, folder) for root in roots]
    for place in places:
        if os.path.isdir(place):
            return place
    raise UsageError(f"no ROOT given, and none at {' or '.join(places)}; {source}")


def start(root: str, path: str, name: str | None = None) -> Record:
    """The first keys of a record: image, id, group, size. `path` is `root` joined with what lies
    below it. Where the image cannot be read, the record is a failure and has no size."""
    below = os.path.relpath(path, root) if name is None else name
    key = os.path.splitext(below)[0].replace(os.sep, "/")
    record: Record = {"image": path, "id": key, "group": photo(key)}
    try:
        record["size"] = list(images.shown_size(path))
    except RecordError as error:
        fail(record, error)
    return record


def photo(key: str) -> str:
    """The photo that a face's id belongs to: a mirror image and a face number are left out
    (afw/134212_1, afw/134212_2 and afw/134212_2_mirror are of one photo)."""
    return re.sub(r"_\d{1,2}$", "", key.removesuffix("_mirror"))


def image_beside(stem: str) -> str:
    """The image that has this path without its suffix; `stem.jpg` where none exists."""
    for suffix in IMAGE_SUFFIXES:
        for candidate in (stem + suffix, stem + suffix.upper()):
            if os.path.exists(candidate):
                return candidate
    return stem + ".jpg"


def walk(root: str, suffixes: Sequence[str]) -> list[str]:
    """The files below `root` with one of these suffixes, in order of path."""
    found: list[str] = []
    for folder, folders, files in os.walk(root):
        folders.sort()
        found.extend(os.path.join(folder, f) for f in files if f.lower().endswith(tuple(suffixes)))
    return sorted(found)


def read_text(path: str) -> str:
    """A small text file. RecordError where it cannot be read or is no text."""
    try:
        if Path(path).stat().st_size > 1 << 20:
            raise RecordError("bad_points", f"{path} is over 1 MiB; it is no annotation")
        return Path(path).read_text(encoding="latin-1")
    except FileNotFoundError:
        raise RecordError("bad_points", f"{path} does not exist; each image needs one") from None
    except OSError as error:
        raise RecordError("bad_points", f"{path} cannot be read: {error.strerror}") from None
