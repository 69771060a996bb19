"""kp-viz heatmap: maps laid over their faces."""

from pathlib import Path
from typing import Annotated

import typer

from kptools.cli.edge import need_input
from kptools.cli.options import Expect, Files, Norm
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
    check_scoring,
    nothing_to_draw,
    parse_cell,
    passing,
)
from kptools.errors import RecordError


def heatmap(
    files: Files = None,
    output: PngFile = Path("heatmap.png"),
    count: Count = 16,
    point: Annotated[
        int | None, typer.Option(min=0, help="One point's map [default: the largest of all].")
    ] = None,
    columns: Columns = None,
    size: CellSize = "224x224",
    margin: Margin = None,
    points: Annotated[bool, typer.Option("--points/--no-points", help="Draw the points.")] = True,
    norm: Norm = None,
    title: Title = "",
    expect: Expect = None,
) -> int:
    """The saved maps (`heatmap`) of the first faces, as probabilities laid over the face, in
    colours from 0 to the face's own peak: truth red, prediction blue. The face is shown as its
    file has it, without policies.

    \b
    kp-predict unet.safetensors --heatmaps maps < test.jsonl | kp-viz heatmap -o maps.png
    kp-viz heatmap --point 30 --count 4 --size 400x400 -o nose.png preds.jsonl
    """
    check_scoring(norm)
    check_output(output, PICTURES)
    cell = parse_cell(size)
    stream = open_stream(need_input(files), writes=False, expect=expect)

    from kptools.storage import images
    from kptools.storage.files import write_output
    from kptools.viz import heatmaps
    from kptools.viz.views import View

    overlays = heatmaps.Overlays(View(cell, margin, policy=False), count, point, norm, points)
    for item in passing(stream):
        if not item.failed and not overlays.full:
            try:
                overlays.add(item.record)
            except RecordError as problem:
                stream.fail(item, problem)
    stream.flush()
    stream.check_expected()
    if not overlays.cells:
        return nothing_to_draw(stream, output, "no face with a heatmap")
    picture = overlays.sheet(columns, title)
    write_output(output, images.encode(picture, output.suffix))
    return stream.close()
