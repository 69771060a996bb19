"""Tensors and a JSON string in one file (safetensors)."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import orjson
import safetensors.torch
import torch
from torch import Tensor, nn

from kptools.errors import KptoolsError
from kptools.storage import files
from kptools.storage.tensor_metadata import read_metadata


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


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """The table of tensors in a file: safetensors, or torch.save's (never unpickled beyond
    tensors). Raises what they raise, and TypeError where it holds no table."""
    files.require_regular(path)
    state = (
        safetensors.torch.load_file(path)
        if path.suffix == ".safetensors"
        else torch.load(path, map_location="cpu", weights_only=True)
    )
    if not isinstance(state, dict):
        raise TypeError("it holds no table of tensors")
    return state


def network_is_meta(network: nn.Module) -> bool:
    """Whether the network has shapes and no memory yet."""
    return any(p.is_meta for p in network.parameters())


def is_finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and metadata whole or not at all. KptoolsError where the disk says no."""
    text = json.dumps(meta, sort_keys=True, separators=(",", ":"), allow_nan=False)
    path = files.resolve_output(path)
    try:
        if files.is_special(path):
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


def read_tensors(path: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the metadata of a file that `write_tensors` made. Raises KptoolsError."""
    meta = read_metadata(path)
    try:
        return safetensors.torch.load_file(path), meta
    except Exception as error:
        raise KptoolsError(f"{path} is broken: {' '.join(str(error).split())[:160]}") from None


def tensors_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of a network's weights, on the CPU."""
    return {
        name: t.detach().to("cpu", copy=True).contiguous()
        for name, t in network.state_dict().items()
    }
