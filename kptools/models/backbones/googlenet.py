"""GoogLeNet (Szegedy et al., 2015), without second outputs, as torchvision's weights have it."""

from torch import nn

from kptools.models.backbones.torchvision import (
    Classifier,
    Features,
    classifier,
    normalization,
    replace_last_linear,
)
from kptools.models.heads.points import HIDDEN
from kptools.units import Size

__all__ = ("build", "features", "normalization")


def build(name: str, count: int, size: Size, weights: str = "none") -> Classifier:
    """Raises KptoolsError where the weights are not available."""
    backbone = _googlenet(name, weights)
    return Classifier(backbone, replace_last_linear(backbone, (HIDDEN,), count))


def features(name: str, weights: str = "none") -> Features:
    """The network as a backbone. Raises KptoolsError where the weights are not available."""
    return Features(_googlenet(name, weights), name)


def _googlenet(name: str, weights: str) -> nn.Module:
    # torchvision drops the two auxiliary heads, too, once it has loaded them
    dropped = ("aux1.", "aux2.")
    backbone = classifier(name, weights, dropped=dropped, aux_logits=False, init_weights=True)
    setattr(backbone, "transform_input", True)  # noqa: B010 (as in inception.py)
    return backbone
