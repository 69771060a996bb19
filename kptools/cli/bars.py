"""What is shown on stderr: of a training run a line an epoch, and a live bar at a terminal; of
records and of a download a bar at a terminal."""

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from kptools.console import program, report
from kptools.records.stream import Stream

_DELAY = 1.0  # seconds that a job takes before it shows a bar
_INTERVAL = 0.2  # seconds from one look at a stream to the next
_shown: "list[RecordBar]" = []


def are_shown() -> bool:
    """Whether stderr is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


def stop() -> None:
    """Remove the bars of streams that are still shown: before an error is reported, say."""
    while _shown:
        _shown.pop().stop()


class RecordBar:
    """A bar of the records of a stream: how many, how many a second, the time that is left where
    the end is known (`total` records, or the bytes of regular files), and the failures. It appears
    after a second, and is gone when all is read."""

    def __init__(self, stream: Stream, total: int | None) -> None:
        self._stream = stream
        self._total = total
        self._bytes = stream.reader.size() if total is None else None
        self._bar: Any = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        stream.on_end = self.stop
        _shown.append(self)
        self._thread.start()

    def stop(self) -> None:
        """Remove it."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()

    def _watch(self) -> None:
        if self._ended.wait(_DELAY):
            return
        first = self._stream.count
        while not self._ended.wait(_INTERVAL):
            if self._bar is None and self._stream.count > first:
                self._start()
            if self._bar is not None:
                self._update()
        if self._bar is not None:
            self._bar.stop()

    def _start(self) -> None:
        from rich import progress
        from rich.console import Console

        columns: list[Any] = [progress.TextColumn("{task.description} {task.fields[records]}")]
        if self._total or self._bytes:
            columns += [
                progress.BarColumn(),
                progress.TaskProgressColumn(),
                progress.TimeRemainingColumn(),
            ]
        self._bar = progress.Progress(
            *columns, console=Console(stderr=True), transient=True, redirect_stdout=False
        )
        self._task = self._bar.add_task(program(), total=self._total or self._bytes, records="")
        self._bar.start()
        self._began, self._first = time.monotonic(), self._stream.count

    def _update(self) -> None:
        count, failed = self._stream.count, self._stream.failures.count
        rate = (count - self._first) / max(time.monotonic() - self._began, _INTERVAL)
        text = f"{count:,} records  {rate:,.3g}/s"
        text += f"  {failed:,} failed" if failed else ""
        done = count if self._total is not None else self._stream.reader.position()
        self._bar.update(self._task, completed=done, records=text)


class TrainingBar:
    """Lines, or at a terminal lines and a bar, of a run of so many epochs."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.done = 0
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> "TrainingBar":
        return self

    def _start(self) -> None:
        """Show the bar, at a terminal: once there is something to show."""
        if self._bar is None and are_shown():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.fields[loss]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("epoch 1", total=self.epochs, loss="")
            self._bar.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def batch(self, done: int, total: int, loss: float) -> None:
        """After a batch: how many faces of the epoch are done, of at most how many."""
        self._start()
        if self._bar is not None:
            completed = self.done + done / total
            self._bar.update(self._task, completed=completed, loss=f"loss {loss:.5f}")

    def epoch(self, entry: dict[str, Any], done: int) -> None:
        """After an epoch: what the log has of it, and how many epochs are done."""
        self.done = done
        text = (
            f"epoch {entry['epoch']:>3}  lr {entry['lr']:g}  train {entry['train_loss']:.6f}  "
            + _val(entry)
            + f"{entry['img_s']:.0f} img/s  {entry['seconds']:.1f} s"
        )
        if self._bar is not None:
            self._bar.console.print(text, highlight=False)
            description = f"epoch {entry['epoch'] + 1}"
            self._bar.update(self._task, completed=done, description=description)
        else:
            report(text)


class DownloadBar:
    """A bar of the bytes that came, at a terminal."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Callable[[int, int], None]:
        if are_shown():
            from rich import progress
            from rich.console import Console

            self._bar = progress.Progress(
                progress.BarColumn(),
                progress.DownloadColumn(),
                progress.TransferSpeedColumn(),
                progress.TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=None)
            self._bar.start()
        return self.show

    def show(self, done: int, total: int) -> None:
        """So many bytes are there, of how many (0: that is not known)."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total or None)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()


def _val(entry: dict[str, Any]) -> str:
    if "val_loss" not in entry:
        return ""
    named = {"nme": entry["val_nme"]} | {
        f"nme {name}": value for name, value in entry.get("val_nme_of", {}).items()
    }
    nme = "".join(f"{n} {100 * v:.2f}%  " for n, v in named.items() if v is not None)
    mae = "" if entry["val_mae"] is None else f"mae {entry['val_mae']:.2f} px  "
    return f"val {entry['val_loss']:.6f}  {nme}{mae}"
