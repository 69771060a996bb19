"""The edge of every command, where an error becomes a line on stderr and an exit status.

Nothing here imports torch, numpy, Pillow or rich, and commands import those inside their
functions, so that `--help` answers at once.
"""

import os
import signal
import sys
from collections.abc import Callable
from functools import wraps
from inspect import signature
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from kptools import __version__
from kptools.cli import bars
from kptools.cli.options import keyword, set_parameters
from kptools.console import program, report
from kptools.errors import SOME_FAILED, KptoolsError, ReaderGone, UsageError
from kptools.records.writer import flush_outputs
from kptools.storage import files


class Terminated(BaseException):
    """SIGTERM, as an exception, so that what is open is closed."""


def app(function: Callable[..., Any]) -> Callable[[], NoReturn]:
    """The entry point of a tool of one command."""
    tool = new_app()
    tool.command()(with_version(may_allow_failures(function)))
    return lambda: run(tool)


def new_app() -> typer.Typer:
    return typer.Typer(
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )


def may_allow_failures(function: Callable[..., int]) -> Callable[..., int]:
    """The command, with an option --allow-failures."""

    @wraps(function)
    def command(allow_failures: bool = False, **given: Any) -> int:
        if allow_failures and given.get("strict"):
            raise UsageError("--allow-failures and --strict: give the one or the other")
        status = function(**given)
        return 0 if allow_failures and status == SOME_FAILED else status

    option = typer.Option(
        "--allow-failures",
        help="Exit 0, and not 1, where records failed; each is still reported.",
    )
    set_parameters(
        command,
        [
            *signature(function).parameters.values(),
            keyword("allow_failures", Annotated[bool, option], False),
        ],
    )
    return command


def with_version(function: Callable[..., Any]) -> Callable[..., Any]:
    """The command, with an option --version."""

    @wraps(function)
    def command(version: bool = False, **given: Any) -> Any:
        return function(**given)

    option = typer.Option(
        "--version", is_eager=True, callback=_print_version, help="Print the version and exit."
    )
    set_parameters(
        command,
        [
            *signature(function).parameters.values(),
            keyword("version", Annotated[bool, option], False),
        ],
    )
    return command


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"{program()} {__version__}")
        raise typer.Exit


def run(tool: Callable[..., Any]) -> NoReturn:
    """Run the tool, a typer.Typer, and exit: every error is one line on stderr and a documented
    status. An error that nobody foresaw is shown with its traceback, and is no success: exit 3."""
    signal.signal(signal.SIGTERM, _terminate)
    try:
        try:
            status = tool(standalone_mode=False) or 0
        finally:
            bars.stop()
        _flush_stdout()
    except KptoolsError as error:
        flush_outputs()
        report(f"{program()}: {error}")
        status = error.exit_status
    except SystemExit as error:  # typer's own, where it has installed the shell's completion
        status = error.code if isinstance(error.code, int) else 0 if error.code is None else 3
    except KeyboardInterrupt:
        status = 130
    except Terminated:
        status = 143
    except ReaderGone:
        status = 141
    except MemoryError:
        flush_outputs()
        report(f"{program()}: out of memory; try a smaller --batch-size, or fewer --workers")
        status = 3
    except OSError as error:
        flush_outputs()
        report(f"{program()}: {error.strerror or error}: {error.filename or 'a file'}")
        status = 3
    except Exception as error:
        status = report_exception(error)
    for number in (signal.SIGINT, signal.SIGTERM):  # another one changes nothing any more
        signal.signal(number, signal.SIG_IGN)
    files.release()
    # The interpreter's own farewell would flush a stdout whose reader is gone, and wait for
    # threads whose work nobody wants.
    sys.stderr.flush() if sys.stderr else None
    os._exit(status)


def report_exception(error: Exception) -> int:
    """A wrong use, as typer reports it: one line, exit 2. Anything else is a bug: exit 3."""
    message = getattr(error, "format_message", None)
    if message is None:
        if type(error).__name__ == "Abort":
            return 130
        import traceback

        flush_outputs()
        for line in traceback.format_exception(error):
            for part in line.splitlines():
                report(part)
        report(
            f"{program()}: this is a bug in kptools, and the output is not complete; please report "
            "it with the lines above and the command"
        )
        return 3
    text = " ".join(str(message()).split()).rstrip(".")
    report(f"{program()}: {text[:1].lower()}{text[1:]}; see {program()} --help")
    return 2


def _flush_stdout() -> None:
    """What typer printed (help), and what a command printed."""
    if sys.stdout is None:  # it is closed
        return
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
