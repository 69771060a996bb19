"""A record, and where it came from."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from kptools.records.keys import Record, failed


@dataclass(slots=True)
class Item:
    """A record, and the file and line that it came from.

    `raw` is its line as it was read, which is what is written as long as nothing has changed: who
    changes a record does so by `update`. `reported`: it is a failure, and was reported as one.
    """

    record: Record
    file: str
    line: int
    raw: bytes | None = None
    reported: bool = False
    changed: bool = False

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def failed(self) -> bool:
        return failed(self.record)

    def update(self, values: Mapping[str, Any], without: Iterable[str] = ()) -> None:
        """Give the record these keys, and remove those of `without` that are not among them."""
        gone = [key for key in without if key in self.record and key not in values]
        for key in gone:
            del self.record[key]
        self.record.update(values)
        self.changed = self.changed or bool(gone or values)

    def derive(self, record: Record) -> "Item":
        """An item of the same line with another record, made of this one."""
        return Item(record, self.file, self.line, self.raw, self.reported, changed=True)
