"""Points of a video before and after kp-track: how much they tremble, how late they are, how fast
it all goes.

    python tests/benchmarks/video.py --full [--keep DIR]

Drawn faces move as heads do, from pose to pose with rests between, in videos of 200 frames of
640x480 at 30 frames a second, with noise, H.264. The truth is exact. Without `--full` it is one
video in place of five. `--keep` leaves frames, records and the drawn videos there.
"""

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import common
import numpy as np
import orjson
from PIL import Image

from kptools import geometry as g
from kptools.datasets.synthetic.faces import synthesize
from kptools.storage.video import VideoFile

FRAMES, FPS, SIZE = 200, 30, (640, 480)
NOISE = 5.0  # standard deviation, levels
REST, MOVE = 24, 21  # frames


def poses(rng: np.random.Generator, frames: int) -> np.ndarray:
    """(frames, 4): x, y in pixels, turn in radians, and the logarithm of the scale."""
    stops = frames // (REST + MOVE) + 2
    at = rng.uniform(-1, 1, (stops, 4)) * (90, 50, 0.2, 0.12)
    found = []
    for before, after in pairwise(at):
        found += [before] * REST
        t = np.arange(1, MOVE + 1)[:, None] / MOVE
        found += list(before + (after - before) * (3 - 2 * t) * t * t)
    return np.array(found[:frames])


def moving(
    path: Path, index: int, frames: int = FRAMES, size: tuple[int, int] = SIZE
) -> list[list[list[float]]]:
    """Write a video of a drawn face that moves; its points in each frame."""
    face = synthesize(7, index)
    rng = np.random.default_rng(index)
    zoom = 0.85 * min(size) / max(face.image.size)
    middle = np.array(face.image.size) / 2
    truth = []
    with VideoFile(path) as video:
        for number, (x, y, turn, scale) in enumerate(poses(rng, frames)):
            unit = min(size) / 480
            m = g.compose(
                g.translation(size[0] / 2 + unit * x, size[1] / 2 + unit * y),
                g.rotation(turn),
                g.scaling(zoom * np.exp(scale), zoom * np.exp(scale)),
                g.translation(*-middle),
            )
            truth.append(g.transform(m, face.points).tolist())
            shown = face.image.transform(
                size,
                Image.Transform.AFFINE,
                g.invert(m).ravel().tolist(),
                Image.Resampling.BICUBIC,
                fillcolor=(120, 120, 120),
            )
            pixels = np.asarray(shown) + rng.normal(0, NOISE, (*size[::-1], 1))
            video.add(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), number / FPS)
    return truth


def lag(records: list[dict[str, Any]], key: str = "pred") -> float:
    """By how many frames the points are late: the shift of the truth that they fit best."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        groups.setdefault(record["group"], []).append(record)
    shifts, errors = np.arange(-2, 10, 0.1), []
    for shift in shifts:
        total = []
        for own in groups.values():
            points, truth = (np.array([r[k] for r in own]) for k in (key, "points"))
            offset = (points - truth).mean(axis=0)  # what is always off is not late
            at = np.arange(12, len(own) - 12)
            low = np.floor(at - shift).astype(int)
            part = (at - shift - low)[:, None, None]
            earlier = truth[low] * (1 - part) + truth[low + 1] * part
            total.append(np.hypot(*(points[at] - offset - earlier).T).mean())
        errors.append(np.mean(total))
    return float(shifts[np.argmin(errors)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="five videos")
    parser.add_argument("--keep", type=Path, help="a folder for what is made")
    args = parser.parse_args()
    with _folder(args.keep) as folder:
        measure(folder, 5 if args.full else 1)


@contextlib.contextmanager
def _folder(kept: Path | None) -> Iterator[Path]:
    if kept is None:
        with tempfile.TemporaryDirectory() as made:
            yield Path(made)
        return
    kept.mkdir(parents=True, exist_ok=True)
    yield kept


def measure(folder: Path, videos: int) -> None:
    raw: list[dict[str, Any]] = []
    seconds = dict.fromkeys(("kp-prep video", "kp-predict", "kp-track", "kp-viz video"), 0.0)
    for index in range(videos):
        path = folder / f"{index}.mp4"
        truth = moving(path, index)

        def timed(name: str, *words: object, stdin: bytes = b"") -> bytes:
            start = time.perf_counter()
            found = common.tool(name, *words, stdin=stdin)
            tool = next(t for t in seconds if t.split()[0] == f"kp-{name}")
            seconds[tool] += time.perf_counter() - start
            return found

        found = timed("prep", "video", path, "--out", folder / "frames", "--allow-failures")
        found = timed("predict", "--allow-failures", stdin=found)
        timed("track", stdin=found)
        timed("viz", "video", "-o", folder / f"{index}-marked.mp4", stdin=found)
        for line in found.splitlines():
            record = orjson.loads(line)
            if "pred" in record and "#" not in record["id"]:
                number = int(record["id"].rpartition("/")[2])
                raw.append(record | {"points": truth[number]})
    lines = b"".join(orjson.dumps(record) + b"\n" for record in raw)
    (folder / "raw.jsonl").write_bytes(lines)
    print(f"{len(raw)} of {videos * FRAMES} frames with a face")
    rows = []
    for name, *options in (
        ("as predicted", "--no-smooth"),
        ("kp-track",),
        ("kp-track --beta 10", "--beta", 10),
        ("kp-track --beta 0", "--beta", 0),
    ):
        rows.append((name, *figures(common.tool("track", *options, stdin=lines))))
    again = common.tool("predict", stdin=common.tool("track", "--box", stdin=lines))
    rows.append(("again, --box", *figures(common.tool("track", "--no-smooth", stdin=again))))
    rows.append(("again, kp-track", *figures(common.tool("track", stdin=again))))
    common.table(
        ("", "NMF, %", "acceleration, %", "NME, %", "late by, frames", "tracks", "jumps"), rows
    )
    start = time.perf_counter()
    pipe = " | ".join(
        f"{sys.executable} -m kptools.cli.{words}"
        for words in (
            f"prep video {folder}/0.mp4 --out {folder}/frames",
            "predict",
            "track",
            f"viz video -o {folder}/pipe.mp4 > /dev/null",
        )
    )
    subprocess.run(pipe, shell=True, check=True)
    rates = {name: videos * FRAMES / spent for name, spent in seconds.items()}
    rates["the whole pipe"] = FRAMES / (time.perf_counter() - start)
    common.table(("", "frames/s"), rates.items())


def figures(lines: bytes) -> tuple[Any, ...]:
    records = [orjson.loads(line) for line in lines.splitlines()]
    jitter = orjson.loads(common.tool("eval", "--jitter", stdin=lines))
    error = orjson.loads(common.tool("eval", stdin=lines))
    tracks = {(r["group"], r["track"]) for r in records}
    jumps = sum("jump" in r.get("flags", ()) for r in records)
    trembling = (100 * jitter["nmf"], 100 * jitter["acceleration"])
    return *trembling, 100 * error["nme"], lag(records), len(tracks), jumps


if __name__ == "__main__":
    main()
