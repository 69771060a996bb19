"""From stored crops to points in the pixels of each file.

`Predictor` streams: threads decode the next faces while the network works, by whatever engine runs
it. On a CPU several batches are worked on at once, each by threads of its own, mostly one: the
threads of one operation would wait for each other at its end, and a neighbour on the cores would
hold up all of them. A bounded number of faces is held, and the order is kept. Nothing here imports
torch.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from kptools.augment.sample import sample
from kptools.augment.transform import Transform
from kptools.errors import RecordError, UsageError
from kptools.inference.engine import Crop, Engine
from kptools.inference.prediction import framed, give, give_mean, prediction
from kptools.pixels.crop_spec import CropSpec, crop_spec
from kptools.pixels.decode import decode_crop
from kptools.pixels.threads import decoding_threads
from kptools.records.face import Face
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Record

if TYPE_CHECKING:
    from kptools.inference.heatmap_files import MapFolder

QUEUED = 1  # batches that wait for it, so that it need not wait for a batch's records to be written


@dataclass
class _Work:
    """A record on its way: its crop, which is being decoded, the `stem` of the file of its maps,
    and what it comes to: the keys of its prediction, or an error."""

    item: Item
    crop: Future[Crop] | None = None
    stem: Path | None = None
    found: Record | None = None
    error: RecordError | None = None


class Predictor:
    """Predicts a stream of items with one network, batch by batch; its maps go to `maps`, where
    the engine has any."""

    def __init__(
        self, engine: Engine, *, batch: int, workers: int, maps: "MapFolder | None" = None
    ) -> None:
        if batch < 1:
            raise UsageError(f"--batch-size {batch}: at least 1")
        self.engine, self.model = engine, engine.model
        self.mean = np.array(self.model.mean)
        self.batch = batch
        self.workers = workers
        self.maps = maps
        self.pending = 0  # faces that are with the network, or done and not yet asked for

    def run(self, items: Iterable[Item], fail: Fail, ready: Callable[[], bool]) -> Iterator[Item]:
        """Each item again, in order, with its prediction; `fail` marks those that have none.

        `ready` says whether the next item is there: what is done is not held back for one that is
        not. A batch is full whatever the pace at which items come, so that its bits are the same.
        """
        source = iter(items)
        begun: deque[_Work] = deque()
        running: deque[tuple[list[_Work], Future[None]]] = deque()
        ended = False

        def begin(batches: int, *, wait: bool) -> None:
            nonlocal ended
            while not ended and len(begun) < batches * self.batch and (wait or ready()):
                item = next(source, None)
                if item is None:
                    ended = True
                else:
                    begun.append(self._begin(item, pool))

        with decoding_threads(self.workers) as pool, self.engine.threads() as streams:
            while True:
                begin(1, wait=not running)
                is_full = len(begun) >= self.batch or (ended and len(begun) > 0)
                if is_full and len(running) < self.engine.streams + QUEUED:
                    batch = [begun.popleft() for _ in range(min(self.batch, len(begun)))]
                    running.append((batch, streams.submit(self._predict, batch)))
                    self.pending += len(batch)
                    continue
                if not running:
                    return
                begin(self.engine.ahead, wait=False)
                batch, predicted = running.popleft()
                predicted.result()
                for work in batch:
                    self._finish(work, fail)
                    self.pending -= 1
                    yield work.item

    def _begin(self, item: Item, pool: ThreadPoolExecutor) -> _Work:
        """Parse a record, and let the threads decode its crop."""
        work = _Work(item)
        if item.failed:
            return work
        try:
            face = framed(Face.parse(item.record), self.model)
            self.engine.check(face)
            transform = sample(face, 0)
            work.stem = None if self.maps is None else self.maps.stem(item.record)
        except RecordError as error:
            work.error = error
            return work
        # crops of its own, so that a face's prediction does not depend on its neighbours
        spec = crop_spec([face], self.model.input, align=self.engine.aligns)
        work.crop = pool.submit(_decode, face, transform, spec)
        return work

    def _predict(self, batch: list[_Work]) -> None:
        """Wait for the crops, and find what the faces that have one come to."""
        works, crops = [], []
        for work in batch:
            if work.crop is None:
                continue
            try:
                crops.append(work.crop.result())
                works.append(work)
            except RecordError as error:
                work.error = error
        if not works:
            return
        decoded = self.engine.decode(crops)
        for row, (work, crop) in enumerate(zip(works, crops, strict=True)):
            points = decoded.points[row]
            scores = None if decoded.scores is None else decoded.scores[row]
            visible = None if decoded.visible is None else decoded.visible[row]
            face, shown = crop.face, crop.transform
            try:
                found = prediction(
                    face, points, scores, shown, self.model.input, self.mean, visible
                )
            except RecordError as error:
                work.error = error
                continue
            if self.maps is not None and work.stem is not None and decoded.maps is not None:
                found["heatmap"] = self.maps.save(work.stem, face, shown, decoded.maps, row)
            work.found = found

    def _finish(self, work: _Work, fail: Fail) -> None:
        """Give a record what it came to."""
        item = work.item
        if work.error is not None:
            fail(item, work.error)
        elif work.found is not None:
            give(item, work.found)
        if item.failed:
            give_mean(item, self.model)


def _decode(face: Face, transform: Transform, spec: CropSpec) -> Crop:
    return Crop(face, transform, spec, decode_crop(face.image, face.box, spec))
