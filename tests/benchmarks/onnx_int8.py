"""Networks in 8 bits: how much faster onnxruntime is with them, and what they cost in accuracy.

    python tests/benchmarks/onnx_int8.py --full [CKPT...]

Of the network in the box, and of checkpoints with heatmaps: NME (one look at each face, softargmax)
and images/s on one thread, decoding of the maps counted, 16 faces at a time, by torch in fp32 and
bf16, by onnxruntime in fp32, and in int8: onnxruntime's static quantisation, by channels,
calibrated on drawn faces. `--records` names annotated faces; without it they are drawn. Needs the
extra `onnx`.
"""

import argparse
import json
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import common
import numpy as np
import onnx
import torch
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from kptools.augment.transform import Transform
from kptools.inference.engine import Crop, Engine
from kptools.inference.export import export
from kptools.inference.onnx_engine import OnnxEngine
from kptools.inference.onnx_names import INPUT
from kptools.inference.passes import Passes
from kptools.inference.prediction import framed
from kptools.inference.torch_engine import TorchEngine
from kptools.models import box, checkpoint
from kptools.pixels.crop_spec import crop_spec
from kptools.pixels.decode import decode_crop
from kptools.records.face import Face
from kptools.specs import ModelSpec

CALIBRATION = 64  # drawn faces
AS_THE_GRAPH = ("--passes", 1, "--no-flip", "--no-shape-prior", "--decode", "softargmax")
LAYERS = ["Conv", "ConvTranspose", "Gemm"]  # what is quantised: the decoding stays as it is


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="long enough to quote")
    parser.add_argument("--records", default="", help="annotated faces, in place of drawn ones")
    parser.add_argument("checkpoints", nargs="*", help="beside the network in the box")
    args = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        drawn = common.faces(folder / "calibration", CALIBRATION, enlarge=1)
        records = Path(args.records) if args.records else folder / "scored.jsonl"
        if not args.records:
            words = ("--count", 400 if args.full else 50, "--seed", 1, "--out", folder / "scored")
            records.write_bytes(common.tool("prep", "synth", *words))
        rows: list[Any] = []
        for path in (box.path(), *args.checkpoints):
            rows += measure(path, drawn, records, folder, 5 if args.full else 2)
            print(*rows[-4:], sep="\n", flush=True)
    common.table(("network", "by", "images/s", "over torch fp32", "over bf16", "NME"), rows)


def measure(path: str, drawn: Path, records: Path, folder: Path, repeats: int) -> list[Any]:
    loaded = checkpoint.load(path)
    plain, small = folder / "plain.onnx", folder / "int8.onnx"
    export(loaded, plain)
    crops = [crop_of(record, loaded.model) for record in common.read(drawn)]
    quantise(plain, small, crops)
    engines: dict[str, Engine] = {
        f"torch {precision}": TorchEngine(
            loaded.network(),
            loaded.model,
            device=torch.device("cpu"),
            precision=precision,
            decoder="softargmax" if loaded.model.head == "heatmap" else None,
            passes=Passes(),
        )
        for precision in ("fp32", "bf16")
    }
    engines |= {"onnx fp32": OnnxEngine(str(plain), threads=1)}
    engines |= {"onnx int8": OnnxEngine(str(small), threads=1)}
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(repeats + 1):  # the first warms up
        for name, engine in engines.items():
            began = perf_counter()
            engine.decode(crops[:16])
            times[name].append(perf_counter() - began)
    seconds = {name: median(values[1:]) for name, values in times.items()}
    words = {
        "torch fp32": (path, *AS_THE_GRAPH, "--precision", "fp32"),
        "torch bf16": (path, *AS_THE_GRAPH, "--precision", "bf16"),
        "onnx fp32": (plain,),
        "onnx int8": (small,),
    }
    return [
        (
            loaded.model.arch,
            name,
            16 / s,
            seconds["torch fp32"] / s,
            seconds["torch bf16"] / s,
            f"{100 * nme(records, *words[name]):.3f} %",
        )
        for name, s in seconds.items()
    ]


def nme(records: Path, *words: object) -> float:
    """Of the points by which these arguments of kp-predict predict."""
    predicted = common.tool("predict", *words, "--threads", 1, records)
    return float(json.loads(common.tool("eval", stdin=predicted))["nme"])


def crop_of(record: dict[str, Any], model: ModelSpec) -> Crop:
    face = framed(Face.parse(record), model)
    spec = crop_spec([face], model.input)
    return Crop(face, Transform(), spec, decode_crop(face.image, face.box, spec))


class Faces(CalibrationDataReader):  # type: ignore[misc]
    """Crops, one at a time, as the graph takes them."""

    def __init__(self, crops: list[Crop]) -> None:
        self.each: Iterator[Crop] = iter(crops)

    def get_next(self) -> dict[str, Any] | None:
        crop = next(self.each, None)
        return crop and {INPUT: np.float32(crop.pixels.transpose(2, 0, 1)[None])}


def quantise(plain: Path, small: Path, crops: list[Crop]) -> None:
    prepared = small.with_suffix(".prepared")
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    quantize_static(
        str(prepared),
        str(small),
        Faces(crops),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        op_types_to_quantize=LAYERS,
    )
    model = onnx.load(str(small))
    onnx.helper.set_model_props(
        model, {p.key: p.value for p in onnx.load(str(plain)).metadata_props}
    )
    onnx.save(model, str(small))


if __name__ == "__main__":
    main()
