"""kp-X --help, each: a whole process, start to end."""

import statistics
import subprocess
import sys
import time

import common

TOOLS = ("prep", "augment", "train", "predict", "eval", "heatmap", "viz")


def main() -> None:
    args = common.arguments(__doc__)
    rows = []
    for tool in TOOLS:
        if args.only not in tool:
            continue
        figures = [_seconds(tool) for _ in range(common.ROUNDS + 1)][1:]
        rows.append((f"kp-{tool} --help", statistics.median(figures), max(figures)))
    common.table(("", "seconds", "slowest of 5"), rows)


def _seconds(tool: str) -> float:
    code = f"import sys; sys.argv[0] = 'kp-{tool}'; from kptools.cli.{tool} import main; main()"
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", code, "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
