"""Training: a run reads down this page.

`train` takes faces and gives the best or the last checkpoint. Crops are decoded once: a GPU steps
on the first of them while the cores decode the rest; on a CPU all are decoded before the steps,
which want the same cores. They are warped and coloured on the device, by what their policies sample
for an epoch. On a CPU, the same faces, settings and numbers of threads give the same bits; a run
that was cut off goes on from its state file to the same bits.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kptools import runtime
from kptools.errors import KptoolsError
from kptools.models import build
from kptools.models.checkpoint import Checkpoint
from kptools.models.network import forward
from kptools.pixels.cache import decode_all
from kptools.storage.tensors import tensors_of
from kptools.thread_count import ThreadCount
from kptools.training.distributed import ALONE, Ranks
from kptools.training.ema import EMA
from kptools.training.history import best
from kptools.training.meter import LossMeter
from kptools.training.optimizer import make_optimizer
from kptools.training.settings import Settings, rate_at, rates
from kptools.training.start import start
from kptools.training.state import State, fingerprint
from kptools.training.training_set import TrainingSet
from kptools.training.validate import validate


@dataclass
class Epoch:
    """What one epoch came to. `history` goes into the checkpoint, the rest into the log. Images a
    second are those of the steps, and of the first epoch with the waits for decoding. `threads` are
    those of the arithmetic, in the mean over the steps."""

    history: dict[str, Any]
    seconds: float
    images_per_second: float
    threads: float

    @property
    def log(self) -> dict[str, Any]:
        return {
            **self.history,
            "img_s": round(self.images_per_second, 2),
            "seconds": round(self.seconds, 3),
            "threads": round(self.threads, 2),
        }


def train(
    faces: TrainingSet,
    val: TrainingSet | None,
    scheme: str,
    settings: Settings,
    *,
    device: torch.device,
    state_path: Path,
    resume: bool = False,
    compile_network: bool = False,
    threads: ThreadCount | None = None,
    ranks: Ranks = ALONE,
    on_batch: Callable[[int, int, float], None] = lambda done, total, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Checkpoint:
    """Train a network; raises KptoolsError where a loss or a validation figure is not finite, the
    disk is full, or the weights to start from do not fit. `on_batch` is given how many faces of the
    epoch are done, of at most how many, and their mean loss. Of several `ranks` each has all faces,
    and the first one keeps the state."""

    # set-up: the network, where it starts from, and how far an earlier run came
    torch.manual_seed(settings.seed)
    model, network, history = start(faces, scheme, settings)
    first = len(history)  # epochs of the run that --init goes on from
    runtime.to_device(network, device)
    criterion = build.criterion(settings.head, settings.loss)
    optimizer = make_optimizer(network, settings)
    ema = EMA(network, settings.average)
    state = State(fingerprint(faces, val, settings), network, ema, optimizer, history)
    if ranks.is_first:
        state.require_space(state_path, settings.keep)
    state.take(ranks.broadcast(state.read(state_path) if resume and ranks.is_first else None))

    # data: decoded in the order of the first epoch that is to come
    caches = [some.crops for some in (faces, val) if some is not None]
    order = _order(len(faces), settings.seed, len(state.history))
    decode_all(caches, order, wait=device.type == "cpu" or ranks.count > 1)
    least = max(2, ranks.count)
    steps = faces.steps(settings.batch, least)
    learner = ranks.parallel(network, device)
    compiled: Any = torch.compile(learner) if compile_network else learner

    # the loop
    schedule = rates(settings.schedule)
    for epoch, rate in enumerate(schedule, start=first):
        if epoch < len(state.history):
            continue  # done before the run was cut off
        for cache in caches:
            cache.to_device(device)
        began = time.perf_counter()
        meter = LossMeter(faces, epoch, settings, on_batch)
        torch.manual_seed(_seed(settings.seed, epoch, f"dropout{ranks.rank or ''}"))
        order = _order(len(faces), settings.seed, epoch)
        used = []
        network.train()
        groups = faces.groups(order, settings.batch, least)
        for step, indices in enumerate(groups, start=1):
            parts = _parts(indices, settings, ranks)
            if threads is not None and threads.update() != torch.get_num_threads():
                torch.set_num_threads(threads.count)
            used.append(torch.get_num_threads())
            done = (epoch - first + step / steps) / len(schedule)
            warm_up = step / steps if epoch == first else 1.0
            for group in optimizer.param_groups:
                group["lr"] = warm_up * rate_at(settings, rate, done)
            annotated = faces.annotated(indices)
            total = torch.zeros((), device=device)
            for part in parts:
                batch = faces.batch(part, epoch, device)
                share = faces.annotated(part) / annotated
                with ranks.reducing(learner, last=part is parts[-1]):
                    loss = network.head.loss(
                        forward(compiled, batch.input, settings.precision), batch.truth, criterion
                    )
                    mine: Tensor = loss.mean * (share * ranks.count)  # of which the mean is taken
                    mine.backward()  # type: ignore[no-untyped-call]
                total += share * loss.mean.detach()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.update()
            meter.add(ranks.sum(total), indices)
        meter.close()
        in_steps = time.perf_counter() - began

        middle = rate_at(settings, rate, (epoch - first + 0.5) / len(schedule))
        entry: dict[str, Any] = {"epoch": epoch + 1, "lr": middle, "train_loss": meter.mean}
        if val is not None:
            entry |= validate(ema.network, val, criterion, settings, model, device, epoch, ranks)
        state.history.append(entry)
        if settings.keep == "best" and best(state.history[first:]) is entry:
            state.best = tensors_of(ema.network)
        # the log first: an epoch that only the log has is done again, and logged again
        seconds = time.perf_counter() - began
        on_epoch(Epoch(entry, seconds, meter.done / in_steps, sum(used) / max(1, len(used))))
        if ranks.is_first:
            state.save(state_path)

    weights = state.best or tensors_of(ema.network)
    run = {"settings": settings.described(), "fingerprint": state.run}
    return Checkpoint(model, weights, state.history, run)


def _parts(indices: list[int], settings: Settings, ranks: Ranks) -> list[list[int]]:
    """This rank's share of a batch, in the parts of which the gradients are added up: as many for
    all ranks. KptoolsError where there are too few faces."""
    if len(indices) < ranks.count:
        raise KptoolsError(
            f"{len(indices)} faces cannot be shared by {ranks.count} processes; start fewer"
        )
    own = list(ranks.share(indices))
    if len(own) == 1 < settings.batch and ranks.count == 1:  # no other face has a crop
        build.check_batch(settings.arch, settings.input, 1, settings.options, head=settings.head)
    count = max(1, min(settings.accumulate, len(indices) // (ranks.least_faces * ranks.count)))
    return [own[len(own) * i // count : len(own) * (i + 1) // count] for i in range(count)]


def _order(count: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch takes its faces."""
    generator = torch.Generator().manual_seed(_seed(seed, epoch))
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def _seed(seed: int, epoch: int, what: str = "") -> int:
    digest = blake2b(f"{seed}\0{epoch}{what}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")
