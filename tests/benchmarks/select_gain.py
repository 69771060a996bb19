"""What `kp-prep select` is worth: the network in the box learns from 50 faces that were selected,
and from 50 at random, and is scored on other photos.

    python tests/benchmarks/select_gain.py faces.jsonl --pack DIR --leave-out IDS.txt
    python tests/benchmarks/select_gain.py DIR/faces.jsonl --seeds 0-4 --workers 2 --out gain.jsonl

Annotated faces come in, as of `kp-prep ibug`. For each seed their photos are parted by chance into
a test (three of ten) and a pool. Each arm takes faces of the pool, the same network learns from
them as docs/networks.md says, and the annotation stands for the correction. `taken, before` is the
NME that the network in the box has on the faces that were taken, in %; `less random` is the
NME less that of `random`, the mean over the seeds, with its standard error. `--pack` copies the
pictures, as they are, into a folder that can be carried to another machine. A run that was cut off
goes on with what `--out` holds.
"""

import argparse
import json
import math
import random
import shutil
import statistics
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np
import orjson

from kptools import geometry as g
from kptools.evaluation.selection import Selector, doubt
from kptools.records.item import Item

Record = dict[str, Any]
Selection = Callable[["Pool", int, int], list[Record]]
RECIPE = ("--init", "box", "--lr", "3e-4", "--val-fraction", 0, "--keep", "last", "--threads", 1)
COPIES = ("--copies", 8, "--rotate", 10, "--scale", 0.1)
TEST = 0.3
MEANS = ("nme", "failures", "taken")
WRITING = threading.Lock()


class Pool:
    """The faces to take from, as the network in the box predicts them: once, and in copies."""

    def __init__(self, once: list[Record], copies: list[Record]) -> None:
        self.once, self.copies = once, copies


def before(pool: Pool, count: int, seed: int) -> list[Record]:
    """No face: the network in the box as it is."""
    return []


def at_random(pool: Pool, count: int, seed: int) -> list[Record]:
    return random.Random(f"choice {seed}").sample(pool.once, count)


def by_tool(pool: Pool, count: int, seed: int) -> list[Record]:
    """As `kp-prep select` does it by default."""
    return _select(pool.once, count)


def by_spread(pool: Pool, count: int, seed: int) -> list[Record]:
    return _select(pool.copies, count, "--by", "spread")


def by_size(size: int, pool: Pool, count: int, seed: int) -> list[Record]:
    """Of the least sure faces `size` times as many: with 1 the least sure, with many all faces."""
    selector = Selector(count, "score", size)
    for record in pool.once:
        selector.add(Item(record, "", 0))
    return [item.record for item in selector.selected()]


def mixed(pool: Pool, count: int, seed: int) -> list[Record]:
    """Half of them by the tool, half at random."""
    half = _select(pool.once, count // 2)
    ids = {record["id"] for record in half}
    rest = [record for record in pool.once if record["id"] not in ids]
    return half + random.Random(f"choice {seed}").sample(rest, count - len(half))


def in_range(low: float, high: float, pool: Pool, count: int, seed: int) -> list[Record]:
    """At random from those between two quantiles of doubt: 0 the surest, 1 the least sure."""
    ranked = sorted(pool.once, key=lambda record: doubt(record, "score"))
    some = ranked[int(low * len(ranked)) : int(high * len(ranked))]
    return random.Random(f"choice {seed}").sample(some, count)


def medoids(pool: Pool, count: int, seed: int) -> list[Record]:
    """The face in the middle of each of `count` clusters of shapes (k-means): typical ones."""
    shapes = np.stack([_shape(record) for record in pool.once])
    random_state = np.random.default_rng(seed)
    centres = shapes[random_state.choice(len(shapes), count, replace=False)]
    for _ in range(30):
        nearest = _squared(shapes, centres).argmin(axis=1)
        centres = np.stack(
            [
                shapes[nearest == i].mean(axis=0) if (nearest == i).any() else centres[i]
                for i in range(count)
            ]
        )
    taken = dict.fromkeys(_squared(shapes, centres).argmin(axis=0).tolist())
    return [pool.once[i] for i in taken]


def _shape(record: Record) -> np.ndarray:
    return g.normalize(np.array(record["pred"]), record["box"]).ravel()


def _squared(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    return ((some[:, None] - others[None]) ** 2).sum(axis=2)


ARMS: dict[str, Selection] = {
    "before": before,
    "random": at_random,
    "select": by_tool,
    "spread": by_spread,
    "score": partial(by_size, 1),
    "shapes": partial(by_size, 1000),
    "twice": partial(by_size, 2),
    "8times": partial(by_size, 8),
    "mixed": mixed,
    "half": partial(in_range, 0.5, 1.0),
    "upper": partial(in_range, 0.6, 0.95),
    "medoids": medoids,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path, help="records of annotated faces")
    parser.add_argument("--pack", type=Path, help="copy the faces into this folder, and end")
    parser.add_argument("--leave-out", type=Path, help="with --pack: ids to leave out, one a line")
    parser.add_argument(
        "--arms", default="before,random,select,spread,score,shapes", help=",".join(ARMS)
    )
    parser.add_argument("--seeds", default="0-4", help="as 0-4, or one number")
    parser.add_argument("--count", type=int, default=50, help="of faces that are taken")
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--train", default="", help="more options of kp-train, in one word")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--workers", type=int, default=1, help="trainings at a time")
    parser.add_argument("--out", type=Path, default=Path("select_gain.jsonl"), help="the results")
    parser.add_argument("--quick", action="store_true", help="few faces, one epoch: figures rough")
    args = parser.parse_args()
    if args.pack:
        pack(args.faces, args.pack, args.leave_out)
        return
    records = common.read(args.faces)
    for record in records:  # of a packed folder; other paths are absolute
        record["image"] = str(args.faces.parent / record["image"])
    if args.quick:
        records, args.count, args.epochs = records[:80], 8, 1
    first, _, last = args.seeds.partition("-")
    seeds = range(int(first), int(last or first) + 1)
    run(records, args.arms.split(","), seeds, args)
    results = common.read(args.out)
    head = ("faces", "NME, %", "failures, %", "taken, before", "less random", "error of it")
    common.table((*head, *(f"seed {seed}" for seed in seeds)), rows(results, seeds), args.device)


def pack(faces: Path, folder: Path, leave_out: Path | None) -> None:
    """Copy pictures and records into `folder`, but for those whose ids are left out."""
    ids = set(leave_out.read_text().split()) if leave_out else set()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "faces.jsonl").open("wb") as lines:
        for record in common.read(faces):
            if record["id"] in ids:
                continue
            image = Path(record["image"])
            name = record["id"].replace("/", "-") + image.suffix
            shutil.copyfile(image, folder / name)
            lines.write(orjson.dumps(record | {"image": name}) + b"\n")


def run(
    records: list[Record], arms: list[str], seeds: Iterable[int], args: argparse.Namespace
) -> None:
    """Add to `--out` a line for each arm and seed that it lacks, as soon as it is there."""
    done = {(r["arm"], r["seed"]) for r in common.read(args.out)} if args.out.exists() else set()
    wanted = [(arm, seed) for seed in seeds for arm in arms if (arm, seed) not in done]
    if not wanted:
        return
    once = predict(records, args.device)
    copied = b""
    if "spread" in arms:
        copied = common.tool("augment", *COPIES, stdin=lines_of(records))
    copies = predict([orjson.loads(line) for line in copied.splitlines()], args.device)

    def one(what: tuple[str, int]) -> None:
        arm, seed = what
        test = test_groups(records, seed)
        pool = Pool(*([r for r in some if r["group"] not in test] for some in (once, copies)))
        taken = ARMS[arm](pool, args.count, seed)
        rest = [r for r in records if r["group"] in test]
        result = {"arm": arm, "seed": seed, "pool": len(pool.once), "test": len(rest)}
        result |= learn(taken, rest, seed, args)
        with WRITING, args.out.open("ab") as out:
            out.write(orjson.dumps(result) + b"\n")
            print(json.dumps(result), flush=True)

    with ThreadPoolExecutor(args.workers) as workers:
        for _ in workers.map(one, wanted):
            pass


def test_groups(records: list[Record], seed: int) -> set[str]:
    """The photos that are scored."""
    groups = sorted({record["group"] for record in records})
    return set(random.Random(f"test {seed}").sample(groups, round(TEST * len(groups))))


def learn(
    taken: list[Record], test: list[Record], seed: int, args: argparse.Namespace
) -> dict[str, Any]:
    """Train on the faces that were taken, if there are any, and score the others."""
    if not taken:
        return _result(score(predict(test, args.device)))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.safetensors"
        policy = common.tool("augment", "--preset", "face", "--seed", seed, stdin=lines_of(taken))
        words = (*RECIPE, "--epochs", args.epochs, "--seed", seed, "--device", args.device)
        common.tool("train", *words, *args.train.split(), "-o", path, stdin=policy)
        report = score(predict(test, args.device, path))
    return _result(report) | {
        "taken": score(taken)["nme"],
        "ids": [record["id"] for record in taken],
    }


def _result(report: dict[str, Any]) -> dict[str, Any]:
    return {"nme": report["nme"], "failures": report["failure_rate"]}


def predict(records: list[Record], device: str, *network: object) -> list[Record]:
    if not records:
        return []
    words = (*network, "--device", device, "--threads", 1)
    out = common.tool("predict", *words, stdin=lines_of(records))
    return [orjson.loads(line) for line in out.splitlines()]


def score(records: list[Record]) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(common.tool("eval", stdin=lines_of(records)))
    return report


def rows(results: list[dict[str, Any]], seeds: Sequence[int]) -> Iterator[tuple[Any, ...]]:
    """A row an arm: its means, and how it compares with `random` where both have a seed."""
    nme = {(r["arm"], r["seed"]): 100 * r["nme"] for r in results}
    nan = math.nan
    results = [r for r in results if r["seed"] in seeds]
    for arm in [arm for arm in ARMS if any(r["arm"] == arm for r in results)]:
        mine = [r for r in results if r["arm"] == arm]
        both = [s for s in seeds if (arm, s) in nme and ("random", s) in nme]
        apart = [nme[arm, s] - nme["random", s] for s in both] or [nan]
        error = statistics.stdev(apart) / len(apart) ** 0.5 if len(apart) > 1 else nan
        yield (
            arm,
            *(100 * statistics.mean(r.get(key, nan) for r in mine) for key in MEANS),
            statistics.mean(apart),
            error,
            *(nme.get((arm, seed), nan) for seed in seeds),
        )


def _select(records: list[Record], count: int, *words: object) -> list[Record]:
    out = common.tool("prep", "select", "--count", count, *words, stdin=lines_of(records))
    return [orjson.loads(line) for line in out.splitlines()]


def lines_of(records: list[Record]) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


if __name__ == "__main__":
    main()
