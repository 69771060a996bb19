"""Standard input on disk, for a process that may be started again: it then finds stdin empty."""

import sys
from pathlib import Path

from kptools.errors import KptoolsError
from kptools.storage import files


class Spool:
    """The names to read records from: those given, or, where stdin is among them and this process
    may be started again, a file with what came from it. That is `OUT.stdin.jsonl`, beside the
    output, and is gone after `close`. `restart` is how often the process was started again, of
    `restarts` times. Raises KptoolsError where stdin was lost or the disk says no."""

    def __init__(self, names: list[str], out: Path, restart: int, restarts: int) -> None:
        self.names = names
        self._path: Path | None = None
        if not restarts or not (not names or "-" in names):
            return
        self._path = out.with_name(out.stem + ".stdin.jsonl")
        if not restart:
            self._fill(self._path)
        elif not self._path.exists():
            raise KptoolsError(
                "the run was stopped while it read stdin, which cannot be read again; start it anew"
            )
        self.names = [str(self._path) if name == "-" else name for name in names or ["-"]]

    def _fill(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
            with files.writing(path) as handle:
                while chunk := sys.stdin.buffer.read(1 << 20):
                    handle.write(chunk)
        except OSError as error:
            raise KptoolsError(f"cannot write {path}: {error.strerror}; make room there") from None

    def close(self) -> None:
        """Remove the file."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
