"""What all commands share: their options, and the edge where an error becomes a line and a status.

Nothing here imports torch, numpy, Pillow or rich, and commands import those inside their
functions, so that `--help` answers at once.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from kptools import files
from kptools.errors import KptoolsError, ReaderGone, UsageError
from kptools.stream import let_go, program, tell

Files = Annotated[
    list[str] | None, typer.Argument(metavar="FILE", help="Records; - or none: stdin.")
]
Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Where records go; - is stdout.",
    ),
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from FILE.part, which a run cut off left.")
]
Expect = Annotated[
    int | None,
    typer.Option(min=0, metavar="N", help="Exit 4 unless exactly so many records come in."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at the first failure, exit 3.")]
Workers = Annotated[
    int, typer.Option(min=0, max=256, help="Threads that decode images; 0: one a core.")
]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda|mps", help="Where the network runs.")]
Precision = Annotated[
    str,
    typer.Option(
        metavar="auto|fp32|tf32|bf16",
        help="auto: bf16 where that is faster, else fp32; tf32 is CUDA's.",
    ),
]


class Terminated(BaseException):
    """SIGTERM, as an exception, so that what is open is closed."""


def app(function: Callable[..., Any]) -> Callable[[], NoReturn]:
    """The entry point of a tool of one command."""
    tool = new_app()
    tool.command()(function)
    return lambda: run(tool)


def new_app() -> typer.Typer:
    return typer.Typer(
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def run(tool: typer.Typer) -> NoReturn:
    """Run the tool and exit: every error is one line on stderr and a documented status. An error
    that nobody foresaw is shown with its traceback, and is no success: exit 3."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = tool(standalone_mode=False) or 0
        _flush_stdout()
    except KptoolsError as error:
        let_go()
        tell(f"{program()}: {error}")
        status = error.exit_status
    except KeyboardInterrupt:
        status = 130
    except Terminated:
        status = 143
    except ReaderGone:
        status = 141
    except MemoryError:
        let_go()
        tell(f"{program()}: out of memory; try a smaller --batch-size, or fewer --workers")
        status = 3
    except OSError as error:
        let_go()
        tell(f"{program()}: {error.strerror or error}: {error.filename or 'a file'}")
        status = 3
    except Exception as error:
        status = _usage(error)
    for number in (signal.SIGINT, signal.SIGTERM):  # another one changes nothing any more
        signal.signal(number, signal.SIG_IGN)
    files.release()
    # The interpreter's own farewell would flush a stdout whose reader is gone, and wait for
    # threads whose work nobody wants.
    sys.stderr.flush() if sys.stderr else None
    os._exit(status)


def _usage(error: Exception) -> int:
    """A wrong use, as typer reports it: one line, exit 2. Anything else is a bug: exit 3."""
    message = getattr(error, "format_message", None)
    if message is None:
        if type(error).__name__ == "Abort":
            return 130
        import traceback

        let_go()
        for line in traceback.format_exception(error):
            for part in line.splitlines():
                tell(part)
        tell(
            f"{program()}: this is a bug in kptools, and the output is not complete; please report "
            "it with the lines above and the command"
        )
        return 3
    text = " ".join(str(message()).split()).rstrip(".")
    tell(f"{program()}: {text[:1].lower()}{text[1:]}; see {program()} --help")
    return 2


def _flush_stdout() -> None:
    """What typer printed (help), and what a command printed."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise ReaderGone from None
    except OSError as error:
        raise KptoolsError(f"cannot write to stdout: {error.strerror}") from None


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise Terminated


def need_input(files: list[str] | None) -> list[str]:
    """The files to read; at a terminal without input: usage, exit 2."""
    if not files and sys.stdin is not None and sys.stdin.isatty():
        raise UsageError(
            f"no input: pipe records in, or name a FILE; see {program()} --help for examples"
        )
    return list(files or [])


def make_folder(path: Path) -> None:
    """Make a folder for output that this process alone writes into. KptoolsError where it cannot
    be made, or another process is writing there."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        files.claim_folder(path)
    except OSError as error:
        raise KptoolsError(f"cannot make the folder {path}: {error.strerror}") from None


def claim_output(path: Path) -> None:
    """Make this process the writer of a file, before the work: KptoolsError where another process
    is writing it, or it cannot be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(0, "it is a folder")
        files.claim(path)
    except OSError as error:
        raise KptoolsError(f"cannot write {path}: {error.strerror}") from None


def choice(option: str, value: str, valid: tuple[str, ...]) -> str:
    """The value, if it is one of these."""
    if value not in valid:
        raise UsageError(f"{option} {value!r}: one of {', '.join(valid)}")
    return value


def cores(workers: int) -> int:
    return workers or os.cpu_count() or 1


def examples(text: str) -> str:
    """A block of text that --help prints line by line, as it stands."""
    lines = text.strip("\n").splitlines()
    return "\b\n" + "\n".join(lines)
