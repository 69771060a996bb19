"""kp-predict's own loop, inside this process, for the benchmarks that look into it."""

import torch

from kptools import runtime
from kptools.cli.options import cores
from kptools.inference.predictor import Predictor
from kptools.inference.torch_engine import TorchEngine, default_batch
from kptools.models import archs, build
from kptools.models.network import Network
from kptools.records.stream import Stream
from kptools.specs import InputSpec, ModelSpec


def network(arch: str, size: tuple[int, int]) -> Network:
    torch.manual_seed(0)
    return build.build(arch, 68, size).eval()


def model(arch: str, size: tuple[int, int]) -> ModelSpec:
    defaults = archs.get(arch)
    return ModelSpec(
        arch=arch,
        scheme="ibug68",
        count=68,
        input=InputSpec(size, defaults.margin, defaults.grey),
        box_sources=("detector:synth",),
        mean=tuple((0.5, 0.5) for _ in range(68)),
    )


def predict(
    path: str, network: Network, arch: str, size: tuple[int, int], device: str = "cpu"
) -> int:
    """Predict and write the records, as kp-predict does; how many there were."""
    where = runtime.device(device)
    precision = runtime.precision_for(where, "auto")
    engine = TorchEngine(network, model(arch, size), device=where, precision=precision)
    predictor = Predictor(engine, batch=default_batch(where), workers=cores(0))
    stream = Stream([path], "/dev/null")
    for item in predictor.run(stream, stream.fail, stream.ready):
        stream.write(item)
    stream.close()
    return stream.count
