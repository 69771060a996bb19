"""Training by several processes of one thread, over one process of one thread.

    python tests/benchmarks/ranks.py --full

`torchrun --nproc-per-node` starts a process for each core. Next to them one process with all cores
as its threads, and as many processes as there are cores that know nothing of each other, each with
its share of the batch: what the cores would give if nothing had to be exchanged. The batch is the
same for all.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

import common

FACES = 192
NETWORKS = {
    "unet at 128": ("unet", "--width", 16, "--stride", 2, "--input-size", "128x128"),
    "resnet18 at 96": ("resnet18", "--weights", "none", "--input-size", "96x96"),
    "resnet18 at 224": ("resnet18", "--weights", "none"),
    "face": ("face",),
}
BATCHES = {"unet at 128": 16, "resnet18 at 96": 32, "resnet18 at 224": 16, "face": 16}


def images_per_second(folder: Path, faces: Path, network: str, how: str, epochs: int) -> float:
    """Of a training's epochs after the first. `how`: processes x threads, and `apart` where each of
    them trains a network of its own."""
    processes, threads = map(int, how.removesuffix(" apart").split("x"))
    batch, runs, launcher = BATCHES[network], 1, []
    if how.endswith("apart"):
        batch, runs = batch // processes, processes
    elif processes > 1:
        launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    words = ("--arch", *NETWORKS[network], "--batch-size", batch, "--epochs", epochs)
    more = (*words, "--threads", threads, "--val-fraction", 0, faces)
    started: list[subprocess.Popen[bytes]] = []
    try:
        for run in range(runs):
            command = (*launcher, "-m", "kptools.cli.train", "-o", folder / f"{run}.safetensors")
            text = [sys.executable, *map(str, (*command, *more))]
            started.append(subprocess.Popen(text, stderr=subprocess.DEVNULL))
        statuses = [process.wait() for process in started]
    finally:  # of an interrupt
        for process in started:
            process.terminate()
    if any(statuses):
        raise SystemExit(f"ranks: a training of {network} failed")
    logs = [common.read(folder / f"{run}.log.jsonl") for run in range(runs)]
    return float(sum(median(epoch["img_s"] for epoch in log[1:]) for log in logs))


def main() -> None:
    args = common.arguments(__doc__)
    cores = len(os.sched_getaffinity(0))
    if cores < 2 or any(batch % cores for batch in BATCHES.values()):
        raise SystemExit(f"ranks: {cores} cores cannot share the batches; taskset -c 0,1 takes two")
    epochs, rounds = (6, 3) if args.full else (3, 1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faces = common.faces(folder, FACES, enlarge=1)
        for network in [some for some in NETWORKS if args.only in some]:
            hows = ("1x1", f"{cores}x1", f"{cores}x1 apart", f"1x{cores}")
            sides: dict[str, list[float]] = {how: [] for how in hows}
            for _ in range(rounds):
                for how, rates in sides.items():
                    rates.append(images_per_second(folder, faces, network, how, epochs))
            one, *others = map(median, sides.values())
            rows.append((network, one, *(rate / one for rate in others)))
    head = ("images/s", "1 x 1", f"{cores} processes", "the same, apart", f"{cores} threads")
    common.table(head, rows)


if __name__ == "__main__":
    main()
