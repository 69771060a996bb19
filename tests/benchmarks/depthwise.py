"""Steps of training with kptools' backward pass of depthwise convolutions over those with torch's,
on random tensors, in the precision that --precision auto takes."""

import statistics
import time
from functools import partial

import common
import torch
from torch import Tensor, nn

from kptools import runtime
from kptools.models import build
from kptools.models.layers.depthwise import DepthwiseConv2d, use_quick_depthwise
from kptools.models.network import Network, forward
from kptools.training.settings import resolve

CASES = [("efficientnet_lite0", 128), ("mobilenet_v3_small", 128), ("convnext_tiny", 128)]


def main() -> None:
    args = common.arguments(__doc__)
    runtime.tune_process()
    cpu = torch.device("cpu")
    rows = []
    for arch, side in CASES:
        if args.only not in arch:
            continue
        settings = resolve(arch, weights="none", input_size=(side, side))
        network = build.build(arch, 68, (side, side), settings.options, head=settings.head)
        runtime.to_device(network, cpu)
        network.train()
        x = torch.randn(16, 3, side, side)
        rate = {}
        for precision in ("fp32", "bf16"):
            sides = [partial(_rate, network, x, precision, quick=quick) for quick in (True, False)]
            for side_of in sides:
                side_of()
            rate[precision] = common.in_turn(common.ROUNDS if args.full else 1, *sides)
        row = [f"{arch} at {side}"]
        for ours, plain in rate.values():
            middles = [statistics.median(figures) for figures in (ours, plain)]
            row += [*middles, common.ratio(ours, plain)]
        rows.append(row)
    theirs = ("torch's", "ratio")
    common.table(("network", "fp32, images/s", *theirs, "bf16, images/s", *theirs), rows)


def _rate(network: Network, x: Tensor, precision: str, *, quick: bool) -> float:
    """Images a second of three steps, forward and backward."""
    _choose(network, quick=quick)
    began = time.perf_counter()
    for _ in range(3):
        forward(network, x, precision).float().square().mean().backward()
    return 3 * len(x) / (time.perf_counter() - began)


def _choose(network: nn.Module, *, quick: bool) -> None:
    """Give the network the quick backward pass, or torch's own."""
    if quick:
        use_quick_depthwise(network)
        return
    for module in network.modules():
        if isinstance(module, DepthwiseConv2d):
            module.__class__ = nn.Conv2d


if __name__ == "__main__":
    main()
