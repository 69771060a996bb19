"""kp-prep csv, and kp-prep to csv: what a table must not change without a word."""

import pytest
from PIL import Image

from kptools.datasets import columns, csv_table
from kptools.errors import KptoolsError
from kptools.records.failures import Failures
from kptools.records.item import Item


@pytest.fixture
def face(tmp_path):
    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    return {
        "image": str(tmp_path / "a.png"),
        "id": "a",
        "group": "a",
        "size": [60, 40],
        "box": [1.0, 2.0, 30.0, 35.5],
        "box_source": "dataset",
        "points": [[3.25, 4.0], None],
        "split": "train",
    }


@pytest.fixture
def there_and_back(tmp_path):
    def again(*records, what="points"):
        failures = Failures()
        items = [Item(dict(record), "r.jsonl", i) for i, record in enumerate(records, start=1)]
        rows = csv_table.write(items, failures.add, what, str(tmp_path))
        (tmp_path / "t.csv").write_bytes(b"".join(row + b"\n" for row in rows))
        assert not any(item.failed for item in items)
        return [item.record for item in csv_table.read(str(tmp_path / "t.csv"), scheme="none")]

    return again


@pytest.mark.parametrize(
    "value",
    [
        *(True, False, None, "true", "null", "", " a", "a\nb\rc", 'say "no"', "a,b", "1e5", "[1"),
        *(1e-300, 10**18, 1.0, 1, "1", 0.12345678901234568, [1, "a", None], {"a": {"b": [1.5]}}),
    ],
    ids=repr,
)
def test_a_key_of_any_value_comes_back_as_it_was(face, there_and_back, value):
    records = [face | {"note": value}, face | {"id": "b", "note": "text"}]
    found = there_and_back(*records)
    assert [record["note"] for record in found] == [value, "text"]
    assert type(found[0]["note"]) is type(value)


@pytest.mark.parametrize("key", ["nose_x", "Image", "record", "box_x0", "Box_x0", " a", "x0", "z"])
def test_a_key_of_any_name_is_no_column_of_something_else(face, there_and_back, key):
    records = [face | {key: 7, "nose_y": 8}]
    (found,) = there_and_back(*records)
    assert found == records[0]


def test_texts_that_begin_with_a_blank_are_kept(face, there_and_back):
    (found,) = there_and_back(face | {"id": " lead", "group": "x\ny"})
    assert (found["id"], found["group"]) == (" lead", "x\ny")


def test_predictions_beside_the_truth_are_kept_with_it(face, there_and_back):
    record = face | {"pred": [[1.5, 2.5], [3.0, 4.0]], "score": [0.5, 0.25]}
    assert there_and_back(record) == [record]
    (found,) = there_and_back(record, what="pred")
    assert (found["points"], found["score"]) == (record["pred"], record["score"])


def test_two_columns_of_one_name_are_an_error():
    with pytest.raises(KptoolsError, match="two columns are called 0_x"):
        columns.find("t.csv", ["image", "0_x", "0_y", "0_x", "0_y"], None, None, None, False)


def test_the_name_in_lower_case_is_the_image():
    found = columns.find("t.csv", ["image", "Image", "0_x", "0_y"], None, None, None, False)
    assert (found.image, found.others) == (0, (("Image", 1),))


def test_where_the_box_took_the_columns_the_message_says_so():
    with pytest.raises(KptoolsError, match="x0,y0,x1,y1 are the box"):
        columns.find("t.csv", ["image", "x0", "y0", "x1", "y1"], None, None, None, False)
