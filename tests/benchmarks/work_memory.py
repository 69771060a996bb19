"""Peak memory of two jobs on much data: saving a training run's state (a resnet50's), over the
file's size; and kp-augment --noise --write of a photo of 24 megapixels, over its pixels as
float32."""

import json
import resource
import tempfile
from functools import partial
from pathlib import Path

import common
import numpy as np
import orjson
import torch
from PIL import Image

from kptools.models import build
from kptools.pixels import write
from kptools.training.ema import EMA
from kptools.training.state import State

WIDE, HIGH = 6000, 4000


def main() -> None:
    args = common.arguments(__doc__)
    if args.side:
        print(json.dumps({"state": _state, "noise": _noise}[args.side]()))
        return
    sides = ("state", "noise")
    rounds = common.ROUNDS if args.full else 1
    figures = common.in_turn(rounds, *(partial(common.child, "--side", side) for side in sides))
    rows = [
        (side, sorted(peaks)[len(peaks) // 2]) for side, peaks in zip(sides, figures, strict=True)
    ]
    common.table(("job", "peak over its data"), rows)


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _state() -> float:
    network = build.build("resnet50", 68, (224, 224))
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    for values in network.parameters():
        values.grad = torch.zeros_like(values)
    optimizer.step()
    state = State("run", network, EMA(network, 0.9), optimizer, [])
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "state.safetensors"
        before = _peak()
        state.save(path)
        return (_peak() - before) / path.stat().st_size


def _noise() -> float:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "photo.jpg"
        rng = np.random.default_rng(0)
        small = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8))
        small.resize((WIDE, HIGH), Image.Resampling.BICUBIC).save(path)
        policy = [{"seed": 0, "noise": 0.1}]
        record = {"image": str(path), "id": "a", "box": [0, 0, WIDE, HIGH], "augment": policy}
        Path(name, "out").mkdir()
        before = _peak()
        made = write.write_image(record, Path(name, "out"))
        assert orjson.dumps(made)
        return (_peak() - before) / (WIDE * HIGH * 3 * 4)


if __name__ == "__main__":
    main()
