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
from kptools.models import archs, build, network
from kptools.records.stream import Stream
from kptools.specs import ModelSpec
from kptools.training import loop, start
from kptools.training.gather import Intake
from kptools.training.settings import Settings


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
        defaults = archs.arch(arch)
        self.settings = Settings(
            arch=arch,
            input=size,
            grey=defaults.grey,
            batch=defaults.batch,
            loss=defaults.loss,
            schedule=((1e-4, epochs),),
            margin=defaults.margin,
            precision=runtime.precision_for(arch, self.device, "auto", training=True),
            threads=torch.get_num_threads(),
        )
        self.intake = Intake(Stream([str(path)], "-"), self.settings, 8 << 30)
        self.intake.read(None, 0.0)
        self.faces, _ = self.intake.faces(ThreadPoolExecutor(cores(0)))
        self.model = start.describe(self.faces, self.intake.scheme, self.settings)

    def decode(self) -> float:
        """Decode all crops, as kp-train does on a CPU before the first step; seconds."""
        began = time.perf_counter()
        self.faces.store.finish()
        return time.perf_counter() - began

    def train(self, epoch: Callable[[float], Any]) -> None:
        """Train, and call `epoch` with the images a second of each epoch."""
        progress = loop.Progress(epoch=lambda done: epoch(done.images_per_second))
        with tempfile.TemporaryDirectory() as folder:
            loop.train(
                self.faces,
                None,
                self.intake.scheme,
                self.settings,
                device=self.device,
                state_path=Path(folder) / "state.safetensors",
                progress=progress,
            )


class RawStep:
    """Steps of a network of the same kind on random tensors that lie in memory."""

    def __init__(self, settings: Settings, model: ModelSpec, device: torch.device) -> None:
        self.settings, self.model, self.device = settings, model, device
        network = build.build(
            settings.arch,
            model.count,
            settings.input,
            weights="none",
            width=settings.width,
            stride=settings.stride,
        )
        self.network = network.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(network.parameters(), 1e-4, fused=True)
        shape = (settings.batch, 1 if settings.grey else 3, settings.input[1], settings.input[0])
        x = torch.randn(shape, device=device)
        self.x = x.contiguous(memory_format=torch.channels_last)
        self.truth = torch.rand(settings.batch, model.count, 2).double().numpy()

    def train(self, precision: str, steps: int) -> float:
        """Images a second."""
        self.network.train()

        def step() -> None:
            output = network.forward(self.network, self.x, precision)
            loss = loop.output_loss(output, self.truth, self.settings, self.model)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)

        return self._rate(step, steps)

    @torch.inference_mode()
    def predict(self, precision: str, steps: int) -> float:
        """Images a second."""
        self.network.eval()
        return self._rate(lambda: network.forward(self.network, self.x, precision).cpu(), steps)

    def _rate(self, step: Callable[[], Any], steps: int) -> float:
        wait(self.device)
        began = time.perf_counter()
        for _ in range(steps):
            step()
        wait(self.device)
        return steps * self.settings.batch / (time.perf_counter() - began)
