"""The network in the box: kp-predict without a checkpoint, and kp-train --init box."""

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import parse, run

from kptools.errors import KptoolsError
from kptools.models import box, checkpoint
from kptools.storage.tensors import read_tensors
from kptools.training import settings
from kptools.training.start import inherited

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 6_000_000


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """Drawn faces that it has not seen."""
    out = tmp_path_factory.mktemp("faces")
    return run("prep", "synth", "--count", 16, "--seed", 5, "--out", out, "--split", "test").stdout


def nme(records):
    return json.loads(run("eval", stdin=records).stdout)["nme"]


def test_without_a_checkpoint_68_points_are_found(faces):
    done = run("predict", stdin=faces)
    assert done.returncode == 0
    (line,) = done.stderr.decode().splitlines()
    assert line == f"kp-predict: no checkpoint is named: {box.DESCRIPTION}"
    found = parse(done.stdout)
    assert all(len(r["pred"]) == len(r["score"]) == 68 for r in found)
    errors = [r["nme"] for r in parse(run("eval", "--records", stdin=done.stdout).stdout)]
    assert np.median(errors) < 0.06  # the mean shape: a quarter


def test_the_first_argument_is_a_checkpoint_exactly_if_it_ends_like_one(faces, tmp_path):
    (tmp_path / "faces.jsonl").write_bytes(faces)
    done = run("predict", tmp_path / "faces.jsonl")
    assert done.returncode == 0
    assert done.stdout == run("predict", stdin=faces).stdout
    done = run("predict", tmp_path / "none.safetensors", tmp_path / "faces.jsonl")
    assert done.returncode == 3
    assert b"none.safetensors" in done.stderr


def test_its_file_is_small_and_says_how_it_was_made():
    tensors, meta = read_tensors(box.path())
    assert Path(box.path()).stat().st_size <= MAX_BYTES
    assert meta["run"]["made_by"] == "sh examples/box.sh"
    assert meta["model"]["box_sources"] == ["detector:synth"]
    assert meta["model"]["scheme"] == "ibug68"
    assert meta["run"]["settings"]["weights"] == "none"  # from nothing
    dtypes = {t.dtype for t in tensors.values() if t.is_floating_point()}
    assert dtypes == {torch.float16}


def test_weights_in_half_precision_give_the_points_of_the_whole_ones(faces, tmp_path):
    whole = checkpoint.load(box.path())
    rng = torch.Generator().manual_seed(0)
    for tensor in whole.weights.values():  # so that they are no halves
        if tensor.is_floating_point():
            tensor.mul_(1 + 1e-4 * torch.rand(tensor.shape, generator=rng))
    whole.save(tmp_path / "whole.safetensors")
    box.pack(str(tmp_path / "whole.safetensors"), tmp_path / "half.safetensors")
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("half", "whole")]
    assert sizes[0] < 0.51 * sizes[1]
    points = [
        [r["pred"] for r in parse(run("predict", tmp_path / name, stdin=faces).stdout)]
        for name in ("half.safetensors", "whole.safetensors")
    ]
    assert np.abs(np.subtract(*points)).mean() < 0.1  # pixels


def test_training_goes_on_from_it_as_it_was_trained(faces, tmp_path):
    out = tmp_path / "mine.safetensors"
    options = ("--epochs", 1, "--lr", 1e-5, "--val-fraction", 0.25, "-o", out)
    lines = [record | {"split": "train"} for record in parse(faces)]
    done = run("train", "--init", "box", *options, stdin=lines, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert nme(done.stdout) < 1.3 * nme(run("predict", stdin=done.stdout).stdout)
    mine, theirs = (checkpoint.load(str(path)) for path in (out, box.path()))
    for name in ("arch", "head", "input", "passes"):
        assert getattr(mine.model, name) == getattr(theirs.model, name)
    assert mine.model.options == {**theirs.model.options, "shape_prior": 0.0}
    settings, before = mine.run["settings"], theirs.run["settings"]
    assert settings["optimizer"] == before["optimizer"]
    assert settings["schedule"] == [[1e-5, 1]]


def test_what_is_given_goes_before_what_it_was_trained_with():
    given = {"options": {"sigma": 2.0}, "optimizer": "adam", "lr": None, "head": "integral"}
    found = inherited(box.path(), given)
    assert found["arch"] == "unet"
    assert found["optimizer"] == "adam"
    assert "weight_decay" not in found  # which adam does not take
    assert "loss" not in found  # which is of another head
    theirs = checkpoint.load(box.path()).model.options
    of_faces = ("sigma", "shape_prior")  # the one is given, the other is of the faces of a run
    assert found["options"].pop("sigma") == 2.0
    assert found["options"] == {k: v for k, v in theirs.items() if k not in of_faces}
    assert settings.resolve(**inherited(box.path(), {"options": {}})).optimizer == "adamw"


def test_training_without_a_name_does_not_write_over_its_start(faces, tmp_path):
    (tmp_path / "unet.safetensors").write_bytes(Path(box.path()).read_bytes())
    done = run("train", "--init", "unet.safetensors", stdin=faces, cwd=tmp_path)
    assert done.returncode == 2
    assert b"name another file with -o" in done.stderr


def test_settings_that_are_none_are_one_line(tmp_path):
    loaded = checkpoint.load(box.path())
    for broken in ({"schedule": [1, 2]}, 5):
        loaded.run = {"settings": broken}
        loaded.save(tmp_path / "odd.safetensors")
        with pytest.raises(KptoolsError, match="its metadata is not kp-train's"):
            inherited(str(tmp_path / "odd.safetensors"), {"options": {}})


def test_a_package_without_it_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(box, "_FILE", tmp_path / "box.safetensors")
    with pytest.raises(KptoolsError, match="is missing; install kptools again"):
        box.path()


def test_the_wheel_holds_it_and_is_small(tmp_path):
    pytest.importorskip("setuptools", "77", reason="needs setuptools 77 to build a wheel")
    words = ["wheel", str(ROOT), "--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size <= 8_000_000
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {"kptools/models/box.safetensors", "kptools/datasets/synthetic/shape.json"} <= names
    assert {"kptools/models/MODEL_CARD.md", "kptools/models/box.card.md"} <= names
