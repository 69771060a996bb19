"""What the tests share: the tools as a person runs them, and small pictures."""

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import orjson
import pytest
import torch
import typer
from PIL import Image

from kptools.cli.edge import _usage
from kptools.console import report
from kptools.errors import KptoolsError
from kptools.models import build, checkpoint
from kptools.models.checkpoint import Checkpoint
from kptools.schemes import catalog
from kptools.specs import ModelSpec
from kptools.storage import files

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TOOLS = ("prep", "augment", "train", "predict", "eval", "heatmap", "viz")


def run(
    tool: str,
    *arguments: object,
    stdin: bytes | list[dict[str, Any]] = b"",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `kp-TOOL` in a process of its own."""
    data = stdin if isinstance(stdin, bytes) else lines(stdin)
    return subprocess.run(
        [sys.executable, "-m", f"kptools.cli.{tool}", *map(str, arguments)],
        input=data,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        timeout=300,
    )


def in_process(
    tool: typer.Typer, *arguments: object, stdin: bytes = b""
) -> subprocess.CompletedProcess[bytes]:
    """Run a tool in this process, which has torch already, with the file descriptors of one of its
    own."""
    words = [str(argument) for argument in arguments]
    printed, reported = io.StringIO(), io.StringIO()
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as taken:
        given.write(stdin)
        given.seek(0)
        kept = [os.dup(0), os.dup(1)]
        os.dup2(given.fileno(), 0)
        os.dup2(taken.fileno(), 1)
        try:
            with redirect_stdout(printed), redirect_stderr(reported):
                status = _status(tool, words)
        finally:
            for number, descriptor in enumerate(kept):
                os.dup2(descriptor, number)
                os.close(descriptor)
        taken.seek(0)
        out = printed.getvalue().encode() + taken.read()
    return subprocess.CompletedProcess(words, status, out, reported.getvalue().encode())


def _status(tool: typer.Typer, words: list[str]) -> int:
    try:
        return int(tool(words, standalone_mode=False) or 0)
    except KptoolsError as error:
        report(str(error))
        return error.exit_status
    except Exception as error:
        return _usage(error)
    finally:
        files.release()


def untrained(path: Path, scheme: str = "ibug68", size: tuple[int, int] = (16, 16)) -> Path:
    """A checkpoint of a `nose` network as it was born."""
    count = catalog.get(scheme).count
    torch.manual_seed(0)
    network = build.build("nose", count, size)
    model = ModelSpec(
        arch="nose",
        scheme=scheme,
        count=count,
        input=size,
        grey=True,
        margin=0.0,
        heatmap=False,
        width=64,
        stride=1,
        box_sources=("dataset",),
        mean=((0.5, 0.5),) * count,
    )
    checkpoint.save(path, Checkpoint(model, network.state_dict()))
    return path


def lines(records: list[dict[str, Any]]) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def parse(data: bytes) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in data.splitlines()]


@pytest.fixture
def face(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Make a record of a small picture with 68 points, or what `keys` say instead."""

    def make(number: int = 0, **keys: Any) -> dict[str, Any]:
        path = tmp_path / f"{number}.png"
        Image.new("RGB", (80, 60), (number * 7 % 256, 90, 60)).save(path)
        points = [[20.0 + i % 9 * 4 + number % 5, 10.0 + i // 9 * 5] for i in range(68)]
        return {
            "image": str(path),
            "id": f"face{number}",
            "group": f"face{number}",
            "size": [80, 60],
            "box": [15.5, 5.5, 60.5, 55.5],
            "box_source": "dataset",
            "points": points,
            "scheme": "ibug68",
            "split": "train",
        } | keys

    return make


@pytest.fixture(scope="session")
def ibug_root() -> Path:
    root = SHARED / "ibug_300W_large_face_landmark_dataset"
    if not root.is_dir():
        pytest.skip("needs the iBUG faces of ../shared/data, which are not here")
    return root


@pytest.fixture(scope="session")
def imm_root() -> Path:
    root = SHARED / "imm_face_db"
    if not root.is_dir():
        pytest.skip("needs the IMM faces of ../shared/data, which are not here")
    return root
