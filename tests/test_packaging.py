"""What a release is made of: the source archive, the wheel that is built from it, and the tools in
an environment that has neither this folder nor its editable install."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import venv
from pathlib import Path

import pytest

import kptools

ROOT = Path(__file__).resolve().parents[1]


def run(*words, cwd, **env):
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """The source archive."""
    pytest.importorskip("setuptools", "77", reason="needs setuptools 77 to build")
    out = tmp_path_factory.mktemp("dist")
    code = f"from setuptools.build_meta import build_sdist; print(build_sdist({str(out)!r}))"
    source = tmp_path_factory.mktemp("source")
    files = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=True)
    for name in files.stdout.decode().split("\0"):
        if name and (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-c", code, cwd=source)
    (path,) = out.iterdir()
    return path


def test_the_source_archive_has_docs_examples_and_tests(archive):
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    for name in ("docs/tutorial.md", "examples/quickstart.sh", "tests/run.sh", "mkdocs.yml"):
        assert name in names
    assert "kptools/models/box.safetensors" in names


def test_the_wheel_that_is_built_from_it_works_where_nothing_else_is(archive, tmp_path):
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = tmp_path.glob("kptools-*")
    code = f"from setuptools.build_meta import build_wheel; print(build_wheel({str(tmp_path)!r}))"
    run(sys.executable, "-c", code, cwd=source)
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name == f"kptools-{kptools.__version__}-py3-none-any.whl"

    place = tmp_path / "venv"
    venv.create(place, symlinks=True)
    python = place / "bin" / "python"
    run(
        sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", wheel, cwd=tmp_path
    )
    # the packages that it needs are those of this environment; its editable installs are not taken
    (site,) = place.glob("lib/python*/site-packages")
    (site / "needs.pth").write_text(f"{sysconfig.get_path('purelib')}\n")

    def tool(command):
        path = f"{place / 'bin'}:{os.environ['PATH']}"
        words = ("bash", "-euo", "pipefail", "-c", command)
        return run(*words, cwd=tmp_path, PATH=path, PYTHONPATH="", HOME=str(tmp_path))

    # the examples take it as it is
    script = source / "examples" / "which.sh"
    script.write_text('. "$(dirname -- "$0")/env.sh"\ncommand -v kp-predict\n')
    found = tool(f"KPTOOLS_VENV={place} sh {script} 2>&1").strip()
    assert found == str(place / "bin" / "kp-predict")

    where = tool("python -c 'import kptools; print(kptools.__file__)'")
    assert str(place) in where
    tool("kp-prep synth --count 4 --out faces > faces.jsonl")
    assert '"nme"' in tool("kp-predict faces.jsonl | kp-viz report -o report.html | kp-eval")
    assert "<script" in (tmp_path / "report.html").read_text()
    assert "examples/box.sh" in tool("kp-predict --explain")
    assert kptools.__version__ in tool("python -m kptools doctor")


def test_the_changelog_has_the_version_and_its_date():
    text = (ROOT / "CHANGELOG.md").read_text()
    heads = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", text, flags=re.M)
    assert heads[0] == ("Unreleased", "")
    assert heads[1][0] == kptools.__version__
    assert all(date for _, date in heads[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.+)$", text, flags=re.M)) <= kinds
