"""Inception-v3 (Szegedy et al., 2016): a deeper head, and a second output in training."""

from kptools.models.backbones.torchvision import (
    Classifier,
    classifier,
    normalization,
    replace_last_linear,
)
from kptools.models.heads.points import HIDDEN
from kptools.units import Size

__all__ = ("build", "normalization")


def build(name: str, count: int, size: Size, weights: str = "none") -> Classifier:
    """Raises KptoolsError where the weights are not available."""
    backbone = classifier(name, weights, aux_logits=True, init_weights=True)
    # torchvision converts ImageNet's normalisation to the network's own where it loads weights; one
    # that is rebuilt from a checkpoint must do the same, whatever it started from
    setattr(backbone, "transform_input", True)  # noqa: B010 (no attribute that types know)
    hidden = (HIDDEN, HIDDEN)
    last = replace_last_linear(backbone, hidden, count)
    auxiliary = replace_last_linear(backbone.get_submodule("AuxLogits"), hidden, count)
    return Classifier(backbone, last, f"AuxLogits.{auxiliary}")
