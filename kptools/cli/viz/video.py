"""kp-viz video: a video of frames with their faces drawn on them."""

from pathlib import Path
from typing import Annotated

import typer

from kptools.cli.edge import need_input
from kptools.cli.options import Expect, Files
from kptools.cli.streams import open_stream
from kptools.cli.viz.common import check_output, nothing_to_draw, passing

VIDEOS = (".mp4", ".mov", ".mkv")


def video(
    files: Files = None,
    *,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The video, .mp4, .mov or .mkv.")
    ],
    fps: Annotated[
        float | None,
        typer.Option(min=0.001, max=1000, help="Frames a second [default: as `time` says]."),
    ] = None,
    points: Annotated[bool, typer.Option("--points/--no-points", help="Draw the points.")] = True,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Leave out predicted points of a lower `score`."),
    ] = None,
    expect: Expect = None,
) -> int:
    """A video (H.264) of frames with all of their faces, drawn as kp-viz photos does: box yellow,
    truth red, prediction blue.

    Each frame is shown from its `time` on, as kp-prep video writes it. Faces of one frame have to
    follow each other, and all frames are of one size. A frame in which no face was found is shown
    without marks. It needs PyAV (pip install av).

    \b
    kp-prep video talk.mp4 --out frames | kp-predict | kp-track | kp-viz video -o marked.mp4
    kp-viz video --fps 25 -o marked.mp4 tracked.jsonl > /dev/null
    """
    names = need_input(files)
    check_output(output, VIDEOS)

    from kptools.viz.video import Film

    stream = open_stream(names, writes=False, expect=expect)
    with Film(output, stream.fail, fps=fps, points=points, min_score=min_score) as film:
        for item in passing(stream):
            film.add(item)
        stream.flush()
        film.finish()
        stream.check_expected()
    if not film.count:
        return nothing_to_draw(stream, output, "no frame can be drawn")
    return stream.close()
