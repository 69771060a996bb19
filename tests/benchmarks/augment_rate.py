"""kp-augment over `jq -c .` on the same records of 68 points; and over a loop that does no more
than parse and dump each line with orjson. Whole processes, start included."""

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import common
import orjson

POLICY = ("--rotate", "15", "--flip", "0.5", "--brightness", "0.3")
PARSE_AND_DUMP = """
import sys, orjson
out = sys.stdout.buffer
for line in sys.stdin.buffer:
    out.write(orjson.dumps(orjson.loads(line)) + b"\\n")
"""


def main() -> None:
    args = common.arguments(__doc__)
    count = 100_000 if args.full else 20_000
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "records.jsonl"
        write_records(path, count)
        sides = {
            "kp-augment": [sys.executable, "-m", "kptools.cli.augment", *POLICY],
            "orjson, parse and dump": [sys.executable, "-c", PARSE_AND_DUMP],
        }
        if shutil.which("jq"):
            sides["jq -c ."] = ["jq", "-c", "."]
        figures = common.in_turn(
            common.ROUNDS if args.full else 2,
            *(partial(_rate, command, path, count) for command in sides.values()),
        )
    ours = figures[0]
    rows = [
        (label, statistics.median(f), common.ratio(ours, f))
        for label, f in zip(sides, figures, strict=True)
    ]
    common.table(("", "records/s", "kp-augment over it"), rows)


def write_records(path: Path, count: int) -> None:
    """Records of the size that real ones have."""
    with tempfile.TemporaryDirectory() as folder:
        record = orjson.loads(common.tool("prep", "synth", "--count", 1, "--out", folder))
    with open(path, "wb") as out:
        for index in range(count):
            record["id"] = f"{index:07d}"
            out.write(orjson.dumps(record) + b"\n")


def _rate(command: list[str], path: Path, count: int) -> float:
    began = time.perf_counter()
    with open(path, "rb") as lines, open("/dev/null", "wb") as sink:
        subprocess.run(command, stdin=lines, stdout=sink, check=True)
    return count / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
