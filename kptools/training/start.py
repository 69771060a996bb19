"""What a run starts from: its description, its weights, its mean shape."""

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kptools.augment.sample import sample
from kptools.errors import KptoolsError
from kptools.models import archs, build, checkpoint
from kptools.models.heads.visible import VisibleHead
from kptools.models.network import Network
from kptools.schemes import catalog
from kptools.specs import IMAGENET, InputSpec, ModelSpec
from kptools.storage.tensors import load_weights
from kptools.training.settings import Settings
from kptools.training.training_set import TrainingSet, mean_shape, target
from kptools.units import Normalization

SHAPES = ".shape_prior."  # in the names of those tensors that each run finds for itself
MIN_SPREAD = 0.01  # fraction of the input: points that hardly move are still to be learnt


def start(
    faces: TrainingSet, scheme: str, settings: Settings
) -> tuple[ModelSpec, Network, list[dict[str, Any]]]:
    """The description of a run's network, the network, and the epochs that it has behind it. Its
    weights are those of `--init`, or its head starts from the mean shape of the faces."""
    model = describe(faces, scheme, settings)
    network = build.build(
        model.arch,
        model.count,
        model.input.size,
        model.options,
        head=model.head,
        weights=settings.weights,
        blocks=catalog.blocks(scheme),
        visibility=model.visibility,
    )
    history: list[dict[str, Any]] = []
    if settings.init:
        history = start_from(network, settings.init, model)
    else:
        network.head.start(*shape_and_spread(faces, model.input))
    if network.shape_prior is not None:
        network.shape_prior.fit(faces.points, faces.swap)
    return model, network, history


def inherited(init: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `settings.resolve` for a run that goes on from a checkpoint as that was
    trained: what was given, else what the checkpoint's own run had, but for its shape prior, which
    is of other faces. Raises KptoolsError."""
    start = checkpoint.load(init)
    model, trained = start.model, start.run.get("settings", {})
    theirs: dict[str, Any] = {
        "arch": model.arch,
        "head": model.head,
        "input_size": model.input.size,
        "margin": model.input.margin,
    }
    try:
        names = ("loss", "batch", "average", "optimizer", "weight_decay", "decay", "align")
        theirs |= {name: trained[name] for name in names if name in trained}
        stages = trained.get("schedule", ())
        theirs["schedule"] = ",".join(f"{rate:g}:{epochs:d}" for rate, epochs in stages) or None
    except (AttributeError, TypeError, ValueError) as error:
        raise KptoolsError(f"{init}: its metadata is not kp-train's (settings: {error})") from None
    options = {name: value for name, value in given["options"].items() if value is not None}
    kept = {name: value for name, value in model.options.items() if name != "shape_prior"}
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen.get("head", model.head) != model.head:
        del theirs["loss"]
    found = theirs | chosen | {"options": {**kept, **options}}
    if found.get("optimizer") != "adamw" and "weight_decay" not in chosen:
        found.pop("weight_decay", None)
    return found


def normalization(settings: Settings) -> Normalization | None:
    """Of the pixels, for a run that starts from these: as the checkpoint or the weights expect it,
    None where that is ImageNet's (of grey: from -0.5 to 0.5)."""
    if settings.init:
        return checkpoint.load_model(settings.init).input.normalization
    if settings.weights == "none":
        return None
    theirs: Normalization = archs.get(settings.arch).load().normalization(settings.arch)
    return None if theirs == IMAGENET else theirs


def describe(faces: TrainingSet, scheme: str, settings: Settings) -> ModelSpec:
    """The network of a run. Its mean shape is that of all faces, whether or not their images can
    be read, which is not known yet."""
    twice = settings.align > 0 and archs.get(settings.arch).passes == 2
    sources = {str(face.record.get("box_source") or "unknown") for face in faces.faces}
    return ModelSpec(
        arch=settings.arch,
        scheme=scheme,
        count=faces.points.shape[1],
        input=settings.input,
        box_sources=tuple(sorted(sources)),
        mean=tuple((float(x), float(y)) for x, y in faces.mean_shape()),
        options=settings.options,
        head=settings.head,
        passes=2 if twice else 1,
        flip=twice and bool(faces.swap),
        visibility=settings.visibility,
    )


def shape_and_spread(faces: TrainingSet, spec: InputSpec) -> tuple[Tensor, Tensor]:
    """The mean of the points and their standard deviation, (K, 2) in fractions of the input, as
    the first epoch shows them."""
    shapes = [target(face, sample(face, 0, faces.alignment), spec) for face in faces.faces]
    mean = mean_shape(shapes)
    spread = np.sqrt(mean_shape([(shape - mean) ** 2 for shape in shapes]))
    spread = np.maximum(spread, MIN_SPREAD)
    return torch.from_numpy(mean).float(), torch.from_numpy(spread).float()


def start_from(network: Network, path: str, model: ModelSpec) -> list[dict[str, Any]]:
    """Take the weights of a checkpoint, which must be of the same kind, but that this run may be
    the first to learn which points are seen; its history goes on."""
    start = checkpoint.load(path)
    if model.visibility and not start.model.visibility:
        start.model = replace(start.model, visibility=True)
        start.weights = _with_visibility(network, start.weights)
    theirs, ours = _kind(start.model), _kind(model)
    for name in ours:
        if theirs[name] != ours[name]:
            raise KptoolsError(
                f"--init {path} has {name} {theirs[name]}, this run {ours[name]}; make them one"
            )
    weights = {k: t for k, t in start.weights.items() if SHAPES not in k}
    own = {k: t for k, t in network.state_dict().items() if SHAPES in k}
    load_weights(network, weights | own, model.arch)
    return list(start.history)


def _with_visibility(network: Network, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a network without visibility, for one that has it: that part is its own."""
    modules = network.named_modules()
    head = next(name for name, module in modules if isinstance(module, VisibleHead)) + "."
    own = {name: t for name, t in network.state_dict().items() if name.startswith(head)}
    added = {name: t for name, t in own.items() if not name.startswith(f"{head}main.")}
    theirs = {
        f"{head}main.{name.removeprefix(head)}" if name.startswith(head) else name: tensor
        for name, tensor in weights.items()
    }
    return theirs | added


def _kind(model: ModelSpec) -> dict[str, Any]:
    """What two networks must share for the one to start from the other's weights."""
    of_input = {f.name: getattr(model.input, f.name) for f in fields(model.input)}
    of_network = {
        name: getattr(model, name) for name in ("arch", "head", "scheme", "count", "visibility")
    }
    return of_network | of_input
