"""Scoring a stream: what `kp-eval` reports."""

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np

from kptools import geometry as g
from kptools import metrics, records, schemes
from kptools.errors import GateError, RecordError, UsageError
from kptools.metrics import Tally
from kptools.records import Record
from kptools.schemes import Scheme
from kptools.stream import Item, Stream

GATED = ("mae", "rmse", "mse", "nme", "nme_median", "auc", "failure_rate", "failed", "mae_original")


class Scorer:
    """Tallies of the prediction and of the mean shape, over all and by split.

    `points` names the points that are scored, as `--points` of kp-prep does; the norm is still
    that of the whole face.
    """

    def __init__(self, norm: str | None, threshold: float, points: str | None = None) -> None:
        self.wanted = norm
        self.threshold = threshold
        self.points = points
        self._chosen: dict[str, tuple[Scheme, list[int]]] = {}  # by the scheme of the records
        self.norms: dict[str, int] = {}
        self.sources: dict[str, int] = {}
        self.schemes: dict[str, int] = {}
        self.all = Tally()
        self.mean = Tally()
        self.splits: dict[str, Tally] = {}

    def fail(self, record: Record) -> None:
        """Count a record that failed, here or before."""
        self.all.fail()
        self.mean.fail()
        self._split(record).fail()

    def add(self, record: Record) -> float:
        """Score a record; its NME. Raises RecordError."""
        truth = g.from_list(records.points(record))
        predicted = g.from_list(records.points(record, "pred"))
        if predicted.shape != truth.shape or not np.isfinite(predicted).all():
            raise RecordError(
                "bad_points",
                f"pred has {len(predicted)} points, the truth {len(truth)}; each needs its own",
            )
        name = str(record.get("scheme", ""))
        scheme = records.known_scheme(record, len(truth))
        box, size, scale = records.box(record), records.size(record), records.scale(record)
        norm = metrics.norm_for(scheme, self.wanted)
        length = metrics.norm(norm, truth, scheme, box, size)
        baseline = None
        if record.get("mean") is not None:
            baseline = g.from_list(records.points(record, "mean"))
            if baseline.shape != truth.shape:
                raise RecordError("bad_points", "`mean` has another number of points; mend it")
        if not np.isfinite(truth).any():
            raise RecordError("bad_points", "no point is annotated; there is nothing to score by")
        if self.points is not None:
            chosen, keep = self._choose(scheme)
            name, truth, predicted = chosen.name, truth[keep], predicted[keep]
            baseline = None if baseline is None else baseline[keep]
        # all is sound: count
        nme = self.all.add(predicted, truth, length, size, scale)
        self._split(record).add(predicted, truth, length, size, scale)
        if baseline is not None:
            self.mean.add(baseline, truth, length, size, scale)
        for table, key in (
            (self.norms, norm),
            (self.sources, str(record.get("box_source", "unknown"))),
            (self.schemes, name or "unknown"),
        ):
            table[key] = table.get(key, 0) + 1
        return nme

    def report(self) -> dict[str, Any]:
        """The report: keys fixed, as README.md lists them."""
        common = list(self.schemes)
        scheme: Scheme | None = None
        if len(common) == 1 and schemes.count(common[0]) is not None:
            scheme = schemes.get(common[0])
        return {
            **self.all.report(self.threshold),
            "threshold": self.threshold,
            "norm": "+".join(self.norms) or None,
            "scheme": "+".join(common) or None,
            "box_source": self.sources,
            "mean": self.mean.report(self.threshold) if self.mean.coordinates else None,
            "splits": {name: tally.report(self.threshold) for name, tally in self.splits.items()},
            "regions": self.all.by_region(scheme) if scheme else {},
            "points": self.all.by_point() if len(common) <= 1 else [],
        }

    def _choose(self, scheme: Scheme | None) -> tuple[Scheme, list[int]]:
        """The points that are scored. A face that has none of them annotated takes no part."""
        if scheme is None:
            raise RecordError("bad_scheme", "--points needs the record's scheme; name a known one")
        if scheme.name not in self._chosen:
            try:
                chosen, keep = schemes.choose(scheme, self.points or "")
            except ValueError as error:
                raise RecordError("bad_scheme", f"--points {self.points}: {error}") from None
            self._chosen[scheme.name] = chosen, list(keep)
        return self._chosen[scheme.name]

    def _split(self, record: Record) -> Tally:
        return self.splits.setdefault(str(record.get("split", "none"))[:40], Tally())


def merged(items: Iterable[Item], how: str, stream: Stream) -> Iterator[Item]:
    """Consecutive items of one id as one, its `pred` the mean or median of theirs. Copies that
    failed have no say, unless all did: then the first failure stands for the face."""
    for _, run in groupby(items, key=_face):
        copies = list(run)
        good = [item for item in copies if not item.failed]
        if not good:
            yield copies[0]
            continue
        first = good[0]
        try:
            preds = [g.from_list(records.points(item.record, "pred")) for item in good]
            if len({p.shape for p in preds}) != 1:
                raise RecordError("bad_points", "copies of one id have different counts of points")
            middle = np.mean if how == "mean" else np.median
            first.record["pred"] = g.to_list(middle(np.stack(preds), axis=0))
            first.record.pop("copy", None)
            first.raw = None
        except RecordError as error:
            stream.fail(first, error)
        yield first


def _face(item: Item) -> str:
    name = item.record.get("id")
    return name if isinstance(name, str) else item.where


def gate(expression: str, report: dict[str, Any] | None) -> None:
    """Check an expression such as `nme>0.05`; with a report, raise GateError where it holds."""
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", expression)
    try:
        name, sign, bound = match.groups() if match else ("", "", "")
        limit = float(bound)
    except ValueError:
        name, limit = "", 0.0
    if name not in GATED:
        raise UsageError(
            f"--fail-if {expression!r}: METRIC, then > or <, then a number; "
            f"metrics are {', '.join(GATED)}"
        )
    if report is None:
        return
    value = report.get(name)
    if value is None:
        raise GateError(f"--fail-if {expression}: there is no {name}, since nothing was scored")
    holds = {
        ">": value > limit,
        "<": value < limit,
        ">=": value >= limit,
        "<=": value <= limit,
    }[sign]
    if holds:
        raise GateError(f"--fail-if {expression}: {name} is {value:.6g}")
