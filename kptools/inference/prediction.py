"""What a record says of a prediction: from a network's points to the keys of a face."""

from collections.abc import Iterable, Iterator
from contextlib import suppress

import numpy as np

from kptools import geometry as g
from kptools.augment.transform import Transform
from kptools.datasets import box_maps
from kptools.errors import RecordError, UsageError
from kptools.records import keys
from kptools.records.face import Face
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import PREDICTION, Record
from kptools.schemes import catalog
from kptools.specs import InputSpec, ModelSpec

# what an earlier prediction left, and has no place now
_STALE = ("heatmap", "nme", "pred_visible", "adapter")


def prediction(
    face: Face,
    points: g.Points,
    scores: g.Points | None,
    transform: Transform,
    spec: InputSpec,
    mean: g.Points,
    visible: g.Points | None = None,
) -> Record:
    """The keys of a prediction, in the pixels of the face's file: `pred`, `mean` and `score`, which
    is 0 outside the image. `points` (K, 2) are in fractions of the input, of the face as
    `transform` showed it; `mean` (K, 2) in fractions of the box; `visible` (K,), the probability
    that each is seen, becomes `pred_visible`. Of several schemes the face gets its own. RecordError
    where a point is not finite."""
    seen = spec.to_file(points, face.box)
    if not np.isfinite(seen).all():
        raise RecordError("bad_points", "the network gave numbers that are not finite")
    points = transform.invert_points(seen)[face.block]
    found: Record = {"pred": points.tolist()}
    if scores is not None:
        named = transform.rename(scores.tolist())[face.block]
        found["score"] = keys.scores_inside(face.record, found["pred"], named)
    if visible is not None:
        found["pred_visible"] = list(transform.rename(visible.tolist())[face.block])
    found["mean"] = face.place(mean[face.block]).tolist()
    return found


def framed(face: Face, model: ModelSpec) -> Face:
    """The face in the part of its box that a network looks at, mapped from another detector's box
    where there is a map; its points among those of a network of several schemes. RecordError where
    its scheme is none of these."""
    union = catalog.union(model.scheme)
    seen = box_maps.reframed(face, model).focused(model.input)
    return seen if union is None else seen.among(union)


def give(item: Item, found: Record) -> None:
    """Give a record its prediction, in place of what an earlier one left."""
    item.update({}, without=_STALE)
    item.update(found, without=PREDICTION)


def give_mean(item: Item, model: ModelSpec) -> None:
    """Give a face that failed the mean shape in its box, where it has one, in place of what an
    earlier prediction left: a submission must say something of each face (`kp-eval --fill
    mean`)."""
    item.update({}, without=PREDICTION)
    with suppress(RecordError):
        roll = keys.roll(item.record)
        box = g.upright(keys.box(item.record), roll)
        face = framed(Face(item.record, "", box, [], roll=roll), model)
        item.update({"mean": face.place(np.array(model.mean)[face.block]).tolist()})


def found_by(scheme: str, find: str | None = None) -> str:
    """Whose points a network of `scheme` finds on a face that has none: those of the scheme `find`,
    or of its first one. UsageError where it does not find those."""
    union = catalog.union(scheme)
    names = [scheme] if union is None else [*(part.name for part in union.parts), scheme]
    if find is not None and find not in names:
        raise UsageError(f"--find {find}: the network finds points of {', '.join(names)}")
    return find or names[0]


def of_scheme(
    items: Iterable[Item], scheme: str, fail: Fail, find: str | None = None
) -> Iterator[Item]:
    """The items; a face without truth and scheme takes the network's scheme, of several that to
    `find`, and one of another scheme is a failure. UsageError as `found_by`."""
    union, wanted = catalog.union(scheme), found_by(scheme, find)
    for item in items:
        record = item.record
        if not item.failed and record.get("points") is None and "scheme" not in record:
            item.update({"scheme": wanted})
        theirs = keys.scheme_name(record)
        known = theirs == scheme if union is None else union.block(theirs) is not None
        if not item.failed and not known:
            problem = f"its scheme is {theirs}, the network's {scheme}"
            fail(item, RecordError("bad_scheme", problem))
        yield item
