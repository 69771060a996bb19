"""One more of anything is one file and one line: CONTRIBUTING.md, applied to a copy."""

import csv
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import orjson
import pytest
from conftest import forked

ROOT = Path(__file__).resolve().parents[1]
NEW_FILE = re.compile(r"New file `(kptools/[\w/]+\.py)`:\n\n```python\n(.*?)```", re.S)
LINE = re.compile(r"Line in `(kptools/[\w/]+\.py)`, in `(\w+)`:.*?\n\n```python\n(.*?)```", re.S)


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package to which all that CONTRIBUTING.md shows was done; a function that runs
    a pipe of its tools, and a table of faces."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(ROOT / "kptools", folder / "kptools")
    text = (ROOT / "CONTRIBUTING.md").read_text()
    for path, code in NEW_FILE.findall(text):
        assert not (folder / path).exists(), path
        (folder / path).write_text(code)
    for path, table, code in LINE.findall(text):
        assert len(code.strip().splitlines()) == 1
        source = (folder / path).read_text()
        head = re.compile(rf"^{table}(: [^=]+)? = [{{(]\n", re.M)
        assert len(head.findall(source)) == 1, (path, table)
        end = head.search(source).end()
        (folder / path).write_text(source[:end] + code + source[end:])
    env = os.environ | {"PYTHONPATH": str(folder)}

    def pipe(line: str) -> subprocess.CompletedProcess[str]:
        functions = "\n".join(
            f'kp-{tool}() {{ {shlex.join(forked())} kptools.cli.{tool} "$@"; }}'
            for tool in ("prep", "augment", "train", "predict", "eval", "viz")
        )
        command = ["bash", "-c", f"set -o pipefail\n{functions}\n{line}"]
        return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)

    made = pipe("kp-prep synth --count 24 --points nose --out faces")
    with open(folder / "faces.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        for record in map(orjson.loads, made.stdout.splitlines()):
            row = [*record["box"], *record["points"][0]]
            writer.writerow([record["image"], *(value + 1 for value in row)])
    return pipe


def test_the_page_shows_one_of_each():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert len(NEW_FILE.findall(text)) == 6
    tables = [table for _, table, _ in LINE.findall(text)]
    assert tables == ["DATASETS", "NAMES", "HEADS", "ARCHS", "POINT_LOSSES", "METRICS", "PICTURES"]


def test_a_dataset_an_architecture_a_metric_and_a_picture_work_in_a_pipe(copy):
    done = copy(
        "kp-prep table faces.csv --shift 1 --val-fraction 0.3 | tee all.jsonl |"
        " kp-augment --rotate 10 --flip 0.5 |"
        " kp-train --arch two_layers --channels 8 --threads 1 -o m.safetensors |"
        " kp-viz boxes -o boxes.png | kp-eval --format json --fail-if 'nme_p75>9'"
    )
    assert done.returncode == 0, done.stderr
    report = orjson.loads(done.stdout)
    assert report["scheme"] == "nose1"
    assert 0 < report["nme_p75"] < 9
    predicted = copy("kp-predict m.safetensors all.jsonl")
    assert predicted.returncode == 0, predicted.stderr
    records = [orjson.loads(line) for line in predicted.stdout.splitlines()]
    assert len(records) == 24
    assert all(len(record["pred"]) == 1 for record in records)


def test_its_options_are_its_own(copy):
    assert "--channels" in copy("kp-train --help").stdout
    done = copy("kp-train --arch nose --channels 8 all.jsonl")
    assert done.returncode == 2
    assert "--channels is an option of two_layers, not of nose with --head points" in done.stderr
    done = copy("kp-train --arch two_layers --loss mse all.jsonl")
    assert done.returncode == 2
    assert "--loss mse is not for two_layers with --head mean_place; use root" in done.stderr


def test_a_loss_trains(copy):
    words = "--arch nose --input-size 32x32 --epochs 1 --threads 1 -o huge.safetensors"
    made = "kp-prep table faces.csv --shift 1"
    done = copy(f"{made} | kp-train {words} --loss huge > /dev/null")
    assert done.returncode == 0, done.stderr


def test_a_scheme_is_known(copy):
    record = {
        "image": "a.jpg",
        "id": "a",
        "size": [80, 60],
        "box": [0, 0, 50, 50],
        "scheme": "eyes2",
        "points": [[10, 10], [30, 10]],
        "pred": [[11, 10], [31, 10]],
    }
    line = orjson.dumps(record).decode()
    done = copy(f"echo '{line}' | kp-augment --flip 0.5 | kp-eval --norm interpupil")
    assert done.returncode == 0, done.stderr
    assert orjson.loads(done.stdout)["nme"] == pytest.approx(1 / 20)


def test_help_of_the_copy_lists_what_is_new(copy):
    assert "table" in copy("kp-prep --help").stdout
    assert "two_layers" in copy("kp-train --help").stdout
    assert "boxes" in copy("kp-viz --help").stdout
    assert "--shift" in copy("kp-prep table --help").stdout
