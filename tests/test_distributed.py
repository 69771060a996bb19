"""Training on several processes, as torchrun starts them."""

import functools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from conftest import lines, parse

from kptools.training.shared_norm import share_statistics

SCRIPT = Path(__file__).with_name("train_in_double.py")
TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]
SMALL = ("--arch", "unet", "--width", 4, "--stride", 2, "--input-size", "32x32", "--batch-size", 8)


def ranks(count, *words, target=("-m", "kptools.cli.train"), **keys):
    """Start kp-train on so many processes of one thread."""
    options = [f"--nproc-per-node={count}", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0"]
    command = [*TORCHRUN, *options, *keys.pop("torchrun", ()), *target, "--threads", 1, *words]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [str(word) for word in command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        **keys,
    )


def finish(process, data=b""):
    out, err = process.communicate(data, timeout=240)
    return process.returncode, out, err.decode()


def curve(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def policies(drawn):
    """Faces with a policy, of which 40 are trained on: 10 steps of 8 in 2 epochs."""
    policy = [{"rotate": 15, "flip": 0.5}]
    return lines([{**record, "augment": policy} for record in parse(drawn)[:52]])


FACE = ("--arch", "face", "--input-size", "80x60")
IN_DOUBLE = ("--batch-size", 8, "--epochs", 2, "--val-fraction", 0.2, "--precision", "fp32")


@pytest.fixture(scope="module")
def alone(policies, tmp_path_factory):
    """The curve of one process with these words, in 64 bits, and the ids that it predicts."""

    @functools.cache
    def train(*words):
        folder = tmp_path_factory.mktemp("alone")
        command = (sys.executable, SCRIPT, "--threads", 1, *words, *IN_DOUBLE)
        done = subprocess.run(
            [*map(str, command), "-o", "one.safetensors"],
            input=policies,
            capture_output=True,
            cwd=folder,
        )
        assert done.returncode == 0, done.stderr.decode()
        return curve(folder / "one.log.jsonl"), [r["id"] for r in parse(done.stdout)]

    return train


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (FACE, 1),
        (SMALL[:-2], 1),
        (("--arch", "resnet18", "--weights", "none", "--input-size", "32x32"), 1),
        (SMALL[:-2], 2),
    ],
    ids=["face", "unet", "resnet18", "unet by parts"],
)
def test_the_curve_of_two_processes_is_that_of_one(policies, alone, tmp_path, words, parts):
    """In 64 bits: in 32 Adam makes rounding of the first steps visible in later ones. A batch by
    parts is normalised by parts, so that its curve is compared with that of one process by parts
    alone where there is no batch normalisation."""
    given = (*words, "--accumulate", parts, *IN_DOUBLE, "-o", tmp_path / "two.safetensors")
    status, out, err = finish(ranks(2, *given, target=[SCRIPT]), policies)
    assert status == 0, err
    theirs, ids = alone(*words)
    ours = curve(tmp_path / "two.log.jsonl")
    assert len(ours) == len(theirs) == 2
    if parts == 1:
        for a, b in zip(ours, theirs, strict=True):
            for key in ("train_loss", "val_loss", "val_nme", "val_mae"):
                assert a[key] == pytest.approx(b[key], rel=1e-9), key
    assert [r["id"] for r in parse(out)] == ids


@pytest.fixture
def one_process():
    """A group of this process alone."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)], ids=["fp32", "bf16"]
)
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_shared_normalisation_is_that_of_torch_and_keeps_layout_and_type(
    one_process, dtype, tolerance, layout
):
    """Far from zero, against torch's own on the same numbers in 64 bits."""
    torch.manual_seed(0)
    x = (3 * torch.randn(6, 5, 9, 7) + 20).to(dtype).contiguous(memory_format=layout)
    upstream = torch.randn(6, 5, 9, 7).to(dtype).contiguous(memory_format=layout)
    ours, theirs = torch.nn.BatchNorm2d(5), torch.nn.BatchNorm2d(5).double()
    with torch.no_grad():
        for norm in (ours, theirs):
            norm.weight.copy_(torch.tensor([1.0, 0.5, -2.0, 3.0, 0.1]))
            norm.bias.copy_(torch.tensor([0.0, 1.0, -1.0, 0.5, 2.0]))
    share_statistics(ours, torch.device("cpu"))
    near, far = x.clone().requires_grad_(), x.double().requires_grad_()
    out, wanted = ours(near), theirs(far)
    out.backward(upstream)
    wanted.backward(upstream.double())
    assert out.dtype == near.grad.dtype == dtype
    assert out.stride() == near.grad.stride() == x.stride()
    pairs = [(out, wanted), (near.grad, far.grad)]
    pairs += [(getattr(ours, n).grad, getattr(theirs, n).grad) for n in ("weight", "bias")]
    pairs += [(getattr(ours, n), getattr(theirs, n)) for n in ("running_mean", "running_var")]
    for a, b in pairs:
        assert (a.double() - b).abs().max() < tolerance * b.abs().max()


def test_a_batch_in_parts_gives_the_gradient_of_the_whole(alone):
    """Of a network without batch normalisation; in 64 bits."""
    whole, parts = (
        [epoch["train_loss"] for epoch in alone(*FACE, *more)[0]]
        for more in ((), ("--accumulate", 3))
    )
    assert whole == pytest.approx(parts, rel=1e-9)


def pid_of_rank(process, rank):
    """The process of this rank among the children of torchrun."""
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        words = Path(f"/proc/{child}/environ").read_bytes().split(b"\0")
        if b"RANK=%d" % rank in words:
            return int(child)
    raise AssertionError(f"no rank {rank}")


def wait_for_epochs(log, count, process):
    while not log.exists() or len(log.read_bytes().splitlines()) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_after_a_killed_process_the_run_ends_as_an_undisturbed_one(policies, tmp_path):
    words = (*SMALL, "--epochs", 8, "--precision", "fp32", "--val-fraction", 0.2)
    status, undisturbed, err = finish(ranks(2, *words, "-o", tmp_path / "a.safetensors"), policies)
    assert status == 0, err
    run = ranks(2, *words, "-o", tmp_path / "b.safetensors", torchrun=["--max-restarts=1"])
    run.stdin.write(policies)
    run.stdin.close()
    run.stdin = None
    wait_for_epochs(tmp_path / "b.log.jsonl", 2, run)
    os.kill(pid_of_rank(run, 1), signal.SIGKILL)
    status, out, err = finish(run, None)
    assert status == 0, err
    assert out == undisturbed
    first, second = (tmp_path / f"{name}.safetensors" for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    assert len(curve(tmp_path / "b.log.jsonl")) == 8
    assert not list(tmp_path.glob("b.st*"))  # neither the state nor what came from stdin


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_a_lost_process_ends_the_run_with_its_reason_and_one_process_can_go_on(policies, tmp_path):
    out = tmp_path / "a.safetensors"
    faces = tmp_path / "faces.jsonl"
    faces.write_bytes(policies)
    words = (*SMALL, "--epochs", 300, "--precision", "fp32", "-o", out, faces)
    run = ranks(2, *words)
    wait_for_epochs(tmp_path / "a.log.jsonl", 1, run)
    os.kill(pid_of_rank(run, 1), signal.SIGKILL)
    status, _, err = finish(run)
    assert status != 0
    ours = [line for line in err.splitlines() if line.startswith("kp-train: another process")]
    assert len(ours) == 1
    assert "--resume" in ours[0]
    assert "this is a bug" not in err
    assert (tmp_path / "a.state.safetensors").exists()
    before = len(curve(tmp_path / "a.log.jsonl"))
    run = subprocess.Popen(
        [*map(str, (sys.executable, "-m", "kptools.cli.train", "--resume", "--threads", 1, *words))]
    )
    wait_for_epochs(tmp_path / "a.log.jsonl", before + 1, run)
    run.kill()
    run.wait()


def test_uneven_shares_and_an_unreadable_image_hold_nobody_up(policies, tmp_path):
    records = [{**record, "split": "train"} for record in parse(policies)[:10]]
    records[3]["image"] = str(tmp_path / "gone.jpg")
    words = (*SMALL[:-1], 4, "--epochs", 2, "--val-fraction", 0, "-o", tmp_path / "a.safetensors")
    status, _, err = finish(ranks(3, *words), lines(records))
    assert status == 0, err  # torchrun would take 1 for a run to begin again
    assert sum("does not exist" in line for line in err.splitlines()) == 1
    assert "1 of 10 records failed" in err
    assert len(curve(tmp_path / "a.log.jsonl")) == 2


def test_machines_that_count_restarts_apart_do_not_wait_for_each_other(policies, tmp_path):
    """One machine's torchrun has started its processes again, the other's has not; and what lies
    under -o is of another run."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    out = tmp_path / "a.safetensors"
    words = [*SMALL, "--threads", 1, "--val-fraction", 0.2, "-o", out]
    faces = tmp_path / "faces.jsonl"
    faces.write_bytes(policies)
    train = [*map(str, (sys.executable, "-m", "kptools.cli.train", *words))]
    subprocess.run([*train, "--epochs", "1", faces], check=True, capture_output=True)
    common = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    common |= {"MASTER_PORT": str(port), "TORCHELASTIC_MAX_RESTARTS": "3"}
    started = []
    for rank in "01":
        own = {"RANK": rank, "LOCAL_RANK": rank, "TORCHELASTIC_RESTART_COUNT": rank}
        env = {**os.environ, **common, **own, "OMP_NUM_THREADS": "1"}
        command = [*train, "--epochs", "2", faces]
        started.append(subprocess.Popen(command, env=env, stderr=subprocess.PIPE))
    errors = [process.communicate(timeout=120)[1].decode() for process in started]
    assert [process.returncode for process in started] == [0, 0], errors
    assert len(curve(tmp_path / "a.log.jsonl")) == 2


def test_fewer_faces_than_processes_are_an_error(policies, tmp_path):
    records = [{**record, "split": "train"} for record in parse(policies)[:2]]
    words = (*SMALL, "--epochs", 1, "--val-fraction", 0, "-o", tmp_path / "a.safetensors")
    status, _, err = finish(ranks(3, *words), lines(records))
    assert status != 0
    assert "2 faces cannot be shared by 3 processes" in err


def test_a_batch_smaller_than_its_parts_is_a_wrong_use(tmp_path):
    words = (*SMALL[:-1], 4, "--accumulate", 4, "-o", tmp_path / "a.safetensors")
    command = [sys.executable, "-m", "kptools.cli.train", *words]
    done = subprocess.run([*map(str, command)], input=b"", capture_output=True)
    assert done.returncode == 2
    assert b"at least 8" in done.stderr
