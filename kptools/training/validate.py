"""Validation: the loss and the score of each epoch, and the predictions at the end."""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from kptools import geometry as g
from kptools.errors import KptoolsError, RecordError
from kptools.evaluation import THRESHOLD
from kptools.evaluation.norms import norm_for
from kptools.evaluation.score import Scores, compare
from kptools.evaluation.tally import Tally
from kptools.inference import passes
from kptools.inference.prediction import prediction
from kptools.inference.torch_engine import prepare
from kptools.models.decoded import Decoded
from kptools.models.network import Criterion, Network, forward
from kptools.records import keys
from kptools.records.face import Face
from kptools.records.keys import Record
from kptools.specs import ModelSpec
from kptools.training.distributed import ALONE, Ranks
from kptools.training.settings import Settings
from kptools.training.training_set import Batch, TrainingSet


@torch.no_grad()
def validate(
    network: Network,
    val: TrainingSet,
    criterion: Criterion,
    settings: Settings,
    model: ModelSpec,
    device: torch.device,
    epoch: int,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Validation loss, NME (its default norm; None where no face has one) and MAE (pixels of the
    files), as kp-eval has them; of several schemes, those of each. Nothing where no image can be
    read. KptoolsError where the loss or
    a prediction is not finite. Each of the `ranks` does its share of the batches."""
    network.eval()
    found = []
    for indices in ranks.share(list(val.groups(range(len(val)), settings.batch))):
        batch = val.batch(indices, 0, device)
        faces = [val.faces[i] for i in batch.indices]
        output = forward(network, batch.input, settings.precision)
        loss = float(network.head.loss(output, batch.truth, criterion).mean)
        if not math.isfinite(loss):
            names = ", ".join(face.name for face in faces)
            raise diverged(f"the validation loss became {loss}", epoch, settings, names)
        decoded = _decode(network, val, batch, settings, model, device, output)
        points = [
            shown.invert_points(settings.input.to_file(unit, face.box))
            for face, unit, shown in zip(faces, decoded.points, batch.transforms, strict=True)
        ]
        for face, some in zip(faces, points, strict=True):
            if not np.isfinite(some).all():
                raise diverged("a prediction is not finite", epoch, settings, face.name)
        found.append((loss, len(batch), _scores(faces, points)))
    total, done = 0.0, 0
    tallies: dict[str, Tally] = defaultdict(Tally)
    for loss, count, scores in ranks.collect(found):
        total += loss * count
        done += count
        for name, of_scheme in scores.items():
            tallies[name].add(of_scheme)
    if not done:
        return {}
    reports = {name: tally.report(THRESHOLD) for name, tally in sorted(tallies.items())}
    figures: dict[str, Any] = {"val_loss": total / done, "val_nme": None, "val_mae": None}
    if model.scheme in reports:
        report = reports[model.scheme]
        return figures | {"val_nme": report["nme"], "val_mae": report["mae"]}
    return figures | {
        "val_nme_of": {name: report["nme"] for name, report in reports.items()},
        "val_mae_of": {name: report["mae"] for name, report in reports.items()},
    }


def _scores(faces: Sequence[Face], points: Sequence[g.Points]) -> dict[str, Scores]:
    """By scheme the scores of its faces, whose predicted points are those of the network."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, face in enumerate(faces):
        groups[keys.scheme_name(face.record)].append(row)
    found = {}
    for name, rows in groups.items():
        some = [faces[row] for row in rows]
        scheme, block = some[0].scheme, some[0].block
        found[name] = compare(
            np.stack([points[row][block] for row in rows]),
            np.array([face.points[block] for face in some if face.points is not None]),
            norm=norm_for(scheme, None),
            scheme=scheme,
            boxes=[keys.box(face.record) for face in some],
        )
    return found


@torch.inference_mode()
def predict(
    network: Network,
    val: TrainingSet,
    settings: Settings,
    model: ModelSpec,
    device: torch.device,
    ranks: Ranks = ALONE,
) -> list[Record]:
    """The predictions of the faces of `val`, in order, by a network that from here on does nothing
    else: what `prediction` gives, or nothing where the image cannot be read. KptoolsError where a
    prediction is not finite. Each of the `ranks` does its share of the batches."""
    prepare(network, device, settings.precision)
    mean = np.array(model.mean)
    found: list[tuple[int, Record]] = []
    for indices in ranks.share(list(val.groups(range(len(val)), settings.batch))):
        batch = val.batch(indices, 0, device)
        decoded = _decode(network, val, batch, settings, model, device)
        for row, (i, transform) in enumerate(zip(batch.indices, batch.transforms, strict=True)):
            scores = None if decoded.scores is None else decoded.scores[row]
            visible = None if decoded.visible is None else decoded.visible[row]
            face, points = val.faces[i], decoded.points[row]
            try:
                keys_of_face = prediction(
                    face, points, scores, transform, model.input, mean, visible
                )
            except RecordError as error:
                raise KptoolsError(f"{face.name}: {error}") from None
            found.append((i, keys_of_face))
    by_index = dict(pair for part in ranks.gather(found) for pair in part)
    return [by_index.get(i, {}) for i in range(len(val))]


def _decode(
    network: Network,
    val: TrainingSet,
    batch: Batch,
    settings: Settings,
    model: ModelSpec,
    device: torch.device,
    output: Any = None,
) -> Decoded:
    """The points of a batch; `output` is the network's, where it is there already."""
    return passes.decode(
        network,
        model,
        lambda transforms: val.see(batch.indices, transforms, device),
        [val.faces[i].box for i in batch.indices],
        batch.transforms,
        passes.resolve(model),
        precision=settings.precision,
        first_input=batch.input,
        first_output=output,
    )


def diverged(what: str, epoch: int, settings: Settings, names: str) -> KptoolsError:
    """The error of a run that has no finite figures any more, at the faces of these names."""
    lower = settings.schedule[0][0] / 3
    return KptoolsError(f"{what} in epoch {epoch + 1}, at {names}; try --lr {lower:.1g}")
