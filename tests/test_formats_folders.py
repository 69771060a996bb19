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
