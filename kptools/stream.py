"""JSON Lines in, JSON Lines out.

A tool reads `Item`s from a `Stream` and writes each one back to it. The stream keeps the order,
turns a line that cannot be parsed into a failure record, tells each failure once on stderr, and
knows the exit status that they add up to. It holds the lines of one read: what was written leaves
before the next read that could wait.
"""

import errno
import os
import select
import shutil
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from io import BufferedRandom, BufferedWriter
from pathlib import Path
from typing import BinaryIO
from weakref import WeakSet

import orjson

from kptools import files
from kptools.errors import KptoolsError, ReaderGone, RecordError, UsageError
from kptools.limits import MAX_LINE_BYTES, MAX_RAW_CHARS
from kptools.records import Record, fail, failed

_CHUNK = 1 << 18
_BOM = b"\xef\xbb\xbf"


@dataclass(slots=True)
class Item:
    """A record and where it came from. `raw` is its line while the record is as it was read."""

    record: Record
    file: str
    line: int
    raw: bytes | None = None
    told: bool = field(default=False)

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def failed(self) -> bool:
        return failed(self.record)


class Stream:
    """The lines of the files `names` (`-` or none: stdin), and the lines that go out.

    `output` is `-` for stdout, or a path that appears whole or not at all: lines go to
    `PATH.part`, which `close` renames. With `resume` the records that `PATH.part` already holds
    are kept, and as many are skipped unread; `lines_per_record` is how many lines a record that
    did not fail makes (a failure makes one).
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        output: str = "-",
        *,
        strict: bool = False,
        resume: bool = False,
        lines_per_record: int = 1,
    ) -> None:
        self.names = list(names) or ["-"]
        self.strict = strict
        self.count = 0  # records read
        self.failures = 0
        self.done = 0  # records that an earlier run wrote
        self._output = output
        self._final = files.target(output) if output != "-" else None
        if resume and output == "-":
            raise UsageError("--resume goes on with a file; name it with -o FILE")
        self._lines: _Lines | None = None  # of the file that is being read
        self._out = self._open(resume, lines_per_record)
        _outputs.add(self._out)

    # Reading

    def __iter__(self) -> Iterator[Item]:
        for name in self.names:
            yield from self._read(name)

    def _read(self, name: str) -> Iterator[Item]:
        shown = "stdin" if name == "-" else name
        try:
            handle = _open_input(name)
            with handle:
                self._lines = _Lines(handle, self.flush)
                for number, line in self._lines:
                    self.count += 1
                    if self.count > self.done:
                        yield self._parse(line, shown, number)
        except IsADirectoryError:
            raise KptoolsError(f"{shown} is a folder; records come from a file") from None
        except FileNotFoundError:
            raise KptoolsError(f"there is no file {shown}; name one, or - for stdin") from None

    def ready(self) -> bool:
        """Whether the next record of this file can be had without a wait."""
        return self._lines is not None and self._lines.ready()

    def skips(self) -> bool:
        """Count a record that comes from elsewhere than files; whether it was done before."""
        self.count += 1
        return self.count <= self.done

    def _parse(self, line: bytes, file: str, number: int) -> Item:
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"longer than {MAX_LINE_BYTES >> 20} MiB")
            record = orjson.loads(line)
            if not isinstance(record, dict):
                raise ValueError(f"{_KINDS.get(type(record), 'a constant')}, not an object")
        except ValueError as error:
            item = Item({"id": f"{file}:{number}"}, file, number)
            self.fail(item, RecordError("bad_record", f"{error}; a line is one JSON object"))
            item.record["raw"] = line[:MAX_RAW_CHARS].decode("utf-8", "replace")
            return item
        item = Item(record, file, number, line)
        if failed(record):
            item.told = True
            self.failures += 1
            if self.strict:
                why = str(record.get("error", record["status"]))
                raise KptoolsError(f"{item.where}: {why}; stopped there, as --strict asks")
        return item

    # Failing

    def fail(self, item: Item, error: RecordError) -> Item:
        """Make the item a failure: told on stderr, counted, its record marked."""
        fail(item.record, error)
        item.raw = None
        if not item.told:
            item.told = True
            self.failures += 1
            tell(f"{item.where}: {error}")
        if self.strict:
            raise KptoolsError(f"stopped at {item.where}, as --strict asks")
        return item

    # Writing

    def write(self, item: Item) -> None:
        """Write the item's record, or its line as it came where the record is unchanged."""
        if item.raw is not None:
            self.write_line(item.raw)
            return
        try:
            line = orjson.dumps(item.record)
        except (TypeError, ValueError) as error:
            kept = str(item.record.get("id", item.where))[:MAX_RAW_CHARS]
            lost = Item({"id": kept.encode(errors="replace").decode()}, item.file, item.line)
            lost.told = item.told
            self.fail(lost, RecordError("bad_record", f"not to be written as JSON: {error}"))
            line = orjson.dumps(lost.record)
        self.write_line(line)

    def write_line(self, line: bytes) -> None:
        """Write one line, given without its line feed."""
        try:
            self._out.write(line)
            self._out.write(b"\n")
        except OSError as error:
            raise self._lost(error) from None

    def flush(self) -> None:
        """Let go of all that was written: called before any read that could wait."""
        try:
            self._out.flush()
        except OSError as error:
            raise self._lost(error) from None

    def close(self) -> int:
        """Finish: flush, give the file its name, say how many records failed; the exit status."""
        self.flush()
        if self._final is not None and not files.special(self._final):
            try:
                os.fsync(self._out.fileno())
                self._out.close()
                os.replace(files.part(self._final), self._final)
            except OSError as error:
                raise self._lost(error) from None
        if self.failures:
            tell(f"{program()}: {self.failures} of {self.count} records failed")
        return 1 if self.failures else 0

    def _open(self, resume: bool, lines_per_record: int) -> BufferedWriter | BufferedRandom:
        try:
            if self._final is None:
                return open(1, "wb", closefd=False)
            if files.special(self._final):
                if self._final.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "it is a folder")
                return open(self._final, "wb")
            part = files.part(self._final)
            if not resume:
                return open(part, "wb")
            if not part.exists() and self._final.exists():
                shutil.copyfile(self._final, part)  # a finished run: what is left to do follows
            out = open(part, "ab+")  # noqa: SIM115 (it lives as long as the stream)
            self._keep_whole_records(out, lines_per_record)
            if self.done:
                tell(f"{program()}: {self._output}: {self.done} records were there")
            return out
        except OSError as error:
            name = "stdout" if self._output == "-" else self._output
            raise KptoolsError(f"cannot write to {name}: {error.strerror}") from None

    def _keep_whole_records(self, part: BufferedRandom, lines_per_record: int) -> None:
        """Cut off a torn last line, and the lines of a record whose copies are not all there."""
        part.seek(0)
        end = whole = pending = 0
        for line in part:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            if b'"status"' in line and failed(orjson.loads(line)):
                self.failures += 1
                pending = lines_per_record
            else:
                pending += 1
            if pending == lines_per_record:
                self.done, whole, pending = self.done + 1, end, 0
        part.seek(whole)
        part.truncate()

    def _lost(self, error: OSError) -> Exception:
        if error.errno == errno.EPIPE:
            return ReaderGone()
        name = "stdout" if self._output == "-" else self._output
        return KptoolsError(f"cannot write to {name}: {error.strerror}; mend that and run again")


_KINDS: dict[type, str] = {list: "an array", str: "a string", int: "a number", float: "a number"}


_outputs: WeakSet[BufferedWriter | BufferedRandom] = WeakSet()


def let_go() -> None:
    """Let go of what the streams have written and still hold, where a job ends before its end: what
    was done is not lost. What cannot be written any more is left."""
    for out in list(_outputs):
        with suppress(OSError, ValueError):
            out.flush()


def program() -> str:
    """The name of the tool that runs, for messages."""
    return Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "kptools"


def tell(message: str) -> None:
    """One line on stderr; a stderr that is closed or full never stops the job."""
    try:
        shown = "".join(c if c.isprintable() else "?" for c in message.replace("\n", " "))
        sys.stderr.write(shown + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass


def _open_input(name: str) -> BinaryIO:
    if name == "-":
        return open(0, "rb", buffering=0, closefd=False)
    return open(name, "rb", buffering=0)


class _Lines:
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

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        while True:
            while not self._lines and not self._ended:
                self._before_wait()
                self._read()
            if not self._lines:
                return
            yield self._lines.popleft()

    def ready(self) -> bool:
        """Whether a line can be had without a wait. Where the system cannot tell: no."""
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
        head, *rest = chunk.split(b"\n")
        self._extend(head)
        for part in rest:
            self._end_line()
            self._extend(part)

    def _extend(self, part: bytes) -> None:
        if self._size <= MAX_LINE_BYTES:
            self._parts.append(part[: MAX_LINE_BYTES + 1 - self._size])
            self._size += len(self._parts[-1])

    def _end_line(self) -> None:
        self._number += 1
        if line := b"".join(self._parts).strip():
            self._lines.append((self._number, line))
        self._parts, self._size = [], 0
