"""Lines on stderr, and the name of the tool that runs."""

import sys
from pathlib import Path


def program() -> str:
    """The name of the tool that runs, for messages."""
    path = Path(sys.argv[0]) if sys.argv and sys.argv[0] else Path("kptools")
    if path.parent.name == "cli" and path.suffix == ".py":  # python -m kptools.cli.train
        return f"kp-{path.stem}"
    return f"{path.parent.name}.py" if path.name == "__main__.py" else path.name


def report(message: str) -> None:
    """One line on stderr; a stderr that is closed or full never stops the job."""
    try:
        shown = "".join(c if c.isprintable() else "?" for c in message.replace("\n", " "))
        sys.stderr.write(shown + "\n")
        sys.stderr.flush()
    except (OSError, ValueError, AttributeError):
        pass
