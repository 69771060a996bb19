"""Devices that are not here, precision, and memory: what they refuse, ask for, and get."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import run
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from kptools import runtime, specs
from kptools.augment.sample import sample
from kptools.errors import KptoolsError, UsageError
from kptools.models import build
from kptools.models.codecs import heatmap
from kptools.models.network import forward
from kptools.pixels import batch
from kptools.pixels.crop_spec import crop_spec
from kptools.records.face import Face
from kptools.training.ema import EMA

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
        if name == "_to_copy":
            assert (kwargs or {}).get("dtype") != torch.float64, "a cast to float64"
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
        with pytest.raises(AssertionError, match="float64"):
            torch.ones(3).double()
        with pytest.raises(AssertionError, match="int64"):
            torch.ones(3, dtype=torch.int64) * 2


POLICY = {"seed": 0, "rotate": 20, "scale": 0.6, "shift": 0.1, "flip": 0.5, "hue": 0.1}
POLICY |= {"brightness": 0.3, "gray": 0.3, "blur": 1.0, "noise": 0.1, "erase": 0.9}


def test_crops_are_warped_and_coloured_without_64_bits():
    record = {"image": "a.png", "box": [5.0, 5.0, 45.0, 40.0], "scheme": "nose1"}
    faces = [Face.parse(record | {"id": str(i), "augment": [POLICY]}) for i in range(6)]
    for grey in (False, True):
        spec = specs.InputSpec((24, 20), 0.1, grey)
        crops = crop_spec(faces, spec)
        shape = (6, crops.size[1], crops.size[0], spec.channels)
        pixels = torch.randint(0, 256, shape, dtype=torch.uint8)
        transforms = [sample(face, 0) for face in faces]
        boxes = [face.box for face in faces]
        expected = batch.network_input(pixels, boxes, transforms, crops)
        with NoDoubles():
            x = batch.network_input(pixels, boxes, transforms, crops)
        assert torch.equal(x, expected)


@pytest.mark.parametrize("arch", ["nose", "face", "resnet18", "unet", "tiny"])
def test_networks_learn_and_predict_without_64_bits(arch):
    size, grey = (48, 40), arch in ("nose", "face")
    options = {"width": 4, "shape_prior": 1.0} if arch == "unet" else {}
    network = build.build(arch, 5, size, options, head=None if arch == "unet" else "points")
    criterion = build.criterion(*(("heatmap", "bce") if arch == "unet" else ("points", "wing")))
    average = EMA(network, 0.9)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    truth = np.random.default_rng(0).uniform(0.2, 0.8, (3, 5, 2))
    truth[0, 1] = np.nan
    x = torch.randn(3, 1 if grey else 3, size[1], size[0])
    with NoDoubles():
        network.train()
        output = forward(network, x, "fp32")
        network.head.loss(output, truth, criterion).mean.backward()
        optimizer.step()
        average.update()
        with torch.no_grad():
            network.eval()
            output = forward(network, x, "fp32")
            for method in network.head.decoders or ["dark"]:
                found = network.head.decode(output, method)
                assert np.isfinite(found.points).all()
        if network.shape_prior is not None:
            network.shape_prior.fit(np.random.default_rng(0).uniform(size=(30, 5, 2)))
            unsure = heatmap.covariance(found.maps.logits, found.points, 1.0)
            shape = network.shape_prior.most_probable(found.points[0], unsure[0])
            assert np.isfinite(shape).all()


def test_mps_gets_contiguous_tensors_and_the_others_channels_last():
    assert runtime.memory_format(MPS) == torch.contiguous_format
    assert runtime.memory_format(CPU) == runtime.memory_format(CUDA) == torch.channels_last


@pytest.mark.parametrize(
    "words",
    [
        "MPS backend out of memory (MPS allocated: 8.00 GiB, max allowed: 9.07 GiB). Tried ...",
        "[enforce fail at alloc_cpu.cpp:119] err == 0. DefaultCPUAllocator: can't allocate memory",
        "CUDA out of memory. Tried to allocate 2.00 GiB",
    ],
)
def test_memory_that_runs_out_on_any_device_names_the_batch_to_try(words):
    with pytest.raises(KptoolsError, match="--batch-size 16"), runtime.report_out_of_memory(32):
        raise RuntimeError(words)
    with pytest.raises(RuntimeError, match="something else"), runtime.report_out_of_memory(32):
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
    assert runtime.precision_for(CUDA, "tf32") == "tf32"
    with pytest.raises(UsageError, match="CUDA has it"):
        runtime.precision_for(CPU, "tf32")
    for old, name in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda old=old, **_: old)
        assert runtime.precision_for(CUDA, "auto") == name


def test_tf32_on_a_cpu_is_wrong_use(face):
    words = ("train", "--arch", "nose", "--device", "cpu", "--precision", "tf32")
    done = run(*words, stdin=[face(0)])
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_bf16_is_not_chosen_where_onednn_may_not_use_it():
    code = (
        "import torch\n"
        "from kptools import runtime\n"
        "print(runtime.precision_for(torch.device('cpu'), 'auto'))"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
    assert done.stdout.split() == [b"fp32"]
