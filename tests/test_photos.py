"""kp-viz photos: one picture a photo, each face drawn where it lies, and no photo written over."""

import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import in_process, lines
from PIL import Image

from kptools.cli.viz import tool
from kptools.records.ids import FileNames
from kptools.storage import images
from kptools.viz import colours, marks, photos

GREY = (150, 150, 150)


def draw(
    folder: Path, records: list[dict[str, Any]], *options: str
) -> subprocess.CompletedProcess[bytes]:
    """Run kp-viz photos in this process."""
    with chdir(folder):
        return in_process(tool, "photos", "--out", "out", *options, stdin=lines(records))


def photo(path: Path, size: tuple[int, int] = (300, 200), **keys: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", size, GREY).save(path, **keys)
    return path


def face(path: Path, x: float, y: float, **keys: Any) -> dict[str, Any]:
    """A nose at (x, y) in a box of 80 pixels about it."""
    box = [x - 40, y - 40, x + 40, y + 40]
    return {"image": str(path), "box": box, "points": [[x, y]], "scheme": "nose1"} | keys


def near(picture: Image.Image, colour: colours.Rgb, within: float = 60) -> np.ndarray[Any, Any]:
    """(H, W): which pixels are of that colour."""
    apart = np.abs(np.asarray(picture, dtype=float) - colour).sum(axis=2)
    return np.asarray(apart < within)


def middle(mask: np.ndarray[Any, Any]) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


def test_every_face_of_a_photo_is_drawn_where_it_lies(tmp_path: Path) -> None:
    path = photo(tmp_path / "in" / "a.png")
    records = [face(path, 70.25, 80.5, id="1"), face(path, 220.0, 120.25, id="2")]
    done = draw(tmp_path, records)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == lines(records)
    picture = Image.open(tmp_path / "out" / "a.png")
    assert picture.size == (300, 200)
    red = near(picture, colours.TRUTH)
    assert middle(red[:, :150]) == pytest.approx((70.25, 80.5), abs=0.4)
    x, y = middle(red[:, 150:])
    assert (x + 150, y) == pytest.approx((220.0, 120.25), abs=0.4)
    box = near(picture, colours.BOX, 200)
    columns = np.nonzero(box[60])[0]  # a row through the left box alone
    assert columns.min() == pytest.approx(30, abs=1)
    assert columns.max() == pytest.approx(110, abs=1)
    away = np.asarray(picture)[:, 130:165]
    assert (away == GREY).all()


def test_the_photo_is_shown_as_its_exif_orientation_says(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = photo(tmp_path / "in" / "a.jpg", (300, 200), exif=exif)
    assert draw(tmp_path, [face(path, 60.0, 240.0)]).returncode == 0
    picture = Image.open(tmp_path / "out" / "a.jpg")
    assert picture.size == (200, 300)
    assert not picture.getexif()
    assert middle(near(picture, colours.TRUTH)) == pytest.approx((60.0, 240.0), abs=0.4)


def test_marks_are_in_proportion_to_the_face(tmp_path: Path) -> None:
    areas = []
    for zoom in (1, 10):
        path = photo(tmp_path / "in" / f"{zoom}.png", (400 * zoom, 300 * zoom))
        record = face(path, 200.0 * zoom, 150.0 * zoom)
        record["box"] = [120 * zoom, 70 * zoom, 280 * zoom, 230 * zoom]
        assert draw(tmp_path, [record]).returncode == 0
        areas.append(near(Image.open(tmp_path / "out" / f"{zoom}.png"), colours.TRUTH).sum())
    assert areas[1] / areas[0] == pytest.approx(100, rel=0.25)


def test_a_small_box_is_seen_in_a_large_photo(tmp_path: Path) -> None:
    path = photo(tmp_path / "in" / "a.png", (4000, 3000))
    draw(tmp_path, [face(path, 2000.0, 1500.0)])
    small = Image.open(tmp_path / "out" / "a.png").reduce(4)
    line = np.asarray(small)[375, 480:495]  # across the left edge of the box
    assert np.abs(line.astype(int) - GREY).sum(axis=1).max() > 80


def test_a_large_picture_is_drawn_on_without_sixteen_times_its_memory() -> None:
    points = np.full((6, 2), 1000.0)
    pen = marks._Pen(Image.new("RGB", (3000, 2500)), (3000, 2500), len(points), 1.0)
    assert pen._big.width * pen._big.height <= marks.MAX_ENLARGED
    pen.disc(points[0], colours.TRUTH)
    done = pen.finish()
    assert done.size == (3000, 2500)
    assert middle(near(done, colours.TRUTH)) == pytest.approx((1000, 1000), abs=0.6)


def test_points_far_outside_and_missing_ones_harm_nothing(tmp_path: Path) -> None:
    path = photo(tmp_path / "in" / "a.png")
    points: list[list[float] | None] = [[30.0 + i, 40.0 + i] for i in range(15)]
    points[3], points[4] = None, [1e6, -1e6]
    record = face(path, 40.0, 50.0, points=points, scheme="kaggle15")
    nothing = {"image": str(path), "id": "bare"}
    far = face(path, 9000.0, 9000.0, id="far")
    assert draw(tmp_path, [record, nothing, far]).returncode == 0
    assert near(Image.open(tmp_path / "out" / "a.png"), colours.TRUTH, 120).any()


def test_policies_are_not_shown_and_a_whole_image_box_does_not_swell_the_marks(
    tmp_path: Path,
) -> None:
    path = photo(tmp_path / "in" / "a.png", (1600, 1200))
    points = [[700.0 + 20 * (i % 4), 500.0 + 20 * (i // 4)] for i in range(15)]
    whole = [-0.5, -0.5, 1599.5, 1199.5]
    record = face(path, 0, 0, box=whole, box_source="image", points=points, scheme="kaggle15")
    record["augment"] = [{"seed": 0, "rotate": 90.0}]
    draw(tmp_path, [record])
    red = near(Image.open(tmp_path / "out" / "a.png"), colours.TRUTH, 150)
    rows, columns = np.nonzero(red)
    assert columns.min() > 690
    assert columns.max() < 770
    assert rows.max() < 570


def test_a_photo_without_a_face_is_written_without_marks(tmp_path: Path) -> None:
    path = photo(tmp_path / "in" / "a.png")
    records = [
        {"image": str(path), "id": "a", "status": "no_face", "error": "none"},
        {"image": str(tmp_path / "gone.png"), "id": "b", "status": "missing", "error": "gone"},
        {"id": "c", "status": "bad_record", "error": "no object"},
    ]
    done = draw(tmp_path, records)
    assert (done.returncode, done.stdout) == (1, lines(records))
    assert done.stderr.count(b"\n") == 1  # how many failed: each was reported before
    assert os.listdir(tmp_path / "out") == ["a.png"]
    assert (np.asarray(Image.open(tmp_path / "out" / "a.png")) == GREY).all()


def test_a_face_that_cannot_be_drawn_is_reported_and_the_others_are_there(tmp_path: Path) -> None:
    path = photo(tmp_path / "in" / "a.png")
    records = [
        face(path, 70.0, 80.0),
        face(path, 150.0, 80.0, pred=[[1, 2], [3, 4]], scheme="mine"),
        face(path, 220.0, 80.0, box=[5, 5, 5, 5]),
        face(tmp_path / "gone.png", 10.0, 10.0),
    ]
    done = draw(tmp_path, records)
    assert (done.returncode, done.stdout) == (1, lines(records))
    reported = done.stderr.decode().splitlines()
    assert [line.split(": ")[0] for line in reported[:3]] == ["stdin:2", "stdin:3", "stdin:4"]
    assert middle(near(Image.open(tmp_path / "out" / "a.png"), colours.TRUTH)) == pytest.approx(
        (70.0, 80.0), abs=0.3
    )


def test_a_photo_that_comes_again_later_is_a_failure_and_its_picture_stays(tmp_path: Path) -> None:
    a, b = photo(tmp_path / "in" / "a.png"), photo(tmp_path / "in" / "b.png")
    records = [face(a, 70.0, 80.0), face(b, 70.0, 80.0), face(a, 220.0, 80.0)]
    done = draw(tmp_path, records)
    assert (done.returncode, done.stdout) == (1, lines(records))
    assert b"stdin:3: the picture of" in done.stderr
    assert b"bring the faces of a photo together" in done.stderr
    assert sorted(os.listdir(tmp_path / "out")) == ["a.png", "b.png"]
    red = near(Image.open(tmp_path / "out" / "a.png"), colours.TRUTH)
    assert middle(red) == pytest.approx((70.0, 80.0), abs=0.3)


def test_photos_of_one_name_have_pictures_of_their_own(tmp_path: Path) -> None:
    paths = [photo(tmp_path / where / "IMG_1.jpg") for where in ("a", "b")]
    paths.append(photo(tmp_path / "c" / "img_1.webp"))
    assert draw(tmp_path, [face(path, 70.0, 80.0) for path in paths]).returncode == 0
    found = sorted(os.listdir(tmp_path / "out"), key=len)
    assert found[0] == "IMG_1.jpg"
    assert len({name.lower() for name in found}) == 3
    names = FileNames()
    assert names.of_photo("x/my photo.png").startswith("my_photo.")


def test_no_photo_is_written_over(tmp_path: Path) -> None:
    path, other = photo(tmp_path / "in" / "a.jpg"), photo(tmp_path / "out" / "a.jpg")
    before = path.read_bytes(), other.read_bytes()
    for record in (face(other, 70.0, 80.0), face(path, 70.0, 80.0)):
        done = draw(tmp_path, [record])
        assert done.returncode == 3
        assert done.stderr.count(b"\n") == 1
        assert b"--out" in done.stderr
    assert (path.read_bytes(), other.read_bytes()) == before
    other.unlink()
    for _ in range(2):  # its own picture it replaces
        assert draw(tmp_path, [face(path, 70.0, 80.0)]).returncode == 0
    assert images.read_comment(tmp_path / "out" / "a.jpg") == photos.MADE_BY
    (tmp_path / "out" / "a.jpg").write_text("no picture")
    assert draw(tmp_path, [face(path, 70.0, 80.0)]).returncode == 3


def test_a_picture_can_be_without_points_or_without_unsure_ones(tmp_path: Path) -> None:
    path = photo(tmp_path / "in" / "a.png")
    points = [[70.0, 60.0], [70.0, 100.0]]
    record = face(path, 70.0, 80.0, points=None, pred=points, score=[0.9, 0.2], scheme="mine")
    del record["points"]

    def blue(*options: str) -> np.ndarray[Any, Any]:
        assert draw(tmp_path, [record], *options).returncode == 0
        return near(Image.open(tmp_path / "out" / "a.png"), colours.PREDICTION)

    assert middle(blue()) == pytest.approx((70.0, 80.0), abs=0.4)
    assert middle(blue("--min-score", "0.5")) == pytest.approx((70.0, 60.0), abs=0.4)
    assert not blue("--no-points").any()
    del record["score"]
    done = draw(tmp_path, [record], "--min-score", "0.5")
    assert done.returncode == 1
    assert b"no `score`" in done.stderr


def test_a_missing_folder_option_is_wrong_use(tmp_path: Path) -> None:
    done = in_process(tool, "photos", stdin=b"")
    assert done.returncode == 2
    assert b"--out" in done.stderr


def test_a_full_disk_is_exit_3_and_a_reader_that_went_away_is_silent(tmp_path: Path) -> None:
    data = lines([face(photo(tmp_path / "in" / "a.png"), 70.0, 80.0)] * 3)
    command = [sys.executable, "-m", "kptools.cli.viz", "photos", "--out", "out"]
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            command, input=data, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, check=False
        )
    assert done.returncode == 3
    assert done.stderr.count(b"\n") == 1
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run(
            command, input=data, stdout=gone, stderr=subprocess.PIPE, cwd=tmp_path, check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")
