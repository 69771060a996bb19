"""Lines on stderr, and the name of the tool that runs."""

import sys
from pathlib import Path


def program() -> str:
    """The name of the tool that runs, for messages."""
    return Path(sys.argv[0]).name if sys.argv and sys.argv[0] else "kptools"


def report(message: str) -> None:
    """One line on stderr; a stderr that is closed or full never stops the job."""
    try:
        shown = "".join(c if c.isprintable() else "?" for c in message.replace("\n", " "))
        sys.stderr.write(shown + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass
