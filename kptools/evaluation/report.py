"""The figures of many faces: what kp-eval reports, and what kp-viz shows of it."""

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.errors import RecordError, UsageError
from kptools.evaluation.metrics import OVER_NORM
from kptools.evaluation.norms import check_norm, norm_for
from kptools.evaluation.risk import RiskTally
from kptools.evaluation.score import OneNorm, Score, compare, truth_of
from kptools.evaluation.tally import Tally, measure
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.schemes import catalog, selection
from kptools.schemes.scheme import Scheme


class Scorer:
    """Tallies of the prediction and of the mean shape, over all, by split and by norm.

    `points` names the points that are scored, as `--points` of kp-prep does; the norm is still
    that of the whole face. With `min_score` a point of a lower `score` is left out, and counted.
    With `one_norm` all faces have to share that norm.
    """

    def __init__(
        self,
        norm: str | None = None,
        points: str | None = None,
        one_norm: OneNorm | None = None,
        min_score: float | None = None,
    ) -> None:
        check_norm(norm)
        self.wanted = norm
        self.points = points
        self.one_norm = one_norm
        self.min_score = min_score
        self.risks: dict[str, RiskTally] = {}  # by norm: of the points that have a score
        self.known = self.kept = 0  # points
        self.sources: dict[str, int] = {}
        self.schemes: dict[str, int] = {}
        self.all = Tally()
        self.mean = Tally()
        self.splits: dict[str, Tally] = defaultdict(Tally)
        self.norms: dict[str, Tally] = defaultdict(Tally)
        self._chosen: dict[str, tuple[Scheme, list[int]]] = {}  # by the scheme of the records

    def fail(self, record: Record) -> None:
        """Count a record that failed, here or before."""
        self.all.fail()
        self.mean.fail()
        self._split(record).fail()
        self._norm(self._norm_of(record)).fail()

    def add(self, record: Record) -> Score:
        """Score a record. Raises RecordError, and MixedNorms where it has another norm than
        `one_norm`."""
        truth = truth_of(record)
        predicted = g.from_list(keys.points(record, "pred"))
        name = str(record.get("scheme", ""))
        scheme = keys.known_scheme(record, len(truth))
        box, size, scale = keys.box(record), keys.size(record), keys.scale(record)

        def against(points: g.Points) -> Score:
            return compare(
                points, truth, scheme=scheme, box=box, size=size, scale=scale, norm=self.wanted
            )

        found, baseline = against(predicted), None
        if record.get("mean") is not None:
            baseline = against(g.from_list(keys.points(record, "mean")))
        if self.points is not None:
            chosen, keep = self._choose(scheme)
            name = chosen.name
            found = replace(found, offsets=found.offsets[keep])
            baseline = baseline and replace(baseline, offsets=baseline.offsets[keep])
        scores = self._scores(record, len(truth))
        if self.points is not None and scores is not None:
            scores = scores[keep]
        whole = found
        if self.min_score is not None:
            low = np.asarray(scores) < self.min_score
            found = replace(found, offsets=np.where(low[:, None], np.nan, found.offsets))
            baseline = baseline and replace(
                baseline, offsets=np.where(low[:, None], np.nan, baseline.offsets)
            )
        if self.one_norm is not None:
            self.one_norm.require(found.norm_name, name)
        # all is sound: count
        self.known += int(whole.known.sum())
        self.kept += int(found.known.sum())
        if scores is not None and whole.norm > 0:
            risk = self.risks.setdefault(whole.norm_name, RiskTally())
            risk.add(scores, whole.distances / whole.norm)
        face = measure(found)
        self.all.count(face)
        self._split(record).count(face)
        self._norm(found.norm_name).count(face)
        if baseline is not None:
            self.mean.add(baseline)
        for table, key in (
            (self.sources, str(record.get("box_source", "unknown"))),
            (self.schemes, name or "unknown"),
        ):
            table[key] = table.get(key, 0) + 1
        return found

    def score(self, items: Iterable[Item], fail: Fail) -> Iterator[Item]:
        """Each item again, scored: with its `nme`, None where its norm is not known. One that
        cannot be scored is a failure."""
        for item in items:
            if not item.failed:
                try:
                    error = self.add(item.record).error
                    item.update({"nme": None if math.isnan(error) else error})
                except RecordError as problem:
                    item.update({}, without=("nme",))  # of another prediction
                    fail(item, problem)
            if item.failed:
                self.fail(item.record)
            yield item

    @property
    def risk(self) -> RiskTally:
        """Of the points that have a score; of none where their faces have several norms."""
        return next(iter(self.risks.values())) if len(self.risks) == 1 else RiskTally()

    @property
    def scheme(self) -> Scheme | None:
        """The scheme that all faces share, where it is known."""
        name = next(iter(self.schemes), "")
        one = len(self.schemes) == 1 and catalog.count(name) is not None
        return catalog.get(name) if one else None

    def regions(self) -> dict[str, float | None]:
        """NME by region, where all faces share a scheme."""
        return self.all.by_region(self.scheme) if self.scheme else {}

    @property
    def norm(self) -> str | None:
        """The norm that all faces share; None where they do not, or none was scored."""
        scored = [name for name, tally in self.norms.items() if tally.coordinates]
        return scored[0] if len(scored) == 1 else None

    def report(self, threshold: float) -> dict[str, Any]:
        """The report; docs/metrics.md lists its keys. Where the faces have several norms, what is
        over a norm stands under `norms`, for each of them apart, and is None elsewhere. UsageError
        for a threshold that is none."""
        if not 0 < threshold < 1e6:
            raise UsageError(f"--threshold {threshold}: more than 0")
        scored = [name for name, tally in self.norms.items() if tally.coordinates]
        if len(scored) > 1:
            return self._mixed(threshold, scored)
        return {
            **self.all.report(threshold),
            "threshold": threshold,
            "norm": self.norm,
            "scheme": "+".join(self.schemes) or None,
            "box_source": self.sources,
            "mean": self.mean.report(threshold) if self.mean.coordinates else None,
            "splits": {name: tally.report(threshold) for name, tally in self.splits.items()},
            "regions": self.regions(),
            "points": self.all.by_point() if len(self.schemes) <= 1 else [],
            **self._by_score(),
        }

    def _by_score(self) -> dict[str, Any]:
        """What the scores come to, where there are any: `by_score`, the NME of each tenth of the
        points from the lowest scores to the highest; with `min_score` the `coverage`, the share of
        the points that were kept."""
        found: dict[str, Any] = {}
        if self.risk.points:
            found["by_score"] = self.risk.by_tenth()
        if self.min_score is not None:
            found["min_score"] = self.min_score
            found["coverage"] = self.kept / self.known if self.known else None
        return found

    def _mixed(self, threshold: float, norms: list[str]) -> dict[str, Any]:
        none = dict.fromkeys(OVER_NORM)
        splits = {name: tally.report(threshold) | none for name, tally in self.splits.items()}
        return {
            **self.all.report(threshold),
            **none,
            "threshold": threshold,
            "norm": None,
            "norms": {name: self.norms[name].report(threshold) for name in norms},
            "scheme": "+".join(self.schemes),
            "box_source": self.sources,
            "mean": self.mean.report(threshold) | none if self.mean.coordinates else None,
            "splits": splits,
            "regions": {},
            "points": [],
            **self._by_score(),
        }

    def _scores(self, record: Record, count: int) -> NDArray[np.float64] | None:
        """The scores (K,), None where there are none. RecordError where --min-score needs them;
        without it, a `score` of another kind is ignored."""
        try:
            found = keys.per_point(record, "score", count)
        except RecordError:
            if self.min_score is not None:
                raise
            return None
        if found is None and self.min_score is not None:
            raise RecordError(
                "bad_points", "no `score`, which --min-score needs; kp-predict gives it"
            )
        return None if found is None else np.array(found, dtype=np.float64)

    def _norm(self, name: str) -> Tally:
        return self.norms[name]

    def _norm_of(self, record: Record) -> str:
        """The norm that a record which failed would have had."""
        name = record.get("scheme")
        known = isinstance(name, str) and catalog.count(name) is not None
        try:
            return norm_for(catalog.get(str(name)) if known else None, self.wanted)
        except RecordError:
            return str(self.wanted)

    def _choose(self, scheme: Scheme | None) -> tuple[Scheme, list[int]]:
        """The points that are scored. A face that has none of them annotated takes no part."""
        if scheme is None:
            raise RecordError("bad_scheme", "--points needs the record's scheme; name a known one")
        if scheme.name not in self._chosen:
            try:
                chosen, keep = selection.select_points(scheme, self.points or "")
            except ValueError as error:
                raise RecordError("bad_scheme", f"--points {self.points}: {error}") from None
            self._chosen[scheme.name] = chosen, list(keep)
        return self._chosen[scheme.name]

    def _split(self, record: Record) -> Tally:
        return self.splits[str(record.get("split", "none"))[:40]]
