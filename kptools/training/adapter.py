"""Training an adapter: from records with `pred` and `points` to a file. No image is opened."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from kptools import geometry as g
from kptools.errors import KptoolsError, RecordError
from kptools.inference.adapting import adapted, predicted
from kptools.models import adapter
from kptools.records import keys
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.training import provenance
from kptools.training.gather import Member, Report, gather


def train_adapter(
    items: Iterable[Item],
    failures: Failures,
    out: Path,
    *,
    val_items: Iterable[Item] | None = None,
    val_name: str = "",
    val_fraction: float | None = None,
    report: Report = lambda line: None,
) -> Iterator[Item]:
    """Fit an adapter on the records of train, write it to `out`, and give the items of val with
    `pred` adapted. The other arguments are those of `gather`. KptoolsError where there are too few
    faces, or faces with different numbers of predicted points."""
    found = gather(
        items,
        failures,
        val_items=val_items,
        val_name=val_name,
        val_fraction=val_fraction,
        report=report,
    )
    given, wanted, boxes = [], [], []
    for item, face in found.train:
        try:
            given.append(_predicted(item))
        except RecordError as error:
            failures.add(item, error)
            continue
        assert face.points is not None
        wanted.append(face.points)
        boxes.append(g.upright(keys.box(face.record), keys.roll(face.record)))
    if len({len(points) for points in given}) > 1:
        counts = sorted({len(points) for points in given})
        raise KptoolsError(
            f"faces of {counts[0]} and of {counts[1]} predicted points; give one kind"
        )
    made, figures = adapter.fit(given, wanted, boxes, found.scheme)
    options = {"val": val_items is not None, "val_fraction": val_fraction}
    made.save(out, provenance.of_adapter(found, options))
    before = f"{100 * figures['before']:.2f} % of the box before, " if "before" in figures else ""
    report(
        f"{figures['faces']} faces, penalty {figures['penalty']:g}; mean distance {before}"
        f"{100 * figures['after']:.2f} % after, on faces left out in turn"
    )
    return found.output([_adapted(member, made, failures) for member in found.val])


def _predicted(item: Item) -> g.Points:
    """The predicted points (L, 2), which are a shape. RecordError."""
    points = predicted(item.record)
    adapter.require_shape(points)
    return points


def _adapted(member: Member, made: adapter.Adapter, failures: Failures) -> Record:
    item, _ = member
    try:
        return adapted(item.record, made)
    except RecordError as error:
        failures.add(item, error)
        return {}
