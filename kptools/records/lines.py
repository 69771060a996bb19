"""The lines of a file, and when the next one would have to be waited for."""

import select
from collections import deque
from collections.abc import Callable, Iterator
from typing import BinaryIO

from kptools.limits import MAX_LINE_BYTES
from kptools.storage import sniff
from kptools.storage.compressed import Input

_CHUNK = 1 << 18
_BOM = b"\xef\xbb\xbf"


class Lines:
    """The lines of a file that are not blank, each with its number, without the white space at its
    ends. One over the limit is skipped to its end: its first MAX_LINE_BYTES + 1 bytes stand for it.
    `before_wait` is called before a read that could wait, `check` with the head of the file and its
    first line, and `is_wanted` for each line: it says whether the line is one to give."""

    def __init__(
        self,
        handle: BinaryIO | Input,
        before_wait: Callable[[], None],
        check: Callable[[bytes, bytes], None],
        is_wanted: Callable[[], bool],
    ) -> None:
        self._handle = handle
        self._before_wait, self._check, self._is_wanted = before_wait, check, is_wanted
        self._lines: deque[tuple[int, bytes]] = deque()  # read, and not taken yet
        self._parts: list[bytes] = []  # of the line that goes on in the next read
        self._size = 0
        self._number = 0
        self._ended = False
        self._head: bytes | None = b""  # of the file: what shows its kind, until it was looked at

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while True:
            while not self._lines and not self._ended:
                self._before_wait()
                if not self._read():  # nothing was there
                    select.select([self._handle], [], [])
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

    def _read(self) -> bool:
        """Read some; whether anything came, or the end."""
        chunk = self._handle.read(_CHUNK)
        if chunk is None:
            return False
        if not chunk:
            self._ended = True
            self._end_line()
            return True
        if not self._number and not self._parts:
            chunk = chunk.removeprefix(_BOM)
            self._head = chunk[: sniff.HEAD]
        head, *rest = chunk.split(b"\n")
        self._extend(head)
        if not rest:
            return True
        self._end_line()
        *whole, tail = rest
        for number, part in enumerate(whole, self._number + 1):
            if line := part.strip():
                self._add(number, line)
        self._number += len(whole)
        self._extend(tail)
        return True

    def _extend(self, part: bytes) -> None:
        if self._size <= MAX_LINE_BYTES:
            self._parts.append(part[: MAX_LINE_BYTES + 1 - self._size])
            self._size += len(self._parts[-1])

    def _end_line(self) -> None:
        self._number += 1
        if line := b"".join(self._parts).strip():
            self._add(self._number, line)
        self._parts, self._size = [], 0

    def _add(self, number: int, line: bytes) -> None:
        if self._head is not None:
            self._check(self._head, line)
            self._head = None
        if self._is_wanted():
            self._lines.append((number, line))
