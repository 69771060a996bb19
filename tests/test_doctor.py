"""python -m kptools doctor: what is installed, and what is missing for what."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from kptools.cli.extras import EXTRAS

ROOT = Path(__file__).resolve().parents[1]


def doctor(*words, **env):
    return subprocess.run(
        [sys.executable, "-m", "kptools", *(words or ("doctor",))],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )


@pytest.fixture
def broken(tmp_path):
    """Stands a module that cannot be imported in front of the real one."""

    def put(name, error):
        (tmp_path / f"{name}.py").write_text(f"raise {error}\n")
        return {"PYTHONPATH": f"{tmp_path}:{ROOT}"}

    return put


def test_it_says_device_precision_and_what_extras_are_for():
    done = doctor()
    assert done.returncode == 0, done.stderr
    assert re.search(r"^device +(cpu|cuda|mps): \S", done.stdout, flags=re.M)
    assert re.search(r"^precision +(fp32|bf16)", done.stdout, flags=re.M)
    for name in EXTRAS:
        assert re.search(rf"^  {name} +(yes|no|BROKEN) ", done.stdout, flags=re.M), name
    assert f"torch {metadata.version('torch')}, " in done.stdout


def test_a_package_that_is_there_and_cannot_be_imported_is_not_called_installed(broken):
    done = doctor(**broken("cv2", "ImportError('libGL.so.1: cannot open shared object')"))
    assert done.returncode == 0
    assert re.search(r"^  detect +BROKEN +.*\n +cv2: libGL.so.1", done.stdout, flags=re.M)


def test_an_extra_that_is_missing_is_named(broken):
    env = broken("av", "ModuleNotFoundError(\"No module named 'av'\", name='av')")
    found = json.loads(doctor("doctor", "--format", "json", **env).stdout)
    assert found["extras"]["video"]["problem"] == "not installed"


@pytest.mark.parametrize("name", ["torch", "orjson"])
def test_without_what_all_need_it_exits_with_3_in_a_line(broken, name):
    error = f"ModuleNotFoundError(\"No module named '{name}'\", name='{name}')"
    done = doctor(**broken(name, error))
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert name in done.stdout + done.stderr
    assert "missing" in (done.stdout + done.stderr).lower()


@pytest.mark.parametrize("words", [("dokter",), ("doctor", "--format", "xml")])
def test_another_word_is_wrong_usage(words):
    done = doctor(*words)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_the_extras_are_those_of_the_package_and_of_the_table():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(EXTRAS) == set(project["optional-dependencies"]) - {"test", "docs"}
    table = (ROOT / "docs" / "install.md").read_text()
    for name, extra in EXTRAS.items():
        (row,) = re.findall(rf"^\| `{name}` \| (.+?) \|", table, flags=re.M)
        assert row == extra.purpose
