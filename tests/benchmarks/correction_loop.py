"""The loop of docs/correcting.md on real faces: the network in the box predicts them, kp-prep
select chooses some, a script drags their points in the page of kp-viz edit, kp-train learns from
them, and other photos are scored.

    python tests/benchmarks/correction_loop.py ROOT IDS.txt --seeds 0 1

ROOT holds iBUG 300-W in dlib's layout with the .pts files, IDS.txt the ids of faces that have no
part in it, one a line. For each seed the photos are parted by chance into a test (three of ten) and
a pool. The editor gets records without `points`, so that its page starts from the predictions, and
the script drags each point to where iBUG's annotators had it. The last row of a seed learns from
the same faces as they were predicted. It needs playwright and chromium.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import common
import numpy as np
import orjson
import select_gain

Truth = dict[str, list[list[float] | None]]

PLACES = "(truth) => truth.map((point, i) => point && [whereIs(i), whereIs(point)])"
NEAR = 1  # CSS pixels: a point that is nearer is not dragged again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="iBUG 300-W, or a folder above it")
    parser.add_argument("ids", type=Path, help="the ids to leave out, one a line")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--count", type=int, default=30, help="of faces that are corrected")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps")
    parser.add_argument("--keep", type=Path, help="keep the corrected faces in this folder")
    args = parser.parse_args()
    left_out = set(args.ids.read_text().split())
    (xml,) = Path(args.root).rglob("labels_ibug_300W_train.xml")
    words = ("--annotations", "pts", "--xml", xml.name)
    found = map(orjson.loads, common.tool("prep", "ibug", xml.parent, *words).splitlines())
    records = [record for record in found if record["id"] not in left_out]
    rows = []
    for seed in args.seeds:
        rows += measure(records, seed, args)
    head = ("seed", "", "faces", "farthest point, px", "NME of other photos, %", "failures, %")
    common.table(head, rows, args.device)


def measure(
    records: list[dict[str, Any]], seed: int, args: argparse.Namespace
) -> list[tuple[Any, ...]]:
    """The rows of a seed: before, after the corrections, and after as much training without."""
    apart = select_gain.test_groups(records, seed)
    test = [record for record in records if record["group"] in apart]
    pool = [without_truth(record) for record in records if record["group"] not in apart]
    lines = select_gain.lines_of(select_gain.predict(pool, args.device))
    chosen = common.tool("prep", "select", "--count", args.count, stdin=lines)
    truth = {record["id"]: record["points"] for record in records}
    with tempfile.TemporaryDirectory() as name, browser() as chromium:
        folder = args.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        given, out = folder / f"selected{seed}.jsonl", folder / f"corrected{seed}.jsonl"
        given.write_bytes(chosen)
        correct(chromium, given, out, truth)
        corrected = common.read(out)
    guessed = [record | {"points": record["pred"]} for record in corrected]
    rows: list[tuple[Any, ...]] = []
    kinds = [("before", []), ("corrected", corrected), ("not corrected", guessed)]
    for name, faces in kinds:
        result = select_gain.learn(faces, test, seed, args)
        off = farthest(faces, truth) if faces else ""
        rows.append((seed, name, len(faces), off, 100 * result["nme"], 100 * result["failures"]))
        print(*rows[-1], flush=True)
    return rows


def without_truth(record: dict[str, Any]) -> dict[str, Any]:
    return {key: record[key] for key in record if key not in ("points", "visible")}


def farthest(faces: list[dict[str, Any]], truth: Truth) -> float:
    """How far the worst point is from its truth, pixels of the file."""
    return max(
        float(np.linalg.norm(np.subtract(face["points"], truth[face["id"]]), axis=1).max())
        for face in faces
    )


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, as playwright drives it."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        sys.exit("needs chromium (apt-get install chromium)")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()


def correct(chromium: Any, given: Path, out: Path, truth: Truth) -> None:
    """Correct all faces of `given` by `kp-viz edit`, as a person does who knows the truth: drag
    each point to its place, press Enter, and end the editor by its button."""
    command = [sys.executable, "-m", "kptools.cli.viz", "edit", "--no-browser", "-o", out, given]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as editor:
        said = []
        for line in editor.stderr:
            said.append(line)
            if line.startswith("http://"):
                break
        else:
            raise RuntimeError("".join(said))
        try:
            _correct_in_page(chromium, line.strip(), len(common.read(given)), truth)
            if editor.wait(timeout=60):
                raise RuntimeError(f"kp-viz edit ended with {editor.returncode}")
        finally:
            editor.kill()


def _correct_in_page(chromium: Any, address: str, count: int, truth: Truth) -> None:
    page = chromium.new_page(viewport={"width": 1400, "height": 1000})
    page.goto(address)
    for place in range(count):
        page.wait_for_selector(f"html[data-ready='{place}']")
        points = truth[page.inner_text("#name")]
        for _ in range(3):  # a point that lay on another one may not have been the one that moved
            if not _drag_all(page, points):
                break
        page.keyboard.press("Enter")
    page.wait_for_selector(f"text={count} saved")
    page.click("#end")
    page.wait_for_selector("text=The editor has ended")
    page.close()


def _drag_all(page: Any, points: list[list[float] | None]) -> int:
    """Drag each point to its place with the mouse; how many were not there."""
    moves = [move for move in page.evaluate(PLACES, points) if move]
    moves = [(a, b) for a, b in moves if np.hypot(a[0] - b[0], a[1] - b[1]) > NEAR]
    for start, end in moves:
        page.mouse.move(*start)
        page.mouse.down()
        page.mouse.move(*end)
        page.mouse.up()
    return len(moves)


if __name__ == "__main__":
    main()
