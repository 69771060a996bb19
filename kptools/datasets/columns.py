"""Which columns of a table hold what."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from kptools.errors import KptoolsError
from kptools.schemes.scheme import Scheme

_IMAGE = ("image", "file", "filename", "file_name", "image_path", "path", "name")
BOX = ("box_x0", "box_y0", "box_x1", "box_y1")  # as kptools writes them
_BOX = (
    BOX,
    ("x_min", "y_min", "x_max", "y_max"),
    ("left", "top", "right", "bottom"),
    ("x0", "y0", "x1", "y1"),
)
_POINTS = (("{}_x", "{}_y"), ("x{}", "y{}"), ("x_{}", "y_{}"), ("{}x", "{}y"))
_SHOWN = 12  # names of columns in a message


@dataclass(frozen=True)
class Columns:
    """Places of cells in a row of `count`: of the image, the edges of the box (or none), x and y of
    each point; names and places of the others."""

    count: int
    image: int
    box: tuple[int, ...]
    points: tuple[tuple[int, int], ...]
    others: tuple[tuple[str, int], ...]

    def names_of_points(self, names: Sequence[str]) -> list[str]:
        """The names of the points, of columns NAME_x and NAME_y in a table of these `names`."""
        return [names[x].strip().removesuffix("_x") for x, _ in self.points]

    def in_order_of(self, scheme: Scheme, names: Sequence[str], file: str) -> "Columns":
        """With those of the points, which are called as the scheme's, in its order. KptoolsError
        where another column lists values of the points in the order of the table."""
        where = {name: at for at, name in enumerate(self.names_of_points(names))}
        points = tuple(self.points[where[name]] for name in scheme.names)
        listed = [name for name, _ in self.others if name in ("visible", "score")]
        if listed and points != self.points:
            raise KptoolsError(
                f"{file}: the points have another order than those of {scheme.name}, and so may "
                f"{listed[0]}; put the columns in its order"
            )
        return replace(self, points=points)


def is_plain(key: str) -> bool:
    """Whether a column of this name, in a table that kptools writes, is that of a key: it is not
    taken for one of the image, the box, the points (`0_x`, `0_y`) or the other keys."""
    name = key.strip().lower()
    return (
        key == key.strip() != ""
        and name not in ("image", "record", *BOX)
        and (not name.endswith(("_x", "_y")))
    )


def find(
    file: str,
    names: Sequence[str],
    image: str | None,
    points: str | None,
    box: str | None,
    headerless: bool,
) -> Columns:
    """The columns of a table with these names, those given and else the usual ones.

    `points`: patterns (`x{},y{}`), a range whose columns are x and y in turn (`0..135`), or names
    in turn, with commas. `box`: the names of x0, y0, x1, y1. KptoolsError where one is not there,
    which names those that are."""
    table = _Names(file, names)
    at_image = table.place(image) if image is not None else table.usual_image(headerless)
    edges = table.usual_box() if box is None else [table.place(name) for name in box.split(",")]
    if len(edges) not in (0, 4):
        raise table.problem(f"--box-columns {box}: four columns, x0,y0,x1,y1")
    taken = {at_image, *edges}
    pairs = table.usual_points(taken, headerless) if points is None else table.pairs(points)
    if points is not None and not pairs:
        raise table.problem(f"--point-columns {points}: no column has such a name")
    taken |= {at for pair in pairs for at in pair}
    others = tuple((name, at) for at, name in enumerate(names) if at not in taken and name)
    return Columns(len(names), at_image, tuple(edges), tuple(pairs), others)


class _Names:
    """The names of a table's columns, by which their places are found."""

    def __init__(self, file: str, names: Sequence[str]) -> None:
        self.file, self.names = file, [name.strip() for name in names]
        self.places = {name: at for at, name in enumerate(self.names)}
        twice = [name for at, name in enumerate(self.names) if name and self.places[name] != at]
        if twice:
            raise self.problem(f"two columns are called {twice[0]}")
        self.lower = {name.lower(): at for name, at in self.places.items()} | self.places

    def place(self, name: str) -> int:
        if name.strip() not in self.places:
            raise self.problem(f"there is no column {name.strip()!r}")
        return self.places[name.strip()]

    def problem(self, what: str) -> KptoolsError:
        shown = [name or '""' for name in self.names[:_SHOWN]]
        more = len(self.names) - len(shown)
        tail = f" and {more} more" if more else ""
        return KptoolsError(f"{self.file}: {what}; its columns are {', '.join(shown)}{tail}")

    def usual_image(self, headerless: bool) -> int:
        found = next((self.lower[name] for name in _IMAGE if name in self.lower), None)
        if found is None and not headerless and self.names[0]:
            raise self.problem("no column is called image; name it by --image-column")
        return found or 0

    def usual_box(self) -> list[int]:
        is_points = "x2" in self.lower  # x0, x1, x2 are of points
        for names in _BOX[: 3 if is_points else 4]:
            if self.lower.keys() >= set(names):
                return [self.lower[name] for name in names]
        return []

    def usual_points(self, taken: set[int], headerless: bool) -> list[tuple[int, int]]:
        for x, y in _POINTS:
            pairs = [p for p in self.of_patterns(x, y) if not taken & set(p)]
            if pairs:
                return pairs
        if not headerless and len(taken) > 1:
            box = ",".join(self.names[at] for at in sorted(taken) if at in self.usual_box())
            raise self.problem(
                f"no columns are left for points; {box} are the box. Name the points by "
                "--point-columns, as 'x{},y{}' or FIRST..LAST"
            )
        if not headerless:
            raise self.problem(
                "no columns are called 0_x,0_y or x0,y0; name them by --point-columns, as "
                "'x{},y{}' or FIRST..LAST"
            )
        rest = [at for at in range(len(self.names)) if at not in taken]
        return self._in_turn(rest, "a table without names")

    def pairs(self, points: str) -> list[tuple[int, int]]:
        """The columns that --point-columns names."""
        words = points.split(",")
        if "{}" in points:
            if len(words) != 2 or not all(word.count("{}") == 1 for word in words):
                raise self.problem(f"--point-columns {points}: two patterns, as 'x{{}},y{{}}'")
            return self.of_patterns(words[0].strip(), words[1].strip())
        places: list[int] = []
        for word in words:
            first, dots, last = word.partition("..")
            begin = self.place(first)
            places += range(begin, self.place(last) + 1) if dots else [begin]
        return self._in_turn(places, f"--point-columns {points}")

    def _in_turn(self, places: list[int], what: str) -> list[tuple[int, int]]:
        if len(places) % 2:
            raise self.problem(f"{what}: {len(places)} columns; x and y in turn are an even number")
        return list(zip(places[::2], places[1::2], strict=True))

    def of_patterns(self, x: str, y: str) -> list[tuple[int, int]]:
        """The pairs of columns that differ as the patterns do, in the order of the first."""
        shape = re.compile(re.escape(x).replace(r"\{\}", "(.+)", 1))
        found = []
        for at, name in enumerate(self.names):
            match = shape.fullmatch(name)
            if match and (other := self.places.get(y.replace("{}", match[1]))) is not None:
                found.append((at, other))
        return found
