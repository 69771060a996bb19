"""What the tests share: the tools as a person runs them, and small pictures."""

import atexit
import fcntl
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch
import typer
from PIL import Image

from kptools import runtime
from kptools.cli.edge import new_app, report_exception
from kptools.console import report
from kptools.errors import KptoolsError
from kptools.models import build, checkpoint
from kptools.models.checkpoint import Checkpoint
from kptools.models.network import Network
from kptools.schemes import catalog
from kptools.specs import InputSpec, ModelSpec
from kptools.storage import files

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
TOOLS = ("prep", "augment", "train", "predict", "track", "eval", "heatmap", "viz")

# hundreds of processes import kptools: where none of them may keep its bytecode, each compiles it
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.fsync = os.fstat  # no test cuts the power; new Pythons wait for the disk as ever


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: list[Any]) -> None:
    """Workers of pytest-xdist (`pytest -n 2`) share the cores: torch's threads wait for each other,
    which is slow where there are more of them than cores."""
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // len(specs))))


def run(
    tool: str,
    *arguments: object,
    stdin: bytes | list[dict[str, Any]] = b"",
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `kp-TOOL` in a process of its own; in a new Python where `env` has what Python reads."""
    data = stdin if isinstance(stdin, bytes) else lines(stdin)
    of_python = any(name.startswith("PYTHON") for name in env or ())
    python = [sys.executable, "-m"] if of_python else forked()
    return subprocess.run(
        [*python, f"kptools.cli.{tool}", *map(str, arguments)],
        input=data,
        capture_output=True,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        timeout=300,
    )


@cache
def forked() -> list[str]:
    """What stands in a command in place of `python -m`, for a process that need not import torch;
    tests/forkserver.py says how, and what that does not show."""
    if sys.platform != "linux":  # elsewhere libraries do not take a fork well
        return [sys.executable, "-m"]
    path = Path(tempfile.mkdtemp(prefix="forkserver")) / "socket"
    code = Path(__file__).with_name("forkserver.py")
    pipe = subprocess.PIPE  # the server ends where that to its stdin is closed, with this process
    server = subprocess.Popen([sys.executable, code, path], stdin=pipe, stdout=pipe, stderr=pipe)
    atexit.register(shutil.rmtree, path.parent)
    assert server.stdout.readline() == b"ready\n", server.stderr.read()
    return [sys.executable, "-IS", str(code), str(path)]


def shell(command: str, cwd: Path, **keys: Any) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=cwd,
        capture_output=True,
        timeout=120,
        **keys,
    )


def module(name: str, python: Sequence[str] = ()) -> str:
    """A tool as a word of a shell's command; `python` may be forked()."""
    return shlex.join([*(python or (sys.executable, "-m")), f"kptools.cli.{name}"])


def start(
    tool: str, *words: object, cwd: Path, python: Sequence[str] = (), **keys: Any
) -> subprocess.Popen[bytes]:
    """A tool that runs beside the test, and no longer than it; `python` may be forked(), whose
    number is not the tool's."""
    process = subprocess.Popen(
        [*(python or (sys.executable, "-m")), f"kptools.cli.{tool}", *map(str, words)],
        cwd=cwd,
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **keys},
    )
    _started.append(process)
    return process


_started: list[subprocess.Popen[bytes]] = []


@pytest.fixture(autouse=True)
def _nothing_runs_on() -> Iterator[None]:
    """Ends what a test that failed has started and left."""
    yield
    while _started:
        process = _started.pop()
        process.kill()
        process.wait()


def wait_for(path: Path, process: subprocess.Popen[bytes] | None = None) -> None:
    end = time.monotonic() + 120  # a busy machine may take long to import torch
    while time.monotonic() < end:
        if path.exists():
            return
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    raise AssertionError(f"{path} never came")


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
        return report_exception(error)
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
        input=InputSpec(size, 0.0, grey=True),
        box_sources=("dataset",),
        mean=((0.5, 0.5),) * count,
    )
    checkpoint.save(path, Checkpoint(model, network.state_dict()))
    return path


def tiny_unet(folder: Path) -> tuple[Network, ModelSpec]:
    """A U-Net of 68 points, and what a checkpoint says of it."""
    torch.manual_seed(0)
    options = {"width": 2, "stride": 2}
    network = build.build("unet", 68, (32, 32), options)
    model = checkpoint.load(str(untrained(folder / "m.safetensors"))).model
    spec = InputSpec((32, 32), 0.0, grey=False)
    return network, replace(model, arch="unet", input=spec, options=options, head="heatmap")


def train(
    folder: Path,
    stdin: bytes | list[dict[str, Any]],
    *options: object,
    arch: str = "nose",
    epochs: int = 2,
    size: str = "48x48",
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    return run(
        "train",
        *("--arch", arch, "--epochs", epochs, "--input-size", size, "--threads", 1),
        *options,
        stdin=stdin,
        cwd=folder,
        env=env,
    )


def scores(
    records: bytes | list[dict[str, Any]], *options: object, status: int = 0
) -> dict[str, Any]:
    """The report of kp-eval."""
    done = run("eval", *options, stdin=records)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def nose(number: int, dx: float, dy: float, **keys: Any) -> dict[str, Any]:
    """A record of one point, and a prediction that is off by (dx, dy) pixels."""
    return {
        "image": "a.jpg",
        "id": f"f{number}",
        "size": [200, 100],
        "box": [0, 0, 40, 90],
        "box_source": "dataset",
        "points": [[50, 50]],
        "pred": [[50 + dx, 50 + dy]],
        "scheme": "nose1",
        "split": "val",
    } | keys


def noise(path: Path, size: tuple[int, int] = (80, 60)) -> Path:
    """A picture in which each place looks different."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def written(
    face: Callable[..., dict[str, Any]], folder: Path, *policy: object, count: int = 4, **keys: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A face, and the records of `count` copies of it, each written as a picture of its own."""
    record = face(0, **keys)
    noise(record["image"])
    done = run("augment", "--copies", count, *policy, "--write", folder, stdin=[record])
    assert done.returncode == 0, done.stderr
    return record, parse(done.stdout)


def save_grey(path: Path, grey: np.ndarray) -> Path:
    """Write levels (H, W) as an RGB picture, without loss or nearly so."""
    image = Image.fromarray(np.repeat(grey[:, :, None], 3, axis=2))
    if path.suffix == ".jpg":
        image.save(path, quality=100, subsampling=0)
    else:
        image.save(path)
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


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the session that `make` fills, for all workers of pytest-xdist."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each has its own in that of the session
        base = base.parent
    folder = base / name
    with open(base / f"{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "made").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / "made").touch()
    return folder


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """Sixty drawn faces, a policy on each; ten groups or so are val."""
    policy = ["--rotate", 10, "--shift", 0.05, "--brightness", 0.2, "--noise", 0.02]

    def draw(folder: Path) -> None:
        words = ("--count", 60, "--out", folder / "f", "--val-fraction", 0.2)
        made = run("prep", "synth", *words)
        (folder / "faces.jsonl").write_bytes(run("augment", *policy, stdin=made.stdout).stdout)

    return (once(tmp_path_factory, "drawn", draw) / "faces.jsonl").read_bytes()


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Sixteen drawn faces, four of them val."""

    def draw(folder: Path) -> None:
        made = run("prep", "synth", "--count", 16, "--out", folder / "f").stdout
        (folder / "faces.jsonl").write_bytes(made)

    made = parse((once(tmp_path_factory, "few", draw) / "faces.jsonl").read_bytes())
    return [r | {"split": "val" if i % 4 == 3 else "train"} for i, r in enumerate(made)]


@pytest.fixture(scope="session")
def box_onnx(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The network in the box as an ONNX file; box.txt beside it is what the export said."""
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")

    def export(folder: Path) -> None:
        done = run("predict", "--export", folder / "box.onnx")
        assert done.returncode == 0, done.stderr
        (folder / "box.txt").write_bytes(done.stderr)

    return once(tmp_path_factory, "onnx", export) / "box.onnx"


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


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


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Run `kp-TOOL`, a tool of one command, in this process: torch need not be imported again."""
    monkeypatch.setattr(runtime, "tune_process", lambda: None)  # which is for a process of its own

    def run_here(
        tool: str, *words: object, stdin: bytes | list[dict[str, Any]] = b""
    ) -> subprocess.CompletedProcess[bytes]:
        app = new_app()
        commands = import_module(f"kptools.cli.{tool}")
        app.command()(getattr(commands, {"eval": "evaluate"}.get(tool, tool)))
        return in_process(app, *words, stdin=stdin if isinstance(stdin, bytes) else lines(stdin))

    return run_here


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, as playwright drives it."""
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("needs chromium (apt-get install chromium)")
    with playwright.sync_playwright() as p:
        found = p.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield found
        found.close()
