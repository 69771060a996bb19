"""What a predictor asks of that which runs its network: an engine."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from kptools.augment.transform import Transform
from kptools.models.decoded import Decoded
from kptools.pixels.crop_spec import CropSpec
from kptools.pixels.decode import Pixels8
from kptools.records.face import Face
from kptools.specs import ModelSpec

MAX_STREAMS = 4  # batches that a CPU works on at once: each takes memory


@dataclass(frozen=True)
class Crop:
    """A face, what its policy does to it, and the pixels (H, W, C) of its stored crop."""

    face: Face
    transform: Transform
    spec: CropSpec
    pixels: Pixels8


class Engine(Protocol):
    """Runs one network, which `model` describes.

    `streams` is how many batches it works on at once, and `ahead` how many are decoded meanwhile.
    `aligns`: it looks at faces as they are aligned, too, so that their crops reach further.
    """

    model: ModelSpec
    streams: int
    ahead: int
    aligns: bool

    def check(self, face: Face) -> None:
        """RecordError where it cannot show the network what the policy of the face asks for."""

    def decode(self, crops: Sequence[Crop]) -> Decoded:
        """The points of a batch, in fractions of the input, of each face as its transform shows it.
        Several threads call it at once."""

    def threads(self) -> AbstractContextManager[ThreadPoolExecutor]:
        """As many threads as it has `streams`, to call `decode` in."""
