"""Faces divided into groups: by split, by a key of the record, by the sets of a protocol."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

import numpy as np
import orjson

from kptools.errors import KptoolsError, UsageError
from kptools.evaluation.tally import Figures, Measured, Tally
from kptools.records.keys import Record

MAX_GROUPS = 1000  # of one key: each has a tally, and a line of the table
MISSING = "none"  # the group of faces without the key

GroupsOf: TypeAlias = Callable[[Record], tuple[str, ...]]  # the groups that a record belongs to


class Groups:
    """A tally for each group. `of` says which groups a record is in."""

    def __init__(self, name: str, of: GroupsOf) -> None:
        self.name, self.of = name, of
        self.tallies: dict[str, Tally] = {}

    def fail(self, record: Record) -> tuple[str, ...]:
        """Count a record that failed; its groups."""
        own = self.of(record)
        for name in own:
            self._tally(name).fail()
        return own

    def count(self, groups: Sequence[tuple[str, ...]], found: Measured) -> None:
        """Count B faces, that are in these `groups` (B)."""
        for name in dict.fromkeys(name for own in groups for name in own):
            rows = [i for i, own in enumerate(groups) if name in own]
            self._tally(name).count(found.of_faces(np.array(rows)))

    def report(self, threshold: float) -> dict[str, Figures]:
        """The figures of each group."""
        return {name: tally.report(threshold) for name, tally in self.tallies.items()}

    def _tally(self, name: str) -> Tally:
        if name not in self.tallies:
            if len(self.tallies) == MAX_GROUPS:
                raise KptoolsError(
                    f"more than {MAX_GROUPS} values of {self.name}; group by a key of few values"
                )
            self.tallies[name] = Tally()
        return self.tallies[name]


def by_key(key: str) -> GroupsOf:
    """Groups by the value of a key, which is a text, a number, true or false; `a.b` is the key b
    of the object a, unless there is a key of that whole name. KptoolsError for another value."""

    def of(record: Record) -> tuple[str, ...]:
        value = _at(record, key)
        if value is None:
            return (MISSING,)
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list | dict):
            raise KptoolsError(
                f"--by {key}: {str(record.get('id'))[:80]} has a list or an object there; texts, "
                "numbers, true and false make groups"
            )
        return (orjson.dumps(value).decode(),)

    return of


def _at(record: Record, key: str) -> object:
    if key in record or "." not in key:
        return record.get(key)
    value: object = record
    for word in key.split("."):
        value = value.get(word) if isinstance(value, dict) else None
    return value


def split_keys(given: Iterable[str]) -> list[str]:
    """The keys of `--by pose,blur --by split`, each once, in order. Raises UsageError."""
    words = [word.strip() for text in given for word in text.split(",")]
    if not all(words):
        raise UsageError("--by: a key, or several with commas between: --by split,pose")
    return list(dict.fromkeys(words))
