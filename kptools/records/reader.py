"""JSON Lines in: items, one a line, in order."""

import os
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from stat import S_ISREG
from typing import BinaryIO

import orjson

from kptools.errors import KptoolsError, RecordError
from kptools.limits import MAX_LINE_BYTES, MAX_RAW_CHARS
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.records.keys import failed
from kptools.records.lines import Lines
from kptools.records.shard import WHOLE, Shard
from kptools.storage import compressed, sniff

_KINDS: dict[type, str] = {list: "an array", str: "a string", int: "a number", float: "a number"}


class Reader:
    """The lines of the files `names` (`-` or none: stdin) as items; of `.gz` and `.zst`, what they
    hold. Only those of `shard`, counted over all files.

    A line that cannot be parsed is a failure. `before_wait` is called before a read that could
    wait, and `on_line` for each line: it says whether the record was done before, and is skipped.
    """

    def __init__(
        self,
        names: Iterable[str],
        failures: Failures,
        *,
        shard: Shard = WHOLE,
        before_wait: Callable[[], None] = lambda: None,
        on_line: Callable[[bytes], bool] = lambda line: False,
    ) -> None:
        self.names = list(names) or ["-"]
        self._failures = failures
        self._before_wait, self._on_line = before_wait, on_line
        self._lines: Lines | None = None  # of the file that is being read
        self._handle: BinaryIO | None = None  # that file
        self._before = 0  # bytes of the files that were read to their end
        self._shard = shard
        self._passed = 0  # records, of all shards

    def __iter__(self) -> Iterator[Item]:
        for name in self.names:
            yield from self._read(name)

    def ready(self) -> bool:
        """Whether the next record of this file is there without a wait."""
        return self._lines is not None and self._lines.ready()

    def size(self) -> int | None:
        """The bytes of all files, None where one of them is not a regular file."""
        try:
            found = [os.stat(0 if name == "-" else name) for name in self.names]
        except OSError:
            return None
        return sum(s.st_size for s in found) if all(S_ISREG(s.st_mode) for s in found) else None

    def position(self) -> int:
        """How many of the bytes of regular files were read; of compressed ones, as they are
        stored."""
        handle = self._handle
        try:
            here = os.lseek(handle.fileno(), 0, os.SEEK_CUR) if handle is not None else 0
        except (OSError, ValueError):  # it was closed in this moment
            here = 0
        return self._before + here

    def _read(self, name: str) -> Iterator[Item]:
        shown = "stdin" if name == "-" else name
        try:
            with _open(name) as handle:
                self._handle = handle
                self._lines = Lines(
                    compressed.reading(handle, name),
                    self._before_wait,
                    partial(sniff.require_records, shown=shown),
                    self._is_ours,
                )
                for number, line in self._lines:
                    if not self._on_line(line):
                        yield self._parse(line, shown, number)
                self._before += os.fstat(handle.fileno()).st_size
                self._handle = None
        except IsADirectoryError:
            raise KptoolsError(f"{shown} is a folder; records come from a file") from None
        except FileNotFoundError:
            raise KptoolsError(f"there is no file {shown}; name one, or - for stdin") from None

    def _is_ours(self) -> bool:
        self._passed += 1
        return self._shard.has(self._passed)

    def _parse(self, line: bytes, file: str, number: int) -> Item:
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"longer than {MAX_LINE_BYTES >> 20} MiB")
            record = orjson.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"{_KINDS.get(type(record), 'a constant')}, not an object")
        except ValueError as error:
            item = Item({"id": f"{file}:{number}"}, file, number)
            problem = RecordError("bad_record", f"{error}; a line is one JSON object")
            self._failures.add(item, problem)
            item.update({"raw": line[:MAX_RAW_CHARS].decode("utf-8", "replace")})
            return item
        item = Item(record, file, number, line)
        if failed(record):
            self._failures.add_earlier(item)
        return item


def _open(name: str) -> BinaryIO:
    if name == "-":
        return open(0, "rb", buffering=0, closefd=False)
    return open(name, "rb", buffering=0)
