"""A face as it waits to be scored: what a record says of it, checked."""

import math
from collections.abc import Sequence
from typing import NamedTuple

from kptools.errors import RecordError
from kptools.evaluation.groups import GroupsOf
from kptools.evaluation.norms import check_norm, norm_for
from kptools.evaluation.score import require_prediction, require_truth
from kptools.records import keys
from kptools.records.keys import Record
from kptools.records.points import are_known
from kptools.schemes import catalog, selection
from kptools.schemes.scheme import Scheme
from kptools.units import Box, Size


class Kind(NamedTuple):
    """What faces share that are scored together. `name` of the points that are scored, all of
    `scheme` or those in `keep`; `norm`; how many `points` a face has; and whether it has a mean
    shape, scores, and both `visible` and `pred_visible`."""

    name: str
    scheme: Scheme | None
    norm: str
    points: int
    keep: Sequence[int] | None
    has_mean: bool
    has_scores: bool
    has_visible: bool


class Face(NamedTuple):
    """A face that is sound, as it waits to be scored: coordinates as `keys.coordinates` gives them,
    and what else counts. `groups`: those that it is in, of each of the ways to divide faces. The
    record itself is not kept: held records make the parsing of further ones slower."""

    kind: Kind
    truth: tuple[float, ...]
    predicted: tuple[float, ...]
    mean: tuple[float, ...]
    scores: Sequence[float]
    visible: Sequence[float]
    pred_visible: Sequence[float]
    box: Box
    size: Size
    scale: float
    groups: Sequence[tuple[str, ...]]
    source: str
    pair: "Pair | None"


class Parser:
    """How records are read that are scored over `norm`, at the `points` that `--points` names, and
    where they need a `score` for `min_score`; None as for `Scorer`. Faces are divided by each of
    `divisions`. With `paired` they have a `pair`."""

    def __init__(
        self,
        norm: str | None,
        points: str | None,
        min_score: float | None,
        divisions: Sequence[GroupsOf] = (),
        paired: bool = False,
    ) -> None:
        check_norm(norm)
        self.norm, self.points, self.min_score = norm, points, min_score
        self._divisions, self._paired = divisions, paired
        self._chosen: dict[str, tuple[Scheme, list[int]]] = {}  # by the scheme of the records

    def parse(self, record: Record) -> Face:
        """A face that is sound. Raises RecordError."""
        truth = keys.coordinates(record)
        require_truth(are_known(truth) or any(map(math.isfinite, truth)))
        predicted = keys.coordinates(record, "pred")
        count = len(truth) // 2
        scheme = keys.known_scheme(record, count)
        box, size, scale = keys.box(record), keys.size(record), keys.scale(record)
        require_prediction(len(predicted) // 2, count, are_known(predicted))
        norm = norm_for(scheme, self.norm)
        mean = None
        if record.get("mean") is not None:
            mean = keys.coordinates(record, "mean")
            require_prediction(len(mean) // 2, count, are_known(mean))
        name = str(record.get("scheme", ""))
        keep = None
        if self.points is not None:
            chosen, keep = self._choose(scheme)
            name = chosen.name
        scores = self._scores(record, count)
        visible = _numbers(record, "visible", count)
        pred_visible = _numbers(record, "pred_visible", count)
        has_visible = bool(visible and pred_visible)
        return Face(
            Kind(
                name, scheme, norm, count, keep, mean is not None, scores is not None, has_visible
            ),
            truth,
            predicted,
            mean or (),
            scores or (),
            visible or (),
            pred_visible or (),
            box,
            size,
            math.nan if scale is None else scale,
            [groups_of(record) for groups_of in self._divisions],
            str(record.get("box_source", "unknown")),
            pair_of(record) if self._paired else None,
        )

    def norm_of(self, record: Record) -> str:
        """The norm that a record which failed would have had."""
        name = record.get("scheme")
        known = isinstance(name, str) and catalog.count(name) is not None
        try:
            return norm_for(catalog.get(str(name)) if known else None, self.norm)
        except RecordError:
            return str(self.norm)

    def _scores(self, record: Record, count: int) -> Sequence[float] | None:
        """The K scores, None where there are none. RecordError where --min-score needs them;
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
        return found

    def _choose(self, scheme: Scheme | None) -> tuple[Scheme, list[int]]:
        """The points that are scored. A face that has none of them annotated takes no part."""
        if scheme is None:
            raise RecordError(
                "bad_scheme",
                "--points needs the record's scheme; name a known one, or --scheme FILE",
            )
        if scheme.name not in self._chosen:
            try:
                chosen, keep = selection.select_points(scheme, self.points or "")
            except ValueError as error:
                raise RecordError("bad_scheme", f"--points {self.points}: {error}") from None
            self._chosen[scheme.name] = chosen, list(keep)
        return self._chosen[scheme.name]


def _numbers(record: Record, key: str, count: int) -> Sequence[float] | None:
    """K numbers, None where there are none, or other ones, which are ignored."""
    try:
        return keys.per_point(record, key, count)
    except RecordError:
        return None


class Pair(NamedTuple):
    """What says which face of another stream is the same, and which faces are not independent."""

    id: str
    copy: int
    group: str


def pair_of(record: Record) -> Pair:
    """Raises RecordError. A face without `group` is a group."""
    name = keys.identity(record)
    return Pair(name, keys.copy_index(record), str(record.get("group", name)))


def split_of(record: Record) -> tuple[str]:
    """What it is counted under."""
    return (str(record.get("split", "none"))[:40],)
