"""The other side: PyTorch as a first program has it. A Dataset that opens the file with Pillow,
crops, resizes and augments with torchvision's transforms; a DataLoader; fp32; channels first."""

import math
import os
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import common
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import functional as T

from kptools.models import build

# On two cores, processes that load beside the one that steps make it slower
CORES = os.cpu_count() or 1
WORKERS = int(os.environ.get("WORKERS", 0 if CORES <= 2 else CORES))
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


class FaceDataset(Dataset):  # type: ignore[type-arg]
    def __init__(self, path: str | Path, size: tuple[int, int], margin: float, augment: bool):
        self.records = common.read(path)
        self.size, self.margin, self.augment = size, margin, augment

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        record = self.records[index]
        x0, y0, x1, y1 = record["box"]
        grow = self.margin * math.sqrt((x1 - x0) * (y1 - y0))
        region = [round(v) for v in (x0 - grow, y0 - grow, x1 + grow, y1 + grow)]
        image = Image.open(record["image"]).convert("RGB").crop(region)
        image = image.resize(self.size, Image.Resampling.BILINEAR)
        extent = np.array([region[2] - region[0], region[3] - region[1]])
        points = (np.array(record["points"]) - region[:2]) / extent
        if self.augment:
            angle, scale = random.uniform(-15, 15), math.exp(random.uniform(-0.0953, 0.0953))
            shift = [random.uniform(-0.05, 0.05) * side for side in self.size]
            image = T.affine(
                image, angle, [round(s) for s in shift], scale, [0.0], T.InterpolationMode.BILINEAR
            )
            turn = math.radians(angle)
            matrix = np.array([[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]])
            points = (points - 0.5) @ (scale * matrix).T + 0.5 + np.array(shift) / self.size
            if random.random() < 0.5:
                image, points = T.hflip(image), points * [-1, 1] + [1, 0]
            image = T.adjust_brightness(image, random.uniform(0.7, 1.3))
            image = T.adjust_contrast(image, random.uniform(0.7, 1.3))
            image = T.adjust_saturation(image, random.uniform(0.7, 1.3))
        pixels = T.normalize(T.to_tensor(image), MEAN, STD)
        return pixels, torch.from_numpy(points).float()


def train(path: str, arch: str, size: tuple[int, int], batch: int, epochs: int) -> Iterator[int]:
    """Train: 0 once all is set up, then the number of images of each batch when it is done."""
    faces = FaceDataset(path, size, 0.25 if arch == "unet" else 0.15, augment=True)
    loader: Any = DataLoader(faces, batch, shuffle=True, num_workers=WORKERS)
    network = build.build(arch, 68, size).train()
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    yield 0
    for _ in range(epochs):
        for x, points in loader:
            optimizer.zero_grad()
            output = network(x)
            if arch == "unet":
                labels = _heatmaps(points, size)
                value = F.binary_cross_entropy_with_logits(output, labels)
            else:
                value = F.mse_loss(output, points)
            value.backward()
            optimizer.step()
            value.item()
            yield len(x)


def _heatmaps(points: Tensor, size: tuple[int, int]) -> Tensor:
    at = points * torch.tensor(size) - 0.5
    x = torch.exp(-0.5 * (torch.arange(size[0]) - at[..., :1]) ** 2)
    y = torch.exp(-0.5 * (torch.arange(size[1]) - at[..., 1:]) ** 2)
    return y.unsqueeze(3) * x.unsqueeze(2)


@torch.no_grad()
def predict(path: str, network: nn.Module, size: tuple[int, int]) -> Iterator[int]:
    """Predict, and give the number of images of each batch when it is done."""
    faces = FaceDataset(path, size, 0.15, augment=False)
    network.eval()
    loader: Any = DataLoader(faces, 32, num_workers=WORKERS)
    for x, _ in loader:
        yield len(network(x).numpy())
