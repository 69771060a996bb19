"""Adapters: from the points that a network gives to those that an annotator would set."""

import numpy as np
import orjson
import pytest
from conftest import parse

from kptools import geometry as g
from kptools.errors import KptoolsError, RecordError
from kptools.models import adapter

BOX = (10.0, 20.0, 110.0, 120.0)


def faces(count, points=6, seed=0):
    """Shapes (points, 2) in BOX: a mean shape, varied along two axes, turned and scaled."""
    random = np.random.default_rng(seed)
    base = np.random.default_rng(1).random((points, 2))
    axes = np.random.default_rng(2).normal(0, 0.05, (2, points, 2))
    found = []
    for _ in range(count):
        shape = g.denormalize(base + np.tensordot(random.normal(size=2), axes, 1), BOX)
        turn = g.rotation(random.normal(0, 0.2))
        zoom = float(np.exp(random.normal(0, 0.1)))
        m = g.about(g.compose(turn, g.scaling(zoom, zoom)), *g.centre(BOX))
        found.append((g.transform(m, shape), m))
    return found


def habit(points, m):
    """What another annotator sets: each point half of the way to the next one, in the frame of the
    face, and moved by three hundredths of the box, and no third point."""
    moved = g.transform(g.invert(m), points)
    moved = (moved + np.roll(moved, 1, axis=0)) / 2 + 3.0
    return np.delete(g.transform(m, moved), 2, axis=0)


def pairs(count, seed):
    made = faces(count, seed=seed)
    return [points for points, _ in made], [habit(points, m) for points, m in made]


def test_a_linear_habit_is_learnt_and_carries_over_to_other_faces():
    given, wanted = pairs(60, seed=3)
    made, figures = adapter.fit(given, wanted, [BOX] * 60, "five")
    assert (made.inputs, made.count, made.scheme) == (6, 5, "five")
    assert "before" not in figures  # six points are not five
    for points, truth in zip(*pairs(10, seed=4), strict=True):
        off = np.hypot(*(made.apply(points, BOX) - truth).T)
        assert off.mean() < 0.5  # pixels, of a box of 100; before them: 3 and more


def test_what_it_says_of_left_out_faces_is_what_leaving_them_out_gives():
    given, wanted = pairs(20, seed=5)
    x = np.stack([p.ravel() for p in given]) / 100
    y = np.stack([p.ravel() for p in wanted]) / 100
    _, _, residuals = adapter._ridge(x, y, 100.0)
    for face in (0, 7):
        others = np.arange(20) != face
        # the penalty is a face's share: that of 19 faces is as large as that of 20
        weight, offset, _ = adapter._ridge(x[others], y[others], 100.0 * 20 / 19)
        left_out = y[face] - (weight @ x[face] + offset)
        assert residuals[face] == pytest.approx(left_out, rel=0.05, abs=1e-3)


def test_points_that_are_not_annotated_have_no_part():
    given, wanted = pairs(60, seed=3)
    for truth in wanted[:20]:
        truth[1] = np.nan
    made, _ = adapter.fit(given, wanted, [BOX] * 60, "five")
    points, truth = (some[0] for some in pairs(1, seed=4))
    assert np.hypot(*(made.apply(points, BOX) - truth).T).max() < 1.0


def test_too_few_faces_or_points_without_a_shape_are_refused():
    given, wanted = pairs(9, seed=3)
    with pytest.raises(KptoolsError, match="9 faces with `pred` and `points`; 10 are needed"):
        adapter.fit(given, wanted, [BOX] * 9, "five")
    given, wanted = pairs(12, seed=3)
    made, _ = adapter.fit(given, wanted, [BOX] * 12, "five")
    with pytest.raises(RecordError, match="5 predicted points; the adapter takes 6"):
        made.apply(given[0][:5], BOX)
    nothing = given[0].copy()
    nothing[3] = np.nan
    with pytest.raises(RecordError, match="null"):
        made.apply(nothing, BOX)


def test_a_file_holds_the_same_adapter(tmp_path):
    given, wanted = pairs(12, seed=3)
    made, _ = adapter.fit(given, wanted, [BOX] * 12, "five")
    made.save(tmp_path / "a.safetensors")
    path = str(tmp_path / "a.safetensors")
    assert adapter.is_adapter(path)
    again = adapter.load(path)
    assert again.scheme == "five"
    assert np.array_equal(again.apply(given[0], BOX), made.apply(given[0], BOX))


# The tools


@pytest.fixture(scope="module")
def records():
    """Faces whose prediction is off by a habit that turns with the face, and records of val."""
    given = faces(40, points=68, seed=6)
    found = []
    for index, (points, m) in enumerate(given):
        off = g.transform(m, g.transform(g.invert(m), points) + np.array([4.0, -2.0]))
        found.append(
            {
                "image": "no such file.jpg",
                "id": str(index),
                "size": [200, 200],
                "box": list(BOX),
                "scheme": "ibug68",
                "points": points.tolist(),
                "pred": off.tolist(),
                "score": [0.5] * 68,
                "mean": off.tolist(),
                "own": "kept",
                "split": "val" if index < 10 else "train",
            }
        )
    return found


def test_it_is_trained_and_applied_in_a_pipe_and_opens_no_image(records, quick, tmp_path):
    path = tmp_path / "adapter.safetensors"
    trained = quick("train", "--arch", "adapter", "-o", path, stdin=records)
    assert trained.returncode == 0, trained.stderr
    assert b"30 faces, penalty" in trained.stderr
    assert b"after, on faces left out in turn" in trained.stderr
    val = parse(trained.stdout)
    assert [record["id"] for record in val] == [str(i) for i in range(10)]
    error = np.abs(np.array(val[0]["pred"]) - np.array(val[0]["points"])).max()
    assert error < 0.5

    blind = [
        {k: v for k, v in record.items() if k not in ("points", "scheme")} for record in records
    ]
    done = quick("predict", path, stdin=blind)
    assert done.returncode == 0, done.stderr
    again = parse(done.stdout)
    assert again[0]["pred"] == val[0]["pred"]
    assert again[0]["scheme"] == "ibug68"
    assert again[0]["own"] == "kept"
    assert again[0]["score"] == [0.5] * 68
    assert "mean" not in again[0]


def test_points_of_another_number_are_adapted(records, quick, tmp_path):
    """As 98 to 68: `pred` is of another scheme than `points`."""
    path = tmp_path / "adapter.safetensors"
    more = [r | {"pred": r["pred"] + r["pred"][:30], "score": [0.5] * 98} for r in records]
    trained = quick("train", "--arch", "adapter", "-o", path, stdin=more)
    assert trained.returncode == 0, trained.stderr
    done = quick("predict", path, stdin=more)
    assert done.returncode == 0, done.stderr
    found = parse(done.stdout)[0]
    assert np.array(found["pred"]).shape == (68, 2)
    assert "score" not in found


def test_what_is_adapted_is_not_adapted_again(records, quick, tmp_path):
    path = tmp_path / "adapter.safetensors"
    once = quick("train", "--arch", "adapter", "-o", path, stdin=records)
    done = quick("predict", path, stdin=parse(once.stdout))
    assert done.returncode == 1
    assert b"was adapted before" in done.stderr


def test_a_point_that_is_hardly_ever_annotated_is_refused(records, quick, tmp_path):
    sparse = [r | {"points": [None, *r["points"][1:]]} for r in records[:35]] + records[35:]
    done = quick("train", "--arch", "adapter", "-o", tmp_path / "a.safetensors", stdin=sparse)
    assert done.returncode == 3
    assert b"point 0 is annotated on 5 faces; 10 are needed" in done.stderr
    assert not (tmp_path / "a.safetensors").exists()


def test_what_cannot_be_adapted_is_a_failed_record(records, quick, tmp_path):
    path = tmp_path / "adapter.safetensors"
    quick("train", "--arch", "adapter", "-o", path, stdin=records)
    without = {k: v for k, v in records[0].items() if k != "pred"}
    other = records[1] | {"scheme": "imm58", "points": records[1]["points"][:58]}
    done = quick("predict", path, stdin=[without, other, records[2]])
    assert done.returncode == 1
    found = parse(done.stdout)
    assert [record.get("status") for record in found] == ["bad_points", "bad_scheme", None]
    assert b"the adapter's ibug68" in done.stderr


@pytest.mark.parametrize(
    ("tool", "words", "line"),
    [
        ("train", ["--arch", "adapter", "--epochs", "3"], b"--epochs: not for an adapter"),
        ("train", ["--arch", "adapter", "--width", "8"], b"--width: not for an adapter"),
    ],
)
def test_options_of_networks_are_refused(records, quick, tmp_path, tool, words, line):
    done = quick(tool, *words, "-o", tmp_path / "a.safetensors", stdin=records)
    assert done.returncode == 2
    assert line in done.stderr
    assert not (tmp_path / "a.safetensors").exists()


def test_several_processes_do_not_train_an_adapter(records, quick, tmp_path, monkeypatch):
    for name in (
        "RANK",
        "WORLD_SIZE",
        "LOCAL_RANK",
        "LOCAL_WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
    ):
        monkeypatch.setenv(name, "1")
    done = quick("train", "--arch", "adapter", "-o", tmp_path / "a.safetensors", stdin=records)
    assert done.returncode == 2
    assert b"leave torchrun out" in done.stderr


def test_an_adapter_has_no_mirror_image(records, quick, tmp_path):
    path = tmp_path / "adapter.safetensors"
    quick("train", "--arch", "adapter", "-o", path, stdin=records)
    done = quick("predict", path, "--no-flip", stdin=records)
    assert done.returncode == 2
    assert b"which sees no image" in done.stderr


def test_a_damaged_adapter_is_one_line(records, quick, tmp_path):
    path = tmp_path / "adapter.safetensors"
    quick("train", "--arch", "adapter", "-o", path, stdin=records)
    data = path.read_bytes()
    header = int.from_bytes(data[:8], "little")
    path.write_bytes(data[: 8 + header] + b"\xff" * (len(data) - 8 - header))
    done = quick("predict", path, stdin=[orjson.loads(orjson.dumps(records[0]))])
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
