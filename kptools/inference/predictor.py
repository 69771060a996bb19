"""From stored crops to points in the pixels of each file.

`Predictor` streams: where the network has a device of its own, threads decode the next faces while
it works. On a CPU both want the same cores, and a step whose threads wait for each other suffers
most, so there they take turns. A bounded number of faces is held, and the order is kept.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kptools import geometry as g
from kptools import runtime
from kptools.augment.sample import sample
from kptools.augment.transform import Transform
from kptools.errors import RecordError, UsageError
from kptools.inference import heatmap_files
from kptools.inference.passes import Passes, decode, resolve
from kptools.models.layers.folding import fold_batch_norms
from kptools.models.network import Decoded, Maps, Network
from kptools.pixels.batch import network_input
from kptools.pixels.cache import decoding_threads
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

BATCHES_AHEAD = 2  # decoded while the network works, where it has a device of its own


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
    found["mean"] = g.denormalize(mean, face.box).tolist()
    return found


@dataclass
class _Decoding:
    """A face on its way: its crop is being decoded. `stem` is of the file of its maps."""

    face: Face
    item: Item
    transform: Transform
    spec: CropSpec
    pixels: Future[Pixels8]
    stem: Path | None


def check_decoding(network: Network, batch: int, decoder: str | None) -> None:
    """UsageError where the network's head has no such decoder, or a batch holds no face."""
    known = network.head.decoders
    if decoder is not None and decoder not in known:
        there = f"one of {', '.join(known)}" if known else "this network makes no heatmaps"
        raise UsageError(f"--decode {decoder}: {there}; leave the option out")
    if batch < 1:
        raise UsageError(f"--batch-size {batch}: at least 1")


def prepare(network: Network, device: torch.device) -> None:
    """Make a network ready, in place, to predict on a device, and for nothing else."""
    fold_batch_norms(network.eval())
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
        prepare(network, device)  # it is this predictor's own from here on
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
        self.ahead = 0 if device.type == "cpu" else BATCHES_AHEAD

    def run(self, items: Iterable[Item], fail: Fail, ready: Callable[[], bool]) -> Iterator[Item]:
        """Each item again, in order, with its prediction; `fail` marks those that have none.

        `ready` says whether the next item is there: what is done is not held back for one that is
        not. A batch is full whatever the pace at which items come, so that its bits are the same.
        """
        source = iter(items)
        begun: deque[tuple[Item, _Decoding | None]] = deque()

        def begin(batches: int, *, wait: bool) -> None:
            while len(begun) < batches * self.batch and (wait or ready()):
                item = next(source, None)
                if item is None:
                    return
                begun.append((item, self._begin(item, pool, fail)))

        with decoding_threads(self.workers) as pool:
            while True:
                begin(1, wait=True)
                if not begun:
                    return
                begin(1 + self.ahead, wait=False)
                batch = [begun.popleft() for _ in range(min(self.batch, len(begun)))]
                self._predict([decoding for _, decoding in batch if decoding], fail)
                for item, _ in batch:
                    if item.failed:
                        self._place_mean(item)
                    yield item

    def _begin(self, item: Item, pool: ThreadPoolExecutor, fail: Fail) -> _Decoding | None:
        """Parse a record, and let the threads decode its crop; None where it fails."""
        if item.failed:
            return None
        try:
            face = Face.parse(item.record).focused(self.model.input)
            transform = sample(face, 0)
            stem = None if self.maps is None else self.maps / self.names.unique_name(item.record)
        except RecordError as error:
            fail(item, error)
            return None
        # crops of its own, so that a face's prediction does not depend on its neighbours
        spec = crop_spec([face], self.model.input, align=self.passes.count > 1)
        pixels = pool.submit(decode_crop, face.image, face.box, spec)
        return _Decoding(face, item, transform, spec, pixels, stem)

    def _predict(self, begun: list[_Decoding], fail: Fail) -> None:
        """Wait for the crops, and give the records of those faces that have one their
        predictions."""
        decoded, crops = [], []
        for one in begun:
            try:
                crops.append(one.pixels.result())
                decoded.append(one)
            except RecordError as error:
                fail(one.item, error)
        if not decoded:
            return
        found = self._forward(crops, decoded)
        for row, one in enumerate(decoded):
            scores = None if found.scores is None else found.scores[row]
            try:
                values = prediction(
                    one.face, found.points[row], scores, one.transform, self.model.input, self.mean
                )
            except RecordError as error:
                fail(one.item, error)
                continue
            if one.stem is not None and found.maps is not None:
                values["heatmap"] = self._save_maps(one, found.maps, row, one.stem)
            one.item.update({}, without=_STALE)
            one.item.update(values, without=PREDICTION)

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
            box = self.model.input.focused(keys.box(item.record))
            item.update({"mean": g.denormalize(self.mean, box).tolist()})

    def _save_maps(self, one: _Decoding, maps: Maps, row: int, stem: Path) -> Record:
        """Write the logits of one face, in the record's order of points; its `heatmap`."""
        z = maps.logits[row].float().cpu().numpy()
        order = [int(i) for i in one.transform.rename(range(len(z)))]
        to_input = g.compose(self.model.input.matrix(one.face.box), one.transform.matrix)
        matrix = g.map_to_file(to_input, self.model.input.size, maps.size)
        return heatmap_files.save(stem, z[order], matrix, maps.sigma)


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
