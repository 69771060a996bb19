"""Training: a run reads down this page.

`train` takes faces and gives the best or the last checkpoint. Crops are decoded once: a GPU steps
on the first of them while the cores decode the rest; on a CPU all are decoded before the steps,
which want the same cores. They are warped and coloured on the device, by what their policies draw
for an epoch. On a CPU, the same faces and settings give the same bits; a run that was cut off goes
on from its state file to the same bits.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
from torch import Tensor, nn

from kptools import (
    augment,
    checkpoint,
    crops,
    heatmaps,
    inference,
    losses,
    machine,
    models,
    records,
    scores,
)
from kptools import geometry as g
from kptools.averaging import Average
from kptools.checkpoint import Checkpoint
from kptools.config import Model, Normalization, Settings, rates
from kptools.crops import Frame
from kptools.errors import KptoolsError, RecordError
from kptools.metrics import Tally
from kptools.models import backbones
from kptools.records import Record
from kptools.state import State
from kptools.units import Box

MIN_SPREAD = 0.01  # fraction of the input: points that hardly move are still to be learnt
AUXILIARY = 0.4  # weight of Inception-v3's auxiliary output


@dataclass
class Faces:
    """The faces of a run: records, and what the loop needs of them. N faces, K points."""

    records: list[Record]
    points: g.Points  # (N, K, 2), file frame, NaN where not annotated
    store: crops.Store
    swap: tuple[int, ...] | None
    boxes: list[Box] = field(init=False)

    def __post_init__(self) -> None:
        self.boxes = [records.box(record) for record in self.records]

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
    ) -> tuple[Tensor, g.Points, list[augment.Draw]]:
        """The network's input (B, C, H, W), its truth (B, K, 2) in fractions of it, and what was
        drawn for each face."""
        layout, pixels = self.store.layout, self.store.pixels
        boxes = [self.boxes[i] for i in picked]
        draws = [augment.draw(self.records[i], epoch) for i in picked]
        indices = crops.send(torch.tensor(picked), pixels.device)
        x = crops.network_input(crops.send(pixels[indices], device), boxes, draws, layout)
        truth = []
        for i, box, drawn in zip(picked, boxes, draws, strict=True):
            followed = augment.follow(self.points[i], drawn, self.swap)
            truth.append(g.to_unit(layout.frame.matrix(box), followed, layout.frame.size))
        return x, np.stack(truth), draws


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
    model = _describe(faces, scheme, settings)
    network = models.build(
        settings.arch,
        model.count,
        settings.input,
        weights=settings.weights,
        width=settings.width,
        stride=settings.stride,
    )
    history: list[dict[str, Any]] = []
    if settings.init:
        history = _start_from(network, settings.init, model)
    elif not model.heatmap:
        models.start_at(network, *_spread(faces, frame))
    machine.to_device(network, device)
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
        if settings.keep == "best" and min(state.history[first:], key=_rank) is entry:
            state.best = checkpoint.tensors_of(state.average.network)
        # the log first: an epoch that only the log has is done again, and logged again
        progress.epoch(Epoch(entry, time.perf_counter() - began, count / stepped))
        state.save(state_path)

    weights = state.best or checkpoint.tensors_of(state.average.network)
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
                names = ", ".join(records.identity(faces.records[i]) for i in waiting[1])
                raise _diverged(f"the loss became {value}", epoch, settings, names)
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
    models.try_out(s.arch, 1, s.input, batch, width=s.width, stride=s.stride)


@dataclass
class _Step:
    """Forward and backward of one batch."""

    network: Any  # an nn.Module, or what torch.compile made of one
    settings: Settings
    model: Model

    def __call__(self, x: Tensor, truth: g.Points) -> Tensor:
        output = inference.forward(self.network, x, self.settings.precision)
        loss = output_loss(output, truth, self.settings, self.model)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss


def output_loss(
    output: Tensor | tuple[Tensor, Tensor], truth: g.Points, settings: Settings, model: Model
) -> Tensor:
    """The loss of a network's output against points (B, K, 2) in fractions of its input,
    reduced in fp32."""
    if model.heatmap:
        assert isinstance(output, Tensor)
        on_map = g.unit_to_map(truth, model.map_size)
        centres = crops.send(torch.from_numpy(on_map), output.device, torch.float32)
        return heatmaps.bernoulli_loss(output, centres, settings.sigma, settings.pos_weight)
    outputs = output if isinstance(output, tuple) else (output,)
    target = crops.send(torch.from_numpy(truth), outputs[0].device, torch.float32)
    each = [losses.point_loss(points, target, settings.loss) for points in outputs]
    return each[0] if len(each) == 1 else each[0] + AUXILIARY * each[1]


@torch.no_grad()
def evaluate(
    network: nn.Module,
    val: Faces,
    settings: Settings,
    model: Model,
    device: torch.device,
    epoch: int,
) -> dict[str, float | None]:
    """Validation loss, NME (its default norm; None where no face has one) and MAE (pixels of the
    files), as kp-eval has them; nothing where no image can be read. KptoolsError where the loss or
    a prediction is not finite."""
    network.eval()
    total, done = 0.0, 0
    tally = Tally()
    frame = val.store.layout.frame
    for picked in val.batches(range(len(val)), settings.batch):
        x, truth, _ = val.batch(picked, 0, device)
        output = inference.forward(network, x, settings.precision)
        loss = float(output_loss(output, truth, settings, model))
        if not math.isfinite(loss):
            names = ", ".join(records.identity(val.records[i]) for i in picked)
            raise _diverged(f"the validation loss became {loss}", epoch, settings, names)
        total += loss * len(picked)
        done += len(picked)
        unit = inference.decode(output, model).unit
        for i, u in zip(picked, unit, strict=True):
            known, box = val.points[i], val.boxes[i]
            scheme = records.known_scheme(val.records[i], len(known))
            found = frame.to_file(u, box)
            if not np.isfinite(found).all():
                name = records.identity(val.records[i])
                raise _diverged("a prediction is not finite", epoch, settings, name)
            tally.add(scores.compare(found, known, scheme=scheme, box=box, size=None))
    if not done:
        return {}
    report = tally.report(scores.THRESHOLD)
    return {"val_loss": total / done, "val_nme": report["nme"], "val_mae": report["mae"]}


@torch.inference_mode()
def predict(
    network: nn.Module, val: Faces, settings: Settings, model: Model, device: torch.device
) -> None:
    """Add `pred`, `score` and `mean` to the records of `val` whose images can be read, in place.
    KptoolsError where a prediction is not finite."""
    machine.to_device(network, device).eval()
    frame, mean = val.store.layout.frame, np.array(model.mean)
    for picked in val.batches(range(len(val)), settings.batch):
        x, _, draws = val.batch(picked, 0, device)
        decoded = inference.decode(inference.forward(network, x, settings.precision), model)
        for row, (i, drawn) in enumerate(zip(picked, draws, strict=True)):
            found = None if decoded.scores is None else decoded.scores[row]
            unit = decoded.unit[row]
            try:
                inference.finish(val.records[i], unit, found, drawn, frame=frame, mean=mean)
            except RecordError as error:
                raise KptoolsError(f"{records.identity(val.records[i])}: {error}") from None


def normalization(arch: str, weights: str, init: str) -> Normalization | None:
    """Of the pixels, for a run that starts from these: as the checkpoint or the weights expect it,
    None where that is ImageNet's (of grey: from -0.5 to 0.5)."""
    if init:
        return checkpoint.load_model(init).normalization
    if weights == "none":
        return None
    theirs = backbones.normalization(arch)
    return None if theirs == crops.IMAGENET else theirs


def _describe(faces: Faces, scheme: str, settings: Settings) -> Model:
    """The network of a run. Its mean shape is that of all faces, whether or not their images can
    be read, which is not known yet."""
    shapes = [g.in_box(p, box) for p, box in zip(faces.points, faces.boxes, strict=True)]
    sources = {str(record.get("box_source") or "unknown") for record in faces.records}
    return Model(
        arch=settings.arch,
        scheme=scheme,
        count=faces.points.shape[1],
        input=settings.input,
        grey=settings.grey,
        margin=settings.margin,
        heatmap=settings.arch in models.HEATMAP_ARCHS,
        width=settings.width,
        stride=settings.stride,
        box_sources=tuple(sorted(sources)),
        mean=tuple((float(x), float(y)) for x, y in mean_shape(shapes)),
        sigma=settings.sigma,
        normalization=settings.normalization,
    )


def mean_shape(shapes: Sequence[g.Points]) -> g.Points:
    """The mean (K, 2) of the annotated points; the middle of the box for a point that never is."""
    stack = np.stack(shapes)
    known = np.isfinite(stack)
    total = np.where(known, stack, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), 0.5)


def _spread(faces: Faces, frame: Frame) -> tuple[Tensor, Tensor]:
    """The mean of the points and their standard deviation, (K, 2) in fractions of the input, as
    the first epoch shows them."""
    shapes = []
    for record, points, box in zip(faces.records, faces.points, faces.boxes, strict=True):
        followed = augment.follow(points, augment.draw(record, 0), faces.swap)
        shapes.append(g.to_unit(frame.matrix(box), followed, frame.size))
    mean = mean_shape(shapes)
    spread = np.sqrt(mean_shape([(shape - mean) ** 2 for shape in shapes]))
    spread = np.maximum(spread, MIN_SPREAD)
    return torch.from_numpy(mean).float(), torch.from_numpy(spread).float()


def _start_from(network: nn.Module, path: str, model: Model) -> list[dict[str, Any]]:
    """Take the weights of a checkpoint, which must be of the same kind; its history goes on."""
    start = checkpoint.load(path)
    same = ("arch", "scheme", "count", "input", "grey", "margin", "width", "stride")
    for name in (*same, "normalization"):
        theirs, ours = getattr(start.model, name), getattr(model, name)
        if theirs != ours:
            raise KptoolsError(f"--init {path} has {name} {theirs}, this run {ours}; make them one")
    checkpoint.load_weights(network, start.weights, model.arch)
    return list(start.history)


def fingerprint(faces: Faces, val: Faces | None, settings: Settings) -> str:
    """What tells one run from another: its settings, the weights it starts from, its records; not
    the pixels of their images, which must stay as they are."""
    digest = blake2b(orjson.dumps(asdict(settings)), digest_size=16)
    for path in (settings.init, settings.weights):
        if path not in ("", "none", "default"):
            digest.update(blake2b(Path(path).read_bytes()).digest())
    for record in [*faces.records, *(val.records if val else ())]:
        digest.update(orjson.dumps(record) + b"\n")
    return digest.hexdigest()


def _rank(entry: dict[str, Any]) -> float:
    """What the best epoch has least of."""
    for value in (entry.get("val_nme"), entry.get("val_loss")):
        if value is not None:
            return value if math.isfinite(value) else math.inf
    return -float(entry["epoch"])


def _seed(seed: int, epoch: int, what: str = "") -> int:
    digest = blake2b(f"{seed}\0{epoch}{what}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "little")


def _diverged(what: str, epoch: int, settings: Settings, names: str) -> KptoolsError:
    lower = settings.schedule[0][0] / 3
    return KptoolsError(f"{what} in epoch {epoch + 1}, at {names}; try --lr {lower:.1g}")
