"""Networks by their error and their speed on one core, next to dlib's shape predictor.

    python tests/benchmarks/pareto.py FACES.jsonl tiny.safetensors small.safetensors --dlib dlib.dat

FACES.jsonl are annotated faces on which nothing was trained. Each network (a checkpoint or an ONNX
file) looks at the faces as `kp-predict` has it look by default, in the precision that is faster
here. Of each: NME as kp-eval has it, and faces/s on one thread, from decoded crops to points in the
file's pixels, 16 faces at a time, and from JPEG files to the same. All are measured in turn. dlib's
(`pip install dlib-bin`) starts from decoded grey pictures; tests/benchmarks/accuracy.py trains one.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import common
import numpy as np
import torch
from PIL import Image

from kptools import runtime
from kptools.augment.sample import sample
from kptools.inference.engine import Crop, Engine
from kptools.inference.onnx_engine import OnnxEngine
from kptools.inference.prediction import framed, prediction
from kptools.inference.torch_engine import TorchEngine
from kptools.models import checkpoint
from kptools.pixels.crop_spec import crop_spec
from kptools.pixels.decode import decode_crop
from kptools.records.face import Face

BATCH = 16
Record = dict[str, Any]
Side = Callable[[], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("networks", nargs="+")
    parser.add_argument("--dlib", help="a shape predictor, trained on faces of the same scheme")
    parser.add_argument("--count", type=int, default=160, help="faces to measure the speed on")
    parser.add_argument("--rounds", type=int, default=common.ROUNDS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    records = common.read(args.faces)[: args.count]
    sides: dict[str, tuple[Side, Side]] = {}
    nmes: dict[str, float] = {}
    for path in args.networks:
        sides[path] = network_sides(engine_of(path), records)
        predicted = common.tool("predict", "--threads", 1, path, args.faces)
        nmes[path] = nme(predicted)
    if args.dlib:
        sides["dlib"] = dlib_sides(args.dlib, records)
        nmes["dlib"] = nme(dlib_predictions(args.dlib, common.read(args.faces)))
    times: dict[str, list[list[float]]] = {name: [[], []] for name in sides}
    for turn in range(args.rounds + 1):  # the first warms up
        for name, pair in sides.items():
            for side, kept in zip(pair, times[name], strict=True):
                began = perf_counter()
                side()
                if turn:
                    kept.append(perf_counter() - began)
    rows = []
    for name, (crops, files) in times.items():
        rates = (len(records) / median(crops), len(records) / median(files))
        rows.append((Path(name).name, 100 * nmes[name], *rates))
    rows.sort(key=lambda row: -row[2])
    common.table(("", "NME, %", "crops to points, faces/s", "JPEG to points, faces/s"), rows)


def nme(predicted: bytes) -> float:
    report = json.loads(common.tool("eval", "--format", "json", stdin=predicted))
    return float(report["nme"])


def engine_of(path: str) -> Engine:
    if path.endswith(".onnx"):
        return OnnxEngine(path, threads=1)
    loaded = checkpoint.load(path)
    device = torch.device("cpu")
    precision = runtime.precision_for(device, "auto")
    return TorchEngine(loaded.network(), loaded.model, device=device, precision=precision)


def network_sides(engine: Engine, records: list[Record]) -> tuple[Side, Side]:
    """From crops, and from files, to the keys of the predictions."""
    mean = np.array(engine.model.mean)

    def crop(record: Record) -> Crop:
        face = framed(Face.parse(record), engine.model)
        spec = crop_spec([face], engine.model.input, align=engine.aligns)
        return Crop(face, sample(face, 0), spec, decode_crop(face.image, face.box, spec))

    def decode(crops: list[Crop]) -> list[Record]:
        found = engine.decode(crops)
        return [
            prediction(
                one.face,
                found.points[row],
                None if found.scores is None else found.scores[row],
                one.transform,
                engine.model.input,
                mean,
            )
            for row, one in enumerate(crops)
        ]

    crops = [crop(record) for record in records]
    starts = range(0, len(records), BATCH)
    return (
        lambda: [decode(crops[i : i + BATCH]) for i in starts],
        lambda: [decode([crop(record) for record in records[i : i + BATCH]]) for i in starts],
    )


def dlib_sides(path: str, records: list[Record]) -> tuple[Side, Side]:
    import dlib

    predictor = dlib.shape_predictor(path)
    pictures = [grey(record) for record in records]
    pairs = list(zip(pictures, records, strict=True))
    return (
        lambda: [points(predictor, picture, record) for picture, record in pairs],
        lambda: [points(predictor, grey(record), record) for record in records],
    )


def dlib_predictions(path: str, records: list[Record]) -> bytes:
    import dlib
    import orjson

    predictor = dlib.shape_predictor(path)
    for record in records:
        record["pred"] = points(predictor, grey(record), record)
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def grey(record: Record) -> Any:
    return np.array(Image.open(record["image"]).convert("L"))


def points(predictor: Any, picture: Any, record: Record) -> list[list[float]]:
    """dlib's points, in the pixels of the file, of the face in a record's box."""
    import dlib

    found = predictor(picture, dlib.rectangle(*(round(edge) for edge in record["box"])))
    return [[part.x, part.y] for part in found.parts()]


if __name__ == "__main__":
    main()
