"""kp-eval: the metrics against numbers worked out by hand."""

import json
import math

import numpy as np
import pytest
from conftest import lines, nose, parse, run, scores, written

from kptools.errors import RecordError
from kptools.evaluation.report import BATCH, Scorer
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.schemes import catalog


def report(records, *options):
    done = run("eval", *options, stdin=records)
    return json.loads(done.stdout), done


def test_metrics_are_as_defined():
    r, done = report([nose(0, 3, 4), nose(1, -6, 8), nose(2, 0, 0)])
    assert done.returncode == 0
    assert r["faces"] == 3
    assert r["mae"] == pytest.approx((3 + 4 + 6 + 8) / 6)
    assert r["rmse"] == pytest.approx(math.sqrt((9 + 16 + 36 + 64) / 6))
    assert r["mse"] == pytest.approx((9 / 4e4 + 16 / 1e4 + 36 / 4e4 + 64 / 1e4) / 6)
    side = math.sqrt(40 * 90)
    assert r["norm"] == "box"
    assert r["nme"] == pytest.approx((5 + 10 + 0) / side / 3)
    assert r["nme_median"] == pytest.approx(5 / side)
    assert r["box_source"] == {"dataset": 3}


def test_auc_and_failure_rate_count_failures_and_means_do_not():
    side = math.sqrt(40 * 90)
    failed = {"id": "x", "status": "missing", "error": "gone"}
    r, done = report([nose(0, 0.04 * side, 0), nose(1, 0.2 * side, 0), failed, nose(3, 0, 0)])
    assert done.returncode == 1
    assert r["failed"] == 1
    assert r["failure_rate"] == pytest.approx(2 / 4)
    assert r["auc"] == pytest.approx((0.5 + 0 + 0 + 1) / 4)
    assert r["nme"] == pytest.approx(0.24 / 3)


def face(number, errors, **keys):
    """A face of ibug68 whose point i is off by errors[i] pixels along x; the eyes are 60 apart."""
    points = [[float(i), 50.0] for i in range(68)]
    points[36], points[45] = [20.0, 30.0], [80.0, 30.0]
    pred = [[x + errors.get(i, 0.0), y] for i, (x, y) in enumerate(points)]
    return nose(number, 0, 0, points=points, pred=pred, scheme="ibug68") | keys


def test_points_scores_a_part_of_the_face_with_the_norm_of_the_whole():
    faces = [face(0, {30: 6, 48: 12, 67: 12}), face(1, {})]
    r, done = report(faces, "--points", "nose")
    assert done.returncode == 0
    assert r["scheme"] == "nose1"
    assert r["nme"] == pytest.approx(6 / 60 / 2)
    assert r["mse"] == pytest.approx((6 / 200) ** 2 / 4)
    r, _ = report(faces, "--points", "region:mouth")
    assert r["nme"] == pytest.approx(24 / 60 / 20 / 2)
    assert list(r["regions"]) == ["mouth"]
    # a face without the part takes no part, and is no failure
    bare = face(2, {})
    bare["points"][30] = None
    r, done = report([*faces, bare], "--points", "nose")
    assert (done.returncode, r["failed"], r["without_norm"]) == (0, 0, 1)
    assert r["nme"] == pytest.approx(6 / 60 / 2)
    # a part of a part keeps the numbers of the whole
    part = [f | {k: f[k][48:] for k in ("points", "pred")} for f in faces]
    part = [f | {"scheme": "ibug68:" + ",".join(map(str, range(48, 68)))} for f in part]
    r, _ = report(part, "--points", "0,19")
    assert r["scheme"] == "ibug68:48,67"
    assert r["points"] == pytest.approx([6 / side(faces[0]), 6 / side(faces[0])])


def side(record):
    x0, y0, x1, y1 = record["box"]
    return math.sqrt((x1 - x0) * (y1 - y0))


def test_points_that_a_scheme_lacks_fail_the_record():
    strange = face(1, {}, scheme="mine")
    r, done = report([nose(0, 3, 4), face(2, {30: 6}), strange], "--points", "30")
    assert done.returncode == 1
    assert r["failed"] == 2
    assert b"nose1 has no point 30; its points are 0 to 0" in done.stderr
    assert b"--points needs the record's scheme" in done.stderr
    done = run("eval", "--points", "nose", "--submission", "out.csv", stdin=[face(0, {})])
    assert done.returncode == 2
    for wrong in ("nos", "region:mout", "3-", "", "-1"):
        done = run("eval", "--points", wrong, stdin=[face(0, {})])
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), wrong


def test_auc_is_the_area_under_the_curve():
    rng = np.random.default_rng(0)
    side = math.sqrt(40 * 90)
    errors = rng.exponential(0.05, 300).tolist()
    r, _ = report([nose(i, e * side, 0) for i, e in enumerate(errors)], "--threshold", 0.1)
    grid = np.linspace(0, 0.1, 20001)
    curve = [(np.array(errors) <= t).mean() for t in grid]
    assert r["auc"] == pytest.approx(np.trapezoid(curve, grid) / 0.1, abs=1e-4)


def test_norms_are_named_and_what_they_say(face):
    record = face(0)
    points = np.array(record["points"])
    record["pred"] = (points + np.array([3, 4])).tolist()
    lengths = {
        "interocular": np.hypot(*(points[36] - points[45])),
        "interpupil": np.hypot(*(points[36:42].mean(0) - points[42:48].mean(0))),
        "box": math.sqrt(45 * 50),
        "diagonal": 100.0,
    }
    for name, length in lengths.items():
        r, _ = report([record], "--norm", name)
        assert r["norm"] == name
        assert r["nme"] == pytest.approx(5 / length), name
    assert report([record])[0]["norm"] == "interocular"


def test_points_not_annotated_are_masked(face):
    record = face(0)
    record["pred"] = [[x + 1, y] for x, y in record["points"]]
    record["pred"][5] = [900.0, 900.0]
    record["points"][5] = None
    r, _ = report([record], "--norm", "diagonal")
    assert r["mae"] == pytest.approx(0.5)
    assert r["points"][5] is None
    assert r["regions"]["jaw"] == pytest.approx(0.01)


def test_the_mean_shape_is_scored_beside(face):
    record = face(0)
    record |= {"pred": record["points"], "mean": [[x, y + 2] for x, y in record["points"]]}
    r, _ = report([record], "--norm", "diagonal")
    assert r["nme"] == 0
    assert r["mean"]["nme"] == pytest.approx(0.02)


def test_splits_and_the_original_photos_pixels():
    r, _ = report([nose(0, 2, 2, scale=3.0), nose(1, 4, 4, split="test", scale=1.0)])
    assert r["splits"]["val"]["mae"] == 2
    assert r["splits"]["test"]["mae"] == 4
    assert r["mae"] == 3
    assert r["mae_original"] == 5


def test_copies_of_one_id_are_merged():
    copies = [nose(0, d, 0, copy=c) for c, d in enumerate((0, 3, 30))]
    failed = {"id": "f0", "copy": 3, "status": "missing", "error": "gone"}
    for how, mae in (("mean", 11 / 2), ("median", 3 / 2)):
        r, _ = report([*copies, failed, nose(1, 0, 0)], "--merge", how)
        assert r["faces"] == 2
        assert r["mae"] == pytest.approx(mae / 2)


def test_a_gate_that_is_not_met_is_exit_4():
    for gate, status in (("nme>0.05", 4), ("nme<0.05", 0), ("mae>=3.5", 4), ("auc<0.1", 4)):
        assert report([nose(0, 3, 4)], "--fail-if", gate)[1].returncode == status, gate
    for gate in ("nme", "nme>x", "colour>1", "nme=1"):
        assert run("eval", "--fail-if", gate, stdin=b"").returncode == 2, gate


def test_records_come_out_with_their_nme():
    done = run("eval", "--records", stdin=[nose(0, 3, 4, mine="x")])
    (record,) = parse(done.stdout)
    assert record["nme"] == pytest.approx(5 / 60)
    assert record["mine"] == "x"


def test_a_record_without_prediction_or_truth_is_told(face):
    done = run("eval", stdin=[face(0), nose(1, 0, 0, points=None), nose(2, 0, 0, size=None)])
    assert done.returncode == 1
    assert json.loads(done.stdout)["failed"] == 3
    for words in (b"no `pred`", b"no `points`", b"`size`"):
        assert words in done.stderr


def test_a_submission_is_kaggles(tmp_path):
    out = tmp_path / "kaggle.csv"
    test = [{k: v for k, v in nose(i, i, 0, scale=2.0).items() if k != "points"} for i in (1, 2)]
    done = run("eval", "--submission", out, stdin=test)
    assert done.returncode == 0, done.stderr
    # a pixel's centre of the small picture is the centre of two by two of the original
    assert out.read_text() == "Id,Predicted\n0,102.5\n1,100.5\n2,104.5\n3,100.5\n"


def test_a_submission_of_nothing_is_not_written(tmp_path):
    done = run("eval", "--submission", "out.csv", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert not (tmp_path / "out.csv").exists()


def test_a_face_missing_from_a_submission_is_an_error_unless_filled(tmp_path):
    out = tmp_path / "kaggle.csv"
    gone = {"id": "x", "status": "missing", "error": "it is gone", "mean": [[1.5, 2.0]]}
    done = run("eval", "--submission", out, stdin=[nose(0, 0, 0), gone])
    assert done.returncode == 3
    assert b"stdin:2" in done.stderr
    assert not out.exists()
    done = run("eval", "--submission", out, "--fill", "mean", stdin=[nose(0, 0, 0), gone])
    assert done.returncode == 1  # one record failed, and is filled
    assert out.read_text().splitlines()[3:] == ["2,1.5", "3,2.0"]


def test_nothing_to_score_is_a_report_of_nothing():
    r, done = report(lines([]))
    assert done.returncode == 0
    assert r["faces"] == 0
    assert r["nme"] is None


def of_all_kinds():
    """Faces of several schemes, splits and norms, with points that are missing: some in long runs
    of one kind."""
    random = np.random.default_rng(0)
    records = []
    for i in range(3 * BATCH):
        one = face(i, {}, split=["train", "val"][i % 3 // 2])
        one["pred"] = random.normal(one["pred"], 2).tolist()
        if i > BATCH:
            one["score"] = random.random(68).tolist()
        if i > 2 * BATCH:
            one["mean"] = random.normal(one["pred"], 5).tolist()
        if i % 7 == 0 or i < BATCH // 2:
            one["points"][random.integers(68)] = None
        records.append(nose(i, *random.normal(size=2), scale=1.7) if i % 50 < 5 else one)
    return records


@pytest.mark.parametrize("options", [{}, {"norm": "diagonal", "points": "nose"}])
def test_the_figures_are_the_same_bits_however_many_faces_come_together(options):
    records, failures = of_all_kinds(), Failures()
    one_by_one, together = Scorer(**options), Scorer(**options)
    errors = []
    for record in records:
        try:
            errors.append(one_by_one.add(record).error)
        except RecordError:
            errors.append(None)
            one_by_one.fail(record)
    items = (Item(dict(record), "records", i) for i, record in enumerate(records))
    scored = list(together.score(items, failures.add, lambda: True))
    assert together.report(0.08) == one_by_one.report(0.08)
    assert [item.record["id"] for item in scored] == [record["id"] for record in records]
    expected = [None if e is None or math.isnan(e) else e for e in errors]
    assert [item.record.get("nme") for item in scored] == expected


def test_what_came_before_a_failure_leaves_before_it_ends_the_job(face):
    records = [face(i) | {"pred": face(i)["points"]} for i in range(3)]
    for broken in (lines([face(3)]), b"{}", b"{"):
        done = run("eval", "--records", "--strict", stdin=lines(records) + broken)
        assert done.returncode == 3
        assert [r["nme"] for r in parse(done.stdout)] == [0, 0, 0]


def test_failures_are_told_in_the_order_of_their_lines():
    broken = [nose(i, 0, 0, pred=None) for i in range(4)]
    data = b"{\n".join(lines([nose(9, 1, 1), one]) for one in broken)
    done = run("eval", "--records", stdin=data)
    told = [int(line.split(b":")[1]) for line in done.stderr.splitlines()[:-1]]
    assert told == [2, 3, 5, 6, 8, 9, 11]


def test_a_face_without_a_norm_and_with_a_long_integer_is_not_lost(face):
    record = face(0) | {"pred": face(0)["points"], "n": 2**64 + 12345678901234567890}
    record["points"] = [None if i == 36 else p for i, p in enumerate(record["points"])]
    text = json.dumps(record).encode() + b"\n"
    done = run("eval", "--records", stdin=text)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == record | {"nme": None}


def test_a_face_that_cannot_be_scored_has_no_old_error(face):
    (out,) = parse(run("eval", "--records", stdin=[face(0) | {"nme": 0.5}]).stdout)
    assert "nme" not in out


# Norms


def test_one_mean_never_mixes_two_norms(face):
    whole = face(0) | {"pred": [[x + 3, y] for x, y in face(0)["points"]]}
    gone = face(1) | {"status": "missing", "error": "gone"}
    mixed = [whole, nose(0, 6, 0), nose(1, 12, 0)]
    r = scores([*mixed, gone], status=1)
    assert (r["norm"], r["nme"], r["auc"], r["failure_rate"]) == (None, None, None, None)
    assert r["mae"] == pytest.approx((68 * 3 + 6 + 12) / (2 * 70))
    assert set(r["norms"]) == {"interocular", "box"}
    assert r["norms"]["box"]["nme"] == pytest.approx(9 / 60)
    eyes = np.subtract(whole["points"][45], whole["points"][36])
    assert r["norms"]["interocular"]["nme"] == pytest.approx(3 / np.hypot(*eyes))
    assert r["norms"]["interocular"]["failed"] == 1
    one = scores(mixed, "--norm", "box")
    assert one["norm"] == "box"
    assert "norms" not in one
    table = run("eval", "--format", "table", stdin=mixed, env={"COLUMNS": "120"})
    assert b"over interocular" in table.stdout
    gated = run("eval", "--fail-if", "nme>0.9", stdin=mixed)
    assert gated.returncode == 4
    assert b"interocular, box" in gated.stderr


def test_a_norm_that_was_asked_for_is_not_replaced_by_another():
    done = run("eval", "--norm", "interocular", stdin=[nose(0, 6, 0)])
    assert done.returncode == 1
    assert b"nose1 has no eyes for the norm interocular" in done.stderr


# Copies that are merged


POLICY = ("--rotate", 30, "--shift", 0.1, "--scale", 0.2, "--flip", 0.5)


def test_written_copies_are_merged_where_they_came_from(face, tmp_path):
    record, copies = written(face, tmp_path / "w", *POLICY, visible=[1] * 67 + [0])
    assert any(np.linalg.det(np.array(c["source"]["matrix"])[:, :2]) < 0 for c in copies)
    # perfect predictions, each in the pixels of its own picture
    copies = [c | {"pred": c["points"], "score": c["visible"]} for c in copies]
    merged = scores(copies, "--merge", "mean")
    assert (merged["faces"], merged["failed"]) == (1, 0)
    assert merged["nme"] == pytest.approx(0, abs=1e-9)
    (one,) = parse(run("eval", "--merge", "mean", "--records", stdin=copies).stdout)
    assert one["image"] == record["image"]
    assert np.allclose(one["points"], record["points"])
    assert np.allclose(one["pred"], record["points"])
    assert one["visible"] == record["visible"]
    assert np.allclose(one["score"], record["visible"])
    assert "source" not in one
    assert "copy" not in one


def test_an_error_in_one_copy_has_its_share_in_the_merged_face(face, tmp_path):
    _, copies = written(face, tmp_path / "w", *POLICY)
    matrix = np.array(copies[2]["source"]["matrix"])
    moved = np.array(copies[2]["points"]) + matrix[:, :2] @ (4.0, 0.0)  # 4 pixels of the source
    copies = [c | {"pred": c["points"]} for c in copies]
    copies[2]["pred"] = moved.tolist()
    assert scores(copies, "--merge", "mean")["mae"] == pytest.approx(1.0 / 2)
    assert scores(copies, "--merge", "median")["mae"] == pytest.approx(0, abs=1e-9)


def test_a_copy_of_a_written_copy_knows_the_first_picture(face, tmp_path):
    record, copies = written(face, tmp_path / "w", "--rotate", 20, "--flip", 1, count=2)
    again = run("augment", "--rotate", 20, "--write", tmp_path / "x", stdin=copies)
    twice = parse(again.stdout)
    assert all(c["source"]["image"] == record["image"] for c in twice)
    for copy in twice:
        m = np.array(copy["source"]["matrix"])
        shown = np.array(record["points"])[list(catalog.get("ibug68").swap)] @ m[:, :2].T + m[:, 2]
        assert np.allclose(shown, copy["points"])
    twice = [c | {"pred": c["points"]} for c in twice]
    assert scores(twice, "--merge", "mean")["nme"] == pytest.approx(0, abs=1e-9)


def test_the_scale_of_a_written_copy_is_that_of_its_pixels(face, tmp_path):
    record = face(0, scale=2.0) | {"pred": [[x + 1, y + 1] for x, y in face(0)["points"]]}
    done = run("augment", "--copies", 3, "--scale", 1, "--write", tmp_path / "w", stdin=[record])
    copies = parse(done.stdout)
    assert scores(copies)["mae"] != pytest.approx(1.0)
    assert scores(copies)["mae_original"] == pytest.approx(2.0)
    merged = scores(copies, "--merge", "mean")
    assert (merged["mae"], merged["mae_original"]) == (pytest.approx(1.0), pytest.approx(2.0))


def test_copies_of_different_pictures_are_not_averaged(face):
    copies = [face(n) | {"id": "one", "copy": n} for n in range(3)]
    copies = [c | {"pred": c["points"]} for c in copies]
    done = run("eval", "--merge", "mean", stdin=copies)
    assert done.returncode == 1
    assert b"different images" in done.stderr
    assert json.loads(done.stdout)["failed"] == 1


def test_copies_with_other_truths_or_out_of_turn_are_not_averaged(face):
    a, b = face(0, copy=0), face(0, copy=1)
    b["points"] = [[x + 3, y] for x, y in b["points"]]
    both = [c | {"pred": c["points"]} for c in (a, b)]
    done = run("eval", "--merge", "mean", stdin=both)
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (1, 1)
    assert b"different points" in done.stderr
    other = face(1) | {"pred": face(1)["points"]}
    apart = [both[0], other, both[0] | {"copy": 1}]
    done = run("eval", "--merge", "mean", stdin=apart)
    assert done.returncode == 1
    assert b"stdin:3" in done.stderr
    assert b"consecutive" in done.stderr


@pytest.mark.parametrize(
    "source", [{}, {"image": "a.png"}, {"image": "a.png", "matrix": [[0, 0, 0], [0, 0, 0]]}]
)
def test_a_source_that_is_none_is_reported(face, source):
    copies = [face(0, copy=c, source=source) | {"pred": face(0)["points"]} for c in range(2)]
    done = run("eval", "--merge", "mean", stdin=copies)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert json.loads(done.stdout)["failed"] == 1


def test_copies_without_an_id_are_merged_by_their_picture(face):
    copies = [{k: v for k, v in face(0, copy=c).items() if k != "id"} for c in range(3)]
    copies = [c | {"pred": [[x + 3 * i, y] for x, y in c["points"]]} for i, c in enumerate(copies)]
    merged = scores(copies, "--merge", "mean")
    assert (merged["faces"], merged["mae"]) == (1, pytest.approx(1.5))


def test_the_score_of_a_merged_face_is_that_of_all_copies(face):
    copies = [face(0, copy=c) | {"score": [c / 2] * 68, "nme": 9, "heatmap": {}} for c in range(3)]
    copies = [c | {"pred": c["points"]} for c in copies]
    (one,) = parse(run("eval", "--merge", "mean", "--records", stdin=copies).stdout)
    assert one["score"] == [0.5] * 68
    assert one["nme"] == 0
    assert "heatmap" not in one
    del copies[1]["score"]
    (one,) = parse(run("eval", "--merge", "mean", "--records", stdin=copies).stdout)
    assert "score" not in one


def test_networks_predictions_without_ids_are_merged_by_picture_and_several_faces_refused(face):
    first = [{k: v for k, v in face(i).items() if k != "id"} for i in range(2)]
    pairs = [r | {"pred": [[x + d, y] for x, y in r["points"]]} for r in first for d in (3, -3)]
    merged = scores(pairs, "--merge", "mean")
    assert (merged["faces"], merged["mae"]) == (2, pytest.approx(0, abs=1e-9))
    two = [first[0] | {"pred": first[0]["points"], "box": [i, 0, 50 + i, 50]} for i in range(2)]
    done = run("eval", "--merge", "mean", stdin=two)
    assert done.returncode == 1
    assert b"give each face an id of its own" in done.stderr
