"""The log of a run: an object an epoch."""

from pathlib import Path
from typing import Any

import orjson

from kptools.errors import KptoolsError


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def check(path: str, entries: Any) -> list[dict[str, Any]]:
    """The epochs, in order, of what a log or a checkpoint holds. Raises KptoolsError."""
    found = [
        entry
        for entry in (entries if isinstance(entries, list) else [])
        if isinstance(entry, dict) and _number(entry.get("epoch"))
    ]
    if not found:
        raise KptoolsError(f"{path} holds no epochs; name a STEM.log.jsonl or a checkpoint")
    return sorted(found, key=lambda entry: float(entry["epoch"]))


def read_log(path: str) -> list[dict[str, Any]]:
    """The epochs of a log; a torn last line is left out. Raises KptoolsError."""
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}") from None
    entries = []
    for number, line in enumerate(lines, start=1):
        try:
            entries.append(orjson.loads(line))
        except ValueError:
            if number < len(lines):
                raise KptoolsError(
                    f"{path}:{number} is not JSON; name a STEM.log.jsonl or a checkpoint"
                ) from None
    return check(path, entries)
