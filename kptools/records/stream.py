"""JSON Lines in, JSON Lines out.

A tool reads `Item`s from a `Stream` and writes each one back to it. The stream keeps the order,
turns a line that cannot be parsed into a failure record, reports each failure once on stderr, and
knows the exit status that they add up to. It holds the lines of one read: what was written leaves
before the next read that could wait.
"""

import errno
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from io import BufferedRandom, BufferedWriter
from itertools import chain, islice
from typing import Any, BinaryIO
from weakref import WeakSet

import orjson

from kptools.console import program, tell
from kptools.errors import GateError, KptoolsError, ReaderGone, RecordError, UsageError
from kptools.limits import MAX_LINE_BYTES, MAX_RAW_CHARS
from kptools.records.item import Item
from kptools.records.keys import Record, fail, failed
from kptools.records.lines import Lines
from kptools.storage import files, run_file, sniff

_DIGITS = bytes.maketrans(b"123456789", b"000000000")


_NOTED = run_file.FIRST


_LONG_INTEGER = b"0" * 19  # what 64 bits hold has at most 19 digits


class Stream:
    """The lines of the files `names` (`-` or none: stdin), and the lines that go out.

    `output` is `-` for stdout, or a path that appears whole or not at all: lines go to
    `PATH.part`, which no other process may write meanwhile and which `close` renames. With
    `resume` the records that `PATH.part` already holds are kept, and as many are skipped unread;
    `lines_per_record` is how many lines a record that did not fail makes (a failure makes one).
    `run` holds the arguments that decide what is written, and under `tool` the tool: a run is
    resumed only by one of the same `run` and the same first records (`kptools.runfile`).
    With `expect`, `close` fails where another number of records was read.
    """

    def __init__(
        self,
        names: Iterable[str] = (),
        output: str = "-",
        *,
        strict: bool = False,
        resume: bool = False,
        lines_per_record: int = 1,
        run: dict[str, Any] | None = None,
        expect: int | None = None,
    ) -> None:
        self.names = list(names) or ["-"]
        self.strict = strict
        self.expect = expect
        self.count = 0  # records read
        self.failures = 0
        self.done = 0  # records that an earlier run wrote
        self._output = output
        self._final = files.target(output) if output != "-" else None
        if resume and output == "-":
            raise UsageError("--resume goes on with a file; name it with -o FILE")
        self._lines: Lines | None = None  # of the file that is being read
        self._reads = False  # whether records are read from files
        arguments = dict(run or {})
        self._run = run_file.RunFile(str(arguments.pop("tool", program())), arguments)
        self._saved = 0  # how many hashes of records the run's file holds
        self._out = self._open(resume, lines_per_record)
        _outputs.add(self._out)

    # Reading

    def __iter__(self) -> Iterator[Item]:
        self._reads = True
        for name in self.names:
            yield from self._read(name)

    def _read(self, name: str) -> Iterator[Item]:
        shown = "stdin" if name == "-" else name
        try:
            handle = _open_input(name)
            with handle:
                self._lines = Lines(handle, self.flush)
                lines = iter(self._lines)
                first = list(islice(lines, 1))
                for _, line in first:
                    sniff.require_records(self._lines.head, line, shown)
                for number, line in chain(first, lines):
                    if self.count < _NOTED:
                        self._note(line)
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

    def skips(self, record: Record) -> bool:
        """Count a record that comes from elsewhere than files; whether it was done before."""
        if self.count < _NOTED:
            self._note(repr(record).encode(errors="surrogatepass"))
        self.count += 1
        return self.count <= self.done

    def _note(self, line: bytes) -> None:
        """Take note of one of the first records, for a run that resumes this one. The hash of the
        first is saved before anything is written, the others with the next flush."""
        if self._final is not None:
            self._run.add(self.count, line, self._output)
            if self.count == 0:
                self._save_run()

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
        """Make the item a failure: reported on stderr, counted, its record marked."""
        fail(item.record, error)
        item.changed = True
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
        if item.raw is not None and not item.changed:
            self.write_line(item.raw)
            return
        try:
            line = _dump(item)
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
        """Flush all that was written: called before any read that could wait."""
        try:
            if self._final is not None and self._saved < len(self._run.records):
                self._save_run()
            self._out.flush()
        except OSError as error:
            raise self._lost(error) from None

    def close(self) -> int:
        """Finish: flush, give the file its name, say how many records failed; the exit status.
        Raises GateError where another number of records was expected: the file then stays a
        part."""
        self.flush()
        self.check_expected()
        if self.count < self.done:
            raise KptoolsError(
                f"--resume: {self._output} holds {self.done} records, but {self.count} came in; "
                "give the same input, or choose another -o"
            )
        if self._final is not None and not files.special(self._final):
            try:
                # the run's file first: until FILE has its name, --resume goes on with FILE.part
                self._run.size = os.fstat(self._out.fileno()).st_size
                self._save_run()
                files.finish(self._final)
            except OSError as error:
                raise self._lost(error) from None
        if self._reads and not self.count:
            tell(f"{program()}: the input is empty: no records came in")
        if self.failures:
            tell(f"{program()}: {self.failures} of {self.count} records failed")
        return 1 if self.failures else 0

    def check_expected(self) -> None:
        """Raise GateError where all is read and another number of records was expected."""
        if self.expect is not None and self.count != self.expect:
            raise GateError(f"--expect {self.expect}: {self.count} records came in")

    def _open(self, resume: bool, lines_per_record: int) -> BufferedWriter | BufferedRandom:
        try:
            if self._final is None:
                return open(1, "wb", closefd=False)
            if files.special(self._final):
                if self._final.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "it is a folder")
                return open(self._final, "wb")
            out = files.claim(self._final)
            assert out is not None
            begun = os.fstat(out.fileno()).st_size > 0
            if resume and (begun or self._final.exists()):
                self._run = run_file.resumed(self._final, self._run, begun=begun)
                self._run.size = None
                if not begun:  # a finished run: what is left to do follows
                    shutil.copyfile(self._final, files.part(self._final))
                self._keep_whole_records(out, lines_per_record)
                if self.done:
                    tell(f"{program()}: {self._output}: {self.done} records were there")
            elif begun:
                out.truncate(0)
                os.fsync(out.fileno())  # before a run's file speaks of another run
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

    def _save_run(self) -> None:
        if self._final is not None and not files.special(self._final):
            self._run.save(self._final)
        self._saved = len(self._run.records)

    def _lost(self, error: OSError) -> Exception:
        if error.errno == errno.EPIPE:
            return ReaderGone()
        name = "stdout" if self._output == "-" else self._output
        return KptoolsError(f"cannot write to {name}: {error.strerror}; mend that and run again")


def _dump(item: Item) -> bytes:
    """The record as JSON. orjson reads an integer of more than 64 bits as a float: where the line
    has one, each value that is as it was read is written as it stood. ValueError, TypeError."""
    raw = item.raw
    if raw is None or _LONG_INTEGER not in raw.translate(_DIGITS):
        return orjson.dumps(item.record)
    import json

    read, exact = orjson.loads(raw), json.loads(raw)
    kept = {
        key: exact[key] if key in read and read[key] == value else value
        for key, value in item.record.items()
    }
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


_KINDS: dict[type, str] = {list: "an array", str: "a string", int: "a number", float: "a number"}


_outputs: WeakSet[BufferedWriter | BufferedRandom] = WeakSet()


def let_go() -> None:
    """Flush what the streams have written and still hold, where a job ends before its end: what
    was done is not lost. What can no longer be written is left out."""
    for out in list(_outputs):
        with suppress(OSError, ValueError):
            out.flush()


def _open_input(name: str) -> BinaryIO:
    if name == "-":
        return open(0, "rb", buffering=0, closefd=False)
    return open(name, "rb", buffering=0)
