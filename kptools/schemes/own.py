"""A scheme of one's own, as JSON says it:

    {"name": "cat5",
     "points": ["right_eye", "left_eye", "nose", "right_ear", "left_ear"],
     "regions": {"eyes": [0, 1], "nose": ["nose"], "ears": ["right_ear", "left_ear"]},
     "pairs": [["right_eye", "left_eye"], ["right_ear", "left_ear"]],
     "edges": [["right_eye", "nose"], ["nose", "left_eye"]],
     "interocular": ["right_eye", "left_eye"],
     "interpupil": [["right_eye"], ["left_eye"]],
     "nose": "nose",
     "layout": [[0.3, 0.5], [0.7, 0.5], [0.5, 0.75], [0.2, 0.1], [0.8, 0.1]]}

`name` and `points` are needed. A point is named, or is its index from 0. `pairs` are the points
that change places in a mirror image; all others keep theirs. Without `pairs` the scheme has no
table of left and right.
"""

import json
import math
import re
from typing import Any, TypeAlias

from kptools.schemes.catalog import FULL
from kptools.schemes.scheme import Scheme

MAX_POINTS = 10_000
KEYS = (
    "name",
    "points",
    "regions",
    "pairs",
    "edges",
    "interocular",
    "interpupil",
    "nose",
    "layout",
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,39}")
_WORD = re.compile(r"[^\W\d][\w.-]{0,59}")  # of points and regions, in any language
_TAKEN = re.compile(r"none|unknown|points\d+")  # what tools call points of no scheme
Index: TypeAlias = dict[str, int]


def read(text: str) -> Scheme:
    """The scheme of a file's text. ValueError says which key is wrong, and what to do."""
    try:
        document = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: it is no JSON ({error.msg})") from None
    except RecursionError:
        raise ValueError("it is no JSON (nested too deep)") from None
    return parse(document)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{_short(key)} is there twice; keep one")
        found[key] = value
    return found


def parse(document: Any) -> Scheme:
    """The scheme that an object of JSON says. ValueError says which key is wrong, and what to
    do."""
    if not isinstance(document, dict):
        raise ValueError(f"a scheme is an object with the keys {', '.join(KEYS)}")
    for key in document:
        if key not in KEYS:
            raise ValueError(f"{_short(key)} is no key of a scheme; they are {', '.join(KEYS)}")
    name = _name(document.get("name"))
    names = _points(document.get("points"))
    index = {word: i for i, word in enumerate(names)}
    eyes = _list(document, "interpupil")
    if eyes and len(eyes) != 2:
        raise ValueError("`interpupil`: two lists of points, of the right and of the left eye")
    corners = _list(document, "interocular")
    nose = document.get("nose")
    return Scheme(
        name=name,
        count=len(names),
        regions=_regions(document.get("regions"), index),
        swap=_swap(document, index),
        corners=_pair(corners, "interocular", index) if corners else (),
        pupils=tuple(_group(eye, "interpupil", index) for eye in eyes),
        nose=None if nose is None else _index(nose, "nose", index),
        edges=tuple(_pair(edge, "edges", index) for edge in _list(document, "edges")),
        names=names,
        layout=_layout(document, len(names)),
    )


def describe(scheme: Scheme) -> dict[str, Any]:
    """The object of JSON that `parse` reads as this scheme."""
    found: dict[str, Any] = {"name": scheme.name, "points": list(scheme.names)}
    found["regions"] = {name: list(points) for name, points in scheme.regions.items()}
    if scheme.swap is not None:
        found["pairs"] = [[i, other] for i, other in enumerate(scheme.swap) if i < other]
    found["edges"] = [list(edge) for edge in scheme.edges]
    found["interocular"] = list(scheme.corners)
    found["interpupil"] = [list(eye) for eye in scheme.pupils]
    found["nose"] = scheme.nose
    found["layout"] = [list(place) for place in scheme.layout]
    return {key: v for key, v in found.items() if v not in (None, {}, []) or key == "pairs"}


def _name(name: Any) -> str:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"`name` is {_short(name)}; up to 40 letters, digits, _ and -, a letter first"
        )
    if name in FULL:
        raise ValueError(f"`name`: {name} is a built-in scheme; give yours another name")
    if _TAKEN.fullmatch(name):
        raise ValueError(f"`name`: {name} means points of no scheme; give it another name")
    return name


def _points(points: Any) -> tuple[str, ...]:
    if not isinstance(points, list) or not 1 <= len(points) <= MAX_POINTS:
        raise ValueError(f"`points` is no list of names, 1 to {MAX_POINTS} of them, in order")
    for index, word in enumerate(points):
        if not isinstance(word, str) or not _WORD.fullmatch(word):
            raise ValueError(
                f"`points`: {_short(word)} is no name of a point; letters, digits, _ . and -, a "
                "letter first"
            )
        if word in points[:index]:
            raise ValueError(f"`points`: two are called {word}; give each a name of its own")
    return tuple(points)


def _regions(regions: Any, index: Index) -> dict[str, tuple[int, ...]]:
    if regions is None:
        return {}
    if not isinstance(regions, dict):
        raise ValueError("`regions` is no object of names and lists of points")
    for name in regions:
        if not _WORD.fullmatch(name):
            raise ValueError(
                f"`regions`: {_short(name)} is no name; letters, digits, _ . and -, a letter first"
            )
    return {name: _group(points, f"regions.{name}", index) for name, points in regions.items()}


def _swap(document: dict[str, Any], index: Index) -> tuple[int, ...] | None:
    if document.get("pairs") is None:
        return None
    table = list(range(len(index)))
    for pair in _list(document, "pairs"):
        right, left = _pair(pair, "pairs", index)
        for point in (right, left):
            if table[point] != point:
                raise ValueError(f"`pairs`: {list(index)[point]} is in two pairs; keep one")
        table[right], table[left] = left, right
    return tuple(table)


def _layout(document: dict[str, Any], count: int) -> tuple[tuple[float, float], ...]:
    places = _list(document, "layout")
    if places and len(places) != count:
        raise ValueError(f"`layout` has {len(places)} places, and there are {count} points")
    for index, place in enumerate(places):
        is_pair = isinstance(place, list) and len(place) == 2
        if not is_pair or not all(_is_fraction(value) for value in place):
            raise ValueError(f"`layout`: place {index} is {_short(place)}; [x, y], each 0 to 1")
    return tuple((float(x), float(y)) for x, y in places)


def _is_fraction(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and 0 <= value <= 1


def _list(document: dict[str, Any], key: str) -> list[Any]:
    value = document.get(key)
    if value is not None and not isinstance(value, list):
        raise ValueError(f"`{key}` is {_short(value)}; a list is needed")
    return value or []


def _pair(points: Any, key: str, index: Index) -> tuple[int, int]:
    if not isinstance(points, list) or len(points) != 2:
        raise ValueError(f"`{key}`: {_short(points)} is not two points")
    first, second = (_index(point, key, index) for point in points)
    if first == second:
        raise ValueError(f"`{key}`: {_short(points)} is one point twice; name two")
    return first, second


def _group(points: Any, key: str, index: Index) -> tuple[int, ...]:
    if not isinstance(points, list) or not points:
        raise ValueError(f"`{key}`: {_short(points)} is no list of points")
    found = tuple(_index(point, key, index) for point in points)
    if len(set(found)) < len(found):
        raise ValueError(f"`{key}`: a point is there twice; keep one")
    return found


def _index(point: Any, key: str, index: Index) -> int:
    """The index of a point that is named, or is an index."""
    if isinstance(point, str) and point in index:
        return index[point]
    if isinstance(point, int) and not isinstance(point, bool) and 0 <= point < len(index):
        return point
    raise ValueError(
        f"`{key}`: {_short(point)} is no point; name one of `points`, or its index, 0 to "
        f"{len(index) - 1}"
    )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
