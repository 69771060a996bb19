"""An epoch of kp-train, after the first, over the same network in the same mode stepping on random
tensors that are already in memory: what the loader and the augmentation cost."""

import statistics
import tempfile
import time
from pathlib import Path

import common
import torch
import trainer

from kptools import inference, models

# arch, input, faces (quick, full)
CASES = [
    ("resnet18", (224, 224), (64, 320)),
    ("unet", (200, 200), (12, 40)),
    ("mobilenet_v3_small", (128, 128), (320, 2400)),
]
POLICY = ("--rotate", 15, "--scale", 0.1, "--shift", 0.05, "--flip", 0.5)
COLOUR = ("--brightness", 0.3, "--contrast", 0.3, "--saturation", 0.3)


def main() -> None:
    args = common.arguments(__doc__)
    rows = []
    for arch, size, counts in CASES:
        if args.only not in arch:
            continue
        with tempfile.TemporaryDirectory() as name:
            path = common.faces(Path(name), counts[args.full], *POLICY, *COLOUR)
            rounds = common.ROUNDS if args.full else 2
            run = trainer.Run(path, arch, size, rounds + 1, args.device)
            raw = _Raw(run)
            pairs: list[tuple[float, float]] = []
            run.train(lambda rate, raw=raw, pairs=pairs: pairs.append((rate, raw.rate())))
        ours, theirs = zip(*pairs[1:], strict=True)
        middles = statistics.median(ours), statistics.median(theirs)
        rows.append((arch, *middles, common.ratio(ours, theirs)))
    common.table(("network", "kp-train, images/s", "raw step, images/s", "ratio"), rows)


class _Raw:
    """Steps of a network of the same kind on random tensors."""

    def __init__(self, run: trainer.Run) -> None:
        s = self.settings = run.settings
        self.device = run.device
        network = models.build(
            s.arch, 68, s.input, weights="none", width=s.width, stride=s.stride
        ).train()
        self.network = network.to(run.device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(network.parameters(), 1e-4)
        x = torch.randn(s.batch, 3, s.input[1], s.input[0], device=run.device)
        self.x = x.contiguous(memory_format=torch.channels_last)
        self.truth = torch.rand(s.batch, 68, 2).double().numpy()
        self.model = run.model
        self.steps = max(4, len(run.faces) // s.batch)

    def rate(self) -> float:
        """Images a second."""
        trainer.wait(self.device)
        began = time.perf_counter()
        for _ in range(self.steps):
            output = inference.forward(self.network, self.x, self.settings.precision)
            trainer.loss(output, self.truth, self.settings, self.model).backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        trainer.wait(self.device)
        return self.steps * self.settings.batch / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
