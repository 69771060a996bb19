"""The tutorial and the how-to pages: each command on them runs, in order, in a folder of its own.

A comment before a block of commands says what is different here: `<!-- test: sed: EXPRESSION -->`
makes it shorter, `<!-- test: first: COMMANDS -->` run before it, `<!-- test: needs: PROGRAM -->`
leaves it out where that is absent, and `<!-- test: skip: TEST -->` always: another test runs it.
`python tests/test_howto.py tutorial DIR` runs a page as it is printed, in DIR, and takes its
pictures to docs/pictures.
"""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TOOLS, forked

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = ("tutorial", "dataset", "schemes", "correcting", "tta", "batch", "cluster", "video", "gate")
MODULES = {"tutorial": ("cv2",), "video": ("cv2", "av")}  # what pages need beside the program
_BLOCK = re.compile(r"((?:^<!-- test: [^\n]* -->\n)*)^```sh\n(.*?)^```$", flags=re.M | re.S)
_NOTE = re.compile(r"<!-- test: (\w+): ([^\n]*) -->")


def blocks(page: str, *, short: bool) -> list[str]:
    """The blocks of commands that are to run."""
    found = []
    for notes, text in _BLOCK.findall((DOCS / f"{page}.md").read_text()):
        kinds = dict(_NOTE.findall(notes))
        assert set(kinds) <= {"sed", "first", "needs", "skip"}
        if "skip" in kinds or ("needs" in kinds and not shutil.which(kinds["needs"])):
            continue
        if short and "sed" in kinds:
            words = ["sed", "-E", kinds["sed"]]
            done = subprocess.run(words, input=text, capture_output=True, text=True, check=True)
            assert done.stdout != text, f"{kinds['sed']!r} changes nothing"
            text = done.stdout
        found += [kinds["first"], text] if "first" in kinds else [text]
    return found


def run_blocks(texts: list[str], folder: Path, tools: Path) -> None:
    for text in texts:
        done = subprocess.run(
            [
                "bash",
                "-eu",
                "-o",
                "pipefail",
                "-c",
                f"PATH={shlex.quote(str(tools))}:$PATH\n{text}",
            ],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr


@pytest.fixture(scope="module")
def tools(tmp_path_factory):
    """A folder of the commands, as processes that need not import torch."""
    folder = tmp_path_factory.mktemp("bin")
    for tool in TOOLS:
        command = folder / f"kp-{tool}"
        command.write_text(f'#!/bin/sh\nexec {shlex.join(forked())} kptools.cli.{tool} "$@"\n')
        command.chmod(0o755)
    (folder / "python").symlink_to(sys.executable)
    return folder


@pytest.mark.parametrize("page", PAGES)
def test_each_command_of_the_page_runs(page, tools, tmp_path):
    if not shutil.which("jq"):
        pytest.skip("needs jq")
    for name in MODULES.get(page, ()):
        pytest.importorskip(name, reason="needs the extras detect and video")
    run_blocks(blocks(page, short=True), tmp_path, tools)


@pytest.mark.parametrize("page", PAGES)
def test_what_is_not_run_here_is_run_by_another_test(page):
    text = (DOCS / f"{page}.md").read_text()
    reasons = [reason for kind, reason in _NOTE.findall(text) if kind == "skip"]
    for reason in reasons:
        assert (DOCS.parent / reason.split()[0]).is_file(), reason
    assert blocks(page, short=True) or reasons


def test_each_picture_of_the_page_comes_from_a_command_on_it():
    for page in PAGES:
        text = (DOCS / f"{page}.md").read_text()
        commands = "".join(blocks(page, short=False))
        for name in re.findall(r"!\[[^]]+\]\(pictures/(.+?)\)", text):
            assert re.search(rf"-o {re.escape(name)}\s", commands), name
            assert (DOCS / "pictures" / name).stat().st_size > 1000


if __name__ == "__main__":
    page, target = sys.argv[1], Path(sys.argv[2])
    target.mkdir(parents=True)
    run_blocks(blocks(page, short=False), target, Path(sys.executable).parent)
    for name in re.findall(r"\(pictures/(.+?)\)", (DOCS / f"{page}.md").read_text()):
        shutil.copyfile(target / name, DOCS / "pictures" / name)
