"""The lines of a file, and when the next one would have to be waited for."""

import select
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO

from kptools.limits import MAX_LINE_BYTES
from kptools.storage import sniff

_CHUNK = 1 << 18
_BOM = b"\xef\xbb\xbf"


class Lines:
    """The lines of a file that are not blank, each with its number, without the white space at its
    ends. One over the limit is skipped to its end: its first MAX_LINE_BYTES + 1 bytes stand for it.
    `before_wait` is called before a read that could wait."""

    def __init__(self, handle: BinaryIO, before_wait: Callable[[], None]) -> None:
        self._handle = handle
        self._before_wait = before_wait
        self._lines: deque[tuple[int, bytes]] = deque()  # read, and not taken yet
        self._parts: list[bytes] = []  # of the line that goes on in the next read
        self._size = 0
        self._number = 0
        self._ended = False
        self.head = b""  # of the file: what shows its kind

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while True:
            while not self._lines and not self._ended:
                self._before_wait()
                self._read()
            if not self._lines:
                return
            yield self._lines.popleft()

    def ready(self) -> bool:
        """Whether a line is there without a wait. Where the system cannot tell: no."""
        while not self._lines and not self._ended:
            try:
                if not select.select([self._handle], [], [], 0)[0]:
                    return False
            except (OSError, ValueError):
                return False
            self._read()
        return bool(self._lines)

    def _read(self) -> None:
        chunk = self._handle.read(_CHUNK)
        if chunk is None:  # another process has made it non-blocking
            select.select([self._handle], [], [])
            return
        if not chunk:
            self._ended = True
            self._end_line()
            return
        if not self._number and not self._parts:
            chunk = chunk.removeprefix(_BOM)
            self.head = chunk[: sniff.HEAD]
        head, *rest = chunk.split(b"\n")
        self._extend(head)
        if not rest:
            return
        self._end_line()
        *whole, tail = rest
        for number, part in enumerate(whole, self._number + 1):
            if line := part.strip():
                self._lines.append((number, line))
        self._number += len(whole)
        self._extend(tail)

    def _extend(self, part: bytes) -> None:
        if self._size <= MAX_LINE_BYTES:
            self._parts.append(part[: MAX_LINE_BYTES + 1 - self._size])
            self._size += len(self._parts[-1])

    def _end_line(self) -> None:
        self._number += 1
        if line := b"".join(self._parts).strip():
            self._lines.append((self._number, line))
        self._parts, self._size = [], 0
