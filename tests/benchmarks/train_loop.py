"""kp-train over a plain PyTorch loop on the same files. Both decode, augment and step; neither
validates, and no saving is counted. kp-train decodes once, and that is counted. The plain loop
under the default allocator, and under one that keeps freed pages, as kp-train has it."""

import json
import time
from pathlib import Path

import common

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
    """Images a second, over EPOCHS epochs."""
    _, size, batch, _ = next(case for case in CASES if case[0] == arch)
    if side == "ours":
        import trainer

        run = trainer.Run(Path(path), arch, size, EPOCHS, "cpu")
        decoding = run.decode()
        rates: list[float] = []
        run.train(rates.append)
        count = len(run.faces)
        return EPOCHS * count / (decoding + sum(count / rate for rate in rates))

    import plain

    from kptools import inference

    if side == "kept":
        inference.tune_process()
    steps = plain.train(path, arch, size, batch, EPOCHS)
    next(steps)
    began = time.perf_counter()
    return sum(steps) / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
