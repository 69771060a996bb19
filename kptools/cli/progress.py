"""How a training run talks: a line an epoch, a live bar at a terminal, and the log."""

import sys
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import orjson

from kptools.config import Settings, rates
from kptools.errors import KptoolsError
from kptools.stream import tell
from kptools.training import Epoch, Progress


class TrainingTalk:
    """Lines and bar on stderr, an object an epoch in the log file.

    With `keep_log` the epochs that the log has already stay, but for those that come again.
    """

    def __init__(self, log: Path, settings: Settings, *, keep_log: bool) -> None:
        self.path = log
        self.epochs = len(rates(settings.schedule))
        self.done = 0
        self.kept = _read_log(log) if keep_log else []
        self.started = False
        self.bar: Any = None
        self.task: Any = None
        self.progress = Progress(self._batch, self._epoch)

    def __enter__(self) -> "TrainingTalk":
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

    def _batch(self, done: int, total: int, loss: float) -> None:
        if self.bar is not None:
            self.bar.update(self.task, completed=self.done + done / total, loss=f"loss {loss:.5f}")

    def _epoch(self, epoch: Epoch) -> None:
        entry = epoch.log
        if not self.started:  # the first epoch of this run says where it goes on from
            earlier = [e for e in self.kept if e.get("epoch", 0) < entry["epoch"]]
            self.done = len(earlier)
            self._append([*earlier, entry], "wb")
            self.started = True
        else:
            self._append([entry], "ab")
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

    def _append(self, entries: list[dict[str, Any]], mode: str) -> None:
        try:
            handle: IO[bytes]
            with open(self.path, mode) as handle:
                for entry in entries:
                    handle.write(orjson.dumps(entry) + b"\n")
        except OSError as error:
            raise KptoolsError(f"cannot write {self.path}: {error.strerror}") from None


def _val(entry: dict[str, Any]) -> str:
    if "val_loss" not in entry:
        return ""
    nme = "" if entry["val_nme"] is None else f"nme {100 * entry['val_nme']:.2f}%  "
    mae = "" if entry["val_mae"] is None else f"mae {entry['val_mae']:.2f} px  "
    return f"val {entry['val_loss']:.6f}  {nme}{mae}"


def _read_log(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    entries = []
    for line in lines:
        try:
            entry = orjson.loads(line)
        except ValueError:
            break  # torn
        if isinstance(entry, dict) and isinstance(entry.get("epoch"), int):
            entries.append(entry)
    return entries
