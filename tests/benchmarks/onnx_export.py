"""ONNX files against PyTorch: whether the numbers are the same, and which is faster.

    python tests/benchmarks/onnx_export.py --full

Of each architecture of the table, at its own input size, untrained but with its batch norms set:
the largest difference of points and scores between `kp-predict --export` in onnxruntime and the
same graph in PyTorch (of numbers beyond 1, points outside the input, relative to them), and the
images/s of the forward pass of 16 faces on one thread: onnxruntime over PyTorch in fp32, and over
PyTorch in bf16, both as kp-predict has them. Needs the extra `onnx`.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import median
from time import perf_counter

import common
import numpy as np
import onnxruntime
import torch

from kptools.inference.export import Graph, export
from kptools.inference.torch_engine import prepare
from kptools.models import archs, box, build, checkpoint
from kptools.models.checkpoint import Checkpoint
from kptools.models.network import forward
from kptools.specs import InputSpec, ModelSpec

CPU = torch.device("cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="five repeats instead of one")
    parser.add_argument("--only", default="", help="the architectures whose name contains this")
    args = parser.parse_args()
    torch.set_num_threads(1)
    cases = [(name, head) for name, entry in archs.ARCHS.items() for head in entry.heads]
    cases = [case for case in cases if args.only in case[0]]
    rows = []
    for name, head in [("box", ""), *cases] if args.only in "box" else cases:
        made = checkpoint.load(box.path()) if name == "box" else untrained(name, head)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.onnx"
            export(made, path)
            rows.append((name, head, *compare(made, path, 5 if args.full else 1)))
            print(*rows[-1], flush=True)
    head_row = ("network", "head", "difference", "over fp32", "over bf16", "images/s")
    common.table(head_row, rows)


def untrained(arch: str, head: str) -> Checkpoint:
    """A network as it is born, but for the statistics of its batch norms: those of noise; it gives
    scores."""
    torch.manual_seed(0)
    entry = archs.get(arch)
    network = build.build(arch, 68, entry.input, head=head)
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 1.0
        if hasattr(module, "distance_weight"):  # where it is zero there are no scores
            torch.nn.init.normal_(module.distance_weight, std=0.1)
        if hasattr(module, "local_output"):
            torch.nn.init.normal_(module.local_output, std=0.1)
    channels, (width, height) = 1 if entry.grey else 3, entry.input
    with torch.no_grad():
        network.train()(torch.randn(4, channels, height, width))
    model = ModelSpec(
        arch=arch,
        scheme="ibug68",
        count=68,
        input=InputSpec(entry.input, entry.margin, grey=entry.grey),
        box_sources=("dataset",),
        mean=((0.5, 0.5),) * 68,
        head=head,
    )
    return Checkpoint(model, network.state_dict())


def compare(made: Checkpoint, path: Path, repeats: int) -> tuple[object, ...]:
    """The largest difference, the two ratios, and the images/s of onnxruntime."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    channels, (width, height) = made.model.input.channels, made.model.input.size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (16, channels, height, width)).astype(np.float32)
    graph = Graph(made.network(), made.model.input).eval()
    given = torch.from_numpy(pixels)
    with torch.inference_mode():
        wanted = graph(given)
        found = session.run(None, {"pixels": pixels})
        off = max(
            float((np.abs(f - w.numpy()) / np.maximum(1, np.abs(w.numpy()))).max())
            for f, w in zip(found, wanted, strict=True)
        )
        quick = {precision: made.network() for precision in ("fp32", "bf16")}
        for precision, network in quick.items():
            prepare(network, CPU, precision)  # as kp-predict has them
        runs = {
            "onnx": lambda: session.run(None, {"pixels": pixels}),
            "fp32": lambda: forward(quick["fp32"], given, "fp32"),
            "bf16": lambda: forward(quick["bf16"], given, "bf16"),
        }
        times: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(repeats + 1):  # the first warms up
            for name, run in runs.items():
                began = perf_counter()
                run()
                times[name].append(perf_counter() - began)
    seconds = {name: median(values[1:]) for name, values in times.items()}
    ratios = (f"{seconds[name] / seconds['onnx']:.2f}" for name in ("fp32", "bf16"))
    return f"{off:.1e}", *ratios, f"{16 / seconds['onnx']:.0f}"


if __name__ == "__main__":
    main()
