"""The schemes, by name. One more is a file with a `SCHEME`, and a line in `NAMES`."""

from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module

from kptools.schemes.scheme import Scheme

NAMES = (
    "ibug68",
    "imm58",
    "wflw98",
    "cofw29",
    "kaggle15",
    "aflw19",
    "lapa106",
    "nose1",
)
FULL: Mapping[str, Scheme] = {
    name: import_module(f"kptools.schemes.{name}").SCHEME for name in NAMES
}


@lru_cache(maxsize=256)
def get(name: str) -> Scheme:
    """The scheme of that name, such as `ibug68` or `imm58:3,7`. ValueError says what is valid."""
    base, _, tail = name.partition(":")
    full = FULL.get(base)
    if full is None:
        raise ValueError(f"scheme {base[:40]!r} is not known; known are {', '.join(FULL)}")
    if not tail:
        return full
    try:
        keep = [int(word) for word in tail.split(",")]
    except ValueError:
        raise ValueError(f"scheme {name[:40]!r}: a subset is written {base}:3,7") from None
    return full.select(keep)


def of_count(count: int) -> Scheme | None:
    """The one scheme of so many points; None where there is none, or more than one."""
    found = [scheme for scheme in FULL.values() if scheme.count == count]
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=256)
def count(name: str) -> int | None:
    """K of the scheme, or None where the scheme is not known."""
    try:
        return get(name).count
    except ValueError:
        return None
