"""What the benchmarks share: faces to work on, sides measured in turn, and a small table.

Each script is one row or more of the table in docs/speed.md, and prints both sides and their ratio.
`--full` is how that table was made; without it a run is short, and its figures are rough.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import orjson
from PIL import Image

ROUNDS = 5

# A small process between, to print a command's peak memory: the kernel counts to a child's peak
# what its parent held when it was born
LAUNCHER = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(usage.ru_maxrss)
sys.exit(status != 0)
"""


def arguments(
    doc: str | None, *, device: bool = False, records: bool = False
) -> argparse.Namespace:
    """Whether the script can be run on another `device`, and on `records` of one's own."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("--full", action="store_true", help="long enough to quote")
    parser.add_argument("--only", default="", help="the cases whose name has this in it")
    if device:
        parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--side", default="", help=argparse.SUPPRESS)
    own = "a stream of faces of one's own, in place of drawn ones"
    parser.add_argument("--records", default="", help=own if records else argparse.SUPPRESS)
    return parser.parse_args()


def tool(name: str, *words: object, stdin: bytes = b"") -> bytes:
    """The output of `kp-NAME`."""
    command = [sys.executable, "-m", f"kptools.cli.{name}", *map(str, words)]
    return subprocess.run(command, input=stdin, stdout=subprocess.PIPE, check=True).stdout


def faces(folder: Path, count: int, *policy: object, enlarge: int = 3) -> Path:
    """A stream of drawn faces, JPEGs of some 480 pixels, all train; with an augmentation policy."""
    made = tool("prep", "synth", "--count", count, "--out", folder / "faces")
    records = [orjson.loads(line) for line in made.splitlines()]
    for record in records:
        image = Image.open(record["image"])
        width, height = (side * enlarge for side in image.size)
        image.resize((width, height), Image.Resampling.BICUBIC).save(record["image"], quality=90)
        record["size"] = [width, height]
        record["box"] = [enlarge * (edge + 0.5) - 0.5 for edge in record["box"]]
        record["points"] = [[enlarge * (v + 0.5) - 0.5 for v in p] for p in record["points"]]
        record["split"] = "train"
    lines = b"".join(orjson.dumps(record) + b"\n" for record in records)
    path = folder / "faces.jsonl"
    path.write_bytes(tool("augment", *policy, stdin=lines) if policy else lines)
    return path


def read(path: str | Path) -> list[dict[str, Any]]:
    with open(path, "rb") as lines:
        return [orjson.loads(line) for line in lines]


def head(path: str | Path, count: int) -> str:
    """A stream of the first `count` records, in a file beside it: to warm up on."""
    few = Path(f"{path}.head")
    with open(path, "rb") as lines:
        few.write_bytes(b"".join(line for line, _ in zip(lines, range(count), strict=False)))
    return str(few)


def child(*words: object) -> float:
    """What this script prints, run again in a process of its own, with those arguments."""
    command = [sys.executable, sys.argv[0], *map(str, words)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return float(json.loads(done.stdout.splitlines()[-1]))


def in_turn(rounds: int, *sides: Callable[[], float]) -> list[list[float]]:
    """Measure the sides A B A B ...; the figures of each."""
    figures: list[list[float]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, kept in zip(sides, figures, strict=True):
            kept.append(side())
    return figures


def against_plain(
    what: str, args: argparse.Namespace, cases: Iterable[tuple[str, int]], *policy: object
) -> None:
    """The table of a tool against the plain loop of plain.py, each run in a process of its own:
    ours, plain, and plain with the allocator that kptools sets. `cases`: network and faces."""
    rows = []
    for arch, count in cases:
        if args.only not in arch:
            continue
        with tempfile.TemporaryDirectory() as name:
            path = faces(Path(name), count, *policy)
            sides = [
                partial(child, "--side", side, "--only", arch, "--records", path)
                for side in ("ours", "plain", "kept")
            ]
            ours, plain, kept = in_turn(ROUNDS if args.full else 1, *sides)
        middles = [statistics.median(figures) for figures in (ours, plain, kept)]
        rows.append((arch, *middles, ratio(ours, plain), ratio(ours, kept)))
    head = ("network", f"{what}, images/s", "plain", "plain, pages kept", "ratio", "ratio, kept")
    table(head, rows)


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """The median of the ratios, pair by pair: the machine's drift falls out."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def table(head: Sequence[str], rows: Iterable[Sequence[Any]], device: str = "cpu") -> None:
    """Print rows under their heads, after a line about the machine."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else _processor()
    print(f"{os.cpu_count()} cores, {name}, PyTorch {torch.__version__}, Python", end=" ")
    print(platform.python_version())
    text = [list(head), *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(row[i]) for row in text) for i in range(len(head))]
    for row in text:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"
    return str(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
