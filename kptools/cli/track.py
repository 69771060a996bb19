"""kp-track: follow the faces of a video, and smooth their points."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kptools.cli.edge import app, need_input
from kptools.cli.options import Expect, Files, Output, Strict, choice, one_of
from kptools.cli.own_schemes import knows_schemes
from kptools.cli.streams import open_stream
from kptools.errors import RecordError

if TYPE_CHECKING:
    from kptools.inference.tracking import Tracker
    from kptools.records.item import Item

POINTS = ("pred", "points")


@knows_schemes
def track(
    files: Files = None,
    what: Annotated[str, one_of(POINTS, help="The points that are followed.")] = "pred",
    smooth: Annotated[
        bool, typer.Option("--smooth/--no-smooth", help="Replace the points by smooth ones.")
    ] = True,
    min_cutoff: Annotated[
        float,
        typer.Option(
            min=0.001, max=1000, help="Hz, for points at rest: lower is smoother, and later."
        ),
    ] = 1.0,
    beta: Annotated[
        float,
        typer.Option(
            min=0, max=1000, help="Hz more for each face size a second: higher is less late."
        ),
    ] = 30.0,
    max_gap: Annotated[
        float,
        typer.Option(min=0, help="A face that was gone for more seconds is another track."),
    ] = 1.0,
    box: Annotated[
        bool,
        typer.Option("--box", help="Make the box from the points, for another kp-predict."),
    ] = False,
    output: Output = "-",
    expect: Expect = None,
    strict: Strict = False,
) -> int:
    """Follow each face over the frames of its video, `group` by `group`: `track` says which it is.
    Its points are smoothed by a 1 Euro filter, without a look ahead. A frame in which a point is
    suddenly elsewhere gets the flag `jump`.

    Frames come in the order of their `time`. What the points were is not kept: use tee, or
    --no-smooth.

    \b
    kp-prep video talk.mp4 --out frames | kp-predict | kp-track | kp-viz video -o marked.mp4
    kp-track --no-smooth found.jsonl | jq -c 'select(.flags)'
    kp-predict frames.jsonl | kp-track --box | kp-predict | kp-track > closer.jsonl
    """
    choice("--what", what, POINTS)
    names = need_input(files)

    from kptools.inference.tracking import Tracker

    stream = open_stream(names, output, strict=strict, expect=expect)
    tracker = Tracker(min_cutoff if smooth else None, beta, max_gap)
    for item in stream:
        if not item.failed:
            try:
                item.update(*_followed(item, tracker, what, smooth, box))
            except RecordError as error:
                stream.fail(item, error)
        stream.write(item)
    return stream.close()


def _followed(
    item: "Item", tracker: "Tracker", what: str, smooth: bool, box: bool
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The new keys of a record, and those that it loses. Raises RecordError."""
    import numpy as np

    from kptools import geometry as g
    from kptools.inference.tracking import FEW, JUMP
    from kptools.records import keys
    from kptools.records.points import points_array

    record = item.record
    given = keys.box(record) if record.get("box") is not None else None
    group = str(record.get("group", ""))
    found = tracker.add(group, keys.time(record), points_array(record, what), given)
    new: dict[str, Any] = {"track": found.track}
    if smooth:
        new[what] = g.to_list(found.points)
    if box and np.isfinite(found.points[:, 0]).sum() >= FEW:
        new |= {"box": list(g.box_of_points(found.points)), "box_source": "points"}
    old = record.get("flags")
    flags = [flag for flag in old if flag != JUMP] if isinstance(old, list) else []
    if flags or found.flags:
        new["flags"] = [*flags, *found.flags]
    gone = ("flags", *(("nme",) if smooth else ()), *(("box_time",) if box else ()))
    return new, gone


main = app(track)

if __name__ == "__main__":
    main()
