"""From the name of an architecture to its network."""

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn

from kptools.errors import UsageError
from kptools.models import archs, heads
from kptools.models.layers.depthwise import use_quick_depthwise
from kptools.models.network import Criterion, Network
from kptools.models.shape_prior import ShapePrior, ShapePriors
from kptools.specs import InputSpec
from kptools.units import Size


def build(
    arch: str,
    count: int,
    size: Size,
    options: Mapping[str, float] | None = None,
    *,
    head: str | None = None,
    weights: str = "none",
    blocks: Sequence[int] = (),
    visibility: bool = False,
) -> Network:
    """The network `arch` with a `head`, for `count` points and inputs of `size` (W, H).

    `options` are the architecture's and the head's own; what is left out has its default. `blocks`:
    how many of the points are of each scheme, where there are several. With `visibility` it says
    of each point how probably it is seen.
    `weights` are `default`, `none` or a file. Raises UsageError where there is no such network,
    head or option, KptoolsError where the weights are not available.
    """
    entry = archs.get(arch)
    chosen = entry.resolve_head(arch, head)
    resolved = entry.resolve(arch, chosen, options or {})
    module = entry.load()
    network: Network
    if is_whole(arch, chosen):
        network = module.build(arch, count, size, weights, **resolved)
    else:
        from kptools.models.parts import assemble

        own = {option.name: resolved.pop(option.name) for option in entry.options}
        backbone = module.features(arch, weights, **own)
        network = assemble(backbone, heads.get(chosen), count, size, width=entry.neck, **resolved)
    prior, own_head = network.shape_prior, network.head
    if blocks and isinstance(prior, ShapePrior) and isinstance(own_head, nn.Module):
        own_head.shape_prior = ShapePriors(blocks, prior.noise_scale)
    if visibility:
        network.wrap_head(partial(_with_visibility, count=count))
    use_quick_depthwise(network)
    return network


def is_whole(arch: str, head: str) -> bool:
    """Whether the network `arch` with this head comes with its own linear layers. Else it is made
    of parts."""
    return head == "points" and hasattr(archs.get(arch).load(), "build")


def _with_visibility(head: Any, count: int) -> nn.Module:
    from kptools.models.heads.visible import VisibleHead

    inputs = head.in_channels if isinstance(head, nn.Conv2d) else next(iter(head)).in_features
    return VisibleHead(head, inputs, count)


def build_shapes(
    arch: str,
    count: int,
    size: Size,
    options: Mapping[str, float] | None = None,
    *,
    head: str | None = None,
    blocks: Sequence[int] = (),
    visibility: bool = False,
) -> Network:
    """The network's shapes alone, on the device `meta`: no memory is taken."""
    try:
        with torch.device("meta"):
            return build(
                arch, count, size, options, head=head, blocks=blocks, visibility=visibility
            )
    except NotImplementedError:  # torchvision's regnets compute their widths with tensors
        return build(
            arch, count, size, options, head=head, blocks=blocks, visibility=visibility
        ).to("meta")


def check(arch: str) -> None:
    """Raises UsageError where there is no such network."""
    if arch not in archs.ARCHS:
        archs.get(arch).load().check(arch)


def criterion(head: str, loss: str) -> Criterion:
    """The function of a loss that networks with this head can be trained with."""
    function: Criterion = import_module(heads.get(head).losses[loss]).loss
    return function


def check_batch(
    arch: str,
    spec: InputSpec,
    batch: int,
    options: Mapping[str, float] | None = None,
    *,
    head: str | None = None,
    visibility: bool = False,
) -> None:
    """Run a batch through the network's shapes, before any work and without memory.
    UsageError where that fails."""
    width, height = spec.size
    network = build_shapes(arch, 1, spec.size, options, head=head, visibility=visibility)
    try:
        network(torch.zeros(batch, spec.channels, height, width, device="meta"))
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise UsageError(
            f"{arch} cannot train on batches of {batch} at {width}x{height}: {reason}"
        ) from None
