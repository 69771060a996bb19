"""Items mapped by a Ray cluster (https://docs.ray.io), in their order.

Ray schedules, moves and repeats. Here items become chunks, each a task of Ray; a bounded number of
them is under way, and what they come to is given back in order. A task finds what it needs in its
process, which Ray keeps for the next one: so a network is loaded once a process. A task that ends
with its process, or with its node, is done again elsewhere. So may a task whose node only seems to
be lost: what tasks write goes by `storage.shared_folder`.
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
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn, TypeAlias

import orjson

from kptools import __version__
from kptools.console import program, report
from kptools.errors import KptoolsError, RecordError
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Record, as_failure
from kptools.records.writer import line_of
from kptools.schemes import catalog
from kptools.schemes.scheme import Scheme

TRIES = 3  # of a chunk whose process or node dies
AHEAD = 4  # chunks under way for each core: while one is done again, the others have work
LOST = "crashed"  # the status of a record whose chunk did so each time
PATIENCE = 10  # seconds for a cluster to answer

# For each item of a chunk, in order, the items that come of it
Work: TypeAlias = Callable[[list[Item], Fail], Iterable[Iterable[Item]]]
# An item's line, or its record where JSON cannot hold that, as a name that is no UTF-8
Packed: TypeAlias = bytes | Record


@dataclass(frozen=True)
class Command:
    """What each task is to know of the command: where it runs, its kptools, one's own schemes."""

    folder: str
    version: str
    schemes: tuple[Scheme, ...]


@contextmanager
def cluster(address: str | None) -> Iterator[None]:
    """Use the Ray cluster at HOST:PORT; `auto`: that of this machine, or of RAY_ADDRESS; `local`:
    one of this machine's cores, which ends with the block; None: none. SIGTERM ends the block, and
    then does what it did before. KptoolsError."""
    if address is None:
        yield
        return
    try:
        import ray
    except ImportError:
        raise KptoolsError("--ray needs the package ray; pip install ray") from None
    _require_answer(os.environ.get("RAY_ADDRESS", "") if address == "auto" else address)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # of tasks whose results nobody waits for any more, as where the reader has gone
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    keys = {"include_dashboard": False} if address == "local" else {}
    handler, terminated = signal.getsignal(signal.SIGTERM), False

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal terminated
        terminated = True
        raise KeyboardInterrupt  # no other exception gets through ray.get

    def terminate() -> None:
        if callable(handler):
            handler(signal.SIGTERM, None)

    # Ray tells of its workers and nodes on stdout, where records go
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        try:
            ray.init(address, log_to_driver=False, logging_level="ERROR", **keys)
        except (ConnectionError, ValueError, RuntimeError) as error:
            text = " ".join(str(error).split())
            raise KptoolsError(f"--ray {address}: {text[:400]}") from None
        except SystemExit:  # of the handler that Ray has for SIGTERM
            terminate()
            raise
        signal.signal(signal.SIGTERM, interrupt)
        try:
            yield
        except KeyboardInterrupt:
            if terminated:
                terminate()
            raise
        finally:
            ray.shutdown()
            signal.signal(signal.SIGTERM, handler)


def ray_map(
    work: Work,
    items: Iterable[Item],
    fail: Fail,
    ready: Callable[[], bool] = lambda: True,
    *,
    size: int,
    cpus: int = 1,
    gpus: int = 0,
) -> Iterator[Item]:
    """What `work` makes of chunks of `size` items, in order. `ready` says whether the next item is
    there: what is done is not held back for one that is not.

    `work` is a function that can be pickled; a task has so many CPUs and GPUs. Items of a chunk
    that took its process with it `TRIES` times are failures. KptoolsError where the cluster cannot
    do the work."""
    import ray

    # max_calls=0: a process that has a GPU is kept, too
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=TRIES - 1, max_calls=0)(_run)
    command = Command(os.getcwd(), __version__, catalog.own())
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
                places = [(one.file, one.line, one.reported) for one in begun]
                reference = task.remote(work, list(map(_packed, begun)), places, command)
                running.append((begun, reference))
                begun = []
        if not running:
            return
        chunk, reference = running.popleft()
        yield from _finished(chunk, reference, fail)


def _run(
    work: Work, chunk: list[Packed], places: list[Any], command: Command
) -> list[list[Packed]]:
    """What a process of the cluster makes of the items of a chunk."""
    here = f"the node {platform.node()}"
    if command.version != __version__:
        raise KptoolsError(
            f"{here} has kptools {__version__}, and this is {command.version}; install one on all "
            "nodes"
        )
    try:
        os.chdir(command.folder)
    except OSError as error:
        raise KptoolsError(
            f"{here} cannot enter {command.folder} ({error.strerror}); --ray needs the same files "
            "under the same paths on all nodes"
        ) from None
    for scheme in command.schemes:
        catalog.register(scheme, "the command")
    items = [_unpacked(one, *place) for one, place in zip(chunk, places, strict=True)]
    return [list(map(_packed, made)) for made in work(items, mark_failed)]


def mark_failed(item: Item, error: RecordError) -> Item:
    """Make the item a failure, which is reported elsewhere."""
    item.update(as_failure(error))
    return item


def _packed(item: Item) -> Packed:
    def refuse(item: Item, error: RecordError) -> NoReturn:
        raise error

    try:
        return line_of(item, refuse)
    except RecordError:  # which the command reports when it writes the record
        return item.record


def _unpacked(packed: Packed, file: str, line: int, reported: bool) -> Item:
    if isinstance(packed, bytes):
        return Item(orjson.loads(packed), file, line, packed, reported)
    return Item(packed, file, line, None, reported)


def _finished(chunk: list[Item], reference: Any, fail: Fail) -> Iterator[Item]:
    """What came of a chunk, once it is done; those that failed on the way are reported here."""
    from ray import exceptions

    try:
        found = _result(reference)
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
        lost = RecordError(LOST, f"its process died {TRIES} times{_cause(chunk)} without --ray")
        for item in chunk:
            yield item if item.failed else fail(item, lost)
        return
    except exceptions.RayError as error:
        raise _refused(error) from None
    for old, made in zip(chunk, found, strict=True):
        for one in made:
            item = _unpacked(one, old.file, old.line, old.reported)
            if item.failed and not item.reported:
                fail(item, RecordError(item.record["status"], str(item.record["error"])))
            yield item


def _cause(chunk: list[Item]) -> str:
    """What to say of a chunk that took its process with it."""
    if len(chunk) == 1:
        return "; try it"
    return (
        f" at the records {chunk[0].where} to {chunk[-1].where}; one of them may be the cause: "
        "try them"
    )


def _result(reference: Any) -> list[list[Packed]]:
    """What a task made, once it is done. KptoolsError where the cluster's head is gone, after which
    Ray would wait a minute, and end this process as if some records had failed."""
    import ray
    from ray.exceptions import GetTimeoutError

    while True:
        try:
            found: list[list[Packed]] = ray.get(reference, timeout=PATIENCE)
            return found
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
