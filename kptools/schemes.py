"""Schemes: what the K points of a record are.

A scheme has regions, a table that says which point a mirror image turns each point into, the
corners and centres of the eyes (for the norms of the NME) and the lines that a picture draws.
Left and right are the person's own: the right eye is on the left of a frontal picture.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache


@dataclass(frozen=True)
class Scheme:
    """K points under a name.

    `swap[i]` is the index of the point that point i becomes in a mirror image (None: the scheme
    has no table). `corners` are the outer corners of the right and the left eye; `pupils` the
    points whose mean is the centre of each; empty where the scheme has none.
    """

    name: str
    count: int
    regions: Mapping[str, tuple[int, ...]]
    swap: tuple[int, ...] | None
    corners: tuple[int, ...] = ()
    pupils: tuple[tuple[int, ...], ...] = ()
    nose: int | None = None
    edges: tuple[tuple[int, int], ...] = ()

    def select(self, indices: Iterable[int]) -> "Scheme":
        """The scheme of a subset of the points, in the order given."""
        keep = tuple(indices)
        where = {old: new for new, old in enumerate(keep)}
        for index in keep:
            if not 0 <= index < self.count:
                raise ValueError(
                    f"{self.name} has no point {index}; its points are 0 to {self.count - 1}"
                )
        if len(where) != len(keep):
            raise ValueError(f"a point of {self.name} is named twice")
        swap = None
        if self.swap is not None and all(self.swap[old] in where for old in keep):
            swap = tuple(where[self.swap[old]] for old in keep)
        eyes = all(i in where for i in self.corners)
        pupils = all(i in where for eye in self.pupils for i in eye)
        regions = {
            name: tuple(where[i] for i in region if i in where)
            for name, region in self.regions.items()
            if any(i in where for i in region)
        }
        base, _, tail = self.name.partition(":")
        of_base = tail.split(",") if tail else [str(i) for i in range(self.count)]
        return Scheme(
            name=f"{base}:{','.join(of_base[i] for i in keep)}",
            count=len(keep),
            regions=regions,
            swap=swap,
            corners=tuple(where[i] for i in self.corners) if eyes else (),
            pupils=tuple(tuple(where[i] for i in eye) for eye in self.pupils) if pupils else (),
            nose=where.get(self.nose) if self.nose is not None else None,
            edges=tuple((where[a], where[b]) for a, b in self.edges if a in where and b in where),
        )


def _span(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


def _swap(count: int, *pairs: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[int, ...]:
    """The table from pairs of lists that mirror each other; the other points keep their place."""
    table = list(range(count))
    for right, left in pairs:
        for a, b in zip(right, left, strict=True):
            table[a], table[b] = b, a
    return tuple(table)


def _mirror(first: int, last: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A run of points whose ends mirror each other."""
    half = (last - first + 1) // 2
    return _span(first, first + half - 1), tuple(last - i for i in range(half))


def _path(points: tuple[int, ...], closed: bool = False) -> tuple[tuple[int, int], ...]:
    ends = points[1:] + points[:1] if closed else points[1:]
    return tuple(zip(points, ends, strict=False))


_IBUG68 = Scheme(
    name="ibug68",
    count=68,
    regions={
        "jaw": _span(0, 16),
        "right_brow": _span(17, 21),
        "left_brow": _span(22, 26),
        "nose": _span(27, 35),
        "right_eye": _span(36, 41),
        "left_eye": _span(42, 47),
        "mouth": _span(48, 67),
    },
    swap=_swap(
        68,
        _mirror(0, 16),
        _mirror(17, 26),
        _mirror(31, 35),
        ((36, 37, 38, 39, 40, 41), (45, 44, 43, 42, 47, 46)),
        ((48, 49, 50, 59, 58, 60, 61, 67), (54, 53, 52, 55, 56, 64, 63, 65)),
    ),
    corners=(36, 45),
    pupils=(_span(36, 41), _span(42, 47)),
    nose=30,
    edges=(
        *_path(_span(0, 16)),
        *_path(_span(17, 21)),
        *_path(_span(22, 26)),
        *_path(_span(27, 30)),
        *_path(_span(31, 35)),
        *_path(_span(36, 41), closed=True),
        *_path(_span(42, 47), closed=True),
        *_path(_span(48, 59), closed=True),
        *_path(_span(60, 67), closed=True),
    ),
)

_IMM58 = Scheme(
    name="imm58",
    count=58,
    regions={
        "jaw": _span(0, 12),
        "left_eye": _span(13, 20),
        "right_eye": _span(21, 28),
        "left_brow": _span(29, 33),
        "right_brow": _span(34, 38),
        "mouth": _span(39, 46),
        "nose": _span(47, 57),
    },
    swap=_swap(
        58,
        _mirror(0, 12),
        (_span(21, 28), _span(13, 20)),
        (_span(34, 38), _span(29, 33)),
        _mirror(39, 43),
        _mirror(44, 46),
        _mirror(47, 57),
    ),
    corners=(21, 13),
    pupils=(_span(21, 28), _span(13, 20)),
    nose=52,
    edges=(
        *_path(_span(0, 12)),
        *_path(_span(13, 20), closed=True),
        *_path(_span(21, 28), closed=True),
        *_path(_span(29, 33)),
        *_path(_span(34, 38)),
        *_path(_span(39, 46), closed=True),
        *_path(_span(47, 57)),
    ),
)

_WFLW98 = Scheme(
    name="wflw98",
    count=98,
    regions={
        "jaw": _span(0, 32),
        "right_brow": _span(33, 41),
        "left_brow": _span(42, 50),
        "nose": _span(51, 59),
        "right_eye": (*_span(60, 67), 96),
        "left_eye": (*_span(68, 75), 97),
        "mouth": _span(76, 95),
    },
    swap=_swap(
        98,
        _mirror(0, 32),
        ((33, 34, 35, 36, 37, 38, 39, 40, 41), (46, 45, 44, 43, 42, 50, 49, 48, 47)),
        _mirror(55, 59),
        ((60, 61, 62, 63, 64, 65, 66, 67, 96), (72, 71, 70, 69, 68, 75, 74, 73, 97)),
        ((76, 77, 78, 87, 86), (82, 81, 80, 83, 84)),
        ((88, 89, 95), (92, 91, 93)),
    ),
    corners=(60, 72),
    pupils=((96,), (97,)),
    nose=54,
    edges=(
        *_path(_span(0, 32)),
        *_path(_span(33, 41), closed=True),
        *_path(_span(42, 50), closed=True),
        *_path(_span(51, 54)),
        *_path(_span(55, 59)),
        *_path(_span(60, 67), closed=True),
        *_path(_span(68, 75), closed=True),
        *_path(_span(76, 87), closed=True),
        *_path(_span(88, 95), closed=True),
    ),
)

_COFW29 = Scheme(
    name="cofw29",
    count=29,
    regions={
        "right_brow": (0, 2, 4, 5),
        "left_brow": (1, 3, 6, 7),
        "right_eye": (8, 10, 12, 13, 16),
        "left_eye": (9, 11, 14, 15, 17),
        "nose": (18, 19, 20, 21),
        "mouth": _span(22, 27),
        "chin": (28,),
    },
    swap=_swap(
        29,
        (
            (0, 2, 4, 5, 8, 10, 12, 13, 16, 18, 22),
            (1, 3, 6, 7, 9, 11, 14, 15, 17, 19, 23),
        ),
    ),
    corners=(8, 9),
    pupils=((16,), (17,)),
    nose=20,
    edges=(
        *_path((0, 4, 2, 5), closed=True),
        *_path((1, 6, 3, 7), closed=True),
        *_path((8, 12, 10, 13), closed=True),
        *_path((9, 14, 11, 15), closed=True),
        *_path((18, 21, 19)),
        *_path((22, 24, 23, 27), closed=True),
    ),
)

_KAGGLE15 = Scheme(
    name="kaggle15",
    count=15,
    regions={
        "left_eye": (0, 2, 3),
        "right_eye": (1, 4, 5),
        "left_brow": (6, 7),
        "right_brow": (8, 9),
        "nose": (10,),
        "mouth": (11, 12, 13, 14),
    },
    swap=_swap(15, ((1, 4, 5, 8, 9, 12), (0, 2, 3, 6, 7, 11))),
    corners=(5, 3),
    pupils=((1,), (0,)),
    nose=10,
    edges=((2, 3), (4, 5), (6, 7), (8, 9), (11, 13), (13, 12), (12, 14), (14, 11)),
)

_NOSE1 = Scheme(name="nose1", count=1, regions={"nose": (0,)}, swap=(0,), nose=0)

FULL: Mapping[str, Scheme] = {
    scheme.name: scheme for scheme in (_IBUG68, _IMM58, _WFLW98, _COFW29, _KAGGLE15, _NOSE1)
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


def words(wanted: str) -> list[tuple[str, str]]:
    """What `--points` names, word by word: (`nose`, ""), (`region`, NAME), or (`range`, `36-47`).
    ValueError where a word means nothing in any scheme."""
    found = []
    regions = {name for scheme in FULL.values() for name in scheme.regions}
    for word in wanted.split(","):
        kind, _, name = word.strip().partition(":")
        if kind == "region":
            if name not in regions:
                raise ValueError(f"no region {name!r}; there are {', '.join(sorted(regions))}")
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


def choose(full: Scheme, wanted: str) -> tuple[Scheme, tuple[int, ...]]:
    """The subset that `--points` names: its scheme, and its indices in `full`.

    `wanted` is a comma-separated list of `nose` (the tip), `region:NAME`, indices and ranges
    such as `36-47`. The tip alone has a scheme of its own, `nose1`, which every scheme shares.
    """
    keep: list[int] = []
    named = words(wanted)
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
        return _NOSE1, indices
    subset = full.select(indices)
    return (full if subset.count == full.count and keep == sorted(keep) else subset), indices
