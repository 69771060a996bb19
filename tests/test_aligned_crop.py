"""kp-augment --align: a crop of each face, in which eyes and mouth lie where they always lie.

Where a white spot lands is measured in the pixels, with nothing of the project's own geometry.
"""

import math
from pathlib import Path

import numpy as np
import pytest
from conftest import parse, save_grey
from PIL import Image

from kptools import geometry as g
from kptools.augment import aligned_crop
from kptools.datasets.synthetic.faces import synthesize
from kptools.errors import KptoolsError, RecordError
from kptools.pixels import write
from kptools.schemes import catalog

# In a crop of 200x200: a distance of 56 between the eyes, 80 below the top; (0, 0) is the centre of
# the first pixel
RIGHT, LEFT = (71.5, 79.5), (127.5, 79.5)


def kaggle(angle: float, apart: float, at: tuple[float, float]) -> list[list[float] | None]:
    """A face of 15 points turned by so many degrees: eyes and the four of the mouth."""
    shape: dict[int, tuple[float, float]] = {1: (-0.5, 0), 0: (0.5, 0)}
    shape |= {11: (0.4, 1.0), 12: (-0.4, 1.0), 13: (0, 0.9), 14: (0, 1.1)}
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    points: list[list[float] | None] = [None] * 15
    for k, (x, y) in shape.items():
        points[k] = [
            at[0] + apart * (cos * x - sin * y),
            at[1] + apart * (sin * x + cos * y),
        ]
    return points


def spots(path: Path, size: tuple[int, int], at: list[list[float]], sigma: float) -> Path:
    """Mid-grey, with a white Gaussian about each place."""
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    white = sum(np.exp(-((x - u) ** 2 + (y - v) ** 2) / (2 * sigma**2)) for u, v in at)
    grey = (128 + 127 * white).round().clip(0, 255).astype(np.uint8)
    return save_grey(path, grey)


def centroid(levels: np.ndarray) -> tuple[float, float]:
    weight = np.clip(levels.astype(float) - 140, 0, None)
    rows, columns = np.mgrid[: levels.shape[0], : levels.shape[1]]
    total = weight.sum()
    return float((weight * columns).sum() / total), float((weight * rows).sum() / total)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize(
    ("angle", "apart"), [(0, 30.0), (25, 56.0), (-70, 90.0), (180, 140.0), (40, 600.0)]
)
def test_the_eyes_of_a_turned_face_land_where_they_always_lie(tmp_path, suffix, angle, apart):
    size = (round(4 * apart) + 13, round(4 * apart) + 40)
    points = kaggle(angle, apart, (size[0] / 2 + 3.3, size[1] / 2 - 4.6))
    path = spots(tmp_path / f"a{suffix}", size, [points[1], points[0]], apart / 20)
    record = {"image": str(path), "points": points, "scheme": "kaggle15"}
    (tmp_path / "crops").mkdir()
    made = write.write_aligned(record | {"id": "a"}, tmp_path / "crops", (200, 200))
    crop = np.asarray(Image.open(made["image"]).convert("L"))
    assert crop.shape == (200, 200)
    assert centroid(crop[:, :100]) == pytest.approx(RIGHT, abs=0.1)
    x, y = centroid(crop[:, 100:])
    assert (x + 100, y) == pytest.approx(LEFT, abs=0.1)
    assert made["points"][1] == pytest.approx(RIGHT)
    assert made["points"][0] == pytest.approx(LEFT)


def test_a_photo_that_its_exif_turns_is_cut_as_it_is_shown(tmp_path):
    points = kaggle(10, 300.0, (700.0, 500.0))
    path = spots(tmp_path / "a.png", (1333, 971), [points[1]], 15)
    exif = Image.Exif()
    exif[0x0112] = 6
    stored = Image.open(path).transpose(Image.Transpose.ROTATE_90)
    stored.save(tmp_path / "b.jpg", quality=100, subsampling=0, exif=exif)
    record = {"image": str(tmp_path / "b.jpg"), "points": points, "scheme": "kaggle15"}
    made = write.write_aligned(record | {"id": "c"}, tmp_path, (200, 200))
    assert centroid(np.asarray(Image.open(made["image"]).convert("L"))) == pytest.approx(
        RIGHT, abs=0.1
    )


def drawn(folder: Path, index: int) -> dict:
    face = synthesize(3, index)
    path = folder / f"{index}.png"
    face.image.save(path)
    return {
        "image": str(path),
        "id": f"{index}",
        "size": list(face.image.size),
        "box": list(face.box),
        "points": face.points.tolist(),
        "scheme": "ibug68",
    }


def test_the_eyes_of_drawn_faces_are_level_and_about_one_place(tmp_path):
    (tmp_path / "crops").mkdir()
    eyes, inside = [], []
    for index in range(24):
        record = drawn(tmp_path, index)
        made = write.write_aligned(record, tmp_path / "crops", (256, 256))
        points = np.array(made["points"])
        right, left = points[36:42].mean(axis=0), points[42:48].mean(axis=0)
        assert (right + left) / 2 == pytest.approx((127.5, 0.4 * 256 - 0.5))
        assert right[1] == pytest.approx(left[1])
        assert right[0] < left[0]
        eyes.append((left - right)[0])
        inside.append(((points > 0) & (points < 255)).all(axis=1))
        m = np.array(made["source"]["matrix"])
        expected = np.array(record["points"]) @ m[:, :2].T + m[:, 2]
        np.testing.assert_allclose(points, expected)
        assert m[0, 0] == pytest.approx(m[1, 1])  # a turn and one scale
        assert m[0, 1] == pytest.approx(-m[1, 0])
        assert made["source"]["image"] == record["image"]
    assert max(eyes) <= 0.28 * 256 + 1e-6
    assert np.median(eyes) > 0.9 * 0.28 * 256
    assert np.mean(inside) > 0.99


def test_one_face_turned_gives_one_crop(tmp_path):
    (tmp_path / "crops").mkdir()
    record = drawn(tmp_path, 1)
    crops = []
    for angle in (0, 90, 180, 270):  # which no resampling blurs
        picture = Image.open(record["image"])
        w, h = picture.size
        points = np.array(record["points"])
        for _ in range(angle // 90):  # counter-clockwise: (x, y) to (y, w - 1 - x)
            points, w, h = np.stack([points[:, 1], w - 1 - points[:, 0]], axis=1), h, w
        turned = tmp_path / f"t{angle}.png"
        picture.rotate(angle, expand=True).save(turned)
        one = {"image": str(turned), "points": points.tolist(), "scheme": "ibug68"}
        made = write.write_aligned(one, tmp_path / "crops", (160, 160))
        crops.append(np.asarray(Image.open(made["image"]), dtype=float))
    for crop in crops[1:]:
        assert np.abs(crop - crops[0]).mean() < 1.0


def test_shrinking_leaves_no_coarse_stripes(tmp_path):
    stripes = (128 + 100 * np.sin(2 * np.pi * np.arange(1200) / 2.6)).astype(np.uint8)
    Image.fromarray(np.repeat(stripes[None], 1200, axis=0)).save(tmp_path / "a.png")
    points = kaggle(20, 300.0, (600.0, 450.0))
    record = {"image": str(tmp_path / "a.png"), "points": points, "scheme": "kaggle15", "id": "b"}
    made = write.write_aligned(record, tmp_path, (96, 96))
    crop = np.asarray(Image.open(made["image"]), dtype=float)
    assert crop[30:60, 30:60].std() < 4


def test_a_crop_that_is_not_square_has_the_face_in_its_middle(tmp_path):
    points = kaggle(0, 50.0, (150.0, 100.0))
    record = {"points": points, "scheme": "kaggle15"}
    m = g.centred(aligned_crop.matrix(record, (300, 200)))
    right, left = (m[:, :2] @ points[k] + m[:, 2] for k in (1, 0))
    assert right == pytest.approx((121.5, 79.5))
    assert left == pytest.approx((177.5, 79.5))


@pytest.mark.parametrize("name", ["ibug68", "imm58", "wflw98", "cofw29", "kaggle15"])
def test_each_scheme_has_the_eyes_and_the_mouth_to_align_by(name):
    scheme = catalog.get(name)
    assert scheme.pupils
    assert len(aligned_crop._mouth(scheme)) >= 4
    half = catalog.get("ibug68:36,37,38,39,40,41,42,43,44,45,46,47,48")
    assert half.pupils
    assert aligned_crop._mouth(half) == []


def test_the_scale_is_that_of_the_longer_way(tmp_path):
    """To the side the eyes are nearer each other; where the mouth is open it is further away."""

    def apart(record: dict) -> float:
        m = aligned_crop.matrix(record, (200, 200))
        eyes = np.array(record["points"][:2], dtype=float) @ m[:, :2].T
        return float(np.linalg.norm(eyes[0] - eyes[1]))

    record = {"points": kaggle(30, 50.0, (0.0, 0.0)), "scheme": "kaggle15"}
    assert apart(record) == pytest.approx(56)
    for k in (11, 12, 13, 14):
        x, y = record["points"][k]
        record["points"][k] = [2 * x, 2 * y]
    assert apart(record) == pytest.approx(56 * 1.11 / 2)
    record["points"][13] = None  # without a mouth the eyes alone
    assert apart(record) == pytest.approx(56)


def test_what_belongs_to_the_face_moves_with_it(face, tmp_path, quick):
    points = [[30 + 0.2 * x, 20 + 0.2 * y] for x, y in drawn(tmp_path, 0)["points"]]
    record = face(0, points=points, pred=points, mean=points, visible=[1] * 67 + [0])
    record |= {
        "roll": 12.0,
        "heatmap": {},
        "nme": 0.1,
        "mine": 7,
        "scale": 2.0,
        "score": [0.5] * 68,
    }
    done = quick("augment", "--align", "64x48", "--write", tmp_path / "w", stdin=[record])
    assert done.returncode == 0, done.stderr
    (made,) = parse(done.stdout)
    assert made["size"] == [64, 48]
    assert Image.open(made["image"]).size == (64, 48)
    assert made["points"] == made["pred"] == made["mean"] != record["points"]
    assert (made["visible"], made["score"]) == (record["visible"], record["score"])
    assert made["mine"] == 7
    assert not {"roll", "heatmap", "nme", "augment"} & set(made)
    m = np.array(made["source"]["matrix"])
    zoom = math.sqrt(np.linalg.det(m[:, :2]))
    assert made["scale"] == pytest.approx(2.0 / zoom)
    # the box keeps its shape, and its middle stays the middle
    before, after = np.array(record["box"]), np.array(made["box"])
    assert after[2:] - after[:2] == pytest.approx(zoom * (before[2:] - before[:2]))
    middle = m[:, :2] @ (before[:2] + before[2:]) / 2 + m[:, 2]
    assert (after[:2] + after[2:]) / 2 == pytest.approx(middle)


def test_the_box_of_the_whole_image_is_the_whole_crop_and_a_face_needs_none(tmp_path):
    record = drawn(tmp_path, 0) | {"box_source": "image"}
    made = write.write_aligned(record | {"id": "a"}, tmp_path, (64, 48))
    assert made["box"] == [-0.5, -0.5, 63.5, 47.5]
    del record["box"]
    assert "box" not in write.write_aligned(record | {"id": "b"}, tmp_path, (64, 48))


def test_a_crop_of_a_crop_leads_to_the_first_image(tmp_path):
    record = drawn(tmp_path, 0)
    first = write.write_aligned(record | {"id": "a"}, tmp_path, (128, 128))
    second = write.write_aligned(first | {"id": "b"}, tmp_path, (96, 96))
    assert second["source"]["image"] == record["image"]
    m = np.array(second["source"]["matrix"])
    mapped = np.array(record["points"]) @ m[:, :2].T + m[:, 2]
    np.testing.assert_allclose(second["points"], mapped)


def test_the_prediction_serves_where_an_eye_is_not_annotated(tmp_path):
    record = drawn(tmp_path, 0)
    points = record["points"]
    expected = aligned_crop.matrix(record, (64, 64))
    without = {key: value for key, value in record.items() if key != "points"}
    partly = [None if 36 <= k < 42 else point for k, point in enumerate(points)]
    for one in (without | {"pred": points}, without | {"points": partly, "pred": points}):
        np.testing.assert_array_equal(aligned_crop.matrix(one, (64, 64)), expected)
    other = record | {"pred": [[x + 9, y] for x, y in points]}
    np.testing.assert_array_equal(aligned_crop.matrix(other, (64, 64)), expected)


def test_what_cannot_be_aligned_is_a_failed_record_that_says_why(face, tmp_path, quick):
    good = drawn(tmp_path, 0)
    same = [[5.0, 5.0]] * 68
    far = [[x + 9000, y] for x, y in good["points"]]
    eye = [None if k == 36 else point for k, point in enumerate(good["points"])]
    bare = {key: value for key, value in good.items() if key != "points"}
    cases = [
        (bare, "bad_points", b"no `points` and no `pred`"),
        (good | {"points": eye}, "bad_points", b"an eye is not annotated"),
        (good | {"points": same}, "bad_points", b"in one place"),
        (good | {"points": far}, "bad_points", b"outside"),
        (good | {"points": [[5.0, 5.0]], "scheme": "nose1"}, "bad_scheme", b"nose1 has no eyes"),
        (bare | {"points": [[1, 2], [3, 4]], "scheme": None}, "bad_scheme", b"points2 has no eyes"),
        (good | {"augment": [{"seed": 0, "rotate": 5}]}, "bad_record", b"policy"),
        (good | {"image": "gone.png"}, "missing", b"gone.png"),
        (good | {"box": [5, 5, 5, 5]}, "bad_box", b"no area"),
    ]
    records = [record | {"id": f"{k}"} for k, (record, _, _) in enumerate(cases)]
    records.append(good | {"id": "good"})
    done = quick("augment", "--align", "64x64", "--write", tmp_path / "w", stdin=records)
    assert done.returncode == 1
    found = parse(done.stdout)
    assert [record.get("status") for record in found] == [case[1] for case in cases] + [None]
    reported = done.stderr.splitlines()
    for line, (_, _, text) in zip(reported, cases, strict=False):
        assert text in line
    assert [path.name for path in (tmp_path / "w").iterdir()] == ["good.png"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--align", "64x64"), b"--write DIR"),
        (("--align", "64", "--write", "w"), b"--align '64': write a size as WIDTHxHEIGHT"),
        (("--align", "64x64", "--write", "w", "--rotate", 5), b"goes with no policy"),
        (("--align", "64x64", "--write", "w", "--preset", "face"), b"goes with no policy"),
        (("--align", "64x64", "--write", "w", "--copies", 2), b"no --copies"),
    ],
)
def test_a_wrong_use_of_align_is_one_line(quick, words, reason):
    done = quick("augment", *words)
    assert done.returncode == 2
    assert reason in done.stderr
    assert done.stderr.count(b"\n") == 1
    assert not Path("w").exists()


def test_the_photo_itself_is_not_written_over(tmp_path):
    record = drawn(tmp_path, 0)
    before = Path(record["image"]).read_bytes()
    with pytest.raises(KptoolsError, match="the image itself"):
        write.write_aligned(record, tmp_path, (64, 64))
    assert Path(record["image"]).read_bytes() == before
    with pytest.raises(RecordError, match="no `image`"):
        write.write_aligned({"points": record["points"]}, tmp_path, (64, 64))
