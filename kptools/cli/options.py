"""The options that several commands share, and how their values are read."""

import os
from typing import Annotated

import typer

from kptools.errors import UsageError
from kptools.units import Size

DEVICES = ("auto", "cpu", "cuda", "mps")


PRECISIONS = ("auto", "fp32", "tf32", "bf16")


def parse_size(text: str) -> Size:
    """`224x224` as (width, height)."""
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise UsageError(f"{text!r}: write a size as WIDTHxHEIGHT, as 224x224")
    size = (int(width), int(height))
    if not all(8 <= side <= 4096 for side in size):
        raise UsageError(f"{text!r}: each side is 8 to 4096 pixels")
    return size


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
