"""kp-predict --explain: where a checkpoint comes from, and the pipe that makes it again."""

import copy
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path

import pytest
import torch
from conftest import forked, in_process, lines, parse, run, shell, train, untrained
from test_old_checkpoints import UNET, written

from kptools.cli.prep import tool as prep
from kptools.cli.train import train as train_command
from kptools.models import archs, box, checkpoint
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.specs import InputSpec
from kptools.storage.tensor_metadata import read_metadata
from kptools.storage.tensors import write_tensors
from kptools.training import pipe
from kptools.training.run import Observer, RunOptions, train_records
from kptools.training.settings import resolve

ROOT = Path(__file__).resolve().parents[1]
CPU = {"type": "cpu", "processes": 1}
OPTIONS = ("--arch", "nose", "--epochs", 1, "--input-size", "32x32", "--threads", 1)


@pytest.fixture
def explain(quick):
    """What `kp-predict --explain` prints of these arguments."""

    def explained(*words, status=0):
        done = quick("predict", "--explain", *words)
        assert done.returncode == status, done.stderr
        return (done.stdout if status == 0 else done.stderr).decode()

    return explained


@pytest.fixture
def make(tmp_path, quick):
    """Train a network on records; its path."""

    def made(records, *words, name="m", status=0):
        path = tmp_path / f"{name}.safetensors"
        done = quick("train", *OPTIONS, *words, "-o", path, stdin=records)
        assert done.returncode == status, done.stderr
        return path

    return made


def command(text):
    """The pipe, without the comments."""
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def again(text, folder, **placeholders):
    """Run the pipe, its words in capitals and its readers replaced; the bytes of the checkpoint."""
    words = command(text)
    for word, value in placeholders.items():
        assert word in words, words
        words = words.replace(word, str(value))
    words = words.replace("OUT.safetensors", "again.safetensors").replace(
        "VAL.jsonl", "again.jsonl"
    )
    tool = folder / "bin"
    tool.mkdir(exist_ok=True)
    for name in ("prep", "augment", "train"):
        script = f'#!/bin/sh\nexec {shlex.join(forked())} kptools.cli.{name} "$@"\n'
        (tool / f"kp-{name}").write_text(script)
        (tool / f"kp-{name}").chmod(0o755)
    path = f"{tool}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = shell(words, folder, env={**os.environ, "PATH": path})
    assert done.returncode == 0, (words, done.stderr)
    return (folder / "again.safetensors").read_bytes()


def test_the_printed_pipe_makes_the_same_bytes(few, explain, tmp_path):
    (tmp_path / "faces.jsonl").write_bytes(lines(few))
    augment = ("--copies", 2, "--rotate", 12.5, "--flip", 0.5, "--seed", 3)
    copies = run("augment", *augment, tmp_path / "faces.jsonl").stdout
    policies = run("augment", "--preset", "face", stdin=copies).stdout
    done = train(
        tmp_path,
        policies,
        *("--optimizer", "adamw", "--weight-decay", 0.01, "--decay", "cosine"),
        *("--schedule", "1e-3:1,0.00012345:1", "--loss", "l1", "--keep", "last"),
        *("--seed", 1_000_000),  # which, as 1e+06, no command takes
        *("--val-fraction", 0.0, "--average", 0.9, "--margin", 0.1, "--batch-size", 16),
        arch="nose",
        size="32x32",
    )
    assert done.returncode == 0, done.stderr
    path = tmp_path / "nose.safetensors"
    text = explain(path)
    assert "kp-augment --copies 2 --flip 0.5 --rotate 12.5 --seed 3 |" in text
    assert "kp-augment --preset face |" in text
    assert again(text, tmp_path, **{"kp-prep synth": "cat faces.jsonl"}) == path.read_bytes()


def test_the_pipe_of_a_unet_that_goes_on_from_another_makes_the_same_bytes(
    few, explain, tmp_path, quick
):
    words = ("--arch", "unet", "--width", 2, "--stride", 4, "--sigma", 1.25, "--align", 0.5)
    words += ("--input-size", "32x32", "--epochs", 1, "--threads", 1)
    (tmp_path / "faces.jsonl").write_bytes(lines(few))
    faces = tmp_path / "faces.jsonl"
    for name, more in (("first", ()), ("second", ("--init", tmp_path / "first.safetensors"))):
        out = tmp_path / f"{name}.safetensors"
        done = quick("train", *(words if name == "first" else words[-4:]), *more, "-o", out, faces)
        assert done.returncode == 0, done.stderr
    text = explain(tmp_path / "second.safetensors")
    digest = hashlib.sha256((tmp_path / "first.safetensors").read_bytes()).hexdigest()
    assert f"It went on from first.safetensors, after 1 epoch;\n#   its SHA-256 is {digest}" in text
    assert "#   train: 12 faces of synth\n#   val: 4 faces of synth" in text
    placeholders = {"kp-prep synth": "cat faces.jsonl", "INIT.safetensors": "first.safetensors"}
    made = again(text, tmp_path, **placeholders)
    assert made == (tmp_path / "second.safetensors").read_bytes()


def test_paths_workers_and_a_resumed_run_change_no_byte(few, make, tmp_path):
    init = make(few, name="init")
    (tmp_path / "elsewhere").mkdir()
    moved = Path(shutil.copy(init, tmp_path / "elsewhere" / "init.safetensors"))
    (tmp_path / "faces.jsonl").write_bytes(lines(few))
    one = make(few, "--init", init, "--workers", 1, name="one").read_bytes()
    two = make(b"", "--init", moved, "--workers", 3, "--resume", tmp_path / "faces.jsonl", name="b")
    assert two.read_bytes() == one
    assert str(tmp_path).encode() not in one
    assert b"elsewhere" not in one


def test_the_validation_is_that_of_the_epoch_that_was_kept(few, make, explain, tmp_path):
    init = make(few, "--epochs", 2, name="init")
    path = make(few, "--init", init, "--epochs", 3, "--lr", 1e-9)
    log = parse((tmp_path / "m.log.jsonl").read_bytes())
    best = min(log[-3:], key=lambda entry: entry["val_nme"])
    figures = f"NME {100 * best['val_nme']:.2f} % (interocular)"
    text = explain(path)
    assert f"# Validation: {figures}, in epoch {best['epoch']} of 5, chosen by these" in text
    assert f"Validation: {figures}" in explain(path, "--format", "markdown")
    assert "of 2, the last\n" in explain(make(few, "--epochs", 2, "--keep", "last", name="last"))
    assert json.loads(explain(path, "--format", "json"))["validation"] == {
        "epoch": best["epoch"],
        "epochs": 5,
        "keep": "best",
        "schemes": [{"scheme": "ibug68", "nme": best["val_nme"], "norm": "interocular"}],
    }


def test_the_validation_of_several_schemes_is_that_of_each(few, make, explain, tmp_path):
    eyes = [
        {**record, "id": f"e{n}", "scheme": "ibug68:36,39,42,45"}
        | {"points": [record["points"][i] for i in (36, 39, 42, 45)]}
        for n, record in enumerate(few)
    ]
    text = explain(make([*few, *eyes], "--several-schemes", "--epochs", 1))
    (epoch,) = parse((tmp_path / "m.log.jsonl").read_bytes())
    shown = [f"{100 * nme:.2f} % of {name}" for name, nme in epoch["val_nme_of"].items()]
    assert len(shown) == 2
    assert (
        f"# Validation: NME {shown[0]} (interocular), {shown[1]} (interocular), in epoch 1" in text
    )


def test_without_validation_there_is_none(few, make, explain):
    path = make([record for record in few if record["split"] == "train"], "--val-fraction", 0)
    assert "Validation" not in explain(path)
    assert json.loads(explain(path, "--format", "json"))["validation"] is None


def test_each_dataset_is_counted_by_split_with_its_failures(few, make, explain, face, tmp_path):
    others = [face(i, dataset="mine", split="val", group="g") for i in range(3)]
    broken = [face(4, dataset="mine", points=None), face(5, dataset="mine", image="no.png")]
    skipped = [face(6, dataset="mine", split="test"), face(7, dataset="other", status="missing")]
    path = make([*few, *others, *broken, *skipped], status=1)
    text = explain(path)
    table = [re.split(r"  +", line[2:]) for line in text.splitlines()[4:10]]
    assert table == [
        ["dataset", "split", "faces", "groups", "failed", "scheme", "boxes"],
        ["synth", "train", "12", "12", "0", "ibug68", "detector:synth"],
        ["synth", "val", "4", "4", "0", "ibug68", "detector:synth"],
        ["mine", "train", "0", "0", "2", "-", "-"],
        ["mine", "val", "3", "1", "0", "ibug68", "dataset"],
        ["other", "train", "0", "0", "1", "-", "-"],
    ]
    assert "{\n    kp-prep synth\n    cat MINE.jsonl\n    cat OTHER.jsonl\n} |\n" in text


def test_a_file_of_val_is_an_option_of_the_pipe_and_no_part_of_its_stream(
    few, make, explain, face, tmp_path
):
    (tmp_path / "val.jsonl").write_bytes(lines([face(0, dataset="mine")]))
    text = explain(make(few[:3], "--val", tmp_path / "val.jsonl", "--val-fraction", 0))
    assert "--val VAL-FACES.jsonl" in text
    assert "--val-fraction 0 " in text
    assert command(text).startswith("kp-prep synth |\n")
    assert "# mine     val    1 " in text


def test_several_policies_say_how_many_faces_have_each(few, make, explain):
    turned, flipped = {"seed": 0, "rotate": 10.0}, {"seed": 1, "flip": 0.5}
    policies = [[], [turned], [turned, flipped], [turned]]
    records = [{**r, "split": "train", "augment": policies[i % 4]} for i, r in enumerate(few)]
    text = explain(make(records, "--val-fraction", 0))
    assert "Faces of synth had several policies; the pipe has the first:" in text
    assert "#   8 faces: kp-augment --rotate 10\n" in text
    assert "#   4 faces: none\n" in text
    assert "#   4 faces: kp-augment --rotate 10 | kp-augment --flip 0.5 --seed 1\n" in text


def test_a_policy_for_each_face_does_not_swell_the_checkpoint(few, make):
    many = [
        {**few[0], "id": str(n), "dataset": f"d{n // 4}", "augment": [{"seed": n, "flip": 0.5}]}
        for n in range(160)
    ]
    path = make(many, "--val-fraction", 0)
    rows = read_metadata(str(path))["run"]["provenance"]["data"]
    assert len(rows) == 33
    assert (rows[-1]["dataset"], rows[-1]["faces"]) == ("(others)", 8 * 4)
    one = [{**record, "dataset": "d"} for record in many]
    (row,) = read_metadata(str(make(one, "--val-fraction", 0)))["run"]["provenance"]["data"]
    assert len(row["policies"]) == 33
    assert row["policies"][-1] == {"augment": None, "policies": 128, "faces": 128}


def test_datasets_with_policies_of_their_own_keep_them(few, make, explain, face):
    mine = [face(i, dataset="csv", augment=[{"seed": 0, "flip": 0.5}]) for i in range(8)]
    text = command(explain(make([*few, *mine])))
    assert text.startswith(
        "{\n    kp-prep synth\n    kp-prep csv FILE | kp-augment --flip 0.5\n} |"
    )


def test_no_option_of_kp_train_is_forgotten_in_the_pipe(tmp_path):
    changed = {"lr", "epochs", "scheme", "output"}  # --schedule, KPTOOLS_SCHEME, -o
    no_say = {"inputs", "workers", "cache", "cache_memory", "cache_size", "resume", "strict"}
    model = checkpoint.load_model(str(untrained(tmp_path / "n.safetensors")))
    options = dict.fromkeys(archs.all_options(), 0.123)
    model = replace(model, arch="resnet18", head="heatmap", options=options, visibility=True)
    model = replace(model, input=InputSpec((40, 24), 0.7, grey=False))
    default = resolve("resnet18", head="heatmap").described()
    settings = {name: 0.123 for name, value in default.items() if isinstance(value, float | int)}
    settings |= {"schedule": [[0.5, 3]], "loss": "x", "keep": "last", "decay": "cosine"}
    settings |= {"init": "i", "weights": "w", "optimizer": "adamw", "precision": "bf16"}
    given = {"options": {"val": True, "val_fraction": 0.5, "compile": True}}
    shown = pipe.of_network(model, settings | {"several_schemes": True}, {"device": CPU, **given})
    flags = set(re.findall(r"(?<= )--?([a-z-]+)", " ".join(shown)))
    wanted = set(signature(train_command).parameters) - changed - no_say
    names = {name.removesuffix("_network").replace("_", "-") for name in wanted}
    assert flags - {"o"} == names  # a new option: into the pipe, or into `no_say`


def test_the_network_in_the_box_is_made_by_its_script(explain):
    text = explain()
    assert text == explain(box.path()).replace(box.path(), "box")
    assert command(text) == "sh examples/box.sh OUT.safetensors"
    script = (ROOT / "examples" / "box.sh").read_text()
    flags = ("--stride", "--shape-prior", "--optimizer", "--weight-decay", "--average", "--align")
    for flag in flags:  # which it learnt with
        assert re.search(rf"{flag} (\S+)", text)[0] in script


def test_what_the_box_keeps_for_the_next_time(few, make, tmp_path, explain):
    path = make(few)
    box.pack(str(path), tmp_path / "packed.safetensors")
    run_of = read_metadata(str(tmp_path / "packed.safetensors"))["run"]
    assert run_of["provenance"] == read_metadata(str(path))["run"]["provenance"]
    assert "synth    train  12" in explain(tmp_path / "packed.safetensors")


def test_the_model_card_in_the_package_is_the_one_that_is_generated(explain):
    card = (ROOT / "kptools" / "models" / "MODEL_CARD.md").read_text()
    assert card == explain("--format", "markdown"), (
        "kp-predict --explain --format markdown > kptools/models/MODEL_CARD.md"
    )
    readme = (ROOT / "README.md").read_text()
    figures = [
        line for line in readme.splitlines() if re.match(r"\| .* \| \d.* % \| .* % \|$", line)
    ]
    assert len(figures) == 4
    assert all(line in card for line in figures)


def test_a_card_has_what_stands_beside_the_checkpoint_and_asks_for_it_otherwise(
    few, make, explain, tmp_path
):
    few = [{**record, "dataset": "a|b <i>"} for record in few]
    path = make(few)
    text = explain(path, "--format", "markdown")
    assert "Write them into `m.card.md` next to it" in text
    assert "| a\\|b \\<i> | train | 12 | 12 | 0 |" in text
    (tmp_path / "m.card.md").write_text("For noses alone.\n")
    text = explain(path, "--format", "markdown")
    assert "For noses alone." in text
    assert "Write them" not in text


def test_as_json_it_is_an_object_a_line(few, make, explain):
    path = make(few)
    first, second = map(json.loads, explain(path, box.path(), "--format", "json").splitlines())
    assert first["provenance"] == read_metadata(str(path))["run"]["provenance"]
    assert first["provenance"]["versions"]["python"] == ".".join(map(str, sys.version_info[:3]))
    assert first["settings"]["arch"] == first["model"]["arch"] == "nose"
    assert first["command"] == command(explain(path))
    assert second["provenance"] is None


def test_an_adapter_says_what_it_learnt_from(few, tmp_path, quick, explain):
    records = [{**record, "pred": [[x + 1, y] for x, y in record["points"]]} for record in few]
    path = tmp_path / "a.safetensors"
    words = ("--arch", "adapter", "--val-fraction", 0.25, "-o", path)
    done = quick("train", *words, stdin=[{**r, "split": "train"} for r in records])
    assert done.returncode == 0, done.stderr
    text = explain(path)
    assert text.startswith(f"# {path}: an adapter to points of ibug68\n# Made by kptools ")
    assert "kp-predict CKPT.safetensors |" in text
    assert "kp-train --arch adapter --val-fraction 0.25 -o" in text
    faces = sum(row["faces"] for row in read_metadata(str(path))["run"]["provenance"]["data"])
    assert faces == 16


def test_an_onnx_file_says_what_its_checkpoint_says(box_onnx, explain):
    theirs, ours = explain(box_onnx), explain()
    assert theirs.splitlines()[1:] == ours.splitlines()[1:]


def test_a_checkpoint_of_0_1_says_what_it_knows(tmp_path, explain):
    written(tmp_path / "old.safetensors", UNET)
    text = explain(tmp_path / "old.safetensors")
    assert "unet, 68 points of ibug68, input 72x64 RGB" in text
    assert "Records, policies, versions and machine are not known" in text
    shown = " ".join(command(text).split())
    assert shown.startswith("cat FACES.jsonl | kp-train --arch unet --input-size 72x64")
    assert "--pos-weight 3 --sigma 1.5 --stride 2 --width 4" in shown
    assert "--schedule 0.001:2 --precision bf16" in shown.replace("\\ ", "")


def test_a_checkpoint_without_a_run_is_explained(tmp_path, explain):
    assert "kp-train --arch nose" in explain(untrained(tmp_path / "n.safetensors"))


@pytest.mark.parametrize(
    "run_of",
    [
        {"settings": 5},
        {"settings": {"schedule": [["x", 1]]}},
        {"settings": {"batch": "9; rm -rf ~"}},
        {"settings": {"average": [1]}},
        {"provenance": {"data": [5]}},
        {"provenance": {"data": [{"dataset": 5, "split": "train", "policies": 3}]}},
        {"provenance": {"versions": [1], "device": "x"}},
        {"provenance": {"versions": [5]}},
        {"provenance": {"init": {"name": "x"}}, "settings": {"init": "x"}},
    ],
)
def test_metadata_that_is_none_of_ours_is_one_line(tmp_path, explain, run_of):
    path = untrained(tmp_path / "m.safetensors")
    loaded = checkpoint.load(str(path))
    loaded.run = run_of
    loaded.save(path)
    report = explain(path, status=3)
    assert "its metadata is not kp-train's" in report
    assert len(report.splitlines()) == 1


def test_a_checkpoint_of_a_stranger_puts_no_command_of_its_own_into_the_pipe(few, make, explain):
    path = make([{**record, "dataset": "x\n$(touch y); rm z\n"} for record in few])
    loaded = checkpoint.load(str(path))
    loaded.run["made_by"] = "touch a"
    loaded.run["settings"]["loss"] = "$(touch b)"
    loaded.run["provenance"]["device"]["type"] = "$(touch c)"
    loaded.run["settings"]["decay"] = "e\ntouch e\x1b[2J"
    loaded.run["provenance"]["device"]["name"] = "d\ntouch d\n\x1b[2J"
    loaded.save(path)
    text = explain(path)
    assert all(line.isprintable() for line in text.splitlines())
    found = command(text)
    assert "touch a" not in text
    assert found.count("touch") == 2
    assert found.startswith("cat X_TOUCH_Y_RM_Z.jsonl |\n")
    assert "--decay 'e?touch e?[2J'" in found
    assert "--loss '$(touch b)'" in found


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("faces.jsonl",), 2, "--explain reads no records; leave faces.jsonl out"),
        (("--flip",), 2, "--flip: --explain reads no records"),
        (("-o", "x.jsonl"), 2, "--output: --explain reads no records"),
        (("--format", "xml"), 2, "--format 'xml': one of text, json, markdown"),
        (("none.safetensors",), 3, "cannot read none.safetensors"),
    ],
)
def test_what_it_cannot_do_is_one_line(explain, words, status, said):
    assert explain(*words, status=status).startswith(said)


def test_a_file_that_is_no_checkpoint_is_one_line(explain, tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\xff\xd8\xff" + bytes(100))
    report = explain(tmp_path / "x.safetensors", status=3)
    assert "is no checkpoint of kptools (it looks like a JPEG picture)" in report
    write_tensors(tmp_path / "y.safetensors", {}, copy.deepcopy(UNET) | {"version": 9})
    assert "of version 9" in explain(tmp_path / "y.safetensors", status=3)


def test_it_needs_no_torch():
    code = (
        "import sys, os; sys.argv = ['kp-predict', '--explain']\n"
        "from kptools.cli import predict\n"
        "leave = os._exit\n"
        "os._exit = lambda status: leave(status + 10 * ('torch' in sys.modules))\n"
        "predict.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"sh examples/box.sh" in done.stdout


def test_records_say_which_reader_made_them_unless_they_say_so_themselves(tmp_path):
    made = in_process(prep, "synth", "--count", 1, "--out", tmp_path / "f").stdout
    (record,) = parse(made)
    assert list(record)[-1] == "dataset"
    assert record["dataset"] == "synth"
    in_process(prep, "to", "csv", "-o", tmp_path / "f.csv", stdin=made)
    assert parse(in_process(prep, "csv", tmp_path / "f.csv").stdout)[0]["dataset"] == "synth"
    in_process(prep, "to", "dlib", "-o", tmp_path / "f.xml", stdin=made)
    Path(record["image"]).unlink()
    (failed,) = parse(in_process(prep, "dlib", tmp_path / "f.xml").stdout)
    assert list(failed)[-3:] == ["dataset", "status", "error"]
    assert failed["dataset"] == "dlib"


def test_a_checkpoint_that_is_gone_when_the_run_ends_loses_no_run(few, make, tmp_path):
    init, out = make(few, name="init"), tmp_path / "after.safetensors"
    digest = hashlib.sha256(init.read_bytes()).hexdigest()
    settings = resolve("nose", input_size=(32, 32), epochs=1, init=str(init))
    where = RunOptions(out, torch.device("cpu"))
    items = [Item(record, "faces.jsonl", line) for line, record in enumerate(few, 1)]
    observer = Observer(epoch=lambda *_: init.unlink())
    train_records(items, Failures(), settings, where, observer)
    assert read_metadata(str(out))["run"]["provenance"]["init"]["sha256"] == digest


def test_datasets_stand_in_the_order_in_which_they_came(few, make, explain):
    halves = [{**r, "dataset": 300 if n >= 8 else "w"} for n, r in enumerate(few)]
    text = command(explain(make(halves)))
    assert text.startswith("{\n    cat W.jsonl\n    cat 300.jsonl\n} |")


def test_the_network_in_the_box_has_a_name(quick):
    named, unnamed = quick("predict", "--explain", "box"), quick("predict", "--explain")
    assert named.returncode == unnamed.returncode == 0
    assert named.stdout == unnamed.stdout != b""


@pytest.mark.parametrize(
    ("dataset", "first"), [("photos", "cat PHOTOS.jsonl |"), ("imm", "kp-prep imm ROOT |")]
)
def test_points_of_photos_are_of_a_file_since_no_reader_has_them(dataset, first):
    row = {"dataset": dataset, "split": "train", "policies": []}
    assert pipe.of_adapter({"data": [row]})[0] == first
