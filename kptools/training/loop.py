"""Training: a run reads down this page.

`train` takes faces and gives the best or the last checkpoint. Crops are decoded once: a GPU steps
on the first of them while the cores decode the rest; on a CPU all are decoded before the steps,
which want the same cores. They are warped and coloured on the device, by what their policies draw
for an epoch. On a CPU, the same faces and settings give the same bits; a run that was cut off goes
on from its state file to the same bits.
"""

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kptools import geometry as g
from kptools import runtime
from kptools.errors import KptoolsError
from kptools.models import build, network
from kptools.models.checkpoint import Checkpoint
from kptools.records import keys
from kptools.specs import Frame, Model
from kptools.storage.tensors import tensors_of
from kptools.training.average import Average
from kptools.training.settings import Settings, rates
from kptools.training.start import describe, spread, start_from
from kptools.training.state import State, fingerprint
from kptools.training.training_set import Faces
from kptools.training.validate import diverged, evaluate, output_loss, rank


@dataclass
class Epoch:
    """What one epoch came to. `history` goes into the checkpoint, the rest into the log. Images a
    second are those of the steps, and of the first epoch with the waits for decoding."""

    history: dict[str, Any]
    seconds: float
    images_per_second: float

    @property
    def log(self) -> dict[str, Any]:
        return {
            **self.history,
            "img_s": round(self.images_per_second, 2),
            "seconds": round(self.seconds, 3),
        }


@dataclass
class Progress:
    """How the loop tells where it is: after each batch (done, of at most, loss) and each epoch."""

    batch: Callable[[int, int, float], None] = lambda done, total, loss: None
    epoch: Callable[[Epoch], None] = lambda epoch: None


def train(
    faces: Faces,
    val: Faces | None,
    scheme: str,
    settings: Settings,
    *,
    device: torch.device,
    state_path: Path,
    resume: bool = False,
    compile_network: bool = False,
    progress: Progress | None = None,
) -> Checkpoint:
    """Train a network; raises KptoolsError where a loss or a validation figure is not finite, the
    disk is full, or the weights to start from do not fit."""
    progress = progress or Progress()
    frame = Frame(settings.input, settings.margin, settings.grey, settings.normalization)

    # set-up: the network, where it starts from, and how far an earlier run came
    torch.manual_seed(settings.seed)
    model = describe(faces, scheme, settings)
    network = build.build(
        settings.arch,
        model.count,
        settings.input,
        weights=settings.weights,
        width=settings.width,
        stride=settings.stride,
    )
    history: list[dict[str, Any]] = []
    if settings.init:
        history = start_from(network, settings.init, model)
    elif not model.heatmap:
        build.start_at(network, *spread(faces, frame))
    runtime.to_device(network, device)
    state = State(
        run=fingerprint(faces, val, settings),
        network=network,
        average=Average(network, settings.average),
        optimizer=torch.optim.Adam(network.parameters(), fused=True),
        history=history,
    )
    first = len(history)  # epochs of the run that --init goes on from
    state.need_room(state_path, settings.keep)
    if resume and state_path.exists():
        state.load(state_path)
    stores = [some.store for some in (faces, val) if some is not None]
    faces.store.begin(_order(len(faces), settings.seed, len(state.history)))
    for store in stores:
        store.begin()
    if device.type == "cpu":
        for store in stores:
            store.finish()
    run_step = _Step(torch.compile(network) if compile_network else network, settings, model)

    # the loop
    for epoch, rate in enumerate(rates(settings.schedule), start=first):
        if epoch < len(state.history):
            continue  # done before the run was cut off
        for store in stores:
            store.settle(device)
        began = time.perf_counter()
        loss, count = _epoch(state, run_step, faces, epoch, rate, epoch == first, device, progress)
        stepped = time.perf_counter() - began

        entry: dict[str, Any] = {"epoch": epoch + 1, "lr": rate, "train_loss": loss}
        if val is not None:
            entry |= evaluate(state.average.network, val, settings, model, device, epoch)
        state.history.append(entry)
        if settings.keep == "best" and min(state.history[first:], key=rank) is entry:
            state.best = tensors_of(state.average.network)
        # the log first: an epoch that only the log has is done again, and logged again
        progress.epoch(Epoch(entry, time.perf_counter() - began, count / stepped))
        state.save(state_path)

    weights = state.best or tensors_of(state.average.network)
    run = {"settings": asdict(settings), "fingerprint": state.run}
    return Checkpoint(model, weights, state.history, run)


def _epoch(
    state: State,
    run_step: "_Step",
    faces: Faces,
    epoch: int,
    rate: float,
    warm_up: bool,
    device: torch.device,
    progress: Progress,
) -> tuple[float, int]:
    """One pass over the faces, in an order drawn for this epoch; the mean loss, and of how many.
    With `warm_up` the rate rises to `rate` in equal steps, as many as there are where every face
    has a crop."""
    settings = run_step.settings
    torch.manual_seed(_seed(settings.seed, epoch, "dropout"))
    order = _order(len(faces), settings.seed, epoch)
    steps = faces.steps(settings.batch)
    state.network.train()
    total, done = 0.0, 0
    waiting: tuple[Tensor, list[int]] | None = None  # a step's loss is read while the next one runs
    for step, picked in enumerate(chain(faces.batches(order, settings.batch), [None]), start=1):
        current = None
        if picked is not None:
            if len(picked) == 1 < settings.batch:  # all that there are
                _try_out(settings, 1)
            for group in state.optimizer.param_groups:
                group["lr"] = rate * step / steps if warm_up else rate
            x, truth, _ = faces.batch(picked, epoch, device)
            loss = run_step(x, truth)
            state.optimizer.step()
            state.optimizer.zero_grad(set_to_none=True)
            state.average.update()
            current = (loss.detach(), picked)
        if waiting is not None:
            value = float(waiting[0])
            if not math.isfinite(value):
                names = ", ".join(keys.identity(faces.records[i]) for i in waiting[1])
                raise diverged(f"the loss became {value}", epoch, settings, names)
            total += value * len(waiting[1])
            done += len(waiting[1])
            progress.batch(done, len(faces), total / done)
        waiting = current
    if not done:
        raise KptoolsError("no image of the training records could be read")
    return total / done, done


def _order(count: int, seed: int, epoch: int) -> list[int]:
    """The order in which an epoch takes its faces."""
    generator = torch.Generator().manual_seed(_seed(seed, epoch))
    order: list[int] = torch.randperm(count, generator=generator).tolist()
    return order


def _try_out(settings: Settings, batch: int) -> None:
    """UsageError where batches of this size are none for the network: batch normalisation."""
    s = settings
    build.try_out(s.arch, 1, s.input, batch, width=s.width, stride=s.stride)


@dataclass
class _Step:
    """Forward and backward of one batch."""

    network: Any  # an nn.Module, or what torch.compile made of one
    settings: Settings
    model: Model

    def __call__(self, x: Tensor, truth: g.Points) -> Tensor:
        output = network.forward(self.network, x, self.settings.precision)
        loss = output_loss(output, truth, self.settings, self.model)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss


def _seed(seed: int, epoch: int, what: str = "") -> int:
    digest = blake2b(f"{seed}\0{epoch}{what}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")
