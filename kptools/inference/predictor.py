"""From stored crops to points in the pixels of each file.

`Predictor` streams: threads decode the next faces while the network works. On a CPU several batches
are worked on at once, each by threads of its own, mostly one: the threads of one operation would
wait for each other at its end, and a neighbour on the cores would hold up all of them. A bounded
number of faces is held, and the order is kept.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kptools import geometry as g
from kptools import runtime
from kptools.augment.sample import sample
from kptools.augment.transform import Transform
from kptools.datasets import box_maps
from kptools.errors import RecordError, UsageError
from kptools.inference import heatmap_files
from kptools.inference.passes import Passes, decode, resolve
from kptools.models.layers.folding import fold_batch_norms, round_convolutions
from kptools.models.network import Decoded, Maps, Network
from kptools.pixels.batch import network_input
from kptools.pixels.cache import closing_pool, decoding_threads
from kptools.pixels.crop_spec import CropSpec, crop_spec
from kptools.pixels.decode import Pixels8, decode_crop
from kptools.pixels.warp import centred
from kptools.records import keys
from kptools.records.face import Face
from kptools.records.failures import Fail
from kptools.records.ids import FileNames
from kptools.records.item import Item
from kptools.records.keys import PREDICTION, Record
from kptools.runtime import send
from kptools.specs import InputSpec, ModelSpec

_STALE = (
    "heatmap",
    "nme",
    "pred_visible",
    "adapter",
)  # what an earlier prediction left, and has no place now

MAX_STREAMS = 4  # batches that a CPU works on at once: each takes memory
AHEAD_ON_CPU, AHEAD = 1, 2  # batches that are decoded while the network works
QUEUED = 1  # batches that wait for it, so that it need not wait for a batch's records to be written


def prediction(
    face: Face,
    points: g.Points,
    scores: g.Points | None,
    transform: Transform,
    spec: InputSpec,
    mean: g.Points,
) -> Record:
    """The keys of a prediction, in the pixels of the face's file: `pred`, `mean` and `score`, which
    is 0 outside the image. `points` (K, 2) are in fractions of the input, of the face as
    `transform` showed it; `mean` (K, 2) in fractions of the box. RecordError where a point is not
    finite."""
    seen = spec.to_file(points, face.box)
    if not np.isfinite(seen).all():
        raise RecordError("bad_points", "the network gave numbers that are not finite")
    points = transform.invert_points(seen)
    found: Record = {"pred": points.tolist()}
    if scores is not None:
        named = transform.rename(scores.tolist())
        found["score"] = keys.scores_inside(face.record, points, named)
    found["mean"] = face.place(mean).tolist()
    return found


@dataclass
class _Decoding:
    """A face whose crop is being decoded. `stem` is of the file of its maps."""

    face: Face
    transform: Transform
    spec: CropSpec
    pixels: Future[Pixels8]
    stem: Path | None


@dataclass
class _Work:
    """A record on its way, and what it comes to: the keys of its prediction, or an error."""

    item: Item
    decoding: _Decoding | None = None
    found: Record | None = None
    error: RecordError | None = None


def check_decoding(network: Network, batch: int, decoder: str | None) -> None:
    """UsageError where the network's head has no such decoder, or a batch holds no face."""
    known = network.head.decoders
    if decoder is not None and decoder not in known:
        there = f"one of {', '.join(known)}" if known else "this network makes no heatmaps"
        raise UsageError(f"--decode {decoder}: {there}; leave the option out")
    if batch < 1:
        raise UsageError(f"--batch-size {batch}: at least 1")


def default_batch(device: torch.device) -> int:
    """How many faces a network predicts at a time: on a CPU not more than its caches hold."""
    return 16 if device.type == "cpu" else 32


def prepare(network: Network, device: torch.device, precision: str) -> None:
    """Make a network ready, in place, to predict on a device in this precision, and for nothing
    else."""
    fold_batch_norms(network.eval())
    if precision == "bf16":
        round_convolutions(network, torch.bfloat16)
    runtime.to_device(network, device)


class Predictor:
    """Predicts a stream of items with one network, batch by batch."""

    def __init__(
        self,
        network: Network,
        model: ModelSpec,
        *,
        device: torch.device,
        precision: str,
        batch: int,
        workers: int,
        decoder: str | None = None,
        maps: Path | None = None,
        passes: Passes | None = None,
    ) -> None:
        check_decoding(network, batch, decoder)
        prepare(network, device, precision)  # it is this predictor's own from here on
        self.network, self.model = network, model
        self.mean = np.array(model.mean)
        self.device = device
        self.precision = precision
        self.batch = batch
        self.workers = workers
        self.decoder = decoder
        self.maps = maps
        self.passes = passes or resolve(model)
        self.names = FileNames()  # of the maps' files
        self.pending = 0  # faces that are with the network, or done and not yet asked for
        cpu = device.type == "cpu"
        self.streams = min(torch.get_num_threads(), MAX_STREAMS) if cpu else 1
        self.ahead = AHEAD_ON_CPU if cpu else AHEAD

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

        with decoding_threads(self.workers) as pool, _network_threads(self.streams) as streams:
            while True:
                begin(1, wait=not running)
                is_full = len(begun) >= self.batch or (ended and len(begun) > 0)
                if is_full and len(running) < self.streams + QUEUED:
                    batch = [begun.popleft() for _ in range(min(self.batch, len(begun)))]
                    running.append((batch, streams.submit(self._predict, batch)))
                    self.pending += len(batch)
                    continue
                if not running:
                    return
                begin(self.ahead, wait=False)
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
            face = box_maps.reframed(Face.parse(item.record), self.model).focused(self.model.input)
            transform = sample(face, 0)
            stem = None if self.maps is None else self.maps / self.names.unique_name(item.record)
        except RecordError as error:
            work.error = error
            return work
        # crops of its own, so that a face's prediction does not depend on its neighbours
        spec = crop_spec([face], self.model.input, align=self.passes.count > 1)
        pixels = pool.submit(decode_crop, face.image, face.box, spec)
        work.decoding = _Decoding(face, transform, spec, pixels, stem)
        return work

    def _predict(self, batch: list[_Work]) -> None:
        """Wait for the crops, and find what the faces that have one come to."""
        crops, decoded, works = [], [], []
        for work in batch:
            if work.decoding is None:
                continue
            try:
                crops.append(work.decoding.pixels.result())
            except RecordError as error:
                work.error = error
                continue
            decoded.append(work.decoding)
            works.append(work)
        if not works:
            return
        found = self._forward(crops, decoded)
        for row, (work, one) in enumerate(zip(works, decoded, strict=True)):
            scores = None if found.scores is None else found.scores[row]
            try:
                work.found = prediction(
                    one.face, found.points[row], scores, one.transform, self.model.input, self.mean
                )
            except RecordError as error:
                work.error = error
                continue
            if one.stem is not None and found.maps is not None:
                work.found["heatmap"] = self._save_maps(one, found.maps, row, one.stem)

    def _finish(self, work: _Work, fail: Fail) -> None:
        """Give a record what it came to."""
        item = work.item
        if work.error is not None:
            fail(item, work.error)
        elif work.found is not None:
            item.update({}, without=_STALE)
            item.update(work.found, without=PREDICTION)
        if item.failed:
            self._place_mean(item)

    @torch.inference_mode()
    def _forward(self, crops: list[Pixels8], faces: list[_Decoding]) -> Decoded:
        boxes, specs = [one.face.box for one in faces], [one.spec for one in faces]
        alike = len(set(specs)) == 1
        stacks = [np.stack(crops)] if alike else [crop[None] for crop in crops]
        pixels = [send(torch.from_numpy(stack), self.device) for stack in stacks]
        if self.passes.count > 1:  # all of them warp
            pixels = [centred(some) for some in pixels]

        def see(transforms: Sequence[Transform]) -> Tensor:
            if alike:
                return network_input(pixels[0], boxes, transforms, specs[0])
            each = zip(pixels, boxes, transforms, specs, strict=True)
            return torch.cat([network_input(one, [box], [t], s) for one, box, t, s in each])

        return decode(
            self.network,
            self.model,
            see,
            boxes,
            [one.transform for one in faces],
            self.passes,
            precision=self.precision,
            decoder=self.decoder,
        )

    def _place_mean(self, item: Item) -> None:
        """Give a face that failed the mean shape in its box, where it has one, in place of what an
        earlier prediction left: a submission must say something of each face (`kp-eval --fill
        mean`)."""
        item.update({}, without=PREDICTION)
        with suppress(RecordError):
            roll = keys.roll(item.record)
            box = g.upright(keys.box(item.record), roll)
            face = box_maps.reframed(Face(item.record, "", box, [], roll=roll), self.model)
            face = face.focused(self.model.input)
            item.update({"mean": face.place(self.mean).tolist()})

    def _save_maps(self, one: _Decoding, maps: Maps, row: int, stem: Path) -> Record:
        """Write the logits of one face, in the record's order of points; its `heatmap`."""
        z = maps.logits[row].float().cpu().numpy()
        order = [int(i) for i in one.transform.rename(range(len(z)))]
        to_input = g.compose(self.model.input.matrix(one.face.box), one.transform.matrix)
        matrix = g.map_to_file(to_input, self.model.input.size, maps.size)
        return heatmap_files.save(stem, z[order], matrix, maps.sigma)


@contextmanager
def _network_threads(streams: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that run the network, which share those that torch would take for one operation."""
    threads = torch.get_num_threads()
    own = max(1, threads // streams)
    pool = ThreadPoolExecutor(streams, initializer=torch.set_num_threads, initargs=(own,))
    try:
        with closing_pool(pool):
            yield pool
    finally:
        torch.set_num_threads(threads)  # for threads that others begin


def of_scheme(items: Iterable[Item], scheme: str, fail: Fail) -> Iterator[Item]:
    """The items; a face without truth and scheme takes the network's scheme, and one of another
    scheme is a failure."""
    for item in items:
        record = item.record
        if not item.failed and record.get("points") is None and "scheme" not in record:
            item.update({"scheme": scheme})
        if not item.failed and keys.scheme_name(record) != scheme:
            theirs = keys.scheme_name(record)
            problem = f"its scheme is {theirs}, the network's {scheme}"
            fail(item, RecordError("bad_scheme", problem))
        yield item
