"""kp-prep's formats, COCO before all: values that are wrong, odd or large, and nothing lost."""

import json

import pytest
from conftest import nose, parse
from test_formats import image, kp_prep, prep


def document(folder, *annotations, category=None, **picture):
    """A COCO file of one picture of 100x80 pixels, with these annotations."""
    image(folder / "a.png")
    found = {
        "images": [{"id": 1, "file_name": "a.png"} | picture],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]} | a for a in annotations
        ],
        "categories": [{"id": 1, "name": "face"} | (category or {})],
    }
    path = folder / "a.json"
    path.write_text(json.dumps(found))
    return path


def there_and_back(folder, *records, words=()):
    """The records as a COCO file, read again."""
    for record in records:
        image(folder / "a.png")
        record |= {"image": str(folder / "a.png"), "size": [100, 80]}
    prep("to", "coco", "-o", folder / "f.json", stdin=records)
    return prep("coco", folder / "f.json", *words)


def test_a_large_box_comes_back_and_a_sum_that_is_too_large_is_a_bad_box(tmp_path):
    wide = nose(0, 0, 0, box=[-1000000, 5, 1000000, 20])
    corner = nose(1, 0, 0, box=[0.5, 0.5, 1000000, 1000000])
    boxes = [record["box"] for record in there_and_back(tmp_path, wide, corner)]
    assert boxes == [[-1000000, 5, 1000000, 20], [0.5, 0.5, 1000000, 1000000]]
    for bbox in ([1e6, 1, 1e6, 5], [9e9, 1, 1, 1], ["1", 1, 1, 1], [1, 1, 1], 5, [True, 1, 1, 1]):
        (record,) = prep("coco", document(tmp_path, {"bbox": bbox}), status=1)
        assert (record["status"], record["id"]) == ("bad_box", "a")


def test_ids_and_names_of_wrong_kinds_fail_their_face(tmp_path):
    path = document(tmp_path, {"category_id": [1]}, {}, {"image_id": {"a": 1}})
    first, second, third = prep("coco", path, status=1)
    assert "category_id" in first["error"]
    assert "status" not in second
    assert (third["status"], third["id"]) == ("bad_record", f"{path}:3")
    for name in ("\ud800x.jpg", "a\0.jpg", ""):
        path = document(tmp_path, {}, file_name=name)
        (record,) = prep("coco", path, status=1)
        assert (record["status"], record["id"]) == ("bad_record", f"{path}:1")


@pytest.mark.parametrize(
    ("width", "is_wrong"),
    [(100, False), (100.0, False), (64.0, True), (64, True), (-(10**30), False), (None, False)],
)
def test_the_size_that_the_file_gives_is_checked(width, is_wrong, tmp_path):
    path = document(tmp_path, {}, width=width, height=80)
    (record,) = prep("coco", path, status=int(is_wrong))
    assert ("says 64x80" in record.get("error", "").replace(".0", "")) == is_wrong


def test_predictions_visibility_and_the_keys_of_others_come_back(tmp_path):
    records = [
        nose(0, 1, 2, score=[0.25]),
        nose(1, 0, 0, visible=[1]),
        nose(2, 0, 0, points=[None], visible=[0]),
        nose(3, 0, 0, points=[[1, 2], None, [3, 4]], visible=[1, 0, 0], scheme="my3"),
        nose(4, 0, 0, skeleton=5, category=None, iscrowd=0),
        nose(5, 0, 0, skeleton=[["a", 1]], point_names={"a": 1}, category=[1], iscrowd=1),
        nose(6, 0, 0, skeleton=[[0, 98]], point_names=["a", "b"], category="face"),
        nose(7, 0, 0, point_names=["a", "b"], skeleton=[[0, 1]], visible=[1, 0]),
    ]
    del records[7]["points"]
    for record in records[5:]:
        del record["scheme"]
    again = there_and_back(tmp_path, *records, words=("--scheme", "none"))
    for before, after in zip(records, again, strict=True):
        # COCO needs names of points: 0, 1, and so on
        added = {"group", "dataset"} | {"point_names"} - before.keys()
        assert {key: after[key] for key in after.keys() - added} == before


@pytest.mark.parametrize(
    ("kept", "status"),
    [
        ({"points": "q"}, "bad_points"),
        ({"points": [[1, 2]], "visible": [1, 1]}, "bad_points"),
        ({"split": 5}, "bad_record"),
        ({"group": [1]}, "bad_record"),
        ({"group": "\ud800"}, "bad_record"),
        ({"scheme": 5}, "bad_record"),
        ({"id": 5}, "bad_record"),
        ({"box": None}, "bad_box"),
    ],
)
def test_the_kept_keys_of_a_record_are_checked(kept, status, tmp_path):
    first, second = prep("coco", document(tmp_path, {"record": kept}, {}), status=1)
    assert first["status"] == status
    assert "status" not in second


def test_lines_of_a_skeleton_that_join_no_points_are_left_out_and_reported(tmp_path):
    lines = [[0, 1], [1, 2], [1, 99], ["a", 1], 5]
    category = {"keypoints": ["l", "r"], "skeleton": lines}
    faces = [{"keypoints": [1, 2, 2, 3, 4, 2]}] * 2
    done = kp_prep("coco", document(tmp_path, *faces, category=category), "--scheme", "none")
    assert [record["skeleton"] for record in parse(done.stdout)] == [[[0, 1]]] * 2
    assert done.stderr.count(b"4 lines of the skeleton of category 1") == 1


# Kaggle, labelme and WFLW


@pytest.mark.parametrize("name", ["coco", "csv", "kaggle", "labelme", "yolo", "pts"])
def test_a_face_without_a_prediction_fails_where_one_is_wanted(name, tmp_path):
    picture = str(image(tmp_path / "a.png", (96, 96)))
    face = nose(0, 0, 0, image=picture, size=[96, 96], scheme="kaggle15", points=[[1, 2]] * 15)
    del face["pred"]
    where = ["--out" if name in ("labelme", "yolo", "pts") else "-o", tmp_path / "f"]
    done = kp_prep("to", name, "--what", "pred", *where, stdin=[face])
    assert done.returncode == 1
    assert b"no `pred`" in done.stderr
    assert not list(tmp_path.glob("f/*.json"))
    if name == "coco":
        written = json.loads((tmp_path / "f").read_text())
        assert (written["annotations"], written["categories"]) == ([], [])


def labelme_file(folder, name, *labels, **keys):
    image(folder / f"{name}.png")
    shapes = [
        {"label": label, "shape_type": "point", "points": [[9.5 + 3 * i, 8.5 + i]]}
        for i, label in enumerate(labels)
    ]
    found = {"imagePath": f"{name}.png", "imageWidth": 100, "imageHeight": 80, "shapes": shapes}
    (folder / f"{name}.json").write_text("\ufeff" + json.dumps(found | keys))


def test_a_broken_file_of_labelme_fails_alone_and_those_without_a_face_are_counted(tmp_path):
    labelme_file(tmp_path, "a", "0", "1")
    labelme_file(tmp_path, "b", "eye", "nose")
    labelme_file(tmp_path, "c", imagePath="\ud800.png")
    labelme_file(tmp_path, "d")
    labelme_file(tmp_path, "e", "0", "1")
    done = kp_prep("labelme", tmp_path, "--scheme", "none")
    assert done.returncode == 1
    records = parse(done.stdout)
    assert [(r["id"], r.get("status")) for r in records] == [
        ("a", None), ("b", "bad_points"), ("c", "bad_record"), ("e", None)
    ]  # fmt: skip
    assert records[3]["points"] == [[9, 8], [12, 9]]
    assert "--labels eye,nose" in records[1]["error"]
    assert b"1 of 5 files have no face" in done.stderr


def test_wflws_paths_may_have_spaces_and_a_short_line_is_named_by_its_number(tmp_path):
    image(tmp_path / "WFLW_images" / "my faces" / "a 1.png")
    path = tmp_path / "list_98pt_rect_attr_train.txt"
    numbers = " ".join(["7"] * 196)
    path.write_text(f"1 2 3\n{numbers} 1 2 60 70 0 0 0 0 0 0 my faces/a 1.png\n")
    first, second = prep("wflw", path, status=1)
    assert (first["id"], first["status"]) == (f"{path}:1", "bad_record")
    assert (second["id"], second["size"]) == ("my faces/a 1", [100, 80])
