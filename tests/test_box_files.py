"""kp-prep photos --boxes: boxes that somebody already has, joined by the photo's name."""

import pytest
from conftest import parse, run
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    for name in ("a.jpg", "day1/b.png", "day2/c.jpg"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (60, 40)).save(path)
    return tmp_path / "in"


def boxed(photos, text, suffix=".csv"):
    boxes = photos.parent / f"boxes{suffix}"
    boxes.write_text(text)
    return run("prep", "photos", photos, "--boxes", boxes)


def test_a_table_gives_boxes_by_path_and_by_bare_name(photos):
    done = boxed(photos, "image,x0,y0,x1,y1\na.jpg,1,2,31,32\nb.png,0,0,9,8\na.jpg,5,5,9.5,9\n")
    records = parse(done.stdout)
    assert [(r["id"], r.get("box")) for r in records] == [
        ("a", [1, 2, 31, 32]),
        ("a#2", [5, 5, 9.5, 9]),
        ("day1/b", [0, 0, 9, 8]),
        ("day2/c", None),
    ]
    assert [r.get("box_source") for r in records] == ["dataset"] * 3 + [None]
    assert records[3]["status"] == "no_face"
    assert done.returncode == 1


@pytest.mark.parametrize("names", ["left,top,width,height", "x,y,w,h", "X, Y, Width, Height"])
def test_a_table_may_have_a_corner_and_a_size(photos, names):
    done = boxed(photos, f"file,{names}\nday1/b.png,10,5,20,30\n")
    assert [r["box"] for r in parse(done.stdout) if "box" in r] == [[10, 5, 30, 35]]


def test_json_lines_keep_their_source_and_roll(photos):
    line = '{"image":"x/c.jpg","box":[1,1,9,9],"box_source":"detector:mine","roll":90}\n'
    done = boxed(photos, line, ".jsonl")
    assert b"found" not in done.stderr  # nothing was searched
    (_, _, record) = parse(done.stdout)
    assert record["box_source"] == "detector:mine"
    assert record["roll"] == 90


def test_photos_of_the_file_that_are_not_there_are_counted(photos):
    done = boxed(photos, "image,x0,y0,x1,y1\na.jpg,1,2,31,32\ngone.jpg,0,0,9,8\n")
    assert b"1 of its photos are not among those named" in done.stderr


def test_a_name_that_two_photos_of_the_file_bear_needs_its_folder(photos):
    text = "image,x0,y0,x1,y1\nday1/c.jpg,1,2,31,32\nday2/c.jpg,0,0,9,8\n"
    (record,) = [r for r in parse(boxed(photos, text).stdout) if "box" in r]
    assert (record["id"], record["box"]) == ("day2/c", [0, 0, 9, 8])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.jpg,1,2,3,4\n", ":1: the first line names no columns"),
        ("image,x0,y0,x1,y1\na.jpg,1,2,three,4\n", ":2: x1 is 'three', and no number"),
        ("image,x0,y0,x1,y1\na.jpg,1,2\n", ":2: x1 is None, and no number"),
        ("image,x0,y0,x1,y1\na.jpg,5,2,1,4\n", ":2: "),
        ('{"image":"a.jpg"}\n', ":1: "),
        ("{no json\n", ":1: not an object"),
    ],
)
def test_a_broken_file_is_one_line_and_exit_3(photos, text, message):
    done = boxed(photos, text)
    assert done.returncode == 3
    (line,) = done.stderr.decode().splitlines()
    assert message in line


def test_a_row_serves_one_photo_alone(photos):
    Image.new("RGB", (60, 40)).save(photos / "day1" / "c.jpg")
    done = boxed(photos, "image,x0,y0,x1,y1\nday1/c.jpg,1,2,31,32\n")
    assert done.returncode == 3
    assert b"write the folder before each name" in done.stderr


def test_a_table_with_an_open_quote_is_one_line_and_exit_3(photos):
    rows = "a.jpg,10,10,100,100\n" * 10_000
    done = boxed(photos, 'image,x0,y0,x1,y1\n"a.jpg,10,10,100,100\n' + rows)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1


def test_boxes_and_the_whole_image_are_not_asked_for_at_once(photos):
    (photos.parent / "b.csv").write_text("image,x0,y0,x1,y1\n")
    done = run("prep", "photos", photos, "--box", "image", "--boxes", photos.parent / "b.csv")
    assert done.returncode == 2
