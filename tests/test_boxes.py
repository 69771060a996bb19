"""Box maps: the part of a box that a face fills, and from one source's boxes to another's."""

import json
from dataclasses import replace

import numpy as np
import pytest
from conftest import parse, run, untrained

from kptools import geometry as g
from kptools.datasets import box_maps
from kptools.datasets.box_maps import Fit, convert
from kptools.models import checkpoint
from kptools.records.face import Face
from kptools.schemes import catalog
from kptools.specs import InputSpec, ModelSpec


def test_a_fit_finds_the_part_of_the_box_that_the_points_fill():
    rng = np.random.default_rng(0)
    fit = Fit()
    for _ in range(50):
        x, y, side = rng.uniform((0, 0, 50), (500, 400, 200))
        corners = np.array([(x + 0.1 * side, y + 0.2 * side), (x + 0.9 * side, y + 1.1 * side)])
        fit.add((x, y, x + side, y + side), corners)
    np.testing.assert_allclose(fit.part(), (0.1, 0.2, 0.9, 1.1), atol=0.02)  # and half a pixel
    assert fit.spread() < 0.01


def test_a_box_is_mapped_to_another_source_and_back(monkeypatch: pytest.MonkeyPatch):
    parts = {"a": (0.0, 0.25, 1.0, 1.0), "b": (0.25, 0.0, 0.75, 0.5)}
    monkeypatch.setattr(box_maps, "PARTS", parts)
    # the face fills (10, 25) to (110, 100): half of b's width, and the upper half of its height
    assert convert((10, 0, 110, 100), "a", "b") == (-40, 25, 160, 175)
    assert convert((-40, 25, 160, 175), "b", "a") == pytest.approx((10, 0, 110, 100))


def test_fit_boxes_says_for_each_source_which_part_faces_fill(drawn):
    records = parse(drawn)
    others = [
        record | {"id": f"other-{i}", "box_source": "image", "box": [0, 0, 100, 100]}
        for i, record in enumerate(records)
    ]
    failed = [{"id": "x", "image": "gone.jpg", "status": "missing", "error": "it is not there"}]
    result = run("prep", "fit-boxes", stdin=records + others + failed)
    assert result.returncode == 1, result.stderr
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["box_source"] for line in found] == ["detector:synth", "image"]
    assert [line["faces"] for line in found] == [len(records), len(records)]
    left, top, right, bottom = found[0]["face"]
    assert -0.3 < left < 0.3
    assert 0.7 < right < 1.3
    assert top < bottom


def test_a_record_without_points_is_reported_and_fits_nothing(drawn):
    (first, *rest) = parse(drawn)
    del first["points"]
    result = run("prep", "fit-boxes", stdin=[first, *rest])
    assert result.returncode == 1
    assert json.loads(result.stdout)["faces"] == len(rest)
    assert result.stderr.decode().startswith("stdin:1: ")


def trained_on(path, source):
    """An untrained network, of which its checkpoint says that it knows these boxes."""
    loaded = checkpoint.load(str(untrained(path)))
    loaded.model = replace(loaded.model, box_sources=(source,))
    loaded.save(path)
    return path


def test_boxes_of_another_known_source_are_mapped_to_those_of_the_training(drawn, tmp_path):
    model = trained_on(tmp_path / "m.safetensors", "detector:dlib-frontal")
    records = [record | {"box_source": "detector:yunet"} for record in parse(drawn)[:3]]
    mapped = [
        record
        | {"box": list(convert(tuple(record["box"]), "detector:yunet", "detector:dlib-frontal"))}
        | {"box_source": "detector:dlib-frontal"}
        for record in records
    ]
    done, expected = run("predict", model, stdin=records), run("predict", model, stdin=mapped)
    assert done.stderr.decode().splitlines() == [
        "kp-predict: stdin:1: boxes of detector:yunet are mapped to those of detector:dlib-frontal"
    ]
    assert expected.stderr == b""
    for one, other in zip(parse(done.stdout), parse(expected.stdout), strict=True):
        assert one["box"] != other["box"]  # the record keeps its own
        for key in ("pred", "mean"):
            np.testing.assert_allclose(one[key], other[key], atol=1e-3)


def test_boxes_of_which_no_map_is_known_are_reported_and_taken_as_they_are(drawn, tmp_path):
    model = trained_on(tmp_path / "m.safetensors", "detector:dlib-frontal")
    records = parse(drawn)[:2]
    mine = run("predict", model, stdin=[record | {"box_source": "mine"} for record in records])
    assert b"no map between the two is known" in mine.stderr
    assert len(mine.stderr.splitlines()) == 1
    own = [record | {"box_source": "detector:dlib-frontal"} for record in records]
    found = parse(run("predict", model, stdin=own).stdout)
    assert [r["pred"] for r in parse(mine.stdout)] == [r["pred"] for r in found]


def test_the_box_of_a_turned_face_is_mapped_upright():
    """As it is for the upright face, turned about the middle of the first box."""
    box = (10.0, 20.0, 110.0, 140.0)
    model = ModelSpec("nose", "ibug68", 68, InputSpec((8, 8), 0, True), ("points",), ((0, 0),) * 68)
    record = {"image": "a.png", "box": list(box), "box_source": "detector:yunet"}
    upright = box_maps.reframed(Face.parse(record), model)
    assert upright.box == convert(box, "detector:yunet", "points")
    # the same face, a quarter turned: what lies below its middle upright lies to the left of it
    x0, y0, x1, y1 = (10.0, 20.0, 130.0, 120.0)
    turned = box_maps.reframed(Face.parse(record | {"box": [x0, y0, x1, y1], "roll": 90}), model)
    below = np.subtract(g.centre(upright.box), g.centre(box))
    beside = np.subtract(g.centre(turned.box), g.centre((x0, y0, x1, y1)))
    np.testing.assert_allclose(beside, (-below[1], below[0]), atol=1e-9)
    np.testing.assert_allclose(g.side(turned.box), g.side(upright.box))


@pytest.mark.parametrize(("scheme", "mapped"), [("ibug68", True), ("cofw29", False)])
def test_tight_boxes_are_mapped_for_the_scheme_of_the_maps_alone(scheme, mapped):
    count = catalog.get(scheme).count
    mean = ((0.0, 0.0),) * count
    model = ModelSpec("nose", scheme, count, InputSpec((8, 8), 0, True), ("points",), mean)
    assert box_maps.known_target(model, "detector:yunet") == ("points" if mapped else None)
    of_dlib = replace(model, box_sources=("detector:dlib-frontal",))
    assert box_maps.known_target(of_dlib, "detector:yunet") == "detector:dlib-frontal"
    assert box_maps.known_target(of_dlib, "points") == ("detector:dlib-frontal" if mapped else None)


def test_a_sheet_of_what_a_network_sees_shows_the_mapped_box(drawn, tmp_path):
    model = trained_on(tmp_path / "m.safetensors", "detector:synth")
    records = parse(drawn)[:2]
    sheets = []
    for source in ("detector:synth", "detector:yunet"):
        named = [record | {"box_source": source} for record in records]
        out = tmp_path / f"{source[9:]}.png"
        assert run("viz", "grid", "--ckpt", model, "-o", out, stdin=named).returncode == 0
        sheets.append(out.read_bytes())
    assert sheets[0] != sheets[1]
