"""Networks as ONNX files: the same points without kptools, and without PyTorch."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import parse, run, untrained

from kptools.inference.export import Graph, export
from kptools.models import box, build, checkpoint
from kptools.models.checkpoint import Checkpoint
from kptools.models.codecs import heatmap
from kptools.models.metadata import VERSION
from kptools.specs import InputSpec, ModelSpec

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")

DOCS = Path(__file__).parents[1] / "docs" / "networks.md"
(ALONE,) = (
    code
    for code in re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.S)
    if "onnxruntime" in code
)
NETWORKS = {
    "nose": ("points", (40, 30), {}),
    "tiny": ("points", (64, 64), {}),
    "resnet18": ("integral", (64, 64), {}),
    "unet": ("heatmap", (64, 64), {"width": 2, "stride": 2}),
}  # the whole table: tests/benchmarks/onnx_export.py


def network_of(arch: str) -> Checkpoint:
    head, size, options = NETWORKS[arch]
    torch.manual_seed(0)
    network = build.build(arch, 68, size, options, head=head)
    if head == "points":  # without such weights they give no scores
        torch.nn.init.normal_(network.head.distance_weight, std=0.1)
        if arch == "tiny":
            for weights in (network.head.local_output, network.head.step_mixing):
                torch.nn.init.normal_(weights, std=0.1)
            torch.nn.init.normal_(network.head.step_output, std=0.01)
    grey = arch in ("nose", "face")
    model = ModelSpec(
        arch=arch,
        scheme="ibug68",
        count=68,
        input=InputSpec(size, 0.0, grey=grey),
        box_sources=("dataset",),
        mean=((0.5, 0.5),) * 68,
        options=options,
        head=head,
    )
    return Checkpoint(model, network.state_dict())


def session(path):
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("arch", NETWORKS)
def test_the_file_gives_what_the_network_gives(arch, tmp_path):
    made = network_of(arch)
    export(made, tmp_path / "m.onnx")
    channels, (width, height) = made.model.input.channels, made.model.input.size
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, channels, height, width)).astype(np.float32)
    points, scores = session(tmp_path / "m.onnx").run(None, {"pixels": pixels})
    with torch.inference_mode():
        wanted = Graph(made.network(), made.model.input).eval()(torch.from_numpy(pixels))
    np.testing.assert_allclose(points, wanted[0], atol=1e-4)
    np.testing.assert_allclose(scores, wanted[1], atol=1e-4)
    assert points.shape == (3, 68, 2)
    assert scores.shape == (3, 68)


def test_its_points_are_those_of_kp_predict(tmp_path, box_onnx):
    faces = parse(run("prep", "synth", "--count", 3, "--out", tmp_path / "f").stdout)
    words = ("--passes", 1, "--no-flip", "--no-shape-prior", "--decode", "softargmax")
    predicted = run("predict", *words, "--precision", "fp32", stdin=faces)
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    for record in parse(predicted.stdout):
        words = (record["image"], *map(str, record["box"]))
        alone = subprocess.run(
            [sys.executable, script, box_onnx, *words], capture_output=True, check=True
        )
        off = np.subtract(json.loads(alone.stdout), record["pred"])
        assert np.linalg.norm(off, axis=1).mean() < 0.4  # pixels of some 250: another resampling


def test_it_says_what_it_is(box_onnx):
    meta = json.loads(session(box_onnx).get_modelmeta().custom_metadata_map["kptools"])
    assert meta["version"] == VERSION
    model = meta["model"]
    assert model["scheme"] == "ibug68"
    assert model["input"]["size"] == list(checkpoint.load_model(box.path()).input.size)
    assert len(model["mean"]) == 68


@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (("--export", "m.bin"), 2, b"the name of an ONNX file ends in .onnx"),
        (("--export", "m.onnx", "faces.jsonl"), 2, b"reads no records; leave faces.jsonl out"),
        (("--export", "m.onnx", "--flip"), 2, b"--flip: --export reads no records; leave it out"),
        (("--export", "m.onnx", "-o", "x.jsonl"), 2, b"--output: --export reads no records"),
        (("--export", "nowhere/m.onnx"), 3, b"cannot write nowhere/m.onnx"),
    ],
)
def test_what_it_cannot_do_is_one_line(words, status, reason, tmp_path, monkeypatch, quick):
    monkeypatch.chdir(tmp_path)
    done = quick("predict", *words)
    assert done.returncode == status
    assert reason in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_what_the_file_leaves_out_is_said(box_onnx):
    said = box_onnx.with_suffix(".txt").read_text()
    assert "looks at a face once, without the second pass, the mirror image" in said


def test_a_head_that_no_graph_can_decode_is_one_line(tmp_path, monkeypatch, quick):
    monkeypatch.delattr("kptools.models.heads.points.PointsHead.decode_in_graph")
    done = quick("predict", untrained(tmp_path / "n.safetensors"), "--export", tmp_path / "n.onnx")
    assert done.returncode == 3
    assert b"points is a head that no graph can decode" in done.stderr


def test_a_network_without_scores_has_none_in_its_file(tmp_path):
    made = checkpoint.load(str(untrained(tmp_path / "n.safetensors")))
    export(made, tmp_path / "n.onnx")
    assert [output.name for output in session(tmp_path / "n.onnx").get_outputs()] == ["points"]


@pytest.mark.parametrize("level", [0.0, -200.0, 30.0])
def test_maps_are_read_in_a_graph_as_by_softargmax(level):
    rng = np.random.default_rng(0)
    z = torch.from_numpy(level + 4 * rng.standard_normal((3, 20, 12, 16)))
    z[0, 0, 0, 0] = z[0, 1, 11, 15] = z[0, 2, 0, 8] = level + 30  # at edges
    points, scores = heatmap.softargmax_in_graph(z)
    wanted, sure = heatmap.decode(z, "softargmax")
    np.testing.assert_allclose(scores, sure, atol=1e-9)
    np.testing.assert_allclose(points, wanted, atol=1e-5 if level > -100 else 0.02)


def test_without_the_exporter_it_says_what_to_install(tmp_path, monkeypatch, quick):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    done = quick("predict", untrained(tmp_path / "n.safetensors"), "--export", tmp_path / "n.onnx")
    assert done.returncode == 3
    assert b"pip install onnx onnxscript" in done.stderr
    assert not (tmp_path / "n.onnx").exists()
