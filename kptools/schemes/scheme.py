"""Schemes: what the K points of a record are.

A scheme has names of its points, regions, a table that says which point a mirror image turns each
point into, the corners and centres of the eyes (for the norms of the NME) and the lines that a
picture draws. Left and right are the person's own: the right eye is on the left of a frontal
picture.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Scheme:
    """K points under a name.

    `swap[i]` is the index of the point that point i becomes in a mirror image (None: the scheme
    has no table). `corners` are the outer corners of the right and the left eye; `pupils` the
    points whose mean is the centre of each; empty where the scheme has none. `names` are those of
    the points, all different: by default their region and their number in it. `layout` (K, 2) is
    where a picture of the scheme draws them, in fractions of it; empty where that is not known.
    `parts`: the schemes that it is made of, where it is several (`kptools.schemes.union`).
    """

    name: str
    count: int
    regions: Mapping[str, tuple[int, ...]]
    swap: tuple[int, ...] | None
    corners: tuple[int, ...] = ()
    pupils: tuple[tuple[int, ...], ...] = ()
    nose: int | None = None
    edges: tuple[tuple[int, int], ...] = ()
    names: tuple[str, ...] = ()
    layout: tuple[tuple[float, float], ...] = ()
    parts: tuple["Scheme", ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            object.__setattr__(self, "names", _numbered(self.count, self.regions))

    @property
    def base(self) -> str:
        """The name of the scheme that this one is a subset of; its own where it is none."""
        return self.name if self.parts else self.name.partition(":")[0]

    def block(self, name: str) -> slice | None:
        """Where the points of the scheme `name` are among these: those of one of its parts, or all.
        None where it has no such part."""
        if name == self.name:
            return slice(0, self.count)
        first = 0
        for part in self.parts:
            if part.name == name:
                return slice(first, first + part.count)
            first += part.count
        return None

    def named(self, names: Mapping[int, str]) -> "Scheme":
        """The scheme with other names for some of its points."""
        return replace(self, names=tuple(names.get(i, n) for i, n in enumerate(self.names)))

    def select(self, indices: Iterable[int]) -> "Scheme":
        """The scheme of a subset of the points, in the order given."""
        if self.parts:
            raise ValueError(f"{self.name} is several schemes; choose points of one of them")
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
            names=tuple(self.names[i] for i in keep),
            layout=tuple(self.layout[i] for i in keep) if self.layout else (),
        )


def _numbered(count: int, regions: Mapping[str, tuple[int, ...]]) -> tuple[str, ...]:
    """`right_eye_1`, `right_eye_2`; the one point of a region has the region's name."""
    names = [f"point_{index}" for index in range(count)]
    for region, points in regions.items():
        for number, index in enumerate(points, start=1):
            names[index] = region if len(points) == 1 else f"{region}_{number}"
    return tuple(names)


def span(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last + 1))


def swap_table(count: int, *pairs: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[int, ...]:
    """The table from pairs of lists that mirror each other; the other points keep their place."""
    table = list(range(count))
    for right, left in pairs:
        for a, b in zip(right, left, strict=True):
            table[a], table[b] = b, a
    return tuple(table)


def mirror(first: int, last: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """A run of points whose ends mirror each other."""
    half = (last - first + 1) // 2
    return span(first, first + half - 1), tuple(last - i for i in range(half))


def path(points: tuple[int, ...], closed: bool = False) -> tuple[tuple[int, int], ...]:
    ends = points[1:] + points[:1] if closed else points[1:]
    return tuple(zip(points, ends, strict=False))
