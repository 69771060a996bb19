"""The options that several commands share, and how their values are read."""

import os
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, Signature
from typing import Annotated, Any

import typer

from kptools.errors import UsageError
from kptools.evaluation import NORMS
from kptools.options import Option
from kptools.records.shard import Shard
from kptools.records.shard import parse as parse_shard
from kptools.units import DEVICES, PRECISIONS, Size


def starting(words: Iterable[str], incomplete: str) -> list[str]:
    """Those of the words that begin so: for a shell that completes."""
    return [word for word in words if word.startswith(incomplete)]


def one_of(words: Iterable[str], *flags: str, help: str = "", metavar: str | None = None) -> Any:
    """An option whose value is one of these words, which the shell completes; `metavar` where it is
    no plain list of them."""
    known = tuple(words)
    return typer.Option(
        *flags,
        metavar=metavar or "|".join(known),
        help=help,
        autocompletion=lambda incomplete: starting(known, incomplete),
    )


def names_points(help: str, metavar: str) -> Any:
    """An option that names points of a scheme; the shell completes regions."""

    def complete(incomplete: str) -> list[str]:
        from kptools.schemes.catalog import FULL

        regions = dict.fromkeys(name for scheme in FULL.values() for name in scheme.regions)
        return starting(("nose", *(f"region:{name}" for name in regions)), incomplete)

    return typer.Option(metavar=metavar, help=help, autocompletion=complete)


Files = Annotated[
    list[str] | None,
    typer.Argument(metavar="FILE", help="Records, also in .gz and .zst; - or none: stdin."),
]
Output = Annotated[
    str,
    typer.Option(
        "-o",
        "--output",
        metavar="FILE",
        help="Where records go, compressed into .gz or .zst; - is stdout.",
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
Part = Annotated[
    Shard,
    typer.Option(
        "--shard",
        metavar="I/N|auto",
        parser=lambda value: value if isinstance(value, Shard) else parse_shard(value),
        show_default=False,
        help="Take record I of each N alone, I from 1; auto: this task of a Slurm array.",
    ),
]
OnRay = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="HOST:PORT|auto|local",
        help="Share the work over the machines of a Ray cluster; local: over the cores of this "
        "one.",
    ),
]
Workers = Annotated[
    int, typer.Option(min=0, max=256, help="Threads that decode images; 0: one a core.")
]
Threads = Annotated[
    int,
    typer.Option(
        min=0,
        help="Of the arithmetic; 0: torch's own, but 1 on a GPU, and in training fewer beside "
        "other work.",
    ),
]
Device = Annotated[str, one_of(DEVICES, help="Where the network runs.")]
Precision = Annotated[
    str, one_of(PRECISIONS, help="auto: bf16 where that is faster, else fp32; tf32 is CUDA's.")
]
Norm = Annotated[
    str | None,
    one_of(
        NORMS,
        help="Of the NME, one for all faces [default: interocular; box where a scheme has no "
        "eyes].",
    ),
]


def parse_size(text: str) -> Size:
    """`224x224` as (width, height)."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"{text!r}: write a size as WIDTHxHEIGHT, as 224x224")
    size = (int(width), int(height))
    if not all(8 <= side <= 4096 for side in size):
        raise UsageError(f"{text!r}: each side is 8 to 4096 pixels")
    return size


def choice(option: str, value: str, valid: Iterable[str]) -> str:
    """The value, if it is one of these."""
    if value not in valid:
        raise UsageError(f"{option} {value!r}: one of {', '.join(valid)}")
    return value


def refuse(options: Mapping[str, Any], reason: str) -> None:
    """UsageError where one of these options is given: is not None."""
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option}: {reason}")


def cores(workers: int) -> int:
    return workers or os.cpu_count() or 1


def examples(text: str) -> str:
    """A block of text that --help prints line by line, as it stands."""
    lines = text.strip("\n").splitlines()
    return "\b\n" + "\n".join(lines)


# Options of an architecture or a dataset, as those of a command


def parameter(option: Option, *, default: Any = ..., help: str | None = None) -> Parameter:
    """The parameter of a command. `default` and `help` go before the option's own."""
    text = option.help if help is None else help
    value = option.default if default is ... else default
    info: Any
    if option.argument:
        info = typer.Argument(metavar=option.metavar, help=text)
    elif option.type is bool:
        info = typer.Option(option.flag, help=text)
    else:
        bounded = option.type in (int, float) and not option.exclusive
        choices = tuple(map(str, option.choices))
        info = typer.Option(
            option.flag,
            metavar=option.metavar or "|".join(choices) or None,
            help=text,
            autocompletion=(lambda incomplete: starting(choices, incomplete)) if choices else None,
            min=option.low if bounded else None,
            max=option.high if bounded else None,
        )
    kind: Any = option.type | None if value is None else option.type
    annotation: Any = Annotated[kind, info]
    return keyword(option.name, annotation, Parameter.empty if value is ... else value)


def keyword(name: str, annotation: Any, default: Any) -> Parameter:
    """A parameter that is given by its name."""
    return Parameter(name, Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def set_parameters(function: Callable[..., Any], parameters: Iterable[Parameter]) -> None:
    """Let typer see these parameters in place of the function's own **keywords."""
    shown = [
        parameter.replace(kind=Parameter.KEYWORD_ONLY)
        for parameter in parameters
        if parameter.kind is not Parameter.VAR_KEYWORD
    ]
    setattr(function, "__signature__", Signature(shown))  # noqa: B010 (no attribute that types know)
