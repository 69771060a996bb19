"""The first epoch of kp-train, crops decoded in it, over the longer of decoding alone and stepping
alone. On a CPU both want the same cores, so that their sum is the least that can be had. The last
case is a network that leaves the cores alone, as one on a GPU does, takes as long as decoding, and
comes back to Python between its parts; there is no policy, for the warp would be its work too.
"""

import statistics
import tempfile
import time
from pathlib import Path

import common
import torch
import trainer

from kptools import runtime

# arch, input, faces (quick, full)
CASES = [
    ("resnet18", (224, 224), (64, 320)),
    ("unet", (200, 200), (12, 24)),
    ("mobilenet_v3_small", (128, 128), (320, 1600)),
]
ASLEEP = "sleeping"
PARTS = 100  # of a step, forward and backward
SIZE, FACES = (224, 224), (320, 1600)


def main() -> None:
    args = common.arguments(__doc__, device=True)
    rows = []
    for arch, size, counts in [*CASES, (ASLEEP, SIZE, FACES)]:
        if args.only not in arch:
            continue
        with tempfile.TemporaryDirectory() as name:
            policy = () if arch == ASLEEP else ("--rotate", 15, "--flip", 0.5)
            path = common.faces(Path(name), counts[args.full], *policy)
            measure = _asleep if arch == ASLEEP else _network
            times = [
                measure(path, arch, size, args.device)
                for _ in range(common.ROUNDS if args.full else 1)
            ]
        decode, step, first = zip(*times, strict=True)
        longer = [max(pair) for pair in zip(decode, step, strict=True)]
        total = [sum(pair) for pair in zip(decode, step, strict=True)]
        middles = [statistics.median(side) for side in (decode, step, first)]
        rows.append((arch, *middles, common.ratio(first, longer), common.ratio(first, total)))
    head = ("network", "decode, s", "step, s", "first epoch, s", "over the longer", "over the sum")
    common.table(head, rows, args.device)


def _network(path: Path, arch: str, size: tuple[int, int], device: str) -> tuple[float, ...]:
    """Seconds of decoding alone, of the second epoch, of the first with its decoding."""
    decoding = trainer.Run(path, arch, size, 1, device).decode()
    run = trainer.Run(path, arch, size, 2, device)
    before = run.decode() if run.device.type == "cpu" else 0.0
    epochs: list[float] = []
    run.train(lambda rate: epochs.append(len(run.faces) / rate))
    return decoding, epochs[1], before + epochs[0]


def _asleep(path: Path, arch: str, size: tuple[int, int], device: str) -> tuple[float, ...]:
    decoding = trainer.Run(path, "resnet18", size, 1, "cpu").decode()
    run = trainer.Run(path, "resnet18", size, 1, "cpu")
    runtime.set_threads(1, run.device)  # as where the network has a device of its own
    step = decoding * run.settings.batch / len(run.faces)
    order = torch.randperm(len(run.faces)).tolist()
    run.faces.crops.begin(order)
    times = []
    for epoch in range(2):
        began = time.perf_counter()
        for indices in run.faces.groups(order, run.settings.batch):
            run.faces.batch(indices, epoch, run.device)
            for _ in range(PARTS):
                time.sleep(step / PARTS)
        times.append(time.perf_counter() - began)
    return decoding, times[1], times[0]


if __name__ == "__main__":
    main()
