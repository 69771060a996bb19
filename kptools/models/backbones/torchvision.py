"""Any classifier of torchvision as a network of points: its last linear layer gives way to a
head of 200 units and 2K outputs (Inception-v3: one more layer, and the same for its auxiliary
output). The ImageNet weights are torchvision's own, or a file's.

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
from kptools.models.heads.points import Head
from kptools.storage.files import require_regular
from kptools.units import Normalization

HIDDEN = 200


GRID = 4


# Families whose `avgpool` feeds the last linear layer
_POOLED = ("resne", "wide_resnet", "regnet", "efficientnet", "inception", "googlenet")


@lru_cache(maxsize=1)
def names() -> frozenset[str]:
    """The classifiers that torchvision knows."""
    return frozenset(torchvision.models.list_models(module=torchvision.models))


def normalization(arch: str) -> Normalization:
    """The mean and the deviation of the pixels (white is 1) that torchvision's weights of a
    classifier expect: ImageNet's, but for efficientnet_v2_l."""
    preset = torchvision.models.get_model_weights(arch).DEFAULT.transforms()
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


class Points(nn.Module):
    """A backbone whose last layer gives points: (B, 3, H, W) to (B, K, 2) in fractions of the
    input; a pair of these where it trains with an auxiliary output."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        out = self.backbone(x)
        if isinstance(out, tuple):  # Inception-v3 in training
            return out[0].unflatten(1, (-1, 2)), out[1].unflatten(1, (-1, 2))
        points: Tensor = out.unflatten(1, (-1, 2))
        return points


def build(arch: str, count: int, *, weights: str = "none") -> Points:
    """Raises KptoolsError where the weights are not available."""
    options: dict[str, Any] = {}
    if arch in ("inception_v3", "googlenet") and weights != "default":
        options = {"aux_logits": arch == "inception_v3", "init_weights": True}
    backbone = _backbone(arch, weights, options)
    hidden = (HIDDEN, HIDDEN) if arch == "inception_v3" else (HIDDEN,)
    # torchvision's Inception and GoogLeNet convert ImageNet's normalisation to their own where they
    # load weights; a network rebuilt from a checkpoint must do the same, whatever it started from
    if hasattr(backbone, "transform_input"):
        setattr(backbone, "transform_input", True)  # noqa: B010 (no attribute that types know)
    cells = 1
    if arch.startswith(_POOLED):
        backbone.avgpool = GridPool()
        cells = GRID * GRID
    _replace_last_linear(backbone, hidden, count, cells)
    if arch == "inception_v3":
        _replace_last_linear(backbone.get_submodule("AuxLogits"), hidden, count, 1)
    return Points(backbone)


def _backbone(arch: str, weights: str, options: dict[str, Any]) -> nn.Module:
    if weights == "default":
        try:
            return torchvision.models.get_model(arch, weights="DEFAULT", **options)  # type: ignore[no-any-return]
        except (OSError, RuntimeError) as error:
            raise KptoolsError(
                f"torchvision's weights for {arch} are not available ({_reason(error)}); "
                "give a file with --weights FILE, or start from nothing with --weights none"
            ) from None
    backbone: nn.Module = torchvision.models.get_model(arch, weights=None, **options)
    if weights != "none":
        _load(backbone, Path(weights), arch)
    return backbone


def _load(backbone: nn.Module, path: Path, arch: str) -> None:
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
        if arch == "googlenet":  # torchvision drops these two heads, too, once it has loaded them
            state = {k: v for k, v in state.items() if not k.startswith(("aux1.", "aux2."))}
        backbone.load_state_dict(state)
    except FileNotFoundError:
        raise KptoolsError(f"--weights {path}: there is no such file") from None
    except Exception as error:
        raise KptoolsError(
            f"--weights {path} does not hold torchvision's {arch} ({_reason(error)}); "
            "a state_dict of the whole classifier is needed"
        ) from None


def _replace_last_linear(
    network: nn.Module, hidden: tuple[int, ...], count: int, cells: int
) -> None:
    linears = [(n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear)]
    if not linears:
        raise UsageError("this classifier has no linear layer to replace; choose another --arch")
    name, last = linears[-1]
    head = Head(cells * last.in_features, hidden, count, relu=False)
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, head)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
