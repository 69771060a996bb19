"""kp-prep select: which faces to label next."""

import numpy as np
import pytest
from conftest import in_process, lines, parse

from kptools.cli.prep import tool


def select(*words, stdin):
    return in_process(tool, "select", *words, stdin=lines(stdin))


@pytest.fixture
def predicted(face):
    """20 faces of different shapes, the first the surest."""
    found, chance = [], np.random.default_rng(0)
    for number in range(20):
        record = face(0) | {"id": f"{number}"}
        record["pred"] = (np.array(record["points"]) + chance.normal(0, 3, (68, 2))).tolist()
        found.append(record | {"score": [0.9 - 0.04 * number] * 68})
    return found


def ids(done):
    assert done.returncode == 0, done.stderr
    return [record["id"] for record in parse(done.stdout)]


def test_the_least_sure_faces_are_selected_the_least_sure_first(predicted):
    found = ids(select("--count", 3, stdin=predicted))
    assert found[0] == "19"
    assert set(found) <= {f"{n}" for n in range(8, 20)}  # four times as many
    assert len(found) == 3


def test_records_come_as_they_were_but_for_nothing(predicted):
    records = parse(select("--count", 20, stdin=predicted).stdout)
    assert sorted(records, key=lambda r: int(r["id"])) == predicted


def test_no_two_alike_are_selected_where_there_are_others(predicted):
    for number in range(12, 20):  # the least sure, nearly one shape
        predicted[number]["pred"] = [[x + 0.001 * number, y] for x, y in predicted[19]["pred"]]
    found = ids(select("--count", 5, stdin=predicted))
    assert len([name for name in found if int(name) >= 12]) == 1


def test_copies_that_disagree_are_selected(predicted):
    given = []
    for number, record in enumerate(predicted):
        for sign in (-1, 1):
            shift = sign * (5 if number == 7 else 0.1)
            copy = record | {"pred": [[x + shift, y] for x, y in record["pred"]]}
            given.append(copy | {"copy": (sign + 1) // 2, "augment": []})
    done = select("--count", 1, "--by", "spread", stdin=given)
    assert ids(done) == ["7"]
    record = parse(done.stdout)[0]
    assert np.allclose(record["spread"], 5)
    assert np.allclose(record["pred"], predicted[7]["pred"])
    assert "augment" not in record
    assert "copy" not in record


def test_flagged_faces_are_selected(predicted):
    predicted[4]["flags"] = ["jump"]
    predicted[6]["flags"] = ["jump", "shape"]
    assert ids(select("--by", "flags", stdin=predicted)) == ["6", "4"]


def test_a_face_without_score_is_a_failure_and_the_others_are_selected(predicted):
    del predicted[3]["score"]
    predicted[5]["pred"] = None
    done = select("--count", 18, stdin=predicted)
    assert done.returncode == 1
    assert len(parse(done.stdout)) == 18
    assert b"stdin:4: no `score`" in done.stderr
    assert b"stdin:6: " in done.stderr
