"""The faces of a run, and the batches that are made of them."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kptools import geometry as g
from kptools import runtime
from kptools.augment import sample, transform
from kptools.pixels import batch
from kptools.pixels.cache import Store
from kptools.records import keys
from kptools.records.keys import Record
from kptools.units import Box


@dataclass
class Faces:
    """The faces of a run: records, and what the loop needs of them. N faces, K points."""

    records: list[Record]
    points: g.Points  # (N, K, 2), file frame, NaN where not annotated
    store: Store
    swap: tuple[int, ...] | None
    boxes: list[Box] = field(init=False)

    def __post_init__(self) -> None:
        self.boxes = [keys.box(record) for record in self.records]

    def __len__(self) -> int:
        return len(self.records)

    def steps(self, size: int) -> int:
        """How many batches there are at most."""
        return max(1, math.ceil((len(self) - 1) / size))

    def batches(self, order: Iterable[int], size: int) -> Iterator[list[int]]:
        """Those of these faces that have a crop, `size` at a time, as they are decoded. A single
        one left over joins the last batch: batch normalisation needs two."""
        ready: list[int] = []
        for index in order:
            if self.store.wait_for(index):
                ready.append(index)
                if len(ready) == size + 2:
                    yield ready[:size]
                    del ready[:size]
        if ready:
            yield ready

    def batch(
        self, picked: list[int], epoch: int, device: torch.device
    ) -> tuple[Tensor, g.Points, list[transform.Draw]]:
        """The network's input (B, C, H, W), its truth (B, K, 2) in fractions of it, and what was
        drawn for each face."""
        layout, pixels = self.store.layout, self.store.pixels
        boxes = [self.boxes[i] for i in picked]
        draws = [sample.draw(self.records[i], epoch) for i in picked]
        indices = runtime.send(torch.tensor(picked), pixels.device)
        x = batch.network_input(runtime.send(pixels[indices], device), boxes, draws, layout)
        truth = []
        for i, box, drawn in zip(picked, boxes, draws, strict=True):
            followed = transform.follow(self.points[i], drawn, self.swap)
            truth.append(g.to_unit(layout.frame.matrix(box), followed, layout.frame.size))
        return x, np.stack(truth), draws
