"""Batch normalisation folded into the convolution before it, for a network that only predicts."""

from itertools import pairwise

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> None:
    """Give the convolutions of a network, in place, the scale and shift of the batch normalisation
    that comes right after them in an nn.Sequential, which then is nn.Identity: the same numbers but
    for rounding, and a pass over the features less. The network must be in evaluation mode, and
    its former tensors stay as they are."""
    for module in list(network.modules()):
        if type(module).forward is not nn.Sequential.forward:
            continue  # what it does with its parts is its own affair
        for (name, conv), (after, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and type(norm) is nn.BatchNorm2d:
                setattr(module, name, fuse_conv_bn_eval(conv, norm))
                setattr(module, after, nn.Identity())
