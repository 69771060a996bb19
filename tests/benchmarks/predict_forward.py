"""kp-predict from JPEG files over the raw forward pass in the same mode. Of a network that is as
fast as decoding, over what the cores allow when both share them, 1 / (1/decode + 1/forward)."""

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import common
import predictor
import torch

from kptools import runtime
from kptools.cli.options import cores
from kptools.models import archs
from kptools.models.network import Network, forward
from kptools.pixels.crop_spec import crop_spec
from kptools.pixels.decode import decode_crop
from kptools.records.face import Face
from kptools.specs import InputSpec

# arch, input, faces (quick, full)
CASES = [("resnet18", (224, 224), (320, 640)), ("mobilenet_v3_small", (128, 128), (1600, 1600))]


def main() -> None:
    args = common.arguments(__doc__, device=True, records=True)
    runtime.tune_process()
    rows = []
    for arch, size, counts in CASES:
        if args.only not in arch:
            continue
        with tempfile.TemporaryDirectory() as name:
            path = args.records or str(common.faces(Path(name), counts[args.full]))
            network = predictor.network(arch, size)
            figures = common.in_turn(
                common.ROUNDS if args.full else 2,
                partial(_predict, path, network, arch, size, args.device),
                partial(_forward, network, size, args.device),
                partial(_decode, path, arch, size),
            )
        ours, forward, decode = figures
        shared = [1 / (1 / f + 1 / d) for f, d in zip(forward, decode, strict=True)]
        rows.append(
            (
                arch,
                *(statistics.median(f) for f in figures),
                common.ratio(ours, forward),
                common.ratio(ours, shared),
            )
        )
    head = ("network", "kp-predict, images/s", "forward", "decode", "over forward", "over shared")
    common.table(head, rows, args.device)


def _predict(path: str, network: Network, arch: str, size: tuple[int, int], device: str) -> float:
    predictor.predict(common.head(path, 32), network, arch, size, device)
    began = time.perf_counter()
    return predictor.predict(path, network, arch, size, device) / (time.perf_counter() - began)


@torch.inference_mode()
def _forward(network: Network, size: tuple[int, int], device: str) -> float:
    where = runtime.device(device)
    network.to(where, memory_format=torch.channels_last)
    x = torch.randn(32, 3, size[1], size[0], device=where)
    x = x.contiguous(memory_format=torch.channels_last)
    precision = runtime.precision_for(where, "auto")
    done, began = 0, 0.0
    for step in range(200):
        forward(network, x, precision).cpu()
        if step == 0:
            began = time.perf_counter()
            continue
        done += len(x)
        if time.perf_counter() - began > 3:
            break
    return done / (time.perf_counter() - began)


def _decode(path: str, arch: str, size: tuple[int, int]) -> float:
    faces = [Face.parse(record) for record in common.read(path)]
    defaults = archs.get(arch)
    spec = crop_spec(faces[:1], InputSpec(size, defaults.margin, defaults.grey))
    began = time.perf_counter()
    with ThreadPoolExecutor(cores(0)) as pool:
        crops = pool.map(lambda face: decode_crop(face.image, face.box, spec), faces)
        done = sum(1 for _ in crops)
    return done / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
