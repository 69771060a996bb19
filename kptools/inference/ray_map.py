"""Items mapped by a Ray cluster (https://docs.ray.io), in their order.

Ray schedules, moves and repeats. Here items become chunks, each a task of Ray; a bounded number of
them is under way, and what they come to is given back in order. A task finds what it needs in its
process, which Ray keeps for the next one: so a network is loaded once a process. A task that ends
with its process, or with its node, is done again elsewhere.
"""

import math
import os
import platform
import signal
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TypeAlias

import orjson

from kptools import __version__
from kptools.console import program, report
from kptools.errors import KptoolsError, RecordError
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import as_failure
from kptools.records.writer import line_of

TRIES = 3  # of a chunk whose process or node dies
AHEAD = 4  # chunks under way for each core: while one is done again, the others have work
LOST = "crashed"  # the status of a record whose chunk did so each time
PATIENCE = 10  # seconds for a cluster to answer

Work: TypeAlias = Callable[[list[Item], Fail], Iterable[Item]]


@contextmanager
def cluster(address: str) -> Iterator[None]:
    """Use the Ray cluster at HOST:PORT; `auto`: that of this machine, or of RAY_ADDRESS; `local`:
    one of this machine's cores, which ends with the block. KptoolsError."""
    try:
        import ray
    except ImportError:
        raise KptoolsError("--ray needs the package ray; pip install ray") from None
    _require_answer(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    keys = {"include_dashboard": False} if address == "local" else {}
    terminate = signal.getsignal(signal.SIGTERM)
    # Ray tells of its workers and nodes on stdout, where records go
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR", **keys)
        except (ConnectionError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise KptoolsError(f"--ray {address}: {text[:400]}") from None
        signal.signal(signal.SIGTERM, terminate)  # which Ray has made its own
        try:
            yield
        finally:
            ray.shutdown()


def ray_map(
    work: Work,
    items: Iterable[Item],
    fail: Fail,
    ready: Callable[[], bool],
    *,
    size: int,
    cpus: int = 1,
    gpus: int = 0,
) -> Iterator[Item]:
    """What `work` makes of chunks of `size` items, in order, an item of each item. `ready` says
    whether the next item is there: what is done is not held back for one that is not.

    `work` is a function that can be pickled; a task has so many CPUs and GPUs. Items of a chunk
    that took its process with it `TRIES` times are failures. KptoolsError where the cluster cannot
    do the work."""
    import ray

    # max_calls=0: a process that has a GPU is kept, too
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=TRIES - 1, max_calls=0)(_run)
    source, ended = iter(items), False
    begun: list[Item] = []
    running: deque[tuple[list[Item], Any]] = deque()
    most, counted = 0, -math.inf
    while True:
        if time.monotonic() - counted > 1:  # for a cluster may grow
            _require_answer(ray.get_runtime_context().gcs_address)
            most, counted = AHEAD * _places(ray.nodes(), cpus, gpus), time.monotonic()
        while not ended and len(running) < most and (ready() or not running):
            item = next(source, None)
            ended = item is None
            if item is not None:
                begun.append(item)
            if len(begun) == size or (ended and begun):
                lines = [line_of(one, _mark) for one in begun]
                places = [(one.file, one.line, one.reported) for one in begun]
                reference = task.remote(work, lines, places, os.getcwd(), __version__)
                running.append((begun, reference))
                begun = []
        if not running:
            return
        chunk, reference = running.popleft()
        yield from _finished(chunk, reference, fail)


def _run(
    work: Work, lines: list[bytes], places: list[Any], folder: str, version: str
) -> list[bytes]:
    """What a process of the cluster does with a chunk: its lines, after `work`."""
    here = f"the node {platform.node()}"
    if version != __version__:
        raise KptoolsError(
            f"{here} has kptools {__version__}, and this is {version}; install one on all nodes"
        )
    try:
        os.chdir(folder)
    except OSError as error:
        raise KptoolsError(
            f"{here} cannot enter {folder} ({error.strerror}); --ray needs the same files under "
            "the same paths on all nodes"
        ) from None
    items = [
        Item(orjson.loads(line), file, number, line, reported)
        for line, (file, number, reported) in zip(lines, places, strict=True)
    ]
    return [line_of(item, _mark) for item in work(items, _mark)]


def _mark(item: Item, error: RecordError) -> Item:
    """Make the item a failure, which is reported where all of them come together."""
    item.update(as_failure(error))
    return item


def _finished(chunk: list[Item], reference: Any, fail: Fail) -> Iterator[Item]:
    """The items of a chunk, once it is done; those that failed on the way are reported here."""
    from ray import exceptions

    try:
        lines = _result(reference)
    except exceptions.RayTaskError as error:
        cause = error.cause
        if isinstance(cause, KptoolsError):
            raise KptoolsError(str(cause)) from None
        if isinstance(cause, exceptions.RaySystemError) or "failed to import" in str(cause):
            raise _refused(cause) from None
        raise
    except (
        exceptions.WorkerCrashedError,
        exceptions.NodeDiedError,
        exceptions.OutOfMemoryError,
        exceptions.ObjectLostError,
    ):
        lost = RecordError(
            LOST,
            f"its process died {TRIES} times at the records {chunk[0].where} to {chunk[-1].where}; "
            "one of them may be the cause: try them without --ray",
        )
        for item in chunk:
            yield item if item.failed else fail(item, lost)
        return
    except exceptions.RayError as error:
        raise _refused(error) from None
    for old, line in zip(chunk, lines, strict=True):
        item = Item(orjson.loads(line), old.file, old.line, line, old.reported)
        if item.failed and not item.reported:
            fail(item, RecordError(item.record["status"], str(item.record["error"])))
        yield item


def _result(reference: Any) -> list[bytes]:
    """What a task made, once it is done. KptoolsError where the cluster's head is gone, after which
    Ray would wait a minute, and end this process as if some records had failed."""
    import ray
    from ray.exceptions import GetTimeoutError

    while True:
        try:
            lines: list[bytes] = ray.get(reference, timeout=PATIENCE)
            return lines
        except GetTimeoutError:
            _require_answer(ray.get_runtime_context().gcs_address)


def _refused(error: Exception) -> KptoolsError:
    """What Ray says where a node cannot begin the work, or lost what it made: mostly as it has no
    kptools, or another one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    advice = "each node needs the same Python, ray and kptools"
    return KptoolsError(f"a node of the cluster cannot do the work ({lines[-1][:200]}); {advice}")


def _places(nodes: list[dict[str, Any]], cpus: int, gpus: int) -> int:
    """How many tasks these nodes work on at once; 1 where there is still none that could."""
    places = 0
    for node in nodes:
        if node["Alive"]:
            has = node["Resources"]
            there = has.get("CPU", 0) // cpus
            places += int(min(there, has.get("GPU", 0) // gpus) if gpus else there)
    if not places:
        report(f"{program()}: no node of the cluster has {cpus} CPUs and {gpus} GPUs; waiting")
    return max(1, places)


def _require_answer(address: str) -> None:
    """KptoolsError where nobody listens at HOST:PORT: Ray itself would take minutes to say so."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or "/" in host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise KptoolsError(
            f"--ray {address}: no Ray cluster answers there ({error.strerror or error}); start one "
            "with ray start --head, or use --ray local"
        ) from None
