"""Any classifier of torchvision: as a network of points, or as a backbone of features.

As a network of points its last linear layer gives way to a head of 200 units and 2K outputs. As a
backbone it gives its last features at strides 4, 8, 16 and 32. The ImageNet weights are
torchvision's own, or a file's.

A classifier averages its last features over the whole image, which is to forget where they were.
Where that average feeds the last layer straight, it is taken over a grid of 4 x 4 cells instead:
from scratch, at 224 pixels, a ResNet-18 then learns in two epochs what it takes more than five
without, and no weight of the backbone changes its shape.
"""

import warnings
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

from kptools.errors import KptoolsError, UsageError
from kptools.models import archs
from kptools.models.heads.auxiliary import AuxiliaryHead
from kptools.models.heads.points import HIDDEN, PointsHead
from kptools.models.heads.visible import VisibleHead
from kptools.models.layers.grid_pool import GRID, GridPool
from kptools.models.network import Head, Network
from kptools.storage.tensors import read_state_dict
from kptools.units import Normalization, Size

STRIDES = (4, 8, 16, 32)  # of a backbone's features


class Classifier(Network):
    """A backbone whose last layer gives points: (B, 3, H, W) to (B, K, 3), as PointsHead gives
    it; a pair of these in training where it has an auxiliary output.

    `last` and `auxiliary` are the names of the layers in the backbone that are heads of points.
    """

    def __init__(self, backbone: nn.Module, last: str, auxiliary: str | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self._last, self._auxiliary = last, auxiliary

    @property
    def head(self) -> Head:  # type: ignore[override]
        main = self.backbone.get_submodule(self._last)
        if isinstance(main, VisibleHead):
            return main
        assert isinstance(main, PointsHead)
        if self._auxiliary is None:
            return main
        auxiliary = self.backbone.get_submodule(self._auxiliary)
        assert isinstance(main, PointsHead)
        assert isinstance(auxiliary, PointsHead)
        return AuxiliaryHead(main, auxiliary)

    def wrap_head(self, wrap: Callable[[Any], Any]) -> None:
        if self._auxiliary is not None:
            raise UsageError("--visibility is not for networks of two outputs; leave it out")
        parent, _, child = self._last.rpartition(".")
        setattr(self.backbone.get_submodule(parent), child, wrap(self.head))

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, ...]:
        out: Tensor | tuple[Tensor, ...] = self.backbone(x)
        return tuple(out) if isinstance(out, tuple) else out


def build(name: str, count: int, size: Size, weights: str = "none") -> Classifier:
    """Raises UsageError where there is no such classifier, KptoolsError where the weights are not
    available."""
    check(name)
    backbone = classifier(name, weights)
    return Classifier(backbone, replace_last_linear(backbone, (HIDDEN,), count))


class Features(nn.Module):
    """(B, 3, H, W) to the last features of a classifier at each of STRIDES, from fine to coarse,
    each (B, C_i, H/stride, W/stride). KptoolsError for a classifier that has no such maps."""

    from_end = False

    def __init__(self, classifier: nn.Module, name: str) -> None:
        super().__init__()
        nodes, self.channels = _feature_nodes(classifier, name)
        self.strides = STRIDES
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.layers = create_feature_extractor(classifier, nodes)

    def forward(self, x: Tensor) -> list[Tensor]:
        return list(self.layers(x).values())


def features(name: str, weights: str = "none") -> Features:
    """The classifier as a backbone. UsageError where there is none of this name or where it has no
    maps of features, KptoolsError where the weights are not available."""
    check(name)
    return Features(classifier(name, weights), name)


def _feature_nodes(classifier: nn.Module, name: str) -> tuple[list[str], tuple[int, ...]]:
    """Of the graph of a classifier: its last node at each stride, and their channels. UsageError
    where it has none."""
    side = 8 * STRIDES[-1]
    x = torch.zeros(1, 3, side, side, device=next(classifier.parameters()).device)
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # that a node is there in training alone
            _, nodes = get_graph_node_names(classifier)
            outputs = create_feature_extractor(classifier, nodes).eval()(x)
    except Exception as error:
        raise UsageError(
            f"{name} cannot be taken apart ({_reason(error)}); use --head points"
        ) from None
    last: dict[int, tuple[str, int]] = {}
    for node, output in outputs.items():
        shape: tuple[int, ...] = getattr(output, "shape", ())
        if len(shape) == 4 and shape[2] == shape[3]:
            last[side // shape[2]] = (node, shape[1])
    if any(stride not in last for stride in STRIDES):
        raise UsageError(f"{name} has no features at strides 4 to 32; use --head points")
    found = [last[stride] for stride in STRIDES]
    return [node for node, _ in found], tuple(channels for _, channels in found)


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
        state = read_state_dict(path)
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
