"""kp-prep: the datasets against files written out here, and against the real ones; one's own
photos, with a detector that the test makes up."""

import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import parse, run
from PIL import Image

from kptools.datasets import ibug, imm, photos
from kptools.datasets.common import photo
from kptools.datasets.detectors import dlib_frontal
from kptools.datasets.synthetic.faces import synthesize
from kptools.schemes import catalog
from kptools.storage import images

PTS_HEADER = "version: 1\nn_points:  68\n{\n"


def image(path: Path, size=(100, 80)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "grey").save(path)
    return path


def part(index: int, x: int, y: int) -> str:
    return f"<part name='{index:02d}' x='{x}' y='{y}'/>"


def xml(folder: Path, body: str, name: str = ibug.XML) -> Path:
    path = folder / name
    path.write_text(f"<?xml version='1.0'?>\n<dataset><images>\n{body}\n</images></dataset>\n")
    return path


def prep(*arguments, **keys):
    return run("prep", *arguments, **keys)


def test_dlib_numbers_stay_and_boxes_bound_an_area(tmp_path):
    image(tmp_path / "afw" / "7_1.jpg")
    parts = "".join(part(i, 10 + i, 70 - i) for i in reversed(range(68)))  # in any order
    xml(
        tmp_path,
        f"<image file='afw/7_1.jpg'>\n<box top='-3' left='5' width='60' height='50'>{parts}</box>\n"
        "<box left='1' top='2' width='3' height='4'/></image>",
    )
    done = prep("ibug", tmp_path)
    first, second = parse(done.stdout)
    assert done.returncode == 0, done.stderr
    assert first["box"] == [4.5, -3.5, 64.5, 46.5]
    assert first["points"] == [[10 + i, 70 - i] for i in range(68)]
    assert (first["id"], second["id"]) == ("afw/7_1", "afw/7_1#2")
    assert first["group"] == second["group"] == "afw/7"
    assert first["size"] == [100, 80]
    assert first["image"] == f"{tmp_path}/afw/7_1.jpg"
    assert "points" not in second


def test_parts_that_are_missing_are_null(tmp_path):
    image(tmp_path / "a.jpg")
    xml(tmp_path, f"<image file='a.jpg'><box left='0' top='0' width='9' height='9'>{part(3, 1, 2)}"
        "</box></image>")  # fmt: skip
    (record,) = parse(prep("ibug", tmp_path).stdout)
    assert record["points"][3] == [1, 2]
    assert record["points"].count(None) == 67


def test_a_missing_image_is_a_record_told_with_file_and_line(tmp_path):
    path = xml(
        tmp_path, "<image file='gone.jpg'>\n<box left='0' top='0' width='9' height='9'/></image>"
    )
    done = prep("ibug", tmp_path)
    (record,) = parse(done.stdout)
    assert done.returncode == 1
    assert record["status"] == "missing"
    assert record["box"] == [-0.5, -0.5, 8.5, 8.5]
    assert f"{path}:4: ".encode() in done.stderr
    assert b"1 of 1 records failed" in done.stderr


def test_a_face_listed_twice_is_told(tmp_path):
    image(tmp_path / "a.jpg")
    one = "<image file='a.jpg'><box left='0' top='0' width='9' height='9'/></image>"
    done = prep("ibug", xml(tmp_path, one + one).parent)
    assert done.returncode == 1
    assert [r.get("status") for r in parse(done.stdout)] == [None, "bad_record"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("<image file='a.jpg'><box left='x' top='0' width='9' height='9'/></image>", "bad_box"),
        ("<image file='a.jpg'><box left='0' top='0' width='0' height='9'/></image>", "bad_box"),
        ("<image file='a.jpg'><box left='0' top='0' width='1e308' height='9'/></image>", "bad_box"),
        ("<image file='a.jpg'><box left='0' top='0' width='9' height='9'>"
         "<part name='99' x='1' y='1'/></box></image>", "bad_points"),
        ("<image file='a.jpg'><box left='0' top='0' width='9' height='9'>"
         "<part name='00' x='1e999' y='1'/></box></image>", "bad_points"),
        ("<image><box left='0' top='0' width='9' height='9'/></image>", "bad_record"),
    ],
)  # fmt: skip
def test_what_a_box_cannot_be_is_a_failure(tmp_path, body, status):
    image(tmp_path / "a.jpg")
    done = prep("ibug", xml(tmp_path, body).parent)
    assert [r["status"] for r in parse(done.stdout)] == [status]
    assert done.returncode == 1


def test_xml_that_breaks_off_is_exit_3_after_the_faces_before_it(tmp_path):
    image(tmp_path / "a.jpg")
    (tmp_path / ibug.XML).write_text(
        "<dataset><image file='a.jpg'><box left='0' top='0' width='9' height='9'/></image>\n"
        "<image file="
    )
    done = prep("ibug", tmp_path)
    assert done.returncode == 3
    assert len(parse(done.stdout)) == 1
    assert b":2: not well-formed" in done.stderr


def test_faces_before_the_break_are_out_though_they_came_in_one_piece_with_it(tmp_path):
    image(tmp_path / "a.jpg")
    box = "<box left='0' top='0' width='9' height='9'/>"
    (tmp_path / ibug.XML).write_text(f"<d><image file='a.jpg'>{box}{box}</image><d></image></d>")
    done = prep("ibug", tmp_path)
    assert done.returncode == 3
    assert len(parse(done.stdout)) == 2


def test_entities_are_refused(tmp_path):
    (tmp_path / ibug.XML).write_text(
        '<!DOCTYPE d [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><dataset>&b;</dataset>'
    )
    done = prep("ibug", tmp_path)
    assert done.returncode == 3
    assert b"entities" in done.stderr


@pytest.mark.parametrize("name", ["ISOOO-1", "utf-7"])
def test_an_encoding_that_cannot_be_read_is_one_line(tmp_path, name):
    (tmp_path / ibug.XML).write_text(f"<?xml version='1.0' encoding='{name}'?><dataset/>")
    done = prep("ibug", tmp_path)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("header", [True, False])
def test_pts_files_are_one_based(tmp_path, header):
    image(tmp_path / "helen" / "3_1.png")
    rows = "\n".join(f"{1 + i}.5 {2 + i}.25" for i in range(68))
    text = f"{PTS_HEADER}{rows}\n}}" if header else rows
    (tmp_path / "helen" / "3_1.pts").write_text(text)
    (record,) = parse(prep("ibug", tmp_path, "--annotations", "pts").stdout)
    assert record["points"][:2] == [[0.5, 1.25], [1.5, 2.25]]
    assert record["box"] == [0.5, 1.25, 67.5, 68.25]
    assert record["box_source"] == "points"
    assert record["image"].endswith("helen/3_1.png")


def test_boxes_of_the_xml_join_the_points_of_the_pts(tmp_path):
    image(tmp_path / "a.jpg")
    (tmp_path / "a.pts").write_text("\n".join(f"{1 + i}.5 2.25" for i in range(68)))
    xml(tmp_path, f"<image file='a.jpg'><box left='1' top='1' width='9' height='9'>{part(0, 1, 1)}"
        "</box></image>")  # fmt: skip
    done = prep("ibug", tmp_path, "--annotations", "pts", "--xml", ibug.XML)
    (record,) = parse(done.stdout)
    assert record["points"][0] == [0.5, 1.25]
    assert record["box"] == [0.5, 0.5, 9.5, 9.5]
    assert record["box_source"] == "detector:dlib-frontal"  # iBUG's own file
    (tmp_path / ibug.XML).rename(tmp_path / "mine.xml")
    done = prep("ibug", tmp_path, "--annotations", "pts", "--xml", "mine.xml")
    assert parse(done.stdout)[0]["box_source"] == "dataset"


def test_a_pts_file_of_67_points_is_told(tmp_path):
    image(tmp_path / "a.jpg")
    (tmp_path / "a.pts").write_text("1 2\n" * 67)
    done = prep("ibug", tmp_path, "--annotations", "pts")
    assert done.returncode == 1
    assert [r["status"] for r in parse(done.stdout)] == ["bad_points"]
    assert b"67 points" in done.stderr


def asf(path: Path, points, extra: str = "", host: str = "wrong.bmp") -> None:
    rows = "\n".join(f"0 \t4 {x} \t {y} {i} 0 0{extra}" for i, (x, y) in enumerate(points))
    path.write_text(f"# comment\n\n58\n\n{rows}\n\n{host}\n")


@pytest.mark.parametrize("extra", ["", " 0.1 0.2 0.3"])
def test_asf_points_are_fractions_of_the_picture_paired_by_stem(tmp_path, extra):
    points = [(i / 100, 0.5 + i / 200) for i in range(58)]
    for name in ("01-1m", "33-2f"):
        image(tmp_path / f"{name}.jpg", (640, 480))
        asf(tmp_path / f"{name}.asf", points, extra)
    train, val = parse(prep("imm", tmp_path).stdout)
    assert train["points"][10] == pytest.approx([64.0, 264.0])
    assert (train["split"], val["split"]) == ("train", "val")
    assert (train["group"], val["group"]) == ("01", "33")
    assert train["box"] == [-0.5, -0.5, 639.5, 479.5]
    (nose, _) = parse(prep("imm", tmp_path, "--points", "nose").stdout)
    assert nose["points"] == [train["points"][52]]
    assert nose["scheme"] == "nose1"


@pytest.mark.parametrize("number", ["nan", "inf", "1e308", "x"])
def test_a_coordinate_that_is_no_number_fails_the_face(tmp_path, number):
    points = [(0.5, number if i == 7 else 0.5) for i in range(58)]
    image(tmp_path / "01-1m.jpg")
    asf(tmp_path / "01-1m.asf", points)
    done = prep("imm", tmp_path)
    assert [r["status"] for r in parse(done.stdout)] == ["bad_points"]
    assert b"01-1m.asf:12" in done.stderr
    rows = [f"1 {number if i == 7 else 1}" for i in range(68)]
    for header in ("", f"n_points: {'9' * 5000}"):
        (tmp_path / "01-1m.pts").write_text(
            "\n".join([header, *(rows if not header else ["1 1"] * 68)])
        )
        done = prep("ibug", tmp_path, "--annotations", "pts")
        assert [r["status"] for r in parse(done.stdout)] == ["bad_points"]


def test_points_are_kept_under_their_own_scheme(tmp_path):
    image(tmp_path / "01-1m.jpg")
    asf(tmp_path / "01-1m.asf", [(i / 100, 0.1) for i in range(58)])
    (some,) = parse(prep("imm", tmp_path, "--points", "3,region:right_brow").stdout)
    assert some["scheme"] == "imm58:3,34,35,36,37,38"
    assert len(some["points"]) == 6
    wrong = prep("imm", tmp_path, "--points", "region:ear")
    assert wrong.returncode == 2
    assert b"right_brow" in wrong.stderr  # it says what is valid


@pytest.mark.parametrize(
    "order", [[4, 3, 2, 1, 0, 7, 6, 5], [0, 7, 6, 5, 4, 3, 2, 1], [4, 5, 6, 7, 0, 1, 2, 3]]
)
def test_an_eye_that_runs_the_wrong_way_round_is_turned(order):
    angle = [math.pi * (1 - i / 4) for i in range(8)]
    ring = [[30 + 10 * math.cos(a), 40 - 4 * math.sin(a)] for a in angle]  # outer corner at left
    points = [[float(i), 0.0] for i in range(58)]
    for i in range(8):
        points[21 + i] = list(ring[i])
        points[13 + i] = [160 - ring[i][0], ring[i][1]]
    sound = [list(p) for p in points]
    assert imm.turn_eyes(points) == []
    assert points == sound
    points[21:29] = [sound[21 + i] for i in order]
    assert imm.turn_eyes(points) == ["right_eye"]
    assert np.allclose(points, sound)


def test_the_held_out_groups_do_not_depend_on_order_or_limit(tmp_path):
    for i in range(40):
        image(tmp_path / f"{i:02d}_1.jpg")
    faces = [f"<image file='{i:02d}_1.jpg'><box left='0' top='0' width='9' height='9'/></image>"
             for i in range(40)]  # fmt: skip
    splits = []
    for body in (faces, faces[::-1], faces[:20]):
        xml(tmp_path, "".join(body))
        records = parse(prep("ibug", tmp_path, "--val-fraction", 0.3).stdout)
        splits.append({r["id"]: r["split"] for r in records})
    assert splits[0] == splits[1]
    assert splits[2].items() <= splits[0].items()
    assert 4 <= list(splits[0].values()).count("val") <= 20


def test_a_photo_is_one_group_with_its_mirror_and_its_other_faces():
    assert photo("afw/134212_1") == photo("afw/134212_2_mirror") == "afw/134212"
    assert photo("lfpw/trainset/image_0805") == "lfpw/trainset/image_0805"


def test_without_a_root_it_says_where_it_looked(tmp_path):
    done = prep("imm", cwd=tmp_path, env={"KPTOOLS_DATA": str(tmp_path / "sets")})
    assert done.returncode == 2
    assert b"sets/imm_face_db or data/imm_face_db" in done.stderr
    assert b"http" in done.stderr


def test_real_ibug_faces_come_out_whole(ibug_root):
    exact = parse(prep("ibug", ibug_root, "--annotations", "pts", "--xml", ibug.XML).stdout)
    coarse = parse(prep("ibug", ibug_root).stdout)
    assert len(exact) == len(coarse) == 1652
    assert len({r["id"] for r in exact}) == 1652
    for fine, whole in zip(exact, coarse, strict=True):
        assert fine["box"] == whole["box"]
        # the XML's whole pixels are the .pts' numbers, rounded
        apart = np.subtract(fine["points"], whole["points"])
        assert np.abs(apart).max() < 0.51
        assert abs(apart.mean()) < 0.12


def test_real_imm_faces_come_out_whole(imm_root):
    records = parse(prep("imm", imm_root).stdout)
    assert len(records) == len(list(imm_root.glob("*.asf")))
    assert all(r["size"] == [640, 480] for r in records)
    noses = np.array([r["points"][52] for r in records])
    eyes = np.array([np.mean(r["points"][13:29], axis=0) for r in records])
    assert (noses[:, 1] > eyes[:, 1]).all()  # below the eyes


# EXIF


def _stored(folder, orientation):
    """A drawn face whose file is stored turned, so that it is seen upright; annotated by dlib's
    XML and a .pts in the pixels as they are stored. Its points and box as shown."""
    face = synthesize(3, 0)
    # as files are turned to be seen, the other way round
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Image.Transpose
    stored = face.image.transpose(Image.Transpose(turn[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    folder.mkdir(exist_ok=True)
    stored.save(folder / "a.jpg", quality=95, exif=exif)
    w, h = face.image.size
    to_stored = {
        2: lambda x, y: (w - 1 - x, y),
        3: lambda x, y: (w - 1 - x, h - 1 - y),
        4: lambda x, y: (x, h - 1 - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (y, w - 1 - x),
        7: lambda x, y: (h - 1 - y, w - 1 - x),
        8: lambda x, y: (h - 1 - y, x),
    }[orientation]
    named = face.points
    if orientation in (2, 4, 5, 7):  # a mirror image: what is seen at its left is called right
        named = named[list(catalog.get("ibug68").swap)]
    points = [to_stored(*p) for p in named.tolist()]
    x0, y0, x1, y1 = (round(v) for v in face.box)
    corners = [to_stored(x0, y0), to_stored(x1, y1)]
    left, top = (min(c[i] for c in corners) for i in (0, 1))
    right, bottom = (max(c[i] for c in corners) for i in (0, 1))
    parts = "".join(
        f"<part name='{i:02d}' x='{round(x)}' y='{round(y)}'/>" for i, (x, y) in enumerate(points)
    )
    box = f"<box top='{top}' left='{left}' width='{right - left + 1}' height='{bottom - top + 1}'>"
    text = f"<dataset><images><image file='a.jpg'>{box}{parts}</box></image></images></dataset>"
    (folder / "faces.xml").write_text(text)
    rows = "\n".join(f"{x + 1} {y + 1}" for x, y in points)
    (folder / "a.pts").write_text(f"version: 1\nn_points:  68\n{{\n{rows}\n}}")
    return face, (x0 - 0.5, y0 - 0.5, x1 + 0.5, y1 + 0.5)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_annotations_of_a_turned_photo_are_turned_with_it(tmp_path, orientation):
    face, box = _stored(tmp_path / "d", orientation)
    exact = ("--annotations", "pts")
    for options in (("--xml", "faces.xml"), (*exact, "--xml", "faces.xml"), exact):
        done = run("prep", "ibug", tmp_path / "d", *options)
        assert done.returncode == 0, done.stderr
        (record,) = parse(done.stdout)
        assert record["size"] == list(face.image.size)
        worst = np.abs(np.array(record["points"]) - face.points).max()
        assert worst <= (1e-6 if exact[0] in options else 0.501), options
        if options != exact:
            assert record["box"] == pytest.approx(box)
        assert record["orientation"] == orientation
        assert b"1 faces are on pictures with an EXIF orientation" in done.stderr
    shown, _ = images.read(str(tmp_path / "d" / "a.jpg"))
    assert np.abs(np.asarray(shown, float) - np.asarray(face.image, float)).mean() < 3


# One's own photos


def bright_squares(pixels: np.ndarray, upsample: int) -> tuple[list, list, list]:
    """A detector of white squares, its boxes inclusive of their last pixel as dlib's are."""
    white = pixels[:, :, 0] > 128
    found = []
    columns = np.flatnonzero(np.diff(np.concatenate([[0], white.any(axis=0), [0]])))
    for x0, x1 in columns.reshape(-1, 2).tolist():
        rows = np.flatnonzero(white[:, x0:x1].any(axis=1))
        edges = {"left": x0, "right": x1 - 1, "top": int(rows[0]), "bottom": int(rows[-1])}
        found.append(SimpleNamespace(**{k: (lambda v=v: v) for k, v in edges.items()}))
    return found, [1.0] * len(found), [0] * len(found)


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
    (face,) = dlib_frontal.find(str(path), bright_squares)
    assert face.roll is None
    assert face.box == pytest.approx([v - 0.5 for v in shown], abs=w / 320)


def test_several_faces_are_several_records_of_one_group(tmp_path, monkeypatch):
    image = Image.new("RGB", (300, 200))
    for x in (20, 120, 220):
        image.paste("white", (x, 50, x + 50, 100))
    image.save(tmp_path / "three.png")
    Image.new("RGB", (300, 200)).save(tmp_path / "none.png")
    detect = lambda path: dlib_frontal.find(path, bright_squares)[::-1]  # noqa: E731
    monkeypatch.setattr(dlib_frontal, "load", lambda: detect)
    records = [item.record for item in photos.read([str(tmp_path)], "detector", "dlib")]
    assert [r["id"] for r in records] == ["none", "three", "three#2", "three#3"]
    assert records[0]["status"] == "no_face"
    assert len({r["group"] for r in records[1:]}) == 1
    assert records[1]["box"][0] < records[2]["box"][0] < records[3]["box"][0]
    assert records[1]["box_source"] == "detector:dlib-frontal"
    assert "roll" not in records[1]


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
