"""kp-viz report: a page of figures and faces."""

from pathlib import Path
from typing import Annotated

import typer

from kptools import console
from kptools.cli.edge import need_input
from kptools.cli.options import Expect, Files, Norm
from kptools.cli.streams import open_stream
from kptools.cli.viz.common import (
    Sources,
    Threshold,
    Title,
    check_output,
    check_scoring,
    nothing_to_draw,
    passing,
)
from kptools.evaluation import THRESHOLD
from kptools.records.item import Item


def report(
    files: Files = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The page, .html.")
    ] = Path("report.html"),
    count: Annotated[
        int,
        typer.Option(
            min=0, max=20_000, help="How many faces it shows, those of the largest errors."
        ),
    ] = 2000,
    norm: Norm = None,
    threshold: Threshold = THRESHOLD,
    title: Title = "Facial keypoints",
    expect: Expect = None,
) -> int:
    """One HTML page that holds all it shows: NME, MAE, AUC and failure rate beside those of the
    mean shape, the cumulative errors, the regions, and a gallery of the faces, to sort and to
    filter in the browser. Each file has a row of its own; the faces of two are shown side by side.
    Faces without `points` are shown by their score, and have no part in the figures.

    \b
    kp-predict model.safetensors < test.jsonl | kp-viz report -o report.html
    kp-prep photos holiday/ | kp-predict | kp-viz report -o holiday.html > preds.jsonl
    kp-viz report resnet18.jsonl unet.jsonl --title "ResNet-18 and U-Net" -o compare.html
    """
    check_scoring(norm, threshold)
    check_output(output, (".html", ".htm"))
    stream = open_stream(need_input(files), writes=False, expect=expect)

    from kptools.storage.files import write_output
    from kptools.viz import report as pages
    from kptools.viz.gallery import Gallery

    sources = Sources(stream, norm)
    order = {file: number for number, file in enumerate(sources.names)}
    gallery = Gallery(list(sources.names.values()), count, norm)
    unlabelled = 0
    for item in passing(stream):
        if _has_no_truth(item):
            unlabelled += 1
            gallery.add(item, order[item.file], float("nan"))
        else:
            gallery.add(item, order[item.file], sources.add(item))
    stream.flush()
    stream.check_expected()
    if not (sources.found or unlabelled):
        return nothing_to_draw(stream, output, "no face with a prediction")
    scored = sources.found
    if unlabelled and not any(source.norm for source in scored):
        scored = []  # photos alone: a broken one among them is no figure
    if unlabelled and scored:
        console.report(
            f"kp-viz: records without points, which are shown and not scored: {unlabelled}"
        )
    page = pages.page(title, scored, threshold, gallery.data(stream.fail))
    write_output(output, page)
    return stream.close()


def _has_no_truth(item: Item) -> bool:
    record = item.record
    return not item.failed and record.get("points") is None and record.get("pred") is not None
