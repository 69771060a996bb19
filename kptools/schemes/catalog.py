"""The schemes, by name. One more is a file with a `SCHEME`, and a line in `NAMES`.

A scheme of one's own (`own`) is registered while a process runs.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib import import_module

from kptools.schemes.scheme import Scheme
from kptools.schemes.union import JOIN, unite

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
VARIABLE = "KPTOOLS_SCHEME"  # of the environment: the files of one's own schemes
_own: dict[str, tuple[Scheme, str]] = {}  # and where each was read


def register(scheme: Scheme, source: str) -> Scheme:
    """Make a scheme of one's own known in this process; the one that is known from here on.
    ValueError where another scheme has its name, which says in what they differ."""
    if scheme.name in FULL:
        raise ValueError(f"the name {scheme.name} is that of a built-in scheme; give it another")
    known, where = _own.get(scheme.name, (scheme, source))
    differ = [key for part, key in _PARTS.items() if getattr(known, part) != getattr(scheme, part)]
    if differ:
        raise ValueError(
            f"its scheme {scheme.name} is not that of {where}: they differ in {', '.join(differ)}; "
            "give one of them another name, or use the same file"
        )
    _own[scheme.name] = known, where
    get.cache_clear()
    count.cache_clear()
    return known


# What two definitions of a scheme have to agree in, and what a file calls it; a layout is of
# pictures, and no number depends on it
_PARTS = {
    "names": "`points`",
    "regions": "`regions`",
    "swap": "`pairs`",
    "corners": "`interocular`",
    "pupils": "`interpupil`",
    "nose": "`nose`",
    "edges": "`edges`",
}


def own() -> tuple[Scheme, ...]:
    """The schemes that were registered."""
    return tuple(scheme for scheme, _ in _own.values())


def own_of(name: str) -> Scheme | None:
    """The scheme of one's own that `name` is, or is a subset of."""
    found = _own.get(name.partition(":")[0])
    return found[0] if found else None


def own_parts(name: str) -> tuple[Scheme, ...]:
    """The schemes of one's own that `name`, of one scheme or of several, is made of."""
    found = map(own_of, name.split(JOIN))
    return tuple({scheme.name: scheme for scheme in found if scheme}.values())


def union(name: str) -> Scheme | None:
    """The scheme of that name if it is several, as `ibug68+wflw98`; None where it is one, or one
    of them is not known."""
    return get(name) if JOIN in name and count(name) is not None else None


def blocks(name: str) -> tuple[int, ...]:
    """How many points each scheme of several has; nothing where `name` is one scheme."""
    several = union(name)
    return tuple(part.count for part in several.parts) if several else ()


def known() -> tuple[Scheme, ...]:
    """All schemes that are known, without their subsets."""
    return (*FULL.values(), *own())


@lru_cache(maxsize=256)
def get(name: str) -> Scheme:
    """The scheme of that name, such as `ibug68` or `imm58:3,7`; of `ibug68+wflw98` several as one.
    ValueError says what is valid."""
    if JOIN in name:
        return unite([get(part) for part in name.split(JOIN)])
    base, _, tail = name.partition(":")
    full = FULL.get(base) or own_of(base)
    if full is None:
        names = ", ".join(scheme.name for scheme in known())
        raise ValueError(
            f"scheme {base[:40]!r} is not known; known are {names}; give the file of your own by "
            f"--scheme FILE or ${VARIABLE}"
        )
    if not tail:
        return full
    try:
        keep = [int(word) for word in tail.split(",")]
    except ValueError:
        raise ValueError(f"scheme {name[:40]!r}: a subset is written {base}:3,7") from None
    return full.select(keep)


def of_count(count: int) -> Scheme | None:
    """The one scheme of so many points; None where there is none, or more than one."""
    found = [scheme for scheme in known() if scheme.count == count]
    return found[0] if len(found) == 1 else None


def of_names(names: Iterable[str]) -> Scheme | None:
    """The one scheme whose points have these names, in any order; None where there is none."""
    wanted = sorted(names)
    found = [scheme for scheme in known() if sorted(scheme.names) == wanted]
    return found[0] if len(found) == 1 else None


@lru_cache(maxsize=256)
def count(name: str) -> int | None:
    """K of the scheme, or None where the scheme is not known."""
    try:
        return get(name).count
    except ValueError:
        return None
