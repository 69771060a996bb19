"""kp-viz curves: training curves of one or more runs."""

from pathlib import Path
from typing import Annotated

import typer

from kptools.cli.options import choice, one_of
from kptools.cli.viz.common import PLOTS, PlotFile, Title, check_output
from kptools.errors import KptoolsError


def curves(
    logs: Annotated[
        list[str], typer.Argument(metavar="LOG", help="STEM.log.jsonl, or a checkpoint.")
    ],
    output: PlotFile = Path("curves.png"),
    metric: Annotated[
        str, one_of(("loss", "nme", "mae"), help="Loss of train and val; the others of val.")
    ] = "loss",
    log: Annotated[
        bool | None,
        typer.Option("--log/--linear", help="The y axis [default: log where the range is wide]."),
    ] = None,
    title: Title = "",
) -> int:
    """Training curves of one or more runs: train dashed, val solid, a ring at the best epoch, a
    hairline where the learning rate changes.

    \b
    kp-viz curves nose.log.jsonl -o nose.png
    kp-viz curves plain.log.jsonl augmented.log.jsonl --metric nme -o compare.svg
    kp-viz curves resnet18.safetensors unet.safetensors --metric mae --linear -o mae.pdf
    """
    choice("--metric", metric, ("loss", "nme", "mae"))
    check_output(output, PLOTS)

    from kptools.storage.files import write_output
    from kptools.training.log import read_epochs
    from kptools.viz import plots, runs

    found = [
        runs.Run(name, read_epochs(path)) for name, path in zip(runs.names(logs), logs, strict=True)
    ]
    if metric != "loss":
        found = [part for run in found for part in runs.by_scheme(run, f"val_{metric}")]
    if not plots.has_values(found, metric):
        raise KptoolsError(f"no {metric} in {', '.join(logs)}; these runs had no val records")
    figure = plots.curves(found, metric, log, title)
    write_output(output, plots.encode(figure, output.suffix))
    return 0
