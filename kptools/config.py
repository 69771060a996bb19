"""What each architecture takes by default, and the settings of a training run.

Nothing here imports torch: `kp-train --help` shows this table.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from kptools.errors import UsageError
from kptools.units import Fraction, Size

Normalization = tuple[tuple[float, ...], tuple[float, ...]]  # mean, deviation; white is 1
Schedule = tuple[tuple[float, int], ...]  # (learning rate, epochs), in order

SPLITS = ("train", "val", "test")
LOSSES = ("mse", "l1", "smooth_l1", "wing", "bce")
DECODERS = ("argmax", "quarter", "dark", "softargmax")
DECODER = "dark"  # the one that is used where none is named
DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "fp32", "tf32", "bf16")


@dataclass(frozen=True)
class Arch:
    """The defaults of an architecture."""

    input: Size
    grey: bool  # grey in -0.5..0.5, else RGB with ImageNet's mean and deviation
    batch: int
    loss: str
    schedule: Schedule
    margin: Fraction  # added to each side of the box
    pretrained: bool = False  # torchvision has ImageNet weights for it


_BACKBONE = Arch((224, 224), False, 16, "mse", ((1e-3, 15), (3e-4, 15)), 0.15, pretrained=True)

ARCHS: Mapping[str, Arch] = {
    "nose": Arch((80, 60), True, 8, "mse", ((1e-3, 25),), 0.0),
    "face": Arch((160, 120), True, 8, "mse", ((3e-4, 20),), 0.0),
    "resnet18": _BACKBONE,
    "resnet34": _BACKBONE,
    "resnet50": _BACKBONE,
    "resnet152": _BACKBONE,
    "inception_v3": Arch(
        (299, 299), False, 16, "mse", ((1e-3, 15), (3e-4, 15)), 0.15, pretrained=True
    ),
    "unet": Arch((200, 200), False, 4, "bce", ((1e-3, 15), (3e-4, 15)), 0.25),
}


def arch(name: str) -> Arch:
    """The defaults of `name`; any other name is taken for a torchvision classifier."""
    return ARCHS.get(name, _BACKBONE)


def table() -> str:
    """The defaults as lines of text, for `kp-train --help`."""
    lines = []
    for name, a in ARCHS.items():
        schedule = ",".join(f"{rate:g}:{epochs}" for rate, epochs in a.schedule)
        colour = "grey" if a.grey else "rgb"
        lines.append(
            f"{name:<13} {a.input[0]}x{a.input[1]:<4} {colour:<5} batch {a.batch:<3} {a.loss:<4} "
            f"margin {a.margin:<5g} {schedule}"
        )
    return "\n".join(lines)


def parse_schedule(text: str) -> Schedule:
    """`1e-3:15,3e-4:15` as ((0.001, 15), (0.0003, 15))."""
    stages = []
    for word in text.split(","):
        rate, colon, epochs = word.partition(":")
        try:
            stage = (float(rate), int(epochs))
        except ValueError:
            colon = ""
            stage = (0.0, 0)
        if not colon or not 0 < stage[0] < 1e3 or not 0 < stage[1] <= 10**6:
            raise UsageError(f"--schedule {text!r}: write LR:EPOCHS,LR:EPOCHS, as 1e-3:15,3e-4:15")
        stages.append(stage)
    return tuple(stages)


def set_length(schedule: Schedule, epochs: int) -> Schedule:
    """Truncate the schedule to so many epochs, or go on at its last rate."""
    if epochs < 1:
        raise UsageError("--epochs: at least 1")
    stages: list[tuple[float, int]] = []
    left = epochs
    for index, (rate, count) in enumerate(schedule):
        count = left if index == len(schedule) - 1 else min(count, left)
        if count:
            stages.append((rate, count))
        left -= count
    return tuple(stages)


def rates(schedule: Schedule) -> list[float]:
    """The learning rate of each epoch."""
    return [rate for rate, epochs in schedule for _ in range(epochs)]


def parse_size(text: str) -> Size:
    """`224x224` as (width, height)."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"{text!r}: write a size as WIDTHxHEIGHT, as 224x224")
    size = (int(width), int(height))
    if not all(8 <= side <= 4096 for side in size):
        raise UsageError(f"{text!r}: each side is 8 to 4096 pixels")
    return size


@dataclass(frozen=True)
class Settings:
    """All that decides what a training run computes, beside its records."""

    arch: str
    input: Size
    grey: bool
    batch: int
    loss: str
    schedule: Schedule
    margin: Fraction
    keep: str = "best"
    weights: str = "none"
    init: str = ""
    seed: int = 0
    average: float = 0.98  # decay of the weights' moving average, a step; 0: none
    sigma: float = 1.0  # of a heatmap's Gaussian, pixels of the map
    pos_weight: float = 1.0  # of the label's term in the Bernoulli loss
    width: int = 64  # unet: channels of the first block
    stride: int = 1  # unet: input pixels per map pixel
    precision: str = "fp32"
    threads: int = 0
    normalization: Normalization | None = None  # of the pixels; None: grey's, or ImageNet's


@dataclass(frozen=True)
class Model:
    """What a checkpoint says of its network: enough to build it and to feed it."""

    arch: str
    scheme: str
    count: int  # K
    input: Size
    grey: bool
    margin: Fraction
    heatmap: bool
    width: int
    stride: int
    box_sources: tuple[str, ...]
    mean: tuple[tuple[float, float], ...]  # the training mean shape, fractions of the box
    sigma: float = 1.0  # of the Gaussians that a heatmap was trained on, pixels of the map
    normalization: Normalization | None = None  # of the pixels; None: grey's, or ImageNet's

    @property
    def map_size(self) -> tuple[float, float]:
        """The input in pixels of a heatmap, (width, height); the last may be a part of one."""
        return (self.input[0] / self.stride, self.input[1] / self.stride)
