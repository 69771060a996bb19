"""The record: one face, one JSON object.

A record is a plain dict, so that keys that nobody here knows pass through in their order. These
functions are its schema: each returns one key, checked, or raises `RecordError` with the status
that the record then bears. A tool checks the keys it uses and no others.
"""

import math
import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, TypeAlias

from kptools.errors import RecordError
from kptools.limits import MAX_COORDINATE
from kptools.schemes import catalog
from kptools.schemes.scheme import Scheme
from kptools.units import Box, Degrees, Seconds, Size

Record: TypeAlias = dict[str, Any]
Point: TypeAlias = list[float] | None
_NUMBERS = {float, int}
_NOWHERE = [0.0, 0.0]  # stands for a point that is null while its face is checked
STATUSES = (
    "bad_record",
    "missing",
    "unreadable",
    "too_large",
    "bad_box",
    "bad_points",
    "bad_scheme",
    "no_face",
    "unreachable",
    "crashed",
)
SPLITS = ("train", "val", "test")
# What a prediction consists of, and what was measured on it
PREDICTION = ("pred", "score", "pred_visible", "mean", "heatmap", "nme", "adapter")


def failed(record: Record) -> bool:
    """Whether the record is a failure: a `status` other than `ok`."""
    return record.get("status") not in (None, "ok")


def as_failure(error: RecordError) -> Record:
    """The keys by which a record says what went wrong."""
    return {"status": error.status, "error": str(error)}


def fail(record: Record, error: RecordError) -> Record:
    """Mark the record, in place, with what went wrong."""
    record |= as_failure(error)
    return record


def image(record: Record) -> str:
    """The path of the image, as the person gave it."""
    path = record.get("image")
    if not isinstance(path, str) or not path or "\0" in path:
        raise RecordError("bad_record", "no `image`; each record needs the path of its image")
    return path


def identity(record: Record) -> str:
    """The record's `id`, or its image where it has none: what its samples are keyed by."""
    name = record.get("id", record.get("image"))
    if not isinstance(name, str):
        raise RecordError("bad_record", "`id` is not a string; kp-prep gives each face its id")
    return name


def copy_index(record: Record) -> int:
    """Which copy of `kp-augment --copies` this is; 0 where it was not copied."""
    copy = record.get("copy", 0)
    if not isinstance(copy, int) or isinstance(copy, bool) or not 0 <= copy < 2**31:
        raise RecordError("bad_record", f"`copy` is {copy!r}; it counts from 0")
    return copy


def file_stem(record: Record) -> str:
    """A file name, without suffix, for what is made of this record: from its id and copy, with
    nothing in it that could leave a folder, and a hash where two records could get the same one."""
    name, copy = identity(record), copy_index(record)
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name)[-100:].lstrip(".")
    if plain and plain == name and "copy" not in record:
        return plain
    key = f"{name}\0{copy}".encode(errors="surrogatepass")
    digest = blake2b(key, digest_size=4).hexdigest()
    return f"{plain or 'face'}{f'-{copy}' if 'copy' in record else ''}.{digest}"


def split(record: Record) -> str | None:
    """`train`, `val`, `test`, or None where the record has no split."""
    name = record.get("split")
    if name is not None and name not in SPLITS:
        raise RecordError("bad_record", f"split {name!r} is none of {', '.join(SPLITS)}")
    return name


def _number(value: Any) -> bool:
    # NaN compares false, and infinity exceeds the bound
    return (
        isinstance(value, float | int)
        and not isinstance(value, bool)
        and -MAX_COORDINATE <= value <= MAX_COORDINATE
    )


def _are_numbers(values: Sequence[Any]) -> bool:
    """Whether each is a `_number`, in a few calls for them all. Where not, subclasses of numbers
    may be among them, or all may be large."""
    try:  # no number is larger than the length of them all as a vector, and NaN compares false
        return {*map(type, values)} <= _NUMBERS and math.hypot(*values) <= MAX_COORDINATE
    except OverflowError:  # of whole numbers
        return False


def _all_numbers(values: Sequence[Any]) -> bool:
    """Whether each is a `_number`."""
    return _are_numbers(values) or all(map(_number, values))


def _flat(points: list[Any]) -> tuple[float, ...] | None:
    """The x of all points, then the y of all, NaN where null, in a few calls for the whole list.
    None where one of them is no list of two numbers, or it takes a closer look to tell."""
    kinds = {*map(type, points)}
    if not kinds <= {list, type(None)}:
        return None
    known = [_NOWHERE if p is None else p for p in points] if len(kinds) > 1 else points
    try:
        xs, ys = zip(*known, strict=True)
    except (TypeError, ValueError):
        return None
    flat: tuple[float, ...] = xs + ys
    if not _are_numbers(flat):
        return None
    if known is points:
        return flat
    return tuple(math.nan if p is None else v for p, v in zip(points * 2, flat, strict=True))


def box(record: Record) -> Box:
    """The face box (x0, y0, x1, y1) in the file frame, of positive width and height."""
    value = record.get("box")
    if value is None:
        raise RecordError("bad_box", "no `box`; `kp-prep --box image` takes the whole image")
    if not isinstance(value, list) or len(value) != 4 or not _all_numbers(value):
        raise RecordError(
            "bad_box",
            f"box {_short(value)} is not four numbers [x0, y0, x1, y1] within "
            f"{MAX_COORDINATE:g}; fix it or leave the record out",
        )
    x0, y0, x1, y1 = value
    if not (x1 - x0 > 1e-3 and y1 - y0 > 1e-3):
        raise RecordError(
            "bad_box", f"box {_short(value)} has no area; x1 > x0 and y1 > y0 are needed"
        )
    return (float(x0), float(y0), float(x1), float(y1))


def roll(record: Record) -> Degrees:
    """Degrees by which the face is turned, clockwise as seen; 0 where the record does not say."""
    value = record.get("roll")
    if value is None:
        return 0.0
    if not _number(value) or not -360 <= value <= 360:
        raise RecordError(
            "bad_record", f"roll {_short(value)} is not a number of degrees, -360 to 360; fix it"
        )
    return float(value)


def time(record: Record) -> Seconds:
    """When the frame of a video is shown, where that is needed."""
    value = record.get("time")
    if not isinstance(value, float | int) or isinstance(value, bool) or not abs(value) <= 1e9:
        raise RecordError(
            "bad_record", "no `time`, or one that is no number of seconds; kp-prep video gives it"
        )
    return float(value)


def scheme(record: Record) -> Scheme:
    """The record's scheme, where one is needed."""
    name = record.get("scheme")
    if not isinstance(name, str):
        raise RecordError("bad_scheme", "no `scheme`; it says what the points are")
    try:
        return catalog.get(name)
    except ValueError as error:
        raise RecordError("bad_scheme", str(error)) from None


def points(record: Record, key: str = "points") -> list[Point]:
    """The K points under `key`, [x, y] in the file frame, None where not annotated.

    Checked against the scheme's count where the record has a scheme that is known.
    """
    value: list[Point] = record.get(key)  # type: ignore[assignment]  # `coordinates` checks it
    coordinates(record, key)
    return value


def coordinates(record: Record, key: str = "points") -> tuple[float, ...]:
    """The K points under `key` as 2 K numbers, the x of all and then the y of all, NaN where not
    annotated. Checked as `points` are."""
    value = record.get(key)
    if not isinstance(value, list) or not value:
        raise RecordError("bad_points", f"no `{key}`; a list of [x, y] or null is needed")
    flat = _flat(value)
    if flat is None:  # one by one
        for index, point in enumerate(value):
            if point is not None and not (
                isinstance(point, list) and len(point) == 2 and all(map(_number, point))
            ):
                raise RecordError(
                    "bad_points",
                    f"{key}[{index}] is {_short(point)}; [x, y] within {MAX_COORDINATE:g} "
                    "or null is needed",
                )
        known = [(math.nan, math.nan) if point is None else point for point in value]
        flat = tuple(chain.from_iterable(zip(*known, strict=True)))
    name = record.get("scheme")
    if isinstance(name, str):
        expected = catalog.count(name)
        if expected is not None and expected != len(value):
            raise RecordError(
                "bad_points", f"{len(value)} {key}, but {name} has {expected}; fix one of them"
            )
    return flat


def size(record: Record) -> Size:
    """The image's (width, height) in pixels, where one is needed."""
    value = record.get("size")
    if (
        not isinstance(value, list)
        or len(value) != 2
        or not all(isinstance(v, int) and not isinstance(v, bool) and 0 < v < 10**6 for v in value)
    ):
        raise RecordError("bad_record", "`size` is not [width, height]; kp-prep gives it")
    return (value[0], value[1])


def scale(record: Record) -> float | None:
    """File pixels x scale = pixels of the original photo; None where the file is the original."""
    value = record.get("scale")
    if value is None:
        return None
    if not _number(value) or not value > 0:
        raise RecordError("bad_record", f"scale {_short(value)} is not a positive number; fix it")
    return float(value)


def flags(record: Record) -> list[str]:
    """What was found suspicious about the face: the texts under `flags`; none where that is no
    list."""
    found = record.get("flags")
    return [flag for flag in found if isinstance(flag, str)] if isinstance(found, list) else []


def source(record: Record) -> tuple[str, list[list[float]]]:
    """Of a copy that was written as an image of its own: the image that it was made from, and the
    rows of the 2 x 3 matrix from that image's pixels to this one's, both whole at the centres."""
    value = record.get("source")
    image = value.get("image") if isinstance(value, dict) else None
    rows = value.get("matrix") if isinstance(value, dict) else None
    if (
        not isinstance(image, str)
        or not isinstance(rows, list)
        or len(rows) != 2
        or not all(isinstance(row, list) and len(row) == 3 for row in rows)
        or not all(_number(v) for row in rows for v in row)
        or abs(rows[0][0] * rows[1][1] - rows[0][1] * rows[1][0]) < 1e-9
    ):
        raise RecordError(
            "bad_record", "`source` is not {image, matrix}; kp-augment --write gives it"
        )
    return image, rows


def scheme_name(record: Record) -> str:
    """The record's scheme; points of no scheme are `pointsK`."""
    name = record.get("scheme")
    if isinstance(name, str):
        return name
    points = record.get("points")
    return f"points{len(points)}" if isinstance(points, list) else "unknown"


def known_scheme(record: Record, count: int) -> Scheme | None:
    """The record's scheme, or None where it is not known or is not of `count` points."""
    name = record.get("scheme")
    known = isinstance(name, str) and catalog.count(name) == count
    return catalog.get(str(name)) if known else None


def per_point(record: Record, key: str, count: int) -> Sequence[float] | None:
    """A list of `count` numbers under `key` (`visible`, `score`), or None where there is none."""
    value = record.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != count or not _all_numbers(value):
        raise RecordError("bad_points", f"`{key}` is not {count} numbers; one for each point")
    return value


def scores_inside(
    record: Record, points: Iterable[Iterable[float]], scores: Iterable[float]
) -> list[float]:
    """The scores (K,) of points (K, 2), pixels of the file: 0 of a point outside the image, where
    the record has its size."""
    try:
        width, height = size(record)
    except RecordError:
        return list(map(float, scores))
    return [
        float(score) if -0.5 <= x <= width - 0.5 and -0.5 <= y <= height - 0.5 else 0.0
        for (x, y), score in zip(points, scores, strict=True)
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
