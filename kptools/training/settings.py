"""The settings of a training run, and its schedule."""

from dataclasses import dataclass

from kptools.errors import UsageError
from kptools.units import Fraction, Normalization, Schedule, Size


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
