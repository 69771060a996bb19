"""What the scores of points are worth: risk and coverage, kp-eval --min-score, kp-viz risk."""

from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest
from conftest import in_process, lines, nose, parse
from PIL import Image

from kptools.cli.viz import tool
from kptools.evaluation.risk import RiskTally
from kptools.viz import plots, sources

NAN = float("nan")
SIDE = 60.0  # of the box of `nose`


def tally(scores, errors):
    found = RiskTally()
    found.add(np.array(scores), np.array(errors))
    return found


# Tenths and curves


def test_ten_points_are_their_own_tenths_from_the_lowest_score():
    scores = [0.05, 0.95, 0.15, 0.85, 0.25, 0.75, 0.35, 0.65, 0.45, 0.55]
    errors = [10, 1, 9, 2, 8, 3, 7, 4, 6, 5]
    assert tally(scores, errors).by_tenth() == pytest.approx([10, 9, 8, 7, 6, 5, 4, 3, 2, 1])


def test_tenths_share_points_where_these_are_no_multiple_of_ten():
    assert tally([0.1, 0.9], [4, 2]).by_tenth() == pytest.approx([4] * 5 + [2] * 5)
    # of fifteen a tenth holds one and a half
    scores, errors = np.arange(15) / 15, np.arange(15)
    found = tally(scores, errors).by_tenth()
    assert found[:2] == pytest.approx([(0 + 1 / 2) / 1.5, (1 / 2 + 2) / 1.5])
    assert np.mean(found) == pytest.approx(7)


def test_points_of_one_score_count_as_their_mean():
    one = tally([0.5, 0.5, 0.5, 0.9], [0, 3, 6, 10])
    assert one.by_tenth() == pytest.approx([3] * 7 + [(3 + 10) / 2] + [10] * 2)
    turned = tally([0.5, 0.9, 0.5, 0.5], [6, 10, 3, 0])
    assert turned.by_tenth() == one.by_tenth()


def test_a_curve_goes_from_the_highest_score_to_all_points():
    curve = tally([0.6, 0.9, 0.1, 0.6], [2, 1, 9, 4]).curve()
    assert curve.coverage == pytest.approx([1 / 4, 3 / 4, 1])
    assert curve.risk == pytest.approx([1, 7 / 3, 4])
    assert curve.score == pytest.approx([0.9, 0.6, 0.1], abs=1e-3)


def test_points_are_added_face_by_face_and_those_without_an_error_have_no_part():
    found = tally([0.2, 0.4], [NAN, 3.0])
    found.add(np.array([1.0, 0.0, 0.7]), np.array([1.0, 5.0, NAN]))
    assert found.points == 3
    assert found.curve().risk == pytest.approx([1, 2, 3])
    assert found.by_tenth()[0] == 5


def test_no_points_have_no_tenths_and_no_curve():
    found = RiskTally()
    assert found.points == 0
    assert found.by_tenth() == []
    assert found.curve().coverage.size == 0


# kp-eval


def ten():
    """Ten faces of one point, from a low score and an error of 10 % of the box to a high one and
    1 %."""
    return [nose(i, (10 - i) / 100 * SIDE, 0, score=[i / 10 + 0.05]) for i in range(10)]


def report(quick, records, *options, status=0):
    done = quick("eval", "--format", "json", *options, stdin=records)
    assert done.returncode == status, done.stderr
    return parse(done.stdout)[0], done.stderr.decode()


def test_the_report_has_the_error_of_each_tenth_by_score(quick):
    found, _ = report(quick, ten())
    assert found["by_score"] == pytest.approx([(10 - i) / 100 for i in range(10)])
    assert "coverage" not in found
    table = quick("eval", "--format", "table", stdin=ten()).stdout.decode()
    assert "NME by score, %" in table
    plain = [{k: v for k, v in record.items() if k != "score"} for record in ten()]
    assert "by_score" not in report(quick, plain)[0]


def test_points_of_a_lower_score_are_left_out_and_counted(quick):
    found, _ = report(quick, ten(), "--min-score", 0.65)  # 0.65 itself is kept
    assert (found["min_score"], found["coverage"]) == (0.65, pytest.approx(0.4))
    assert found["nme"] == pytest.approx((1 + 2 + 3 + 4) / 400)
    assert (found["faces"], found["failed"]) == (10, 0)
    assert found["by_score"][0] == pytest.approx(0.1)  # of all points
    table = quick("eval", "--format", "table", "--min-score", 0.65, stdin=ten()).stdout.decode()
    assert "40.0 % of the points have a score of at least 0.65" in table


def test_the_mean_shape_is_scored_on_the_same_points(quick):
    records = [r | {"mean": [[50 + i, 50]]} for i, r in enumerate(ten())]
    found, _ = report(quick, records, "--min-score", 0.75)
    assert found["mean"]["nme"] == pytest.approx((7 + 8 + 9) / 3 / SIDE)


def test_scores_follow_the_points_that_are_scored(face, quick):
    record = face(0)
    record["pred"] = [[x + 3 * (i == 30), y] for i, (x, y) in enumerate(record["points"])]
    record["score"] = [0.1] * 30 + [0.9] + [0.1] * 37
    found, _ = report(quick, [record], "--norm", "diagonal", "--points", "8,30")
    assert found["by_score"] == pytest.approx([0.0] * 5 + [0.03] * 5)
    found, _ = report(quick, [record], "--norm", "diagonal", "--min-score", 0.5)
    assert (found["nme"], found["coverage"]) == (pytest.approx(0.03), pytest.approx(1 / 68))


def test_a_record_whose_points_all_score_low_has_no_error(quick):
    done = quick("eval", "--records", "--min-score", 0.9, stdin=ten())
    assert [r["nme"] for r in parse(done.stdout)] == [None] * 9 + [pytest.approx(0.01)]
    nothing, _ = report(quick, ten()[:3], "--min-score", 0.9)
    assert (nothing["nme"], nothing["coverage"]) == (None, 0)


def test_a_record_without_scores_fails_where_they_are_asked_for(quick):
    plain = nose(10, 0, 0)
    found, told = report(quick, [*ten(), plain], "--min-score", 0.65, status=1)
    assert (found["failed"], found["coverage"]) == (1, pytest.approx(0.4))
    assert "no `score`, which --min-score needs" in told
    assert report(quick, [*ten(), plain])[0]["failed"] == 0


def test_a_submission_has_all_points_and_takes_no_least_score(quick, tmp_path):
    path = tmp_path / "kaggle.csv"
    done = quick("eval", "--submission", path, "--min-score", 0.5, stdin=ten())
    assert done.returncode == 2
    assert b"leave --min-score out" in done.stderr
    assert not path.exists()
    assert quick("eval", "--min-score", 1.5, stdin=ten()).returncode == 2


# kp-viz


def risk(folder, *words, stdin=b""):
    with chdir(folder):
        return in_process(tool, "risk", *words, stdin=stdin)


def test_kp_viz_risk_draws_and_passes_the_records_on(tmp_path):
    given = lines(ten())
    done = risk(tmp_path, "-o", "r.png", stdin=given)
    assert (done.returncode, done.stdout, done.stderr) == (0, given, b"")
    with Image.open(tmp_path / "r.png") as picture:
        assert min(picture.size) > 100


def test_a_picture_of_risk_has_a_curve_for_each_file(tmp_path):
    for name, records in (("a", ten()), ("b", ten()[5:]), ("c", [nose(0, 3, 4)])):
        (tmp_path / f"{name}.jsonl").write_bytes(lines(records))
    done = risk(tmp_path, "a.jsonl", "b.jsonl", "c.jsonl", "-o", "r.svg", "--title", "Two")
    assert done.returncode == 0, done.stderr
    picture = (tmp_path / "r.svg").read_text()
    for words in ("Two", "a, 10 points", "b, 5 points", "10.00 % to 1.00 %", "5.00 % to 1.00 %"):
        assert words in picture
    assert "c, " not in picture  # it has no scores


def test_the_curve_of_risk_ends_at_the_error_of_all_points(tmp_path):
    source = sources.Source("run")
    for record in ten():
        source.add(record)
    curve, ring = plots.risk([source]).axes[0].lines
    assert curve.get_xdata() == pytest.approx(range(0, 101, 10))
    assert curve.get_ydata() == pytest.approx([1, *(1 + i / 2 for i in range(10))])
    assert (list(ring.get_xdata()), list(ring.get_ydata())) == ([10], [pytest.approx(1.0)])


def test_without_scores_nothing_is_drawn_and_that_is_said(tmp_path: Path):
    given = lines([nose(0, 3, 4), nose(1, 0, 0)])
    done = risk(tmp_path, "-o", "r.png", stdin=given)
    assert (done.returncode, done.stdout) == (0, given)
    assert b"no face with truth, prediction and score; r.png is not written" in done.stderr
    assert list(tmp_path.iterdir()) == []
