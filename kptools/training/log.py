"""The log of a run: STEM.log.jsonl, an object an epoch."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from kptools.errors import KptoolsError
from kptools.storage import files
from kptools.storage.tensor_metadata import read_metadata


class TrainingLog:
    """The log that a run writes, and that no other run may write meanwhile.

    With `keep` the epochs that it has already stay, but for those that come again.
    """

    def __init__(self, path: Path, *, keep: bool) -> None:
        self.path, self.keep = path, keep
        self._epochs: int | None = None  # in the file, once the first one of this run is there
        self._new = False
        self._handle: IO[bytes] | None = None

    def __enter__(self) -> "TrainingLog":
        try:
            self._new = not self.path.exists()
            self._handle = files.open_locked(self.path, self.path)
        except OSError as error:
            raise KptoolsError(f"cannot write {self.path}: {error.strerror}") from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._handle is not None:
            empty = os.fstat(self._handle.fileno()).st_size == 0
            if self._new and empty and files.is_same_file(self._handle, self.path):
                self.path.unlink()
            self._handle.close()

    def append(self, entry: dict[str, Any]) -> int:
        """Write an epoch, on disk when this returns; how many there are now. The first one of this
        run says where it goes on from: what the log has of it and of later ones is cut off."""
        assert self._handle is not None
        try:
            if self._epochs is None:
                before, end = _epochs_before(self._handle, entry["epoch"] if self.keep else 0)
                self._handle.truncate(end)
                self._epochs = before
            self._handle.write(orjson.dumps(entry) + b"\n")
            self._handle.flush()
            os.fsync(self._handle.fileno())
        except OSError as error:
            raise KptoolsError(f"cannot write {self.path}: {error.strerror}") from None
        self._epochs += 1
        return self._epochs


@dataclass(frozen=True)
class _Line:
    """A line of a log: its number, what it holds (None: no JSON), and where it ends. The last line
    of a run that was killed may be torn: it has no line feed."""

    number: int
    value: Any
    end: int
    whole: bool


def _lines(log: IO[bytes]) -> Iterator[_Line]:
    end = 0
    for number, line in enumerate(log, start=1):
        end += len(line)
        try:
            value = orjson.loads(line)
        except ValueError:
            value = None
        yield _Line(number, value, end, line.endswith(b"\n"))


def _epochs_before(log: IO[bytes], epoch: int) -> tuple[int, int]:
    """How many epochs before this one a log begins with, and where in it they end."""
    log.seek(0)
    count = end = 0
    for line in _lines(log):
        number = line.value.get("epoch") if isinstance(line.value, dict) else None
        if not line.whole or not isinstance(number, int) or number >= epoch:
            break
        count, end = line.number, line.end
    return count, end


def read_epochs(path: str) -> list[dict[str, Any]]:
    """The epochs, in order, that a log or a checkpoint holds. Raises KptoolsError."""
    if path.endswith(".safetensors"):
        return sorted_epochs(path, read_metadata(path).get("history"))
    return read_log(path)


def read_log(path: str) -> list[dict[str, Any]]:
    """The epochs of a log, in order; a torn last line is left out. Raises KptoolsError."""
    try:
        with open(path, "rb") as handle:
            lines = list(_lines(handle))
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}") from None
    for line in lines[:-1]:
        if line.value is None:
            raise KptoolsError(
                f"{path}:{line.number} is not JSON; name a STEM.log.jsonl or a checkpoint"
            )
    return sorted_epochs(path, [line.value for line in lines])


def sorted_epochs(path: str, entries: Any) -> list[dict[str, Any]]:
    """The epochs, in order, of what a log or a checkpoint holds. Raises KptoolsError."""
    found = [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and is_number(entry.get("epoch"))
    ]
    if not found:
        raise KptoolsError(f"{path} holds no epochs; name a STEM.log.jsonl or a checkpoint")
    return sorted(found, key=lambda entry: float(entry["epoch"]))


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
