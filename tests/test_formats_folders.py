"""kp-prep's formats: pictures that are turned, names that a format cannot hold, and folders of
files that others have."""

import pytest
from conftest import in_process, lines, parse
from PIL import Image

from kptools.cli.prep import tool
from kptools.schemes import catalog

SWAP = catalog.get("ibug68").swap


def kp_prep(*words, stdin=()):
    return in_process(tool, *words, stdin=lines(stdin))


def prep(*words, status=0, **keys):
    done = kp_prep(*words, **keys)
    assert done.returncode == status, done.stderr
    return parse(done.stdout)


@pytest.fixture
def face(tmp_path):
    """A function that gives a face of 3 points, on a picture of 60x40 pixels."""

    def make(name="a", orientation=1, **keys):
        path = tmp_path / "in" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.new("RGB", (60, 40), "grey").save(path, exif=exif)
        size = [40, 60] if orientation > 4 else [60, 40]
        record = {"image": str(path), "id": name, "size": size, "box": [0.5, 1.5, 20.5, 30.5]}
        return record | {"points": [[1, 2], [30, 5], [7.0, 8.0]]} | keys

    return make


# dlib


@pytest.mark.parametrize(
    ("orientation", "stored"),  # where (1, 2) of the picture as shown lies, and its box
    [
        (1, [1, 2, 1, 2, 20, 29]),
        (2, [58, 2, 39, 2, 20, 29]),
        (3, [58, 37, 39, 9, 20, 29]),
        (4, [1, 37, 1, 9, 20, 29]),
        (5, [2, 1, 2, 1, 29, 20]),
        (6, [2, 38, 2, 19, 29, 20]),
        (7, [57, 38, 29, 19, 29, 20]),
        (8, [57, 1, 29, 1, 29, 20]),
    ],
)
def test_dlib_has_the_picture_as_stored(orientation, stored, face, tmp_path):
    points = [[i % 39, i % 37] for i in range(68)]
    points[0] = [1, 2]
    before = face(orientation=orientation, points=points, scheme="ibug68")
    prep("to", "dlib", "-o", tmp_path / "f.xml", stdin=[before])
    text = (tmp_path / "f.xml").read_text()
    x, y, left, top, width, height = stored
    mirrored = orientation in (2, 4, 5, 7)
    name = SWAP[0] if mirrored else 0
    assert f"<part name='{name:02d}' x='{x}' y='{y}'/>" in text
    assert f"<box top='{top}' left='{left}' width='{width}' height='{height}'>" in text
    assert "width='60' height='40'>" in text
    (after,) = prep("dlib", tmp_path / "f.xml")
    assert (after["points"], after["box"], after["size"]) == (points, before["box"], before["size"])


def test_dlib_without_the_prediction_that_was_asked_for_fails(face):
    done = kp_prep("to", "dlib", "--what", "pred", stdin=[face()])
    assert done.returncode == 1
    assert b"no `pred`" in done.stderr
    assert b"<box" not in done.stdout
    bare = face()
    del bare["points"]
    assert b"<box top='2' left='1'" in kp_prep("to", "dlib", stdin=[bare]).stdout


def test_a_name_that_xml_cannot_hold_fails(face, tmp_path):
    done = kp_prep("to", "dlib", "-o", tmp_path / "f.xml", stdin=[face("a\1"), face("b é<\t")])
    assert done.returncode == 1
    assert b"XML cannot hold the name" in done.stderr
    (after,) = prep("dlib", tmp_path / "f.xml", "--scheme", "none")
    assert after["image"] == face("b é<\t")["image"]


def dlib(tmp_path, parts, *words, left=1, status=0):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    text = f"<box top='1' left='{left}' width='900000' height='9'>{parts}</box>"
    (tmp_path / "f.xml").write_text(f"<d><image file='a.png'>{text}</image></d>")
    (record,) = prep("dlib", tmp_path / "f.xml", *words, status=status)
    return record


@pytest.mark.parametrize(
    ("names", "scheme", "reason"),
    [
        (["0", "00"], "none", "part 00 is there twice"),
        (["nose"], "none", "a part named 'nose'; names are numbers: 00, 01, and so on"),
        (["68"], "ibug68", "a part named '68'; names are 00 to 67"),
    ],
)
def test_names_of_parts_are_indices_and_come_once(names, scheme, reason, tmp_path):
    parts = "".join(f"<part name='{name}' x='1' y='2'/>" for name in names)
    record = dlib(tmp_path, parts, "--scheme", scheme, status=1)
    assert (record["status"], record["error"]) == ("bad_points", reason)


def test_a_box_of_dlib_ends_within_bounds(tmp_path):
    assert dlib(tmp_path, "")["box"][2] == 900000.5
    assert dlib(tmp_path, "", left=900000, status=1)["status"] == "bad_box"


# YOLO


def test_yolo_reads_a_byte_order_mark_and_fails_what_is_out_of_bounds(face, tmp_path):
    pytest.importorskip("yaml", reason="needs the extra formats")
    prep("to", "yolo", "--out", tmp_path / "y", stdin=[face()])
    for path in (tmp_path / "y" / "data.yaml", tmp_path / "y" / "labels" / "train" / "a.txt"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    (again,) = prep("yolo", tmp_path / "y", "--scheme", "none")
    assert again["points"] == face()["points"]
    path.write_text("0 0.5 0.5 0.2 0.2 900000 0.5 2 0.5 0.5 2 0.5 0.5 2\n")
    (again,) = prep("yolo", tmp_path / "y", "--scheme", "none", status=1)
    assert again["status"] == "bad_points"


def test_data_yaml_is_found_from_any_folder(face, tmp_path):
    yaml = pytest.importorskip("yaml", reason="needs the extra formats")
    prep("to", "yolo", "--out", tmp_path / "y", stdin=[face(split="val")])
    found = yaml.safe_load((tmp_path / "y" / "data.yaml").read_text())
    assert "path" not in found  # which is then its own folder
    assert (found["train"], found["val"]) == ("images/val", "images/val")


def test_a_picture_of_yolo_has_one_split(face, tmp_path):
    faces = [face(), face(id="a#2", split="test"), face(id="a#3", split="train")]
    done = kp_prep("to", "yolo", "--out", tmp_path / "y", stdin=faces)
    assert done.returncode == 1
    assert b":2: its split is test, but train that of a face before it" in done.stderr
    assert len((tmp_path / "y" / "labels" / "train" / "a.txt").read_text().splitlines()) == 2
    assert not (tmp_path / "y" / "labels" / "test").exists()


def test_points_outside_are_counted_and_a_wrong_size_fails(face, tmp_path):
    outside = face("b", points=[[1, 2], None, [61, 3]])
    done = kp_prep("to", "yolo", "--out", tmp_path / "y", stdin=[face(), outside])
    assert done.returncode == 0
    assert b"1 picture has a point outside" in done.stderr
    for name in ("yolo", "dlib"):
        out = ["--out", tmp_path / "z"] if name == "yolo" else []
        done = kp_prep("to", name, *out, stdin=[face(size=[600, 400])])
        assert done.returncode == 1
        assert b"has 60x40 pixels, and `size` says 600x400" in done.stderr


# .pts


@pytest.mark.parametrize("head", ["\ufeffversion: 1\nn_points:2\n", "n_points : 2\n", "\ufeff"])
def test_headers_of_pts(head, tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    (tmp_path / "a.pts").write_text(head + "{\n1 2\n3 4\n}\n", encoding="utf-8")
    (record,) = prep("pts", tmp_path, "--scheme", "none")
    assert record["points"] == [[0, 1], [2, 3]]
    (tmp_path / "a.pts").write_text("n_points:3\n{\n1 2\n3 4\n}\n")
    assert "should have 3" in prep("pts", tmp_path, "--scheme", "none", status=1)[0]["error"]


def test_ids_that_are_long_or_differ_in_case_have_files_of_their_own(face, tmp_path):
    faces = [face(id=name) for name in ("x/A", "x/a", "e" * 300, "f" * 300, "é" * 150)]
    prep("to", "pts", "--out", tmp_path / "p", stdin=faces)
    names = [str(path.relative_to(tmp_path / "p")) for path in (tmp_path / "p").rglob("*.pts")]
    assert len({name.lower() for name in names}) == len(faces)
    assert "x/A.pts" in names
    done = kp_prep("to", "pts", "--out", tmp_path / "q", stdin=[faces[0], faces[0]])
    assert done.returncode == 1
    assert b"another face has the id x/A" in done.stderr


# Folders


@pytest.mark.parametrize("name", ["pts", "yolo", "labelme"])
def test_a_folder_that_holds_something_is_refused(name, face, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.pts").write_text("mine")
    done = kp_prep("to", name, "--out", tmp_path / "out", stdin=[face()])
    assert done.returncode == 3
    (line,) = done.stderr.decode().splitlines()
    assert "out is not empty; give --out another folder, or empty it" in line
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["a.pts"]
    assert (tmp_path / "out" / "a.pts").read_text() == "mine"


@pytest.mark.parametrize("name", ["pts", "yolo"])
def test_a_picture_that_cannot_be_read_fails_its_face_alone(name, face, tmp_path):
    faces = [face("a"), face("b"), face("c"), face("d")]
    (tmp_path / "in" / "b.png").unlink()
    (tmp_path / "in" / "c.png").write_bytes(b"no picture")
    done = kp_prep("to", name, "--out", tmp_path / "out", stdin=faces)
    assert done.returncode == 1
    assert b"b.png does not exist" in done.stderr
    assert b"c.png is no image" in done.stderr
    found = {path.stem for path in (tmp_path / "out").rglob("*.*")}
    assert found == {"a", "d"} | ({"data"} if name == "yolo" else set())


@pytest.mark.parametrize("name", ["pts", "yolo"])
def test_pictures_are_copies(name, face, tmp_path):
    before = face()
    prep("to", name, "--out", tmp_path / "out", stdin=[before])
    (copy,) = (tmp_path / "out").rglob("*.png")
    original = (tmp_path / "in" / "a.png").read_bytes()
    assert copy.read_bytes() == original
    copy.write_bytes(b"")
    assert (tmp_path / "in" / "a.png").read_bytes() == original
