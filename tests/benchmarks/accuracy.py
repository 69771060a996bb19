"""The accuracy of `examples/accuracy.sh` on faces that no run sees, beside dlib's shape predictor
trained on the same faces: the mean of some seeds with its interval.

    python tests/benchmarks/accuracy.py ROOT IDS.txt --out out/accuracy

ROOT holds iBUG 300-W in dlib's layout with the .pts files, IDS.txt the ids of the faces to keep
apart, one a line. A run that was cut off is resumed; `--no-train` scores runs that have ended. dlib
needs `pip install dlib-bin`. `--imm` and `--youtube` name folders of other people's pictures, whose
boxes are by dlib's detector: the IMM face database, by the ten points that it shares with iBUG, and
the frames of Udacity's course with their CSV. Of IMM also all 58 points, by an adapter that learnt
them from the 68 predicted ones of persons 1 to 24, on persons 25 to 32.
"""

import argparse
import csv
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import orjson
from PIL import Image

from kptools.datasets.detectors import Detector, dlib_frontal
from kptools.errors import RecordError
from kptools.geometry import from_list

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "accuracy.sh"
# Of IMM's points those that iBUG has too: the corners of the eyes and of the mouth, its top and
# bottom, the base of the nose and the chin
IMM_IN_IBUG = {21: 36, 25: 39, 17: 42, 13: 45, 39: 48, 41: 51, 43: 54, 45: 57, 52: 33, 6: 8}
IMM_PERSONS = 24  # by which an adapter learns; the others are scored
Record = dict[str, Any]
# Student's t, two-sided 95 %, by the number of seeds
T95 = {2: 12.71, 3: 4.303, 4: 3.182, 5: 2.776}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="iBUG 300-W, or a folder above it")
    parser.add_argument("ids", type=Path, help="the ids to keep apart, one a line")
    parser.add_argument("--out", type=Path, default=Path("out/accuracy"))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--no-train", action="store_true", help="score the runs in --out")
    parser.add_argument("--no-dlib", action="store_true")
    parser.add_argument("--imm", type=Path, help="a folder of the IMM face database")
    parser.add_argument("--youtube", type=Path, help="a folder of Udacity's frames and their CSV")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    rows, reports = [], []
    for seed in range(args.seeds):
        checkpoint = args.out / f"seed{seed}.safetensors"
        if not args.no_train:
            _train(args.root, checkpoint, args.ids, seed)
        report = score(checkpoint.with_name(f"seed{seed}.preds.jsonl"))
        log = common.read(checkpoint.with_name(f"seed{seed}.log.jsonl"))
        minutes = sum(epoch["seconds"] for epoch in log) / 60
        reports.append(report)
        rows.append((f"kptools, seed {seed}", *figures(report), minutes))
    rows.append(("kptools, mean", *(_mean([r[i] for r in rows]) for i in range(1, 6)), ""))
    if not args.no_dlib:
        began = time.perf_counter()
        predictions = args.out / "dlib.preds.jsonl"
        if not args.no_train:
            _dlib(args.out, predictions)
        took = "" if args.no_train else (time.perf_counter() - began) / 60
        rows.append(("dlib, same faces", *figures(score(predictions)), took))
    for name, records in others(args.imm, args.youtube):
        for seed in range(args.seeds):
            path = args.out / f"{name}.seed{seed}.preds.jsonl"
            predict_other(path, records, [args.out / f"seed{seed}.safetensors"])
            rows.append((f"kptools, seed {seed}, on {name}", *figures(score(path)), ""))
            if name == "IMM":
                report = score(_adapt(args.out, path, seed))
                rows.append((f"kptools, seed {seed}, adapted to IMM", *figures(report), ""))
    head = ("", "NME, %", "MAE of the photos, px", "failures, %", "AUC", "tenths by score")
    common.table((*head, "minutes"), rows)
    nmes = [100 * report["nme"] for report in reports]
    if len(nmes) in T95:
        half = T95[len(nmes)] * statistics.stdev(nmes) / math.sqrt(len(nmes))
        print(f"NME {statistics.mean(nmes):.3f} +- {half:.3f} % (95 %, over seeds)")
    print("NME {:.2f} to {:.2f} % (95 %, over faces, seed 0)".format(*_over_faces(args.out)))
    size = (args.out / "seed0.safetensors").stat().st_size
    print(f"checkpoint {size / 1e6:.1f} MB; {_rate(args.out):.0f} faces/s from files")


def _train(root: str, checkpoint: Path, ids: Path, seed: int) -> None:
    venv = Path(sys.prefix)
    env = os.environ | {"SEED": str(seed), "KPTOOLS_VENV": str(venv)}
    for extras in ("", "[pretrained]"):
        if not (venv / f".kptools{extras}").exists():
            sys.exit(f"run this with kptools{extras} installed by examples/env.sh in {venv}")
    subprocess.run(["sh", SCRIPT, root, checkpoint, ids], env=env, stdout=sys.stderr, check=True)


def score(path: Path) -> dict[str, Any]:
    """What kp-eval reports of these predictions."""
    report: dict[str, Any] = json.loads(common.tool("eval", path))
    return report


def figures(report: dict[str, Any]) -> tuple[float, float, float, float, float]:
    """NME, MAE of the photos, failures, AUC, and the error of the tenth of the points of the lowest
    scores over that of the highest."""
    tenths = report.get("by_score") or [math.nan] * 10
    return (
        100 * report["nme"],
        report.get("mae_original", math.nan),
        100 * report["failure_rate"],
        report["auc"],
        tenths[0] / tenths[-1],
    )


def others(imm: Path | None, youtube: Path | None) -> Iterator[tuple[str, list[Record]]]:
    """Other people's pictures: records with the points that are compared, and their scheme."""
    if imm is None and youtube is None:
        return
    detector = dlib_frontal.load()
    if imm is not None:
        records = [
            orjson.loads(line) for line in common.tool("prep", "imm", imm, "--repair").splitlines()
        ]
        for record in records:
            record["of_58"] = record["points"]
            record["scheme"] = "ibug68:" + ",".join(map(str, IMM_IN_IBUG.values()))
            record["points"] = [record["points"][point] for point in IMM_IN_IBUG]
        yield "IMM", [_boxed(record, detector) for record in records]
    if youtube is not None:
        (table,) = youtube.glob("*.csv")
        rows = list(csv.reader(table.open()))[1:]
        pictures = {path.name: path for path in youtube.rglob("*.jpg")}
        records = [
            {
                "image": str(pictures[name]),
                "size": list(Image.open(pictures[name]).size),
                "scheme": "ibug68",
                "points": np.array(values, dtype=float).reshape(-1, 2).tolist(),
            }
            for name, *values in rows
            if name in pictures
        ]
        yield "YouTube", [_boxed(record, detector) for record in records]


def _boxed(record: Record, detector: Detector) -> Record:
    """The record with the box of dlib's detector whose centre is nearest to that of its points,
    else with their own box."""
    points = from_list(record["points"])
    middle = points.mean(axis=0)
    try:
        boxes = [face.box for face in detector(record["image"])]
    except RecordError as error:
        sys.exit(f"{record['image']}: {error}")
    about = [box for box in boxes if (middle > box[:2]).all() and (middle < box[2:]).all()]
    if not about:
        corners = np.concatenate([points.min(axis=0), points.max(axis=0)])
        return record | {"box": corners.tolist(), "box_source": "points"}
    away = [np.hypot(*(np.reshape(box, (2, 2)).mean(axis=0) - middle)) for box in about]
    return record | {"box": list(about[int(np.argmin(away))]), "box_source": dlib_frontal.SOURCE}


def predict_other(path: Path, records: list[Record], networks: Sequence[object]) -> Path:
    """Write the predictions of other people's pictures, of the points that are compared, by the
    mean of these networks, or without one by that in the box."""
    faces = [
        {key: record[key] for key in ("image", "box", "box_source")} | {"scheme": "ibug68"}
        for record in records
    ]
    stdin = b"".join(orjson.dumps(face) + b"\n" for face in faces)
    lines = common.tool("predict", *networks, stdin=stdin).splitlines()
    with path.open("wb") as file:
        for record, line in zip(records, lines, strict=True):
            found = orjson.loads(line)
            _, _, chosen = record["scheme"].partition(":")
            at = [int(word) for word in chosen.split(",")] if chosen else range(68)
            picked = {key: [found[key][point] for point in at] for key in ("pred", "score")}
            if chosen:
                picked["of_68"] = found["pred"]
            file.write(orjson.dumps(record | picked) + b"\n")
    return path


def _adapt(out: Path, predictions: Path, seed: int) -> Path:
    """The predictions of IMM's own 58 points by an adapter, of the persons that it did not see."""
    lines = []
    for line in predictions.read_bytes().splitlines():
        record = orjson.loads(line)
        split = "train" if int(record["group"]) <= IMM_PERSONS else "val"
        record |= {"points": record.pop("of_58"), "pred": record.pop("of_68"), "scheme": "imm58"}
        del record["score"]
        lines.append(orjson.dumps(record | {"split": split}) + b"\n")
    adapter, path = out / f"adapter.seed{seed}.safetensors", out / f"adapter.seed{seed}.jsonl"
    stdin = b"".join(lines)
    path.write_bytes(common.tool("train", "--arch", "adapter", "-o", adapter, stdin=stdin))
    return path


def _mean(values: list[Any]) -> float:
    return statistics.mean(float(value) for value in values)


def _over_faces(out: Path) -> tuple[float, float]:
    """The interval, 95 %, of the mean NME over faces, by the bootstrap."""
    lines = common.tool("eval", "--records", out / "seed0.preds.jsonl").splitlines()
    nmes = np.array([orjson.loads(line)["nme"] for line in lines])
    picks = np.random.default_rng(0).integers(len(nmes), size=(2000, len(nmes)))
    low, high = np.percentile(100 * nmes[picks].mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


def _rate(out: Path) -> float:
    """Faces a second of kp-predict from their files, without its start."""
    faces, few = out / "seed0.train.jsonl", common.head(out / "seed0.train.jsonl", 64)
    seconds, counts = [], []
    for path in (few, faces):
        began = time.perf_counter()
        lines = common.tool("predict", out / "seed0.safetensors", path).splitlines()
        seconds.append(time.perf_counter() - began)
        counts.append(len(lines))
    return (counts[1] - counts[0]) / (seconds[1] - seconds[0])


def _dlib(out: Path, predictions: Path) -> None:
    """Train dlib's shape predictor (Kazemi and Sullivan, 2014) on the training faces, and predict
    the others."""
    import dlib

    train = [orjson.loads(line) for line in (out / "seed0.train.jsonl").open("rb")]
    images: dict[str, Any] = {}
    for record in train:
        images[record["image"]] = np.array(Image.open(record["image"]).convert("RGB"))
    options = dlib.shape_predictor_training_options()
    options.cascade_depth, options.tree_depth, options.num_trees_per_cascade_level = 15, 4, 500
    options.oversampling_amount, options.nu, options.feature_pool_size = 20, 0.1, 400
    options.num_threads = os.cpu_count() or 1
    options.random_seed = "kptools"
    detections = [
        [dlib.full_object_detection(_rectangle(record), _points(record))] for record in train
    ]
    model = str(out / "dlib.dat")
    predictor = dlib.train_shape_predictor(
        [images[record["image"]] for record in train], detections, options
    )
    predictor.save(model)
    with predictions.open("wb") as lines:
        for line in (out / "seed0.held-out.jsonl").open("rb"):
            record = orjson.loads(line)
            image = np.array(Image.open(record["image"]).convert("RGB"))
            found = predictor(image, _rectangle(record))
            record["pred"] = [[found.part(i).x, found.part(i).y] for i in range(found.num_parts)]
            lines.write(orjson.dumps(record) + b"\n")


def _rectangle(record: dict[str, Any]) -> Any:
    import dlib

    return dlib.rectangle(*(round(edge) for edge in record["box"]))


def _points(record: dict[str, Any]) -> Any:
    import dlib

    points = from_list(record["points"]).round().astype(int).tolist()
    return dlib.points([dlib.point(x, y) for x, y in points])


if __name__ == "__main__":
    main()
