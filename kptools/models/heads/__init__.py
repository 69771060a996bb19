"""Heads: from features to points, one a file; which loss each is trained with, and its options.

A head owns its loss and its decoding (`kptools.models.network.Head`). One more is a file with a
function `build`, and a line in `HEADS`. Nothing here imports torch.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType

from kptools.errors import UsageError
from kptools.models.losses import HEATMAP_LOSSES, INTEGRAL_LOSSES, POINT_LOSSES
from kptools.options import Option


@dataclass(frozen=True)
class HeadEntry:
    """`module` has `build`, which makes the head for what the `neck` brings it. Behind `pyramid`,
    which brings a map (B, channels, h, w), it is `build(channels, count, size, stride, upscale,
    **options)`: for features of that stride, and maps that are finer by `upscale`. Behind `cells`,
    which brings CellFeatures, it is `build(channels, count, **options)`: `channels` are those of
    the backbone's maps, from fine to coarse. `losses` maps the names of those that it can be
    trained with to their modules; the first is the default, unless the architecture has another."""

    module: str
    neck: str
    losses: Mapping[str, str]
    options: tuple[Option, ...] = ()
    bounded: bool = False  # it cannot give a point outside its input

    def load(self) -> ModuleType:
        """The module that builds it, with torch."""
        from importlib import import_module

        return import_module(self.module)

    @property
    def loss(self) -> str:
        """The loss that it is trained with by default, by most architectures."""
        return next(iter(self.losses))


HEADS: Mapping[str, HeadEntry] = {
    "points": HeadEntry("kptools.models.heads.local_points", neck="cells", losses=POINT_LOSSES),
    "heatmap": HeadEntry(
        "kptools.models.heads.heatmap",
        neck="pyramid",
        losses=HEATMAP_LOSSES,
        bounded=True,
        options=(
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
            Option(
                "shape_prior",
                float,
                0.0,
                "how strongly unsure points go where the training faces' shapes have them; 0: off, "
                "1: as the maps say",
                low=0,
                high=100,
            ),
        ),
    ),
    "integral": HeadEntry(
        "kptools.models.heads.integral", neck="pyramid", losses=INTEGRAL_LOSSES, bounded=True
    ),
}


def get(name: str) -> HeadEntry:
    """The head `name`. UsageError where there is none."""
    if name not in HEADS:
        raise UsageError(f"--head {name!r}: one of {', '.join(HEADS)}")
    return HEADS[name]


def check_loss(arch: str, head: str, loss: str) -> None:
    """UsageError where a network with this head cannot be trained with this loss."""
    known = dict.fromkeys(name for entry in HEADS.values() for name in entry.losses)
    if loss not in known:
        raise UsageError(f"--loss {loss!r}: one of {', '.join(known)}")
    if loss not in get(head).losses:
        *others, last = get(head).losses
        valid = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(f"--loss {loss} is not for {arch} with --head {head}; use {valid}")
