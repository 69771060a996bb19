"""Networks run by torch, on any device."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager

import numpy as np
import torch
from torch import Tensor

from kptools import runtime
from kptools.augment.transform import Transform
from kptools.errors import UsageError
from kptools.inference.engine import MAX_STREAMS, Crop
from kptools.inference.passes import Passes, decode, resolve
from kptools.models.decoded import Decoded
from kptools.models.layers.folding import fold_batch_norms, round_convolutions
from kptools.models.layers.fused import fuse_relu6
from kptools.models.network import Network
from kptools.pixels.batch import network_input
from kptools.pixels.threads import closing_pool
from kptools.pixels.warp import centred
from kptools.records.face import Face
from kptools.runtime import send
from kptools.specs import ModelSpec


def check_decoder(network: Network, decoder: str | None) -> None:
    """UsageError where the network's head has no such decoder."""
    known = network.head.decoders
    if decoder is not None and decoder not in known:
        there = f"one of {', '.join(known)}" if known else "this network makes no heatmaps"
        raise UsageError(f"--decode {decoder}: {there}; leave the option out")


def default_batch(device: torch.device) -> int:
    """How many faces a network predicts at a time: on a CPU not more than its caches hold."""
    return 16 if device.type == "cpu" else 32


def prepare(network: Network, device: torch.device, precision: str) -> None:
    """Make a network ready, in place, to predict on a device in this precision, and for nothing
    else."""
    fold_batch_norms(network.eval())
    if precision == "bf16":
        round_convolutions(network, torch.bfloat16)
    if device.type == "cpu":
        fuse_relu6(network)
    runtime.to_device(network, device)


class TorchEngine:
    """A network in torch. From here on it is this engine's own."""

    def __init__(
        self,
        network: Network,
        model: ModelSpec,
        *,
        device: torch.device,
        precision: str,
        decoder: str | None = None,
        passes: Passes | None = None,
    ) -> None:
        check_decoder(network, decoder)
        prepare(network, device, precision)
        self.network, self.model = network, model
        self.device, self.precision = device, precision
        self.decoder = decoder
        self.passes = passes or resolve(model)
        self.aligns = self.passes.count > 1
        cpu = device.type == "cpu"
        self.streams = min(torch.get_num_threads(), MAX_STREAMS) if cpu else 1
        self.ahead = 1 if cpu else 2

    def check(self, face: Face) -> None:
        """Every policy can be shown."""

    def decode(self, crops: Sequence[Crop]) -> Decoded:
        with runtime.report_out_of_memory(len(crops)):
            return self._decode(crops)

    @torch.inference_mode()
    def _decode(self, crops: Sequence[Crop]) -> Decoded:
        boxes, specs = [one.face.box for one in crops], [one.spec for one in crops]
        alike = len(set(specs)) == 1
        arrays = [one.pixels for one in crops]
        stacks = [np.stack(arrays)] if alike else [array[None] for array in arrays]
        pixels = [send(torch.from_numpy(stack), self.device) for stack in stacks]
        if self.aligns:  # all of them warp
            pixels = [centred(some) for some in pixels]

        def see(transforms: Sequence[Transform]) -> Tensor:
            if alike:
                return network_input(pixels[0], boxes, transforms, specs[0])
            each = zip(pixels, boxes, transforms, specs, strict=True)
            return torch.cat([network_input(one, [box], [t], s) for one, box, t, s in each])

        return decode(
            self.network,
            self.model,
            see,
            boxes,
            [one.transform for one in crops],
            self.passes,
            precision=self.precision,
            decoder=self.decoder,
        )

    def threads(self) -> AbstractContextManager[ThreadPoolExecutor]:
        return _network_threads(self.streams)


@contextmanager
def _network_threads(streams: int) -> Iterator[ThreadPoolExecutor]:
    """Threads that run the network, which share those that torch would take for one operation."""
    threads = torch.get_num_threads()
    own = max(1, threads // streams)
    pool = ThreadPoolExecutor(streams, initializer=torch.set_num_threads, initargs=(own,))
    try:
        with closing_pool(pool):
            yield pool
    finally:
        torch.set_num_threads(threads)  # for threads that others begin
