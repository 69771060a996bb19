"""What --points names: a part of a scheme."""

import re

from kptools.schemes.catalog import known
from kptools.schemes.nose1 import SCHEME
from kptools.schemes.scheme import Scheme


def parse_selection(wanted: str) -> list[tuple[str, str]]:
    """What `--points` names, word by word: (`nose`, ""), (`region`, NAME), or (`range`, `36-47`).
    ValueError where a word means nothing in any scheme."""
    found = []
    regions = {name for scheme in known() for name in scheme.regions}
    for word in wanted.split(","):
        kind, _, name = word.strip().partition(":")
        if kind == "region":
            if name not in regions:
                raise ValueError(
                    f"no region {name!r}; there are {', '.join(sorted(regions))}, and those of "
                    "your own by --scheme FILE"
                )
            found.append((kind, name))
        elif word.strip() == "nose":
            found.append(("nose", ""))
        elif re.fullmatch(r"[0-9]{1,6}(-[0-9]{1,6})?", word.strip()):
            found.append(("range", word.strip()))
        else:
            raise ValueError(
                f"{word!r} names no points; use nose, region:NAME, an index or a range 36-47"
            )
    return found


def select_points(full: Scheme, wanted: str) -> tuple[Scheme, tuple[int, ...]]:
    """The subset that `--points` names: its scheme, and its indices in `full`.

    `wanted` is a comma-separated list of `nose` (the tip), `region:NAME`, indices and ranges
    such as `36-47`. The tip alone has a scheme of its own, `nose1`, which every scheme shares.
    """
    keep: list[int] = []
    named = parse_selection(wanted)
    for kind, name in named:
        if kind == "nose":
            if full.nose is None:
                raise ValueError(f"{full.name} has no nose tip")
            keep.append(full.nose)
        elif kind == "region":
            if name not in full.regions:
                raise ValueError(
                    f"{full.name} has no region {name!r}; it has {', '.join(full.regions)}"
                )
            keep.extend(full.regions[name])
        else:
            first, _, last = name.partition("-")
            keep.extend(range(int(first), int(last or first) + 1))
    indices = tuple(dict.fromkeys(keep))
    if named == [("nose", "")]:
        return SCHEME, indices
    subset = full.select(indices)
    return (full if subset.count == full.count and keep == sorted(keep) else subset), indices
