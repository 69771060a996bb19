"""What `kp-prep check` finds of planted faults among real faces, and what else it flags.

    kp-prep ibug ROOT --annotations pts --xml labels_ibug_300W_train.xml -o faces.jsonl
    python tests/benchmarks/check_faults.py faces.jsonl --rounds 10

In each round four faces of each kind are spoilt, others each time, and all are checked with and
without `pred` of the network in the box: left and right in each other's place (`mirrored`); all
points moved by 0.2 to 0.3 of the box (`moved`); the points of another photo's face, as they lie
there (`wrong`), and laid into the box (`another`); the box of another photo, where the two overlap
by less than half (`box`) and by more (`near_box`); a smaller, recompressed copy under another name
in another split (`copy`).
"""

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
from PIL import Image

from kptools import geometry as g
from kptools.schemes import catalog

Record = dict[str, Any]
EACH = 4  # faces of a kind
KINDS = ("mirrored", "moved", "wrong", "another", "box", "near_box", "copy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path, help="records of annotated faces")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    args = parser.parse_args()
    faces = common.read(args.faces)
    for face in faces:  # a fifth of the photos are of the other split, for copies to leak into
        face["split"] = "test" if sum(map(ord, str(face["group"]))) % 5 == 0 else "train"
    found: dict[str, Counter[str]] = {"with pred": Counter(), "without": Counter()}
    planted: Counter[str] = Counter()
    others = flagged = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        known = {record["id"]: record["pred"] for record in predicted(faces)}
        for seed in range(args.seed, args.seed + args.rounds):
            records = plant(faces, random.Random(seed), folder / str(seed))
            spoilt = [record for record in records if "planted" in record]
            pred = known | {record["id"]: record["pred"] for record in predicted(spoilt)}
            planted.update(record["planted"] for record in spoilt)
            for side, counts in found.items():
                keys = [{"pred": pred[r["id"]]} if side == "with pred" else {} for r in records]
                checked = check([r | k for r, k in zip(records, keys, strict=True)])
                counts.update(r["planted"] for r in checked if "planted" in r and "flags" in r)
                twins = {r.get("duplicate_of") for r in checked if r.get("planted") == "copy"}
                sound = [r for r in checked if "planted" not in r and r["id"] not in twins]
                if side == "with pred":
                    others += len(sound)
                    flagged += sum("flags" in record for record in sound)
    rows = [
        (kind, planted[kind], *(100 * counts[kind] / planted[kind] for counts in found.values()))
        for kind in KINDS
        if planted[kind]
    ]
    common.table(("planted", "faces", "found with pred, %", "without, %"), rows)
    print(f"{100 * flagged / others:.2f} % of the other faces are flagged")


def plant(faces: Sequence[Record], chance: random.Random, folder: Path) -> list[Record]:
    """The faces, some of them spoilt; each of these says how in `planted`."""
    folder.mkdir()
    records = [dict(face) for face in faces]
    free = chance.sample(range(len(records)), len(records))
    swap = catalog.get(records[0]["scheme"]).swap
    assert swap is not None

    def some() -> list[Record]:
        return [records[free.pop()] for _ in range(EACH)]

    for record in some():
        record |= {"points": [record["points"][i] for i in swap], "planted": "mirrored"}
    for record in some():
        by = chance.uniform(0.2, 0.3) * g.side(record["box"])
        dx, dy = chance.choice([(by, 0), (-by, 0), (0, by), (0, -by)])
        moved = [[x + dx, y + dy] for x, y in record["points"]]
        record |= {"points": moved, "planted": "moved"}
    for record, other in zip(some(), some(), strict=True):
        record |= {"points": other["points"], "planted": "wrong"}
    for record, other in zip(some(), some(), strict=True):
        shape = g.normalize(np.array(other["points"]), other["box"])
        points = g.denormalize(shape, record["box"])
        record |= {"points": points.tolist(), "planted": "another"}
    for kind, is_near in (("box", False), ("near_box", True)):
        for record in some():
            boxes = [faces[i]["box"] for i in free[:500]]
            fitting = [box for box in boxes if (g.overlap(record["box"], box) > 0.5) == is_near]
            if fitting:
                record |= {"box": chance.choice(fitting), "planted": kind}
    for record in some():
        records.append(copied(record, chance.uniform(0.6, 0.9), folder))
    return records


def copied(record: Record, scale: float, folder: Path) -> Record:
    """A smaller copy of a face, in a file of its own."""
    with Image.open(record["image"]) as opened:
        picture = opened.convert("RGB")
    size = [round(side * scale) for side in picture.size]
    path = folder / f"{len(list(folder.iterdir()))}.jpg"
    picture.resize((size[0], size[1])).save(path, quality=70)
    fx, fy = (new / old for new, old in zip(size, picture.size, strict=True))
    x0, y0, x1, y1 = record["box"]
    name = f"copy of {record['id']}"
    return record | {
        "image": str(path),
        "id": name,
        "group": name,
        "size": size,
        "planted": "copy",
        "box": [x0 * fx, y0 * fy, x1 * fx, y1 * fy],
        "points": [[x * fx, y * fy] for x, y in record["points"]],
        "split": "train" if record["split"] == "test" else "test",
    }


def predicted(records: list[Record]) -> list[Record]:
    return _records(common.tool("predict", "--threads", 1, stdin=_lines(records)))


def check(records: list[Record]) -> list[Record]:
    """All records, some with flags."""
    return _records(common.tool("prep", "check", stdin=_lines(records)))


def _lines(records: list[Record]) -> bytes:
    return "".join(json.dumps(record) + "\n" for record in records).encode()


def _records(lines: bytes) -> list[Record]:
    return [json.loads(line) for line in lines.splitlines()]


if __name__ == "__main__":
    main()
