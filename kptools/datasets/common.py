"""What the importers share: where a dataset lies, and the first keys of a record."""

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.records.ids import SeenIds
from kptools.records.keys import Record, fail
from kptools.schemes import catalog
from kptools.schemes.scheme import Scheme
from kptools.storage import images, remote

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
    return with_size({"image": path, "id": key, "group": photo(key)})


def with_size(record: Record) -> Record:
    """The record with the size of its image; where that cannot be read, it is a failure."""
    try:
        return record | {"size": list(images.shown_size(record["image"]))}
    except RecordError as error:
        return fail(record, error)


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


def located(folder: str, name: str) -> str:
    """Where the image is that a file in `folder` names."""
    return name if remote.is_remote(name) else os.path.normpath(os.path.join(folder, name))


def named_from(folder: str | None, image: str) -> str:
    """The name of an image for a file in `folder`: relative to it where the image's path is
    relative. `folder` None: as it is."""
    if folder is None or remote.is_remote(image) or os.path.isabs(image):
        return image
    return os.path.relpath(image, folder)


def split_of(path: str) -> str:
    """The split that the name of a list says, train where it says none."""
    words = re.split(r"[^a-z]+", os.path.basename(path).lower())
    found = {"val": "val", "valid": "val", "validation": "val", "test": "test", "testing": "test"}
    return next((found[word] for word in words if word in found), "train")


class SchemeChoice:
    """What the points of the file at `path` are: the scheme that --scheme names, `none`, or the one
    scheme of their names, or of their number. UsageError where there is none of that name."""

    def __init__(self, given: str | None, path: str) -> None:
        self.path, self.is_none = path, given == "none"
        self.known = None
        if given is not None and not self.is_none:
            try:
                self.known = catalog.get(given)
            except ValueError as error:
                raise UsageError(f"--scheme: {error}, or none") from None
        self.count = self.known.count if self.known is not None else None

    def by_names(self, names: Iterable[str]) -> Scheme | None:
        """The scheme whose points have these names, in any order; None where it has others."""
        if self.known is None:
            return None if self.is_none else catalog.of_names(names)
        return self.known if sorted(self.known.names) == sorted(names) else None

    def keys(self, count: int, named: Scheme | None = None) -> Record:
        """The key `scheme` of a face of so many points; none where --scheme is none. `named` is
        their scheme by their names, if there is one. RecordError where the scheme has another
        number, KptoolsError where no scheme has this one."""
        if self.is_none:
            return {}
        if self.known is not None:
            if count != self.known.count:
                raise RecordError(
                    "bad_points", f"{count} points, but {self.known.name} has {self.known.count}"
                )
            return {"scheme": self.known.name}
        found = named or catalog.of_count(count)
        if found is None:
            raise KptoolsError(
                f"{self.path}: a face has {count} points, which no scheme has, or more than one; "
                "give --scheme NAME or the FILE of your own, or --scheme none"
            )
        return {"scheme": found.name}

    def keys_of_none(self) -> Record:
        """The key `scheme` of a face without points."""
        return {"scheme": self.known.name} if self.known is not None else {}


class FaceIds:
    """Ids of faces that come in any order: NAME, NAME#2, NAME#3. `pictures` counts the names."""

    def __init__(self) -> None:
        self._seen = SeenIds()
        self._name, self._number = "", 0
        self.pictures = 0

    def unique_id(self, name: str) -> str:
        """The id of the next face of the picture of this name."""
        if name != self._name:
            self._name, self._number = name, 0
        while True:
            self._number += 1
            found = name if self._number == 1 else f"{name}#{self._number}"
            if not self._seen.was_seen(found):
                self.pictures += self._number == 1
                return found


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
