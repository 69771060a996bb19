"""The architectures: what each takes by default, its losses and its options.

One more is a file with a function `build`, and a line in `ARCHS`. Nothing here imports torch, so
that `kp-train --help` answers at once; the file of an architecture is imported when it is built.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from kptools.errors import UsageError
from kptools.models.losses import HEATMAP_LOSSES, POINT_LOSSES
from kptools.options import Option
from kptools.units import Fraction, Schedule, Size

PACKAGE = "kptools.models.backbones"


@dataclass(frozen=True)
class Arch:
    """The defaults of an architecture.

    `module` has `build(name, count, size, weights, **options)`, which makes the network, and where
    there are pretrained weights `normalization(name)`, of the pixels that they expect. `losses`
    maps the names of those that it can be trained with to their modules; `loss` is the default.
    """

    module: str
    input: Size
    grey: bool  # grey in -0.5..0.5, else RGB with ImageNet's mean and deviation
    batch: int
    loss: str
    schedule: Schedule
    margin: Fraction  # added to each side of the box
    losses: Mapping[str, str]
    options: tuple[Option, ...] = ()
    pretrained: bool = False  # torchvision has ImageNet weights for it
    bounded: bool = False  # it cannot give a point outside its input

    def load(self) -> ModuleType:
        """The module that builds it, with torch."""
        from importlib import import_module

        return import_module(self.module)

    def resolve(self, arch: str, given: Mapping[str, float | None]) -> dict[str, float]:
        """All its options: what was given, else their defaults. UsageError for one that it does not
        have, or a value that it does not take."""
        known = {option.name: option for option in self.options}
        for name, value in given.items():
            if value is not None and name not in known:
                owners = ", ".join(n for n, a in ARCHS.items() if name in a.option_names)
                flag = "--" + name.replace("_", "-")
                raise UsageError(f"{flag} is an option of {owners or 'no network'}, not of {arch}")
        values = {name: given.get(name) for name in known}
        return {
            name: option.default if values[name] is None else option.check(values[name])
            for name, option in known.items()
        }

    def check_loss(self, arch: str, loss: str) -> None:
        """UsageError where it cannot be trained with this loss."""
        known = dict.fromkeys(name for a in ARCHS.values() for name in a.losses)
        if loss not in known:
            raise UsageError(f"--loss {loss!r}: one of {', '.join(known)}")
        if loss not in self.losses:
            *others, last = self.losses
            valid = f"{', '.join(others)} or {last}" if others else last
            raise UsageError(f"--loss {loss} is not for {arch}; use {valid}")

    @property
    def option_names(self) -> tuple[str, ...]:
        return tuple(option.name for option in self.options)


_COURSE: Schedule = ((1e-3, 15), (3e-4, 15))  # of the course's networks on ImageNet weights


def _classifier(module: str = "torchvision", size: Size = (224, 224)) -> Arch:
    """A classifier of torchvision, its last layer replaced by a head of points."""
    return Arch(
        module=f"{PACKAGE}.{module}",
        input=size,
        grey=False,
        batch=16,
        loss="mse",
        schedule=_COURSE,
        margin=0.15,
        losses=POINT_LOSSES,
        pretrained=True,
    )


ARCHS: Mapping[str, Arch] = {
    "nose": Arch(
        module=f"{PACKAGE}.nose",
        input=(80, 60),
        grey=True,
        batch=8,
        loss="mse",
        schedule=((1e-3, 25),),
        margin=0.0,
        losses=POINT_LOSSES,
    ),
    "face": Arch(
        module=f"{PACKAGE}.face",
        input=(160, 120),
        grey=True,
        batch=8,
        loss="mse",
        schedule=((3e-4, 20),),
        margin=0.0,
        losses=POINT_LOSSES,
    ),
    "resnet18": _classifier(),
    "resnet34": _classifier(),
    "resnet50": _classifier(),
    "resnet152": _classifier(),
    "inception_v3": _classifier("inception", (299, 299)),
    "googlenet": _classifier("googlenet"),
    "unet": Arch(
        module=f"{PACKAGE}.unet",
        input=(200, 200),
        grey=False,
        batch=4,
        loss="bce",
        schedule=_COURSE,
        margin=0.25,
        losses=HEATMAP_LOSSES,
        bounded=True,
        options=(
            Option("width", int, 64, "channels of its first block", low=1, high=256),
            Option("stride", int, 1, "input pixels per map pixel", choices=(1, 2, 4, 8)),
            Option(
                "sigma",
                float,
                1.0,
                "of the Gaussians, pixels of the map",
                low=0,
                high=1e3,
                exclusive=True,
            ),
            Option(
                "pos_weight",
                float,
                1.0,
                "weight of the label's term",
                low=0,
                high=1e9,
                exclusive=True,
            ),
        ),
    ),
}


def get(name: str) -> Arch:
    """The architecture `name`; any other name is taken for a classifier of torchvision."""
    return ARCHS.get(name) or _classifier()


def all_options() -> dict[str, tuple[Option, list[str]]]:
    """By name: each option of an architecture, and which ones have it."""
    found: dict[str, tuple[Option, list[str]]] = {}
    for name, arch in ARCHS.items():
        for option in arch.options:
            found.setdefault(option.name, (option, []))[1].append(name)
    return found


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
