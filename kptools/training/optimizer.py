"""The optimizer of a run."""

import torch
from torch import nn

from kptools.training.settings import Settings


def make_optimizer(network: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    """Adam (Kingma and Ba, 2015), or AdamW (Loshchilov and Hutter, 2019), whose weight decay
    leaves out what is no matrix or kernel: biases, and the scales of normalisation."""
    parameters = [p for p in network.parameters() if p.requires_grad]
    if settings.optimizer == "adam":
        return torch.optim.Adam(parameters, fused=True)
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], fused=True)
