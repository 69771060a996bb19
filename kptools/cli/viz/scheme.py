"""kp-viz scheme: what the points of a scheme are."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kptools.cli.streams import open_stream
from kptools.cli.viz.common import PICTURES, PngFile, Title, check_output, parse_cell, passing
from kptools.console import report
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.records.stream import Stream

if TYPE_CHECKING:
    from kptools.geometry import Points
    from kptools.schemes.scheme import Scheme


def scheme(
    which: Annotated[
        str,
        typer.Argument(
            metavar="NAME|FILE|CKPT",
            help="A scheme, a subset as ibug68:36,39, the file of your own, or a checkpoint.",
        ),
    ],
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FILE",
            help="Records: the points are drawn at their mean; - is stdin.",
        ),
    ] = None,
    output: PngFile = Path("scheme.png"),
    names: Annotated[bool, typer.Option("--names", help="List the names of the points.")] = False,
    size: Annotated[str, typer.Option(metavar="WxH", help="Of the part with points.")] = "960x960",
    title: Title = "",
) -> int:
    """A scheme: its points with their numbers, the lines between them, and its regions in colour.

    Without records the points are where the scheme's `layout` has them.

    \b
    kp-viz scheme ibug68 --names -o ibug68.png
    kp-viz scheme cat5.json -o cat5.png
    kp-viz scheme wflw98 wflw.jsonl -o mean.png > /dev/null
    """
    check_output(output, PICTURES)
    area = parse_cell(size)

    import numpy as np

    from kptools.schemes import catalog
    from kptools.schemes.layouts import layout_of
    from kptools.storage import images, scheme_files
    from kptools.storage.files import write_output
    from kptools.viz import scheme as drawing

    scheme_files.load_those_of_environment()
    try:
        found = catalog.get(scheme_files.choose(which))
    except UsageError as error:
        raise UsageError(f"{which}: {str(error).removeprefix('--scheme: ')}") from None
    status = 0
    if files:
        stream = open_stream(files, writes=False)
        layout = _mean(stream, found)
        status = stream.close()
    elif places := layout_of(found):
        layout = np.array(places)
    else:
        report(
            f"kp-viz: {found.name} has no `layout`, so its points are on a circle; name records to "
            "draw their mean"
        )
        layout = drawing.on_circle(found)
    picture = drawing.draw(found, layout, area, names=names, title=title)
    write_output(output, images.encode(picture, output.suffix))
    return status


def _mean(stream: Stream, scheme: "Scheme") -> "Points":
    """The mean (K, 2) of the points of the records, in fractions of their boxes. KptoolsError where
    a point is annotated in none."""
    import numpy as np

    from kptools import geometry as g
    from kptools.records import keys
    from kptools.records.face import Face

    total = np.zeros((scheme.count, 2))
    count = np.zeros((scheme.count, 1))
    for item in passing(stream):
        if item.failed:
            continue
        try:
            if (theirs := keys.scheme_name(item.record)) != scheme.name:
                raise RecordError("bad_scheme", f"its scheme is {theirs}, and not {scheme.name}")
            face = Face.parse(item.record, with_policy=False).annotated()
        except RecordError as error:
            stream.fail(item, error)
            continue
        assert face.points is not None
        shape = g.normalize(face.level(face.points), face.box)
        known = np.isfinite(shape)
        total += np.where(known, shape, 0)
        count += known[:, :1]
    if not count.all():
        missing = int(np.argmin(count))
        raise KptoolsError(
            f"no record has point {missing} of {scheme.name} ({scheme.names[missing]}) annotated"
        )
    mean: g.Points = total / count
    return mean
