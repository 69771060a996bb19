"""What makes a network quicker that only predicts: batch normalisation folded into the convolution
before it, and weights of few bits from the start."""

from itertools import pairwise
from typing import TypeGuard

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kptools.models.layers.depthwise import DepthwiseConv2d


def fold_batch_norms(network: nn.Module) -> None:
    """Give the convolutions of a network, in place, the scale and shift of the batch normalisation
    that comes right after them in an nn.Sequential, which then is nn.Identity: the same numbers but
    for rounding, and a pass over the features less. The network must be in evaluation mode, and
    its former tensors stay as they are."""
    for module in list(network.modules()):
        if not is_sequence(module):
            continue
        parts = list(module._modules.items())  # also a layer that is there twice
        for (name, conv), (after, norm) in pairwise(parts):
            if is_plain_convolution(conv) and _is_plain_norm(norm):
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, after, nn.Identity())


def round_convolutions(network: nn.Module, dtype: torch.dtype) -> None:
    """Keep the weights of the convolutions of a network in `dtype`, in place; its former tensors
    stay as they are. Autocast to it would round them to the same numbers on every forward pass."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            for parameter in module.parameters(recurse=False):  # not of what a head holds
                parameter.data = parameter.data.to(dtype)


def is_sequence(module: nn.Module) -> bool:
    """Whether it runs its parts one after the other: what another does with them is its own
    affair."""
    return type(module).forward is nn.Sequential.forward


def is_plain_convolution(module: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    """Whether it is a 2-D convolution and no more: of no other class, and nobody listens to it."""
    known = type(module) is nn.Conv2d or type(module) is DepthwiseConv2d
    return known and not is_hooked(module)


def _is_plain_norm(module: nn.Module | None) -> TypeGuard[nn.BatchNorm2d]:
    return (
        type(module) is nn.BatchNorm2d and module.running_mean is not None and not is_hooked(module)
    )


def is_hooked(module: nn.Module | None) -> bool:
    """Whether somebody listens to what goes in or comes out."""
    return module is not None and bool(module._forward_hooks or module._forward_pre_hooks)
