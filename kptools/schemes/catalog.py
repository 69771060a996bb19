"""The schemes that are known, by name."""

from collections.abc import Mapping
from functools import lru_cache

from kptools.schemes import cofw29, ibug68, imm58, kaggle15, nose1, wflw98
from kptools.schemes.scheme import Scheme

FULL: Mapping[str, Scheme] = {
    module.SCHEME.name: module.SCHEME for module in (ibug68, imm58, wflw98, cofw29, kaggle15, nose1)
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


@lru_cache(maxsize=256)
def count(name: str) -> int | None:
    """K of the scheme, or None where the scheme is not known."""
    try:
        return get(name).count
    except ValueError:
        return None
