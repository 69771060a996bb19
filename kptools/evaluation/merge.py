"""Copies of one face, merged into one."""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.geometry import Matrix, Points
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.ids import SeenIds
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.points import points_array

SAME_POINT = 0.01  # pixels: truths of two copies that lie nearer are the same point

MIDDLES = {"mean": np.mean, "median": np.median}


@dataclass(frozen=True)
class _Copy:
    """A copy of a face. `to_source` (continuous) maps it to the `image` that it was made from,
    None where it is of that image itself; `swap` is there where it is a mirror image."""

    record: Record
    image: str
    to_source: Matrix | None
    swap: list[int] | None

    def points(self, key: str) -> Points | None:
        """The points (K, 2) under a key, in pixels of `image`; None where there are none."""
        if self.record.get(key) is None:
            return None
        points = self.named(points_array(self.record, key))
        return points if self.to_source is None else g.transform(self.to_source, points)

    def numbers(self, key: str) -> NDArray[np.float64] | None:
        """A number a point (K,), by the names that the points have in `image`."""
        pred = self.record.get("pred")
        values = keys.per_point(self.record, key, len(pred) if isinstance(pred, list) else 0)
        return None if values is None else self.named(np.array(values, dtype=np.float64))

    def named(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Values (K, ...) in the order of the names that the points have in `image`."""
        if self.swap is None:
            return values
        if len(self.swap) != len(values):
            raise RecordError("bad_points", f"{len(values)} points, but the scheme has others")
        return values[self.swap]


def merge_copies(
    items: Iterable[Item], how: str, fail: Fail, *, spread: bool = False
) -> Iterator[Item]:
    """Consecutive items of one id as one: `pred`, `mean`, `score` and `pred_visible` are the mean
    or the median of theirs. Copies that `kp-augment --write` made are mapped back by their `source`
    first, so that the merged record is one of the picture that they were made from. Copies that
    failed have no say, unless all did: then the first failure stands for the face. With `spread`
    the record has that as well: of each point the root of the mean squared distance of the copies
    from their mean, pixels."""
    middle = MIDDLES[how]
    seen = SeenIds()
    for name, run in groupby(items, key=_face):
        copies = list(run)
        good = [item for item in copies if not item.failed]
        if not good:
            yield copies[0]
            continue
        first = good[0]
        try:
            if seen.was_seen(name):
                raise RecordError(
                    "bad_record",
                    f"id {name[:80]!r} was there before, but not next to this line; --merge takes "
                    "the copies of a face from consecutive lines",
                )
            copies_of_face = [_copy(item.record) for item in good]
            yield first.derive(_merge(first.record, copies_of_face, middle, spread))
        except RecordError as error:
            yield fail(first, error)


def _merge(record: Record, copies: Sequence[_Copy], middle: Any, spread: bool) -> Record:
    """The record of all copies, made of the first one's. RecordError where they are not of one
    face."""
    record = dict(record)
    images = list(dict.fromkeys(copy.image for copy in copies))
    if len(images) > 1:
        raise RecordError(
            "bad_record",
            f"copies of one id are of different images, {images[0]} and {images[1]}, and nothing "
            "says how these belong together; kp-augment --write notes it (`source`)",
        )
    truths = [truth for copy in copies if (truth := copy.points("points")) is not None]
    if not truths or "id" not in record:  # then the boxes are all that can tell faces apart
        boxes = [copy.record.get("box") for copy in copies]
        if any(box != boxes[0] for box in boxes):
            raise RecordError(
                "bad_record",
                f"copies of one id, or of {images[0]} without an id, have different boxes; "
                "give each face an id of its own",
            )
    for truth in truths[1:]:
        if not _same(truth, truths[0]):
            raise RecordError(
                "bad_points",
                "copies of one id have different points; they are not of one face, or their "
                "`source` is wrong",
            )
    preds = [pred for copy in copies if (pred := copy.points("pred")) is not None]
    if len(preds) < len(copies) or len({pred.shape for pred in preds}) != 1:
        missing = "no `pred`" if len(preds) < len(copies) else "copies have other counts of `pred`"
        raise RecordError("bad_points", f"{missing}; kp-predict gives it")
    record["pred"] = g.to_list(middle(np.stack(preds), axis=0))
    if spread:
        variance = np.stack(preds).var(axis=0).sum(axis=1)
        record["spread"] = np.sqrt(variance).tolist()
    means = [mean for copy in copies if (mean := copy.points("mean")) is not None]
    record.pop("mean", None)
    if len(means) == len(copies) and all(mean.shape == preds[0].shape for mean in means):
        record["mean"] = g.to_list(middle(np.stack(means), axis=0))
    for key in ("score", "pred_visible"):
        values = [some for copy in copies if (some := copy.numbers(key)) is not None]
        record.pop(key, None)
        if len(values) == len(copies):
            record[key] = middle(np.stack(values), axis=0).tolist()
    if truths and (copies[0].to_source is not None or record.get("points") is None):
        record["points"] = g.to_list(truths[0])
    if copies[0].to_source is not None:
        record["image"] = keys.source(record)[0]
        scale = keys.scale(record)
        if scale is not None:
            record["scale"] = scale / g.zoom(copies[0].to_source)
        visible = keys.per_point(record, "visible", len(preds[0]))
        if visible is not None:
            record["visible"] = copies[0].named(np.array(visible)).tolist()
    for key in ("copy", "source", "heatmap", "nme"):
        record.pop(key, None)
    return record


def _copy(record: Record) -> _Copy:
    if not isinstance(record.get("source"), dict):
        return _Copy(record, os.path.normpath(str(record.get("image", ""))), None, None)
    image, rows = keys.source(record)
    matrix = g.uncentred(np.array(rows))
    mirrored = float(np.linalg.det(matrix[:, :2])) < 0
    swap = None
    if mirrored:
        scheme = keys.scheme(record)
        if scheme.swap is None:
            raise RecordError("bad_scheme", f"{scheme.name} has no table of left and right")
        swap = list(scheme.swap)
    return _Copy(record, os.path.normpath(image), g.invert(matrix), swap)


def _same(a: Points, b: Points) -> bool:
    """Whether two truths are of one face: the same points are annotated, in the same places."""
    if a.shape != b.shape or not np.array_equal(np.isnan(a), np.isnan(b)):
        return False
    apart = np.abs(a - b)
    return not bool((apart > SAME_POINT).any())  # NaN compares false


def _face(item: Item) -> str:
    """What the copies of a face share: the id, or the image that copies without an id are of."""
    record = item.record
    name = record.get("id")
    if isinstance(name, str):
        return name
    source = record.get("source")
    image = (source if isinstance(source, dict) else record).get("image")
    return f"image {image}" if name is None and isinstance(image, str) else item.where
