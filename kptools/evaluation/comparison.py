"""Whether one network is better than another: their errors on the same faces, and intervals.

Faces are paired by (id, copy). The interval is that of the paired bootstrap (Efron and Tibshirani,
1993): groups of faces (`group`: one person, or one photo) are drawn with replacement, since faces
of one group are not independent, and the differences of 10,000 such samples have their 2.5th and
97.5th percentiles.
"""

import math
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from kptools.errors import GateError, KptoolsError, RecordError
from kptools.evaluation.faces import Face, Pair, pair_of
from kptools.evaluation.score import Errors, Scores
from kptools.records.keys import Record
from kptools.schemes import catalog

RESAMPLES = 10_000
SEED = 0
CONFIDENCE = 0.95
_AT_A_TIME = 1 << 21  # numbers drawn at a time
_GATED = ("nme", "failure_rate")

# Of a face, what faces are divided by, and its group: (`split`, `val`)
Sets: TypeAlias = tuple[tuple[str, str], ...]


class Outcomes:
    """What a comparison needs to know of each face of a stream, some 500 bytes: its NME, infinite
    for a failure, the errors of its regions, and a hash of what it was scored against."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[tuple[str, int], int] = {}  # of each (id, copy)
        self.nmes, self.truths = array("d"), array("Q")
        self.groups: list[str] = []
        self.sets: list[Sets] = []  # that each face is in
        self._known: dict[Sets, Sets] = {}
        self.schemes: dict[str, None] = {}
        self._regions: list[tuple[int, Errors, Errors]] = []  # first row, sums and counts (B, R)

    def fail(self, record: Record, sets: Sets) -> None:
        """Keep a face that failed. KptoolsError where it has no id, or was there before."""
        try:
            pair = pair_of(record)
        except RecordError as error:
            raise KptoolsError(f"{self.name}: {error}; faces are compared by their id") from None
        self._keep(pair, math.inf, 0, sets)

    def add(self, faces: Sequence[Face], sets: Sequence[Sets], scores: Scores) -> None:
        """Keep faces of one kind, with a `pair`. KptoolsError where one was there before."""
        first = len(self.rows)
        errors, lengths = scores.errors.tolist(), scores.norms.tolist()
        for face, own, nme, length in zip(faces, sets, errors, lengths, strict=True):
            # to a thousandth of a pixel: copies that were merged are mapped back
            against = np.round([*face.truth, length], 3).tobytes()
            truth = int.from_bytes(blake2b(against, digest_size=8).digest(), "little") or 1
            assert face.pair is not None
            self._keep(face.pair, nme, truth, own)
        name = faces[0].kind.name
        self.schemes[name] = None
        if catalog.count(name) is not None and len(self.schemes) == 1:
            sums, counts = np.zeros((2, len(faces), len(catalog.get(name).regions)))
            for index, region in enumerate(catalog.get(name).regions.values()):
                relative = scores.relative[:, list(region)]
                sums[:, index] = np.nansum(relative, axis=1)
                counts[:, index] = np.isfinite(relative).sum(axis=1)
            self._regions.append((first, sums, counts))

    def regions(self) -> tuple[list[str], Errors, Errors]:
        """The names of the regions, and (N, R) of each face the sum of the errors of its points
        there, and how many points these are. None where the faces have several schemes."""
        name = next(iter(self.schemes), "")
        one = len(self.schemes) == 1 and catalog.count(name) is not None
        names = list(catalog.get(name).regions) if one else []
        sums, counts = np.zeros((2, len(self.rows), len(names)))
        for first, found, points in self._regions if one else ():
            sums[first : first + len(found)], counts[first : first + len(found)] = found, points
        return names, sums, counts

    def _keep(self, pair: Pair, nme: float, truth: int, sets: Sets) -> None:
        key = pair.id, pair.copy
        if key in self.rows:
            raise KptoolsError(
                f"{self.name} has the face {key[0][:80]!r} twice; give each face an id of its own, "
                "or --merge its copies"
            )
        self.rows[key] = len(self.rows)
        self.nmes.append(nme)
        self.truths.append(truth)
        self.groups.append(pair.group)
        self.sets.append(self._known.setdefault(sets, sets))


@dataclass(frozen=True)
class _Sums:
    """Of a mean over some of the faces: its sum for the candidate and for the baseline, and how
    many it is of, in each group (G,)."""

    candidate: Errors
    baseline: Errors
    counts: Errors


def compare(candidate: Outcomes, baseline: Outcomes, threshold: float) -> dict[str, Any]:
    """The differences candidate - baseline, for the report: of the NME over the faces that failed
    in neither, and of the failure rate over all that have a norm. KptoolsError where they are not
    of the same faces, or were not scored against the same points."""
    order = _pair(candidate, baseline)
    ours, theirs = np.array(candidate.nmes), np.array(baseline.nmes)[order]
    normed = ~(np.isnan(ours) | np.isnan(theirs))
    scored = normed & np.isfinite(ours) & np.isfinite(theirs)
    groups = np.unique(candidate.groups, return_inverse=True)[1]

    def by_group(a: Errors, b: Errors, counts: Errors, of: NDArray[np.bool_]) -> _Sums:
        values = (np.where(of, v, 0.0) for v in (a, b, counts))
        return _Sums(*(np.bincount(groups, weights=v).astype(np.float64) for v in values))

    one = np.ones(len(ours))
    fails = [np.where(nmes > threshold, 1.0, 0.0) for nmes in (ours, theirs)]

    def of_faces(rows: NDArray[np.bool_]) -> list[_Sums]:
        failed = by_group(fails[0], fails[1], one, rows & normed)
        return [by_group(ours, theirs, one, rows & scored), failed]

    figures = of_faces(one > 0)
    sets = list(dict.fromkeys(pair for own in candidate.sets for pair in own))
    for pair in sets:
        figures += of_faces(np.array([pair in own for own in candidate.sets]))
    regions, sums, counts = candidate.regions()
    regions_there, sums_there, _ = baseline.regions()
    regions = regions if regions == regions_there else []
    for index in range(len(regions)):
        columns = sums[:, index], sums_there[order, index], counts[:, index]
        figures.append(by_group(*columns, scored))
    found = iter(_intervals(figures))
    report: dict[str, Any] = {
        "baseline": baseline.name,
        "faces": len(ours),
        "scored": int(scored.sum()),
        "failed": {"candidate": int(np.isinf(ours).sum()), "baseline": int(np.isinf(theirs).sum())},
        "groups": len(figures[0].counts),
        "threshold": threshold,
        "resamples": RESAMPLES,
        "seed": SEED,
        "confidence": CONFIDENCE,
        **{metric: next(found) for metric in _GATED},
        "by": {key: {} for key, _ in sets},
    }
    for key, name in sets:
        report["by"][key][name] = {metric: next(found) for metric in _GATED}
    return report | {"regions": {name: next(found) for name in regions}}


def _pair(candidate: Outcomes, baseline: Outcomes) -> NDArray[np.intp]:
    """(N,): the row of the baseline that each face of the candidate has. Raises KptoolsError."""
    a, b = candidate.rows.keys(), baseline.rows.keys()
    missing = [f"{len(a - b)} faces that {baseline.name} lacks"] if a - b else []
    missing += [f"{len(b - a)} faces that {candidate.name} lacks"] if b - a else []
    if missing:
        example = min(a ^ b)[0][:80]
        raise KptoolsError(
            f"--compare: there are {' and '.join(missing)}, such as {example!r}; "
            "compare predictions of the same faces"
        )
    order = np.array([baseline.rows[key] for key in candidate.rows], dtype=np.intp)
    ours = np.array(candidate.truths, dtype=np.uint64)
    theirs = np.array(baseline.truths, dtype=np.uint64)[order]
    other = np.flatnonzero((ours != theirs) & (ours > 0) & (theirs > 0))
    if len(other):
        example = list(candidate.rows)[other[0]][0][:80]
        raise KptoolsError(
            f"--compare: in {candidate.name} and in {baseline.name} {len(other)} faces, such as "
            f"{example!r}, have other points, or another length of the norm; compare predictions "
            "of the same records"
        )
    return order


def _intervals(figures: Sequence[_Sums]) -> list[dict[str, float | bool | None]]:
    """Of each figure both values, their difference and its interval, None where fewer than two
    groups of faces have it."""
    apart = np.stack([sums.candidate - sums.baseline for sums in figures], axis=1)  # (G, F)
    counts = np.stack([sums.counts for sums in figures], axis=1)
    samples = _bootstrap(apart, counts) if len(counts) else np.zeros((0, len(figures)))
    tail = 50 * (1 - CONFIDENCE)
    found = []
    for index, sums in enumerate(figures):
        total = float(sums.counts.sum())
        low = high = None
        if (sums.counts > 0).sum() > 1:
            known = samples[np.isfinite(samples[:, index]), index]
            low, high = np.percentile(known, [tail, 100 - tail]).tolist()
        found.append(
            {
                "candidate": float(sums.candidate.sum()) / total if total else None,
                "baseline": float(sums.baseline.sum()) / total if total else None,
                "difference": float(apart[:, index].sum()) / total if total else None,
                "low": low,
                "high": high,
                "worse": None if low is None else low > 0,
            }
        )
    return found


def _bootstrap(sums: Errors, counts: Errors) -> Errors:
    """(RESAMPLES, F): the means of samples of G groups, whose sums and counts are (G, F); NaN where
    a sample has no face of a figure."""
    total = len(sums)
    random = np.random.default_rng(SEED)
    at_a_time = max(1, _AT_A_TIME // total)
    found = []
    for first in range(0, RESAMPLES, at_a_time):
        rows = min(at_a_time, RESAMPLES - first)
        drawn = random.integers(0, total, (rows, total)) + np.arange(rows)[:, None] * total
        times = np.bincount(drawn.ravel(), minlength=rows * total).reshape(rows, total) * 1.0
        with np.errstate(invalid="ignore"):
            found.append((times @ sums) / (times @ counts))
    return np.concatenate(found)


def require_no_regression(found: dict[str, Any]) -> None:
    """GateError where the NME or the failure rate of all faces is worse than the baseline's: the
    interval of the difference is above 0. Also where there is no interval."""
    for metric in _GATED:
        figure = found[metric]
        if figure["worse"] is None:
            raise GateError(
                f"--compare {found['baseline']}: no interval for {metric}, since fewer than two "
                "groups of faces were scored"
            )
        if figure["worse"]:
            raise GateError(
                f"--compare {found['baseline']}: {metric} is worse: {figure['candidate']:.6g}, and "
                f"{figure['baseline']:.6g} before; the difference is {figure['low']:.3g} to "
                f"{figure['high']:.3g}"
            )
