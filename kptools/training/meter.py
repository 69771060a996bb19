"""The mean loss of an epoch, read so that nobody waits for a step."""

import math
from collections.abc import Callable

from torch import Tensor

from kptools.errors import KptoolsError
from kptools.training.settings import Settings
from kptools.training.training_set import TrainingSet
from kptools.training.validate import diverged


class LossMeter:
    """The mean over the faces of an epoch. The loss of a step is read while the next one runs: to
    read it is to wait for its device."""

    def __init__(
        self,
        faces: TrainingSet,
        epoch: int,
        settings: Settings,
        progress: Callable[[int, int, float], None],
    ) -> None:
        self.faces, self.epoch, self.settings = faces, epoch, settings
        self.progress = progress
        self.done = 0  # faces
        self._total = 0.0
        self._unread: tuple[Tensor, list[int]] | None = None

    def add(self, loss: Tensor, indices: list[int]) -> None:
        """Take the loss of a step over these faces, and read that of the step before. KptoolsError
        where it is not finite."""
        unread, self._unread = self._unread, (loss, indices)
        self._read(unread)

    def close(self) -> None:
        """Read the last one. KptoolsError where there was none at all."""
        unread, self._unread = self._unread, None
        self._read(unread)
        if not self.done:
            raise KptoolsError("no image of the training records could be read")

    @property
    def mean(self) -> float:
        return self._total / self.done

    def _read(self, step: tuple[Tensor, list[int]] | None) -> None:
        if step is None:
            return
        loss, indices = step
        value = float(loss)
        if not math.isfinite(value):
            names = ", ".join(self.faces.faces[i].name for i in indices)
            raise diverged(f"the loss became {value}", self.epoch, self.settings, names)
        self._total += value * len(indices)
        self.done += len(indices)
        self.progress(self.done, len(self.faces), self.mean)
