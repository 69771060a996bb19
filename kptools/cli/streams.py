"""The stream of a command, with a bar at a terminal."""

import os
import stat
import sys
from collections.abc import Iterable
from typing import Any

from kptools.cli import bars
from kptools.records.stream import Stream


def open_stream(
    names: Iterable[str] = (),
    output: str = "-",
    *,
    writes: bool = True,
    total: int | None = None,
    **options: Any,
) -> Stream:
    """A `Stream`, of these `options`, and on stderr a bar of it where that is a terminal and in
    nobody's way. `writes`: lines go to stdout, unless `output` says where. `total` is how many
    records there will be, where no file is read that shows it; 0: nobody knows."""
    stream = Stream(names, output, **options)
    if bars.are_shown() and not _in_the_way(writes and output == "-"):
        bars.RecordBar(stream, total)
    return stream


def _in_the_way(writes: bool) -> bool:
    """Whether a bar would stand among the lines of this tool, or beside that of the next tool of a
    pipe: the last one alone shows one."""
    if sys.stdout is None:
        return False
    try:
        mode = os.fstat(sys.stdout.fileno()).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or (writes and sys.stdout.isatty())
