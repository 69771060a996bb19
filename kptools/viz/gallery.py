"""The faces of a report: for each a small picture, its points, its errors, and what to filter by.

It is data for the page's own script (`web/report.js`), which draws what is in view.
"""

import base64
import heapq
import io
import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.evaluation.score import score
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.schemes import catalog
from kptools.schemes.scheme import Scheme
from kptools.viz import faces, views
from kptools.viz.views import View

SIDES = (320, 240, 192, 144, 96)  # of a picture, the larger the fewer there are
PICTURES_BYTES = 18 * 2**20  # of all pictures, about: the page is to stay below 40 MB
_BYTES_PER_PIXEL = 0.19  # of a face as WebP of this quality
_QUALITY = 62
_STEPS = 32  # of a coordinate, per pixel of the picture
_NOWHERE = -32768  # stands for a point that is null


@dataclass
class _Entry:
    """A face: its records, one a source that has it, and the largest of their errors."""

    records: dict[int, Item] = field(default_factory=dict)
    error: float = -math.inf


class Gallery:
    """The faces of several sources, each told by id and copy; it holds `count`, those of the
    largest errors; of several sources all, until they were read. A face that failed has the largest
    error of all; of faces without an error those of the lowest scores come first."""

    def __init__(self, names: Sequence[str], count: int, norm: str | None) -> None:
        self.names = [os.fsencode(name).decode(errors="replace") for name in names]
        self.count, self.norm = count, norm
        self.seen = 0
        self._entries: dict[tuple[str, int], _Entry] = {}
        self._least: list[tuple[float, int, tuple[str, int]]] = []  # a heap; some are out of date

    def add(self, item: Item, source: int, error: float) -> None:
        """A record of a source, and its error, NaN where it has none."""
        record = item.record
        name = f"{record.get('id', record.get('image', item.where))}\0{record.get('copy', 0)}"
        key = name, 0
        while key in self._entries and source in self._entries[key].records:
            key = name, key[1] + 1  # a further face of that name
        found = self._entries.get(key)
        if found is None:
            self.seen += 1
            found = self._entries[key] = _Entry()
        found.records[source] = Item(_kept(record), item.file, item.line, reported=item.reported)
        if keys.failed(record):
            rank = math.inf
        else:
            rank = -1.0 - (_mean_score(record) or 0.0) if math.isnan(error) else error
        if rank > found.error:
            found.error = rank
            heapq.heappush(self._least, (rank, -self.seen, key))
        if len(self.names) == 1:
            self._drop()

    def _drop(self) -> None:
        """Drop those of the smallest errors that are too many."""
        while len(self._entries) > self.count:
            rank, _, key = heapq.heappop(self._least)
            if key in self._entries and self._entries[key].error == rank:
                del self._entries[key]

    def data(self, fail: Fail) -> dict[str, Any]:
        """What the script needs, as JSON has it. A face whose picture cannot be made is a failure,
        and has none."""
        self._drop()
        side = next((s for s in SIDES if self._bytes(s) <= PICTURES_BYTES), SIDES[-1])
        view = View((side, side))
        schemes: dict[str, Scheme] = {}
        # each of the threads works alone, on small arrays
        with ThreadPoolExecutor(initializer=torch.set_num_threads, initargs=(1,)) as pool:
            made = list(pool.map(lambda entry: self._face(entry, view), self._entries.values()))
        found = []
        for entry, (face, problem, item) in zip(self._entries.values(), made, strict=True):
            if problem is not None and item is not None:
                fail(item, problem)
            for one in entry.records.values():
                name = one.record.get("scheme")
                if isinstance(name, str) and catalog.count(name) is not None:
                    schemes[name] = catalog.get(name)
            found.append(face)
        return {
            "side": side,
            "seen": self.seen,
            "runs": self.names,
            "faces": found,
            "schemes": {
                name: {
                    "edges": scheme.edges,
                    "regions": {r: list(points) for r, points in scheme.regions.items()},
                    "names": scheme.names,
                }
                for name, scheme in schemes.items()
            },
        }

    def _bytes(self, side: int) -> float:
        return len(self._entries) * side * side * _BYTES_PER_PIXEL

    def _face(
        self, entry: _Entry, view: View
    ) -> tuple[dict[str, Any], RecordError | None, Item | None]:
        """A face, and what went wrong with its picture."""
        first = entry.records[min(entry.records)]
        record = first.record
        found: dict[str, Any] = {
            "id": faces.name(record),
            "scheme": str(record.get("scheme") or ""),
            "split": str(record.get("split") or "none"),
            "flags": keys.flags(record),
            "runs": [self._run(entry.records.get(n)) for n in range(len(self.names))],
        }
        sound = next((item for item in entry.records.values() if not item.failed), None)
        if sound is None:
            return found, None, None
        try:
            face = views.parse(sound.record, view)
            shown = views.show(face, view)
        except RecordError as error:
            return found, error, sound
        data = io.BytesIO()
        shown.picture.save(data, "WEBP", quality=_QUALITY, method=3)
        found["picture"] = base64.b64encode(data.getvalue()).decode()
        found["size"] = shown.picture.size
        if faces.annotated(sound.record):
            found["truth"] = _packed(shown, sound.record["points"])
        for run, item in zip(found["runs"], self._of_runs(entry), strict=True):
            if item is not None and not item.failed and item.record.get("pred") is not None:
                run["points"] = _packed(shown, item.record["pred"])
        return found, None, None

    def _of_runs(self, entry: _Entry) -> Iterator[Item | None]:
        return (entry.records.get(n) for n in range(len(self.names)))

    def _run(self, item: Item | None) -> dict[str, Any]:
        """What a source says of a face: its status, score, error, and that of each region."""
        if item is None:
            return {"status": "absent"}
        if item.failed:
            return {"status": str(item.record["status"])}
        run: dict[str, Any] = {"status": "ok"}
        mean_score = _mean_score(item.record)
        if mean_score is not None:
            run["score"] = round(mean_score, 4)
        try:
            found = score(item.record, self.norm)
        except RecordError:
            return run
        relative = found.distances / found.norm
        run["error"] = _number(found.error)
        run["regions"] = {
            name: _number(float(np.mean(known)))
            for name, points in _regions(item.record).items()
            if len(known := relative[list(points)][np.isfinite(relative[list(points)])])
        }
        return run


def _mean_score(record: Record) -> float | None:
    scores = record.get("score")
    if isinstance(scores, list) and scores and all(isinstance(s, int | float) for s in scores):
        return float(sum(scores) / len(scores))
    return None


def _regions(record: Record) -> dict[str, tuple[int, ...]]:
    name = record.get("scheme")
    if not isinstance(name, str) or catalog.count(name) is None:
        return {}
    return dict(catalog.get(name).regions)


def _number(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _packed(shown: views.Shown, points: list[Any]) -> str:
    """The points (K, 2), file frame, as 16-bit steps of the picture's pixels, whole numbers at the
    centres, in base64."""
    placed = shown.place(g.from_list(points))
    steps = np.clip(np.nan_to_num(placed * _STEPS, nan=_NOWHERE), _NOWHERE, 32767)
    return base64.b64encode(steps.round().astype("<i2").tobytes()).decode()


_SHOWN = frozenset(
    [
        "image",
        "id",
        "copy",
        "size",
        "box",
        "box_source",
        "roll",
        "points",
        "scheme",
        "split",
        "augment",
        "pred",
        "score",
        "flags",
        "scale",
        "status",
        "error",
    ]
)


def _kept(record: Record) -> Record:
    """What of a record the page shows."""
    return {key: value for key, value in record.items() if key in _SHOWN}
