"""A network as an ONNX file: crops in, points out, and in its metadata what it expects.

The graph holds the normalisation of the pixels and the decoding of the output, so that a program
without kptools has a crop to make and no more. It is one look at each face: no second pass, no
mirror image, no shape prior.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kptools.errors import KptoolsError, UsageError
from kptools.inference.onnx_names import INPUT, METADATA, POINTS, SCORES, SUFFIX
from kptools.models import metadata
from kptools.models.checkpoint import Checkpoint
from kptools.models.metadata import VERSION
from kptools.models.network import Network
from kptools.specs import GREY, IMAGENET, InputSpec
from kptools.storage import files, scheme_files

OPSET = 18


class Graph(nn.Module):
    """A network from pixels (B, C, H, W) float32, 0 to 255, RGB or grey, to points (B, K, 2) in
    fractions of the input and, if `scored`, their scores (B, K)."""

    scale: Tensor
    offset: Tensor

    def __init__(self, network: Network, spec: InputSpec, *, scored: bool = True) -> None:
        super().__init__()
        self.network = network
        self.scored = scored
        mean, deviation = spec.normalization or (GREY if spec.grey else IMAGENET)
        scale = 1 / torch.tensor(deviation)
        self.register_buffer("scale", (scale / 255).view(-1, 1, 1))
        self.register_buffer("offset", (-torch.tensor(mean) * scale).view(-1, 1, 1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        output = self.network(pixels * self.scale + self.offset)
        found = self.network.head.decode_in_graph(output)
        return found if self.scored else found[:1]


def export(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint's network, in float32, whole or not at all; batches may be of any size.
    UsageError where the name does not end in .onnx, KptoolsError where PyTorch's exporter is not
    installed or cannot take the network, or the disk says no."""
    if path.suffix != SUFFIX:
        raise UsageError(f"--export {path}: the name of an ONNX file ends in {SUFFIX}")
    try:
        import onnxscript  # noqa: F401
    except ImportError:
        raise KptoolsError(
            "--export needs the packages onnx and onnxscript; pip install onnx onnxscript"
        ) from None
    model = checkpoint.model
    network = checkpoint.network()
    if not hasattr(network.head, "decode_in_graph"):
        raise KptoolsError(f"--export: {model.head} is a head that no graph can decode")
    width, height = model.input.size
    example = torch.zeros(2, model.input.channels, height, width)
    with torch.inference_mode():  # a network of before there were scores has none
        scored = network.head.decode(network(example)).scores is not None
    graph = Graph(network, model.input, scored=scored).eval()
    try:
        with warnings.catch_warnings(), _quiet("torch.onnx"), _quiet("onnxscript"):
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                graph,
                (example,),
                input_names=[INPUT],
                output_names=[POINTS, SCORES] if scored else [POINTS],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
            proto = program.model_proto
            described = proto.metadata_props.add()
            described.key = METADATA
            meta: dict[str, Any] = {"version": VERSION, "model": metadata.described(model)}
            meta["run"] = checkpoint.run  # where it comes from
            meta |= scheme_files.metadata_of(model.scheme)
            described.value = json.dumps(meta, sort_keys=True)
            data = proto.SerializeToString()
    except Exception as error:  # of whatever step: the exporter says its own in many lines
        reason = " ".join(str(error.__cause__ or error).split())[:160]
        raise KptoolsError(f"--export: PyTorch cannot export {model.arch}: {reason}") from None
    files.write_output(path, data)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without the remarks of a library on its own workings."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
