"""Output files: whole or not there, of one writer at a time, of one run; and files that are none of
what is expected. None of it looks like success."""

import json
import os
import signal
import subprocess
import sys
import time

import orjson
import pytest
import torch
from conftest import SHARED, lines, parse, run, start, untrained, wait_for
from PIL import Image

from kptools.storage import files


def resumed(folder, *words, stdin):
    return run(*words, "-o", "o.jsonl", "--resume", stdin=stdin, cwd=folder)


# Two writers


def test_a_second_process_with_the_same_output_fails_at_once(face, tmp_path):
    first = start("augment", "--rotate", 1, "-o", "w.jsonl", cwd=tmp_path)
    first.stdin.write(lines([face(0), face(1)]))
    first.stdin.flush()
    wait_for(tmp_path / "w.jsonl.part", first)
    time.sleep(0.3)
    for more in ((), ("--resume",)):
        second = run(
            "augment", "--rotate", 2, "-o", "w.jsonl", *more, stdin=[face(5)], cwd=tmp_path
        )
        assert second.returncode == 3
        assert len(second.stderr.splitlines()) == 1
        assert f"w.jsonl is being written by process {first.pid}".encode() in second.stderr
        assert b"--rotate 1 -o w.jsonl" in second.stderr
    first.communicate(lines([face(2)]))
    assert first.returncode == 0
    out = parse((tmp_path / "w.jsonl").read_bytes())
    assert [r["id"] for r in out] == ["face0", "face1", "face2"]
    assert all(r["augment"] == [{"seed": 0, "rotate": 1.0}] for r in out)
    again = run("augment", "--rotate", 2, "-o", "w.jsonl", stdin=[face(5)], cwd=tmp_path)
    assert again.returncode == 0


def test_what_a_killed_process_left_is_taken_over(face, tmp_path):
    first = start("augment", "--rotate", 1, "-o", "w.jsonl", cwd=tmp_path)
    first.stdin.write(lines([face(0), face(1)]))
    first.stdin.flush()
    wait_for(tmp_path / "w.jsonl.part", first)
    while (tmp_path / "w.jsonl.part").stat().st_size == 0:
        time.sleep(0.05)
    first.kill()
    first.communicate()
    all_of_it = [face(i) for i in range(4)]
    done = run(
        *("augment", "--rotate", 1, "-o", "w.jsonl", "--resume"), stdin=all_of_it, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert b"2 records were there" in done.stderr
    assert len(parse((tmp_path / "w.jsonl").read_bytes())) == 4


@pytest.mark.parametrize("kind", ["write", "heatmaps", "encode", "synth"])
def test_a_folder_has_one_writer_at_a_time(face, tmp_path, kind):
    words = {
        "write": ["augment", "--rotate", 5, "--write", "out"],
        "heatmaps": ["heatmap", "encode", "--size", "16x16", "--out", "out"],
        "encode": ["heatmap", "encode", "--size", "16x16", "--out", "out"],
        "synth": ["prep", "synth", "--count", 10**6, "--out", "out"],
    }[kind]
    first = start(*words, cwd=tmp_path, stdout=subprocess.DEVNULL)
    if kind != "synth":
        first.stdin.write(lines([face(0)]))
        first.stdin.flush()
    wait_for(tmp_path / "out", first)
    time.sleep(0.5)
    others = ["augment", "--rotate", 9, "--write", "out"]
    second = run(*(others if kind == "heatmaps" else words), stdin=[face(1)], cwd=tmp_path)
    assert second.returncode == 3, second.stderr
    assert f"out is being written by process {first.pid}".encode() in second.stderr
    first.kill()
    first.communicate()


@pytest.mark.parametrize(
    "words", [["viz", "grid", "-o", "g.png"], ["eval", "--submission", "g.png"]]
)
def test_a_picture_and_a_submission_have_one_writer(face, tmp_path, words):
    first = start(*words, cwd=tmp_path)
    first.stdin.write(lines([face(0) | {"pred": face(0)["points"]}]))
    first.stdin.flush()
    wait_for(tmp_path / "g.png.part", first)
    second = run(*words, stdin=[face(1)], cwd=tmp_path)
    assert second.returncode == 3
    assert f"g.png is being written by process {first.pid}".encode() in second.stderr
    first.communicate()
    assert first.returncode == 0
    assert (tmp_path / "g.png").stat().st_size > 100
    assert not (tmp_path / "g.png.part").exists()


def test_a_part_that_was_replaced_is_not_renamed(face, tmp_path):
    first = start("augment", "--rotate", 1, "-o", "w.jsonl", cwd=tmp_path)
    first.stdin.write(lines([face(0)]))
    first.stdin.flush()
    wait_for(tmp_path / "w.jsonl.part", first)
    (tmp_path / "w.jsonl.part").unlink()
    second = start("augment", "--rotate", 2, "-o", "w.jsonl", cwd=tmp_path)
    wait_for(tmp_path / "w.jsonl.part", second)
    _, told = first.communicate()
    assert first.returncode == 3
    assert b"was removed or replaced while it was written" in told
    second.communicate(lines([face(5)]))
    assert second.returncode == 0
    assert [r["id"] for r in parse((tmp_path / "w.jsonl").read_bytes())] == ["face5"]
    assert run("augment", "-o", "x.part", stdin=[face(0)], cwd=tmp_path).returncode == 3


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_crash_around_the_renaming_leaves_what_resume_can_take(face, tmp_path, when):
    data = [face(0), face(1)]
    code = (
        "import os, sys\n"
        "sys.argv = ['kp-augment', '--rotate', '5', '-o', 'o.jsonl']\n"
        "from kptools.cli.augment import main\n"
        "real = os.replace\n"
        "def replace(a, b):\n"
        "    ours = str(b).endswith('o.jsonl')\n"
        f"    if not ours or {when!r} == 'after':\n"
        "        real(a, b)\n"
        "    if ours:\n"
        "        os._exit(9)\n"
        "os.replace = replace\n"
        "main()\n"
    )
    killed = subprocess.run(
        [sys.executable, "-c", code], input=lines(data), cwd=tmp_path, capture_output=True
    )
    assert killed.returncode == 9, killed.stderr
    done = resumed(tmp_path, "augment", "--rotate", 5, stdin=data)
    assert done.returncode == 0, done.stderr
    assert b"2 records were there" in done.stderr
    assert len(parse((tmp_path / "o.jsonl").read_bytes())) == 2


def test_a_run_that_dies_before_its_first_record_leaves_the_finished_one_as_it_was(face, tmp_path):
    data = [face(0), face(1)]
    words = ("augment", "--rotate", 5, "-o", "o.jsonl")
    run(*words, stdin=data, cwd=tmp_path)
    for number, left in ((signal.SIGTERM, False), (signal.SIGKILL, True)):
        process = start(*words, cwd=tmp_path)
        wait_for(tmp_path / "o.jsonl.part", process)
        process.send_signal(number)
        process.communicate()
        assert (tmp_path / "o.jsonl.part").exists() == left
    done = resumed(tmp_path, "augment", "--rotate", 5, stdin=data)
    assert done.returncode == 0, done.stderr


def test_a_file_whose_writer_failed_keeps_what_was_there(tmp_path):
    path = tmp_path / "a.bin"
    files.write_whole(path, b"old")

    def fail():
        with files.writing(path) as handle:
            handle.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"old"
    files.claim(path)
    other = (
        "from pathlib import Path; from kptools.storage import files; files.claim(Path('a.bin'))"
    )
    done = subprocess.run([sys.executable, "-c", other], cwd=tmp_path, capture_output=True)
    assert f"process {os.getpid()}".encode() in done.stderr
    files.write_whole(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


# A run that is resumed is the same run


def test_a_finished_output_of_other_arguments_is_refused(face, tmp_path):
    data = [face(0), face(1)]
    run("augment", "--rotate", 5, "-o", "o.jsonl", stdin=data, cwd=tmp_path)
    before = (tmp_path / "o.jsonl").read_bytes()
    assert resumed(tmp_path, "augment", "--rotate", 5, stdin=data).returncode == 0
    for words in (("augment", "--rotate", 6), ("augment", "--rotate", 5, "--copies", 2)):
        done = resumed(tmp_path, *words, stdin=data)
        assert done.returncode == 3
        (line,) = done.stderr.decode().splitlines()
        assert "o.jsonl was made by another run, as o.jsonl.run.json says" in line
        assert ('"rotate":5.0' in line) == (words[-1] == 6)
        assert ("copies 1, now copies 2" in line) == (words[-1] == 2)
        assert "another -o" in line
    other_tool = resumed(tmp_path, "heatmap", "decode", stdin=data)
    assert other_tool.returncode == 3
    assert b"kp-augment" in other_tool.stderr
    assert (tmp_path / "o.jsonl").read_bytes() == before
    assert not (tmp_path / "o.jsonl.part").exists()


def test_another_checkpoint_under_the_same_name_is_refused(face, tmp_path):
    model = untrained(tmp_path / "m.safetensors")
    words = ("predict", "m.safetensors")
    run(*words, "-o", "o.jsonl", stdin=[face(0)], cwd=tmp_path)
    assert resumed(tmp_path, *words, stdin=[face(0)]).returncode == 0
    untrained(model, size=(24, 24))
    done = resumed(tmp_path, *words, stdin=[face(0)])
    assert done.returncode == 3
    assert b"checkpoint" in done.stderr


def test_other_input_and_less_of_it_are_refused_and_more_is_gone_on_with(face, tmp_path):
    words = ("augment", "--rotate", 5)
    run(*words, "-o", "o.jsonl", stdin=[face(0), face(1)], cwd=tmp_path)
    other = resumed(tmp_path, *words, stdin=[face(0), face(2)])
    assert other.returncode == 3
    assert b"record 2 is another one" in other.stderr
    less = resumed(tmp_path, *words, stdin=[face(0)])
    assert less.returncode == 3
    assert b"holds 2 records, but 1 came in" in less.stderr
    more = resumed(tmp_path, *words, stdin=[face(i) for i in range(3)])
    assert more.returncode == 0, more.stderr
    assert len(parse((tmp_path / "o.jsonl").read_bytes())) == 3


def test_an_output_that_nothing_vouches_for_is_refused(face, tmp_path):
    words = ("augment", "--rotate", 5)
    for name in ("o.jsonl", "o.jsonl.part"):
        (tmp_path / name).write_bytes(lines([face(0)]))
        done = resumed(tmp_path, *words, stdin=[face(0)])
        assert done.returncode == 3
        assert b"has no o.jsonl.run.json next to it" in done.stderr
        (tmp_path / name).unlink()
    run(*words, "-o", "o.jsonl", stdin=[face(0), face(1)], cwd=tmp_path)
    (tmp_path / "o.jsonl").write_bytes(lines([face(0)]))  # changed by hand
    done = resumed(tmp_path, *words, stdin=[face(0), face(1)])
    assert done.returncode == 3
    assert b"or it was changed since" in done.stderr
    (tmp_path / "o.jsonl.run.json").write_bytes(b"no json")
    assert resumed(tmp_path, *words, stdin=[face(0)]).returncode == 3
    assert resumed(tmp_path / "..", *words, stdin=[face(0)]).returncode == 0  # nothing there yet


def test_an_older_output_beside_a_run_that_never_finished_is_refused(face, tmp_path):
    data = [face(0), face(1)]
    run("augment", "--rotate", 5, "-o", "o.jsonl", stdin=data, cwd=tmp_path)
    failed = run(
        *("augment", "--rotate", 6, "-o", "o.jsonl", "--strict"), stdin=b"no\n", cwd=tmp_path
    )
    assert failed.returncode == 3
    done = resumed(tmp_path, "augment", "--rotate", 6, stdin=data)
    assert done.returncode == 3
    assert b"never finished" in done.stderr


def test_a_dataset_is_resumed_with_the_same_options_alone(tmp_path):
    words = ("prep", "synth", "--out", "f", "--count", 3)
    assert run(*words, "-o", "o.jsonl", cwd=tmp_path).returncode == 0
    assert resumed(tmp_path, *words, stdin=b"").returncode == 0
    done = resumed(tmp_path, *words, "--seed", 1, stdin=b"")
    assert done.returncode == 3
    assert b"seed 0, now seed 1" in done.stderr


# What is no regular file


def test_a_pipe_given_as_an_image_or_a_map_fails_the_record(face, fifo, tmp_path):
    model = untrained(tmp_path / "m.safetensors")
    piped = face(1, image=str(fifo)) | {
        "heatmap": {"file": str(fifo), "index": 0, "matrix": [[1, 0, 0], [0, 1, 0]]}
    }
    for words in (
        ["predict", model],
        ["heatmap", "decode"],
        ["viz", "grid", "-o", "g.png"],
        ["augment", "--rotate", 5, "--write", "w"],
    ):
        done = run(*words, stdin=[piped], cwd=tmp_path)
        assert done.returncode == 1, words
        assert b"not a regular file" in done.stderr


# Files of the wrong kind


def kinds(folder):
    made = {}
    for suffix in ("jpg", "png", "gif", "webp", "bmp", "tif", "ppm"):
        Image.new("RGB", (40, 30)).save(folder / f"a.{suffix}")
        made[f"a.{suffix}"] = "picture"
    untrained(folder / "m.safetensors")
    torch.save({"a": torch.zeros(2)}, folder / "m.pth")
    texts = {
        "a.html": (b"<!DOCTYPE html>\n<html><body>\n</body></html>\n", "an HTML page"),
        "a.xml": (b"<?xml version='1.0'?>\n<dataset>\n</dataset>\n", "XML"),
        "a.csv": (b"image,x0,y0\na.jpg,1,2\nb.jpg,3,4\n", "comma-separated"),
        "a.tsv": (b"image\tx0\na.jpg\t1\n", "tab-separated"),
        "a.txt": (b"a line of text\nand another one\n", "plain text"),
        "a.json": (json.dumps([{"image": "a"}], indent=1).encode(), "one JSON document"),
        "b.json": (b'[{"image": "a.jpg"}, {"image": "b.jpg"}]', "one JSON document"),
        "b.html": (b"\xef\xbb\xbf<html>\n</html>\n", "an HTML page"),
        "b.csv": (b"image,x0\na.jpg,1", "comma-separated"),
        "gz.jsonl": (b"\x1f\x8b\x08\x00rest\nof it\n", "gzip"),
        "u.jsonl": ('{"image": "a"}\n'.encode("utf-16"), "UTF-16"),
    }
    for name, (data, words) in texts.items():
        (folder / name).write_bytes(data)
        made[name] = words
    return made | {"m.safetensors": "a safetensors file", "m.pth": "a zip archive"}


def test_a_file_of_the_wrong_kind_is_one_line_that_says_what_it_is(tmp_path, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, words in kinds(tmp_path).items():
        for tool in (["augment", "--rotate", "5"], ["eval"]):
            done = quick(*tool, name)
            assert done.returncode == 3, (name, done.stderr)
            (line,) = done.stderr.decode().splitlines()
            assert f"{name} looks like" in line
            assert words in line, name
            assert "records are expected" in line
            assert done.stdout == b""


def test_a_report_or_a_log_given_as_records_is_called_one(face, tmp_path):
    model = untrained(tmp_path / "m.safetensors")
    report = run("eval", stdin=[face(0) | {"pred": face(0)["points"]}]).stdout
    done = run("predict", model, stdin=report)
    assert done.returncode == 3
    assert b"stdin looks like a report of kp-eval" in done.stderr
    log = orjson.dumps({"epoch": 1, "lr": 0.1, "train_loss": 0.2}) + b"\n"
    assert b"a log of kp-train" in run("eval", stdin=log).stderr


def test_an_image_of_the_shared_data_given_as_records_is_called_one():
    folder = SHARED / "dlib_faces"
    if not folder.is_dir():
        pytest.skip("needs the photos of ../shared/data, which are not here")
    done = run("eval", folder / "bald_guys.jpg")
    assert done.returncode == 3
    assert b"looks like a JPEG picture" in done.stderr
