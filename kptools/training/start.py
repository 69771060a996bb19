"""What a run starts from: its description, its weights, its mean shape."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kptools import geometry as g
from kptools import specs
from kptools.augment import sample, transform
from kptools.errors import KptoolsError
from kptools.models import build, checkpoint
from kptools.models.backbones import torchvision
from kptools.specs import Frame, Model
from kptools.storage.tensors import load_weights
from kptools.training.settings import Settings
from kptools.training.training_set import Faces
from kptools.units import Normalization

MIN_SPREAD = 0.01  # fraction of the input: points that hardly move are still to be learnt


def normalization(arch: str, weights: str, init: str) -> Normalization | None:
    """Of the pixels, for a run that starts from these: as the checkpoint or the weights expect it,
    None where that is ImageNet's (of grey: from -0.5 to 0.5)."""
    if init:
        return checkpoint.load_model(init).normalization
    if weights == "none":
        return None
    theirs = torchvision.normalization(arch)
    return None if theirs == specs.IMAGENET else theirs


def describe(faces: Faces, scheme: str, settings: Settings) -> Model:
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
        heatmap=settings.arch in build.HEATMAP_ARCHS,
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


def spread(faces: Faces, frame: Frame) -> tuple[Tensor, Tensor]:
    """The mean of the points and their standard deviation, (K, 2) in fractions of the input, as
    the first epoch shows them."""
    shapes = []
    for record, points, box in zip(faces.records, faces.points, faces.boxes, strict=True):
        followed = transform.follow(points, sample.draw(record, 0), faces.swap)
        shapes.append(g.to_unit(frame.matrix(box), followed, frame.size))
    mean = mean_shape(shapes)
    spread = np.sqrt(mean_shape([(shape - mean) ** 2 for shape in shapes]))
    spread = np.maximum(spread, MIN_SPREAD)
    return torch.from_numpy(mean).float(), torch.from_numpy(spread).float()


def start_from(network: nn.Module, path: str, model: Model) -> list[dict[str, Any]]:
    """Take the weights of a checkpoint, which must be of the same kind; its history goes on."""
    start = checkpoint.load(path)
    same = ("arch", "scheme", "count", "input", "grey", "margin", "width", "stride")
    for name in (*same, "normalization"):
        theirs, ours = getattr(start.model, name), getattr(model, name)
        if theirs != ours:
            raise KptoolsError(f"--init {path} has {name} {theirs}, this run {ours}; make them one")
    load_weights(network, start.weights, model.arch)
    return list(start.history)
