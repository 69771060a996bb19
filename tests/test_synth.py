"""Drawn faces: repeatable, independent of each other, and exact."""

import errno
import itertools
import shutil
import subprocess
import time
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest
from conftest import run, start
from PIL import Image

from kptools.datasets import synth
from kptools.datasets.synthetic import raster
from kptools.datasets.synthetic.faces import Face, synthesize
from kptools.datasets.synthetic.head import MEAN, SCHEME
from kptools.datasets.synthetic.paint import CIRCLE, Stroke, paint
from kptools.errors import KptoolsError
from kptools.records import keys
from kptools.records.keys import Record
from kptools.schemes import catalog


@pytest.fixture(scope="module")
def faces() -> list[Face]:
    return [synthesize(3, index) for index in range(40)]


def records(out: Path, count: int, seed: int) -> list[Record]:
    return [item.record for item in synth.read(out, count, seed)]


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    first = records(tmp_path / "a", 4, seed=7)
    again = records(tmp_path / "b", 4, seed=7)
    for one, other in zip(first, again, strict=True):
        assert Path(one["image"]).read_bytes() == Path(other["image"]).read_bytes()
        assert {**one, "image": ""} == {**other, "image": ""}


def test_another_seed_gives_another_face() -> None:
    assert not np.array_equal(synthesize(0, 0).points, synthesize(1, 0).points)


def test_a_face_does_not_depend_on_how_many_are_drawn(tmp_path: Path) -> None:
    few = records(tmp_path / "few", 2, seed=0)
    many = records(tmp_path / "many", 5, seed=0)
    assert [r["points"] for r in few] == [r["points"] for r in many[:2]]
    assert Path(few[1]["image"]).read_bytes() == Path(many[1]["image"]).read_bytes()


def test_any_number_of_processes_draws_the_same_bytes(tmp_path: Path) -> None:
    alone = records(tmp_path / "a", 20, seed=7)
    (tmp_path / "a").rename(tmp_path / "alone")
    several = [item.record for item in synth.read(tmp_path / "a", 20, 7, jobs=3)]
    assert several == alone
    for record in several:
        path = Path(record["image"])
        assert path.read_bytes() == (tmp_path / "alone" / path.name).read_bytes()


def test_processes_end_with_the_reader_and_leave_whole_files(tmp_path: Path) -> None:
    reader = synth.read(tmp_path, 1000, seed=0, jobs=2)
    next(reader)
    assert isinstance(reader, Generator)
    reader.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert 1 <= len(names) < 100
    for name in names:
        Image.open(tmp_path / name).load()


def test_processes_end_where_the_one_that_asked_is_killed(tmp_path: Path) -> None:
    words = ("synth", "--count", 20_000, "--jobs", 2, "--out", tmp_path / "out")
    process = start("prep", *words, cwd=tmp_path, stderr=subprocess.DEVNULL)
    process.stdout.readline()
    process.kill()
    process.stdout.read()  # which ends where nobody holds the pipe any more
    process.wait()
    counts = [-1]
    while (count := len(list((tmp_path / "out").iterdir()))) != counts[-1]:
        counts.append(count)
        assert len(counts) < 20, "they go on"
        time.sleep(1)  # in which they draw some


def test_a_process_that_cannot_write_says_so(tmp_path: Path) -> None:
    out = tmp_path / "out"
    reader = synth.read(out, 100, seed=0, jobs=2)
    next(reader)
    shutil.rmtree(out)
    with pytest.raises(KptoolsError, match=r"cannot write .*; make room there"):
        list(reader)


def test_a_record_holds_what_the_tools_read(tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    (record,) = records(out, 1, seed=5)
    assert list(record) == [
        "image", "id", "group", "size", "box", "box_source", "points", "visible", "scheme", "split",
    ]  # fmt: skip
    assert record["image"] == f"{out}/000000.jpg"
    assert record["id"] == record["group"] == "5-000000"
    with Image.open(record["image"]) as image:
        assert (image.format, image.mode, list(image.size)) == ("JPEG", "RGB", record["size"])
    assert len(keys.points(record)) == catalog.count(SCHEME) == 68
    assert set(record["visible"]) <= {0, 1}
    assert keys.box(record)
    assert record["points"] == [[round(x, 3), round(y, 3)] for x, y in record["points"]]


def test_points_lie_inside_or_near_the_image(faces: list[Face]) -> None:
    for face in faces:
        assert face.points.shape == (68, 2)
        assert face.visible.shape == (68,)
        size = np.array(face.image.size)
        assert (face.points > -0.4 * size).all()
        assert (face.points < 1.4 * size).all()
        assert ((face.points > 0) & (face.points < size)).mean() > 0.5


def test_left_and_right_are_where_the_scheme_has_them(faces: list[Face]) -> None:
    for face in faces:
        p = face.points
        assert p[36:42, 0].mean() < p[42:48, 0].mean()
        assert p[17:22, 0].mean() < p[22:27, 0].mean()
        assert p[48, 0] < p[54, 0]
        assert p[17:27, 1].mean() < p[31:36, 1].mean() < p[48:60, 1].mean() < p[8, 1]


def test_the_mean_face_is_symmetric_under_the_scheme() -> None:
    swap = catalog.get(SCHEME).swap
    np.testing.assert_allclose(MEAN[list(swap or ())] * (-1, 1), MEAN)


def test_boxes_are_square_vary_and_are_not_made_from_the_points(faces: list[Face]) -> None:
    boxes = np.array([face.box for face in faces])
    sides = boxes[:, 2:] - boxes[:, :2]
    np.testing.assert_allclose(sides[:, 0], sides[:, 1], atol=0.01)
    tips = (np.array([face.points[30] for face in faces]) - boxes[:, :2]) / sides
    assert (tips.std(0) > 0.03).all()
    assert np.std([np.ptp(face.points, axis=0).max() for face in faces] / sides[:, 0]) > 0.05


def test_some_points_are_hidden_and_most_are_not(faces: list[Face]) -> None:
    assert 0.6 < np.mean([face.visible for face in faces]) < 0.99


def test_what_is_drawn_lies_within_a_tenth_of_a_pixel_of_its_point(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """White spots take the features' place on a black head, and their centroids are measured."""
    marked = [19, 24, 30, 33, 36, 45, 48, 54, 57]

    def spots(*places: np.ndarray) -> list[Stroke]:
        return [Stroke(place + CIRCLE * 0.012, (255, 255, 255, 255)) for place in places]

    rotation = raster.rotation  # far from profile, where the contour of the head would cut spots
    nothing = [Stroke(np.zeros((3, 2)), (0, 0, 0, 255))]
    replaced = {
        "features.eye": lambda p, side, look: spots(p[0] if p[0, 0] < 0 else p[3]),
        "features.brow": lambda p, look: spots(p[2]),
        "features.mouth": lambda rng, p, look: spots(p[48], p[54], p[57]),
        "features.wrinkles": lambda rng, p, look: nothing,
        "features.nose": lambda rng, p, look: spots(p[30], p[33]),
        "scene.background": lambda rng, size: Image.new("RGB", size),
        "scene.clutter": lambda rng, size: [],
        "scene.body": lambda *a: nothing,
        "raster.random_light": lambda rng, normals, camera: np.ones((normals.size // 3, 3)),
        "surface.albedo": lambda rng, u, *a: (np.zeros((len(u), 3)), np.zeros(len(u), bool)),
        "raster.rotation": lambda *angles: rotation(*np.multiply(angles, 0.4)),
        "scene.shadow": lambda rng, size, camera: np.ones((size[0] * size[1], 1), np.float32),
        "scene.locks": lambda rng, image, *a: np.zeros((image.height, image.width), bool),
        "scene.put_on_glasses": lambda *a: False,
        "scene.hold_before": lambda *a: np.zeros(68, bool),
        "scene.photograph": lambda rng, image: image,
    }
    for name, function in replaced.items():
        monkeypatch.setattr(f"kptools.datasets.synthetic.{name}", function)
    errors = []
    for index in range(25):
        face = synthesize(11, index)
        grey = np.asarray(face.image.convert("L"), dtype=float)
        for k in marked:
            x, y = np.rint(face.points[k]).astype(int)
            others = np.delete(face.points[marked], marked.index(k), axis=0)
            near = abs(others - face.points[k]).max(1).min() < 9
            if near or not face.visible[k] or min(x, y) < 4:
                continue
            window = grey[y - 4 : y + 5, x - 4 : x + 5]
            if window.shape != (9, 9):
                continue
            rows, columns = np.mgrid[y - 4 : y + 5, x - 4 : x + 5]
            centroid = np.array([(columns * window).sum(), (rows * window).sum()]) / window.sum()
            errors.append(centroid - face.points[k])
    assert len(errors) > 100
    assert abs(np.mean(errors, axis=0)).max() < 0.03
    assert np.quantile(np.abs(errors), 0.95) < 0.1


def test_a_polygon_covers_the_pixels_that_it_bounds() -> None:
    image = Image.new("RGB", (12, 9))
    corners = np.array([(2.5, 1.5), (6.5, 1.5), (6.5, 3.5), (2.5, 3.5)])
    paint(image, [Stroke(corners, (255, 255, 255, 255))], zoom=8)
    expected = np.zeros((9, 12))
    expected[2:4, 3:7] = 255
    np.testing.assert_allclose(np.asarray(image)[..., 0], expected, atol=40)  # an eighth of a pixel


def test_a_stopped_reader_leaves_whole_files_only(tmp_path: Path) -> None:
    reader = synth.read(tmp_path, 100, seed=0)
    taken = list(itertools.islice(reader, 3))
    assert isinstance(reader, Generator)
    reader.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        Path(item.record["image"]).name for item in taken
    ]


def test_a_failed_write_leaves_no_part_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(KptoolsError) as caught:
        next(synth.read(tmp_path, 1, seed=0))
    path = tmp_path / "000000.jpg"
    assert str(caught.value) == f"cannot write {path}: No space left on device; make room there"
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "faces"
    with pytest.raises(KptoolsError) as caught:
        next(synth.read(out, 1, seed=0))
    assert str(caught.value) == f"cannot write {out}: Not a directory; make room there"


def test_a_run_is_resumed_by_any_number_of_processes(tmp_path: Path) -> None:
    out = tmp_path / "faces.jsonl"
    words = ("prep", "synth", "--count", 6, "--out", tmp_path / "f", "-o", out)
    assert run(*words, "--jobs", 1).returncode == 0
    whole = out.read_bytes()
    out.rename(tmp_path / "faces.jsonl.part")
    (tmp_path / "faces.jsonl.part").write_bytes(whole[: whole.index(b"\n") + 1])
    done = run(*words, "--jobs", 2, "--resume")
    assert done.returncode == 0, done.stderr
    assert out.read_bytes() == whole
