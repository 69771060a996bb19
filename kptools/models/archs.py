"""The architectures: what each takes by default, its heads and its options.

One more is a file and a line in `ARCHS`. Nothing here imports torch, so that `kp-train --help`
answers at once; the file of an architecture is imported when it is built.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from kptools.errors import UsageError
from kptools.models import heads
from kptools.options import Option
from kptools.units import Fraction, Schedule, Size

PACKAGE = "kptools.models.backbones"


@dataclass(frozen=True)
class Arch:
    """The defaults of an architecture.

    `heads` are those that it can end in, the first by default. Its `module` has, for a network that
    comes with its own linear layers, `build(name, count, size, weights, **options)`; for one out of
    parts, `features(name, weights, **options)`, its backbone; and where there are pretrained
    weights, `normalization(name)`, of the pixels that they expect.
    """

    module: str
    input: Size
    grey: bool  # grey in -0.5..0.5, else RGB with ImageNet's mean and deviation
    batch: int
    schedule: Schedule
    margin: Fraction  # added to each side of the box
    heads: tuple[str, ...] = ("points",)
    options: tuple[Option, ...] = ()
    pretrained: bool = False  # there are ImageNet weights for it
    optimizer: str = "adam"
    weight_decay: float = 0.0
    decay: str = "none"  # of the learning rate, over the whole run
    average: float = 0.98  # decay of the weights' moving average, a step
    align: Fraction = 0.0  # the share of the training faces that are aligned in each epoch
    passes: int = 2  # looks at a face by default, if it learnt aligned ones; 1: and no mirror
    point_loss: str | None = None  # of a head of points, in place of the head's own default
    neck: int = 96  # channels of the pyramid between a backbone and a head of maps

    def load(self) -> ModuleType:
        """The module that builds it, with torch."""
        from importlib import import_module

        return import_module(self.module)

    def resolve_head(self, arch: str, given: str | None) -> str:
        """The head that was given, else the default. UsageError where it has none such."""
        head = given or self.heads[0]
        heads.get(head)
        if head not in self.heads:
            raise UsageError(f"--head {head} is not for {arch}; use {' or '.join(self.heads)}")
        return head

    def default_loss(self, head: str) -> str:
        """What it is trained with where it ends in this head and no loss is given."""
        if head == "points" and self.point_loss is not None:
            return self.point_loss
        return heads.get(head).loss

    def resolve(self, arch: str, head: str, given: Mapping[str, float | None]) -> dict[str, float]:
        """All options of it and of its head: what was given, else their defaults. UsageError for
        one that they do not have, or a value that they do not take."""
        options = (*self.options, *heads.get(head).options)
        known = {option.name: option for option in options}
        for name, value in given.items():
            if value is not None and name not in known:
                named = all_options().get(name, (None, []))[1]
                owners = ", ".join(text.rpartition(" ")[0] for text in named)
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{flag} is an option of {owners or 'no network'}, not of {arch} with "
                    f"--head {head}"
                )
        values = {name: given.get(name) for name in known}
        return {
            name: option.default if values[name] is None else option.check(values[name])
            for name, option in known.items()
        }


_COURSE: Schedule = ((1e-3, 15), (3e-4, 15))  # of the course's networks on ImageNet weights


_HEADS = ("points", "heatmap", "integral")


def _classifier(
    module: str = "torchvision", size: Size = (224, 224), heads: tuple[str, ...] = _HEADS
) -> Arch:
    """A classifier of torchvision, its last layer replaced by a head of points."""
    return Arch(
        module=f"{PACKAGE}.{module}",
        input=size,
        grey=False,
        batch=16,
        schedule=_COURSE,
        margin=0.15,
        heads=heads,
        pretrained=True,
    )


def _compact(size: Size, epochs: int, neck: int) -> Arch:
    """A small network for CPUs, which looks at a face once."""
    return Arch(
        module=f"{PACKAGE}.compact",
        input=size,
        grey=False,
        batch=8,
        schedule=((2e-3, epochs),),
        margin=0.15,
        heads=("heatmap", "integral", "points"),
        optimizer="adamw",
        weight_decay=0.05,
        decay="cosine",
        average=0.998,
        align=0.8,
        passes=1,
        point_loss="smooth_l1",
        neck=neck,
    )


DEFAULT = "efficientnet_lite0"  # the one that kp-train takes where none is named

ARCHS: Mapping[str, Arch] = {
    "nose": Arch(
        module=f"{PACKAGE}.nose",
        input=(80, 60),
        grey=True,
        batch=8,
        schedule=((1e-3, 25),),
        margin=0.0,
    ),
    "face": Arch(
        module=f"{PACKAGE}.face",
        input=(160, 120),
        grey=True,
        batch=8,
        schedule=((3e-4, 20),),
        margin=0.0,
    ),
    "resnet18": _classifier(),
    "resnet34": _classifier(),
    "resnet50": _classifier(),
    "resnet152": _classifier(),
    "inception_v3": _classifier("inception", (299, 299), heads=("points",)),
    "googlenet": _classifier("googlenet"),
    "efficientnet_lite0": Arch(
        module=f"{PACKAGE}.efficientnet_lite",
        input=(160, 160),
        grey=False,
        batch=8,
        schedule=((2e-3, 60),),
        margin=0.15,
        heads=("heatmap", "integral", "points"),
        pretrained=True,
        optimizer="adamw",
        weight_decay=0.05,
        decay="cosine",
        average=0.998,
        align=0.8,
        point_loss="smooth_l1",
    ),
    "tiny": _compact((96, 96), epochs=120, neck=32),
    "small": _compact((128, 128), epochs=80, neck=48),
    "unet": Arch(
        module=f"{PACKAGE}.unet",
        input=(200, 200),
        grey=False,
        batch=4,
        schedule=_COURSE,
        margin=0.25,
        heads=("heatmap", "integral"),
        options=(
            Option("width", int, 64, "channels of its first block", low=1, high=256),
            Option("stride", int, 1, "input pixels per map pixel", choices=(1, 2, 4, 8)),
        ),
    ),
}


def get(name: str) -> Arch:
    """The architecture `name`; any other name is taken for a classifier of torchvision."""
    return ARCHS.get(name) or _classifier()


def all_options() -> dict[str, tuple[Option, list[str]]]:
    """By name: each option of an architecture or a head, and which ones have it. Of several of one
    name the last is given, which takes what the others take, too."""
    found: dict[str, tuple[Option, list[str]]] = {}
    owners = {name: entry.options for name, entry in ARCHS.items()}
    owners |= {f"--head {name}": entry.options for name, entry in heads.HEADS.items()}
    for name, options in owners.items():
        for option in options:
            _, names = found.get(option.name, (option, []))
            found[option.name] = option, [*names, f"{name} [{option.default}]"]
    return found


def _more(a: Arch) -> str:
    """How its training differs from that of the others."""
    if a.optimizer == "adam":
        return ""
    return f" {a.decay}, {a.optimizer} {a.weight_decay:g}, average {a.average:g}, align {a.align:g}"


def table() -> str:
    """The defaults as lines of text, for `kp-train --help`."""
    lines = []
    for name, a in ARCHS.items():
        schedule = ",".join(f"{rate:g}:{epochs}" for rate, epochs in a.schedule)
        colour = "grey" if a.grey else "rgb"
        lines.append(
            f"{name:<18} {a.input[0]}x{a.input[1]:<4} {colour:<5} batch {a.batch:<3} "
            f"{a.heads[0]:<8} margin {a.margin:<5g} {schedule}{_more(a)}"
        )
    return "\n".join(lines)
