"""Which ids a stream has had before, and which names of files were given away."""

import os
import re
from array import array
from hashlib import blake2b

from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.keys import Record
from kptools.storage import remote

_LONGEST = 200  # bytes of a name; file systems have 255, and a suffix is to come


class SeenIds:
    """A table of 64-bit hashes, 16 to 24 bytes an id."""

    def __init__(self) -> None:
        self._table, self._count = array("Q", bytes(8 * 1024)), 0

    def was_seen(self, name: str) -> bool:
        """Whether this id was there before; from now on it was."""
        digest = blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
        if self._count * 3 > len(self._table) * 2:
            self._grow()
        return self._add(int.from_bytes(digest, "little") or 1)

    def _add(self, key: int) -> bool:
        size = len(self._table)
        at = key % size
        while self._table[at]:
            if self._table[at] == key:
                return True
            at = (at + 1) % size
        self._table[at] = key
        self._count += 1
        return False

    def _grow(self) -> None:
        old, self._count = self._table, 0
        self._table = array("Q", bytes(8 * len(old) * 2))
        for key in old:
            if key:
                self._add(key)


class FileNames:
    """A name for what is made of each record, or of each photo: no two of a run share one."""

    def __init__(self) -> None:
        self._seen = SeenIds()

    def unique_name(self, record: Record) -> str:
        """The record's name, without suffix. RecordError where another record had it before."""
        name = keys.file_stem(record)
        if self._seen.was_seen(name):
            raise RecordError(
                "bad_record",
                f"its file {name} is that of a record before it; give each face an id of its own",
            )
        return name

    def tree_name(self, record: Record) -> str:
        """The record's id where it is a path below a folder and not too long, else its
        `unique_name`; with a hash where another name differs from it only in upper and lower case,
        which are one to some file systems. RecordError where another record had it before."""
        name = keys.identity(record)
        key = name.encode(errors="surrogatepass")
        plain = all(re.fullmatch(r"[A-Za-z0-9_#][\w.# -]*", part) for part in name.split("/"))
        if "copy" in record or not plain or len(key) > _LONGEST:
            name = self.unique_name(record)
        elif self._seen.was_seen(name):
            raise RecordError("bad_record", f"another face has the id {name}; give each its own")
        if self._seen.was_seen(f"\0{name.lower()}"):
            name += "." + blake2b(key, digest_size=4).hexdigest()
        return name

    def of_photo(self, image: str) -> str:
        """The name of a photo, without suffix, from its path, which is given once: the photo's own
        name, with a hash of the path where another photo had it before. Upper and lower case are
        one, as they are to some file systems."""
        own = os.path.basename(remote.path_of(image))
        name = keys.file_stem({"id": os.path.splitext(own)[0]})
        if self._seen.was_seen(name.lower()):
            path = image.encode(errors="surrogatepass")
            name += "." + blake2b(path, digest_size=4).hexdigest()
            self._seen.was_seen(name.lower())
        return name
