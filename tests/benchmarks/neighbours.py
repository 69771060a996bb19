"""Training and prediction beside one busy process, over the same alone.

    python tests/benchmarks/neighbours.py --full

The neighbour is a loop of one thread: of nice 0 and of 19, in this session and in one of its own
(Linux shares the cores between sessions first). `fixed` is `--threads` with all cores, `auto` is
what kptools does unless a number is named. The last rows say what `auto` costs alone.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter

import common
import torch

FACES = 96
NETWORKS = {
    "unet": ("--width", 16, "--stride", 2, "--input-size", "160x120", "--margin", 0),
    "resnet18": ("--weights", "none", "--input-size", "96x96"),
}
NEIGHBOURS = {
    "nice 0": (0, False),
    "nice 0, own session": (0, True),
    "nice 19, own session": (19, True),
}
LOOP = """
import os, sys
os.nice(int(sys.argv[1]))
parent = os.getppid()
while os.getppid() == parent:  # or it would outlive a benchmark that is killed
    for _ in range(1000000):
        pass
"""


@contextmanager
def neighbour(name: str) -> Iterator[None]:
    """One busy process, or none where the name is that of nobody."""
    if name not in NEIGHBOURS:
        yield
        return
    nice, own_session = NEIGHBOURS[name]
    command = [sys.executable, "-c", LOOP, str(nice)]
    loop = subprocess.Popen(command, start_new_session=own_session)
    try:
        yield
    finally:
        loop.kill()
        loop.wait()


def images_per_second(folder: Path, faces: Path, arch: str, threads: int, epochs: int) -> float:
    """Of a training's last epochs; `threads` 0 is auto."""
    out = folder / "m.safetensors"
    words = ("--arch", arch, *NETWORKS[arch], "--threads", threads, "--epochs", epochs)
    common.tool("train", *words, "--val-fraction", 0, "-o", out, faces)
    log = common.read(folder / "m.log.jsonl")
    return median(epoch["img_s"] for epoch in log[-max(1, epochs - 2) :])


def faces_per_second(faces: Path) -> float:
    """Of kp-predict with the network in the box, imports and all."""
    began = perf_counter()
    common.tool("predict", "-o", "/dev/null", faces)
    return len(common.read(faces)) / (perf_counter() - began)


def main() -> None:
    args = common.arguments(__doc__)
    cores = torch.get_num_threads()
    epochs = 6 if args.full else 3
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        faces = common.faces(folder, FACES, enlarge=1)
        few = Path(common.head(faces, 16))
        many = folder / "many.jsonl"
        many.write_bytes(faces.read_bytes() * (20 if args.full else 8))
        for arch in [some for some in NETWORKS if args.only in some]:
            alone = {t: images_per_second(folder, faces, arch, t, epochs) for t in (0, cores)}
            for who in NEIGHBOURS:
                with neighbour(who):
                    auto = images_per_second(folder, faces, arch, 0, epochs)
                    fixed = images_per_second(folder, few, arch, cores, 1)
                rows.append((f"train {arch}, {who}", auto / alone[0], fixed / alone[cores]))
                print(*rows[-1], flush=True)
            rows.append((f"train {arch}, alone: auto over fixed", alone[0] / alone[cores], 1.0))
            print(*rows[-1], f"{alone[0]:.1f} images/s", flush=True)
        if args.only in "predict":
            alone_rate = faces_per_second(many)
            for who in NEIGHBOURS:
                with neighbour(who):
                    rows.append((f"predict, {who}", faces_per_second(many) / alone_rate, ""))
                print(*rows[-1], flush=True)
    common.table(("", "auto", "fixed"), rows)


if __name__ == "__main__":
    main()
