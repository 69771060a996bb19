"""The page of kp-viz report with many faces: how long it takes to make, to open and to sort, in
headless Chromium, and its size.

    python tests/benchmarks/report_page.py [--faces 10000]

The faces are drawn, 500 of them, and shown in other boxes each time, so that each has a picture of
its own.
"""

import argparse
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import orjson
from playwright.sync_api import sync_playwright

SORT = """(() => {
  const sort = document.getElementById("sort");
  const times = ["best", "unsure", "given", "worst"].map((name) => {
    const began = performance.now();
    sort.value = name;
    sort.dispatchEvent(new Event("change"));
    return performance.now() - began;
  });
  return Math.max(...times);
})()"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--faces", type=int, default=10_000)
    faces = parser.parse_args().faces
    with tempfile.TemporaryDirectory() as folder:
        path, page = Path(folder) / "faces.jsonl", Path(folder) / "report.html"
        path.write_bytes(records(Path(folder), faces))
        began = time.monotonic()
        command = ["kptools.cli.viz", "report", "--count", str(faces), "-o", str(page), str(path)]
        subprocess.run([sys.executable, "-m", *command], check=True, stdout=subprocess.DEVNULL)
        made = time.monotonic() - began
        with sync_playwright() as p:
            chromium = shutil.which("chromium")
            browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            opened = browser.new_page(viewport={"width": 1280, "height": 900})
            began = time.monotonic()
            opened.goto(page.as_uri())
            opened.wait_for_selector("html[data-ready]")
            seconds = time.monotonic() - began
            slowest = opened.evaluate(SORT)
            side = opened.evaluate("JSON.parse(document.getElementById('data').textContent).side")
            browser.close()
        print(
            f"{faces} faces, pictures of {side} px: made in {made:.0f} s, "
            f"{page.stat().st_size / 1e6:.1f} MB, open after {seconds:.2f} s, "
            f"sorted in {slowest:.0f} ms at most"
        )


def records(folder: Path, count: int) -> bytes:
    """Of so many faces, with predictions, as JSON Lines."""
    synth = [sys.executable, "-m", "kptools.cli.prep", "synth", "--count", "500"]
    done = subprocess.run([*synth, "--out", str(folder / "faces")], check=True, capture_output=True)
    drawn = [orjson.loads(line) for line in done.stdout.splitlines()]
    chance, lines = random.Random(0), []
    for number in range(count):
        record = dict(drawn[number % len(drawn)], id=f"{number}")
        side = record["box"][2] - record["box"][0]
        dx, dy, off = (chance.gauss(0, 0.05 * side) for _ in range(3))
        x0, y0, x1, y1 = record["box"]
        record["box"] = [x0 + dx, y0 + dy, x1 + dx, y1 + dy]
        record["pred"] = [[x + off, y + 0.5 * off] for x, y in record["points"]]
        record["score"] = [chance.random() for _ in record["points"]]
        lines.append(orjson.dumps(record))
    return b"\n".join(lines) + b"\n"


if __name__ == "__main__":
    main()
