"""The stored crops of a set of faces: decoded once, by threads, and kept."""

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from kptools.errors import RecordError
from kptools.pixels.crop_spec import CropSpec
from kptools.pixels.decode import Pixels8, decode_crop
from kptools.records.face import Face
from kptools.storage import files


class CropCache:
    """The stored crops of N faces: `pixels`, (N, Hs, Ws, C) uint8, in memory or, where `memory` is
    fewer bytes, in an unnamed memory-mapped file.

    The threads of `pool` fill it, once begun, while others work; the row of a face is whole after
    `wait_for` it. `failed(i, error)` is called, by the one who waits, once for each face that has
    no crop.
    """

    def __init__(
        self,
        faces: Sequence[Face],
        spec: CropSpec,
        pool: ThreadPoolExecutor,
        *,
        memory: int,
        failed: Callable[[int, RecordError], None],
    ) -> None:
        width, height = spec.size
        shape = (len(faces), height, width, spec.input.channels)
        self.mapped = math.prod(shape) > memory
        if self.mapped:
            room, what = Path(tempfile.gettempdir()), "the cache of crops"
            with tempfile.TemporaryFile() as file:
                files.reserve_space(file, room, math.prod(shape), what)
                self._rows: Pixels8 = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
        else:
            self._rows = np.empty(shape, dtype=np.uint8)
        self.pixels = torch.from_numpy(self._rows)
        self.spec = spec
        self._faces = faces
        self._pool, self._failed = pool, failed
        self._crops: dict[int, Future[RecordError | None]] = {}
        self._reported: set[int] = set()

    def __len__(self) -> int:
        return len(self._faces)

    def begin(self, order: Iterable[int] | None = None) -> None:
        """Let the threads decode all faces, in this order; once begun, it stays as it is."""
        if not self._crops:
            order = range(len(self._faces)) if order is None else order
            self._crops = {i: self._pool.submit(self._decode, i) for i in order}

    def wait_for(self, index: int) -> bool:
        """Wait until this face is decoded; whether it has a crop."""
        error = self._crops[index].result()
        if error is not None and index not in self._reported:
            self._reported.add(index)
            self._failed(index, error)
        return error is None

    def to_device(self, device: torch.device) -> None:
        """Where all is decoded, move to where a batch is quickest to take: to a GPU that holds the
        crops and has as much room again."""
        if device.type != "cuda" or self.pixels.is_cuda:
            return
        room, _ = torch.cuda.mem_get_info(device)
        if 2 * self.pixels.nbytes < room and all(crop.done() for crop in self._crops.values()):
            self.pixels = self.pixels.to(device)
            self._rows = np.empty(0, dtype=np.uint8)

    def _decode(self, index: int) -> RecordError | None:
        try:
            face = self._faces[index]
            self._rows[index] = decode_crop(face.image, face.box, self.spec)
        except RecordError as error:
            return error
        return None


def decode_all(caches: Sequence[CropCache], order: Iterable[int], device: torch.device) -> None:
    """Let the threads decode these caches, one after the other, the first in this order. On a CPU,
    whose cores the network wants too, it waits for all of them."""
    caches[0].begin(order)
    for cache in caches:
        cache.begin()
    if device.type == "cpu":
        wait_for_all(caches)


def wait_for_all(caches: Sequence[CropCache]) -> None:
    """Let the threads decode all faces, and wait until they are decoded."""
    for cache in caches:
        cache.begin()
        for index in range(len(cache)):
            cache.wait_for(index)
