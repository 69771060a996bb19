"""JSON Lines out: to stdout, or to a file that appears whole and that a run can go on with."""

import errno
import os
import shutil
from contextlib import suppress
from io import BufferedRandom, BufferedWriter
from pathlib import Path
from typing import IO, Any, TypeAlias
from weakref import WeakSet

import orjson

from kptools.console import program, report
from kptools.errors import KptoolsError, ReaderGone, RecordError, UsageError
from kptools.limits import MAX_RAW_CHARS
from kptools.records.failures import Fail, Failures
from kptools.records.item import Item
from kptools.records.keys import failed
from kptools.storage import compressed, files, run_file

_DIGITS = bytes.maketrans(b"123456789", b"000000000")
_LONG_INTEGER = b"0" * 19  # what 64 bits hold has at most 19 digits

_Out: TypeAlias = BufferedWriter | BufferedRandom | compressed.Output
_outputs: WeakSet[_Out] = WeakSet()


class Writer:
    """The lines that go to `output`: `-` for stdout, or a path that appears whole or not at all:
    lines go to `PATH.part`, which no other process may write meanwhile and which `close` renames.
    They are compressed where the path ends in `.gz` or `.zst`.

    With `resume` the records that `PATH.part` already holds are kept (`done`);
    `lines_per_record` is how many lines a record that did not fail makes (a failure makes one).
    `run` holds the arguments that decide what is written, and under `tool` the tool: a run is
    resumed only by one of the same `run` and the same first records (`storage.run_file`).
    """

    def __init__(
        self,
        output: str,
        failures: Failures,
        *,
        resume: bool = False,
        lines_per_record: int = 1,
        run: dict[str, Any] | None = None,
    ) -> None:
        if resume and output == "-":
            raise UsageError("--resume goes on with a file; name it with -o FILE")
        self.output = output
        self.done = 0  # records that an earlier run wrote
        self._failures = failures
        self._final = files.resolve_output(output) if output != "-" else None
        self._form = compressed.format_of(output)
        arguments = dict(run or {})
        self._run = run_file.RunFile(str(arguments.pop("tool", program())), arguments)
        self._saved = 0  # how many hashes of records the run's file holds
        self._out = self._open(resume, lines_per_record)
        _outputs.add(self._out)

    def note(self, index: int, line: bytes) -> None:
        """Take note of record `index`, one of the first, for a run that resumes this one. The hash
        of the first is saved before anything is written, the others with the next flush."""
        if self._final is not None:
            self._run.add(index, line, self.output)
            if index == 0:
                self._save_run()

    def write(self, item: Item) -> None:
        """Write the item's record, or its line as it came where the record is unchanged."""
        self.write_line(line_of(item, self._failures.add))

    def write_line(self, line: bytes) -> None:
        """Write one line, given without its line feed."""
        try:
            self._out.write(line + b"\n")
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

    def close(self, count: int) -> None:
        """Give the file its name, now that all of the `count` records have been read."""
        if count < self.done:
            raise KptoolsError(
                f"--resume: {self.output} holds {self.done} records, but {count} came in; "
                "give the same input, or choose another -o"
            )
        if self._final is None:
            return
        try:
            if isinstance(self._out, compressed.Output):
                self._out.finish()
            if files.is_special(self._final):
                return
            # the run's file first: until FILE has its name, --resume goes on with FILE.part
            self._run.size = os.fstat(self._out.fileno()).st_size
            self._save_run()
            files.finish(self._final)
        except OSError as error:
            raise self._lost(error) from None

    def _open(self, resume: bool, lines_per_record: int) -> _Out:
        try:
            if self._final is None:
                return open(1, "wb", closefd=False)
            if files.is_special(self._final):
                if self._final.is_dir():
                    raise IsADirectoryError(errno.EISDIR, "it is a folder")
                special = open(self._final, "wb")  # noqa: SIM115 (it lives as long as the job)
                return compressed.Output(special, self._form) if self._form else special
            part = files.claim(self._final)
            assert part is not None
            out = compressed.Output(part, self._form) if self._form else part
            kept = _kept(part)
            begun = os.fstat(part.fileno()).st_size > 0 or kept.exists()
            if resume and (begun or self._final.exists()):
                self._run = run_file.resumed(self._final, self._run, begun=begun)
                self._run.size = None
                if not begun:  # a finished run: what is left to do follows
                    shutil.copyfile(self._final, files.part_of(self._final))
                if isinstance(out, compressed.Output):
                    self._compress_again(part, out, lines_per_record)
                else:
                    self._keep_whole_records(part, lines_per_record)
                if self.done:
                    report(f"{program()}: {self.output}: {self.done} records were there")
            elif begun:
                kept.unlink(missing_ok=True)
                part.truncate(0)
                os.fsync(part.fileno())  # before a run's file speaks of another run
            return out
        except OSError as error:
            name = "stdout" if self.output == "-" else self.output
            raise KptoolsError(f"cannot write to {name}: {error.strerror}") from None

    def _compress_again(
        self, part: BufferedRandom, out: compressed.Output, lines_per_record: int
    ) -> None:
        """Keep the whole records of a compressed part. What was compressed cannot be gone on with,
        and a second member would hide from a reader that the first was cut off."""
        assert self._form is not None
        kept = _kept(part)
        if not kept.exists():
            with files.writing(kept) as plain:
                part.seek(0)
                for data in compressed.salvage(part, self._form):
                    plain.write(data)
        with open(kept, "r+b") as plain:
            self._keep_whole_records(plain, lines_per_record)
            plain.seek(0)
            part.truncate(0)
            while data := plain.read(1 << 20):
                out.write(data)
            out.flush()
        os.fsync(part.fileno())
        kept.unlink()

    def _keep_whole_records(self, part: IO[bytes], lines_per_record: int) -> None:
        """Cut off a torn last line, and the lines of a record whose copies are not all there."""
        part.seek(0)
        end = whole = pending = 0
        for line in part:
            if not line.endswith(b"\n"):
                break
            end += len(line)
            if b'"status"' in line and failed(orjson.loads(line)):
                self._failures.count += 1
                pending = lines_per_record
            else:
                pending += 1
            if pending == lines_per_record:
                self.done, whole, pending = self.done + 1, end, 0
        part.seek(whole)
        part.truncate()

    def _save_run(self) -> None:
        if self._final is not None and not files.is_special(self._final):
            self._run.save(self._final)
        self._saved = len(self._run.records)

    def _lost(self, error: OSError) -> Exception:
        if error.errno == errno.EPIPE:
            return ReaderGone()
        name = "stdout" if self.output == "-" else self.output
        return KptoolsError(f"cannot write to {name}: {error.strerror}; make room and run again")


def _kept(part: BufferedRandom) -> Path:
    """The file of the plain records of a compressed part, while they are compressed again."""
    return Path(f"{part.name}.kept")


def line_of(item: Item, fail: Fail) -> bytes:
    """The item's line, without line feed: as it came where the record is unchanged. A record that
    cannot be written as JSON becomes a failure with its id."""
    if item.raw is not None and not item.changed:
        return item.raw
    try:
        return _dump(item)
    except (TypeError, ValueError) as error:
        kept = str(item.record.get("id", item.where))[:MAX_RAW_CHARS]
        lost = Item({"id": kept.encode(errors="replace").decode()}, item.file, item.line)
        lost.reported = item.reported
        problem = RecordError("bad_record", f"not to be written as JSON: {error}")
        return orjson.dumps(fail(lost, problem).record)


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


def flush_outputs() -> None:
    """Flush what was written and is still held, where a job ends before its end: what was done is
    not lost. What can no longer be written is left out."""
    for out in list(_outputs):
        with suppress(OSError, ValueError):
            out.flush()
