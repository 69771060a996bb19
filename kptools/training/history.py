"""The epochs of a run, as its checkpoint has them. Nothing here imports torch."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

Entry = TypeVar("Entry", bound=Mapping[str, Any])


def best(entries: Iterable[Entry]) -> Entry:
    """The first of those of the lowest error. ValueError where there are none."""
    return min(entries, key=_error)


def _error(entry: Mapping[str, Any]) -> float:
    """The validation NME of an epoch, else its validation loss; without validation later epochs
    have less. Of several schemes it is the geometric mean of their NMEs, which ranks the same
    whatever norm each is over."""
    several = [value for value in entry.get("val_nme_of", {}).values() if value is not None]
    together = math.prod(several) ** (1 / len(several)) if several else None
    for value in (entry.get("val_nme"), together, entry.get("val_loss")):
        if value is not None:
            return value if math.isfinite(value) else math.inf
    return -float(entry["epoch"])
