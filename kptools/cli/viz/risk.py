"""kp-viz risk: what the scores of points are worth."""

from pathlib import Path

from kptools.cli.edge import need_input
from kptools.cli.options import Expect, Files, Norm
from kptools.cli.streams import open_stream
from kptools.cli.viz.common import (
    PLOTS,
    PlotFile,
    Sources,
    Title,
    check_output,
    check_scoring,
    nothing_to_draw,
    passing,
)


def risk(
    files: Files = None,
    output: PlotFile = Path("risk.png"),
    norm: Norm = None,
    title: Title = "",
    expect: Expect = None,
) -> int:
    """Risk and coverage: the NME of the points that are kept as those of the lowest `score` are
    left out, a curve for each file. A score that means something gives a curve that rises.

    \b
    kp-predict model.safetensors < test.jsonl | kp-viz risk -o risk.png | kp-eval --min-score 0.5
    """
    check_scoring(norm)
    check_output(output, PLOTS)
    stream = open_stream(need_input(files), writes=False, expect=expect)

    from kptools.storage.files import write_output
    from kptools.viz import plots

    sources = Sources(stream, norm)
    for item in passing(stream):
        sources.add(item)
    stream.flush()
    stream.check_expected()
    found = [source for source in sources.found if source.scorer.risk.points]
    if not found:
        return nothing_to_draw(stream, output, "no face with truth, prediction and score")
    write_output(output, plots.encode(plots.risk(found, title), output.suffix))
    return stream.close()
