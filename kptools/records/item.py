"""A record, and where it came from."""

from dataclasses import dataclass, field

from kptools.records.keys import Record, failed


@dataclass(slots=True)
class Item:
    """A record and where it came from. `raw` is its line as it was read; it is no longer what is
    written once `changed` is set."""

    record: Record
    file: str
    line: int
    raw: bytes | None = None
    told: bool = field(default=False)
    changed: bool = field(default=False)

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"

    @property
    def failed(self) -> bool:
        return failed(self.record)
