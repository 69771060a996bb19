"""The option --scheme of the tools that need to know what points are."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import Annotated, Any

import typer

from kptools.cli.options import keyword, set_parameters
from kptools.schemes.catalog import VARIABLE


def knows_schemes(function: Callable[..., int]) -> Callable[..., int]:
    """The command, with an option --scheme for files of one's own schemes."""

    @wraps(function)
    def command(scheme: str | None = None, **given: Any) -> int:
        if scheme:
            from kptools.storage import scheme_files

            scheme_files.load_all(scheme)
        return function(**given)

    option = typer.Option(
        "--scheme",
        metavar="FILE",
        envvar=VARIABLE,
        help="A scheme of your own: its JSON, or a checkpoint of its points.",
    )
    own = keyword("scheme", Annotated[str | None, option], None)
    set_parameters(command, [*signature(function).parameters.values(), own])
    return command
