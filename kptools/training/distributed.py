"""Training on several processes, which torchrun starts. This file and `shared_norm` alone know
torch.distributed.

Each process, a rank, holds the whole network and takes its share of each batch. The gradients are
summed, and so are the statistics of batch normalisation, so that the curve is that of one process.
Rank 0 reads the records, and writes the checkpoint, the state and the log.

A process that nobody started so is alone: its one rank does the work of all.
"""

import os
import signal
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor, nn

from kptools.errors import KptoolsError, UsageError
from kptools.storage import files
from kptools.training.shared_norm import share_statistics

T = TypeVar("T")
PATIENCE = timedelta(hours=12)  # that a rank waits for the first one to read, or others to decode
# What the errors of an exchange with a process that has gone have in them, besides DistError
_GONE = ("connection closed by peer", "connection reset by peer", "broken pipe")
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True)
class Ranks:
    """The processes of a run, and which of them this one is. `local` are those of its machine."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    local_count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this process reads, writes and reports."""
        return self.rank == 0

    @property
    def least_faces(self) -> int:
        """How many faces a rank has to have of a batch: batch normalisation needs two in all."""
        return 2 if self.count == 1 else 1

    def share(self, values: Sequence[T]) -> Sequence[T]:
        """This rank's part of them."""
        return values[self.rank :: self.count]

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in their order; all ranks must ask for it."""
        if self.count == 1:
            return [value]
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, value)
        return found

    def collect(self, values: list[T]) -> list[T]:
        """The values of all, in the order in which `share` dealt them out: of each rank those that
        came of its share, one for one. All ranks must ask for it."""
        each = self.gather(values)
        most = max(map(len, each))
        return [some[i] for i in range(most) for some in each if i < len(some)]

    def broadcast(self, value: T) -> T:
        """The first rank's value; all ranks must ask for it."""
        if self.count == 1:
            return value
        box = [value if self.is_first else None]
        dist.broadcast_object_list(box, src=0)
        return box[0]  # type: ignore[return-value]

    def sum(self, value: Tensor) -> Tensor:
        """The sum of a tensor over all ranks, in place."""
        if self.count > 1:
            dist.all_reduce(value)
        return value

    def parallel(self, network: nn.Module, device: torch.device) -> nn.Module:
        """What to call in training in place of the network: the mean of the ranks' gradients is
        then each rank's. Its batch normalisation, from here on, is over the batch of all ranks."""
        if self.count == 1:
            return network
        share_statistics(network, device)
        devices = [torch.cuda.current_device()] if device.type == "cuda" else None
        with warnings.catch_warnings():  # the option's new name is not in every torch
            warnings.simplefilter("ignore", FutureWarning)
            return nn.parallel.DistributedDataParallel(
                network, device_ids=devices, broadcast_buffers=False
            )

    def reducing(self, network: nn.Module, *, last: bool) -> AbstractContextManager[None]:
        """Where a backward pass is made: the gradients are exchanged in the last one of a step."""
        if self.count == 1 or last:
            return nullcontext()
        assert isinstance(network, nn.parallel.DistributedDataParallel)
        return network.no_sync()

    def shared_file(self, size: int, what: str) -> IO[bytes]:
        """A file without a name, of `size` bytes, that the processes of this machine have in
        common. KptoolsError where the disk has no room."""
        name = ""
        try:
            if self.local_rank == 0:
                file = tempfile.NamedTemporaryFile(prefix="kptools-", delete=False)  # noqa: SIM115
                name = os.path.abspath(file.name)
                with file:
                    files.reserve_space(file, Path(name).parent, size, what)
                    file.truncate(size)
            first = self.rank - self.local_rank  # torchrun numbers the ranks machine by machine
            handle = open(self.gather(name)[first], "r+b")  # noqa: SIM115
            self.gather(None)  # all have it open
        finally:
            if name:
                os.unlink(name)
        return handle


ALONE = Ranks()


def is_started() -> bool:
    """Whether torchrun, or what sets the same variables, started this process."""
    return all(name in os.environ for name in (*_VARIABLES, "MASTER_ADDR", "MASTER_PORT"))


def is_first() -> bool:
    """Whether this process is alone or the first one, as its environment says."""
    return not is_started() or int(os.environ["RANK"]) == 0


def restarts(ranks: Ranks) -> tuple[int, int]:
    """How often torchrun has started this run again, and how often it may. All ranks must ask: each
    machine counts its own."""
    if not is_started():
        return 0, 0
    names = ("TORCHELASTIC_RESTART_COUNT", "TORCHELASTIC_MAX_RESTARTS")
    counts = ranks.gather([int(os.environ.get(name, "0")) for name in names])
    return max(done for done, _ in counts), max(most for _, most in counts)


def device_of_rank(name: str) -> str:
    """The device to ask for where `name` (auto, cpu, cuda, mps) was asked for; of GPUs that of this
    rank is the current one from here on. UsageError where the ranks cannot work on it together."""
    if not is_started():
        return name
    if name in ("auto", "cuda") and torch.cuda.is_available():
        here, there = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > there:
            raise UsageError(f"{here} processes for {there} GPUs; each needs its own")
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        return name
    if name == "mps":
        raise UsageError("--device mps: several processes cannot train on it; leave torchrun out")
    return "cpu" if name == "auto" else name


def _fresh_store() -> tuple[Any, int, int]:
    """What the ranks find each other by, with this one's number and how many there are.

    torchrun may keep one store for all starts of a run, and a rank that came back sooner than
    another would read where that was before. So the first rank chooses a name for this start, and
    gives it to each rank that asks, by a question that nobody asked before."""
    from torch.distributed.rendezvous import rendezvous

    store, rank, count = next(rendezvous("env://", timeout=PATIENCE))
    name = uuid4().hex
    if rank:
        store.set(f"question/{rank}", name)
        name = store.get(f"answer/{name}").decode()
        store.set(f"{name}/{rank}", "")
    missing = set(range(1, count)) if rank == 0 else set()
    while missing:
        for other in sorted(missing):
            if store.check([f"{name}/{other}"]):
                missing.remove(other)
            elif store.check([f"question/{other}"]):
                store.set(f"answer/{store.get(f'question/{other}').decode()}", name)
        time.sleep(0.02)
    return dist.PrefixStore(name, store), rank, count  # type: ignore[attr-defined]


@contextmanager
def join(device: torch.device) -> Iterator[Ranks]:
    """The processes that torchrun started, joined while the block runs. KptoolsError where one of
    them has gone: torchrun stops the others, or starts all again."""
    if not is_started():
        yield ALONE
        return
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    # Python's own handler would wait for an exchange to end, which may be never
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    store, rank, count = _fresh_store()
    dist.init_process_group(backend, timeout=PATIENCE, store=store, rank=rank, world_size=count)
    ranks = Ranks(*(int(os.environ[name]) for name in _VARIABLES))
    try:
        yield ranks
    except RuntimeError as error:  # to leave the others in order would be to wait for them
        text = " ".join(str(error).split())
        if any(some in text.lower() for some in _GONE):
            if not ranks.is_first:  # the first one says what to do, or why it has gone
                raise KptoolsError(f"process {rank}: another one of the run has gone") from None
            raise KptoolsError(
                "another process of the run has gone; the last epoch's state is kept, and "
                "--resume goes on from it"
            ) from None
        raise
    dist.destroy_process_group()
