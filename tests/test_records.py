"""What a record holds, and the names of files that come from its id."""

import os

import numpy as np
import pytest
from conftest import lines, parse, run, tiny_unet

from kptools.errors import RecordError
from kptools.models import checkpoint
from kptools.records import keys
from kptools.records.points import points_array


@pytest.mark.parametrize(
    "stages",
    [
        5,
        [5],
        [{"rotate": "x"}],
        [{"rotate": 1e308}],
        [{"turn": 3}],
        [{"seed": 0.5}],
        [{"flip": True}],
    ],
)
def test_a_policy_that_is_none_is_told(face, stages):
    done = run("augment", "--rotate", 5, stdin=[face(0, augment=stages)])
    assert done.returncode == 1
    assert parse(done.stdout)[0]["status"] == "bad_record"


@pytest.mark.parametrize(
    "name", ["../../evil", "/etc/passwd", "a\0b", "..", ".", "x" * 5000, "é/ü"]
)
def test_written_images_stay_in_their_folder_whatever_the_id_says(face, tmp_path, name):
    folder = tmp_path / "deep" / "er"
    out = run("augment", "--rotate", 5, "--write", folder, stdin=lines([face(0, id=name)]))
    (record,) = parse(out.stdout)
    assert out.returncode == 0, out.stderr
    files = [p for p in tmp_path.rglob("*") if p.is_file() and p.name != "0.png"]
    assert [str(p) for p in files] == [record["image"]]
    assert files[0].parent == folder


@pytest.mark.parametrize("name", ["..", ".", "", "...a", "x" * 99 + "." + "y" * 99])
def test_no_id_makes_a_hidden_file(face, tmp_path, name):
    done = run("augment", "--rotate", 5, "--write", tmp_path / "w", stdin=[face(0, id=name)])
    assert done.returncode == 0, done.stderr
    (made,) = os.listdir(tmp_path / "w")
    assert not made.startswith(".")
    assert len(made) > 4


@pytest.mark.parametrize("tool", ["write", "encode", "maps"])
def test_two_faces_never_share_a_file(face, tmp_path, tool):
    """Without ids, two faces of one picture have one name; the second one fails."""
    records = [{k: v for k, v in face(0).items() if k != "id"} for _ in range(2)]
    records[1]["box"] = [5.5, 5.5, 40.5, 45.5]
    words = {
        "write": ["augment", "--rotate", 5, "--write", tmp_path / "w"],
        "encode": ["heatmap", "encode", "--size", "16x16", "--out", tmp_path / "w"],
        "maps": ["predict", tmp_path / "u.safetensors", "--heatmaps", tmp_path / "w"],
    }[tool]
    if tool == "maps":
        network, model = tiny_unet(tmp_path)
        checkpoint.save(
            tmp_path / "u.safetensors", checkpoint.Checkpoint(model, network.state_dict())
        )
    done = run(*words, stdin=records)
    assert done.returncode == 1, done.stderr
    assert b"stdin:2" in done.stderr
    assert b"give each face an id of its own" in done.stderr
    assert [r.get("status") for r in parse(done.stdout)] == [None, "bad_record"]
    assert len(os.listdir(tmp_path / "w")) == 1


@pytest.mark.parametrize(
    "point",
    [[True, 1.0], [1.0, "2"], [1.0, None], [float("nan"), 1.0], [1.0, float("inf")], [1e9, 0.0],
     [0.0, -1e9], [10**400, 0.0], [1.0], [1.0, 2.0, 3.0], (1.0, 2.0), {"x": 1}, "ab", 5],
)  # fmt: skip
@pytest.mark.parametrize("others", [[], [None]])
def test_a_point_that_is_none_is_named_by_its_number(point, others):
    value = [[1.0, 2.0], *others, point, [3, 4]]
    with pytest.raises(RecordError, match=rf"points\[{1 + len(others)}\] is "):
        keys.points({"points": value})


def test_points_may_be_whole_numbers_and_numpys():
    value = [[1, 2.5], [np.float64(3.0), np.float64(4.0)], None]
    assert keys.points({"points": value}) is value
    assert keys.points({"points": value[:1]}) == [[1, 2.5]]


def test_points_come_as_an_array_with_nan_where_null():
    record = {"points": [[1, 2.5], None, [3.0, -4.0]]}
    assert points_array(record).tolist()[::2] == [[1, 2.5], [3.0, -4.0]]
    assert np.isnan(points_array(record)[1]).all()
    for value in ([[5.0, 6.0]], [[5.0, 6.0]] * 2, [[7e5, 9e5]], [[7e5, 9e5], None]):
        array = points_array({"points": value})
        array += 1  # it is the caller's own
        assert array[0].tolist() == [value[0][0] + 1, value[0][1] + 1]
