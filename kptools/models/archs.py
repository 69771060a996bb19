"""The architectures, and what each takes by default. Nothing here imports torch."""

from collections.abc import Mapping
from dataclasses import dataclass

from kptools.units import Fraction, Schedule, Size

LOSSES = ("mse", "l1", "smooth_l1", "wing", "bce")


DECODERS = ("argmax", "quarter", "dark", "softargmax")


DECODER = "dark"  # the one that is used where none is named


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
