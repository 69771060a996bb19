"""Work shared by processes that know nothing of each other: --shard, and --allow-failures."""

import os
import threading
from importlib import import_module

import orjson
import pytest
import typer
from conftest import forked, lines, parse, run, start, untrained

from kptools.errors import UsageError
from kptools.records import shard
from kptools.records.shard import Shard

AUGMENT = ("augment", "--rotate", 5)


def ids(data):
    return [record["id"] for record in parse(data)]


def slurm(**values):
    return {f"SLURM_ARRAY_TASK_{key}": str(value) for key, value in values.items()}


@pytest.mark.parametrize("count", [1, 2, 3, 7, 9])
def test_each_record_of_all_files_is_in_one_shard_and_keeps_its_order(face, tmp_path, quick, count):
    records = [face(i) for i in range(7)]
    (tmp_path / "a.jsonl").write_bytes(b"\n \n" + lines(records[:2]) + b"\n" + lines(records[2:3]))
    (tmp_path / "b.jsonl").write_bytes(lines(records[3:]))
    files = (tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    for index in range(1, count + 1):
        done = quick(*AUGMENT, "--shard", f"{index}/{count}", *files)
        assert done.returncode == 0
        assert ids(done.stdout) == [f"face{i}" for i in range(index - 1, 7, count)]


@pytest.mark.parametrize(
    "words",
    [AUGMENT, ("predict", "m.safetensors", "--batch-size", 1), ("eval", "--records")],
    ids=lambda words: words[0],
)
def test_shards_merged_by_a_line_of_each_in_turn_are_the_output_of_one_process(
    face, tmp_path, words
):
    untrained(tmp_path / "m.safetensors")
    given = [face(i) | {"pred": face(i)["points"]} for i in range(5)]
    data = lines(given[:2]) + b"broken\n" + lines(given[2:])
    whole = run(*words, stdin=data, cwd=tmp_path)
    parts = [run(*words, "--shard", f"{i}/4", stdin=data, cwd=tmp_path) for i in (1, 2, 3, 4)]
    assert [part.returncode for part in parts] == [0, 0, 1, 0]
    outputs = [part.stdout.splitlines() for part in parts]
    merged = [outputs[i % 4][i // 4] for i in range(6)]
    assert merged == whole.stdout.splitlines()
    assert b"stdin:3: " in parts[2].stderr


def test_a_line_of_another_shard_is_not_read(face):
    done = run(*AUGMENT, "--shard", "2/2", stdin=b"broken\n" + lines([face(1)]))
    assert (done.returncode, ids(done.stdout)) == (0, ["face1"])


def test_a_file_of_the_wrong_kind_is_one_for_each_shard(tmp_path):
    (tmp_path / "a.html").write_bytes(b"<html></html>\n")
    done = run(*AUGMENT, "--shard", "2/2", tmp_path / "a.html")
    assert done.returncode == 3
    assert b"looks like an HTML page" in done.stderr


def test_expect_counts_the_records_of_the_shard(face):
    data = [face(i) for i in range(5)]
    assert run(*AUGMENT, "--shard", "1/2", "--expect", 3, stdin=data).returncode == 0
    done = run(*AUGMENT, "--shard", "2/2", "--expect", 3, stdin=data)
    assert done.returncode == 4
    assert b"--expect 3: 2 records came in" in done.stderr
    none = run(*AUGMENT, "--shard", "2/2", stdin=data[:1])
    assert none.returncode == 0
    assert b"--shard 2/2: no records came in" in none.stderr


def test_another_shard_is_another_run_that_resume_refuses(face, tmp_path):
    data = [face(i) for i in range(4)]
    words = (*AUGMENT, "-o", "o.jsonl")
    assert run(*words, "--shard", "1/2", stdin=data, cwd=tmp_path).returncode == 0
    for other in (("--shard", "2/2"), ("--shard", "1/3"), ()):
        done = run(*words, "--resume", *other, stdin=data, cwd=tmp_path)
        assert done.returncode == 3
        assert b"shard 1/2, now shard" in done.stderr
    assert ids((tmp_path / "o.jsonl").read_bytes()) == ["face0", "face2"]
    again = run(*words, "--resume", "--shard", "1/2", stdin=data, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    more = run(*words, "--resume", "--shard", "1/2", stdin=[*data, face(4)], cwd=tmp_path)
    assert b"2 records were there" in more.stderr
    assert ids((tmp_path / "o.jsonl").read_bytes()) == ["face0", "face2", "face4"]


def test_a_record_leaves_though_the_next_ones_are_of_another_shard(face, tmp_path):
    untrained(tmp_path / "m.safetensors")
    words = ("m.safetensors", "--batch-size", 1, "--shard", "1/3")
    process = start("predict", *words, cwd=tmp_path, python=forked())
    late = threading.Timer(120, process.kill)
    late.start()
    process.stdin.write(lines([face(0), face(1), face(2)]))
    process.stdin.flush()
    assert orjson.loads(process.stdout.readline())["id"] == "face0"  # while stdin is still open
    process.stdin.close()
    assert process.wait(timeout=60) == 0
    late.cancel()


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ({"ID": 1, "COUNT": 8, "MIN": 1}, "1/8"),
        ({"ID": 8, "COUNT": 8, "MIN": 1, "MAX": 8}, "8/8"),
        ({"ID": 0, "COUNT": 3, "MIN": 0, "MAX": 2, "STEP": 1}, "1/3"),
        ({"ID": 12, "COUNT": 4, "MIN": 10, "MAX": 13}, "3/4"),
        ({"ID": 6, "COUNT": 4, "MIN": 0, "MAX": 6, "STEP": 2}, "4/4"),
        ({"ID": 3, "COUNT": 1, "MIN": 3, "MAX": 3}, "1/1"),
    ],
    ids=str,
)
def test_auto_is_the_task_of_a_slurm_array(values, found):
    assert str(shard.of_slurm(slurm(**values))) == found


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"ID": 1},
        {"ID": 1, "COUNT": 4},
        {"ID": "", "COUNT": 4, "MIN": 1},
        {"ID": 7, "COUNT": 3, "MIN": 1, "MAX": 7},  # --array=1,3,7
        {"ID": 5, "COUNT": 4, "MIN": 1, "MAX": 4},
        {"ID": 1, "COUNT": 0, "MIN": 1},
        {"ID": 3, "COUNT": 4, "MIN": 0, "MAX": 6, "STEP": 2},
    ],
    ids=str,
)
def test_auto_elsewhere_is_a_wrong_usage(values):
    with pytest.raises(UsageError, match="--shard auto: "):
        shard.of_slurm(slurm(**values))


@pytest.mark.parametrize("text", ["0/4", "5/4", "1/0", "1", "1/4/2", "-1/4", "1.5/4", "a/b", ""])
def test_a_shard_that_is_none_is_one_line_and_exit_2(text, face, quick):
    done = quick(*AUGMENT, f"--shard={text}", stdin=[face(0)])
    assert done.returncode == 2
    (line,) = done.stderr.decode().splitlines()
    assert "--shard" in line
    with pytest.raises(UsageError):
        shard.parse(text)


def test_auto_reads_the_environment(face):
    env = slurm(ID=4, COUNT=2, MIN=3, MAX=4)
    done = run(*AUGMENT, "--shard", "auto", stdin=[face(0), face(1)], env=env)
    assert ids(done.stdout) == ["face1"]
    if "SLURM_ARRAY_TASK_ID" not in os.environ:
        done = run(*AUGMENT, "--shard", "auto", stdin=[face(0)])
        assert done.returncode == 2
        assert b"SLURM_ARRAY_TASK_ID is not set" in done.stderr


def test_a_figure_of_a_part_is_refused(face):
    for words in ((), ("--records", "--merge", "mean"), ("--records", "--fail-if", "nme>1")):
        done = run("eval", *words, "--shard", "1/2", stdin=[face(0)])
        assert done.returncode == 2
        assert b"--shard 1/2" in done.stderr


@pytest.mark.parametrize("jobs", [1, 3])
def test_drawn_faces_are_shared(tmp_path, jobs):
    words = ("prep", "synth", "--count", 20, "--jobs", jobs, "--out", "f")
    whole = run(*words, cwd=tmp_path).stdout.splitlines()
    for index in (1, 2, 3):
        part = run(*words, "--shard", f"{index}/3", cwd=tmp_path)
        assert part.stdout.splitlines() == whole[index - 1 :: 3]
    few = ("prep", "synth", "--count", 1, "--out", "g", "--shard", "2/2")
    assert run(*few, cwd=tmp_path).returncode == 0
    assert os.listdir(tmp_path / "g") == []


def test_photos_are_shared_before_they_are_looked_at(face, tmp_path):
    for number in range(5):
        face(number)
    (tmp_path / "1.png").write_bytes(b"broken")
    words = ("prep", "photos", "--box", "image")
    whole = run(*words, tmp_path)
    first, second = (run(*words, tmp_path, "--shard", f"{i}/2") for i in (1, 2))
    assert (whole.returncode, first.returncode, second.returncode) == (1, 0, 1)
    assert ids(first.stdout) == ids(whole.stdout)[::2]
    assert ids(second.stdout) == ids(whole.stdout)[1::2]


def test_no_record_is_in_two_shards():
    parts = [Shard(index, 5) for index in range(1, 6)]
    for number in range(1, 30):
        assert sum(part.has(number) for part in parts) == 1


# --allow-failures


@pytest.mark.parametrize(
    "words",
    [
        AUGMENT,
        ("predict", "m.safetensors"),
        ("eval",),
        ("heatmap", "encode", "--size", "16x16", "--out", "maps"),
        ("viz", "grid", "-o", "g.png"),
        ("prep", "fit-boxes"),
        ("prep", "pack", "--out", "tars"),
        ("train", "--arch", "nose", "--epochs", 1, "--val-fraction", 0.5, "-o", "t.safetensors"),
    ],
    ids=lambda words: words[0],
)
def test_records_that_failed_are_exit_0_where_that_is_asked_for(face, tmp_path, words):
    untrained(tmp_path / "m.safetensors")
    given = [face(i) | {"pred": face(i)["points"]} for i in range(4)]
    data = lines(given) + b"broken\n"
    done = run(*words, "--allow-failures", stdin=data, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"stdin:5: " in done.stderr
    assert b"1 of 5 records failed" in done.stderr


@pytest.mark.parametrize("name", ["prep", "heatmap", "viz"])
def test_each_command_that_reads_or_makes_records_can_allow_failures(name):
    commands = dict(typer.main.get_command(import_module(f"kptools.cli.{name}").tool).commands)
    if name == "prep":
        commands |= commands.pop("to").commands
    for command, found in commands.items():
        has = any("--allow-failures" in option.opts for option in found.params)
        assert has == (command not in ("curves", "filters")), command


def test_other_failures_than_those_of_records_keep_their_status(face, tmp_path):
    words = (*AUGMENT, "--allow-failures")
    assert run(*words, "gone.jsonl", cwd=tmp_path).returncode == 3
    assert run(*words, "--expect", 2, stdin=[face(0)]).returncode == 4
    assert run(*words, "--no-such", stdin=[face(0)]).returncode == 2
    strict = run(*words, "--strict", stdin=b"broken\n")
    assert strict.returncode == 2
    assert b"--allow-failures and --strict" in strict.stderr
    photos = run("prep", "photos", "--box", "image", "--allow-failures", tmp_path / "no")
    assert photos.returncode == 2
