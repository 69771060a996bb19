"""Peak memory of the heatmap loss, forward and backward, over the size of the logits, which lie as
the network gives them (channels last) or contiguous; beside it a loss on stored labels. On Linux
the kernel's own high-water mark; on a GPU the allocator's."""

import json
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import common
import trainer

COUNT, SIDE = 68, 200


def main() -> None:
    args = common.arguments(__doc__, device=True)
    if args.side:
        print(json.dumps(_measure(args.side, args.device)))
        return
    kinds = {
        "kptools, no labels": "ours",
        "kptools, logits contiguous": "contiguous",
        "labels made and stored": "stored",
    }
    rounds = common.ROUNDS if args.full else 1
    run = partial(common.child, "--device", args.device, "--side")
    peaks = common.in_turn(rounds, *(partial(run, f"{kind} peak") for kind in kinds.values()))
    times = common.in_turn(rounds, *(partial(run, f"{kind} seconds") for kind in kinds.values()))
    rows = [
        (label, statistics.median(peak), statistics.median(seconds))
        for label, peak, seconds in zip(kinds, peaks, times, strict=True)
    ]
    print(f"batch 8, {COUNT} maps of {SIDE} x {SIDE}, float32: logits of 87 MB")
    common.table(("loss", "peak over logits", "seconds"), rows, args.device)


def _measure(side: str, device: str) -> float:
    import torch
    import torch.nn.functional as F

    from kptools import runtime
    from kptools.models.losses import bernoulli

    kind, _, what = side.partition(" ")
    points = torch.rand(8, COUNT, 2, device=device) * SIDE
    where = torch.device(device)
    # as the last convolution of a U-Net gives them
    layout = torch.contiguous_format if kind == "contiguous" else runtime.memory_format(where)

    def logits(count: int) -> Any:
        z = torch.empty(count, COUNT, SIDE, SIDE, device=where, memory_format=layout)
        return z.normal_().requires_grad_()

    small = logits(1)

    def step(z: Any, at: Any) -> None:
        if kind == "stored":
            value = F.binary_cross_entropy_with_logits(z, _labels(at, device))
        else:
            value = bernoulli.loss(z, at).mean
        value.backward()

    step(small, points[:1])  # what is loaded once
    if what == "seconds":
        z = logits(8)
        step(z, points)
        trainer.wait(z.device)
        began = time.perf_counter()
        for _ in range(3):
            z.grad = None
            step(z, points)
        trainer.wait(z.device)
        return (time.perf_counter() - began) / 3
    before = _now(device)
    z = logits(8)
    step(z, points)
    return (_high(device) - before) / z.nbytes


def _labels(points: Any, device: str) -> Any:
    import torch

    at = torch.arange(SIDE, device=device)
    x = torch.exp(-0.5 * (at - points[..., :1]) ** 2)
    y = torch.exp(-0.5 * (at - points[..., 1:]) ** 2)
    return y.unsqueeze(3) * x.unsqueeze(2)


def _now(device: str) -> int:
    import torch

    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    now = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
    return now


def _high(device: str) -> int:
    import torch

    return torch.cuda.max_memory_allocated() if device == "cuda" else _status("VmHWM")


def _status(key: str) -> int:
    status = Path("/proc/self/status")
    if not status.exists():
        raise SystemExit("needs Linux's /proc, or --device cuda")
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
