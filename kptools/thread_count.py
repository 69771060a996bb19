"""Other processes on the cores, and how many threads are quickest beside them.

The threads of one operation wait for each other at its end. Where another process wants a core, one
of them is off its core now and then, and all wait: two threads on two cores, beside one busy
process, are several times slower than one. So a run watches what Linux says of its cores, and gives
way: fewer threads while it has to wait for a core, more again when cores are free.
"""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from kptools.units import Seconds

INTERVAL: Seconds = 0.5  # between two looks, at least
WAITING = 0.1  # of the time: so long a run's threads wait for a core before it gives way
FREE = 0.8  # of a core that is idle: so much of it, for LOOKS in a row, and a thread more takes it
LOOKS = 4

_PROC = Path("/proc")
_BUSY = (0, 1, 2, 5, 6, 7)  # user, nice, system, irq, softirq, steal; of the fields of a core


@dataclass(frozen=True)
class Usage:
    """Of the cores and of this process, up to `now`, in seconds: CPU time of all processes on the
    `cores` that this one may use (`busy`), its own (`own`), and by thread how long it was ready to
    run and had no core (`waited`)."""

    now: Seconds
    cores: int
    busy: Seconds
    own: Seconds
    waited: Mapping[str, Seconds] = field(default_factory=dict)


def usage() -> Usage | None:
    """None where the system has no such figures."""
    try:
        cores = {f"cpu{number}" for number in os.sched_getaffinity(0)}
        lines = (_PROC / "stat").read_text().splitlines()
        counts = [line.split()[1:] for line in lines if line.split(" ", 1)[0] in cores]
        if len(counts) != len(cores):  # a container that numbers its cores anew
            return None
        ticks = sum(int(count[i]) for count in counts for i in _BUSY)
        waited = {}
        for task in (_PROC / "self" / "task").iterdir():
            try:
                waited[task.name] = int((task / "schedstat").read_text().split()[1]) * 1e-9
            except FileNotFoundError:
                continue  # a thread that has just ended
        busy = ticks / os.sysconf("SC_CLK_TCK")
        return Usage(time.monotonic(), len(counts), busy, time.process_time(), waited)
    except (OSError, AttributeError, ValueError, IndexError):
        return None


class ThreadCount:
    """How many threads a run's operations should take, at most `most`: `update` says, as often as
    it is asked. Where the system tells nothing it is `most`."""

    def __init__(self, most: int, usage: Callable[[], Usage | None] = usage) -> None:
        self.most, self.count = most, most
        self._usage = usage
        self._before = usage() if most > 1 else None
        self._free = 0  # looks in a row that found free cores

    def update(self) -> int:
        """The count from here on."""
        if self._before is None or time.monotonic() - self._before.now < INTERVAL:
            return self.count
        now = self._usage()
        if now is not None:
            self._decide(self._before, now)
        self._before = now
        return self.count

    def _decide(self, before: Usage, now: Usage) -> None:
        wall = max(now.now - before.now, 1e-3)
        waited = sum(max(0.0, s - before.waited.get(t, 0.0)) for t, s in now.waited.items())
        others = max(0.0, (now.busy - before.busy) - (now.own - before.own)) / wall
        room = int(now.cores - others + 1 - FREE)
        if self.count > 1 and waited / wall > WAITING and room < self.count:
            self.count, self._free = max(1, room), 0
        elif min(room, self.most) > self.count:
            self._free += 1
            if self._free >= LOOKS:
                self.count, self._free = min(room, self.most), 0
        else:
            self._free = 0
