"""Checkpoints: safetensors files whose metadata is one JSON string.

Nothing in them can run. They hold no time and no date, so that equal runs give equal bytes, and
they appear under their name whole or not at all.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kptools.errors import KptoolsError, UsageError
from kptools.models import build
from kptools.specs import Frame, Model
from kptools.storage.tensors import (
    is_finite,
    load_weights,
    read_metadata,
    read_tensors,
    write_tensors,
)

VERSION = 1


@dataclass
class Checkpoint:
    """A network's weights and what they are.

    `history`: an object an epoch, without times. `run`: what identifies the training run.
    """

    model: Model
    weights: dict[str, Tensor]
    history: list[dict[str, Any]] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)

    @property
    def frame(self) -> Frame:
        m = self.model
        return Frame(m.input, m.margin, m.grey, m.normalization)

    def network(self) -> nn.Module:
        """The network with these weights, in evaluation mode. KptoolsError where they differ."""
        m = self.model
        with torch.device("meta"):  # its shapes alone: nothing is allocated for what does not fit
            network = build.build(m.arch, m.count, m.input, width=m.width, stride=m.stride)
        load_weights(network, self.weights, m.arch)
        return network.eval()


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
    history, run = meta.get("history", []), meta.get("run", {})
    if not isinstance(history, list) or not isinstance(run, dict):
        raise KptoolsError(f"{path}: its metadata is not kp-train's (history)")
    for name, tensor in tensors.items():
        if not is_finite(tensor):
            raise KptoolsError(f"{path}: {name} holds numbers that are not finite; train again")
    return Checkpoint(model, tensors, history, run)


def load_model(path: str) -> Model:
    """What a checkpoint says of its network, without its weights. Raises KptoolsError."""
    return _model_of(path, read_metadata(path))


def _model_of(path: str, meta: dict[str, Any]) -> Model:
    if meta.get("version") != VERSION:
        raise KptoolsError(
            f"{path} is a checkpoint of version {meta.get('version')!r}; this kptools reads "
            f"version {VERSION}"
        )
    try:
        model = _model(meta["model"], meta.get("run"))
        build.check(model.arch)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise KptoolsError(f"{path}: its metadata is not kp-train's ({error})") from None
    return model


def _model(m: dict[str, Any], run: Any) -> Model:
    """The description of a network; what kptools 0.1 did not write is as it was there. Raises
    KeyError, TypeError or ValueError."""
    settings = run.get("settings") if isinstance(run, dict) else None
    old: Any = settings.get("sigma") if isinstance(settings, dict) else None
    sigma: Any = m.get("sigma", 1.0 if old is None else old)
    normalization = m.get("normalization")
    if normalization is not None:
        average, deviation = (tuple(float(v) for v in values) for values in normalization)
        normalization = average, deviation
        channels = 1 if m["grey"] else 3
        if len(average) != channels or len(deviation) != channels or not min(deviation) > 0:
            raise ValueError("normalization is not a mean and a deviation for each channel")
    width, height = (int(v) for v in m["input"])
    mean = tuple((float(x), float(y)) for x, y in m["mean"])
    model = Model(
        arch=str(m["arch"]),
        scheme=str(m["scheme"]),
        count=int(m["count"]),
        input=(width, height),
        grey=bool(m["grey"]),
        margin=float(m["margin"]),
        heatmap=bool(m["heatmap"]),
        width=int(m["width"]),
        stride=int(m["stride"]),
        box_sources=tuple(str(s) for s in m["box_sources"]),
        mean=mean,
        sigma=float(sigma),
        normalization=normalization,
    )
    sound = (
        0 < model.sigma < 1e3
        and 8 <= width <= 4096
        and 8 <= height <= 4096
        and 1 <= model.count <= 100_000
        and len(mean) == model.count
        and 0 <= model.margin <= 10
        and 1 <= model.width <= 4096
        and model.stride in (1, 2, 4, 8)
        and model.heatmap == (model.arch in build.HEATMAP_ARCHS)
        and all(math.isfinite(v) for point in mean for v in point)
    )
    if not sound:
        raise ValueError("a size or a count is out of bounds")
    return model
