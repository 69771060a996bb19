"""What can go wrong, and the exit status of each.

The library raises; `kptools.cli.edge` turns an error into one line on stderr and its status.
"""

SOME_FAILED = 1  # the exit status of a job that was finished, though some records failed


class KptoolsError(Exception):
    """The job could not be finished: disk, memory, weights, checkpoint, divergence. Exit 3."""

    exit_status = 3


class UsageError(KptoolsError):
    """The command was used wrongly, as its arguments alone show. Exit 2."""

    exit_status = 2


class GateError(KptoolsError):
    """A gate that the person set was not met (`--fail-if`). Exit 4."""

    exit_status = 4


class MixedNorms(KptoolsError):
    """One figure would mix errors over two norms."""


class ReaderGone(Exception):
    """Nobody reads what the tool writes any more. Exit 141, silently."""


class RecordError(Exception):
    """One record cannot be used. It becomes a failure record, and the job goes on.

    `status` is one of `kptools.records.keys.STATUSES`; the message says what is wrong, then what
    to do, joined by "; ".
    """

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
