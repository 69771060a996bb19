"""Several schemes as one, for a network of them all: `ibug68+wflw98`."""

from collections.abc import Sequence

from kptools.schemes.scheme import Scheme

JOIN = "+"


def unite(parts: Sequence[Scheme]) -> Scheme:
    """The points of each scheme, one scheme after the other. It has a table of left and right where
    all of them have one, and no norm of the eyes: whose eyes would these be? ValueError where one
    comes twice."""
    names = [part.name for part in parts]
    if len(set(names)) < len(names):
        raise ValueError(f"scheme {JOIN.join(names)[:80]!r} has a scheme twice")
    swap: tuple[int, ...] = ()
    regions, edges, points = {}, [], []
    first = 0
    for part in parts:
        if part.swap is not None:
            swap += tuple(first + i for i in part.swap)
        for region, indices in part.regions.items():
            regions[f"{part.name}.{region}"] = tuple(first + i for i in indices)
        edges += [(first + a, first + b) for a, b in part.edges]
        points += [f"{part.name}.{point}" for point in part.names]
        first += part.count
    return Scheme(
        name=JOIN.join(names),
        count=first,
        regions=regions,
        swap=swap if len(swap) == first else None,
        edges=tuple(edges),
        names=tuple(points),
        parts=tuple(parts),
    )
