"""kp-train's own loop, inside this process, for the benchmarks that look into it."""

import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from kptools import runtime
from kptools.cli.options import cores
from kptools.models import build
from kptools.models.network import forward
from kptools.pixels.cache import wait_for_all
from kptools.records.stream import Stream
from kptools.training import loop
from kptools.training.gather import gather, training_sets
from kptools.training.run import prepare
from kptools.training.settings import Settings, resolve


def wait(device: torch.device) -> None:
    """Until all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


class Run:
    """The faces of a stream, and the settings that kp-train would give them."""

    def __init__(
        self, path: Path, arch: str, size: tuple[int, int], epochs: int, device: str
    ) -> None:
        runtime.tune_process()
        self.device = runtime.device(device)
        runtime.set_threads(0, self.device)
        plan = f"1e-4:{epochs}"
        settings = resolve(arch, input_size=size, schedule=plan, weights="none")
        self.settings = prepare(settings, self.device, "auto")
        stream = Stream([str(path)], "-")
        found = gather(stream, stream.failures, val_fraction=0.0)
        pool = ThreadPoolExecutor(cores(0))
        self.faces, _ = training_sets(found, self.settings, pool, 8 << 30, stream.failures)
        self.scheme, self.count = found.scheme, found.count

    def decode(self) -> float:
        """Decode all crops, as kp-train does on a CPU before the first step; seconds."""
        began = time.perf_counter()
        wait_for_all([self.faces.crops])
        return time.perf_counter() - began

    def train(self, epoch: Callable[[float], Any]) -> None:
        """Train, and call `epoch` with the images a second of each epoch."""
        with tempfile.TemporaryDirectory() as folder:
            loop.train(
                self.faces,
                None,
                self.scheme,
                self.settings,
                device=self.device,
                state_path=Path(folder) / "state.safetensors",
                on_epoch=lambda done: epoch(done.images_per_second),
            )


class RawStep:
    """Steps of a network of the same kind on random tensors that lie in memory."""

    def __init__(self, settings: Settings, count: int, device: torch.device) -> None:
        self.settings, self.device = settings, device
        spec = settings.input
        self.network = build.build(
            settings.arch, count, spec.size, settings.options, head=settings.head
        )
        self.network.to(device, memory_format=torch.channels_last)
        self.criterion = build.criterion(settings.head, settings.loss)
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-4, fused=True)
        x = torch.randn(settings.batch, spec.channels, *reversed(spec.size), device=device)
        self.x = x.contiguous(memory_format=torch.channels_last)
        self.truth = torch.rand(settings.batch, count, 2).double().numpy()

    def train(self, precision: str, steps: int) -> float:
        """Images a second."""
        self.network.train()

        def step() -> None:
            output = forward(self.network, self.x, precision)
            loss = self.network.head.loss(output, self.truth, self.criterion)
            loss.mean.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

        return self._rate(step, steps)

    @torch.inference_mode()
    def predict(self, precision: str, steps: int) -> float:
        """Images a second."""
        self.network.eval()
        return self._rate(lambda: forward(self.network, self.x, precision).cpu(), steps)

    def _rate(self, step: Callable[[], Any], steps: int) -> float:
        wait(self.device)
        began = time.perf_counter()
        for _ in range(steps):
            step()
        wait(self.device)
        return steps * self.settings.batch / (time.perf_counter() - began)
