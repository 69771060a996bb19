"""kp-train's own loop, inside this process, for the benchmarks that look into it."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from kptools import checkpoint, config, inference, training
from kptools.intake import Intake
from kptools.stream import Stream

loss = training.output_loss


def wait(device: torch.device) -> None:
    """Until all that was asked of the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    elif device.type == "mps":
        torch.mps.synchronize()


class Run:
    """The faces of a stream, decoded, and the settings that kp-train would give them."""

    def __init__(
        self, path: Path, arch: str, size: tuple[int, int], epochs: int, device: str
    ) -> None:
        inference.keep_pages()
        self.device = checkpoint.device(device)
        defaults = config.arch(arch)
        self.settings = config.Settings(
            arch=arch,
            input=size,
            grey=defaults.grey,
            batch=defaults.batch,
            loss=defaults.loss,
            schedule=((1e-4, epochs),),
            margin=defaults.margin,
            precision=inference.precision_for(arch, self.device, "auto"),
            threads=torch.get_num_threads(),
        )
        self.intake = Intake(Stream([str(path)], "-"), self.settings, _cores(), 8 << 30)
        self.intake.read(None, 0.0)
        began = time.perf_counter()
        self.faces, _ = self.intake.load()
        self.decoding = time.perf_counter() - began  # seconds
        self.model = training._describe(self.faces, self.intake.scheme, self.settings)

    def train(self, epoch: Callable[[float], Any]) -> None:
        """Train, and call `epoch` with the images a second of each epoch."""
        progress = training.Progress(epoch=lambda done: epoch(done.images_per_second))
        with tempfile.TemporaryDirectory() as folder:
            training.train(
                self.faces,
                None,
                self.intake.scheme,
                self.settings,
                device=self.device,
                state_path=Path(folder) / "state.safetensors",
                progress=progress,
            )


def _cores() -> int:
    from kptools.cli.common import cores

    return cores(0)
