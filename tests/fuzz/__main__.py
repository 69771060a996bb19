"""The long run: `cd tests && python -m fuzz --inputs 100000`. A line for each parser and tool; the
first input that does not end as documented is named by its seed and number, and stops the run."""

import argparse
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

from fuzz import mutate, targets

BATCH = 500  # lines for one process of a tool
PATIENCE = 120.0  # seconds for a batch, the start of the process included


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parsers, commands = targets.targets(folder), targets.tools(folder)
        # the tools are as many parsers again: each of them reads all that a record may hold
        each = -(-args.inputs // (len(parsers) + len(commands)))
        for label, target in parsers.items():
            _told(label, each, _parse(target, each, args.seed))
        line = targets.face(folder)
        for label, command in commands.items():
            _told(f"kp-{label}", each, _feed(command, line, each, args.seed))


def _told(label: str, count: int, seconds: Iterator[float]) -> None:
    """Run, and say what came of it."""
    began = time.perf_counter()
    worst = max(seconds, default=0.0)
    peak = max(resource.getrusage(who).ru_maxrss for who in (0, resource.RUSAGE_CHILDREN)) / 1024
    took = time.perf_counter() - began
    print(
        f"{label:18} {count:7,} inputs  {took:6.1f} s  slowest {worst:.2f} s  "
        f"peak so far {peak:.0f} MB",
        flush=True,
    )


def _parse(target: targets.Target, count: int, seed: int) -> Iterator[float]:
    for index in range(count):
        try:
            yield target.check(Random(f"{seed} {index}"))
        except BaseException:
            sys.stderr.write(f"--seed {seed}, input {index}\n")
            raise


def _feed(command: list[str], record: dict[str, object], count: int, seed: int) -> Iterator[float]:
    for first in range(0, count, BATCH):
        lines = [
            mutate.strange(record | {"id": f"f{i}"}, Random(f"{seed} {i}"))
            for i in range(first, min(first + BATCH, count))
        ]
        began = time.perf_counter()
        try:
            targets.feed(command, lines, timeout=PATIENCE)
        except BaseException:
            sys.stderr.write(f"--seed {seed}, lines {first} to {first + len(lines) - 1}\n")
            raise
        yield (time.perf_counter() - began) / len(lines)


if __name__ == "__main__":
    main()
