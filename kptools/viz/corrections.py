"""Corrections of records by hand: what was saved is on disk at once, and in order at the end.

Each face that is saved is a line of `FILE.part`. At the end those lines, the last of each face, are
put into the order of the input, under the name FILE.
"""

import errno
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson

from kptools.errors import KptoolsError, RecordError
from kptools.records import keys
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.writer import line_of
from kptools.storage import files


class Corrections:
    """Of these faces, in `path`. With `resume` those that an earlier run saved are kept. Raises
    KptoolsError: two faces of one id, a file of another run, or what the disk says."""

    def __init__(self, items: Sequence[Item], path: Path, resume: bool) -> None:
        self.items = items
        self.saved: dict[int, Item] = {}
        self._path = files.resolve_output(path)
        self._index: dict[tuple[str, int], int] = {}
        for number, item in enumerate(items):
            if self._index.setdefault(_key(item.record), number) != number:
                raise KptoolsError(
                    f"{item.where}: a second face of the id {_key(item.record)[0]!r}; give each an "
                    "id of its own"
                )
        try:
            part = files.claim(path)
            if part is None:
                raise KptoolsError(f"{path}: -o is a file, to which one can come back")
            self._part = part
            self._read_earlier(resume)
        except OSError as error:
            raise KptoolsError(f"cannot write {path}: {error.strerror}") from None

    @property
    def path(self) -> Path:
        """Where the faces will be."""
        return self._path

    def record(self, number: int) -> Record:
        """A face as it was last saved, or as it came."""
        return self.saved.get(number, self.items[number]).record

    def save(self, number: int, values: Mapping[str, Any]) -> None:
        """Save a face with these `points`, `visible` and `box`; it is on disk when this returns.
        Where it had no points, it is no longer a face to test on, but of split `train`. Raises
        RecordError where they are none for it, and KptoolsError where the disk is full."""
        before = self.items[number]
        changed = dict(before.record)
        if changed.get("points") is None and changed.get("split") == "test":
            changed["split"] = "train"
        for key in ("status", "error", "nme"):
            changed.pop(key, None)
        count = len(changed.get("points") or changed.get("pred") or ())
        changed["points"] = values.get("points")
        if len(keys.points(changed)) != count:
            raise RecordError("bad_points", f"{count} points are needed")
        visible = values.get("visible")
        if visible is not None:
            changed["visible"] = visible
            keys.per_point(changed, "visible", count)
        if values.get("box") is not None and values["box"] != before.record.get("box"):
            changed |= {"box": values["box"], "box_source": "editor"}
            keys.box(changed)
            for key in ("mean", "box_time"):  # which are of the other box
                changed.pop(key, None)
        item = Item(changed, before.file, before.line, before.raw, changed=True)
        self._write(item)
        self.saved[number] = item

    def close(self) -> int:
        """Give the file its name; how many faces it holds. Of none there is no file."""
        if not self.saved:
            files.abandon(self._path)
            return 0
        lines = [line_of(self.saved[number], _no_failure) for number in sorted(self.saved)]
        whole = self._path.with_name(self._path.name + ".part.whole")
        try:
            with open(whole, "wb") as handle:
                handle.write(b"\n".join(lines) + b"\n")
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(whole, self._path)
        except OSError as error:
            raise KptoolsError(
                f"cannot write {self._path}: {error.strerror}; the saved faces are in "
                f"{files.part_of(self._path)}: make room, and --resume"
            ) from None
        files.abandon(self._path)
        return len(lines)

    def _write(self, item: Item) -> None:
        data = line_of(item, _no_failure) + b"\n"
        descriptor = self._part.fileno()
        end = os.fstat(descriptor).st_size
        try:
            written = os.write(descriptor, data)
            if written < len(data):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, end)
            raise KptoolsError(
                f"{files.part_of(self._path)}: {error.strerror}; make room, and save again"
            ) from None

    def _read_earlier(self, resume: bool) -> None:
        """What was saved before: FILE of a run that was ended, and then FILE.part of one that was
        not."""
        part = files.part_of(self._path)
        descriptor = self._part.fileno()
        begun = os.fstat(descriptor).st_size > 0
        if not resume:
            held = part if begun else self._path
            if begun or self._path.exists():
                raise KptoolsError(
                    f"{held} holds faces that were saved before; --resume to go on with them, or "
                    "choose another -o"
                )
            return
        if self._path.exists():
            self._take(self._path, self._path.read_bytes().splitlines())
        whole, newline, _torn = part.read_bytes().rpartition(b"\n")
        os.ftruncate(descriptor, len(whole + newline))
        self._take(part, whole.splitlines())

    def _take(self, source: Path, lines: Sequence[bytes]) -> None:
        for line in lines:
            try:
                record = orjson.loads(line)
                number = self._index[_key(record)]
            except (ValueError, TypeError, AttributeError, KeyError, RecordError):
                raise KptoolsError(
                    f"{source} has faces that are not among these records; give the same input, or "
                    "choose another -o"
                ) from None
            before = self.items[number]
            self.saved[number] = Item(record, before.file, before.line, line)


def _key(record: Record) -> tuple[str, int]:
    return keys.identity(record), keys.copy_index(record)


def _no_failure(item: Item, error: RecordError) -> Item:
    raise KptoolsError(f"{item.where}: {error}")
