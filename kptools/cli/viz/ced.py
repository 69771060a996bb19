"""kp-viz ced: the cumulative error distribution."""

from pathlib import Path

from kptools.cli.edge import need_input
from kptools.cli.options import Expect, Files, Norm
from kptools.cli.streams import open_stream
from kptools.cli.viz.common import (
    PLOTS,
    PlotFile,
    Sources,
    Threshold,
    Title,
    check_output,
    check_scoring,
    nothing_to_draw,
    passing,
)
from kptools.evaluation import THRESHOLD


def ced(
    files: Files = None,
    output: PlotFile = Path("ced.png"),
    norm: Norm = None,
    threshold: Threshold = THRESHOLD,
    title: Title = "",
    expect: Expect = None,
) -> int:
    """Cumulative error distribution: the share of faces up to each NME, a curve for each file,
    with AUC and failure rate up to the threshold; in grey the mean shape (`mean`). A failed
    record counts as an infinite error. It holds two floats a face.

    \b
    kp-predict model.safetensors < test.jsonl | kp-viz ced -o ced.png
    kp-viz ced resnet18.jsonl unet.jsonl --norm box --threshold 0.05 -o ced.pdf
    """
    check_scoring(norm, threshold)
    check_output(output, PLOTS)
    stream = open_stream(need_input(files), writes=False, expect=expect)

    from kptools.storage.files import write_output
    from kptools.viz import plots

    sources = Sources(stream, norm)
    for item in passing(stream):
        sources.add(item)
    stream.flush()
    stream.check_expected()
    if not sources.found:
        return nothing_to_draw(stream, output, "no face with truth and prediction")
    figure = plots.ced(sources.found, threshold, title)
    write_output(output, plots.encode(figure, output.suffix))
    return stream.close()
