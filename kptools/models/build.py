"""The networks: one a file, and `build`, which makes any of them from its name.

Every network takes (B, C, H, W) and gives either points, (B, K, 2) in fractions of its input, or
heatmaps, (B, K, H / stride, W / stride) logits. Inception-v3 in training gives two of the former.
"""

import torch
from torch import Tensor, nn

from kptools.errors import UsageError
from kptools.models.backbones import torchvision
from kptools.models.backbones.face import Face
from kptools.models.backbones.nose import Nose
from kptools.models.backbones.unet import UNet
from kptools.models.heads.points import Head
from kptools.units import Size

HEATMAP_ARCHS = ("unet",)


def build(
    arch: str,
    count: int,
    size: Size,
    *,
    weights: str = "none",
    width: int | None = None,
    stride: int = 1,
) -> nn.Module:
    """The network `arch` for `count` points and inputs of `size`.

    `weights` (torchvision's classifiers alone): `default`, `none` or a file. `width` and `stride`
    (unet): channels of its first block, input pixels per map pixel.
    """
    if arch == "nose":
        return Nose(count, size)
    if arch == "face":
        return Face(count, size)
    if arch == "unet":
        return UNet(count, width=width or 64, stride=stride)
    check(arch)
    return torchvision.build(arch, count, weights=weights)


def check(arch: str) -> None:
    """Raises UsageError where there is no such network."""
    if arch not in ("nose", "face", "unet") and arch not in torchvision.names():
        raise UsageError(
            f"--arch {arch!r} is neither nose, face, unet nor a classifier of torchvision "
            "(resnet50, convnext_tiny, mobilenet_v3_small, ...)"
        )


def try_out(arch: str, count: int, size: Size, batch: int, *, width: int, stride: int) -> None:
    """Run a batch through the network's shapes, before any work. UsageError where it cannot be."""
    with torch.device("meta"):
        network = build(arch, count, size, width=width, stride=stride)
        channels = 1 if arch in ("nose", "face") else 3
        try:
            network(torch.zeros(batch, channels, size[1], size[0]))
        except Exception as error:
            reason = " ".join(str(error).split())[:120]
            raise UsageError(
                f"{arch} cannot train on batches of {batch} at {size[0]}x{size[1]}: {reason}"
            ) from None


def start_at(network: nn.Module, mean: Tensor, spread: Tensor) -> None:
    """Let a network of points start from a mean shape and the standard deviation about it, both
    (K, 2) in fractions of its input."""
    for module in network.modules():
        if isinstance(module, Head):
            module.start_at(mean, spread)
