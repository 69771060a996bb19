"""An epoch of kp-train, after the first, over the same network in the same mode stepping on random
tensors that are already in memory: what crops, augmentation and the average of the weights cost."""

import statistics
import tempfile
from pathlib import Path

import common
import trainer

# arch, input, faces (quick, full)
CASES = [
    ("resnet18", (224, 224), (64, 160)),
    ("resnet50", (224, 224), (32, 96)),
    ("unet", (200, 200), (12, 24)),
    ("mobilenet_v3_small", (128, 128), (320, 1600)),
]
POLICY = ("--rotate", 15, "--scale", 0.1, "--shift", 0.05, "--flip", 0.5)
COLOUR = ("--brightness", 0.3, "--contrast", 0.3, "--saturation", 0.3)


def main() -> None:
    args = common.arguments(__doc__, device=True)
    rows = []
    for arch, size, counts in CASES:
        if args.only not in arch:
            continue
        with tempfile.TemporaryDirectory() as name:
            path = common.faces(Path(name), counts[args.full], *POLICY, *COLOUR)
            rounds = common.ROUNDS if args.full else 2
            run = trainer.Run(path, arch, size, rounds + 1, args.device)
            raw = trainer.RawStep(run.settings, run.count, run.device)
            mode, steps = run.settings.precision, len(run.faces) // run.settings.batch
            pairs: list[tuple[float, float]] = []
            run.train(
                lambda rate, raw=raw, pairs=pairs, mode=mode, steps=steps: pairs.append(
                    (rate, raw.train(mode, steps))
                )
            )
        ours, theirs = zip(*pairs[1:], strict=True)
        middles = statistics.median(ours), statistics.median(theirs)
        rows.append((arch, *middles, common.ratio(ours, theirs)))
    head = ("network", "kp-train, images/s", "raw step, images/s", "ratio")
    common.table(head, rows, args.device)


if __name__ == "__main__":
    main()
