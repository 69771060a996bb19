"""Devices that are not here, precision, and memory: what they refuse, ask for, and get."""

import numpy as np
import pytest
import torch
from conftest import lines, parse, run
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kptools import runtime, specs
from kptools.augment import sample
from kptools.errors import KptoolsError, UsageError
from kptools.models import archs, build, network
from kptools.models.backbones import torchvision
from kptools.models.losses.bernoulli import bernoulli_loss
from kptools.pixels import batch, warp, write
from kptools.pixels.cache import decoding_threads
from kptools.pixels.crop_spec import crop_spec
from kptools.records.stream import Stream
from kptools.training import loop
from kptools.training.ema import EMA
from kptools.training.gather import Intake
from kptools.training.settings import Settings

CPU, MPS, CUDA = torch.device("cpu"), torch.device("mps"), torch.device("cuda")

# What may touch 64 bits on a device that cannot compute in them: what moves numbers to and from
# it, and integers that are indices
CROSSING = {"_to_copy", "copy_", "detach", "detach_", "alias", "lift_fresh"}
INDEXING = {
    *("index", "index_copy", "index_put_", "gather", "scatter", "max", "argmax", "max_pool2d"),
    *("max_pool2d_with_indices", "max_pool2d_with_indices_backward", "view", "_unsafe_view"),
    *("unsqueeze", "squeeze", "expand", "slice", "select", "permute", "value_selecting"),
    *("value_selecting_reduction_backward", "empty_like", "zeros_like", "zero_", "fill_"),
}


class NoDoubles(TorchDispatchMode):
    """The CPU, refusing what MPS does: any work on float64, and arithmetic on int64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__
        if name not in CROSSING:
            tensors = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            kinds = {t.dtype for t in tensors if t.numel() > 1}
            assert torch.float64 not in kinds, f"{name} on float64"
            assert torch.int64 not in kinds or name in INDEXING, f"arithmetic on int64: {name}"
        return out


def test_the_double_refuses_what_mps_does():
    with NoDoubles():
        torch.ones(3) * 2
        with pytest.raises(AssertionError, match="float64"):
            torch.ones(3, dtype=torch.float64) * 2
        with pytest.raises(AssertionError, match="int64"):
            torch.ones(3, dtype=torch.int64) * 2


POLICY = {"seed": 0, "rotate": 20, "scale": 0.6, "shift": 0.1, "flip": 0.5, "hue": 0.1}
POLICY |= {"brightness": 0.3, "gray": 0.3, "blur": 1.0, "noise": 0.1, "erase": 0.9}


def test_crops_are_warped_and_coloured_without_64_bits():
    records = [{"id": str(i), "box": [5.0, 5.0, 45.0, 40.0], "augment": [POLICY]} for i in range(6)]
    for grey in (False, True):
        frame = specs.InputSpec((24, 20), 0.1, grey)
        layout = crop_spec(records, frame)
        shape = (6, layout.size[1], layout.size[0], frame.channels)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
        sampled = [sample.draw(record, 0) for record in records]
        boxes = [tuple(record["box"]) for record in records]
        expected = batch.network_input(pixels, boxes, sampled, layout)
        with NoDoubles():
            x = batch.network_input(pixels, boxes, sampled, layout)
        assert torch.equal(x, expected)


@pytest.mark.parametrize("arch", ["nose", "face", "resnet18", "unet"])
def test_networks_learn_and_predict_without_64_bits(arch):
    size, grey = (48, 40), arch in ("nose", "face")
    settings = Settings(
        *(arch, size, grey, 3, "bce" if arch == "unet" else "wing", ((1e-3, 1),), 0.1), width=4
    )
    network = build.build(arch, 5, size, width=4)
    model = specs.ModelSpec(
        *(arch, "points5", 5, size, grey, 0.1, arch == "unet", 4, 1, (), ((0.5, 0.5),) * 5)
    )
    average = EMA(network, 0.9)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    truth = np.random.default_rng(0).uniform(0.2, 0.8, (3, 5, 2))
    truth[0, 1] = np.nan
    x = torch.randn(3, 1 if grey else 3, size[1], size[0])
    with NoDoubles():
        network.train()
        output = network.forward(network, x, "fp32")
        loop.output_loss(output, truth, settings, model).backward()
        optimizer.step()
        average.update()
        with torch.no_grad():
            network.eval()
            output = network.forward(network, x, "fp32")
            for method in archs.DECODERS if arch == "unet" else ["dark"]:
                assert np.isfinite(network.decode(output, model, method).unit).all()


def test_mps_gets_contiguous_tensors_and_the_others_channels_last():
    assert runtime.memory_format(MPS) == torch.contiguous_format
    assert runtime.memory_format(CPU) == runtime.memory_format(CUDA) == torch.channels_last


@pytest.mark.parametrize("shape", [(7, 7), (3, 3), (5, 9), (1, 2), (8, 12), (11, 4)])
def test_the_pool_that_mps_has_gives_the_numbers_of_the_other(shape):
    x = torch.randn(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    adaptive = torch.nn.functional.adaptive_avg_pool2d(x, 4)
    ours = torchvision.pool_by_cells(x)
    assert torch.allclose(ours, adaptive, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours.square().sum(), x)
    (expected,) = torch.autograd.grad(adaptive.square().sum(), x)
    assert torch.allclose(gradient, expected, atol=1e-12)
    assert torch.equal(torchvision.GridPool()(x), adaptive)  # on this device


@pytest.mark.parametrize(
    "words",
    [
        "MPS backend out of memory (MPS allocated: 8.00 GiB, max allowed: 9.07 GiB). Tried ...",
        "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
    ],
)
def test_memory_that_runs_out_on_any_device_names_the_batch_to_try(words):
    with pytest.raises(KptoolsError, match="--batch-size 16"), runtime.memory_told(32):
        raise RuntimeError(words)
    with pytest.raises(RuntimeError, match="something else"), runtime.memory_told(32):
        raise RuntimeError("something else")


# Precision


def test_fp32_is_fp32_and_tf32_is_asked_for_by_its_name(monkeypatch):
    before = torch.backends.cudnn.allow_tf32, torch.get_float32_matmul_precision()
    try:
        runtime.set_float32("tf32")
        assert torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "high"
        for precision in ("fp32", "bf16"):
            runtime.set_float32(precision)
            assert not torch.backends.cudnn.allow_tf32
            assert torch.get_float32_matmul_precision() == "highest"
    finally:
        torch.backends.cudnn.allow_tf32 = before[0]
        torch.set_float32_matmul_precision(before[1])
    assert runtime.precision_for("resnet18", CUDA, "tf32") == "tf32"
    with pytest.raises(UsageError, match="CUDA has it"):
        runtime.precision_for("resnet18", CPU, "tf32")
    for old, name in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda old=old, **_: old)
        assert runtime.precision_for("resnet18", CUDA, "auto") == name


def test_tf32_on_a_cpu_is_wrong_use(face):
    words = ("train", "--arch", "nose", "--device", "cpu", "--precision", "tf32")
    done = run(*words, stdin=[face(0)])
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


# Memory


def intake(records, folder, memory, batch=4):
    (folder / "in.jsonl").write_bytes(lines(records))
    settings = Settings("nose", (32, 32), True, batch, "mse", ((1e-3, 1),), 0.0)
    found = Intake(Stream([str(folder / "in.jsonl")], "-"), settings, memory)
    found.read(None, None)
    return found, settings


@pytest.mark.parametrize(
    ("memory", "mapped"),
    [(10, (False, False)), (9, (False, True)), (6, (False, True)), (5, (True, False))],
)
def test_cache_memory_is_one_limit_for_train_and_val(face, tmp_path, memory, mapped):
    records = [face(i, split="train" if i < 6 else "val") for i in range(10)]
    found, _ = intake(records, tmp_path, memory * 32 * 32)
    with decoding_threads(1) as pool:
        faces, val = found.faces(pool)
        assert (faces.store.mapped, val.store.mapped) == mapped


def test_a_batch_of_one_is_checked_once_and_not_at_each_step(face, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(build, "try_out", lambda *a, **k: calls.append(a))
    records = [face(i, split="train") for i in range(5)]
    found, settings = intake(records, tmp_path, 1 << 30, batch=1)
    with decoding_threads(1) as pool:
        faces, _ = found.faces(pool)
        loop.train(*(faces, None, "ibug68", settings), device=CPU, state_path=tmp_path / "state")
    assert calls == []


def test_noise_made_in_parts_is_the_same_noise(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8)).save(tmp_path / "a.png")
    record = {"image": str(tmp_path / "a.png"), "id": "a", "box": [5, 5, 60, 45]}
    record["augment"] = [{"seed": 0, "noise": 0.3}]
    made = []
    for chunk in (1 << 22, 700):
        monkeypatch.setattr(warp, "_NOISE_CHUNK", chunk)
        (tmp_path / str(chunk)).mkdir()
        path = write.write_image(record, tmp_path / str(chunk))["image"]
        made.append(np.asarray(Image.open(path)))
    assert np.array_equal(made[0], made[1])
    assert 20 < np.std(made[0].astype(float) - np.asarray(Image.open(tmp_path / "a.png"))) < 80


def test_the_loss_leaves_logits_in_the_layout_that_the_network_gives():
    """A U-Net's logits are channels-last: neither they nor their gradient are to be copied."""
    torch.manual_seed(0)
    z = torch.randn(3, 5, 40, 52).contiguous(memory_format=torch.channels_last)
    points = torch.rand(3, 5, 2) * 40
    plain, last = z.contiguous().requires_grad_(), z.requires_grad_()
    losses = [bernoulli_loss(logits, points) for logits in (plain, last)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for loss in losses:
        loss.backward()
    assert torch.allclose(plain.grad, last.grad, atol=1e-9)
    assert last.grad.is_contiguous(memory_format=torch.channels_last)


def test_maps_stay_on_the_networks_device_until_they_are_saved():
    maps = torch.randn(2, 3, 16, 16)
    model = specs.ModelSpec(
        *("unet", "points3", 3, (16, 16), False, 0.1, True, 4, 1, (), ((0.5, 0.5),) * 3)
    )
    decoded = network.decode(maps, model)
    assert decoded.maps.data_ptr() == maps.data_ptr()
    assert np.isfinite(decoded.unit).all()


def test_library_code_speaks_for_whoever_calls_it(face, tmp_path):
    said = []
    records = [face(i, split="test" if i else "train") for i in range(3)]
    (tmp_path / "in.jsonl").write_bytes(lines(records))
    settings = Settings("nose", (32, 32), True, 4, "mse", ((1e-3, 1),), 0.0)
    found = Intake(Stream([str(tmp_path / "in.jsonl")], "-"), settings, 1 << 30, said.append)
    found.read(None, 0.0)
    assert said == ["2 records of split test were skipped", *said[1:]]
    assert not any("kp-" in line for line in said)
    words = ("train", "--arch", "nose", "--epochs", 1, "--val-fraction", 0)
    done = run(*words, stdin=records, cwd=tmp_path)
    assert b"kp-train: 2 records of split test" in done.stderr
    assert parse(done.stdout) == []
