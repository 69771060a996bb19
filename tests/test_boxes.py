"""Box maps: the part of a box that a face fills, and from one source's boxes to another's."""

import json

import numpy as np
import pytest
from conftest import parse, run

from kptools.datasets import box_maps
from kptools.datasets.box_maps import Fit, convert


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
