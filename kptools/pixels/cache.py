"""The stored crops of a set of faces: decoded once, by threads, and kept."""

import math
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
import torch

from kptools.errors import KptoolsError, RecordError
from kptools.pixels.crop_folder import CropFolder, StoredCrops
from kptools.pixels.crop_spec import CropSpec
from kptools.pixels.decode import Pixels8, decode_crop
from kptools.records.face import Face
from kptools.storage import files


class Peers(Protocol):
    """The processes that a cache is filled by, and which of those of this machine this one is
    (`kptools.training.distributed.Ranks`)."""

    @property
    def rank(self) -> int: ...
    @property
    def local_rank(self) -> int: ...
    @property
    def local_count(self) -> int: ...
    def gather(self, value: Any) -> list[Any]: ...
    def shared_file(self, size: int, what: str) -> IO[bytes]: ...


class CropCache:
    """The stored crops of N faces: `pixels`, (N, Hs, Ws, C) uint8, in memory or, where `memory` is
    fewer bytes, in an unnamed memory-mapped file.

    The threads of `pool` fill it, once begun, while others work; the row of a face is whole after
    `wait_for` it. `failed(i, error)` is called, by the one who waits, once for each face that has
    no crop. With `peers` the processes of a machine share the mapped file, and each decodes its
    part: all faces are decoded once `wait_for_all` has returned, and not before. In a `folder` the
    file is kept for other runs, and one that is there already is not decoded again.
    """

    def __init__(
        self,
        faces: Sequence[Face],
        spec: CropSpec,
        pool: ThreadPoolExecutor,
        *,
        memory: int,
        failed: Callable[[int, RecordError], None],
        peers: Peers | None = None,
        folder: CropFolder | None = None,
    ) -> None:
        width, height = spec.size
        shape = (len(faces), height, width, spec.input.channels)
        stored = _stored(folder, faces, spec, math.prod(shape), peers)
        self.mapped = stored is not None or peers is not None or math.prod(shape) > memory
        if stored is not None:
            self._rows: Pixels8 = _mapped(stored, shape)
        elif self.mapped:
            with _file(math.prod(shape), peers) as file:
                self._rows = np.memmap(file, dtype=np.uint8, mode="r+", shape=shape)
        else:
            self._rows = np.empty(shape, dtype=np.uint8)
        self.pixels = torch.from_numpy(self._rows)
        self.spec = spec
        self._faces = faces
        self._pool, self._failed, self._peers = pool, failed, peers
        self._crops: dict[int, Future[RecordError | None]] = {}
        self._stored = stored
        self._kept: Future[None] | None = None
        self._errors: dict[int, RecordError] | None = None  # of all peers, in the end
        if stored is not None and stored.errors is not None:
            self._errors = {i: RecordError(*error) for i, error in stored.errors.items()}
        self._is_agreed = peers is None  # whether all peers know of all errors
        self._reported: set[int] = set()

    def __len__(self) -> int:
        return len(self._faces)

    def begin(self, order: Iterable[int] | None = None) -> None:
        """Let the threads decode all faces, in this order; once begun, it stays as it is."""
        if not self._crops and self._errors is None:
            own = list(range(len(self._faces)) if order is None else order)
            if self._peers is not None:
                own = own[self._peers.local_rank :: self._peers.local_count]
            self._crops = {i: self._pool.submit(self._decode, i) for i in own}
            if self._peers is None:
                self._kept = self._pool.submit(self._keep)  # starts when all others have

    def wait_for_all(self) -> None:
        """Let the threads decode all faces, and wait until they are decoded."""
        self.begin()
        if self._peers is not None and not self._is_agreed:
            parts = self._peers.gather(self._plain_errors())
            found = {i: error for part in parts for i, error in part.items()}
            self._errors = {i: RecordError(*error) for i, error in found.items()}
            self._is_agreed = True
            self._keep()  # all have mapped the file
        if self._kept is not None:
            self._kept.result()
        for index in range(len(self)):
            self.wait_for(index)

    def wait_for(self, index: int) -> bool:
        """Wait until this face is decoded; whether it has a crop."""
        decoded = self._errors
        error = self._crops[index].result() if decoded is None else decoded.get(index)
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

    def _plain_errors(self) -> dict[int, tuple[str, str]]:
        """By face that has no crop, the status and why, once this process has decoded its own."""
        own = self._errors
        if own is None:
            found = {i: crop.result() for i, crop in self._crops.items()}
            own = {i: error for i, error in found.items() if error is not None}
        return {i: (error.status, str(error)) for i, error in own.items()}

    def _keep(self) -> None:
        """Keep the file for other runs, once all of it is decoded."""
        if self._stored is not None and self._stored.handle is not None:
            self._stored.finish(self._plain_errors())

    def _decode(self, index: int) -> RecordError | None:
        try:
            face = self._faces[index]
            self._rows[index] = decode_crop(face.image, face.box, self.spec)
        except RecordError as error:
            return error
        return None


def _stored(
    folder: CropFolder | None,
    faces: Sequence[Face],
    spec: CropSpec,
    size: int,
    peers: Peers | None,
) -> StoredCrops | None:
    """The file of the folder for these faces. Of peers the first one of a machine opens it, and the
    others use the same."""
    if folder is None or not size:
        return None
    if peers is None:
        return folder.open(faces, spec, size)
    stored, problem = None, ""
    if peers.local_rank == 0:
        try:
            stored = folder.open(faces, spec, size)
        except KptoolsError as error:
            problem = str(error)
    found = peers.gather((stored and (stored.path, stored.errors), problem))
    for _, text in found:
        if text:
            raise KptoolsError(text)
    of_first, _ = found[peers.rank - peers.local_rank]
    return stored if peers.local_rank == 0 else of_first and StoredCrops(*of_first)


def _mapped(stored: StoredCrops, shape: tuple[int, ...]) -> Pixels8:
    """A file that is whole stays as it is, whatever is written to its pixels. KptoolsError."""
    mode: Literal["c", "r+"] = "c" if stored.is_whole else "r+"
    try:
        return np.memmap(stored.mapped, np.uint8, mode, shape=shape)
    except FileNotFoundError:  # another run made room
        raise KptoolsError(f"{stored.mapped} was removed by another run; run again") from None


def _file(size: int, peers: Peers | None) -> IO[bytes]:
    """A file without a name for so many bytes. KptoolsError where the disk has no room."""
    what = "the cache of crops"
    if peers is not None:
        return peers.shared_file(size, what)
    file = tempfile.TemporaryFile()  # noqa: SIM115
    files.reserve_space(file, Path(tempfile.gettempdir()), size, what)
    file.truncate(size)
    return file


def decode_all(caches: Sequence[CropCache], order: Iterable[int], *, wait: bool) -> None:
    """Let the threads decode these caches, one after the other, the first in this order; with
    `wait`, until all are decoded."""
    caches[0].begin(order)
    for cache in caches:
        cache.begin()
    if wait:
        wait_for_all(caches)


def wait_for_all(caches: Sequence[CropCache]) -> None:
    """Let the threads decode all faces, and wait until they are decoded."""
    for cache in caches:
        cache.wait_for_all()
