"""Any classifier of torchvision as a network of points: its last linear layer gives way to a head
of 200 units and 2K outputs. The ImageNet weights are torchvision's own, or a file's.

A classifier averages its last features over the whole image, which is to forget where they were.
Where that average feeds the last layer straight, it is taken over a grid of 4 x 4 cells instead:
from scratch, at 224 pixels, a ResNet-18 then learns in two epochs what it takes more than five
without, and no weight of the backbone changes its shape.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from kptools.errors import KptoolsError, UsageError
from kptools.models import archs
from kptools.models.heads.auxiliary import AuxiliaryHead
from kptools.models.heads.points import PointsHead
from kptools.models.network import Head, Network
from kptools.storage.files import require_regular
from kptools.units import Normalization, Size

HIDDEN = 200
GRID = 4


class Classifier(Network):
    """A backbone whose last layer gives points: (B, 3, H, W) to (B, K, 2) in fractions of the
    input; a pair of these in training where it has an auxiliary output.

    `last` and `auxiliary` are the names of the layers in the backbone that are heads of points.
    """

    def __init__(self, backbone: nn.Module, last: str, auxiliary: str | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self._last, self._auxiliary = last, auxiliary

    @property
    def head(self) -> Head:  # type: ignore[override]
        main = self.backbone.get_submodule(self._last)
        assert isinstance(main, PointsHead)
        if self._auxiliary is None:
            return main
        auxiliary = self.backbone.get_submodule(self._auxiliary)
        assert isinstance(auxiliary, PointsHead)
        return AuxiliaryHead(main, auxiliary)

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        out = self.backbone(x)
        if isinstance(out, tuple):
            return tuple(points.unflatten(1, (-1, 2)) for points in out)
        points: Tensor = out.unflatten(1, (-1, 2))
        return points


def build(name: str, count: int, size: Size, weights: str = "none") -> Classifier:
    """Raises UsageError where there is no such classifier, KptoolsError where the weights are not
    available."""
    check(name)
    backbone = classifier(name, weights)
    return Classifier(backbone, replace_last_linear(backbone, (HIDDEN,), count))


@lru_cache(maxsize=1)
def names() -> frozenset[str]:
    """The classifiers that torchvision knows."""
    return frozenset(torchvision.models.list_models(module=torchvision.models))


def check(name: str) -> None:
    """Raises UsageError where torchvision has no such classifier."""
    if name not in names():
        raise UsageError(
            f"--arch {name!r} is none of {', '.join(archs.ARCHS)}, nor a classifier of "
            "torchvision (convnext_tiny, mobilenet_v3_small, ...)"
        )


def normalization(name: str) -> Normalization:
    """The mean and the deviation of the pixels (white is 1) that torchvision's weights of a
    classifier expect: ImageNet's, but for efficientnet_v2_l."""
    preset = torchvision.models.get_model_weights(name).DEFAULT.transforms()
    return tuple(preset.mean), tuple(preset.std)


class GridPool(nn.Module):
    """The mean over each of GRID x GRID cells: (B, C, H, W) to (B, C, GRID, GRID), as
    AdaptiveAvgPool2d has it, which on MPS takes multiples of GRID only."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if x.device.type != "mps" or not (height % GRID or width % GRID):
            return F.adaptive_avg_pool2d(x, GRID)
        return pool_by_cells(x)


def pool_by_cells(x: Tensor) -> Tensor:
    """GridPool's numbers, a cell at a time. A cell reaches from floor(i H / GRID) to
    ceil((i + 1) H / GRID)."""

    def cells(length: int) -> list[slice]:
        return [slice(i * length // GRID, -(-(i + 1) * length // GRID)) for i in range(GRID)]

    rows = [
        torch.stack([x[..., row, column].mean(dim=(-2, -1)) for column in cells(x.shape[-1])], -1)
        for row in cells(x.shape[-2])
    ]
    return torch.stack(rows, dim=-2)


def replace_last_linear(backbone: nn.Module, hidden: tuple[int, ...], count: int) -> str:
    """Put a head of points in the place of the last linear layer, and a grid of cells in that of a
    global average which feeds it straight. The name of the layer."""
    linears = [(n, m) for n, m in backbone.named_modules() if isinstance(m, nn.Linear)]
    if not linears:
        raise UsageError("this classifier has no linear layer to replace; choose another --arch")
    name: str = linears[-1][0]
    last = linears[-1][1]
    cells = 1
    if _averages_into(backbone, last):
        backbone.avgpool = GridPool()
        cells = GRID * GRID
    head = PointsHead(cells * last.in_features, hidden, count, relu=False)
    parent, _, child = name.rpartition(".")
    setattr(backbone.get_submodule(parent), child, head)
    return name


def _averages_into(backbone: nn.Module, last: nn.Linear) -> bool:
    """Whether the backbone's `avgpool` is a global average, with nothing but dropout between it and
    the last layer."""
    pool = getattr(backbone, "avgpool", None)
    if not isinstance(pool, nn.AdaptiveAvgPool2d) or pool.output_size not in (1, (1, 1)):
        return False
    layers = [m for m in backbone.modules() if not any(True for _ in m.children())]
    after = layers[layers.index(pool) + 1 :]
    return all(layer is last or isinstance(layer, nn.Dropout) for layer in after)


def classifier(
    name: str, weights: str, *, dropped: tuple[str, ...] = (), **options: Any
) -> nn.Module:
    """torchvision's classifier: with `weights` `default`, `none` or those of a file. `dropped`:
    prefixes of what a file may hold beside them. Raises KptoolsError."""
    if weights == "default":
        try:
            return torchvision.models.get_model(name, weights="DEFAULT")  # type: ignore[no-any-return]
        except (OSError, RuntimeError) as error:
            raise KptoolsError(
                f"torchvision's weights for {name} are not available ({_reason(error)}); "
                "give a file with --weights FILE, or start from nothing with --weights none"
            ) from None
    backbone: nn.Module = torchvision.models.get_model(name, weights=None, **options)
    if weights != "none":
        _load(backbone, Path(weights), name, dropped)
    return backbone


def _load(backbone: nn.Module, path: Path, name: str, dropped: tuple[str, ...]) -> None:
    """Take a classifier's weights from a file: safetensors, or torch.save's (never unpickled
    beyond tensors)."""
    try:
        require_regular(path)
        state = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
        if not isinstance(state, dict):
            raise TypeError("it holds no table of tensors")
        backbone.load_state_dict({k: v for k, v in state.items() if not k.startswith(dropped)})
    except FileNotFoundError:
        raise KptoolsError(f"--weights {path}: there is no such file") from None
    except Exception as error:
        raise KptoolsError(
            f"--weights {path} does not hold torchvision's {name} ({_reason(error)}); "
            "a state_dict of the whole classifier is needed"
        ) from None


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
