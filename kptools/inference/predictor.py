"""From stored crops to points in the pixels of each file.

`Predictor` streams: where the network has a device of its own, threads decode the next faces while
it works. On a CPU both want the same cores, and a step whose threads wait for each other suffers
most, so there they take turns. A bounded number of faces is held, and the order is kept.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from kptools import geometry as g
from kptools import runtime
from kptools.augment import sample, transform
from kptools.augment.transform import Draw
from kptools.errors import RecordError
from kptools.inference import heatmap_files
from kptools.models.archs import DECODER
from kptools.models.codecs import heatmap
from kptools.models.network import Decoded, decode, forward
from kptools.pixels import batch
from kptools.pixels.cache import decoding_threads
from kptools.pixels.decode import Pixels8, decode_crop
from kptools.pixels.layout import Layout, crop_spec
from kptools.records import keys, policy
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.seen import FileNames
from kptools.records.stream import Stream
from kptools.specs import Frame, Model
from kptools.units import Box

BATCHES_AHEAD = 2  # decoded while the network works, where it has a device of its own


def finish(
    record: Record,
    unit: g.Points,
    scores: g.Points | None,
    drawn: Draw,
    *,
    frame: Frame,
    mean: g.Points,
    swap: tuple[int, ...] | None = None,
) -> Record:
    """Add `pred`, `score` and `mean` to the record, in the pixels of its file, in place of what an
    earlier prediction left. `unit` (K, 2) is in fractions of the input, `mean` (K, 2) in fractions
    of the box; `swap` is needed where the face was drawn flipped."""
    box = keys.box(record)
    seen = frame.to_file(unit, box)
    if not np.isfinite(seen).all():
        raise RecordError("bad_points", "the network gave numbers that are not finite")
    keys.clear_prediction(record, keep=("pred", "score", "mean"))
    record["pred"] = transform.unfollow(seen, drawn, swap).tolist()
    if scores is not None:
        named = scores[list(swap)] if drawn.flipped and swap is not None else scores
        record["score"] = named.tolist()
    else:
        record.pop("score", None)
    record["mean"] = g.place(mean, box).tolist()
    return record


class Predictor:
    """Predicts a stream of items with one network, batch by batch."""

    def __init__(
        self,
        network: nn.Module,
        model: Model,
        *,
        device: torch.device,
        precision: str,
        batch: int,
        workers: int,
        decoder: str = DECODER,
        maps: Path | None = None,
    ) -> None:
        self.network = runtime.to_device(network, device).eval()
        self.model = model
        self.mean = np.array(model.mean)
        self.frame = Frame(model.input, model.margin, model.grey, model.normalization)
        self.device = device
        self.precision = precision
        self.batch = batch
        self.workers = workers
        self.decoder = decoder
        self.maps = maps
        self.names = FileNames()  # of the maps' files
        self.ahead = 0 if device.type == "cpu" else BATCHES_AHEAD

    def run(
        self,
        items: Iterable[Item],
        fail: Callable[[Item, RecordError], Item],
        ready: Callable[[], bool],
    ) -> Iterator[Item]:
        """Each item again, in order, with its prediction; `fail` marks those that have none.

        `ready` tells whether the next item is there: what is done is not held back for one that is
        not. A batch is full whatever the pace at which items come, so that its bits are the same.
        """
        source = iter(items)
        begun: deque[tuple[Item, _Face | None]] = deque()

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
                self._finish(*self._predict([face for _, face in batch if face], fail), fail)
                for item, _ in batch:
                    self._place_mean(item)
                    yield item

    def _begin(
        self, item: Item, pool: ThreadPoolExecutor, fail: Callable[[Item, RecordError], Item]
    ) -> "_Face | None":
        """Check a record, and let the threads decode its crop; none where it fails."""
        if item.failed:
            return None
        try:
            record = item.record
            keys.box(record)
            flips = policy.flips(policy.policy(record))
            swap = policy.swap_table(record) if flips else None
            drawn = sample.draw(record, 0)
            stem = None if self.maps is None else self.maps / self.names.take(record)
        except RecordError as error:
            fail(item, error)
            return None
        # a layout of its own, so that a face's prediction does not depend on its neighbours
        layout = crop_spec([record], self.frame)
        return _Face(item, swap, drawn, layout, pool.submit(decode_crop, record, layout), stem)

    def _predict(
        self, begun: "list[_Face]", fail: Callable[[Item, RecordError], Item]
    ) -> "tuple[list[_Face], Decoded | None]":
        """Wait for crops: the faces that have one, and the network's points for them."""
        faces, pixels = [], []
        for face in begun:
            try:
                pixels.append(face.pixels.result())
                faces.append(face)
            except RecordError as error:
                fail(face.item, error)
        if not faces:
            return [], None
        boxes = [keys.box(face.item.record) for face in faces]
        draws = [face.drawn for face in faces]
        return faces, self._forward(pixels, boxes, draws, [face.layout for face in faces])

    def _finish(
        self,
        faces: "list[_Face]",
        decoded: Decoded | None,
        fail: Callable[[Item, RecordError], Item],
    ) -> None:
        """Give the records of the faces their predictions, in place."""
        if decoded is None:
            return
        for row, face in enumerate(faces):
            record = face.item.record
            unit = decoded.unit[row]
            scores = None if decoded.scores is None else decoded.scores[row]
            try:
                finish(
                    record,
                    unit,
                    scores,
                    face.drawn,
                    frame=self.frame,
                    mean=self.mean,
                    swap=face.swap,
                )
            except RecordError as error:
                fail(face.item, error)
                continue
            if face.stem is not None and decoded.maps is not None:
                self._save_maps(face, decoded.maps[row].float().cpu().numpy(), face.stem)
            face.item.changed = True

    def _place_mean(self, item: Item) -> None:
        """Give a face that failed the mean shape in its box, where it has one, in place of what an
        earlier prediction left: a submission must say something of each face (`kp-eval --fill
        mean`)."""
        if not item.failed:
            return
        if any(key in item.record for key in keys.PREDICTION):
            keys.clear_prediction(item.record)
            item.changed = True
        with suppress(RecordError):
            box = keys.box(item.record)
            item.record["mean"] = g.place(self.mean, box).tolist()
            item.changed = True

    @torch.inference_mode()
    def _forward(
        self, pixels: list[Pixels8], boxes: list[Box], draws: list[Draw], layouts: list[Layout]
    ) -> Decoded:
        if len(set(layouts)) == 1:
            stack = runtime.send(torch.from_numpy(np.stack(pixels)), self.device)
            x = batch.network_input(stack, boxes, draws, layouts[0])
        else:
            each = zip(pixels, boxes, draws, layouts, strict=True)
            x = torch.cat(
                [
                    batch.network_input(
                        runtime.send(torch.from_numpy(p[None]), self.device), [box], [drawn], layout
                    )
                    for p, box, drawn, layout in each
                ]
            )
        output = forward(self.network, x, self.precision)
        return decode(output, self.model, self.decoder)

    def _save_maps(self, face: "_Face", z: heatmap.Maps, stem: Path) -> None:
        """Write the logits of one face and name them in the record; the order is the record's."""
        record = face.item.record
        if face.drawn.flipped and face.swap is not None:
            z = z[list(face.swap)]
        to_input = g.compose(self.frame.matrix(keys.box(record)), face.drawn.matrix)
        matrix = g.map_to_file(to_input, self.model.input, self.model.map_size)
        heatmap_files.save(record, stem, z, matrix, self.model.sigma)


@dataclass
class _Face:
    item: Item
    swap: tuple[int, ...] | None
    drawn: Draw
    layout: Layout
    pixels: Future[Pixels8]
    stem: Path | None  # of the file of its maps


def for_model(stream: Stream, scheme: str) -> Iterator[Item]:
    """The items; a face without truth and scheme takes the network's scheme."""
    from kptools.records import keys

    for item in stream:
        record = item.record
        points = record.get("points")
        if not item.failed and points is None and "scheme" not in record:
            record["scheme"] = scheme
        if not item.failed and keys.scheme_name(record) != scheme:
            theirs = keys.scheme_name(record)
            stream.fail(
                item, RecordError("bad_scheme", f"its scheme is {theirs}, the network's {scheme}")
            )
        yield item
