"""Checkpoints: safetensors files whose metadata is one JSON string.

Nothing in them can run. They hold no time and no date, so that equal runs give equal bytes, and
they appear under their name whole or not at all.
"""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson
import safetensors.torch
import torch
from torch import Tensor, nn

from kptools import files, models, sniff
from kptools.config import Model
from kptools.crops import Frame
from kptools.errors import KptoolsError, UsageError
from kptools.limits import MAX_HEADER_BYTES

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
            network = models.build(m.arch, m.count, m.input, width=m.width, stride=m.stride)
        load_weights(network, self.weights, m.arch)
        return network.eval()


def load_weights(network: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """As load_state_dict, with one line for what does not fit."""
    wanted = network.state_dict()
    for key, value in wanted.items():
        given = weights.get(key)
        if given is None:
            raise KptoolsError(f"the checkpoint lacks {key} of {name}; it is of another network")
        if given.shape != value.shape or given.dtype != value.dtype:
            raise KptoolsError(
                f"the checkpoint's {key} is {tuple(given.shape)} {given.dtype}, {name} needs "
                f"{tuple(value.shape)} {value.dtype}; it is of another network"
            )
    extra = [key for key in weights if key not in wanted]
    if extra:
        raise KptoolsError(f"the checkpoint has {extra[0]}, which {name} has not")
    network.load_state_dict(dict(weights), assign=network_is_meta(network))


def network_is_meta(network: nn.Module) -> bool:
    """Whether the network has shapes and no memory yet."""
    return any(p.is_meta for p in network.parameters())


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
    write(path, checkpoint.weights, meta)


def is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def load(path: str) -> Checkpoint:
    """Raises KptoolsError: not there, not a checkpoint, another version, weights not finite."""
    tensors, meta = read(path)
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
        models.check(model.arch)
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
        and model.heatmap == (model.arch in models.HEATMAP_ARCHS)
        and all(math.isfinite(v) for point in mean for v in point)
    )
    if not sound:
        raise ValueError("a size or a count is out of bounds")
    return model


def write(path: Path, tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and metadata whole or not at all. KptoolsError where the disk says no."""
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"), allow_nan=False)
    path = files.target(path)
    try:
        if files.special(path):
            with open(path, "wb") as handle:
                _write(handle, tensors, text)
        else:
            with files.writing(path) as handle:
                _write(handle, tensors, text)
    except OSError as error:
        raise KptoolsError(f"cannot write {path}: {error.strerror}; make room there") from None


# What safetensors calls them, in the order in which it puts them into a file
_DTYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def _write(handle: IO[bytes], tensors: Mapping[str, Tensor], text: str) -> None:
    """The bytes that safetensors.torch.save makes, a tensor at a time: a training run's state is
    not to be in memory twice. (save_file puts a file of its own, which the owner alone may read, in
    the place of ours.)"""
    rank = list(_DTYPES)
    order = sorted(tensors, key=lambda name: (rank.index(tensors[name].dtype), name))
    header: dict[str, Any] = {"__metadata__": {"kptools": text}}
    end = 0
    for name in order:
        tensor = tensors[name]
        begin, end = end, end + tensor.nbytes
        header[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    head = orjson.dumps(header)
    head += b" " * (-len(head) % 8)
    handle.write(len(head).to_bytes(8, "little") + head)
    for name in order:
        flat = tensors[name].detach().cpu().contiguous().flatten()
        handle.write(flat.view(torch.uint8).numpy().data)


def read(path: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a file that `write` made. Raises KptoolsError."""
    meta = read_metadata(path)
    try:
        return safetensors.torch.load_file(path), meta
    except Exception as error:
        raise KptoolsError(f"{path} is broken: {' '.join(str(error).split())[:160]}") from None


def read_metadata(path: str) -> dict[str, Any]:
    """The metadata alone. A header over the limit is refused before it is read."""
    try:
        files.require_regular(path)
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > MAX_HEADER_BYTES or length > os.fstat(handle.fileno()).st_size:
                raise ValueError("no header")
            header = orjson.loads(handle.read(length))
        meta = orjson.loads(header["__metadata__"]["kptools"])
        if not isinstance(meta, dict):
            raise ValueError("no object")
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        with open(path, "rb") as handle:
            kind = sniff.kind(handle.read(sniff.HEAD))
        looks = f" (it looks like {kind})" if kind else ""
        raise KptoolsError(
            f"{path} is no checkpoint of kptools{looks}; kp-train -o makes one (pickles are not "
            "read)"
        ) from None
    return meta


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's weights, on the CPU."""
    return {
        name: t.detach().to("cpu", copy=True).contiguous()
        for name, t in network.state_dict().items()
    }


def device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `mps`; KptoolsError where the machine has none such."""
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    if (name == "cuda" and not cuda) or (name == "mps" and not mps):
        raise KptoolsError(f"--device {name}: this machine has none that torch can use")
    return torch.device(name)
