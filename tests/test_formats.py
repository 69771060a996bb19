"""kp-prep's formats: read against files written out here and the samples of others, written and
read again, and read by the libraries whose formats they are."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, in_process, lines, nose, parse
from PIL import Image

from kptools.cli.prep import tool
from kptools.datasets import columns, numbers
from kptools.errors import KptoolsError
from kptools.schemes import catalog

SAMPLES = SHARED / "coco_json"
LABELS = ("size", "box", "points", "visible", "scheme")


def kp_prep(*words, stdin=b""):
    """kp-prep in this process."""
    return in_process(tool, *words, stdin=stdin if isinstance(stdin, bytes) else lines(stdin))


def prep(*words, status=0, **keys):
    done = kp_prep(*words, **keys)
    assert done.returncode == status, done.stderr
    return parse(done.stdout)


def failed(*words, status, **keys):
    """What a wrong use says, which is one line."""
    done = kp_prep(*words, **keys)
    assert done.returncode == status, done.stderr
    (line,) = done.stderr.decode().splitlines()
    return line


def image(path: Path, size=(100, 80)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, "grey").save(path)
    return path


@pytest.fixture
def faces(tmp_path):
    """Faces whose numbers have all digits that a float has, two on one picture; the points of some
    are null, hidden, or outside."""
    rng = random.Random(1)
    found = []
    for number, name in enumerate(["a", "b", "b", "d"]):
        image(tmp_path / "in" / f"{name}.png", (160, 120))
        points = [[rng.uniform(-1, 160), rng.gauss(0, 1) ** 9] for _ in range(68)]
        found.append(
            {
                "image": str(tmp_path / "in" / f"{name}.png"),
                "id": name if number != 2 else "b#2",
                "group": name,
                "size": [160, 120],
                "box": [rng.uniform(-3, 3), rng.uniform(-0.5, 9), 99.1, rng.uniform(50, 70)],
                "box_source": "dataset",
                "points": points,
                "scheme": "ibug68",
                "split": "train",
            }
        )
    found[1]["points"][7] = None
    found[1]["visible"] = [0] * 3 + [1] * 65
    return found


# Of each format: whether it is a folder, and what it cannot say
FORMATS = {
    "coco": ("f.json", ()),
    "csv": ("f.csv", ()),
    "labelme": ("folder", ()),
    "yolo": ("folder", ()),
    "pts": ("folder", ("box", "visible")),
}


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_read_again_to_the_last_digit(name, faces, tmp_path):
    out, lost = FORMATS[name]
    faces = [f | {"points": [p or [1, 2] for p in f["points"]]} if lost else f for f in faces]
    prep("to", name, "--out" if out == "folder" else "-o", tmp_path / out, stdin=faces)
    again = prep(name, tmp_path / out)
    seen = [1] * 68
    for before, after in zip(faces, again, strict=True):
        for key in [key for key in LABELS if key not in lost and key != "visible"]:
            assert after[key] == before[key], key
        if "visible" not in lost:
            flags = before.get("visible", seen)
            known = [v if p else 1 for v, p in zip(flags, before["points"], strict=True)]
            assert after.get("visible", seen) == known
        assert Path(after["image"]).stem in (Path(before["image"]).stem, before["id"])


@pytest.mark.parametrize("name", ["coco", "csv"])
def test_keys_that_the_format_has_no_word_for_come_back(name, faces, tmp_path):
    own = {"group": "p7", "split": "val", "person": "007", "n": 3, "list": [1, {"a": "é"}]}
    own |= {"dataset": "mine"}
    faces = [face | own for face in faces]
    prep("to", name, "-o", tmp_path / "f", stdin=faces)
    again = prep(name, tmp_path / "f")
    assert [{k: v for k, v in f.items() if k != "visible"} for f in again] == [
        {k: v for k, v in f.items() if k != "visible"} for f in faces
    ]


def test_one_based_tables_come_back(faces, tmp_path):
    prep("to", "csv", "--base", 1, "--delimiter", ";", "-o", tmp_path / "f.csv", stdin=faces)
    head, row = (tmp_path / "f.csv").read_text().splitlines()[:2]
    x = float(row.split(";")[head.split(";").index("jaw_1_x")])
    assert x == pytest.approx(faces[0]["points"][0][0] + 1)
    again = prep("csv", tmp_path / "f.csv", "--base", 1, "--delimiter", ";")
    assert [f["points"] for f in again] == [f["points"] for f in faces]


def test_dlib_has_whole_pixels_and_its_own_edges(tmp_path):
    image(tmp_path / "a.png")
    face = nose(0, 0, 0, image=str(tmp_path / "a.png"), size=[100, 80], points=[[10.4, 20.6]])
    face |= {"box": [4.5, -3.5, 64.5, 46.5]}
    prep("to", "dlib", "-o", tmp_path / "f.xml", stdin=[face])
    text = (tmp_path / "f.xml").read_text()
    assert "<box top='-3' left='5' width='60' height='50'>" in text
    assert "<part name='00' x='10' y='21'/>" in text
    (again,) = prep("dlib", tmp_path / "f.xml")
    assert (again["box"], again["points"]) == ([4.5, -3.5, 64.5, 46.5], [[10, 21]])


@pytest.mark.parametrize("name", ["coco", "csv"])
def test_a_prediction_is_written_with_its_score(name, tmp_path):
    image(tmp_path / "a.png", (200, 100))
    face = nose(0, 1, 2, image=str(tmp_path / "a.png"), score=[0.25])
    prep("to", name, "--what", "pred", "-o", tmp_path / "f", stdin=[face])
    (again,) = prep(name, tmp_path / "f")
    assert again["points"] == [[51, 52]]
    if name == "coco":
        assert json.loads((tmp_path / "f").read_text())["annotations"][0]["score"] == 0.25
    else:
        assert again["score"] == [0.25]


def test_what_a_format_cannot_hold_is_left_out_and_reported(faces, tmp_path):
    done = kp_prep("to", "pts", "--out", tmp_path / "p", stdin=faces)
    assert done.returncode == 1
    assert b"point 7 is null" in done.stderr
    assert len(list((tmp_path / "p").glob("*.pts"))) == 3
    apart = [faces[i] for i in (1, 0, 2)]
    done = kp_prep("to", "labelme", "--out", tmp_path / "l", stdin=apart)
    assert done.returncode == 1
    assert b"bring them together" in done.stderr
    gone = [faces[0] | {"image": str(tmp_path / "gone.png")}]
    for name in ("pts", "yolo"):
        done = kp_prep("to", name, "--out", tmp_path / name, stdin=gone)
        assert done.returncode == 1
        assert b"gone.png does not exist" in done.stderr
    done = kp_prep("to", "kaggle", stdin=faces)
    assert done.returncode == 1
    assert b"its scheme is not kaggle15" in done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_failures_are_not_written_and_nothing_is_no_error(tmp_path):
    bad = {"id": "a", "status": "missing", "error": "gone"}
    assert kp_prep("to", "coco", stdin=[bad]).returncode == 1
    done = kp_prep("to", "coco")
    assert done.returncode == 0
    assert json.loads(done.stdout)["annotations"] == []
    (tmp_path / "e.json").write_bytes(done.stdout)
    assert prep("coco", tmp_path / "e.json") == []


# COCO


def test_cocos_boxes_bound_an_area_and_v_is_null_hidden_or_seen(tmp_path):
    image(tmp_path / "pics" / "a.png")
    image(tmp_path / "pics" / "empty.png")
    keypoints = [1, 2, 2, 3.5, 4, 1, 0, 0, 0]
    person = {"image_id": 7, "category_id": 1, "bbox": [10, 20, 30.5, 40], "keypoints": keypoints}
    document = {  # the pictures after the annotations
        "annotations": [person, person | {"keypoints": [0] * 9, "iscrowd": 1}],
        "categories": [
            {"id": 1, "name": "person", "keypoints": ["n", "l", "r"], "skeleton": [[1, 3]]}
        ],
        "images": [
            {"id": 7, "file_name": "a.png", "width": 100, "height": 80},
            {"id": 8, "file_name": "empty.png", "width": 100, "height": 80},
        ],
    }  # fmt: skip
    path = tmp_path / "val2017.json"
    path.write_text(json.dumps(document))
    done = kp_prep("coco", path, "--images", tmp_path / "pics", "--scheme", "none")
    first, crowd = parse(done.stdout)
    assert first["box"] == [9.5, 19.5, 40.0, 59.5]
    assert first["points"] == [[1, 2], [3.5, 4], None]
    assert first["visible"] == [1, 0, 1]
    assert (first["point_names"], first["skeleton"]) == (["n", "l", "r"], [[0, 2]])
    assert "scheme" not in first
    assert (crowd["id"], crowd["iscrowd"], "points" in crowd) == ("a#2", 1, False)
    assert b"1 of 2 pictures have no face" in done.stderr
    assert "3 points" in failed("coco", path, "--images", tmp_path / "pics", status=3)
    document["images"][0]["width"] = 99
    path.write_text(json.dumps(document))
    done = kp_prep("coco", path, "--images", tmp_path / "pics", "--scheme", "none")
    assert done.returncode == 1
    assert b"100x80 pixels, and the file says 99x80" in done.stderr


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[1, 2]", "does not begin with {"),
        ("{}", "no `images`"),
        ('{"images": []}', "no `annotations`"),
        ('{"images": [], "annotations": [{]}', "no JSON from character"),
        ('{"images": [{"id": 1}], "annotations": []}', "no object with a file_name"),
        ("", "does not begin with {"),
    ],
)
def test_what_is_no_coco_is_one_line(tmp_path, text, reason):
    (tmp_path / "a.json").write_text(text)
    assert reason in failed("coco", tmp_path / "a.json", status=3)


@pytest.mark.parametrize(
    ("name", "scheme", "count"),
    [
        ("300w", "ibug68", 2),
        ("wflw", "wflw98", 4),
        ("cofw", "cofw29", 2),
        ("aflw", "aflw19", 2),
        ("lapa", "lapa106", 2),
        ("coco", None, 14),
        ("animalpose", None, 2),
    ],
)
def test_the_samples_of_others_there_and_back(name, scheme, count, tmp_path):
    if not SAMPLES.is_dir():
        pytest.skip("needs the samples of ../shared/data, which are not here")
    path = next((SAMPLES / name).glob("*.json"))
    words = [] if scheme else ["--scheme", "none"]
    records = prep("coco", path, *words)
    assert len(records) == count
    document = json.loads(path.read_text())
    for record, annotation in zip(records, document["annotations"], strict=True):
        flat = annotation["keypoints"]
        points = [p for p in record.get("points", []) if p is not None]
        assert points == [flat[i : i + 2] for i in range(0, len(flat), 3) if flat[i + 2]]
        assert record.get("scheme") == scheme
    prep("to", "coco", "-o", tmp_path / "f.json", stdin=records)
    again = prep("coco", tmp_path / "f.json", *words)
    assert again == records
    written = json.loads((tmp_path / "f.json").read_text())
    for ours, theirs in zip(written["annotations"], document["annotations"], strict=True):
        assert ours["bbox"] == pytest.approx(theirs["bbox"], abs=1e-12)
    records = [record for record in records if "points" in record]
    prep("to", "csv", "-o", tmp_path / "f.csv", stdin=records)
    again = prep("csv", tmp_path / "f.csv", *words)
    assert [a["points"] for a in again] == [r["points"] for r in records]


def test_pycocotools_reads_what_is_written(faces, tmp_path):
    coco = pytest.importorskip("pycocotools.coco", reason="needs the extra test")
    prep("to", "coco", "-o", tmp_path / "f.json", stdin=faces)
    found = coco.COCO(str(tmp_path / "f.json"))
    pictures = found.loadImgs(found.getImgIds())
    assert [Path(p["file_name"]).name for p in pictures] == ["a.png", "b.png", "d.png"]
    for annotation, face in zip(found.loadAnns(found.getAnnIds()), faces, strict=True):
        keypoints = annotation["keypoints"]
        known = [p or [0, 0] for p in face["points"]]
        assert [keypoints[i : i + 2] for i in range(0, len(keypoints), 3)] == known
        assert annotation["bbox"][0] == pytest.approx(face["box"][0] + 0.5)
        assert annotation["bbox"][2] == pytest.approx(face["box"][2] - face["box"][0])
    lines_of = found.loadCats(1)[0]["skeleton"]
    assert [[a - 1, b - 1] for a, b in lines_of] == [list(e) for e in catalog.get("ibug68").edges]


def test_the_real_faces_there_and_back(ibug_root, imm_root, tmp_path):
    words = ["--annotations", "pts", "--xml", "labels_ibug_300W_train.xml", "--limit", 60]
    for name, records in (
        ("ibug", prep("ibug", ibug_root, *words)),
        ("imm", prep("imm", imm_root, "--box", "points", "--limit", 60)),
    ):
        for format in ("coco", "csv"):
            path = tmp_path / f"{name}.{format}"
            prep("to", format, "-o", path, stdin=records)
            assert prep(format, path) == records
        prep("to", "labelme", "--out", tmp_path / name, stdin=records)
        again = {Path(r["image"]).name: r for r in prep("labelme", tmp_path / name)}
        for record in records:
            same = again[Path(record["image"]).name]
            assert (same["points"], same["box"]) == (record["points"], record["box"])


# Tables


def test_a_table_of_any_columns(tmp_path):
    image(tmp_path / "a.png")
    text = "photo;l_x;l_y;r_x;r_y;person;n\na.png;1.5;2;;;007;3\na.png;11;12;13;14;Ann;4.25\n"
    (tmp_path / "t.csv").write_text("\ufeff" + text)
    words = ["csv", tmp_path / "t.csv", "--delimiter", ";", "--scheme", "none", "--base", 1]
    first, second = prep(*words, "--image-column", "photo")
    assert first["points"] == [[0.5, 1], None]
    assert second["points"] == [[10, 11], [12, 13]]
    assert (first["person"], first["n"], second["n"]) == ("007", 3, 4.25)
    assert second["box"] == [10, 11, 12, 13]
    assert (first["id"], second["id"]) == ("a", "a#2")
    line = failed(*words, status=3)
    assert "its columns are photo, l_x, l_y, r_x, r_y, person, n" in line
    (tmp_path / "t.csv").write_text("image;l_x;l_y\na.png;1\na.png;1;z\na.png;1;\n")
    done = kp_prep(*words)
    assert [r["status"] for r in parse(done.stdout)] == ["bad_record", "bad_points", "bad_points"]
    assert b"t.csv:2: 2 cells, where there are 3 columns" in done.stderr


@pytest.mark.parametrize(
    ("names", "given", "points"),
    [
        ("image,x0,y0,x1,y1,x2,y2", None, ((1, 2), (3, 4), (5, 6))),
        ("image,x0,y0,x1,y1,nose_x,nose_y", None, ((5, 6),)),
        ("image,nose_y,nose_x", None, ((2, 1),)),
        ("image,0,1,2,3", "0..3", ((1, 2), (3, 4))),
        ("image,ax,ay,q,bx,by", "bx,by,ax,ay", ((4, 5), (1, 2))),
        ("image,px-1,py-1,px-2,py-2", "px-{},py-{}", ((1, 2), (3, 4))),
    ],
)
def test_columns_are_found_by_their_names(names, given, points):
    found = columns.find("t.csv", names.split(","), None, given, None, False)
    assert found.points == points
    assert found.box == ((1, 2, 3, 4) if "nose_x" in names and "x0" in names else ())


def test_columns_that_are_not_there_are_named():
    with pytest.raises(KptoolsError, match="no column 'z'; its columns are image, x0, y0"):
        columns.find("t.csv", ["image", "x0", "y0"], "z", None, None, False)
    with pytest.raises(KptoolsError, match="3 columns; x and y in turn are an even number"):
        columns.find("t.csv", ["image", "a", "b", "c"], None, "a..c", None, False)


def test_a_table_of_udacity(tmp_path):
    root = SHARED / "udacity_youtube68"
    if not root.is_dir():
        pytest.skip("needs the samples of ../shared/data, which are not here")
    path = root / "training_frames_keypoints.csv"
    words = ["--images", root / "training"]
    records = prep("csv", path, "--point-columns", "0..135", *words)
    rows = [line.split(",") for line in path.read_text().splitlines()]
    assert len(records) == 40
    for record, row in zip(records, rows[1:], strict=True):
        assert [v for point in record["points"] for v in point] == list(map(float, row[1:]))
        assert record["image"].endswith(row[0])
    (tmp_path / "h.csv").write_text("\n".join(",".join(row) for row in rows[1:]))
    assert prep("csv", tmp_path / "h.csv", "--headerless", *words) == records
    assert "and 125 more" in failed("csv", path, status=3)


# Kaggle, WFLW, COFW: files made to the specifications


def test_kaggles_table_there_and_back(tmp_path):
    rng = np.random.default_rng(0)
    names = [f"{name}_{axis}" for name in ("left_eye_center", "right_eye_center",
        "left_eye_inner_corner", "left_eye_outer_corner", "right_eye_inner_corner",
        "right_eye_outer_corner", "left_eyebrow_inner_end", "left_eyebrow_outer_end",
        "right_eyebrow_inner_end", "right_eyebrow_outer_end", "nose_tip", "mouth_left_corner",
        "mouth_right_corner", "mouth_center_top_lip", "mouth_center_bottom_lip",
    ) for axis in "xy"]  # fmt: skip
    levels = rng.integers(0, 256, (2, 9216))
    values = rng.uniform(0, 96, (2, 30)).tolist()
    rows = [
        [*map(repr, v), " ".join(map(str, p))] for v, p in zip(values, levels.tolist(), strict=True)
    ]
    rows[1][6:8] = "", ""
    table = "\n".join(",".join(row) for row in ([*names, "Image"], *rows)) + "\n"
    (tmp_path / "training.csv").write_text(table)
    records = prep("kaggle", tmp_path / "training.csv", "--out", tmp_path / "k")
    assert records[0]["points"] == [values[0][i : i + 2] for i in range(0, 30, 2)]
    assert records[1]["points"][3] is None
    assert records[0]["box"] == [-0.5, -0.5, 95.5, 95.5]
    assert (np.asarray(Image.open(records[1]["image"])).ravel() == levels[1]).all()
    prep("to", "kaggle", "-o", tmp_path / "again.csv", stdin=records)
    assert (tmp_path / "again.csv").read_text() == table
    (tmp_path / "test.csv").write_text(f"ImageId,Image\n1,{rows[0][-1]}\n2,1 2 3\n")
    first, second = prep("kaggle", tmp_path / "test.csv", "--out", tmp_path / "k", status=1)
    assert (first["split"], first["ImageId"], "points" in first) == ("test", "1", False)
    assert second["status"] == "unreadable"


def test_wflws_list_there_and_back(tmp_path):
    name = "0--Parade/0_Parade_marchingband_1_1018.jpg"
    image(tmp_path / "WFLW_images" / name)
    points = [[i + 0.125, 2 * i + 0.75] for i in range(98)]
    flat = " ".join(f"{v:.6f}" for p in points for v in p)
    line = f"{flat} 10 20 60 70 0 1 0 1 1 0 {name}\n"
    path = tmp_path / "WFLW_annotations" / "lists" / "list_98pt_rect_attr_test.txt"
    path.parent.mkdir(parents=True)
    path.write_text(line * 2 + "1 2 3\n")
    first, second, third = prep("wflw", path, status=1)
    assert first["points"] == points
    assert first["box"] == [9.5, 19.5, 59.5, 69.5]
    names = ("pose", "expression", "illumination", "makeup", "occlusion", "blur")
    assert [first[name] for name in names] == [0, 1, 0, 1, 1, 0]
    assert (first["split"], first["scheme"]) == ("test", "wflw98")
    assert (first["id"] + "#2", third["status"]) == (second["id"], "bad_record")
    prep("to", "csv", "-o", tmp_path / "f.csv", stdin=[first])
    assert prep("csv", tmp_path / "f.csv") == [first]
    (tmp_path / "WFLW_images").rename(tmp_path / "elsewhere")
    assert "--images DIR" in failed("wflw", path, status=2)


def test_cofws_hdf5_is_one_based_and_says_what_is_hidden(tmp_path):
    h5py = pytest.importorskip("h5py", reason="needs the extra formats")
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)  # h, w, 3
    with h5py.File(tmp_path / "COFW_test_color.mat", "w") as mat:
        pictures = [pixels.transpose(2, 1, 0), pixels[:, :, 0].T]  # as MATLAB's columns come out
        references = [mat.create_dataset(f"#refs#/{i}", data=p).ref for i, p in enumerate(pictures)]
        mat.create_dataset("IsT", data=np.array([references], h5py.ref_dtype))
        mat["bboxesT"] = np.array([[11, 11], [6, 6], [20, 20], [30, 30]], float)
        shape = [*(10.25 + i for i in range(29)), *(20.5 + i for i in range(29)), *[0] * 28, 1]
        mat["phisT"] = np.array([shape, shape]).T
    first, second = prep("cofw", tmp_path / "COFW_test_color.mat", "--out", tmp_path / "c")
    assert first["points"] == [[9.25 + i, 19.5 + i] for i in range(29)]
    assert first["visible"] == [1] * 28 + [0]
    assert first["box"] == [9.5, 4.5, 29.5, 34.5]  # pixels 11 to 30, counted from 1
    assert (first["size"], first["split"], first["scheme"]) == ([50, 40], "test", "cofw29")
    assert (np.asarray(Image.open(first["image"])) == pixels).all()
    assert (np.asarray(Image.open(second["image"])) == pixels[:, :, 0]).all()
    prep("to", "coco", "-o", tmp_path / "f.json", stdin=[first, second])
    assert prep("coco", tmp_path / "f.json") == [first, second]
    (tmp_path / "no.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    assert "HDF5" in failed("cofw", tmp_path / "no.mat", "--out", tmp_path / "c", status=3)


# labelme, YOLO


def test_labelme_has_continuous_pixels_and_groups(tmp_path):
    image(tmp_path / "l" / "a.png")

    def shape(label, kind, points, group, **keys):
        return {"label": label, "shape_type": kind, "points": points, "group_id": group} | keys

    shapes = [
        shape("nose", "point", [[10.5, 20]], 1),
        shape("face", "rectangle", [[40, 50], [5, 6]], 1),
        shape("eye", "point", [[1.5, 2.5]], 1, flags={"hidden": True}),
        shape("eye", "point", [[3.5, 2.5]], 2),
        shape("hair", "polygon", [[1, 1], [2, 2], [3, 1]], None),
    ]
    document = {"imagePath": "a.png", "imageWidth": 100, "imageHeight": 80, "shapes": shapes}
    (tmp_path / "l" / "a.json").write_text(json.dumps(document))
    words = ["labelme", tmp_path / "l", "--scheme", "none"]
    first, second = prep(*words, "--labels", "eye,nose")
    assert first["points"] == [[1, 2], [10, 19.5]]
    assert (first["box"], first["visible"]) == ([4.5, 5.5, 39.5, 49.5], [0, 1])
    assert (second["points"], second["id"]) == ([[3, 2], None], "a#2")
    assert "--labels nose,eye" in failed(*words, status=3)


def test_yolo_without_visibility_and_with_a_wrong_line(tmp_path):
    pytest.importorskip("yaml", reason="needs the extra formats")
    image(tmp_path / "images" / "val" / "a.png")
    (tmp_path / "data.yaml").write_text("kpt_shape: [2, 2]\nnames: [face, cat]\n")
    (tmp_path / "labels" / "val").mkdir(parents=True)
    text = "1 0.5 0.5 0.2 0.25 0.125 0.5 -0.1 -0.1\n0 0.5 0.5\n"
    (tmp_path / "labels" / "val" / "a.txt").write_text(text)
    first, second = prep("yolo", tmp_path, "--scheme", "none", status=1)
    assert first["points"] == [[12.5, 40], None]
    assert first["box"] == [39.5, 29.5, 59.5, 49.5]
    assert (first["split"], first["category"], second["status"]) == ("val", "cat", "bad_record")


def test_yolos_table_of_left_and_right_is_the_schemes(faces, tmp_path):
    yaml = pytest.importorskip("yaml", reason="needs the extra formats")
    prep("to", "yolo", "--out", tmp_path / "y", stdin=faces)
    found = yaml.safe_load((tmp_path / "y" / "data.yaml").read_text())
    assert found["kpt_shape"] == [68, 3]
    assert tuple(found["flip_idx"]) == catalog.get("ibug68").swap
    assert (tmp_path / "y" / found["train"] / "a.png").exists()


# Numbers


@pytest.mark.parametrize("whole", [3, 640, 99_991])
def test_fractions_of_a_size_come_back(whole):
    rng = random.Random(whole)
    for value in [0.0, -0.5, 1e-9, *(rng.uniform(-9, 2 * whole) for _ in range(500))]:
        shown = numbers.fraction(value, whole)
        assert numbers.of_fraction(shown, whole) == value
        assert "e" not in shown
        assert float(shown) == pytest.approx(value / whole)
