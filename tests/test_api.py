"""The Python API: its examples run, and its numbers are those of the commands."""

import doctest
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import parse, run
from PIL import Image

import kptools as kp

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with twelve drawn faces and a small network."""
    folder = tmp_path_factory.mktemp("api")
    run("prep", "synth", "--count", 12, "--out", "faces", "-o", "faces.jsonl", cwd=folder)
    before = Path.cwd()
    os.chdir(folder)
    records = kp.read_records("faces.jsonl")
    kp.train(records, arch="nose", epochs=1, threads=1, input_size=(32, 32)).save(
        "nose.safetensors"
    )
    yield folder
    os.chdir(before)


def test_the_examples_of_the_docstrings_run(place):
    from kptools import api

    failed, tried = doctest.testmod(api)
    assert (failed, tried > 20) == (0, True)


def test_the_examples_of_the_page_about_python_run(place):
    failed, tried = doctest.testfile(str(ROOT / "docs" / "python.md"), module_relative=False)
    assert (failed, tried > 8) == (0, True)


def test_importing_the_package_imports_nothing_else():
    code = (
        "import sys; import kptools; print(*{name.split('.')[0] for name in sys.modules} & "
        "{'torch', 'numpy', 'PIL', 'typer', 'orjson', 'rich'})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == []


def test_what_is_public_is_there():
    assert set(kp.__all__) <= set(dir(kp))
    assert all(getattr(kp, name) for name in kp.__all__)
    with pytest.raises(AttributeError, match="no attribute 'tell'"):
        kp.tell  # noqa: B018
    assert kp.schemes.get("ibug68").count == 68
    assert "imm58" in kp.schemes.names()


def test_training_gives_the_weights_of_the_command(place):
    words = ("--arch", "nose", "--epochs", 1, "--threads", 1, "--input-size", "32x32")
    done = run("train", *words, "-o", "shell.safetensors", "faces.jsonl", cwd=place)
    assert done.returncode == 0, done.stderr
    records = kp.read_records("faces.jsonl")
    ours = kp.train(records, arch="nose", epochs=1, threads=1, input_size=(32, 32))
    theirs = kp.load_checkpoint("shell.safetensors")
    assert ours.history == theirs.history
    assert ours.model == theirs.model
    assert all((ours.weights[name] == theirs.weights[name]).all() for name in theirs.weights)


def test_predictions_and_figures_are_those_of_the_commands(place):
    records = list(kp.read_records("faces.jsonl"))
    predicted = kp.predict("nose.safetensors", iter(records))
    shell = run("predict", "nose.safetensors", "faces.jsonl", cwd=place).stdout
    assert predicted == parse(shell)
    assert "pred" not in records[0]  # the caller's records stay as they are
    assert kp.evaluate(predicted) == parse(run("eval", stdin=shell).stdout)[0]
    report = kp.evaluate(predicted, norm="box", points="region:mouth", threshold=0.1)
    words = ("--norm", "box", "--points", "region:mouth", "--threshold", 0.1)
    assert report == parse(run("eval", *words, stdin=shell).stdout)[0]
    sure = kp.evaluate(predicted, min_score=0.2)
    assert sure == parse(run("eval", "--min-score", 0.2, stdin=shell).stdout)[0]


def test_a_picture_in_memory_gives_the_points_of_its_file(place):
    record = next(kp.read_records("faces.jsonl"))
    picture = np.asarray(Image.open(record["image"]))
    Image.fromarray(picture).save("same.png")
    (of_file,) = kp.predict("nose.safetensors", [record | {"image": "same.png"}])
    boxes = [record["box"], record["box"]]
    points = kp.predict("nose.safetensors", picture, boxes=boxes)
    assert points.shape == (2, 68, 2)
    assert np.abs(points[0] - np.array(of_file["pred"])).max() < 1e-4
    assert kp.predict("nose.safetensors", picture, boxes=[]).shape == (0, 68, 2)


def test_how_often_a_face_is_looked_at_is_as_the_command_has_it(place):
    record = next(kp.read_records("faces.jsonl"))
    (once,) = kp.predict("nose.safetensors", [record], passes=1, flip=False)
    (again,) = kp.predict("nose.safetensors", [record], passes=2, flip=True)
    words = ("nose.safetensors", "faces.jsonl", "--passes", 2, "--flip")
    of_command = parse(run("predict", *words, cwd=place).stdout)[0]
    assert np.abs(np.array(again["pred"]) - of_command["pred"]).max() < 1e-4
    assert np.abs(np.array(again["pred"]) - once["pred"]).max() > 0.01
    picture = np.asarray(Image.open(record["image"]))
    points = kp.predict("nose.safetensors", picture, boxes=[record["box"]], passes=2, flip=True)
    assert np.abs(points[0] - np.array(again["pred"])).max() < 1


def test_a_sheet_is_that_of_the_command(place):
    kp.draw(kp.read_records("faces.jsonl"), count=4, size=(96, 96)).save("python.png")
    words = ("grid", "--count", 4, "--size", "96x96", "-o", "shell.png", "faces.jsonl")
    assert run("viz", *words, cwd=place).returncode == 0
    assert (np.asarray(Image.open("python.png")) == np.asarray(Image.open("shell.png"))).all()


def test_a_face_that_fails_is_a_record_with_a_status(place, capsys):
    record = next(kp.read_records("faces.jsonl"))
    good, bad = kp.predict("nose.safetensors", [record, record | {"image": "gone.jpg"}])
    assert "status" not in good
    assert bad["status"] == "missing"
    assert "records:2: gone.jpg does not exist" in capsys.readouterr().err
    report = kp.evaluate([good, bad])
    assert (report["faces"], report["failed"]) == (2, 1)


def test_a_file_whose_records_cannot_be_made_does_not_appear(place):
    def records():
        yield from kp.read_records("faces.jsonl")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        kp.write_records(records(), "half.jsonl")
    assert not list(place.glob("half.jsonl*"))


@pytest.mark.parametrize(
    ("picture", "reason"),
    [
        (np.zeros((20, 30, 4), np.uint8), "of shape"),
        (np.zeros((20, 30, 3), np.float32), "float32"),
        (np.zeros((20, 30, 3), np.uint8), "the boxes of its faces"),
    ],
)
def test_what_is_no_picture_with_boxes_is_refused(place, picture, reason):
    from kptools.errors import UsageError

    boxes = None if picture.dtype == np.uint8 and picture.shape[2] == 3 else [(0, 0, 9, 9)]
    with pytest.raises(UsageError, match=reason):
        kp.predict("nose.safetensors", picture, boxes)


def test_python_m_kptools_lists_the_tools():
    done = subprocess.run([sys.executable, "-m", "kptools"], capture_output=True, text=True)
    assert done.returncode == 0
    from conftest import TOOLS

    assert all(f"kp-{tool} " in done.stdout for tool in TOOLS)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: kp.evaluate([], norm="inter-ocular"), "norm 'inter-ocular': one of interocular"),
        (lambda: kp.evaluate([], merge="average"), "merge 'average': one of mean, median"),
        (lambda: kp.evaluate([], threshold=-1), "more than 0"),
        (lambda: kp.evaluate([], min_score=2), "min_score 2: from 0 to 1"),
        (lambda: kp.predict("nose.safetensors", [], passes=3), "--passes 3: 1 or 2"),
        (lambda: kp.predict("nose.safetensors", [], batch_size=0), "at least 1"),
        (lambda: kp.predict("nose.safetensors", [], decode="dark"), "makes no heatmaps"),
        (lambda: kp.predict("nose.safetensors", [], device="gpu"), "one of auto, cpu, cuda, mps"),
        (lambda: kp.predict("nose.safetensors", [], precision="fp16"), "one of auto, fp32"),
        (lambda: kp.train([], arch="nose", margin=-0.1), "--margin -0.1: at least 0"),
        (lambda: kp.train([], arch="nose", keep="Best"), "one of best, last"),
        (lambda: kp.train([], arch="nose", average=2.0), "at most 0.9999"),
        (lambda: kp.train([], arch="nose", input_size=(4, 4)), "8 to 4096"),
        (lambda: kp.train([], arch="nose", batch_size=0), "at least 1"),
        (lambda: kp.train([], arch="nose", rate=0.1), "train has no argument rate"),
        (lambda: kp.train([], arch="nose", width=8), "--width is an option of unet"),
        (lambda: kp.train([], arch="unet", width=1.5), "a whole number is needed"),
        (lambda: kp.train([], arch="nose", resume=True), "name it with output"),
        (lambda: kp.train([], arch="nose"), "no record to train on"),
        (lambda: kp.load_checkpoint("faces.jsonl"), "no checkpoint"),
        (lambda: kp.draw([]), "no record to draw"),
        (lambda: list(kp.read_records("gone.jsonl")), "there is no file gone.jsonl"),
        (lambda: kp.write_records([{"a": {1}}], "set.jsonl"), "record 1 is not JSON"),
    ],
)
def test_what_cannot_be_is_an_error_of_one_line(place, call, reason):
    from kptools.errors import KptoolsError

    with pytest.raises(KptoolsError) as caught:
        call()
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "box", [(0, 0, 0, 9), (float("nan"), 0, 9, 9), (9, 9, 0, 0), 5, (900, 900, 990, 990)]
)
def test_a_box_that_is_none_is_named(place, box):
    from kptools.errors import UsageError

    picture = np.zeros((40, 50, 3), np.uint8)
    with pytest.raises(UsageError, match=r"boxes\[1\]: "):
        kp.predict("nose.safetensors", picture, boxes=[(0, 0, 30, 30), box])


def test_a_leak_between_train_and_val_is_reported(place, capsys):
    records = list(kp.read_records("faces.jsonl"))
    words = {"arch": "nose", "epochs": 1, "threads": 1, "input_size": (32, 32)}
    kp.train(records, val=records[:3], **words)
    assert "have the id of a face that is trained on" in capsys.readouterr().err


def test_a_network_that_is_changed_leaves_its_checkpoint_as_it_is(place):
    checkpoint = kp.load_checkpoint("nose.safetensors")
    before = {name: tensor.clone() for name, tensor in checkpoint.weights.items()}
    for parameter in checkpoint.network().parameters():
        parameter.data.zero_()
    assert all((checkpoint.weights[name] == tensor).all() for name, tensor in before.items())


def test_a_sheet_shows_a_face_whose_prediction_is_broken_as_a_blank(place):
    records = list(kp.read_records("faces.jsonl"))[:2]
    records[0]["pred"] = [None] * 68
    records[1]["pred"] = records[1]["points"]
    assert kp.draw(records).size[0] > 200
