"""The tools that stream, on many records: records/s, and peak memory a record beyond that at 5,000.

Records go through a pipe; the peak is the kernel's account of the process. `kp-prep pack` packs
pictures into tar shards, from which `kp-predict` of the next row reads them with a small network.
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import augment_rate
import common
import orjson
import predictor
from PIL import Image

from kptools.models import checkpoint
from kptools.models.checkpoint import Checkpoint

FEW = 5_000
MOST = 64  # bytes a record, as docs/promises.md has it
OF_SHARDS = 300  # of a picture in a shard: where it is there, in an archive that is open
BOXES = 1_000  # of a picture, in the XML
PICTURES = 50  # files that are packed in turn, each time as another member of a shard
NAMES = {
    "prep": "kp-prep ibug",
    "augment": "kp-augment",
    "eval": "kp-eval",
    "pack": "kp-prep pack",
    "predict": "kp-predict, pictures in tar shards",
}


def main() -> None:
    args = common.arguments(__doc__)
    many = 1_000_000 if args.full else 50_000
    some = 200_000 if args.full else 10_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        line = _record(folder)
        network = predictor.network("nose", (80, 60))
        model = predictor.model("nose", (80, 60))
        checkpoint.save(folder / "nose.safetensors", Checkpoint(model, network.state_dict()))
        rows = []
        tools = [("prep", many), ("augment", many), ("eval", many), ("pack", some)]
        for tool, count in [*tools, ("predict", some)]:
            if args.only not in tool:
                continue
            few, _ = _run(tool, folder, line, FEW)
            peak, seconds = _run(tool, folder, line, count)
            rate, each = count / seconds, (peak - few) / (count - FEW)
            rows.append((NAMES[tool], f"{count:,}", rate, few / 1e6, peak / 1e6, each))
        head = ("tool", "records", "records/s", f"MB at {FEW:,}", "MB", "bytes a record")
        common.table(head, rows)
        for name, *_, each in rows:
            most = MOST + OF_SHARDS if name == NAMES["predict"] else MOST
            if each > most:
                raise SystemExit(f"{name}: over {most} bytes a record")


def _record(folder: Path) -> dict[str, object]:
    """A record with a small picture, truth and prediction."""
    path = folder / "one.jsonl"
    augment_rate.write_records(path, 1)
    record = common.read(path)[0]
    record["image"] = str(folder / "face.jpg")
    record["pred"] = record["points"]
    Image.new("RGB", (189, 179), (120, 100, 90)).save(str(record["image"]))
    return record


def _lines(record: dict[str, object], count: int) -> Iterator[bytes]:
    head, tail = orjson.dumps(record | {"id": "@"}).split(b'"@"')
    for index in range(count):
        yield b'%b"%07d"%b\n' % (head, index, tail)


def _to_pack(record: dict[str, object], count: int) -> Iterator[bytes]:
    """Lines whose pictures are PICTURES files in turn, so that each is packed again."""
    picture = Path(str(record["image"]))
    for number in range(PICTURES):
        other = picture.with_name(f"{number}.jpg")
        if not other.exists():
            os.link(picture, other)
    for index, line in enumerate(_lines(record, count)):
        yield line.replace(b"face.jpg", b"%d.jpg" % (index % PICTURES))


def _run(tool: str, folder: Path, record: dict[str, object], count: int) -> tuple[int, float]:
    """The largest resident size, bytes, of the tool at so many records, and its seconds."""
    shards, packed = folder / f"shards{count}", folder / f"packed{count}.jsonl"
    words = {
        "prep": ["ibug", str(folder), "--xml", "faces.xml"],
        "augment": ["--rotate", "15", "--flip", "0.5"],
        "eval": [],
        "pack": ["pack", "--out", str(shards), "--size", "8", "-o", str(packed)],
        "predict": [str(folder / "nose.safetensors"), "--batch-size", "32"],
    }[tool]
    command = [sys.executable, "-m", f"kptools.cli.{'prep' if tool == 'pack' else tool}", *words]
    lines: Iterable[bytes] = _lines(record, count)
    if tool == "prep":
        _write_xml(folder, count)
        lines = ()
    elif tool == "pack":
        lines = _to_pack(record, count)
    elif tool == "predict":
        if not packed.exists():
            _run("pack", folder, record, count)
        lines = open(packed, "rb")  # noqa: SIM115
    began = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", common.LAUNCHER, *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.writelines(lines)
    process.stdin.close()
    peak = int(process.stdout.read())
    seconds = time.perf_counter() - began
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed")
    return peak * (1 if sys.platform == "darwin" else 1024), seconds


def _write_xml(folder: Path, count: int) -> None:
    """dlib's XML with so many boxes, on pictures of BOXES each."""
    with open(folder / "faces.xml", "w") as out:
        out.write("<dataset><images>\n")
        for first in range(0, count, BOXES):
            picture = folder / f"{first}.jpg"
            if not picture.exists():
                os.link(folder / "face.jpg", picture)
            out.write(f"<image file='{picture.name}' width='189' height='179'>\n")
            for index in range(min(BOXES, count - first)):
                out.write(f"<box top='{index % 50}' left='20' width='90' height='90'/>\n")
            out.write("</image>\n")
        out.write("</images></dataset>\n")


if __name__ == "__main__":
    main()
