"""kp-prep check: planted faults are found, and sound faces pass as they came."""

import orjson
import pytest
from conftest import in_process, lines, parse, run
from PIL import Image

from kptools.cli.prep import tool
from kptools.schemes import get

SWAP = get("ibug68").swap


def check(*words, stdin=b"", pictures=False):
    switch = [] if pictures else ["--no-pictures"]
    return in_process(tool, "check", *switch, *words, stdin=stdin)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """40 drawn faces."""
    folder = tmp_path_factory.mktemp("drawn")
    done = run("prep", "synth", "--count", 40, "--out", folder / "faces")
    return parse(done.stdout)


def copies(records):
    return [orjson.loads(orjson.dumps(record)) for record in records]


def flags(done):
    assert done.returncode == 0, done.stderr
    return [set(record.get("flags", ())) for record in parse(done.stdout)]


def side(record):
    x0, y0, x1, y1 = record["box"]
    return ((x1 - x0) * (y1 - y0)) ** 0.5


def moved(record, dx, dy):
    return [[x + dx * side(record), y + dy * side(record)] for x, y in record["points"]]


def test_sound_faces_come_back_to_the_byte(drawn):
    given = [record | {"mine": {"a": 1}} for record in drawn]
    done = check(stdin=lines(given))
    assert sum(map(bool, flags(done))) <= 4
    for before, after in zip(lines(given).splitlines(), done.stdout.splitlines(), strict=True):
        assert before == after or orjson.loads(after).get("flags")


@pytest.mark.parametrize(
    ("flag", "fault"),
    [
        ("mirrored", lambda r: {"points": [r["points"][i] for i in SWAP]}),
        ("point", lambda r: {"points": [*r["points"][:-1], r["box"][:2]]}),
        ("box", lambda r: {"points": moved(r, 0.5, 0)}),
        ("box", lambda r: {"points": moved(r, 0, -0.5)}),
        ("outside", lambda r: {"points": moved(r, 2, 0)}),
        ("outside", lambda r: {"size": [20, 20]}),
        ("shape", lambda r: {"points": [[x, r["box"][1] + 0.3 * y] for x, y in r["points"]]}),
    ],
    ids=["mirrored", "point", "box across", "box down", "outside", "outside the picture", "shape"],
)
def test_a_fault_is_flagged(drawn, flag, fault):
    given = copies(drawn)
    given[17] |= fault(given[17])
    found = flags(check(stdin=lines(given)))
    assert flag in found[17]
    assert sum(map(bool, found)) <= 4


def test_points_far_from_their_prediction_are_flagged(drawn):
    given = [
        record | {"pred": moved(record, 0.01, 0.002 * (i % 9))} for i, record in enumerate(drawn)
    ]
    given[5]["pred"] = moved(given[5], 0.1, 0.1)
    found = flags(check(stdin=lines(given)))
    assert "prediction" in found[5]
    assert sum("prediction" in one for one in found) == 1


def test_missing_points_are_no_fault(drawn):
    given = copies(drawn)
    given[3]["points"][:30] = [None] * 30
    given[4]["points"] = [None] * 68
    del given[5]["points"]
    found = flags(check(stdin=lines(given)))
    assert not found[3] | found[4] | found[5]


def test_boxes_of_two_conventions_under_one_name_are_flagged(drawn):
    given = copies(drawn) + copies(drawn)
    for index, record in enumerate(given):
        record |= {"id": f"{index}", "image": f"{index}.png", "group": f"{index}", "split": "train"}
        if index >= 55:
            x0, y0, x1, y1 = record["box"]
            record |= {"split": "test", "box": [x0, y0 - 0.4 * (y1 - y0), x1, y1]}
    found = flags(check(stdin=lines(given)))
    assert ["box_convention" in one for one in found] == [False] * 55 + [True] * 25


def test_a_group_in_two_splits_is_a_leak(drawn):
    given = copies(drawn)
    given[0] |= {"group": "anna", "split": "train"}
    given[1] |= {"group": "anna", "split": "test"}
    given[2] |= {"group": "anna"}
    found = flags(check(stdin=lines(given)))
    assert [("leak" in one) for one in found[:4]] == [True, True, True, False]


def test_two_records_of_one_face_are_duplicates(drawn):
    given = [*copies(drawn), drawn[7] | {"id": "again"}]
    done = check(stdin=lines(given))
    assert "duplicate" in flags(done)[7]
    records = parse(done.stdout)
    assert records[7]["duplicate_of"] == "again"
    assert records[40]["duplicate_of"] == drawn[7]["id"]


def test_copies_that_kp_augment_made_are_no_duplicates(drawn):
    given = [record | {"copy": n} for record in drawn for n in range(2)]
    assert not any("duplicate" in one for one in flags(check(stdin=lines(given))))


@pytest.mark.parametrize("mirrored", [False, True], ids=["smaller", "smaller and mirrored"])
def test_a_picture_under_another_name_is_a_duplicate_and_a_leak(drawn, tmp_path, mirrored):
    pytest.importorskip("imagehash")
    picture = Image.open(drawn[9]["image"]).convert("RGB")
    if mirrored:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    picture = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3))
    picture.save(tmp_path / "copy.jpg", quality=70)
    copy = {
        "image": str(tmp_path / "copy.jpg"),
        "id": "copy",
        "group": "copy",
        "box": [-0.5, -0.5, picture.width - 0.5, picture.height - 0.5],
        "split": "test",
    }
    given = [*(record | {"split": "train"} for record in drawn), copy]
    found = flags(check(stdin=lines(given), pictures=True))
    assert {"duplicate", "leak"} <= found[9]
    assert {"duplicate", "leak"} <= found[40]
    assert sum("duplicate" in one for one in found) == 2


def test_a_wrong_size_and_a_missing_picture_are_seen_where_pictures_are_looked_at(drawn):
    pytest.importorskip("imagehash")
    given = copies(drawn)
    given[2]["size"] = [given[2]["size"][0] + 1, given[2]["size"][1]]
    given[3]["image"] = "/nowhere.png"
    done = check(stdin=lines(given), pictures=True)
    assert done.returncode == 1
    records = parse(done.stdout)
    assert "size" in records[2]["flags"]
    assert records[3]["status"] == "missing"
    assert b"stdin:4: /nowhere.png does not exist" in done.stderr


def test_flags_of_others_stay_and_its_own_are_new_each_time(drawn):
    given = copies(drawn)
    given[0]["flags"] = ["jitter", "mirrored"]
    given[1]["flags"] = ["shape"]
    given[1]["duplicate_of"] = "gone"
    records = parse(check(stdin=lines(given)).stdout)
    assert records[0]["flags"] == ["jitter"]
    assert "flags" not in records[1]
    assert "duplicate_of" not in records[1]


def test_the_summary_counts_and_says_what_was_not_checked(drawn):
    given = copies(drawn)
    given[17]["points"] = [given[17]["points"][i] for i in SWAP]
    done = check(stdin=lines(given))
    assert b"of 40 faces flagged: mirrored 1" in done.stderr
    few = check(stdin=lines(drawn[:5]))
    assert few.returncode == 0
    assert b"5 of 5 faces of ibug68 have all 68 points: too few" in few.stderr


def test_a_record_that_cannot_be_read_is_a_failure_in_its_place(drawn):
    data = lines(drawn[:20]) + b"broken\n" + lines([drawn[20] | {"box": [1, 2, 1, 2]}, *drawn[21:]])
    done = check(stdin=data)
    assert done.returncode == 1
    assert [r.get("status") for r in parse(done.stdout)[19:23]] == [
        None,
        "bad_record",
        "bad_box",
        None,
    ]
    assert b"2 of 41 records failed" in done.stderr


def test_the_sheet_shows_the_worst(drawn, tmp_path):
    given = copies(drawn)
    given[17]["points"] = moved(given[17], 0.4, 0)
    done = check("--sheet", tmp_path / "worst.png", "--count", 2, stdin=lines(given))
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "worst.png") as sheet:
        assert sheet.width > 300


def test_no_sheet_where_nothing_is_flagged(drawn, tmp_path):
    done = check("--sheet", tmp_path / "worst.png", stdin=lines(drawn[:3]))
    assert done.returncode == 0
    assert b"no face is flagged" in done.stderr
    assert not (tmp_path / "worst.png").exists()


def test_faults_planted_among_real_faces_are_found(ibug_root):
    done = run(
        "prep",
        "ibug",
        ibug_root,
        "--annotations",
        "pts",
        "--xml",
        "labels_ibug_300W_train.xml",
        "--limit",
        600,
    )
    given = parse(done.stdout)
    for index in range(0, 400, 100):
        given[index]["points"] = [given[index]["points"][i] for i in SWAP]
    for index in range(50, 450, 100):
        given[index]["points"] = moved(given[index], 0.3, 0)
    found = flags(check(stdin=lines(given)))
    assert all("mirrored" in found[index] for index in range(0, 400, 100))
    planted = set(range(0, 400, 50))
    assert sum(bool(found[index]) for index in planted) >= 7
    assert sum(bool(one) for index, one in enumerate(found) if index not in planted) <= 30


def test_faces_of_one_photo_are_no_duplicates_of_each_other(drawn):
    pytest.importorskip("imagehash")
    given = copies(drawn)
    x0, y0, x1, y1 = given[0]["box"]
    other = given[0] | {"id": "other", "group": "other", "split": "test"}
    given.append(other | {"box": [x0 + (x1 - x0) * 0.6, y0, x1 + (x1 - x0) * 0.6, y1]})
    found = flags(check(stdin=lines(given), pictures=True))
    assert "duplicate" not in found[0] | found[40]


def test_points_of_two_schemes_on_one_face_are_no_duplicate(drawn):
    given = [*copies(drawn), drawn[3] | {"scheme": "nose1", "points": [drawn[3]["points"][30]]}]
    assert not any("duplicate" in one for one in flags(check(stdin=lines(given))))


def test_a_wrong_size_key_and_odd_flags_are_failures_not_the_end(drawn):
    given = copies(drawn)
    given[2]["size"] = ["a", 1]
    given[3]["flags"] = [{"a": 1}]
    done = check(stdin=lines(given))
    assert done.returncode == 1
    assert [r.get("status") for r in parse(done.stdout)[:4]] == [None, None, "bad_record", None]


def test_a_face_that_the_sheet_cannot_draw_is_reported(drawn, tmp_path):
    given = copies(drawn)
    given[17] |= {"points": moved(given[17], 0.5, 0), "image": "/nowhere.png"}
    done = check("--sheet", tmp_path / "worst.png", stdin=lines(given))
    assert done.returncode == 1
    assert b"stdin:18: /nowhere.png does not exist" in done.stderr
