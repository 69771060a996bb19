"""kp-eval --compare: paired differences, their intervals, and the gate."""

import json

import numpy as np
import pytest
from conftest import lines, nose

from kptools.evaluation import comparison

SIDE = 60.0  # of the box of `nose`


def predictions(errors, prefix="f", per_group=1, **keys):
    """Faces whose prediction is off by so many pixels along x."""
    return [
        nose(i, float(error), 0, id=f"{prefix}{i}", group=f"g{i // per_group}") | keys
        for i, error in enumerate(errors)
    ]


def compared(quick, tmp_path, candidate, baseline, *options, status=0):
    path = tmp_path / "old.jsonl"
    path.write_bytes(lines(baseline))
    done = quick("eval", "--compare", path, *options, stdin=candidate)
    assert done.returncode == status, done.stderr
    return (json.loads(done.stdout)["compare"][0] if done.stdout else None), done.stderr.decode()


def by_hand(candidate, baseline, groups):
    """The interval of the mean difference, a sample at a time."""
    apart = np.subtract(candidate, baseline)
    members = [np.flatnonzero(np.array(groups) == g) for g in dict.fromkeys(groups)]
    random, found = np.random.default_rng(7), []
    for _ in range(4000):
        drawn = random.integers(0, len(members), len(members))
        found.append(apart[np.concatenate([members[i] for i in drawn])].mean())
    return np.percentile(found, [2.5, 97.5])


def test_the_interval_is_that_of_groups_drawn_with_replacement(quick, tmp_path):
    random = np.random.default_rng(0)
    old = random.exponential(3, 60)
    new = old + np.repeat(random.normal(0, 1, 15), 4)  # faces of a person change together
    a, b = predictions(new, per_group=4), predictions(old, per_group=4)
    found, _ = compared(quick, tmp_path, a, b)
    assert found["nme"]["candidate"] == pytest.approx(np.abs(new).mean() / SIDE)
    assert found["nme"]["baseline"] == pytest.approx(old.mean() / SIDE)
    assert found["nme"]["difference"] == pytest.approx((np.abs(new) - old).mean() / SIDE)
    assert (found["faces"], found["groups"], found["scored"]) == (60, 15, 60)
    groups = [record["group"] for record in a]
    low, high = by_hand(np.abs(new) / SIDE, old / SIDE, groups)
    wide = high - low
    assert (found["nme"]["low"], found["nme"]["high"]) == pytest.approx((low, high), abs=wide / 20)
    # taken for independent ones, the same faces would be a regression
    lone, _ = compared(quick, tmp_path, *(predictions(e) for e in (new, old)), status=4)
    assert lone["nme"]["high"] - lone["nme"]["low"] < 0.7 * wide
    # a second run has the same bits
    assert compared(quick, tmp_path, a, b)[0] == found


def test_a_regression_is_exit_4_and_its_report_comes_all_the_same(quick, tmp_path):
    old = np.random.default_rng(0).uniform(1, 3, 50)
    found, told = compared(
        quick, tmp_path, predictions(old + 0.2), predictions(old), "--threshold", 0.9, status=4
    )
    assert found["nme"]["worse"]
    assert found["nme"]["low"] == pytest.approx(0.2 / SIDE)
    assert not found["failure_rate"]["worse"]
    assert "nme is worse" in told
    better, _ = compared(quick, tmp_path, predictions(old), predictions(old + 0.2))
    assert better["nme"]["high"] < 0
    same, _ = compared(quick, tmp_path, predictions(old), predictions(old))
    assert (same["nme"]["low"], same["nme"]["high"], same["nme"]["worse"]) == (0, 0, False)


def test_faces_that_failed_are_failures_and_in_no_nme(quick, tmp_path):
    old = np.full(40, 1.0)
    new = predictions(old)
    for record in new[:12]:
        record |= {"status": "no_face", "error": "none"}
    found, told = compared(quick, tmp_path, new, predictions(old), status=4)
    assert (found["faces"], found["scored"]) == (40, 28)
    assert found["failed"] == {"candidate": 12, "baseline": 0}
    assert found["nme"]["difference"] == 0
    assert found["failure_rate"]["difference"] == pytest.approx(12 / 40)
    assert "failure_rate is worse" in told
    # the other way round the baseline's failures are exit 1
    _, told = compared(quick, tmp_path, predictions(old), new, status=1)
    assert "12 records failed" in told


def test_order_does_not_matter_and_copies_are_faces(quick, tmp_path):
    old = predictions(range(1, 9)) + predictions(range(2, 10), copy=1)
    new = [r | {"pred": [[r["pred"][0][0] + 1, 50]]} for r in old[::-1]]
    found, _ = compared(quick, tmp_path, new, old, status=4)
    assert found["faces"] == 16
    assert [found["nme"][k] for k in ("low", "high")] == pytest.approx([1 / SIDE] * 2)
    merged, _ = compared(
        quick,
        tmp_path,
        *(sorted(r, key=lambda one: one["id"]) for r in (new, old)),
        "--merge",
        "mean",
        status=4,
    )
    assert merged["faces"] == 8


def test_faces_of_one_alone_are_an_error_with_their_count(quick, tmp_path):
    old, new = predictions([1] * 9), predictions([1] * 7)
    for a, b, words in (
        (new, old, "2 faces that the input lacks, such as 'f7'"),
        (old, new, "2 faces that"),
        (new + predictions([1], "n"), old, " and "),
    ):
        found, told = compared(quick, tmp_path, a, b, status=3)
        assert found is None
        assert words in told
        assert len(told.splitlines()) == 1


def test_another_truth_or_norm_is_an_error(quick, tmp_path):
    old = predictions([1] * 5)
    moved = [r | {"points": [[50.01, 50]]} for r in old[:2]] + old[2:]
    _, told = compared(quick, tmp_path, moved, old, status=3)
    assert "2 faces, such as 'f0', have other points" in told
    boxes = [r | {"box": [0, 0, 41, 90]} for r in old]
    assert compared(quick, tmp_path, boxes, old, status=3)[0] is None
    compared(quick, tmp_path, boxes, old, "--norm", "diagonal")
    _, told = compared(quick, tmp_path, [*old, old[0]], old, status=3)
    assert "has the face 'f0' twice" in told


def eyes(number, error, **keys):
    """A face of ibug68 whose mouth is off by so many pixels; the eyes are 60 apart."""
    points = [[float(i), 50.0] for i in range(68)]
    points[36], points[45] = [20.0, 30.0], [80.0, 30.0]
    pred = [[x + (error if i >= 48 else 1.0), y] for i, (x, y) in enumerate(points)]
    return nose(number, 0, 0, points=points, pred=pred, scheme="ibug68", group=str(number)) | keys


def test_splits_keys_and_regions_are_compared_and_do_not_gate(quick, tmp_path):
    random = np.random.default_rng(0)
    old = [eyes(i, 2 + random.random(), split=("val", "test")[i % 2]) for i in range(40)]
    step = {"val": 0.5, "test": -0.6}
    new = [
        r | {"pred": [*r["pred"][:48], *([x + step[r["split"]], y] for x, y in r["pred"][48:])]}
        for r in old
    ]
    found, _ = compared(quick, tmp_path, new, old, "--by", "scheme")
    assert not found["nme"]["worse"]
    val, test = (found["by"]["split"][name]["nme"] for name in ("val", "test"))
    assert (val["worse"], test["worse"]) == (True, False)
    assert val["difference"] == pytest.approx(0.5 * 20 / 68 / 60)
    assert found["by"]["scheme"]["ibug68"]["nme"] == found["nme"]
    assert found["regions"]["mouth"]["difference"] == pytest.approx((0.5 - 0.6) / 2 / 60)
    assert found["regions"]["jaw"]["difference"] == 0
    assert found["regions"]["jaw"]["baseline"] == pytest.approx(1 / 60)
    turned, _ = compared(quick, tmp_path, new[::-1], old)
    assert turned["regions"] == found["regions"]
    path = tmp_path / "old.jsonl"
    done = quick("eval", "--compare", path, "--format", "table", stdin=new)
    assert b"worse" in done.stdout
    assert b"mouth" in done.stdout


def test_a_protocol_is_compared_by_its_sets(quick, tmp_path):
    old = [eyes(i, 2, id=f"{'ibug' if i % 4 else 'afw'}/image_{i}") for i in range(12)]
    new = [eyes(i, 1, id=r["id"]) for i, r in enumerate(old)]
    found, _ = compared(quick, tmp_path, new, old, "--protocol", "300w")
    assert (found["faces"], found["threshold"]) == (9, 0.08)
    assert set(found["by"]["300w"]) == {"full", "challenge"}
    assert found["by"]["300w"]["challenge"]["nme"] == found["nme"]


def test_two_norms_or_too_few_groups_give_no_verdict(quick, tmp_path):
    mixed = [nose(0, 1, 0), eyes(1, 1)]
    found, told = compared(quick, tmp_path, mixed, mixed, status=3)
    assert found is None
    assert "--norm box" in told
    one = predictions([1, 2, 3], per_group=9)
    found, told = compared(quick, tmp_path, one, one, status=4)
    assert found["nme"]["low"] is None
    assert "fewer than two groups" in told
    assert compared(quick, tmp_path, [], [], status=4)[0]["faces"] == 0


def test_several_baselines_are_compared_each(quick, tmp_path):
    paths = []
    for name, error in (("a", 2), ("b", 1)):
        paths.append(tmp_path / f"{name}.jsonl")
        paths[-1].write_bytes(lines(predictions(np.arange(9) + error)))
    options = [word for path in paths for word in ("--compare", path)]
    done = quick("eval", *options, stdin=predictions(np.arange(9) + 1.5))
    assert done.returncode == 4
    assert [c["baseline"] for c in json.loads(done.stdout)["compare"]] == list(map(str, paths))
    assert str(paths[1]).encode() in done.stderr
    for words in (("--records",), ("--min-score", 0.5), ("--compare", "-")):
        assert quick("eval", *options, *words, stdin=b"").returncode == 2, words
    assert quick("eval", "--compare", tmp_path / "none", stdin=b"").returncode == 3


def test_samples_come_in_pieces_of_bounded_memory(monkeypatch):
    random = np.random.default_rng(0)
    sums, counts = random.random((50, 3)), np.ones((50, 3))
    monkeypatch.setattr(comparison, "_AT_A_TIME", 50 * 777)
    found = comparison._bootstrap(sums, counts)
    assert found.shape == (comparison.RESAMPLES, 3)
    assert found.mean(axis=0) == pytest.approx(sums.mean(axis=0), abs=0.002)
    assert found.std(axis=0) == pytest.approx(sums.std(axis=0) / np.sqrt(50), rel=0.05)
