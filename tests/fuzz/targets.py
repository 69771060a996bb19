"""What is fuzzed: each parser of kptools with sound inputs to start from, in this process; and the
tools, fed lines, in processes of their own.

A parser may raise what kptools documents (`KptoolsError`, `RecordError`) and nothing else, and what
it lets through as sound must be sound.
"""

import io
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import orjson
from conftest import untrained
from fuzz import mutate
from PIL import Image

from kptools.datasets import coco, csv_table, ibug, imm, kaggle, labelme, pts, wflw, yolo
from kptools.errors import KptoolsError, RecordError
from kptools.geometry import whole_image
from kptools.inference import heatmap_files
from kptools.models import checkpoint
from kptools.pixels.crop_spec import crop_spec
from kptools.pixels.decode import decode_crop
from kptools.records import keys
from kptools.records.item import Item
from kptools.specs import InputSpec
from kptools.storage import images

LONGEST = 5.0  # seconds of work that an input may take
PATIENCE = 60.0  # seconds that it may take on a clock: other processes may have the cores
STATUSES = {"train": {0, 1, 3}}  # the rest: all well, or some records failed


class Stuck(BaseException):
    """An input took too long. No parser may take this for an error of the file's."""


def _stuck(*_: object) -> None:
    raise Stuck


@dataclass
class Target:
    """A parser: sound inputs, and what reads one of them once it has been damaged."""

    seeds: list[bytes]
    read: Callable[[bytes], None]

    def check(self, random: Random) -> float:
        """Damage an input and read it; the seconds that took. Raises where it does not end as
        documented."""
        data = mutate.damaged(random.choice(self.seeds), random)
        signal.signal(signal.SIGPROF, _stuck)
        signal.signal(signal.SIGALRM, _stuck)
        signal.setitimer(signal.ITIMER_PROF, LONGEST)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)
        began = time.process_time()
        try:
            with suppress(KptoolsError, RecordError):
                self.read(data)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.setitimer(signal.ITIMER_REAL, 0)
        took = time.process_time() - began
        assert took < LONGEST  # the alarm waits for what does not come back to Python
        return took


def face(folder: Path) -> dict[str, Any]:
    """A sound record, with all keys that tools read."""
    Image.effect_noise((80, 60), 60).convert("RGB").save(folder / "face.jpg")
    points = [[20.0 + i % 9 * 4, 10.0 + i // 9 * 5] for i in range(68)]
    maps = labels_file(folder)
    return {
        "image": str(folder / "face.jpg"),
        "id": "face",
        "copy": 0,
        "group": "face",
        "size": [80, 60],
        "box": [15.5, 5.5, 60.5, 55.5],
        "box_source": "dataset",
        "points": points,
        "visible": [1] * 68,
        "scheme": "ibug68",
        "split": "train",
        "augment": [{"seed": 0, "rotate": 10, "flip": 0.5, "brightness": 0.1}],
        "pred": [[x + 1, y] for x, y in points],
        "score": [0.5] * 68,
        "mean": points,
        "heatmap": {"file": str(maps), "index": 0, "matrix": [[1, 0, 0], [0, 1, 0]]},
        "scale": 2.0,
        "time": 1.5,
        "mine": {"any": ["thing"]},
    }


def labels_file(folder: Path) -> Path:
    path = folder / "maps.npy"
    np.save(path, np.random.default_rng(0).normal(size=(68, 12, 10)).astype(np.float16))
    return path


def targets(folder: Path) -> dict[str, Target]:
    """All parsers, by name; files are put into `folder`."""
    record = face(folder)
    network = untrained(folder / "sound.safetensors", "nose1")
    return {
        "xml": Target(_xml(), _xml_reader(folder)),
        "asf": Target([_asf()], _file_reader(folder / "a.asf", _read_asf)),
        "pts": Target(_pts(), _file_reader(folder / "a.pts", lambda path: pts.read_pts(str(path)))),
        "coco": _format(coco, record, folder, "a.json"),
        "csv": _format(csv_table, record, folder, "a.csv"),
        "kaggle": _kaggle(folder),
        "labelme": _format(labelme, record, folder, "l/face.json"),
        "wflw": _wflw(folder),
        "yolo": _format(yolo, record, folder, "labels/train/face.txt"),
        "image": Target(_images(), _file_reader(folder / "a.img", _read_image)),
        "checkpoint": Target([network.read_bytes()], _file_reader(folder / "a.ckpt", _read_model)),
        "maps": Target([labels_file(folder).read_bytes()], _maps_reader(folder, record)),
    }


def _format(module: Any, record: dict[str, Any], folder: Path, name: str) -> Target:
    """A format that is read and written: its file `name`, as it was written of a face."""
    record = {key: record[key] for key in record if key not in ("augment", "heatmap")}
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    found = list(module.write([Item(record, "a", 1)], None, "points", str(path.parent)))
    if isinstance(found[0], bytes):
        data, given = b"\n".join(found), path
    else:
        files = dict(found)
        data = next(files[key] for key in files if name.endswith(key))
        given = folder if module is yolo else path.parent
        (folder / "data.yaml").write_bytes(files.get("data.yaml", b""))
    if module is yolo:
        (folder / "images/train").mkdir(parents=True)
        (folder / "images/train/face.jpg").hardlink_to(folder / "face.jpg")

    return Target([data], _items(path, lambda: module.read(str(given))))


def _items(path: Path, read: Callable[[], Iterable[Item]]) -> Callable[[bytes], None]:
    def write_and_read(data: bytes) -> None:
        path.write_bytes(data)
        for item in read():
            _sound(item.record)

    return write_and_read


def _kaggle(folder: Path) -> Target:
    Image.effect_noise((96, 96), 60).save(folder / "grey.png")
    face = {"image": str(folder / "grey.png"), "id": "a", "scheme": "kaggle15"}
    face["points"] = [[i + 0.5, 2.0 * i] for i in range(15)]
    data = b"\n".join(kaggle.write([Item(face, "a", 1)] * 2, None, "points", None))
    path = folder / "training.csv"
    return Target([data], _items(path, lambda: kaggle.read(str(path), folder / "kaggle")))


def _wflw(folder: Path) -> Target:
    line = " ".join(f"{i}.25" for i in range(196)) + " 1 2 60 50 0 1 0 1 0 1 face.jpg"
    path = folder / "list_98pt_rect_attr_train.txt"
    data = f"{line}\n{line}\n".encode()
    return Target([data], _items(path, lambda: wflw.read(str(path), str(folder))))


def _file_reader(path: Path, read: Callable[[Path], Any]) -> Callable[[bytes], None]:
    def write_and_read(data: bytes) -> None:
        path.write_bytes(data)
        read(path)

    return write_and_read


def _sound(record: dict[str, Any]) -> None:
    """What is no failure has a box and points that pass; all of it can be written as JSON."""
    orjson.dumps(record)
    if not keys.failed(record):
        keys.box(record)
        if "points" in record:
            keys.points(record)


def _xml() -> list[bytes]:
    parts = "".join(f"<part name='{i:02d}' x='{20 + i}' y='{30 + i}'/>" for i in range(68))
    box = f"<box top='5' left='15' width='45' height='50'>{parts}</box>"
    image = f"<image file='face.jpg' width='80' height='60'>{box}</image>"
    bare = "<image file='face.jpg'><box top='5' left='15' width='45' height='50'/></image>"
    head = "<?xml version='1.0' encoding='ISO-8859-1'?>\n<dataset><images>\n"
    return [f"{head}{body}\n</images></dataset>\n".encode() for body in (image, bare * 3, box)]


def _xml_reader(folder: Path) -> Callable[[bytes], None]:
    def read(data: bytes) -> None:
        (folder / "a.xml").write_bytes(data)
        for item in ibug.read(str(folder), xml="a.xml", annotations="xml"):
            _sound(item.record)

    return read


def _asf() -> bytes:
    rows = [f"0 0 {0.2 + i / 200:.6f} {0.3 + i / 200:.6f} {i} 0 1" for i in range(58)]
    return "\n".join(["# comment", "58", *rows, "face.jpg", ""]).encode()


def _read_asf(path: Path) -> None:
    points = imm.read_asf(str(path), (640, 480))
    imm.turn_eyes(points)
    keys.points({"points": points})


def _pts() -> list[bytes]:
    rows = "\n".join(f"{100 + i}.5 {200 + i}.25" for i in range(68))
    return [f"version: 1\nn_points: 68\n{{\n{rows}\n}}\n".encode(), rows.encode()]


def _images() -> list[bytes]:
    noise = Image.effect_noise((37, 29), 80)
    made = []
    for mode, kind in (
        *(("RGB", "JPEG"), ("CMYK", "JPEG"), ("L", "JPEG"), ("RGBA", "PNG"), ("P", "PNG")),
        *(("I;16", "PNG"), ("P", "GIF"), ("RGB", "BMP"), ("RGB", "TIFF"), ("RGBA", "WEBP")),
    ):
        out = io.BytesIO()
        picture = noise if mode == "L" else noise.convert("L").convert(mode)
        exif = Image.Exif()
        exif[0x0112] = 6
        keep = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}
        picture.save(out, kind, **keep)
        made.append(out.getvalue())
    return made


def _read_image(path: Path) -> None:
    size = images.shown_size(str(path))
    box = whole_image(size)
    crop = decode_crop(str(path), box, crop_spec([], InputSpec((16, 16), 0.1, grey=False)))
    assert crop.shape == (16, 16, 3)


def _read_model(path: Path) -> None:
    checkpoint.load(str(path)).network()


def _maps_reader(folder: Path, record: dict[str, Any]) -> Callable[[bytes], None]:
    path = folder / "broken.npy"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        one = record | {"heatmap": record["heatmap"] | {"file": str(path)}}
        keys.points(one | heatmap_files.decode(one, "dark"), "pred")

    return read


def tools(folder: Path) -> dict[str, list[str]]:
    """Command lines of the tools that read records; each gives a line for a line but the last."""
    path = untrained(folder / "nose68.safetensors")
    return {
        "augment": ["augment", "--rotate", "5", "--flip", "0.5"],
        "augment --write": ["augment", "--rotate", "5", "--write", str(folder / "w")],
        "predict": ["predict", str(path)],
        "track": ["track"],
        "track --box": ["track", "--box", "--what", "points"],
        "eval": ["eval", "--records"],
        "heatmap encode": ["heatmap", "encode", "--out", str(folder / "m"), "--size", "8x8"],
        "heatmap decode": ["heatmap", "decode"],
        # one norm for all, or they refuse
        "viz grid": [
            *("viz", "grid", "--sort", "worst", "--norm", "box"),
            *("-o", str(folder / "g.png")),
        ],
        "viz report": ["viz", "report", "--norm", "box", "-o", str(folder / "r.html")],
        "eval --merge": ["eval", "--merge", "mean"],
        "train": [
            *("train", "--arch", "nose", "--input-size", "16x16", "--epochs", "1"),
            *("-o", str(folder / "t.safetensors")),
        ],
    }


def feed(command: list[str], lines: list[bytes], timeout: float) -> None:
    """Run a tool on the lines; AssertionError where it does not end as documented."""
    done = subprocess.run(
        [sys.executable, "-m", f"kptools.cli.{command[0]}", *command[1:]],
        input=b"\n".join(lines) + b"\n",
        capture_output=True,
        timeout=timeout,
    )
    assert done.returncode in STATUSES.get(command[0], {0, 1}), (
        done.returncode,
        done.stderr[-2000:],
    )
    for word in (b"Traceback", b"Warning"):
        assert word not in done.stderr, done.stderr[-4000:]
    if command[0] not in ("train",) and "--merge" not in command:
        read = sum(1 for line in lines if line.strip())
        written = done.stdout.count(b"\n")
        assert written == read, f"{read} lines in, {written} out"
        for line in done.stdout.splitlines():
            orjson.loads(line)
