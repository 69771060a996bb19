"""Checkpoints: safetensors files whose metadata is one JSON string.

Nothing in them can run. They hold no time and no date, so that equal runs give equal bytes, and
they appear under their name whole or not at all.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kptools.errors import KptoolsError, UsageError
from kptools.models import archs, build
from kptools.models.network import Network
from kptools.specs import InputSpec, ModelSpec
from kptools.storage.tensors import (
    is_finite,
    load_weights,
    read_metadata,
    read_tensors,
    write_tensors,
)

VERSION = 4


@dataclass
class Checkpoint:
    """A network's weights and what they are.

    `history`: an object an epoch, without times. `run`: what identifies the training run.
    """

    model: ModelSpec
    weights: dict[str, Tensor]
    history: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)

    def network(self, *, share: bool = False) -> Network:
        """The network with these weights, in evaluation mode: a copy of them, or with `share` the
        very same memory. KptoolsError where they are of another network."""
        m = self.model
        network = build.build_shapes(m.arch, m.count, m.input.size, m.options, head=m.head)
        weights = self.weights if share else {name: t.clone() for name, t in self.weights.items()}
        load_weights(network, weights, m.arch)
        network.eval()
        return network

    def save(self, path: str | Path) -> None:
        """Write it whole or not at all. KptoolsError where its weights are not finite, or the disk
        is full."""
        save(Path(path), self)


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint whole or not at all. KptoolsError where its weights are not finite, or the
    disk says no."""
    meta = {
        "version": VERSION,
        "model": asdict(checkpoint.model),
        "history": checkpoint.history,
        "run": checkpoint.run,
    }
    for name, tensor in checkpoint.weights.items():
        if not is_finite(tensor):
            raise KptoolsError(
                f"{path} is not written: {name} holds numbers that are not finite; "
                "try a lower learning rate (--lr)"
            )
    write_tensors(path, checkpoint.weights, meta)


def load(path: str) -> Checkpoint:
    """Raises KptoolsError: not there, not a checkpoint, another version, weights not finite."""
    tensors, meta = read_tensors(path)
    model = _model_of(path, meta)
    if meta["version"] < 3:
        tensors = _of_version_3(tensors, model)
    halves = {name: t.float() for name, t in tensors.items() if t.dtype == torch.float16}
    tensors |= halves  # weights stored in half precision
    history, run = meta.get("history", []), meta.get("run", {})
    if not isinstance(history, list) or not isinstance(run, dict):
        raise KptoolsError(f"{path}: its metadata is not kp-train's (history)")
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise KptoolsError(f"{path}: {name} holds numbers that are not finite; train again")
    return Checkpoint(model, tensors, history, run)


def load_model(path: str) -> ModelSpec:
    """What a checkpoint says of its network, without its weights. Raises KptoolsError."""
    return _model_of(path, read_metadata(path))


def _model_of(path: str, meta: dict[str, Any]) -> ModelSpec:
    if "adapter" in meta:
        raise KptoolsError(f"{path} is an adapter (kp-train --arch adapter), and no network")
    version = meta.get("version")
    if version not in range(1, VERSION + 1):
        raise KptoolsError(
            f"{path} is a checkpoint of version {version!r}; this kptools reads versions 1 to "
            f"{VERSION}"
        )
    if version == 3 and _has_pyramid(meta):  # for a day of development
        raise KptoolsError(f"{path} is of an early development version; train it again")
    try:
        described = _from_version_1(meta) if version == 1 else meta["model"]
        model = _parse_model(described)
        build.check(model.arch)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise KptoolsError(f"{path}: its metadata is not kp-train's ({error})") from None
    return model


def _has_pyramid(meta: dict[str, Any]) -> bool:
    model = meta.get("model")
    described = model if isinstance(model, dict) else {}
    return described.get("head") in ("heatmap", "integral") and described.get("arch") != "unet"


def _from_version_1(meta: dict[str, Any]) -> dict[str, Any]:
    """The description of a network as this version has it. What kptools 0.1 did not write at first
    is as it was then. Raises KeyError, TypeError, ValueError or AttributeError."""
    old = meta["model"]
    arch = archs.get(str(old["arch"]))
    run = meta.get("run")
    settings = run.get("settings") if isinstance(run, dict) else None
    trained = settings if isinstance(settings, dict) else {}
    names = arch.resolve(str(old["arch"]), arch.heads[0], {})
    options = {name: old.get(name, trained.get(name)) for name in names}
    return {
        "arch": old["arch"],
        "scheme": old["scheme"],
        "count": old["count"],
        "input": {
            "size": old["input"],
            "margin": old["margin"],
            "grey": old["grey"],
            "normalization": old.get("normalization"),
        },
        "box_sources": old["box_sources"],
        "mean": old["mean"],
        "options": {name: value for name, value in options.items() if value is not None},
    }


def _of_version_3(tensors: dict[str, Tensor], model: ModelSpec) -> dict[str, Tensor]:
    """The weights of an older checkpoint as this version has them: a U-Net was no network of parts
    then, and networks of points gave no scores."""
    if model.arch == "unet":
        return {
            name if name.startswith("head.") else f"backbone.{name}": tensor
            for name, tensor in tensors.items()
        }
    network = build.build_shapes(
        model.arch, model.count, model.input.size, model.options, head=model.head
    )
    added = {
        name: torch.zeros(tensor.shape)
        for name, tensor in network.state_dict().items()
        if name.endswith(("distance_weight", "distance_bias")) and name not in tensors
    }
    return tensors | added


def _parse_model(m: dict[str, Any]) -> ModelSpec:
    """Raises KeyError, TypeError, ValueError, AttributeError or UsageError."""
    arch = str(m["arch"])
    mean = tuple((float(x), float(y)) for x, y in m["mean"])
    head = archs.get(arch).resolve_head(arch, m.get("head"))
    given = {str(name): _number(value) for name, value in m["options"].items()}
    model = ModelSpec(
        arch=arch,
        scheme=str(m["scheme"]),
        count=int(m["count"]),
        input=_parse_input(m["input"]),
        box_sources=tuple(str(s) for s in m["box_sources"]),
        mean=mean,
        options=archs.get(arch).resolve(arch, head, given),
        head=head,
        passes=int(m.get("passes", 1)),
        flip=bool(m.get("flip", False)),
    )
    sound = (
        1 <= model.count <= 100_000
        and model.passes in (1, 2)
        and len(mean) == model.count
        and all(math.isfinite(v) for point in mean for v in point)
    )
    if not sound:
        raise ValueError("a size or a count is out of bounds")
    return model


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("an option is not a number")
    return value


def _parse_input(m: dict[str, Any]) -> InputSpec:
    normalization = m["normalization"]
    if normalization is not None:
        average, deviation = (tuple(float(v) for v in values) for values in normalization)
        normalization = average, deviation
    width, height = (int(v) for v in m["size"])
    focus = m.get("focus")
    if focus is not None:
        x0, y0, x1, y1 = (float(v) for v in focus)
        if not (-10 <= x0 < x1 <= 10 and -10 <= y0 < y1 <= 10):
            raise ValueError("focus is no part of a box")
        focus = (x0, y0, x1, y1)
    spec = InputSpec((width, height), float(m["margin"]), bool(m["grey"]), normalization, focus)
    if normalization is not None and (
        len(average) != spec.channels or len(deviation) != spec.channels or not min(deviation) > 0
    ):
        raise ValueError("normalization is not a mean and a deviation for each channel")
    if not (8 <= width <= 4096 and 8 <= height <= 4096 and 0 <= spec.margin <= 10):
        raise ValueError("a size or a count is out of bounds")
    return spec
