"""The figures of many faces: what kp-eval reports, and what kp-viz shows of it."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.evaluation.comparison import Outcomes, Sets
from kptools.evaluation.faces import Face, Kind, Parser, split_of
from kptools.evaluation.groups import Groups, by_key
from kptools.evaluation.hidden import HiddenTally
from kptools.evaluation.metrics import OVER_NORM
from kptools.evaluation.oks import OksTally, Sigmas, similarities
from kptools.evaluation.protocol_figures import figures
from kptools.evaluation.protocols import Protocol
from kptools.evaluation.risk import RiskTally
from kptools.evaluation.score import OneNorm, Score, Scores, compare
from kptools.evaluation.tally import Tally, measure
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.points import stack
from kptools.schemes import catalog
from kptools.schemes.scheme import Scheme

BATCH = 64  # faces that are scored at a time: few enough for a processor's cache


class Scorer:
    """Tallies of the prediction and of the mean shape, over all, by norm, by split, by each key of
    `by` and by the sets of a `protocol`, which has a norm of its own.

    `points` names the points that are scored, as `--points` of kp-prep does; the norm is still
    that of the whole face. With `min_score` a point of a lower `score` is left out, and counted.
    With `one_norm` all faces have to share that norm. `sigmas` are those of the OKS. `outcomes`
    keeps what a comparison needs of each face.
    """

    def __init__(
        self,
        norm: str | None = None,
        points: str | None = None,
        one_norm: OneNorm | None = None,
        min_score: float | None = None,
        protocol: Protocol | None = None,
        by: Sequence[str] = (),
        sigmas: Sigmas | None = None,
        outcomes: Outcomes | None = None,
    ) -> None:
        self.protocol, self.outside = protocol, 0
        self.by = [Groups(key, by_key(key)) for key in by]
        self.splits = Groups("split", split_of)
        self.sets = [Groups(protocol.name, protocol.sets_of)] if protocol else []
        self._groups = [self.splits, *self.sets, *self.by]
        own_norm = protocol.norm if protocol else norm
        divisions = [groups.of for groups in self._groups]
        self._parser = Parser(own_norm, points, min_score, divisions, outcomes is not None)
        self.oks = OksTally(sigmas) if sigmas else None
        self.outcomes = outcomes
        self.one_norm = one_norm
        self.min_score = min_score
        self.risks: dict[str, RiskTally] = {}  # by norm: of the points that have a score
        self.hidden = HiddenTally()
        self.known = self.kept = 0  # points
        self.sources: dict[str, int] = {}
        self.schemes: dict[str, int] = {}
        self.all = Tally()
        self.mean = Tally()
        self.norms: dict[str, Tally] = defaultdict(Tally)

    def fail(self, record: Record) -> None:
        """Count a record that failed, here or before."""
        self.all.fail()
        self.mean.fail()
        own = [groups.fail(record) for groups in self._groups]
        self.norms[self._parser.norm_of(record)].fail()
        if self.oks:
            self.oks.fail()
        if self.outcomes:
            self.outcomes.fail(record, self._sets(own))

    def add(self, record: Record) -> Score:
        """Score a record. Raises RecordError, and MixedNorms where it has another norm than
        `one_norm`."""
        return self._count([self._parse(record)]).face(0)

    def count(self, items: Iterable[Item], fail: Fail) -> None:
        """Score the items for the report alone. One that cannot be scored is a failure."""
        for _ in self._score(items, fail, None):
            pass

    def score(self, items: Iterable[Item], fail: Fail, ready: Callable[[], bool]) -> Iterator[Item]:
        """Each item again, scored: with its `nme`, None where its norm is not known. One that
        cannot be scored is a failure. Items are held as long as the next one is `ready`."""
        return self._score(items, fail, ready)

    def _score(
        self, items: Iterable[Item], fail: Fail, ready: Callable[[], bool] | None
    ) -> Iterator[Item]:
        """As `score`; without `ready` no sound item is held, and none comes again."""
        held: list[Item] = []
        faces: list[Face] = []  # sound, of one kind, and not counted yet

        def release() -> Iterator[Item]:
            """Count the faces, and flush the items that are held."""
            errors = self._count(faces).errors.tolist() if faces else []
            done = list(zip(held, errors, strict=ready is not None))
            held.clear()
            faces.clear()
            for item, error in done:
                item.update({"nme": None if math.isnan(error) else error})
                yield item

        try:
            for item in items:
                face = None
                if self.protocol and not self.protocol.has(item):
                    yield from release()
                    self.outside += 1
                    item.update({}, without=("nme",))
                    yield item
                    continue
                if not item.failed:
                    try:
                        face = self._parse(item.record)
                    except RecordError as problem:
                        yield from release()  # first, since this failure may end the job
                        item.update({}, without=("nme",))  # of another prediction
                        fail(item, problem)
                if face is None:
                    yield from release()
                    self.fail(item.record)
                    yield item
                    continue
                if faces and face.kind != faces[0].kind:
                    yield from release()
                faces.append(face)
                if ready is not None:
                    held.append(item)
                if len(faces) == BATCH or (ready is not None and not ready()):
                    yield from release()
        except KptoolsError:  # what came before it leaves
            yield from release()
            raise
        yield from release()

    def _parse(self, record: Record) -> Face:
        """Raises RecordError, and MixedNorms."""
        face = self._parser.parse(record)
        if self.one_norm is not None:
            self.one_norm.require(face.kind.norm, face.kind.name)
        if self.oks:
            self._sigmas(face.kind)
        return face

    def _sets(self, own: Sequence[tuple[str, ...]]) -> Sets:
        """The groups of a face, each with what faces are divided by."""
        pairs = zip(self._groups, own, strict=True)
        return tuple((groups.name, name) for groups, names in pairs for name in names)

    def _sigmas(self, kind: Kind) -> NDArray[np.float64]:
        """(K,): those of the points that are scored. KptoolsError where there are none."""
        assert self.oks is not None
        sigmas = self.oks.sigmas.of(kind.scheme.name if kind.scheme else kind.name, kind.points)
        return sigmas if kind.keep is None else sigmas.take(kind.keep)

    def _count(self, faces: Sequence[Face]) -> Scores:
        """Score sound faces of one kind, and count them."""
        kind = faces[0].kind
        truth = stack([face.truth for face in faces])

        def against(points: Sequence[tuple[float, ...]]) -> Scores:
            found = compare(
                stack(points),
                truth,
                norm=kind.norm,
                scheme=kind.scheme,
                boxes=[face.box for face in faces],
                sizes=[face.size for face in faces],
                scales=[face.scale for face in faces],
            )
            return found if kind.keep is None else found.of_points(kind.keep)

        whole = found = against([face.predicted for face in faces])
        baseline = against([face.mean for face in faces]) if kind.has_mean else None
        if kind.has_scores:
            scores = np.array([face.scores for face in faces], dtype=np.float64)  # (B, K)
            if kind.keep is not None:
                scores = scores.take(kind.keep, axis=1)
            risk = self.risks.setdefault(kind.norm, RiskTally())
            risk.add(scores.ravel(), whole.relative.ravel())
            if self.min_score is not None:
                low = scores < self.min_score
                found = whole.without(low)
                baseline = baseline and baseline.without(low)
        if kind.has_visible:
            self._count_hidden(faces, whole)
        self.known += int(whole.counts.sum())
        self.kept += int(found.counts.sum())
        measured = measure(found)
        self.all.count(measured)
        self.norms[kind.norm].count(measured)
        for index, groups in enumerate(self._groups):
            groups.count([face.groups[index] for face in faces], measured)
        if self.oks:
            boxes = np.array([face.box for face in faces])
            confidence = scores.mean(axis=1) if kind.has_scores else np.full(len(faces), math.nan)
            self.oks.add(similarities(found, boxes, self._sigmas(kind)), confidence)
        if self.outcomes:
            self.outcomes.add(faces, [self._sets(face.groups) for face in faces], found)
        if baseline is not None:
            self.mean.add(baseline)
        scheme = kind.name or "unknown"
        self.schemes[scheme] = self.schemes.get(scheme, 0) + len(faces)
        for face in faces:
            self.sources[face.source] = self.sources.get(face.source, 0) + 1
        return found

    def _count_hidden(self, faces: Sequence[Face], scores: Scores) -> None:
        """Count which of the annotated points are hidden, and which are said to be."""
        visible, said = (
            np.array(values, dtype=np.float64)
            for values in zip(*[(face.visible, face.pred_visible) for face in faces], strict=True)
        )
        keep = faces[0].kind.keep
        if keep is not None:
            visible, said = visible.take(keep, axis=1), said.take(keep, axis=1)
        self.hidden.add(np.where(scores.known, visible, np.nan).ravel(), said.ravel())

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
        for a threshold that is none; KptoolsError where no face is in a set of the protocol."""
        if not 0 < threshold < 1e6:
            raise UsageError(f"--threshold {threshold}: more than 0")
        scored = [name for name, tally in self.norms.items() if tally.coordinates]
        mixed = len(scored) > 1
        none = dict.fromkeys(OVER_NORM) if mixed else {}

        def of_groups(groups: Groups) -> dict[str, Any]:
            return {name: found | none for name, found in groups.report(threshold).items()}

        return {
            **self.all.report(threshold),
            **none,
            "threshold": threshold,
            "norm": self.norm,
            **({"norms": {n: self.norms[n].report(threshold) for n in scored}} if mixed else {}),
            "scheme": "+".join(self.schemes) or None,
            "box_source": self.sources,
            "mean": self.mean.report(threshold) | none if self.mean.coordinates else None,
            "splits": of_groups(self.splits),
            "regions": {} if mixed else self.regions(),
            "points": self.all.by_point() if len(self.schemes) <= 1 and not mixed else [],
            **self._by_score(),
            **({"by": {groups.name: of_groups(groups) for groups in self.by}} if self.by else {}),
            **({"oks": self.oks.report()} if self.oks else {}),
            **self._of_protocol(),
        }

    def _by_score(self) -> dict[str, Any]:
        """What the scores come to, where there are any: `by_score`, the NME of each tenth of the
        points from the lowest scores to the highest; with `min_score` the `coverage`, the share of
        the points that were kept; and of points that are said to be hidden, their precision."""
        found: dict[str, Any] = {}
        if self.risk.points:
            found["by_score"] = self.risk.by_tenth()
        if self.min_score is not None:
            found["min_score"] = self.min_score
            found["coverage"] = self.kept / self.known if self.known else None
        return found | self.hidden.report()

    def _of_protocol(self) -> dict[str, Any]:
        if self.protocol is None:
            return {}
        if self.outside and not self.all.faces:
            raise KptoolsError(
                f"none of the {self.outside} faces is in a set of the protocol "
                f"{self.protocol.name}: {', '.join(self.protocol.sets)}; docs/metrics.md says how "
                "they are known"
            )
        return {
            "protocol": {**figures(self.protocol, self.sets[0].tallies), "outside": self.outside}
        }
