"""bf16 autocast over fp32, both channels last, by network: steps of training and of prediction on
random tensors. `--precision auto` takes its table (`kptools/inference.py`) from here."""

import time

import common
import numpy as np
import torch

from kptools import checkpoint, config, inference, losses, models

# network, input, batch of training
CASES = [
    ("nose", (80, 60), 8),
    ("face", (160, 120), 8),
    ("unet", (200, 200), 4),
    ("resnet18", (224, 224), 16),
    ("resnet50", (224, 224), 16),
    ("inception_v3", (299, 299), 8),
    ("vgg11", (224, 224), 8),
    ("convnext_tiny", (224, 224), 8),
    ("densenet121", (224, 224), 8),
    ("efficientnet_b0", (224, 224), 16),
    ("mobilenet_v2", (224, 224), 16),
    ("mobilenet_v3_small", (128, 128), 16),
    ("regnet_y_400mf", (224, 224), 16),
    ("shufflenet_v2_x1_0", (224, 224), 16),
    ("swin_t", (224, 224), 8),
    ("vit_b_16", (224, 224), 8),
]


def main() -> None:
    args = common.arguments(__doc__)
    inference.keep_pages()
    device = checkpoint.device(args.device)
    seconds = 4.0 if args.full else 1.0
    rows = []
    for arch, size, batch in CASES:
        if args.only not in arch:
            continue
        run = _Network(arch, size, batch, device)
        train = [run.train(precision, seconds) for precision in ("fp32", "bf16")]
        predict = [run.predict(precision, seconds) for precision in ("fp32", "bf16")]
        chosen = inference.precision_for(arch, device, "auto")
        ratios = train[1] / train[0], predict[1] / predict[0]
        rows.append((arch, train[0], train[1], ratios[0], *predict, ratios[1], chosen))
    common.table(
        ("network", "train fp32", "bf16", "ratio", "predict fp32", "bf16", "ratio", "auto"), rows
    )


class _Network:
    def __init__(self, arch: str, size: tuple[int, int], batch: int, device: torch.device) -> None:
        torch.manual_seed(0)
        self.arch, self.batch, self.device = arch, batch, device
        channels = 1 if config.arch(arch).grey else 3
        network = models.build(arch, 68, size, weights="none", width=64, stride=1)
        self.network = network.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(network.parameters(), 1e-4)
        self.x = torch.randn(batch, channels, size[1], size[0], device=device)
        self.truth = torch.rand(batch, 68, 2, device=device)

    def train(self, precision: str, seconds: float) -> float:
        """Images a second."""
        self.network.train()

        def step() -> None:
            output = inference.forward(self.network, self.x, precision)
            if config.arch(self.arch).loss == "bce":
                value = output.float().square().mean()
            else:
                points = output[0] if isinstance(output, tuple) else output
                value = losses.point_loss(points, self.truth, "mse")
            value.backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

        return self._rate(step, seconds)

    def predict(self, precision: str, seconds: float) -> float:
        self.network.eval()
        with torch.inference_mode():
            return self._rate(
                lambda: inference.forward(self.network, self.x, precision).cpu(), seconds
            )

    def _rate(self, step: object, seconds: float) -> float:
        assert callable(step)
        step()
        took: list[float] = []
        while sum(took) < seconds or len(took) < 3:
            began = time.perf_counter()
            step()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            took.append(time.perf_counter() - began)
        return self.batch / float(np.median(took))


if __name__ == "__main__":
    main()
