"""An adapter on a stream of records."""

from collections.abc import Iterable, Iterator

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.models.adapter import Adapter
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.points import points_array

_STALE = ("heatmap", "nme", "pred_visible", "mean")  # of the points that were there before


def predicted(record: Record) -> g.Points:
    """The points (L, 2) under `pred`, of whatever scheme. RecordError where there are none, or
    where an adapter made them."""
    if "adapter" in record:
        raise RecordError("bad_points", "its `pred` was adapted before; predict it again first")
    return points_array({"pred": record.get("pred")}, "pred")


def adapted(record: Record, adapter: Adapter) -> Record:
    """The keys of a record whose `pred` is adapted: `pred`, and the scores, where each point is
    still itself. RecordError where it has no such points."""
    points = predicted(record)
    found: Record = {
        "pred": adapter.apply(points, g.upright(keys.box(record), keys.roll(record))).tolist()
    }
    found["adapter"] = adapter.identity
    scores = keys.per_point(record, "score", len(points))
    if scores is not None and adapter.inputs == adapter.count:
        found["score"] = list(scores)
    return found


def adapt(items: Iterable[Item], adapter: Adapter, fail: Fail) -> Iterator[Item]:
    """Each item again, in order, with its `pred` adapted; `fail` marks those that cannot be. A face
    without truth takes the adapter's scheme; one whose truth is of another scheme is a failure."""
    for item in items:
        if not item.failed:
            try:
                _require_scheme(item.record, adapter)
                values = adapted(item.record, adapter)
                values |= {"scheme": adapter.scheme}
                item.update(values, without=("pred", "score", *_STALE))
            except RecordError as error:
                fail(item, error)
        yield item


def _require_scheme(record: Record, adapter: Adapter) -> None:
    theirs = keys.scheme_name(record)
    if record.get("points") is not None and theirs != adapter.scheme:
        raise RecordError("bad_scheme", f"its scheme is {theirs}, the adapter's {adapter.scheme}")
