"""Training: a run reads down this page.

`train` takes faces and gives the best or the last checkpoint. Crops are decoded once: a GPU steps
on the first of them while the cores decode the rest; on a CPU all are decoded before the steps,
which want the same cores. They are warped and coloured on the device, by what their policies sample
for an epoch. On a CPU, the same faces, settings and numbers of threads give the same bits; a run
that was cut off goes on from its state file to the same bits.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch

from kptools import runtime
from kptools.models import build
from kptools.models.checkpoint import Checkpoint
from kptools.models.network import forward
from kptools.pixels.cache import decode_all
from kptools.storage.tensors import tensors_of
from kptools.thread_count import ThreadCount
from kptools.training.ema import EMA
from kptools.training.meter import LossMeter
from kptools.training.optimizer import make_optimizer
from kptools.training.settings import Settings, rate_at, rates
from kptools.training.start import start
from kptools.training.state import State, fingerprint
from kptools.training.training_set import TrainingSet
from kptools.training.validate import rank, validate


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
    on_batch: Callable[[int, int, float], None] = lambda done, total, loss: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Checkpoint:
    """Train a network; raises KptoolsError where a loss or a validation figure is not finite, the
    disk is full, or the weights to start from do not fit. `on_batch` is given how many faces of the
    epoch are done, of at most how many, and their mean loss."""

    # set-up: the network, where it starts from, and how far an earlier run came
    torch.manual_seed(settings.seed)
    model, network, history = start(faces, scheme, settings)
    first = len(history)  # epochs of the run that --init goes on from
    runtime.to_device(network, device)
    criterion = build.criterion(settings.head, settings.loss)
    optimizer = make_optimizer(network, settings)
    ema = EMA(network, settings.average)
    state = State(fingerprint(faces, val, settings), network, ema, optimizer, history)
    state.require_space(state_path, settings.keep)
    if resume and state_path.exists():
        state.load(state_path)

    # data: decoded in the order of the first epoch that is to come
    caches = [some.crops for some in (faces, val) if some is not None]
    decode_all(caches, _order(len(faces), settings.seed, len(state.history)), device)
    steps = faces.steps(settings.batch)
    compiled: Any = torch.compile(network) if compile_network else network

    # the loop
    schedule = rates(settings.schedule)
    for epoch, rate in enumerate(schedule, start=first):
        if epoch < len(state.history):
            continue  # done before the run was cut off
        for cache in caches:
            cache.to_device(device)
        began = time.perf_counter()
        meter = LossMeter(faces, epoch, settings, on_batch)
        torch.manual_seed(_seed(settings.seed, epoch, "dropout"))
        order = _order(len(faces), settings.seed, epoch)
        used = []
        network.train()
        for step, batch in enumerate(faces.batches(order, settings.batch, epoch, device), start=1):
            if len(batch) == 1 < settings.batch:  # no other face has a crop
                build.check_batch(
                    settings.arch, settings.input, 1, settings.options, head=settings.head
                )
            if threads is not None and threads.update() != torch.get_num_threads():
                torch.set_num_threads(threads.count)
            used.append(torch.get_num_threads())
            done = (epoch - first + step / steps) / len(schedule)
            warm_up = step / steps if epoch == first else 1.0
            for group in optimizer.param_groups:
                group["lr"] = warm_up * rate_at(settings, rate, done)
            loss = network.head.loss(
                forward(compiled, batch.input, settings.precision), batch.truth, criterion
            )
            loss.mean.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            ema.update()
            meter.add(loss, batch)
        meter.close()
        in_steps = time.perf_counter() - began

        middle = rate_at(settings, rate, (epoch - first + 0.5) / len(schedule))
        entry: dict[str, Any] = {"epoch": epoch + 1, "lr": middle, "train_loss": meter.mean}
        if val is not None:
            entry |= validate(ema.network, val, criterion, settings, model, device, epoch)
        state.history.append(entry)
        if settings.keep == "best" and min(state.history[first:], key=rank) is entry:
            state.best = tensors_of(ema.network)
        # the log first: an epoch that only the log has is done again, and logged again
        seconds = time.perf_counter() - began
        on_epoch(Epoch(entry, seconds, meter.done / in_steps, sum(used) / max(1, len(used))))
        state.save(state_path)

    weights = state.best or tensors_of(ema.network)
    run = {"settings": asdict(settings), "fingerprint": state.run}
    return Checkpoint(model, weights, state.history, run)


def _order(count: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch takes its faces."""
    generator = torch.Generator().manual_seed(_seed(seed, epoch))
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def _seed(seed: int, epoch: int, what: str = "") -> int:
    digest = blake2b(f"{seed}\0{epoch}{what}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")
