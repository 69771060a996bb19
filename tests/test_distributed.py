"""Training on several processes, as torchrun starts them; where it is not torchrun that is tested,
the test starts them itself, as torchrun takes seconds to."""

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
from conftest import forked, lines, parse

from kptools.training.shared_norm import share_statistics

HERE = Path(__file__).parent
TRAIN = "kptools.cli.train"
IN_64_BITS = "train_in_double"  # a module of this folder
SMALL = ("--arch", "unet", "--width", 4, "--stride", 2, "--input-size", "32x32", "--batch-size", 8)


def launch(*command, **more):
    """Start a process of one thread."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [str(word) for word in command], cwd=HERE, stdin=pipe, stdout=pipe, stderr=pipe, env=env
    )


def one(*words, tool=TRAIN):
    """Start kp-train on one process."""
    return launch(*forked(), tool, "--threads", 1, *words)


def ranks(count, *words, tool=TRAIN, own=lambda rank: {}):
    """Start kp-train on so many processes, with the variables that torchrun sets; the first one
    reads stdin. `own` are more variables of a rank."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    started = []
    for rank in range(count):
        variables = common | {"RANK": rank, "LOCAL_RANK": rank} | own(rank)
        texts = {name: str(value) for name, value in variables.items()}
        started.append(launch(*forked(), tool, "--threads", 1, *words, **texts))
    return started


def torchrun(*words, python, options=()):
    """Start kp-train by torchrun on two processes; `python` is what starts a module."""
    asked = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", *options]
    command = [*python, TRAIN, "--threads", 1, *words]
    return launch(*forked(), "torch.distributed.run", *asked, "--no-python", *command)


def finish(process, data=b""):
    out, err = process.communicate(data, timeout=240)
    return process.returncode, out, err.decode()


def finish_all(started, data=b""):
    """The statuses of ranks, what the first one wrote, and what all reported."""
    first, *others = started
    done = [finish(first, data), *map(finish, others)]
    return [status for status, _, _ in done], done[0][1], "".join(err for _, _, err in done)


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
        given = (*words, *IN_DOUBLE, "-o", folder / "one.safetensors")
        status, out, err = finish(one(*given, tool=IN_64_BITS), policies)
        assert status == 0, err
        return curve(folder / "one.log.jsonl"), [r["id"] for r in parse(out)]

    return train


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (FACE, 1),
        (SMALL[:-2], 1),
        (("--arch", "resnet18", "--weights", "none", "--input-size", "32x32"), 1),
        (("--arch", "tiny", "--head", "points", "--input-size", "32x32"), 1),
        (SMALL[:-2], 2),
    ],
    ids=["face", "unet", "resnet18", "tiny points", "unet by parts"],
)
def test_the_curve_of_two_processes_is_that_of_one(policies, alone, tmp_path, words, parts):
    """In 64 bits: in 32 Adam makes rounding of the first steps visible in later ones. A batch by
    parts is normalised by parts, so that its curve is compared with that of one process by parts
    alone where there is no batch normalisation."""
    given = (*words, "--accumulate", parts, *IN_DOUBLE, "-o", tmp_path / "two.safetensors")
    statuses, out, err = finish_all(ranks(2, *given, tool=IN_64_BITS), policies)
    assert statuses == [0, 0], err
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


def kill_rank(number, out):
    """Kill this rank of the run that writes `out`, as its command line and its environment say."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:  # it has gone, or is another user's
            continue
        if str(out).encode() in words and f"RANK={number}".encode() in variables:
            os.kill(int(folder.name), signal.SIGKILL)
            return
    raise AssertionError(f"no rank {number}")


def wait_for_epochs(log, count, process):
    while not log.exists() or len(log.read_bytes().splitlines()) < count:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_after_a_killed_process_the_run_ends_as_an_undisturbed_one(policies, tmp_path):
    words = (*SMALL, "--epochs", 8, "--precision", "fp32", "--val-fraction", 0.2)
    first, second = (tmp_path / f"{name}.safetensors" for name in "ab")
    statuses, undisturbed, err = finish_all(ranks(2, *words, "-o", first), policies)
    assert statuses == [0, 0], err
    run = torchrun(*words, "-o", second, python=forked(), options=["--max-restarts=1"])
    run.stdin.write(policies)
    run.stdin.close()
    run.stdin = None
    wait_for_epochs(tmp_path / "b.log.jsonl", 2, run)
    kill_rank(1, second)
    status, out, err = finish(run, None)
    assert status == 0, err
    assert out == undisturbed
    assert first.read_bytes() == second.read_bytes()
    assert len(curve(tmp_path / "b.log.jsonl")) == 8
    assert not list(tmp_path.glob("b.st*"))  # neither the state nor what came from stdin


@pytest.mark.skipif(sys.platform != "linux", reason="finds processes by /proc")
def test_a_lost_process_ends_the_run_with_its_reason_and_one_process_can_go_on(policies, tmp_path):
    out = tmp_path / "a.safetensors"
    faces = tmp_path / "faces.jsonl"
    faces.write_bytes(policies)
    words = (*SMALL, "--epochs", 300, "--precision", "fp32", "-o", out, faces)
    run = torchrun(*words, python=[sys.executable, "-m"])
    wait_for_epochs(tmp_path / "a.log.jsonl", 1, run)
    kill_rank(1, out)
    status, _, err = finish(run)
    assert status != 0
    ours = [line for line in err.splitlines() if line.startswith("kp-train: another process")]
    assert len(ours) == 1
    assert "--resume" in ours[0]
    assert "this is a bug" not in err
    assert (tmp_path / "a.state.safetensors").exists()
    before = len(curve(tmp_path / "a.log.jsonl"))
    run = one("--resume", *words)
    wait_for_epochs(tmp_path / "a.log.jsonl", before + 1, run)
    run.kill()
    run.communicate()


def test_uneven_shares_and_an_unreadable_image_hold_nobody_up(policies, tmp_path):
    records = [{**record, "split": "train"} for record in parse(policies)[:10]]
    records[3]["image"] = str(tmp_path / "gone.jpg")
    words = (*SMALL[:-1], 4, "--epochs", 2, "--val-fraction", 0, "-o", tmp_path / "a.safetensors")
    statuses, _, err = finish_all(ranks(3, *words), lines(records))
    assert statuses == [0, 0, 0], err  # torchrun would take 1 for a run to begin again
    assert sum("does not exist" in line for line in err.splitlines()) == 1
    assert "1 of 10 records failed" in err
    assert len(curve(tmp_path / "a.log.jsonl")) == 2


def test_machines_that_count_restarts_apart_do_not_wait_for_each_other(policies, tmp_path):
    """One machine's torchrun has started its processes again, the other's has not; and what lies
    under -o is of another run."""
    faces = tmp_path / "faces.jsonl"
    faces.write_bytes(policies)
    words = (*SMALL, "--val-fraction", 0.2, "-o", tmp_path / "a.safetensors", faces)
    status, _, err = finish(one(*words, "--epochs", 1))
    assert status == 0, err

    def count_restarts(rank):
        return {"TORCHELASTIC_MAX_RESTARTS": 3, "TORCHELASTIC_RESTART_COUNT": rank}

    statuses, _, err = finish_all(ranks(2, *words, "--epochs", 2, own=count_restarts))
    assert statuses == [0, 0], err
    assert len(curve(tmp_path / "a.log.jsonl")) == 2


def test_fewer_faces_than_processes_are_an_error(policies, tmp_path):
    records = [{**record, "split": "train"} for record in parse(policies)[:2]]
    words = (*SMALL, "--epochs", 1, "--val-fraction", 0, "-o", tmp_path / "a.safetensors")
    statuses, _, err = finish_all(ranks(3, *words), lines(records))
    assert 0 not in statuses
    assert "2 faces cannot be shared by 3 processes" in err


def test_a_batch_smaller_than_its_parts_is_a_wrong_use(tmp_path):
    words = (*SMALL[:-1], 4, "--accumulate", 4, "-o", tmp_path / "a.safetensors")
    status, _, err = finish(one(*words))
    assert status == 2
    assert "at least 8" in err
