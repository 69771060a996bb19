"""Validation: the loss and the score of each epoch, and the predictions at the end."""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kptools import geometry as g
from kptools import runtime
from kptools.errors import KptoolsError, RecordError
from kptools.evaluation import score
from kptools.evaluation.report import THRESHOLD
from kptools.evaluation.tally import Tally
from kptools.inference import predictor
from kptools.models.losses.bernoulli import bernoulli_loss
from kptools.models.losses.points import point_loss
from kptools.models.network import decode, forward
from kptools.records import keys
from kptools.specs import Model
from kptools.training.settings import Settings
from kptools.training.training_set import Faces

AUXILIARY = 0.4  # weight of Inception-v3's auxiliary output


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
        output = forward(network, x, settings.precision)
        loss = float(output_loss(output, truth, settings, model))
        if not math.isfinite(loss):
            names = ", ".join(keys.identity(val.records[i]) for i in picked)
            raise diverged(f"the validation loss became {loss}", epoch, settings, names)
        total += loss * len(picked)
        done += len(picked)
        unit = decode(output, model).unit
        for i, u in zip(picked, unit, strict=True):
            known, box = val.points[i], val.boxes[i]
            scheme = keys.known_scheme(val.records[i], len(known))
            found = frame.to_file(u, box)
            if not np.isfinite(found).all():
                name = keys.identity(val.records[i])
                raise diverged("a prediction is not finite", epoch, settings, name)
            tally.add(score.compare(found, known, scheme=scheme, box=box, size=None))
    if not done:
        return {}
    report = tally.report(THRESHOLD)
    return {"val_loss": total / done, "val_nme": report["nme"], "val_mae": report["mae"]}


@torch.inference_mode()
def predict(
    network: nn.Module, val: Faces, settings: Settings, model: Model, device: torch.device
) -> None:
    """Add `pred`, `score` and `mean` to the records of `val` whose images can be read, in place.
    KptoolsError where a prediction is not finite."""
    runtime.to_device(network, device).eval()
    frame, mean = val.store.layout.frame, np.array(model.mean)
    for picked in val.batches(range(len(val)), settings.batch):
        x, _, draws = val.batch(picked, 0, device)
        decoded = decode(forward(network, x, settings.precision), model)
        for row, (i, drawn) in enumerate(zip(picked, draws, strict=True)):
            found = None if decoded.scores is None else decoded.scores[row]
            unit = decoded.unit[row]
            try:
                predictor.finish(val.records[i], unit, found, drawn, frame=frame, mean=mean)
            except RecordError as error:
                raise KptoolsError(f"{keys.identity(val.records[i])}: {error}") from None


def rank(entry: dict[str, Any]) -> float:
    """What the best epoch has least of."""
    for value in (entry.get("val_nme"), entry.get("val_loss")):
        if value is not None:
            return value if math.isfinite(value) else math.inf
    return -float(entry["epoch"])


def output_loss(
    output: Tensor | tuple[Tensor, Tensor], truth: g.Points, settings: Settings, model: Model
) -> Tensor:
    """The loss of a network's output against points (B, K, 2) in fractions of its input,
    reduced in fp32."""
    if model.heatmap:
        assert isinstance(output, Tensor)
        on_map = g.unit_to_map(truth, model.map_size)
        centres = runtime.send(torch.from_numpy(on_map), output.device, torch.float32)
        return bernoulli_loss(output, centres, settings.sigma, settings.pos_weight)
    outputs = output if isinstance(output, tuple) else (output,)
    target = runtime.send(torch.from_numpy(truth), outputs[0].device, torch.float32)
    each = [point_loss(points, target, settings.loss) for points in outputs]
    return each[0] if len(each) == 1 else each[0] + AUXILIARY * each[1]


def diverged(what: str, epoch: int, settings: Settings, names: str) -> KptoolsError:
    lower = settings.schedule[0][0] / 3
    return KptoolsError(f"{what} in epoch {epoch + 1}, at {names}; try --lr {lower:.1g}")
