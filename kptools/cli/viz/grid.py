"""kp-viz grid: a contact sheet of faces."""

from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kptools.cli.edge import need_input
from kptools.cli.options import Expect, Files, choice, one_of
from kptools.cli.streams import open_stream
from kptools.cli.viz.common import (
    PICTURES,
    CellSize,
    Columns,
    Count,
    Margin,
    PngFile,
    Title,
    check_output,
    nothing_to_draw,
    parse_cell,
    passing,
)
from kptools.errors import MixedNorms, RecordError, UsageError
from kptools.evaluation import NORMS
from kptools.models import archs

if TYPE_CHECKING:
    from kptools.specs import InputSpec


def grid(
    files: Files = None,
    output: PngFile = Path("grid.png"),
    count: Count = 16,
    sort: Annotated[
        str,
        one_of(("none", "worst", "best"), help="By error; `error` is another name of worst."),
    ] = "none",
    columns: Columns = None,
    size: CellSize = "224x224",
    margin: Margin = None,
    arch: Annotated[
        str | None,
        one_of(archs.ARCHS, metavar="NAME", help="Show what this network would see."),
    ] = None,
    ckpt: Annotated[
        str | None, typer.Option(metavar="CKPT", help="Show what this checkpoint's network sees.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Show the whole image, and the box in it.")
    ] = False,
    epoch: Annotated[int, typer.Option(min=0, help="Which epoch's augmentation is shown.")] = 0,
    points: Annotated[bool, typer.Option("--points/--no-points", help="Draw the points.")] = True,
    norm: Annotated[
        str | None,
        one_of(
            (*NORMS, "pixels"),
            help="Of the error [default: interocular; box where a scheme has no eyes].",
        ),
    ] = None,
    title: Title = "",
    expect: Expect = None,
) -> int:
    """A contact sheet of faces: truth red, prediction blue, and below each its id and error.

    Policies (kp-augment) are applied as training applies them: with --arch or --ckpt a face is
    exactly the network's input. It shows the first faces; with --sort those of the largest or
    the smallest errors of all, of which it holds --count. A face that cannot be shown is
    reported on stderr; its record passes through as it came.

    \b
    kp-prep ibug | kp-augment --rotate 20 --flip 0.5 | kp-viz grid --arch resnet18 -o seen.png
    kp-viz grid --sort worst --count 24 -o worst.png preds.jsonl
    kp-viz grid --sort best --count 24 -o best.png preds.jsonl
    kp-train --arch nose < nose.jsonl | kp-viz grid --ckpt nose.safetensors | kp-eval
    kp-viz grid --whole --count 4 --size 480x480 -o photos.png faces.jsonl
    """
    sort = "worst" if sort == "error" else choice("--sort", sort, ("none", "worst", "best"))
    if norm is not None:
        choice("--norm", norm, (*NORMS, "pixels"))
    if whole and (arch or ckpt or margin is not None):
        raise UsageError("--whole shows all of the image; leave --arch, --ckpt and --margin out")
    if arch and ckpt:
        raise UsageError("--arch and --ckpt both say what is seen; give one")
    check_output(output, PICTURES)
    cell = parse_cell(size)
    names = need_input(files)
    if arch:
        from kptools.models.build import check

        check(arch)

    from kptools.evaluation.score import OneNorm
    from kptools.models.checkpoint import load_model
    from kptools.storage import images
    from kptools.storage.files import write_output
    from kptools.viz import faces as sheets
    from kptools.viz.views import View

    stream = open_stream(names, writes=False, expect=expect)
    pick, one_norm = sheets.Pick(count, sort), OneNorm()
    mixed: MixedNorms | None = None
    items = passing(stream)
    first = list(islice(items, 1))  # a kp-train before us in the pipe has then written CKPT
    network = input_of(arch, ckpt, margin) if first and (arch or ckpt) else None
    model = load_model(ckpt) if first and ckpt else None
    view = View(cell, margin, network, model, whole, epoch)
    for item in chain(first, items):
        error = float("nan")
        if not item.failed and pick.wants_more:
            try:
                found = sheets.check(item.record, view, norm)
                if found is not None and sort != "none":
                    one_norm.require(found.norm_name, str(item.record.get("scheme", "")))
                error = found.error if found is not None else float("nan")
            except RecordError as problem:
                stream.fail(item, problem)
            except MixedNorms as problem:  # raised when all records have passed on
                mixed = mixed or problem
        pick.add(item, error)
    stream.flush()
    stream.check_expected()
    if mixed is not None:
        raise mixed
    if not pick.items:
        return nothing_to_draw(stream, output, "no face with truth and prediction")
    picture = sheets.make(
        pick, view, stream.fail, norm=norm, points=points, columns=columns, title=title
    )
    write_output(output, images.encode(picture, output.suffix))
    return stream.close()


def input_of(arch: str | None, ckpt: str | None, margin: float | None) -> "InputSpec":
    """What a checkpoint's network sees, or one of an architecture by default; --margin goes before
    both."""
    from dataclasses import replace

    from kptools.models.checkpoint import load_model
    from kptools.specs import InputSpec

    if ckpt:
        spec = load_model(ckpt).input
    else:
        defaults = archs.get(arch or "")
        spec = InputSpec(defaults.input, defaults.margin, defaults.grey)
    return spec if margin is None else replace(spec, margin=margin)
