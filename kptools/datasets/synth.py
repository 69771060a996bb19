"""Drawn faces with known points (`kptools.datasets.synthetic`): a dataset that needs no download.

    OUT/000000.jpg  OUT/000001.jpg  ...      one face each, 190 to 289 pixels a side

A coarse 3-D head (a mean shape and its modes, aggregate statistics of annotated faces) is turned,
projected, rasterised and lit; eyes, brows, nostrils and lips are painted on it through the very
points that the record gives, so that these are exact to 0.1 px. Points are in the file frame: the
centre of the top-left pixel is (0, 0). Jaw points that a turned cheek hides slide to its contour,
as annotators of iBUG-300W place them. The box is what a detector would give: square, about brow to
chin, a few percent off, and not made from the points.

Face `index` of `seed` is the same whatever else is made.
"""

import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from functools import partial
from itertools import islice
from pathlib import Path

from kptools.datasets.synthetic.faces import Face, synthesize
from kptools.datasets.synthetic.head import SCHEME
from kptools.errors import KptoolsError
from kptools.records import ray_map
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.shard import WHOLE, Shard
from kptools.storage import files, shared_folder

_AT_A_TIME = 8  # faces that a process draws before it asks for more


def read(
    out: Path,
    count: int,
    seed: int,
    jobs: int = 1,
    shard: Shard = WHOLE,
    on_ray: bool = False,
) -> Iterator[Item]:
    """Draw those of `count` faces that are of the shard into `out`, in order, on `jobs` processes
    (0: one a core), or on the Ray cluster that is used. With one process, a face is drawn as its
    record is asked for; several are a little ahead. Raises KptoolsError."""
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        files.claim_folder(out)
    indices = range(count)[shard.index - 1 :: shard.count]
    if on_ray:
        yield from _on_ray(out, seed, indices)
        return
    jobs = min(jobs or os.cpu_count() or 1, len(indices))
    if jobs <= 1:
        drawn = (_draw(out, seed, index) for index in indices)
    else:
        drawn = _on_processes(out, seed, indices, jobs)
    with closing(drawn):
        for index, record in zip(indices, drawn, strict=True):
            yield Item(record, "synth", index + 1)


def _on_processes(out: Path, seed: int, indices: range, jobs: int) -> Generator[Record]:
    starts = iter(range(0, len(indices), _AT_A_TIME))
    begun: deque[Future[list[Record]]] = deque()
    pool = ProcessPoolExecutor(jobs, initializer=_begin_process, initargs=(os.getpid(),))
    try:
        while True:
            for first in islice(starts, 2 * jobs - len(begun)):
                some = indices[first : first + _AT_A_TIME]
                begun.append(pool.submit(_draw_some, out, seed, some))
            if not begun:
                return
            yield from begun.popleft().result()
    except BrokenProcessPool:
        raise KptoolsError(
            "a process that draws faces was killed, perhaps because memory ran out; try --jobs 1"
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def _on_ray(out: Path, seed: int, indices: range) -> Iterator[Item]:
    begun = (Item(_start(out, seed, index), "synth", index + 1) for index in indices)
    with shared_folder.marked(out) as mark:
        work = partial(_draw_items, out, seed, mark)
        for item in ray_map.ray_map(work, begun, ray_map.mark_failed, size=_AT_A_TIME):
            yield Item(item.record, item.file, item.line)


def _draw_items(
    out: Path, seed: int, mark: Path, items: list[Item], fail: Fail
) -> Iterator[list[Item]]:
    """On a node of a Ray cluster."""
    shared_folder.require_marked(mark)
    for item in items:
        yield [item.derive(_draw(out, seed, item.line - 1, shared_folder.own_part))]


def _begin_process(parent: int) -> None:
    """Of a process that draws: the parent alone answers ^C and holds the pipe to the reader, and
    if it is killed, this process ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 1)
    os.close(nothing)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _draw_some(out: Path, seed: int, indices: range) -> list[Record]:
    return [_draw(out, seed, index) for index in indices]


def _start(out: Path, seed: int, index: int) -> Record:
    name = f"{index:06d}"
    return {"image": f"{out}/{name}.jpg", "id": f"{seed}-{name}", "group": f"{seed}-{name}"}


def _draw(
    out: Path, seed: int, index: int, part_of: Callable[[Path], Path] = files.part_of
) -> Record:
    """Draw a face and save it: its record. Raises KptoolsError."""
    face = synthesize(seed, index)
    record = _start(out, seed, index)
    path = Path(record["image"])
    with _writing(path):
        _save(face, path, part_of(path))
    return record | {
        "size": list(face.image.size),
        "box": list(face.box),
        "box_source": "detector:synth",
        "points": face.points.tolist(),
        "visible": face.visible.astype(int).tolist(),
        "scheme": SCHEME,
        "split": "train",
    }


def _save(face: Face, path: Path, part: Path) -> None:
    """Whole or not at all. Not `files.write_whole`: its fsync can take half as long as drawing."""
    try:
        face.image.save(part, "JPEG", quality=face.quality)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise KptoolsError(f"cannot write {path}: {reason}; make room there") from None
