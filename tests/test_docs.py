"""The pages say what the program has: names, statuses, options, links."""

import json
import re
from pathlib import Path

import pytest
from conftest import run

from kptools.datasets.catalog import DATASETS
from kptools.evaluation import NORMS
from kptools.evaluation.metrics import METRICS
from kptools.evaluation.protocols import PROTOCOLS
from kptools.models.archs import ARCHS
from kptools.models.codecs import DECODERS
from kptools.models.heads import HEADS
from kptools.records.keys import PREDICTION
from kptools.records.policy import OPERATIONS
from kptools.schemes.catalog import FULL

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def words(page):
    """What stands in backquotes on a page, word by word."""
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / page).read_text(), flags=re.S)
    return {word for code in re.findall(r"`([^`]+)`", text) for word in re.split(r"[^\w]+", code)}


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("metrics.md", [metric.name for metric in METRICS]),
        ("metrics.md", NORMS),
        ("metrics.md", [word for p in PROTOCOLS.values() for word in (*p.sets, p.scheme)]),
        ("metrics.md", [region for scheme in FULL.values() for region in scheme.regions]),
        ("metrics.md", FULL),
        ("networks.md", ARCHS),
        (
            "networks.md",
            [option.name.split("_")[0] for a in ARCHS.values() for option in a.options],
        ),
        ("networks.md", [*HEADS, *(name for entry in HEADS.values() for name in entry.losses)]),
        ("networks.md", DECODERS),
        ("data.md", DATASETS),
        ("data.md", OPERATIONS),
        ("record.md", [key for key in PREDICTION if key != "pred_visible"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_page_names_each(page, names):
    assert set(names) <= words(page), set(names) - words(page)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.S)
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        path, _, anchor = target.partition("#")
        found = page.parent / path if path else page
        assert found.exists(), target
        if anchor:
            titles = re.findall(r"^#+ (.+)$", found.read_text(), flags=re.M)
            anchors = {re.sub(r"[^\w -]", "", t.lower()).replace(" ", "-") for t in titles}
            assert anchor in anchors, target


def test_the_map_of_the_house_has_forty_lines_and_every_folder():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    house = text.partition("## The house")[2].partition("\n## ")[0]
    assert len(house.strip().splitlines()) <= 40
    for path in (ROOT / "kptools").iterdir():
        if path.is_dir() and not path.name.startswith("__"):
            assert f"`{path.name}/`" in house, path.name


def test_the_readme_is_read_in_five_minutes():
    text = re.sub(r"```.*?```", "", (ROOT / "README.md").read_text(), flags=re.S)
    assert len(text.split()) < 5 * 250


def test_the_tests_that_the_promises_name_are_there():
    text = (ROOT / "docs" / "promises.md").read_text()
    names = re.findall(r"test_\w+\.py|benchmarks/\w+\.py", text)
    assert len(names) > 15
    assert all((ROOT / "tests" / name).exists() for name in names), names


def test_the_table_of_protocols_has_their_norms_thresholds_and_sets():
    text = (ROOT / "docs" / "metrics.md").read_text()
    for protocol in PROTOCOLS.values():
        (line,) = re.findall(rf"^\| `{protocol.name}` \|.*$", text, flags=re.M)
        assert f"`{protocol.norm}`" in line or protocol.norm is None
        for threshold in {figure.threshold for figure in protocol.figures} - {None}:
            assert f"at {100 * threshold:g} %" in line
        for count in protocol.sets.values():
            assert str(count or "all") in line or "as `300w`" in line


def test_the_worked_example_is_what_kp_eval_computes():
    text = (ROOT / "docs" / "metrics.md").read_text().partition("## A worked example")[2]
    data = text.partition("```json\n")[2].partition("```")[0]
    report = json.loads(run("eval", "-", stdin=data.encode()).stdout)
    rows = re.findall(
        r"^\| .+ \| .+ \| `(\w+)` ([\d.]+) \|$", text.partition("\n## ")[0], flags=re.M
    )
    assert len(rows) == 6
    for name, value in rows:
        assert report[name] == pytest.approx(float(value), abs=5e-7), name
