"""Damaged inputs, a few of each kind on each run. The long run: `cd tests && python -m fuzz`."""

from random import Random

import pytest
from fuzz import mutate, targets
from hypothesis import given, settings
from hypothesis import strategies as st

QUICK = settings(max_examples=150, derandomize=True, deadline=None)
FORMATS = ("coco", "csv", "kaggle", "labelme", "wflw", "yolo")
PARSERS = ("xml", "asf", "pts", *FORMATS, "image", "checkpoint", "maps")
TOOLS = (
    "augment",
    "predict",
    "track",
    "track --box",
    "eval",
    "heatmap decode",
    "viz grid",
    "train",
)


@pytest.fixture(scope="module")
def parsers(tmp_path_factory):
    return targets.targets(tmp_path_factory.mktemp("parsers"))


@pytest.mark.parametrize("name", PARSERS)
@QUICK
@given(random=st.randoms(use_true_random=False))
def test_a_parser_reads_damaged_files_or_says_what_is_wrong(parsers, name, random):
    parsers[name].check(random)


@pytest.mark.parametrize("name", TOOLS)
def test_a_tool_gives_a_line_for_each_damaged_line(name, tmp_path):
    record = targets.face(tmp_path)
    lines = [mutate.strange(record | {"id": f"f{i}"}, Random(i)) for i in range(100)]
    targets.feed(targets.tools(tmp_path)[name], lines, timeout=120)
