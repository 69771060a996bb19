"""How a training run talks: a line an epoch, a live bar at a terminal, and the log."""

import os
import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from kptools.console import tell
from kptools.errors import KptoolsError
from kptools.storage import files
from kptools.training.loop import Epoch, Progress
from kptools.training.settings import Settings, rates


class TrainingTalk:
    """Lines and bar on stderr, an object an epoch in the log file, which no other run may write
    meanwhile.

    With `keep_log` the epochs that the log has already stay, but for those that come again.
    """

    def __init__(self, log: Path, settings: Settings, *, keep_log: bool) -> None:
        self.path = log
        self.epochs = len(rates(settings.schedule))
        self.done = 0
        self.keep_log = keep_log
        self.started = self.new = False
        self.log: IO[bytes] | None = None
        self.bar: Any = None
        self.task: Any = None
        self.progress = Progress(self._batch, self._epoch)

    def __enter__(self) -> "TrainingTalk":
        try:
            self.new = not self.path.exists()
            self.log = files.open_locked(self.path, self.path)
        except OSError as error:
            raise KptoolsError(f"cannot write {self.path}: {error.strerror}") from None
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[loss]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self.task = self.bar.add_task("epoch 1", total=self.epochs, loss="")
            self.bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.bar is not None:
            self.bar.stop()
        if self.log is not None:
            empty = os.fstat(self.log.fileno()).st_size == 0
            if self.new and empty and files.is_still(self.log, self.path):
                self.path.unlink()
            self.log.close()

    def _batch(self, done: int, total: int, loss: float) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done + done / total, loss=f"loss {loss:.5f}")

    def _epoch(self, epoch: Epoch) -> None:
        entry = epoch.log
        self._append(entry)
        self.done += 1
        text = (
            f"epoch {entry['epoch']:>3}  lr {entry['lr']:g}  train {entry['train_loss']:.6f}  "
            + _val(entry)
            + f"{entry['img_s']:.0f} img/s  {entry['seconds']:.1f} s"
        )
        if self.bar is not None:
            self.bar.console.print(text, highlight=False)
            self.bar.update(
                self.task, completed=self.done, description=f"epoch {entry['epoch'] + 1}"
            )
        else:
            tell(text)

    def _append(self, entry: dict[str, Any]) -> None:
        """Write an epoch, on disk when this returns. The first one of this run says where it goes
        on from: what the log has of it and of later ones is cut off."""
        assert self.log is not None
        try:
            if not self.started:
                self.done, end = _epochs_before(self.log, entry["epoch"] if self.keep_log else 0)
                self.log.truncate(end)
                self.started = True
            self.log.write(orjson.dumps(entry) + b"\n")
            self.log.flush()
            os.fsync(self.log.fileno())
        except OSError as error:
            raise KptoolsError(f"cannot write {self.path}: {error.strerror}") from None


def _val(entry: dict[str, Any]) -> str:
    if "val_loss" not in entry:
        return ""
    nme = "" if entry["val_nme"] is None else f"nme {100 * entry['val_nme']:.2f}%  "
    mae = "" if entry["val_mae"] is None else f"mae {entry['val_mae']:.2f} px  "
    return f"val {entry['val_loss']:.6f}  {nme}{mae}"


def _epochs_before(log: IO[bytes], epoch: int) -> tuple[int, int]:
    """How many epochs before this one a log begins with, and where in it they end. What comes after
    them may be torn."""
    log.seek(0)
    count = end = 0
    for line in log:
        try:
            entry = orjson.loads(line)
        except ValueError:
            break
        number = entry.get("epoch") if isinstance(entry, dict) else None
        if not line.endswith(b"\n") or not isinstance(number, int) or number >= epoch:
            break
        count, end = count + 1, end + len(line)
    return count, end
