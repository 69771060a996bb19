"""Hidden points: learnt from `visible`, predicted as `pred_visible`, and scored."""

import numpy as np
import pytest
import torch
from conftest import parse
from PIL import Image, ImageDraw

from kptools import geometry as g
from kptools.augment.transform import Transform
from kptools.evaluation.hidden import BINS, HiddenTally
from kptools.models import build, checkpoint
from kptools.records.face import Face
from kptools.schemes import catalog
from kptools.specs import InputSpec
from kptools.training.training_set import labels
from kptools.viz.faces import layers
from kptools.viz.views import View, show

NOSE = ("--arch", "nose", "--input-size", "32x32", "--threads", 1, "--device", "cpu")


def average_precision(visible, predicted):
    """By its definition, a rank after the other; probabilities in 16 bits."""
    said = np.minimum(np.floor(np.array(predicted) * BINS), BINS - 1)
    hidden = np.array(visible) == 0
    total = before = 0.0
    for level in sorted(set(said)):  # the most probably hidden first
        ranked = said <= level
        recall = hidden[ranked].sum() / hidden.sum()
        total += (recall - before) * hidden[ranked].mean()
        before = recall
    return total


def test_the_average_precision_is_that_of_its_definition():
    rng = np.random.default_rng(0)
    visible = (rng.random(3000) < 0.8).astype(float)
    predicted = np.clip(visible * 0.3 + rng.random(3000) * 0.7, 0, 1).round(2)  # with ties
    tally = HiddenTally()
    for part in range(3):
        some = slice(part * 1000, part * 1000 + 1000)
        tally.add(visible[some], predicted[some])
    found = tally.report()
    assert found["hidden_ap"] == pytest.approx(average_precision(visible, predicted), abs=1e-6)
    assert found["hidden_share"] == pytest.approx(1 - visible.mean())


def test_a_constant_comes_to_chance_and_a_perfect_ranking_to_one():
    visible = np.array([0, 1, 1, 1, np.nan])
    for predicted, wanted in ((np.full(5, 0.9), 0.25), (np.array([0.1, 0.9, 1, 0.5, 0]), 1.0)):
        tally = HiddenTally()
        tally.add(visible, predicted)
        assert tally.report()["hidden_ap"] == wanted
    tally = HiddenTally()
    tally.add(np.ones(3), np.ones(3))
    assert tally.report() == {}


def scores(quick, records, *words, status=0):
    """The report of kp-eval."""
    done = quick("eval", *words, stdin=records)
    assert done.returncode == status, done.stderr
    return parse(done.stdout)[0]


def _record(face, **keys):
    """A face with a prediction; every fourth point is hidden, and the first not annotated."""
    record = face(0)
    record["points"][0] = None
    visible = [int(i % 4 > 0) for i in range(68)]
    return record | {"pred": [[20.0, 20.0]] * 68, "visible": visible} | keys


def test_the_report_has_it_where_truth_and_prediction_are_there(face, quick):
    said = np.random.default_rng(0).random(68).tolist()
    whole = _record(face, pred_visible=said)
    report = scores(quick, [whole, _record(face)])
    visible = whole["visible"]
    assert report["hidden_ap"] == pytest.approx(average_precision(visible[1:], said[1:]), abs=1e-6)
    assert report["hidden_share"] == pytest.approx(16 / 67)
    nose = scores(quick, [whole], "--points", "27-35")
    assert nose["hidden_ap"] == pytest.approx(average_precision(visible[27:36], said[27:36]))
    for without in ("visible", "pred_visible"):
        some = {key: value for key, value in whole.items() if key != without}
        assert "hidden_ap" not in scores(quick, [some])
    assert scores(quick, [whole], "--fail-if", "hidden_ap<0.99", status=4)["faces"] == 1
    assert scores(quick, [whole], "--fail-if", "hidden_ap<0.01")["faces"] == 1


def _boxes(folder, count):
    """Pictures of a square at a random place; over one of its corners lies a disc, or not."""
    rng = np.random.default_rng(1)
    for number in range(count):
        x, y = (float(v) for v in rng.uniform(14, 20, 2))
        picture = Image.new("L", (48, 48), 60)
        pen = ImageDraw.Draw(picture)
        corners = [[x, y], [x + 16, y], [x, y + 16]]
        pen.rectangle((x, y, x + 16, y + 16), 220)
        visible = [1, 1, 1]
        if number % 2:
            hidden = int(rng.integers(3))
            visible[hidden] = 0
            (a, b) = corners[hidden]
            pen.ellipse((a - 5, b - 5, a + 5, b + 5), 0)
        picture.save(folder / f"{number}.png")
        yield {
            "image": str(folder / f"{number}.png"),
            "id": str(number),
            "size": [48, 48],
            "box": [-0.5, -0.5, 47.5, 47.5],
            "box_source": "image",
            "points": corners,
            "visible": visible,
            "scheme": "ibug68:36,45,33",
            "split": "val" if number % 4 > 1 else "train",
        }


def test_hidden_points_are_learnt_and_the_points_too(quick, tmp_path):
    faces = list(_boxes(tmp_path, 128))
    found = []
    for words in ((), ("--visibility",)):
        options = (*NOSE, "--epochs", 12, "--lr", "3e-3", "--keep", "last")
        done = quick("train", *options, *words, "-o", tmp_path / "m.safetensors", stdin=faces)
        assert done.returncode == 0, done.stderr
        found.append(parse(done.stdout))
    plain, both = found
    report = scores(quick, both)
    assert report["nme"] < 1.3 * scores(quick, plain)["nme"]
    assert report["hidden_share"] < 0.2
    assert report["hidden_ap"] > 0.4
    for before, after in zip(plain, both, strict=True):
        assert "pred_visible" not in before
        assert len(after["pred_visible"]) == 3
        assert all(0 <= value <= 1 for value in after["pred_visible"])
    again = quick("predict", tmp_path / "m.safetensors", stdin=both)
    for one, other in zip(both, parse(again.stdout), strict=True):
        assert np.allclose(one["pred_visible"], other["pred_visible"], atol=1e-4)


def test_faces_without_visible_have_no_say(quick, few, tmp_path):
    faces = [{k: v for k, v in r.items() if k != "visible"} for r in few]
    words = (*NOSE, "--epochs", 1, "--visibility", "-o", tmp_path / "m.safetensors")
    done = quick("train", *words, stdin=faces)
    assert done.returncode == 0, done.stderr
    assert np.allclose([r["pred_visible"] for r in parse(done.stdout)], 0.9)
    weights = checkpoint.load(str(tmp_path / "m.safetensors")).weights
    assert not weights["head.weight"].any()


@pytest.mark.parametrize("head", ["heatmap", "integral", "points"])
def test_each_head_has_it_and_gives_the_rest_as_before(head):
    torch.manual_seed(0)
    network = build.build("tiny", 4, (64, 64), head=head, visibility=True).eval()
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        output = network(x)
        found = network.head.decode(output)
        assert np.array_equal(found.points, network.head.main.decode(output[0]).points)
    assert found.visible.shape == (2, 4)
    truth = np.random.default_rng(0).random((2, 4, 3))
    truth[..., 2] = [[1, 0, np.nan, 1], [0, 0, 1, np.nan]]
    name = next(iter(build.heads.get(head).losses))
    output = network(x)
    loss = network.head.loss(output, truth, build.criterion(head, name))
    plain = network.head.main.loss(output[0], truth[..., :2].copy(), build.criterion(head, name))
    assert float(loss.mean.detach()) == pytest.approx(float(plain.mean.detach()))
    loss.mean.backward()
    assert network.head.weight.grad.abs().sum(dim=1).min() > 0


def test_a_mirror_image_renames_and_what_is_erased_is_hidden(face):
    record = face(0, visible=[int(i != 0) for i in range(68)])
    swap = catalog.get("ibug68").swap
    seen = Face.parse(record).annotated(visibility=True)
    spec = InputSpec((32, 32), 0.0, grey=True)
    flip = Transform(g.scaling(-1, 1), flipped=True, swap=swap, is_identity=False)
    assert labels(seen, flip, spec)[:, 2].argmin() == swap[0] == 16
    x, y = record["points"][5]
    erase = Transform(erased=[(x - 1, y - 1, x + 1, y + 1)])
    assert np.flatnonzero(labels(seen, erase, spec)[:, 2] == 0).tolist() == [0, 5]


def test_a_mirror_image_comes_back_under_the_records_names(quick, few, tmp_path):
    path = tmp_path / "m.safetensors"
    done = quick("train", *NOSE, "--epochs", 1, "--visibility", "-o", path, stdin=few)
    assert done.returncode == 0, done.stderr
    loaded = checkpoint.load(str(path))
    for index in range(68):  # each point has a number of its own, whatever is seen
        loaded.weights["head.bias"][index] = index / 34 - 1
    loaded.weights["head.weight"].zero_()
    loaded.save(path)
    flip = [{"flip": 1, "seed": 0}]
    done = quick("predict", path, stdin=[few[0], few[0] | {"augment": flip}])
    plain, mirrored = (record["pred_visible"] for record in parse(done.stdout))
    swap = catalog.get("ibug68").swap
    assert plain == sorted(plain)
    assert mirrored == [plain[i] for i in swap]
    both = parse(quick("predict", path, "--flip", stdin=[few[0]]).stdout)[0]["pred_visible"]
    assert np.allclose(both, (np.array(plain) + np.array(mirrored)) / 2)
    mean = parse(quick("predict", path, path, stdin=[few[0]]).stdout)[0]
    assert np.allclose(mean["pred_visible"], plain)


def test_a_checkpoint_without_it_can_be_gone_on_from(quick, few, tmp_path):
    for words in ((), ("--visibility", "--init", tmp_path / "m.safetensors")):
        common = (*NOSE[2:], "--epochs", 1, "--seed", 3)
        arch = () if words else NOSE[:2]
        out = tmp_path / ("n.safetensors" if words else "m.safetensors")
        done = quick("train", *arch, *common, *words, "-o", out, stdin=few)
        assert done.returncode == 0, done.stderr
    before, after = (checkpoint.load(str(tmp_path / f"{n}.safetensors")) for n in "mn")
    assert len(after.history) == 2
    assert after.model.visibility
    assert after.weights.keys() > {"head.main.mean", "head.weight", "features.0.weight"}
    near = after.weights["features.0.weight"] - before.weights["features.0.weight"]
    assert near.abs().max() < 0.02  # a step or two from there
    words = (*NOSE, "--epochs", 1, "--init", tmp_path / "n.safetensors")
    done = quick("train", *words, "-o", tmp_path / "o.safetensors", stdin=few)
    assert done.returncode == 3
    assert b"has visibility True, this run False" in done.stderr


def test_a_network_of_two_outputs_refuses_it(quick, few, tmp_path):
    words = ("--arch", "inception_v3", "--weights", "none", "--visibility", "--threads", 1)
    done = quick("train", *words, "-o", tmp_path / "m.safetensors", stdin=few)
    assert done.returncode == 2
    assert b"--visibility is not for networks of two outputs" in done.stderr


def test_points_that_are_said_to_be_hidden_are_rings(face):
    record = _record(face, pred_visible=[0.2] * 34 + [0.8] * 34)
    _, predicted = layers(record, show(Face.parse(record), View((96, 96))))
    assert list(predicted.visible) == [False] * 34 + [True] * 34
