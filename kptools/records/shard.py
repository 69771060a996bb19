"""`--shard I/N`: the I-th of N parts of the records, for as many processes that share the work.

It has the records number I, I + N, I + 2N and so on, counted from 1 over all files. So a pipe and a
compressed file can be shared, whose length nobody knows beforehand, neighbours, which cost about
the same, go to different processes, and the outputs are merged by taking a line of each in turn.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from kptools.errors import UsageError

_ID = "SLURM_ARRAY_TASK_ID"
_COUNT, _MIN, _MAX, _STEP = (f"SLURM_ARRAY_TASK_{end}" for end in ("COUNT", "MIN", "MAX", "STEP"))


@dataclass(frozen=True)
class Shard:
    """The part `index`, from 1, of `count`."""

    index: int
    count: int

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"

    def has(self, number: int) -> bool:
        """Whether record `number`, from 1, is one of this part."""
        return number % self.count == self.index % self.count


WHOLE = Shard(1, 1)


def parse(text: str) -> Shard:
    """`I/N`, or `auto`: this task of a Slurm array. UsageError."""
    if text == "auto":
        return of_slurm(os.environ)
    match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
    if not match:
        raise UsageError(f"--shard {text!r}: write I/N, as 1/8 to 8/8, or auto in a Slurm array")
    index, count = map(int, match.groups())
    if not 1 <= index <= count:
        hint = "; parts are counted from 1, so add 1 where you count from 0" if index == 0 else ""
        raise UsageError(f"--shard {text}: I is 1 to N{hint}")
    return Shard(index, count)


def of_slurm(environ: Mapping[str, str]) -> Shard:
    """The part of this task of a Slurm array, whatever number its first task has. UsageError."""
    try:
        task, count, first = (int(environ[name]) for name in (_ID, _COUNT, _MIN))
        step = int(environ.get(_STEP, "1"))
        last = int(environ.get(_MAX, str(first + (count - 1) * step)))
    except KeyError as error:
        raise UsageError(
            f"--shard auto: {error.args[0]} is not set; sbatch --array sets it, elsewhere write I/N"
        ) from None
    except ValueError as error:
        raise UsageError(f"--shard auto: of SLURM_ARRAY_TASK_...: {error}") from None
    if count < 1 or step < 1 or last != first + (count - 1) * step:
        raise UsageError(
            f"--shard auto: the array has {count} tasks from {first} to {last}, with gaps; write "
            "I/N, where I counts the tasks from 1"
        )
    place, off = divmod(task - first, step)
    if off or not 0 <= place < count:
        raise UsageError(f"--shard auto: {_ID} {task} is none of the {count} tasks from {first}")
    return Shard(place + 1, count)
