"""JSON Lines in, JSON Lines out: what a tool works on.

A tool reads `Item`s from a `Stream` and writes each one back to it. The stream keeps the order,
turns a line that cannot be parsed into a failure record, reports each failure once on stderr, and
knows the exit status that they add up to. It holds the lines of one read: what was written leaves
before the next read that could wait.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from kptools.console import program, report
from kptools.errors import SOME_FAILED, GateError
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.reader import Reader
from kptools.records.shard import WHOLE, Shard
from kptools.records.writer import Writer
from kptools.schemes import catalog
from kptools.storage import scheme_files
from kptools.storage.run_file import FIRST


class Stream:
    """The records of the files `names` (`-` or none: stdin), and those that go to `output`.

    Only the records of `shard` are read and counted. With `resume` as many as the output holds are
    skipped unread. With `expect`, `close` fails where another number of records was read. The other
    arguments are those of `Writer` and `Failures`.
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
        shard: Shard = WHOLE,
    ) -> None:
        self.expect = expect
        self.count = 0  # records read
        self.failures = Failures(strict)
        self._shard = shard
        if shard != WHOLE:
            run = {**(run or {}), "shard": str(shard)}
        own = {one.name: scheme_files.digest_of(one.name) for one in catalog.own()}
        if own:
            run = {**(run or {}), "schemes": own}
        self.writer = Writer(
            output, self.failures, resume=resume, lines_per_record=lines_per_record, run=run
        )
        self.reader = Reader(
            names,
            self.failures,
            shard=shard,
            before_wait=self.flush,
            on_line=self._was_done_before,
        )
        # what a tool does with each record: bound here, since it does so a million times
        self.ready, self.fail = self.reader.ready, self.failures.add
        self.write, self.write_line = self.writer.write, self.writer.write_line
        self._reads = False  # whether records are read from files
        self.on_end: Callable[[], None] = lambda: None  # called when all is read, and on `close`

    def __iter__(self) -> Iterator[Item]:
        self._reads = True
        yield from self.reader
        self.on_end()

    def more(self, names: Iterable[str]) -> Iterator[Item]:
        """The records of further files, which count as those of the stream do."""
        for item in Reader(names, self.failures):
            self.count += 1
            yield item

    def skip_done(self, record: Record) -> bool:
        """Count a record that comes from elsewhere than files; whether it was done before."""
        return self._was_done_before(repr(record).encode(errors="surrogatepass"))

    def flush(self) -> None:
        """Flush all that was written: called before any read that could wait."""
        self.writer.flush()

    def close(self) -> int:
        """Finish: flush, give the file its name, say how many records failed; the exit status.
        Raises GateError where another number of records was expected: the file then stays a
        part."""
        self.on_end()
        self.flush()
        self.check_expected()
        self.writer.close(self.count)
        if self._reads and not self.count:
            what = "the input is empty" if self._shard == WHOLE else f"--shard {self._shard}"
            report(f"{program()}: {what}: no records came in")
        if self.failures.count:
            report(f"{program()}: {self.failures.count} of {self.count} records failed")
        return SOME_FAILED if self.failures.count else 0

    def check_expected(self) -> None:
        """Raise GateError where all is read and another number of records was expected."""
        if self.expect is not None and self.count != self.expect:
            raise GateError(f"--expect {self.expect}: {self.count} records came in")

    def _was_done_before(self, line: bytes) -> bool:
        if self.count < FIRST:
            self.writer.note(self.count, line)
        self.count += 1
        return self.count <= self.writer.done
