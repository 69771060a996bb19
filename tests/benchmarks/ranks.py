"""Training by several processes of one thread, over one process of one thread.

    python tests/benchmarks/ranks.py --full

`torchrun --nproc-per-node` starts a process for each core. Next to them one process with
all cores as its threads. The batch is the same for all.
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
    """Of a training's epochs after the first. `how`: processes x threads."""
    processes, threads = how.split("x")
    launcher = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    out = folder / "m.safetensors"
    words = ("--arch", *NETWORKS[network], "--batch-size", BATCHES[network], "--epochs", epochs)
    command = (
        *(sys.executable, *(launcher if processes != "1" else ())),
        *("-m", "kptools.cli.train", *words, "--threads", threads, "--val-fraction", 0),
        *("-o", out, faces),
    )
    subprocess.run(list(map(str, command)), check=True, stderr=subprocess.DEVNULL)
    log = common.read(folder / "m.log.jsonl")
    return median(epoch["img_s"] for epoch in log[1:])


def main() -> None:
    args = common.arguments(__doc__)
    cores = len(os.sched_getaffinity(0))
    epochs, rounds = (6, 3) if args.full else (3, 1)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faces = common.faces(folder, FACES, enlarge=1)
        for network in [some for some in NETWORKS if args.only in some]:
            sides: dict[str, list[float]] = {"1x1": [], f"{cores}x1": [], f"1x{cores}": []}
            for _ in range(rounds):
                for how, rates in sides.items():
                    rates.append(images_per_second(folder, faces, network, how, epochs))
            one, many, threads = map(median, sides.values())
            rows.append((network, one, many, threads, many / one, threads / one))
    head = ("images/s", "1 x 1", f"{cores} processes", f"{cores} threads", "ratio", "of threads")
    common.table(head, rows)


if __name__ == "__main__":
    main()
