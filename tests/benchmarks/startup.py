"""The start of the tools: whole processes, start to end.

kp-X --help, each; and the points of one face by kp-predict, by the network in the box as an ONNX
file and in torch, over the import of torch alone. The first of these needs the extra `onnx`.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import common

TOOLS = ("prep", "augment", "train", "predict", "eval", "heatmap", "viz")


def main() -> None:
    args = common.arguments(__doc__)
    rows = []
    for tool in TOOLS:
        if args.only not in tool:
            continue
        (figures,) = _rounds(partial(_seconds, tool, "--help"))
        rows.append((f"kp-{tool} --help", statistics.median(figures), max(figures), ""))
    if args.only in "predict":
        rows += _one_face()
    common.table(("", "seconds", "slowest of 5", "over import torch"), rows)


def _one_face() -> list[tuple[str, float, float, object]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network, face = folder / "box.onnx", folder / "one.jsonl"
        face.write_bytes(common.tool("prep", "synth", "--count", 1, "--out", folder / "faces"))
        common.tool("predict", "--export", network)
        sides = {
            "import torch": partial(_run, "-c", "import torch"),
            "kp-predict box.onnx one.jsonl": partial(_seconds, "predict", network, face),
            "kp-predict one.jsonl": partial(_seconds, "predict", face),
        }
        figures = _rounds(*sides.values())
    return [
        (name, statistics.median(kept), max(kept), common.ratio(kept, figures[0]))
        for name, kept in zip(sides, figures, strict=True)
    ]


def _rounds(*sides: Callable[[], float]) -> list[list[float]]:
    """The figures of each side; the first of each warms up."""
    return [kept[1:] for kept in common.in_turn(common.ROUNDS + 1, *sides)]


def _seconds(tool: str, *words: object) -> float:
    code = f"import sys; sys.argv[0] = 'kp-{tool}'; from kptools.cli.{tool} import main; main()"
    return _run("-c", code, *words)


def _run(*words: object) -> float:
    began = time.perf_counter()
    quiet = subprocess.DEVNULL
    subprocess.run(
        [sys.executable, *map(str, words)], stdin=quiet, stdout=quiet, stderr=quiet, check=True
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
