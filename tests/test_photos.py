"""kp-prep photos: one's own pictures, with a detector that the test makes up."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import parse, run
from PIL import Image

from kptools.datasets import photos


def bright_squares(pixels: np.ndarray, upsample: int) -> list[SimpleNamespace]:
    """A detector of white squares, its boxes inclusive of their last pixel as dlib's are."""
    white = pixels[:, :, 0] > 128
    found = []
    columns = np.flatnonzero(np.diff(np.concatenate([[0], white.any(axis=0), [0]])))
    for x0, x1 in columns.reshape(-1, 2).tolist():
        rows = np.flatnonzero(white[:, x0:x1].any(axis=1))
        edges = {"left": x0, "right": x1 - 1, "top": int(rows[0]), "bottom": int(rows[-1])}
        found.append(SimpleNamespace(**{k: (lambda v=v: v) for k, v in edges.items()}))
    return found


@pytest.mark.parametrize("size", [(320, 240), (4003, 3001)])
@pytest.mark.parametrize("orientation", [1, 6, 3])
def test_boxes_come_back_to_the_pixels_of_the_file(tmp_path, size, orientation):
    """Small pictures are searched enlarged, large ones shrunk, turned ones as they are shown."""
    w, h = size
    image = Image.new("RGB", size)
    image.paste("white", (w // 8, h // 4, w // 2, h // 2))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "photo.jpg"
    image.save(path, quality=95, exif=exif)
    x0, y0, x1, y1 = w // 8, h // 4, w // 2, h // 2
    shown = {
        1: (x0, y0, x1, y1),
        3: (w - x1, h - y1, w - x0, h - y0),
        6: (h - y1, x0, h - y0, x1),
    }[orientation]
    (box,) = photos.find(str(path), bright_squares)
    assert box == pytest.approx([v - 0.5 for v in shown], abs=w / 320)


def test_several_faces_are_several_records_of_one_group(tmp_path, monkeypatch):
    image = Image.new("RGB", (300, 200))
    for x in (20, 120, 220):
        image.paste("white", (x, 50, x + 50, 100))
    image.save(tmp_path / "three.png")
    Image.new("RGB", (300, 200)).save(tmp_path / "none.png")
    monkeypatch.setattr(photos, "_detector", lambda: bright_squares)
    records = [item.record for item in photos.read([str(tmp_path)], detect=True)]
    assert [r["id"] for r in records] == ["none", "three", "three#2", "three#3"]
    assert records[0]["status"] == "no_face"
    assert len({r["group"] for r in records[1:]}) == 1
    assert records[1]["box"][0] < records[2]["box"][0] < records[3]["box"][0]
    assert records[1]["box_source"] == "detector:dlib-frontal"


def test_what_cannot_be_read_is_a_record(tmp_path, face: Callable[..., dict]):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 50)
    (tmp_path / "b.jpg").write_bytes(b"")
    Image.new("RGB", (30, 20)).save(tmp_path / "c.JPG")
    done = run("prep", "photos", tmp_path, "--box", "image")
    records = parse(done.stdout)
    assert done.returncode == 1
    assert [r.get("status") for r in records] == ["unreadable", "unreadable", None]
    assert records[2]["box"] == [-0.5, -0.5, 29.5, 19.5]
    assert run("prep", "photos", tmp_path / "nothing").returncode == 2


def test_without_the_detector_it_says_how_to_get_it(tmp_path):
    blocked = tmp_path / "dlib.py"
    blocked.write_text("raise ImportError")
    done = run("prep", "photos", tmp_path, env={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 3
    assert b"pip install dlib-bin" in done.stderr
    assert b"--box image" in done.stderr
