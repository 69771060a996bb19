"""Records a second, and peak memory, of kp-prep with tables and COCO's documents: at 5,000 records
and at many. Records are of 68 points, a thousand faces a picture; the peak is the kernel's account
of the process."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import orjson
from PIL import Image

FEW = 5_000
FACES = 1_000  # of a picture


def main() -> None:
    args = common.arguments(__doc__)
    many = 1_000_000 if args.full else 20_000
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Image.new("RGB", (189, 179), (120, 100, 90)).save(folder / "face.jpg")
        few, all_of_them = (_records(folder, count) for count in (FEW, many))
        for words in (["to", "csv"], ["csv"], ["to", "coco"], ["coco"]):
            if args.only not in " ".join(words):
                continue
            figures = []
            for path in (few, all_of_them):
                is_out = words[0] == "to"
                given = path if is_out else path.with_suffix(f".{words[0]}")
                out = ["-o", path.with_suffix(f".{words[1]}")] if is_out else []
                figures.append(_run([*words, given, *out]))
            (few_mb, _), (many_mb, seconds) = figures
            rows.append((f"kp-prep {' '.join(words)}", few_mb, many_mb, many / seconds))
    head = ("command", f"MB at {FEW:,}", f"MB at {many:,}", "records/s")
    common.table(head, rows)


def _records(folder: Path, count: int) -> Path:
    """A stream of so many faces, whose numbers have three decimals."""
    path = folder / f"{count}.jsonl"
    with open(path, "wb") as out:
        for index in range(count):
            picture = folder / f"{index // FACES}.jpg"
            if not picture.exists():
                picture.hardlink_to(folder / "face.jpg")
            points = [[(index * 7 + i * 31) % 180_000 / 1e3, i * 2.125] for i in range(68)]
            record = {"image": str(picture), "id": f"{index:07d}", "group": f"{index // FACES}"}
            record |= {"size": [189, 179], "box": [10.5, 20.5, 150.25, 160.25]}
            record |= {"box_source": "dataset", "points": points, "scheme": "ibug68"}
            out.write(orjson.dumps(record | {"split": "train"}) + b"\n")
    return path


def _run(words: list[object]) -> tuple[float, float]:
    """The peak, MB, and the seconds of kp-prep."""
    command = [sys.executable, "-m", "kptools.cli.prep", *map(str, words)]
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", common.LAUNCHER, *command], stdout=subprocess.PIPE, check=True
    )
    seconds = time.perf_counter() - begun
    return int(done.stdout) * (1 if sys.platform == "darwin" else 1024) / 1e6, seconds


if __name__ == "__main__":
    main()
