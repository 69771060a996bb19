"""kp-prep check: what is suspicious about the faces of a dataset."""

from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kptools.cli.edge import may_allow_failures, need_input
from kptools.cli.options import Expect, Files, Output, Strict, cores
from kptools.cli.own_schemes import knows_schemes
from kptools.cli.streams import open_stream
from kptools.console import report
from kptools.errors import RecordError
from kptools.records.item import Item
from kptools.records.stream import Stream

if TYPE_CHECKING:
    from kptools.datasets.checks.check import Checker, Findings
    from kptools.datasets.checks.duplicates import Look
    from kptools.viz.faces import Pick

_AHEAD = 8  # pictures that are looked at ahead, per thread


@may_allow_failures
@knows_schemes
def check(
    inputs: Files = None,
    sheet: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A sheet of the worst, .png or .jpg."),
    ] = None,
    count: Annotated[int, typer.Option(min=1, max=4096, help="How many the sheet shows.")] = 24,
    pictures: Annotated[
        bool,
        typer.Option(
            "--pictures/--no-pictures", help="Look at the pictures, for duplicates (a package)."
        ),
    ] = True,
    jobs: Annotated[
        int, typer.Option(min=0, max=256, help="Threads that look; 0: one a core.")
    ] = 0,
    output: Output = "-",
    expect: Expect = None,
    strict: Strict = False,
) -> int:
    """Find faces whose labels look wrong, and give them `flags`.

    It compares the faces with each other, so give it all of a dataset. Records with `pred` are
    also compared with that. Flags are a reason to look, no proof:

    \b
    mirrored        left and right of the labels are in each other's place
    shape           the shape is unlike those of the other faces
    point           a point is far from where the others say that it is
    box             the box lies otherwise about the points than other boxes of its source
    box_convention  boxes of this source, dataset and split are unlike most others
    outside         half of the points are outside the box, or outside the picture
    prediction      the points are far from `pred`
    size            `size` is not that of the picture
    duplicate       the same picture, or the same face, is there twice (`duplicate_of`)
    leak            its group, or its duplicate, is in another split as well

    \b
    kp-prep check --sheet worst.png -o checked.jsonl faces.jsonl
    jq -c 'select(.flags | not)' checked.jsonl > clean.jsonl
    kp-predict faces.jsonl | kp-prep check | jq -r 'select(.flags) | [.id, .flags[]] | @tsv'
    """
    from kptools.cli.viz.common import PICTURES, check_output

    if sheet is not None:
        check_output(sheet, PICTURES, "--sheet")
    names = need_input(inputs)

    from kptools.datasets.checks import duplicates
    from kptools.datasets.checks.check import FLAGS, Checker
    from kptools.pixels.threads import decoding_threads
    from kptools.records.kept import KeptItems
    from kptools.viz.faces import Pick

    if pictures:
        duplicates.require()
    stream = open_stream(names, output, strict=strict, expect=expect)
    checker, worst = Checker(), Pick(count, "worst", by="faults")
    flags: Counter[str] = Counter()
    faces = flagged = 0
    with KeptItems() as kept:
        with decoding_threads(cores(jobs)) as pool:
            for item in _added(stream, checker, pool if pictures else None, cores(jobs)):
                kept.add(item, stream.fail)
        stream.check_expected()
        for note in checker.learn():
            report(f"kp-prep: {note}")
        for item in kept:
            if not item.failed:
                found = checker.judge(faces, item.record)
                faces += 1
                _flag(item, found)
                if found.flags:
                    flagged += 1
                    flags.update(found.flags)
                    worst.add(item, found.severity)
            stream.write(item)
    each = ", ".join(f"{flag} {flags[flag]}" for flag in FLAGS if flags[flag])
    report(f"kp-prep: {flagged} of {faces} faces flagged{': ' if each else ''}{each}")
    if sheet is not None:
        _draw(worst, sheet, stream)
    return stream.close()


def _added(
    stream: Stream, checker: "Checker", pool: Executor | None, threads: int
) -> Iterator[Item]:
    """Each item, once the checker has taken note of it; its picture is looked at ahead."""
    from kptools.datasets.checks.duplicates import look

    waiting: deque[tuple[Item, Future[Look] | None]] = deque()

    def add(item: Item, seen: "Future[Look] | None") -> Item:
        if not item.failed:
            try:
                checker.add(item.record, None if seen is None else seen.result())
            except RecordError as error:
                stream.fail(item, error)
        return item

    for item in stream:
        seen = None if pool is None or item.failed else pool.submit(look, item.record)
        waiting.append((item, seen))
        if len(waiting) > _AHEAD * threads:
            yield add(*waiting.popleft())
    for item, seen in waiting:
        yield add(item, seen)


def _flag(item: Item, found: "Findings") -> None:
    """Give the record its flags, after those that others gave it."""
    from kptools.datasets.checks.check import FLAGS
    from kptools.records import keys

    others = [flag for flag in keys.flags(item.record) if flag not in FLAGS]
    flags = [*others, *found.flags]
    new: dict[str, Any] = {"flags": flags} if flags else {}
    if found.duplicate_of is not None:
        new["duplicate_of"] = found.duplicate_of
    if any(item.record.get(key) != new.get(key) for key in ("flags", "duplicate_of")):
        item.update(new, without=("flags", "duplicate_of"))


def _draw(worst: "Pick", path: Path, stream: Stream) -> None:
    """The sheet, or a word that there is none."""
    from kptools.storage import images
    from kptools.storage.files import write_output
    from kptools.viz import faces
    from kptools.viz.views import View

    if not worst.items:
        report(f"kp-prep: no face is flagged, so there is no {path}")
        return
    view = View((320, 320), whole=True, policy=False)
    picture = faces.make(worst, view, stream.fail, norm="box")
    write_output(path, images.encode(picture, path.suffix))
