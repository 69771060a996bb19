"""Policies: what is sampled, and what it depends on."""

import math
import random

import numpy as np
import pytest
from conftest import parse, run

from kptools import geometry as g
from kptools import specs
from kptools.augment.sample import sample
from kptools.augment.transform import Transform
from kptools.pixels.crop_spec import crop_spec
from kptools.records.face import Face
from kptools.records.policy import OPERATIONS, PRESETS

BOX = [10.0, 20.0, 50.0, 80.0]


def record(name="a", **stage):
    stages = [{"seed": 0, **stage}]
    return {"image": "a.png", "id": name, "box": BOX, "scheme": "nose1", "augment": stages}


def sampled(record, epoch) -> Transform:
    return sample(Face.parse(record), epoch)


def test_a_draw_depends_on_its_key_and_nothing_else():
    policy = {"rotate": 30, "scale": 0.2, "shift": 0.1, "flip": 0.5, "brightness": 0.2}
    names = [f"face{i}" for i in range(20)]
    first = {n: sampled(record(n, **policy), 3) for n in names}
    again = {n: sampled(record(n, **policy), 3) for n in reversed(names)}
    for name in names:
        assert np.array_equal(first[name].matrix, again[name].matrix)
        assert np.array_equal(first[name].colour, again[name].colour)
    matrices = {tuple(t.matrix.ravel()) for t in first.values()}
    assert len(matrices) == len(names)
    assert not np.array_equal(sampled(record("face0", **policy), 4).matrix, first["face0"].matrix)
    other = record("face0", **policy) | {"copy": 1}
    assert not np.array_equal(sampled(other, 3).matrix, first["face0"].matrix)


def test_an_operation_added_leaves_the_others_draws_as_they_were():
    plain = sampled(record(rotate=30), 0).matrix
    more = sampled(record(rotate=30, brightness=0.5, noise=0.1, erase=1.0), 0).matrix
    assert np.array_equal(plain, more)


def test_rotation_is_counter_clockwise_about_the_boxs_centre():
    turned = g.about(g.rotation(math.pi / 2), *g.centre(tuple(BOX)))
    centre = np.array([[30.0, 50.0]])
    assert g.transform(turned, centre) == pytest.approx(centre)
    right = np.array([[40.0, 50.0]])
    assert g.transform(turned, right) == pytest.approx(np.array([[30.0, 40.0]]))  # up


def test_draws_are_spread_as_promised():
    angles, zooms, shifts = [], [], []
    for i in range(2000):
        m = sampled(record(str(i), rotate=20), 0).matrix
        angles.append(math.degrees(math.atan2(m[0, 1], m[0, 0])))
        zooms.append(math.log(sampled(record(str(i), scale=0.25), 0).matrix[0, 0]))
        shifts.append(sampled(record(str(i), shift=0.1), 0).matrix[0, 2])
    side = math.sqrt(40 * 60)
    for values, bound in ((angles, 20), (zooms, math.log(1.25)), (shifts, 0.1 * side)):
        assert max(map(abs, values)) <= bound
        assert max(values) > 0.95 * bound
        assert min(values) < -0.95 * bound
        assert abs(np.mean(values)) < 0.05 * bound
        assert np.std(values) == pytest.approx(bound / math.sqrt(3), rel=0.05)  # uniform


def test_stored_crops_hold_all_that_a_policy_can_bring_into_view():
    frame = specs.InputSpec((64, 64), 0.2, False)
    policy = {"rotate": 35, "scale": 0.3, "shift": 0.2, "flip": 0.5}
    corners = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    records = [record(str(i), **policy) for i in range(200)]
    records[0]["augment"] *= 2
    faces = [Face.parse(record) for record in records]
    crops = crop_spec(faces, frame)
    for one in faces:
        transform = sample(one, 0)
        seen = frame.to_file(corners, tuple(BOX))
        there = g.transform(g.invert(transform.matrix), seen)
        inside = g.to_unit(crops.matrix(tuple(BOX)), there, crops.size)
        assert inside.min() > -1e-9
        assert inside.max() < 1 + 1e-9


def test_copies_count_and_stages_multiply(face):
    once = run("augment", "--copies", 2, "--rotate", 5, stdin=[face(0), face(1)])
    twice = run("augment", "--copies", 3, "--flip", 0.5, stdin=once.stdout)
    records = parse(twice.stdout)
    assert [(r["id"], r["copy"]) for r in records] == [
        (f"face{i}", c) for i in range(2) for c in range(6)
    ]
    assert all(
        r["augment"] == [{"seed": 0, "rotate": 5.0}, {"seed": 0, "flip": 0.5}] for r in records
    )


def test_a_flip_of_a_scheme_without_a_table_fails(face):
    lame = face(1, scheme="imm58:3,7", points=[[1.0, 2.0], [3.0, 4.0]])
    unknown = face(2, scheme="mine")
    done = run("augment", "--flip", 0.5, stdin=[face(0), lame, unknown])
    assert done.returncode == 1
    assert [r.get("status") for r in parse(done.stdout)] == [None, "bad_scheme", "bad_scheme"]


def test_values_out_of_bounds_are_wrong_use():
    for option, value in (("--flip", 1.5), ("--rotate", -3), ("--hue", 0.7), ("--copies", 0)):
        done = run("augment", option, value, stdin=b"")
        assert done.returncode == 2, option
        assert option.encode() in done.stderr


def test_a_preset_is_a_policy_that_other_options_change(face, quick):
    def stage(*options):
        done = quick("augment", "--preset", "face", "--seed", 7, *options, stdin=[face(0)])
        assert done.returncode == 0, done.stderr
        ((found,),) = (r["augment"] for r in parse(done.stdout))
        return found

    preset = stage()
    assert preset == PRESETS["face"] | {"seed": 7}
    assert all(0 < value <= OPERATIONS[name][0] for name, value in PRESETS["face"].items())
    assert stage("--rotate", 45, "--hue", 0.1) == preset | {"rotate": 45.0, "hue": 0.1}
    without = stage("--flip", 0)
    assert without == {name: value for name, value in preset.items() if name != "flip"}


def test_a_preset_that_is_none_is_wrong_use(face, quick):
    done = quick("augment", "--preset", "body", stdin=[face(0)])
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--preset 'body': one of face" in done.stderr


def test_written_images_follow_their_points(face, tmp_path):
    record = face(0) | {"pred": face(0)["points"], "visible": [1] * 67 + [0], "mine": 1}
    out = run("augment", "--flip", 1, "--copies", 2, "--write", tmp_path / "w", stdin=[record])
    made = parse(out.stdout)
    assert out.returncode == 0, out.stderr
    assert len({r["image"] for r in made}) == 2
    for r in made:
        assert "augment" not in r
        assert r["box"] == record["box"]
        assert r["mine"] == 1
        assert r["visible"][65] == 0  # point 67's other side
        assert r["points"] == r["pred"] != record["points"]


def test_a_shuffled_stream_has_the_same_draws(drawn, tmp_path):
    records = parse(drawn)[:12]
    made = []
    for order in (records, random.Random(0).sample(records, len(records))):
        done = run("augment", "--write", tmp_path / str(len(made)), stdin=order)
        assert done.returncode == 0, done.stderr
        made.append({r["id"]: r["points"] for r in parse(done.stdout)})
    assert made[0] == made[1]
