"""kp-viz photos: each photo with its faces drawn on it."""

from pathlib import Path
from typing import Annotated

import typer

from kptools.cli.edge import need_input
from kptools.cli.options import Expect, Files
from kptools.cli.streams import open_stream
from kptools.cli.viz.common import passing
from kptools.storage.files import make_folder


def photos(
    files: Files = None,
    *,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="For the pictures; not the photos' own.")
    ],
    points: Annotated[bool, typer.Option("--points/--no-points", help="Draw the points.")] = True,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Leave out predicted points of a lower `score`."),
    ] = None,
    expect: Expect = None,
) -> int:
    """A picture of each photo, at its full size, with all of its faces: box yellow, truth red,
    prediction blue.

    Faces of one photo have to follow each other, as kp-prep photos writes them; one that comes
    later, when the picture is written, is a failure. A photo in which no face was found is written
    without marks. Policies are not applied. A picture bears its photo's name; a PNG stays PNG, all
    else becomes JPEG. No photo is ever written over.

    \b
    kp-predict model.safetensors photos.jsonl | kp-viz photos --out marked > found.jsonl
    kp-viz photos --min-score 0.5 --out marked preds.jsonl > /dev/null
    """
    stream = open_stream(need_input(files), writes=False, expect=expect)

    from kptools.viz.photos import Photos

    make_folder(out)
    album = Photos(out, stream.fail, points=points, min_score=min_score)
    for item in passing(stream):
        album.add(item)
    stream.flush()
    album.finish()
    return stream.close()
