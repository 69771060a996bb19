"""Checkpoints of earlier versions, those of kptools 0.1 (1 and 2) and 0.2 (4), load and predict the
same."""

import copy
from dataclasses import asdict

import numpy as np
import pytest
import torch
from conftest import parse, run, tiny_unet, untrained

from kptools.errors import KptoolsError
from kptools.models import build, checkpoint, metadata
from kptools.specs import InputSpec, ModelSpec
from kptools.storage.tensors import write_tensors

# as 0.1 wrote them, but for the mean shape, of which one point of 68 is here
UNET = {
    "history": [{"epoch": 1, "lr": 0.001, "train_loss": 0.25, "val_loss": 0.25, "val_nme": 1.2}],
    "model": {
        "arch": "unet",
        "box_sources": ["detector:synth"],
        "count": 68,
        "grey": False,
        "heatmap": True,
        "input": [72, 64],
        "margin": 0.25,
        "mean": [[-0.011, 0.251]],
        "normalization": None,
        "scheme": "ibug68",
        "sigma": 1.5,
        "stride": 2,
        "width": 4,
    },
    "run": {
        "fingerprint": "e620e96b930bb6b2235a90684923185e",
        "settings": {
            "arch": "unet",
            "average": 0.98,
            "batch": 4,
            "grey": False,
            "init": "",
            "input": [72, 64],
            "keep": "best",
            "loss": "bce",
            "margin": 0.25,
            "normalization": None,
            "pos_weight": 3.0,
            "precision": "bf16",
            "schedule": [[0.001, 2]],
            "seed": 0,
            "sigma": 1.5,
            "stride": 2,
            "threads": 1,
            "weights": "none",
            "width": 4,
        },
    },
    "version": 1,
}
NOSE = {
    "history": [],
    "model": {
        "arch": "nose",
        "box_sources": ["detector:synth"],
        "count": 68,
        "grey": True,
        "heatmap": False,
        "input": [80, 60],
        "margin": 0.0,
        "mean": [[-0.011, 0.251]],
        "normalization": None,
        "scheme": "ibug68",
        "sigma": 1.0,
        "stride": 1,
        "width": 64,
    },
    "run": {"fingerprint": "94a314161c06bad1692abe02b80d0fbb", "settings": {"sigma": 1.0}},
    "version": 1,
}


def written(path, meta):
    """A checkpoint of 0.1, and the network in it."""
    meta = copy.deepcopy(meta)
    meta["model"]["mean"] *= 68
    m = meta["model"]
    torch.manual_seed(0)
    options = {"width": m["width"], "stride": m["stride"]} if m["heatmap"] else {}
    network = build.build(m["arch"], 68, tuple(m["input"]), options)
    names = {name: name.removeprefix("backbone.") for name in network.state_dict()}
    old = {names[name]: tensor for name, tensor in network.state_dict().items()}
    write_tensors(path, old if m["heatmap"] else network.state_dict(), meta)
    return network


@pytest.mark.parametrize("meta", [UNET, NOSE], ids=["unet", "nose"])
def test_a_checkpoint_of_version_1_says_what_it_said(tmp_path, meta):
    written(tmp_path / "old.safetensors", meta)
    model = checkpoint.load_model(str(tmp_path / "old.safetensors"))
    old = meta["model"]
    assert (model.arch, model.scheme, model.count) == (old["arch"], "ibug68", 68)
    assert model.input.size == tuple(old["input"])
    assert (model.input.margin, model.input.grey) == (old["margin"], old["grey"])
    wanted = {"width": 4, "stride": 2, "sigma": 1.5, "pos_weight": 3.0, "shape_prior": 0.0}
    assert model.options == (wanted if old["heatmap"] else {})


def test_what_the_first_checkpoints_of_0_1_left_out_is_as_it_was(tmp_path):
    meta = copy.deepcopy(UNET)
    del meta["model"]["sigma"], meta["model"]["normalization"]
    written(tmp_path / "old.safetensors", meta)
    model = checkpoint.load_model(str(tmp_path / "old.safetensors"))
    assert model.options["sigma"] == 1.5  # of the settings of its run
    assert model.input.normalization is None


@pytest.mark.parametrize("meta", [UNET, NOSE], ids=["unet", "nose"])
def test_a_checkpoint_of_version_1_predicts_as_one_of_version_2(tmp_path, meta):
    written(tmp_path / "old.safetensors", meta)
    loaded = checkpoint.load(str(tmp_path / "old.safetensors"))
    loaded.save(tmp_path / "new.safetensors")
    assert checkpoint.load(str(tmp_path / "new.safetensors")).model == loaded.model
    faces = run("prep", "synth", "--count", 3, "--out", tmp_path / "f").stdout
    old, new = (
        parse(run("predict", tmp_path / f"{name}.safetensors", "--threads", 1, stdin=faces).stdout)
        for name in ("old", "new")
    )
    assert old == new
    assert np.isfinite([record["pred"] for record in old]).all()


@pytest.mark.parametrize(
    ("key", "value"),
    [("width", 0), ("stride", 3), ("sigma", -1.0), ("input", [2, 2]), ("mean", []), ("arch", 7)],
)
def test_a_description_out_of_bounds_is_refused(tmp_path, key, value):
    meta = copy.deepcopy(UNET)
    written(tmp_path / "old.safetensors", meta)
    network = build.build("unet", 68, (72, 64), {"width": 4, "stride": 2})
    meta["model"]["mean"] *= 68
    meta["model"][key] = value
    write_tensors(tmp_path / "bad.safetensors", network.state_dict(), meta)
    with pytest.raises(KptoolsError, match="its metadata is not kp-train's"):
        checkpoint.load_model(str(tmp_path / "bad.safetensors"))


def test_another_version_is_refused(tmp_path):
    write_tensors(tmp_path / "m.safetensors", {}, NOSE | {"version": 7})
    with pytest.raises(KptoolsError, match="of version 7; this kptools reads versions 1 to 6"):
        checkpoint.load_model(str(tmp_path / "m.safetensors"))


def test_a_network_on_a_pyramid_of_version_3_is_refused(tmp_path):
    """It was written for a day of development, and its maps' channels lay otherwise."""
    meta = {"version": 3, "model": {"arch": "resnet18", "head": "heatmap"}}
    write_tensors(tmp_path / "m.safetensors", {}, meta)
    with pytest.raises(KptoolsError, match="early development version; train it again"):
        checkpoint.load_model(str(tmp_path / "m.safetensors"))


# Version 2, which had no scores of points, and in which a U-Net was not made of parts


def of_version_2(path, network, model):
    """The weights and the description as version 2 had them."""
    described = asdict(model)
    for name in ("head", "passes", "flip"):
        del described[name]
    del described["input"]["focus"]
    weights = {
        name.removeprefix("backbone."): tensor
        for name, tensor in network.state_dict().items()
        if "distance" not in name
    }
    write_tensors(path, weights, {"version": 2, "model": described, "history": [], "run": {}})
    return checkpoint.load(str(path))


def test_a_network_of_points_of_version_2_predicts_the_same_without_scores(tmp_path, face, quick):
    new = checkpoint.load(str(untrained(tmp_path / "new.safetensors")))
    network = new.network()
    torch.nn.init.ones_(network.head.distance_weight)
    checkpoint.save(
        tmp_path / "new.safetensors", checkpoint.Checkpoint(new.model, network.state_dict())
    )
    old = of_version_2(tmp_path / "old.safetensors", network, new.model)
    assert old.model == new.model
    with_scores, without = (
        parse(quick("predict", tmp_path / f"{name}.safetensors", stdin=[face(0)]).stdout)[0]
        for name in ("new", "old")
    )
    assert len(with_scores.pop("score")) == 68
    assert np.allclose(without.pop("pred"), with_scores.pop("pred"), atol=1e-4)
    assert without == with_scores


def test_a_unet_of_version_2_gives_the_same_maps(tmp_path):
    network, model = tiny_unet(tmp_path)
    old = of_version_2(tmp_path / "old.safetensors", network, model)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(old.network()(x), network.eval()(x))
    assert old.model.options == {
        "width": 2,
        "stride": 2,
        "sigma": 1.0,
        "pos_weight": 1.0,
        "shape_prior": 0.0,
    }
    old.save(tmp_path / "new.safetensors")  # as version 6
    new = checkpoint.load(str(tmp_path / "new.safetensors"))
    assert torch.equal(new.network()(x), old.network()(x))


# Versions 4 and 5, whose networks of points did not look at them again, or to score them alone


@pytest.mark.parametrize(("version", "visibility"), [(4, False), (4, True), (5, False), (5, True)])
def test_a_network_of_points_on_parts_predicts_the_same(tmp_path, version, visibility):
    size = (64, 64)
    torch.manual_seed(1)
    network = build.build("tiny", 68, size, head="points", visibility=visibility)
    head = network.head.main if visibility else network.head
    torch.nn.init.normal_(head.distance_weight, std=0.1)  # and what looks again adds nothing yet
    if version == 5:
        torch.nn.init.normal_(head.local_output, std=0.1)
    lacking = (".step_", ".local_")[: 6 - version]
    mean = ((0.5, 0.5),) * 68
    spec = InputSpec(size, 0.15, False, None)
    model = ModelSpec("tiny", "ibug68", 68, spec, (), mean, {}, "points", visibility=visibility)
    weights = {
        n: t for n, t in network.state_dict().items() if not any(part in n for part in lacking)
    }
    meta = {"version": version, "model": metadata.described(model), "history": [], "run": {}}
    write_tensors(tmp_path / "old.safetensors", weights, meta)
    x = torch.randn(2, 3, 64, 64)
    first, second = (checkpoint.load(str(tmp_path / "old.safetensors")) for _ in range(2))
    assert all(torch.equal(t, second.weights[n]) for n, t in first.weights.items())
    found = first.network().head.decode(first.network()(x))
    there = network.eval().head.decode(network(x))
    assert np.array_equal(found.points, there.points)
    assert np.array_equal(found.scores, there.scores)
