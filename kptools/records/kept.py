"""Items on disk, for a tool that needs all of them twice."""

import tempfile
from collections.abc import Iterator
from types import TracebackType

import orjson

from kptools.errors import KptoolsError
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.writer import line_of


class KeptItems:
    """Items in the order in which they were added, in a file without a name in the folder for
    temporary files. Raises KptoolsError where that is full."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)

    def __enter__(self) -> "KeptItems":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def add(self, item: Item, fail: Fail) -> None:
        """One more, as it is now."""
        line = line_of(item, fail)
        try:
            self._file.write(
                f"{item.line} {int(item.reported)} {item.file}\n".encode(errors="surrogateescape")
            )
            self._file.write(line + b"\n")
        except OSError as error:
            folder = tempfile.gettempdir()
            raise KptoolsError(
                f"no room for the records in {folder}: {error.strerror}; set TMPDIR to another"
            ) from None

    def __iter__(self) -> Iterator[Item]:
        """All of them, again."""
        self._file.seek(0)
        for head in self._file:
            number, reported, name = head[:-1].decode(errors="surrogateescape").split(" ", 2)
            raw = self._file.readline()[:-1]
            yield Item(orjson.loads(raw), name, int(number), raw, reported=reported == "1")
