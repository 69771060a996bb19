"""Checkpoints: safetensors files whose metadata is one JSON string.

Nothing in them can run. They hold no time and no date, so that equal runs give equal bytes, and
they appear under their name whole or not at all.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kptools.errors import KptoolsError, UsageError
from kptools.models import build, metadata
from kptools.models.metadata import VERSION
from kptools.models.network import Network
from kptools.schemes import catalog
from kptools.specs import ModelSpec
from kptools.storage import scheme_files
from kptools.storage.tensor_metadata import read_metadata
from kptools.storage.tensors import is_finite, load_weights, read_tensors, write_tensors


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
        network = _shapes(self.model)
        weights = self.weights if share else {name: t.clone() for name, t in self.weights.items()}
        load_weights(network, weights, self.model.arch)
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
        "model": metadata.described(checkpoint.model),
        "history": checkpoint.history,
        "run": checkpoint.run,
        **scheme_files.metadata_of(checkpoint.model.scheme),
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
    if meta["version"] < 6 and model.head == "points" and not build.is_whole(model.arch, "points"):
        tensors = _of_version_6(tensors, model)
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
    model = metadata.model_of(path, meta)
    try:
        build.check(model.arch)
    except UsageError as error:
        raise KptoolsError(f"{path}: its metadata is not kp-train's ({error})") from None
    return model


def _of_version_3(tensors: dict[str, Tensor], model: ModelSpec) -> dict[str, Tensor]:
    """The weights of an older checkpoint as this version has them: a U-Net was no network of parts
    then, and networks of points gave no scores."""
    if model.arch == "unet":
        return {
            name if name.startswith("head.") else f"backbone.{name}": tensor
            for name, tensor in tensors.items()
        }
    network = _shapes(model)
    added = {
        name: torch.zeros(tensor.shape)
        for name, tensor in network.state_dict().items()
        if name.endswith(("distance_weight", "distance_bias")) and name not in tensors
    }
    return tensors | added


def _of_version_6(tensors: dict[str, Tensor], model: ModelSpec) -> dict[str, Tensor]:
    """The weights of an older network of points, made of parts, as this version has them. Before
    version 6 it had no steps, and before version 5 no features about a point in its score. What is
    added to its own weights changes nothing."""
    from kptools.models.heads import local_points

    shapes = _shapes(model).state_dict()
    (name,) = (name for name in shapes if name.endswith("local_weight"))
    chance = torch.Generator().manual_seed(0)
    added = local_points.new_weights(shapes[name].shape[1], model.count, chance)
    return {name.replace("local_weight", key): value for key, value in added.items()} | tensors


def _shapes(m: ModelSpec) -> Network:
    """Its network, without memory for the weights."""
    return build.build_shapes(
        m.arch,
        m.count,
        m.input.size,
        m.options,
        head=m.head,
        blocks=catalog.blocks(m.scheme),
        visibility=m.visibility,
    )
