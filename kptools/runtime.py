"""How torch is to use the machine: precision, threads, the allocator, and memory that runs out."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from kptools.errors import KptoolsError, UsageError
from kptools.thread_count import ThreadCount
from kptools.units import DEVICES, PRECISIONS


def precision_for(device: torch.device, wanted: str) -> str:
    """`fp32`, `tf32` or `bf16`: what is wanted, or under `auto` the faster of fp32 and bf16 on the
    device (tests/benchmarks/precision.py). UsageError for tf32 elsewhere than on CUDA."""
    if wanted not in PRECISIONS:
        raise UsageError(f"--precision {wanted!r}: one of {', '.join(PRECISIONS)}")
    if wanted == "tf32" and device.type != "cuda":
        raise UsageError(f"--precision tf32: CUDA has it, {device.type} has not; use fp32")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    return "bf16" if device.type == "cpu" and _cpu_has_bf16() else "fp32"


def set_float32(precision: str) -> None:
    """Let CUDA compute float32 in TF32, which has the 10 bits of a half, where the precision is
    `tf32`, and nowhere else: by default torch's convolutions do."""
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")


def memory_format(device: torch.device) -> torch.memory_format:
    """Channels last where it is faster and right. On MPS batch normalisation of channels-last
    tensors has given wrong gradients (PyTorch issue 175189)."""
    return torch.channels_last if device.type in ("cpu", "cuda") else torch.contiguous_format


def to_device(network: nn.Module, device: torch.device) -> nn.Module:
    """The network, moved, its weights laid out as its inputs will be."""
    moved: nn.Module = network.to(device, memory_format=memory_format(device))  # type: ignore[call-overload]
    return moved


def without_autocast(x: Tensor) -> torch.autocast:
    """A block in which autocast has no say over what is done on the device of `x`."""
    return torch.autocast("cpu" if x.is_meta else x.device.type, enabled=False)  # no meta there


def _cpu_has_bf16() -> bool:
    """Whether the processor has it, and oneDNN may use it (ONEDNN_MAX_CPU_ISA can say no)."""
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    if not any(bool(getattr(torch.cpu, check, lambda: False)()) for check in checks):
        return False
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False


def tune_process() -> None:
    """Make a process fit for long work with large arrays.

    What is there already, torch's modules above all, is left out of garbage collection, which the
    lists of a batch of records set off again and again. And glibc's allocator keeps freed pages:
    on a virtual machine a page fault is dear, and a training step frees and takes the same buffers
    over and over. The process then holds its peak to its end; other allocators are not changed.
    """
    import ctypes
    import gc

    gc.collect()
    gc.freeze()
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    trim_threshold, mmap_threshold = -1, -3
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, 1 << 30)


def set_threads(count: int, device: torch.device) -> ThreadCount | None:
    """Threads of torch's own work on the CPU. 0: as many as torch takes; but one where the network
    has a device of its own, for there the cores decode, and threads that wait for each other are
    slow on cores that others want. Where they are torch's own, what says how many are quickest
    beside other processes."""
    if count or device.type != "cpu":
        torch.set_num_threads(count or 1)
        return None
    return ThreadCount(torch.get_num_threads())


@contextmanager
def report_out_of_memory(batch: int) -> Iterator[None]:
    """Where memory runs out, on any device: KptoolsError, with the batch size to try."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        text = str(error).lower()  # CUDA's error has a type, the CPU's and MPS's have words
        words = any(some in text for some in ("allocate memory", "out of memory"))
        if not (words or isinstance(error, torch.OutOfMemoryError | MemoryError)):
            raise
        less = f"--batch-size {batch // 2}" if batch > 1 else "a smaller network"
        raise KptoolsError(f"out of memory at a batch of {batch}; try {less}") from None


def device(name: str) -> torch.device:
    """`auto`, `cpu`, `cuda` or `mps`; KptoolsError where the machine has none such."""
    if name not in DEVICES:
        raise UsageError(f"--device {name!r}: one of {', '.join(DEVICES)}")
    cuda, mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        name = "cuda" if cuda else "mps" if mps else "cpu"
    if (name == "cuda" and not cuda) or (name == "mps" and not mps):
        raise KptoolsError(f"--device {name}: this machine has none that torch can use")
    return torch.device(name)


def device_name(device: torch.device) -> str:
    """What the processor or the GPU is called."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(errors="replace").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def send(values: Tensor, device: torch.device, dtype: torch.dtype | None = None) -> Tensor:
    """Values on a device. CUDA takes its copy when its turn comes, and nobody waits for the step
    that runs; of memory that is not pinned it has read all before the call returns."""
    return values.to(device, dtype or values.dtype, non_blocking=device.type == "cuda")
