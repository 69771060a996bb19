"""kp-eval over a loop that does no more than parse each line with orjson, on the same records of 68
points and as many predicted ones. Whole processes, start included."""

import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import common
import orjson

PARSE = """
import sys, orjson
for line in sys.stdin.buffer:
    orjson.loads(line)
"""


def main() -> None:
    args = common.arguments(__doc__)
    count = 50_000 if args.full else 10_000
    sides = {
        "kp-eval": [sys.executable, "-m", "kptools.cli.eval"],
        "orjson, parse": [sys.executable, "-c", PARSE],
    }
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "records.jsonl"
        record = orjson.loads(common.tool("prep", "synth", "--count", 1, "--out", name))
        record["pred"] = [[x + 1.25, y - 0.5] for x, y in record["points"]]
        path.write_bytes((orjson.dumps(record) + b"\n") * count)
        figures = common.in_turn(
            common.ROUNDS if args.full else 2,
            *(partial(_rate, command, path, count) for command in sides.values()),
        )
    rows = [
        (label, statistics.median(f), common.ratio(figures[0], f))
        for label, f in zip(sides, figures, strict=True)
    ]
    common.table(("", "records/s", "kp-eval over it"), rows)


def _rate(command: list[str], path: Path, count: int) -> float:
    began = time.perf_counter()
    with open(path, "rb") as lines:
        subprocess.run(command, stdin=lines, stdout=subprocess.DEVNULL, check=True)
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
