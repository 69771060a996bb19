"""Lines in, lines out: what every tool promises of its stream."""

import json
import os
import subprocess
import sys
import threading

import orjson
import pytest
from conftest import forked, lines, module, parse, run, shell, untrained

from kptools.limits import MAX_LINE_BYTES
from kptools.records.stream import Stream

# Each tool that takes records, as it is run on them; the checkpoint is made below
STREAMING = {
    "augment": ["augment", "--rotate", "10"],
    "eval": ["eval", "--records"],
    "heatmap": ["heatmap", "encode", "--size", "16x16", "--out", "maps"],
    "predict": ["predict", "CKPT"],
    "viz": ["viz", "grid", "-o", "grid.png"],
}


@pytest.fixture(scope="module")
def ckpt(tmp_path_factory):
    """A network of 68 points, trained on next to nothing."""
    folder = tmp_path_factory.mktemp("ckpt")
    made = run("prep", "synth", "--count", 12, "--out", folder / "faces")
    assert made.returncode == 0, made.stderr
    out = folder / "nose.safetensors"
    trained = run(
        "train", "--arch", "nose", "--epochs", 1, "-o", out, stdin=made.stdout, cwd=folder
    )
    assert trained.returncode == 0, trained.stderr
    return out


@pytest.fixture(params=STREAMING)
def tool(request, ckpt, tmp_path):
    command = [str(ckpt) if word == "CKPT" else word for word in STREAMING[request.param]]

    def call(stdin):
        return run(*command, stdin=stdin, cwd=tmp_path)

    return call


def scored(face, number, **keys):
    record = face(number, **keys)
    return record | {"pred": record["points"]}


def test_empty_input_is_no_error(tool):
    done = tool(b"")
    assert (done.returncode, done.stdout) == (0, b"")


def test_a_broken_line_is_a_failure_record_in_its_place(tool, face):
    data = (
        lines([scored(face, 0), scored(face, 1)]) + b'{"image": "x", \n' + lines([scored(face, 3)])
    )
    done = tool(data)
    out = parse(done.stdout)
    assert done.returncode == 1
    assert [r["id"] for r in out] == ["face0", "face1", "stdin:3", "face3"]
    assert out[2]["status"] == "bad_record"
    assert out[2]["raw"] == '{"image": "x",'
    told = [line for line in done.stderr.splitlines() if line.startswith(b"stdin:3: ")]
    assert len(told) == 1
    assert b"Traceback" not in done.stderr


def test_unknown_keys_pass_through_in_order(tool, face):
    record = {"zeta": [1, {"a": None}], **scored(face, 0), "alpha": "é\u2028", "n": 0.1}
    done = tool(lines([record]))
    (out,) = parse(done.stdout)
    assert done.returncode == 0, done.stderr
    kept = [key for key in out if key in record]
    assert kept == list(record)
    assert all(out[key] == record[key] for key in record if key != "pred")


def test_a_failure_that_arrives_passes_untold_and_makes_exit_1(tool, face):
    failed = {"id": "gone", "status": "missing", "error": "was not there", "extra": 1}
    done = tool(lines([failed, scored(face, 1)]))
    out = parse(done.stdout)
    assert done.returncode == 1
    assert {key: out[0][key] for key in failed} == failed
    assert b"was not there" not in done.stderr
    assert "status" not in out[1]


def test_lines_of_all_kinds_of_brokenness_keep_their_place(tool, face):
    good, more = lines([scored(face, 0)]), lines([scored(face, 1)])
    broken = [
        b"[1, 2]",
        b'"text"',
        b'{"id": "\xff\xfe"}',
        b"\x00\x00",
        b'{"id": NaN}',
        b'{"id": 1e999}',
        b"[" * 5000,
        b'{"a":' * 400 + b"1" + b"}" * 400,  # JSON, but nested deeper than can be written again
        b'{"half": "a li',
    ]
    done = tool(b"\xef\xbb\xbf" + good + b"\r\n\n" + b"\n".join([*broken[:-1], more + broken[-1]]))
    out = parse(done.stdout)
    assert done.returncode == 1
    assert len(out) == len(broken) + 2
    statuses = [r.get("status") for r in out]
    assert statuses[0] is None
    assert statuses[1:8] == ["bad_record"] * 7
    assert statuses[8] is not None or "a" in out[8]
    assert statuses[9:] == [None, "bad_record"]
    assert [r.get("id") for r in out[1:8]] == [f"stdin:{n}" for n in range(4, 11)]
    assert b"Traceback" not in done.stderr


def test_a_line_over_the_limit_is_skipped_to_its_end(face):
    long = b'{"id": "' + b"x" * (MAX_LINE_BYTES + 10) + b'"}\n'
    done = run("augment", "--rotate", 5, stdin=lines([face(0)]) + long + lines([face(1)]))
    out = parse(done.stdout)
    assert done.returncode == 1
    assert [r["id"] for r in out] == ["face0", "stdin:2", "face1"]
    assert len(out[1]["raw"]) <= 1024
    assert b"16 MiB" in done.stderr


def test_strict_stops_at_a_failure_that_arrives(face):
    gone = {"id": "x", "status": "missing", "error": "it is gone"}
    done = run("augment", "--rotate", 5, "--strict", stdin=[face(0), gone, face(1)])
    assert done.returncode == 3
    assert b"stdin:2: it is gone" in done.stderr


def test_control_characters_of_a_record_do_not_reach_the_terminal(face):
    done = run("augment", "--rotate", 5, stdin=[face(0, box="\x1b[31mred\r")])
    assert b"\x1b" not in done.stderr
    assert b"\r" not in done.stderr


def test_a_link_stays_a_link_and_a_pipe_a_pipe(face, tmp_path):
    (tmp_path / "real.jsonl").write_bytes(b"old")
    (tmp_path / "link.jsonl").symlink_to("real.jsonl")
    run("augment", "--rotate", 5, "-o", "link.jsonl", stdin=[face(0)], cwd=tmp_path)
    assert (tmp_path / "link.jsonl").is_symlink()
    assert parse((tmp_path / "real.jsonl").read_bytes())[0]["id"] == "face0"
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "in.jsonl").write_bytes(lines([face(0)]))
    done = shell(f"cat pipe & {module('augment')} --rotate 5 -o pipe in.jsonl; wait", tmp_path)
    assert parse(done.stdout)[0]["id"] == "face0"
    done = shell(f"{module('augment')} --rotate 5 -o /dev/stdout in.jsonl | cat", tmp_path)
    assert parse(done.stdout)[0]["id"] == "face0"


def test_resume_never_loses_a_finished_file(face, tmp_path):
    run("augment", "--rotate", 5, "-o", "fin.jsonl", stdin=[face(0)], cwd=tmp_path)
    done = run("augment", "--rotate", 5, "-o", "fin.jsonl", "--resume", "gone.jsonl", cwd=tmp_path)
    assert done.returncode == 3
    assert len(parse((tmp_path / "fin.jsonl").read_bytes())) == 1


ODD = [None, 5, -1, 1.5, True, "x", [], [[]], {}, [1, "x"], {"a": 1}, 10**18]


KEYS = {
    *("image", "id", "copy", "group", "size", "box", "box_source", "points", "visible", "scheme"),
    *("split", "augment", "pred", "score", "mean", "heatmap", "scale", "status", "error"),
}
COMMANDS = [
    *STREAMING.values(),
    ["augment", "--flip", "0.5", "--copies", "2"],
    ["augment", "--flip", "1", "--write", "w"],
    ["heatmap", "decode"],
    ["viz", "heatmap"],
    ["viz", "ced", "--norm", "box"],  # one norm for all, or it refuses
    ["eval", "--merge", "mean", "--format", "table"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_odd_values_of_any_key_are_told_and_never_a_traceback(command, ckpt, face, tmp_path):
    keys = sorted(KEYS)
    records = [
        scored(face, 0, augment=[{"seed": 0, "flip": 1}]) | {key: value}
        for key in keys
        for value in ODD
    ]
    words = [str(ckpt) if word == "CKPT" else word for word in command]
    done = run(*words, stdin=records, cwd=tmp_path)
    assert b"Traceback" not in done.stderr, done.stderr[-2000:]
    assert done.returncode == 1
    if command[0] != "eval" and "--copies" not in command:
        assert len(parse(done.stdout)) == len(records)


def test_strict_stops_at_the_first_failure(face):
    done = run("augment", "--rotate", 5, "--strict", stdin=b"broken\n" + lines([face(0)]))
    assert done.returncode == 3
    assert b"stdin:1" in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("name", [*STREAMING, "train", "prep"])
def test_a_full_disk_is_exit_3_and_one_line(name, ckpt, face, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(lines([scored(face, i) for i in range(4)]))
    words = {
        **STREAMING,
        "train": ["train", "--arch", "nose", "--epochs", "1", "--val-fraction", "0.5"],
        "prep": ["prep", "synth", "--count", "2"],
    }[name]
    command = " ".join(str(ckpt) if word == "CKPT" else word for word in words[1:])
    source = "" if name == "prep" else "< in.jsonl"
    python = () if name in ("augment", "prep") else forked()  # those need not import torch
    done = shell(f"{module(words[0], python)} {command} {source} > /dev/full", tmp_path)
    assert done.returncode == 3, done.stderr
    assert b"No space left" in done.stderr.splitlines()[-1]
    assert b"Traceback" not in done.stderr


def test_a_file_appears_whole_or_not_at_all(face, tmp_path):
    data = lines([face(i) for i in range(3)])
    run(
        "augment",
        "--rotate",
        5,
        "-o",
        "out.jsonl",
        "--strict",
        stdin=data + b"broken\n",
        cwd=tmp_path,
    )
    assert not (tmp_path / "out.jsonl").exists()
    done = run("augment", "--rotate", 5, "-o", "out.jsonl", stdin=data, cwd=tmp_path)
    assert done.returncode == 0
    assert len(parse((tmp_path / "out.jsonl").read_bytes())) == 3
    assert not (tmp_path / "out.jsonl.part").exists()


@pytest.mark.parametrize("copies", [1, 3])
def test_resume_goes_on_where_the_part_ends(face, tmp_path, quick, monkeypatch, copies):
    monkeypatch.chdir(tmp_path)
    data = lines([face(0)]) + b"broken\n" + lines([face(i) for i in range(2, 6)])
    command = ["augment", "--rotate", 5, "--copies", copies, "-o", "out.jsonl"]
    quick(*command, stdin=data)
    whole = (tmp_path / "out.jsonl").read_bytes()
    for cut in range(0, len(whole), 97 * 5):
        (tmp_path / "out.jsonl").unlink()
        (tmp_path / "out.jsonl.part").write_bytes(whole[:cut])
        done = quick(*command, "--resume", stdin=data)
        assert done.returncode == 1
        assert (tmp_path / "out.jsonl").read_bytes() == whole
    again = quick(*command, "--resume", stdin=data)
    assert again.returncode == 1


@pytest.mark.parametrize("name", ["augment", "eval", "predict"])
def test_a_record_leaves_before_the_next_has_come(face, tmp_path, name):
    options = ["--records"] if name == "eval" else ["--rotate", "5"]
    if name == "predict":
        options = [str(untrained(tmp_path / "m.safetensors")), "--batch-size", "1"]
    python = forked() if name == "predict" else [sys.executable, "-m"]
    process = subprocess.Popen(
        [*python, f"kptools.cli.{name}", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    late = threading.Timer(120, process.kill)
    late.start()
    try:
        for i in range(3):
            process.stdin.write(lines([face(i) | {"pred": face(i)["points"]}]) + b"\n \n")
            process.stdin.flush()
            answer = process.stdout.readline()  # while stdin is still open
            assert orjson.loads(answer)["id"] == f"face{i}"
    finally:
        late.cancel()
        process.stdin.close()
        process.wait(timeout=30)


def test_a_stream_is_ready_where_a_whole_record_is_there(face):
    source, end = os.pipe()
    stream = Stream([f"/dev/fd/{source}"], "/dev/null")
    items = iter(stream)
    os.write(end, lines([face(0), face(1)]))
    assert next(items).line == 1
    assert stream.ready()
    assert next(items).line == 2
    assert not stream.ready()
    os.write(end, b"\n \r\n")
    assert not stream.ready()
    third = lines([face(2)])
    os.write(end, third[:20])
    assert not stream.ready()
    os.write(end, third[20:])
    assert stream.ready()
    item = next(items)
    assert (item.line, item.record["id"]) == (5, "face2")
    os.write(end, b'{"id": "no line feed"}')
    assert not stream.ready()
    os.close(end)
    assert stream.ready()
    assert [item.record["id"] for item in items] == ["no line feed"]
    assert not stream.ready()
    os.close(source)


def test_a_stdin_that_does_not_block_is_read_to_its_end(face):
    source, end = os.pipe()
    os.set_blocking(source, False)
    process = subprocess.Popen(
        [sys.executable, "-m", "kptools.cli.augment", "--rotate", "5"],
        stdin=source,
        stdout=subprocess.PIPE,
    )
    late = threading.Timer(60, process.kill)
    late.start()
    for i in range(2):
        os.write(end, lines([face(i)]))
        assert orjson.loads(process.stdout.readline() or b"null")["id"] == f"face{i}"
    os.close(end)
    assert process.wait(timeout=30) == 0
    late.cancel()
    os.close(source)


def test_records_still_come_from_pipes_and_standard_input(face, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(lines([face(0)]))
    tool = f"{sys.executable} -m kptools.cli.augment --rotate 5"
    for command in (
        f"{tool} /dev/stdin < in.jsonl",
        f"{tool} <(cat in.jsonl)",
        f"cat in.jsonl | {tool} -",
    ):
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True)
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 1), done.stderr


def test_a_broken_first_line_among_records_is_still_a_failure_record(face):
    noise = (b"no record\n", b"[1, 2]\n", b"\x00\x01\n", b'{"image": \n', b'[{"a": 1}]\n')
    for broken in (*noise, b"<jemalloc>: a warning\n", b"\xef\xbb\xbfno\n"):
        done = run("augment", "--rotate", 5, stdin=broken + lines([face(0), face(1)]))
        assert done.returncode == 1, done.stderr
        assert len(done.stdout.splitlines()) == 3


@pytest.mark.parametrize(
    "words",
    [
        ["augment", "--rotate", "5"],
        ["eval"],
        ["predict", "CKPT"],
        ["heatmap", "decode"],
        ["viz", "grid", "-o", "g.png"],
        ["viz", "ced", "-o", "c.png"],
    ],
    ids=lambda words: words[0],
)
def test_an_empty_input_is_said_and_is_an_exit_status_where_records_are_expected(words, tmp_path):
    untrained(tmp_path / "m.safetensors")
    words = ["m.safetensors" if word == "CKPT" else word for word in words]
    done = run(*words, stdin=b"", cwd=tmp_path)
    assert done.returncode == 0
    assert b"the input is empty: no records came in" in done.stderr
    done = run(*words, "--expect", 3, stdin=b"", cwd=tmp_path)
    assert done.returncode == 4
    assert b"--expect 3: 0 records came in" in done.stderr


def test_expect_counts_and_a_short_output_never_gets_its_name(face, tmp_path):
    words = ("augment", "--rotate", 5, "-o", "o.jsonl", "--expect", 2)
    done = run(*words, stdin=[face(0)], cwd=tmp_path)
    assert done.returncode == 4
    assert not (tmp_path / "o.jsonl").exists()
    done = run(*words, "--resume", stdin=[face(0), face(1)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(parse((tmp_path / "o.jsonl").read_bytes())) == 2
    assert run("eval", "--fail-if", "faces<1", stdin=b"").returncode == 4
    good = face(0) | {"pred": face(0)["points"]}
    assert run("eval", "--fail-if", "faces<1", stdin=[good]).returncode == 0


BIG = 2**64 + 12345678901234567890


@pytest.mark.parametrize("tool", ["augment", "predict", "eval", "encode"])
def test_integers_of_more_than_64_bits_pass_as_they_are(face, tmp_path, tool):
    text = orjson.dumps(face(0) | {"pred": face(0)["points"], "mine": {"a": [0, 1.5]}, "n": 0})
    line = text.replace(b'"n":0', b'"n":%d' % BIG).replace(b"[0,1.5]", b"[%d,1.5]" % -BIG)
    words = {
        "augment": ["augment", "--copies", 2, "--rotate", 5],
        "predict": ["predict", untrained(tmp_path / "m.safetensors")],
        "eval": ["eval", "--records"],
        "encode": ["heatmap", "encode", "--out", tmp_path / "maps"],
    }[tool]
    done = run(*words, stdin=line + b"\n")
    assert done.returncode == 0, done.stderr
    for out in done.stdout.splitlines():
        record = json.loads(out)
        assert record["n"] == BIG
        assert record["mine"] == {"a": [-BIG, 1.5]}
        assert record["id"] == "face0"
