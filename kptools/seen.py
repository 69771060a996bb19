"""Which ids a stream has had before."""

from array import array
from hashlib import blake2b


class Seen:
    """A table of 64-bit hashes, 16 to 24 bytes an id."""

    def __init__(self) -> None:
        self._table, self._count = array("Q", bytes(8 * 1024)), 0

    def before(self, name: str) -> bool:
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
