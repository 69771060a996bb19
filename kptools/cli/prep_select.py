"""kp-prep select: which faces to label, or to correct, next."""

from typing import Annotated

import typer

from kptools.cli.edge import may_allow_failures, need_input
from kptools.cli.options import Expect, Files, Output, Strict, choice, one_of
from kptools.cli.own_schemes import knows_schemes
from kptools.cli.streams import open_stream
from kptools.console import report
from kptools.errors import RecordError
from kptools.evaluation import MEASURES


@may_allow_failures
@knows_schemes
def select(
    inputs: Files = None,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="How many faces.")] = 50,
    by: Annotated[
        str,
        one_of(
            MEASURES,
            help="Lowest `score`; largest spread of consecutive lines of one id; or most `flags`.",
        ),
    ] = "score",
    output: Output = "-",
    expect: Expect = None,
    strict: Strict = False,
) -> int:
    """Choose the faces that the network is least sure of, no two alike.

    Of the least sure faces, four times as many as are wanted, it takes those whose shapes are
    furthest from each other, in that order. Learning from them leaves fewer failures than learning
    from random faces, but no lower mean error.

    \b
    kp-predict photos.jsonl | kp-prep select --count 50 | kp-viz edit -o corrected.jsonl
    kp-augment --copies 8 --rotate 10 --scale 0.1 photos.jsonl | kp-predict |
        kp-prep select --by spread > chosen.jsonl
    paste -d '\\n' one.jsonl other.jsonl | kp-prep select --by spread > chosen.jsonl
    """
    choice("--by", by, MEASURES)
    names = need_input(inputs)

    from kptools.evaluation.merge import merge_copies
    from kptools.evaluation.selection import Selector

    stream = open_stream(names, output, strict=strict, expect=expect)
    selector = Selector(count, by)
    items = merge_copies(stream, "mean", stream.fail, spread=True) if by == "spread" else stream
    for item in items:
        if item.failed:
            continue
        try:
            selector.add(item)
        except RecordError as error:
            stream.fail(item, error)
    chosen = selector.selected()
    for item in chosen:
        item.update({}, without=("augment",) if by == "spread" else ())
        stream.write(item)
    report(f"kp-prep: {len(chosen)} of {selector.seen} faces selected")
    return stream.close()
