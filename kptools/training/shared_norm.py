"""Batch normalisation over the batch of several processes.

On CUDA it is torch's own. That knows no CPU, so this is the same for one: the mean and the variance
of all that the processes hold, of which each knows its share.
"""

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def share_statistics(network: nn.Module, device: torch.device) -> None:
    """Let the batch normalisations of a network be over all processes, in place. Its parameters
    and their names stay as they are."""
    if device.type == "cuda":
        nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d  # it adds a method, and no state


class SharedBatchNorm2d(nn.BatchNorm2d):
    """nn.BatchNorm2d, (B, C, H, W) to the same, over the B of all processes."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        mean, variance, count = _statistics(x.detach())
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked.add_(1)
            momentum = self.momentum or 1 / float(self.num_batches_tracked)
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * (count / (count - 1)), momentum)
        out: Tensor = _Normalize.apply(x, self.weight, self.bias, mean, variance, count, self.eps)
        return out


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The mean (C,), the biased variance (C,) and the count () of the numbers of all processes,
    float32. Each sends its own three, which are put together as Chan et al. (1983) have it."""
    dtype = torch.promote_types(x.dtype, torch.float32)
    # torch.var_mean takes 10 to 30 times as long where channels are last. The statistics are of the
    # type of the running ones, which are thrown away here
    unused = torch.zeros(2, x.shape[1], dtype=dtype)
    mean, variance = torch.ops.aten.batch_norm_update_stats(x, unused[0], unused[1], 0.0)
    own = torch.cat([mean, variance, mean.new_tensor([x.numel() / x.shape[1]])])
    each = own.new_empty(dist.get_world_size(), len(own))
    dist.all_gather(list(each), own)
    share = each[:, -1:] / each[:, -1].sum()
    means, variances = each[:, :-1].chunk(2, dim=1)
    middle = (share * means).sum(dim=0)
    spread = (share * (variances + (means - middle).square())).sum(dim=0)
    return middle, spread, each[:, -1].sum()


class _Normalize(torch.autograd.Function):
    """(x - mean) / sqrt(variance + eps) * weight + bias. The gradient knows that mean and variance
    are those of all numbers."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance, count)
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, variance, count = ctx.saved_tensors
        # the sums first: then the gradient of x is scale * upstream + slope * x + level
        _, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
            upstream, x, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
        )
        total = torch.stack([of_weight, of_bias]).to(mean.dtype)
        dist.all_reduce(total)
        inverse = (variance + ctx.eps).rsqrt()
        scale = weight * inverse
        slope = -scale * inverse * total[0] / count
        level = -scale * total[1] / count - slope * mean
        shape = (1, -1, 1, 1)
        of_x = torch.addcmul(level.view(shape), x, slope.view(shape))
        of_x.addcmul_(upstream, scale.view(shape))
        return of_x.to(x.dtype), of_weight, of_bias, None, None, None, None
