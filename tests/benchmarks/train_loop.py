"""kp-train over a plain PyTorch loop on the same files. Both decode, augment and step; neither
validates, and no saving is counted. kp-train decodes once, and that is counted. The plain loop
under the default allocator, and under one that keeps freed pages, as kp-train has it."""

import json
import time
from pathlib import Path

import common

from kptools import runtime

# arch, input, batch, faces (quick, full)
CASES = [
    ("resnet18", (224, 224), 16, (48, 96)),
    ("resnet50", (224, 224), 16, (32, 96)),
    ("unet", (200, 200), 4, (8, 8)),
]
POLICY = ("--rotate", 15, "--scale", 0.1, "--shift", 0.05, "--flip", 0.5)
COLOUR = ("--brightness", 0.3, "--contrast", 0.3, "--saturation", 0.3)
EPOCHS = 2


def main() -> None:
    args = common.arguments(__doc__)
    if args.side:
        print(json.dumps(_side(args.side, args.only, args.records)))
        return
    cases = [(arch, counts[args.full]) for arch, _, _, counts in CASES]
    common.against_plain("kp-train", args, cases, *POLICY, *COLOUR)


def _side(side: str, arch: str, path: str) -> float:
    """Images a second, over EPOCHS epochs, after an epoch of two batches that warms up."""
    _, size, batch, _ = next(case for case in CASES if case[0] == arch)
    measure = _ours if side == "ours" else _plain
    if side == "kept":
        runtime.tune_process()
    measure(common.head(path, 2 * batch), arch, size, batch, 1)
    return measure(path, arch, size, batch, EPOCHS)


def _ours(path: str, arch: str, size: tuple[int, int], batch: int, epochs: int) -> float:
    import trainer

    run = trainer.Run(Path(path), arch, size, epochs, "cpu")
    assert run.settings.batch == batch
    decoding = run.decode()
    rates: list[float] = []
    run.train(rates.append)
    count = len(run.faces)
    return epochs * count / (decoding + sum(count / rate for rate in rates))


def _plain(path: str, arch: str, size: tuple[int, int], batch: int, epochs: int) -> float:
    import plain

    steps = plain.train(path, arch, size, batch, epochs)
    next(steps)
    began = time.perf_counter()
    return sum(steps) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
