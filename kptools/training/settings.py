"""The settings of a training run, and its schedule."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from kptools.errors import KptoolsError, UsageError
from kptools.models import archs, heads
from kptools.options import Option
from kptools.specs import InputSpec
from kptools.units import Fraction, Schedule, Size


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


def rate_at(settings: "Settings", rate: float, done: float) -> float:
    """The learning rate where its schedule has `rate` and the share `done` of the run is over."""
    return rate * (1 + math.cos(math.pi * done)) / 2 if settings.decay == "cosine" else rate


@dataclass(frozen=True)
class Settings:
    """All that decides what a training run computes, beside its records. `head`, `loss` and
    `options` are among those of the architecture (`kptools.models.archs`)."""

    arch: str
    input: InputSpec
    batch: int
    head: str
    loss: str
    schedule: Schedule
    options: Mapping[str, float] = field(default_factory=dict)
    keep: str = "best"  # which epoch: best or last
    weights: str = "none"  # that the backbone starts from: default, none or a file
    init: str = ""  # the checkpoint that the run goes on from
    seed: int = 0
    optimizer: str = "adam"  # or adamw
    weight_decay: float = 0.0  # a step, of the learning rate; not of biases and normalisation
    decay: str = "none"  # of the learning rate: none, or cosine, to zero at the end of the run
    average: float = 0.98  # decay of the weights' moving average, a step; 0: none
    align: float = 0.0  # the share of the training faces that are aligned in each epoch
    accumulate: int = 1  # parts of a batch, whose gradients are added up
    precision: str = "fp32"
    threads: int = 0
    several_schemes: bool = False  # whether the records may be of several
    visibility: bool = False  # whether it learns which points are seen

    def described(self) -> dict[str, Any]:
        """As checkpoints have them: of files the names alone, so that the bytes are the same
        wherever these lie, and without those of `LATER` that are at their defaults, so that the
        bytes of a run stay what they were."""
        found = asdict(self) | {key: Path(getattr(self, key)).name for key in ("init", "weights")}
        return {k: v for k, v in found.items() if k not in LATER or v != LATER[k]}


# What checkpoints of before did not have, and its defaults
LATER: Mapping[str, Any] = {"several_schemes": False, "visibility": False}

# Those of every architecture, and their bounds
OPTIONS = (
    Option(
        "margin", float, None, "Added to each side of the box, of sqrt(box area).", low=0, high=10
    ),
    Option("batch_size", int, None, "Faces a step.", low=1, high=65536),
    Option("lr", float, None, "Learning rate.", low=0, high=1e3, exclusive=True),
    Option("epochs", int, None, "How many.", low=1, high=10**6),
    Option("seed", int, 0, "Of the weights' start and the order of faces.", low=0, high=2**31),
    Option("average", float, None, "Decay of the weights' average; 0: none.", low=0, high=0.9999),
    Option("keep", str, "best", "Which epoch.", choices=("best", "last")),
    Option("optimizer", str, None, "Which.", choices=("adam", "adamw")),
    Option("weight_decay", float, None, "Of adamw.", low=0, high=1),
    Option("decay", str, None, "Of the learning rate.", choices=("none", "cosine")),
    Option("align", float, None, "Share of the faces to align in each epoch.", low=0, high=1),
    Option("accumulate", int, 1, "Parts of a batch, for less memory.", low=1, high=4096),
)


def check_size(size: Size) -> Size:
    """The size (width, height) of a network's input. UsageError where it is out of bounds."""
    width, height = size
    if not all(isinstance(side, int) and 8 <= side <= 4096 for side in (width, height)):
        raise UsageError(f"'{width}x{height}': each side is 8 to 4096 pixels")
    return (width, height)


def resolve(
    arch: str,
    *,
    input_size: Size | None = None,
    margin: Fraction | None = None,
    batch: int | None = None,
    head: str | None = None,
    loss: str | None = None,
    schedule: str | None = None,
    lr: float | None = None,
    epochs: int | None = None,
    weights: str | None = None,
    init: str = "",
    options: Mapping[str, float | None] | None = None,
    keep: str = "best",
    seed: int = 0,
    average: float | None = None,
    optimizer: str | None = None,
    weight_decay: float | None = None,
    decay: str | None = None,
    align: Fraction | None = None,
    accumulate: int = 1,
    several_schemes: bool = False,
    visibility: bool = False,
) -> Settings:
    """The settings of a run: what was given, else the defaults of the architecture. Raises
    UsageError for what no run or this architecture does not take, and KptoolsError where a file is
    not there."""
    given = (
        *(margin, batch, lr, epochs, seed, average, keep),
        *(optimizer, weight_decay, decay, align, accumulate),
    )
    for option, value in zip(OPTIONS, given, strict=True):
        option.check(value)
    if input_size is not None:
        check_size(input_size)
    defaults = archs.get(arch)
    chosen_head = defaults.resolve_head(arch, head)
    chosen_loss = loss or defaults.default_loss(chosen_head)
    heads.check_loss(arch, chosen_head, chosen_loss)
    if weights not in (None, "none") and not defaults.pretrained:
        raise UsageError(f"--weights {weights}: there are none for {arch}; see --init")
    plan = parse_schedule(schedule) if schedule else defaults.schedule
    if lr is not None:
        plan = tuple((lr, count) for _, count in plan)
    if epochs is not None:
        plan = set_length(plan, epochs)
    resolved = defaults.resolve(arch, chosen_head, options or {})
    for flag, path in (("--init", init), ("--weights", weights)):
        if path not in (None, "", "none", "default") and not Path(path).is_file():
            raise KptoolsError(f"{flag}: there is no file {path}")
    steps = optimizer or defaults.optimizer
    if weight_decay and steps == "adam":
        raise UsageError("--weight-decay is an option of adamw; add --optimizer adamw")
    chosen = weights or ("default" if defaults.pretrained and not init else "none")
    return Settings(
        arch=arch,
        input=InputSpec(
            input_size or defaults.input,
            defaults.margin if margin is None else margin,
            defaults.grey,
        ),
        batch=defaults.batch if batch is None else batch,
        head=chosen_head,
        loss=chosen_loss,
        schedule=plan,
        options=resolved,
        weights=chosen,
        init=init,
        keep=keep,
        seed=seed,
        optimizer=steps,
        weight_decay=0.0 if steps == "adam" else _or(weight_decay, defaults.weight_decay),
        decay=decay or defaults.decay,
        average=_or(average, defaults.average),
        align=_or(align, defaults.align),
        accumulate=accumulate,
        several_schemes=several_schemes,
        visibility=visibility,
    )


def _or(given: float | None, default: float) -> float:
    return default if given is None else given
