"""kp-viz: pictures of records, of training and of what was learned."""

import sys
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kptools.cli.edge import need_input, new_app, run
from kptools.cli.options import Expect, Files, choice
from kptools.console import tell
from kptools.errors import KptoolsError, MixedNorms, RecordError, UsageError
from kptools.records.item import Item
from kptools.records.stream import Stream
from kptools.storage.files import claim_output

if TYPE_CHECKING:
    from kptools.specs import Frame
    from kptools.viz.errors import Source

tool = new_app()


@tool.callback()
def _kp_viz() -> None:
    """Pictures: of faces with truth and prediction, of training, of errors, of filters.

    \b
    kp-prep synth --count 100 | kp-augment --rotate 15 --flip 0.5 | kp-viz grid -o grid.png
    kp-viz grid --sort worst -o worst.png preds.jsonl
    kp-viz curves a.log.jsonl b.log.jsonl -o curves.png
    kp-predict model.safetensors < test.jsonl | kp-viz ced -o ced.png | kp-eval

    Records pass through to stdout as they came, as with tee, unless that is a terminal.
    """


Title = Annotated[str, typer.Option(help="Above the picture.")]
Norm = Annotated[
    str | None,
    typer.Option(
        metavar="interocular|interpupil|box|diagonal",
        help="Of the NME [default: interocular; box where a scheme has no eyes].",
    ),
]
Threshold = Annotated[float, typer.Option(help="Of AUC and failure rate, as a fraction.")]
Count = Annotated[int, typer.Option(min=1, max=4096, help="How many faces.")]
Columns = Annotated[
    int | None, typer.Option(min=1, max=4096, help="[default: for a sheet of about 4:3]")
]
CellSize = Annotated[str, typer.Option("--size", metavar="WxH", help="Largest size of a face.")]
Margin = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=10,
        help="Around the box, of sqrt(box area) [default: 0.25; 0 where the box is the image].",
    ),
]
_PICTURES = (".png", ".jpg", ".jpeg")
_PLOTS = (".png", ".svg", ".pdf")
PngFile = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", help="The picture, .png or .jpg.")
]
PlotFile = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", help="The picture, .png, .svg or .pdf.")
]


@tool.command()
def grid(
    files: Files = None,
    output: PngFile = Path("grid.png"),
    count: Count = 16,
    sort: Annotated[
        str,
        typer.Option(metavar="none|worst|best", help="By error; `error` is another name of worst."),
    ] = "none",
    columns: Columns = None,
    size: CellSize = "224x224",
    margin: Margin = None,
    arch: Annotated[
        str | None, typer.Option(metavar="NAME", help="Show what this network would see.")
    ] = None,
    ckpt: Annotated[
        str | None, typer.Option(metavar="CKPT", help="Show what this checkpoint's network sees.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Show the whole image, and the box in it.")
    ] = False,
    epoch: Annotated[int, typer.Option(min=0, help="Epoch whose draws are shown.")] = 0,
    points: Annotated[bool, typer.Option("--points/--no-points", help="Draw the points.")] = True,
    norm: Annotated[
        str | None,
        typer.Option(
            metavar="interocular|interpupil|box|diagonal|pixels",
            help="Of the error [default: interocular; box where a scheme has no eyes].",
        ),
    ] = None,
    title: Title = "",
    expect: Expect = None,
) -> int:
    """A contact sheet of faces: truth red, prediction blue, and below each its id and error.

    Policies (kp-augment) are applied as training applies them: with --arch or --ckpt a face is
    exactly the network's input. It shows the first faces; with --sort those of the largest or
    the smallest errors of all, of which it holds --count. A face that cannot be shown is told on
    stderr; its record passes through as it came.

    \b
    kp-prep ibug | kp-augment --rotate 20 --flip 0.5 | kp-viz grid --arch resnet18 -o seen.png
    kp-viz grid --sort worst --count 24 -o worst.png preds.jsonl
    kp-viz grid --sort best --count 24 -o best.png preds.jsonl
    kp-train --arch nose < nose.jsonl | kp-viz grid --ckpt nose.safetensors | kp-eval
    kp-viz grid --whole --count 4 --size 480x480 -o photos.png faces.jsonl
    """
    from kptools.evaluation.metrics import NORMS

    sort = "worst" if sort == "error" else choice("--sort", sort, ("none", "worst", "best"))
    if norm is not None:
        choice("--norm", norm, (*NORMS, "pixels"))
    if whole and (arch or ckpt or margin is not None):
        raise UsageError("--whole shows all of the image; leave --arch, --ckpt and --margin out")
    if arch and ckpt:
        raise UsageError("--arch and --ckpt both say what is seen; give one")
    _check_output(output, _PICTURES)
    cell = _cell(size)
    names = need_input(files)
    if arch:
        _check_arch(arch)

    from kptools.evaluation.score import OneNorm
    from kptools.storage import images
    from kptools.storage.files import write_output
    from kptools.viz import faces as sheets
    from kptools.viz.views import View

    stream = Stream(names, expect=expect)
    pick, one_norm = sheets.Pick(count, sort), OneNorm()
    mixed: MixedNorms | None = None
    items = _passing(stream)
    first = list(islice(items, 1))  # a kp-train before us in the pipe has then written CKPT
    frame = _network(arch, ckpt, margin) if first and (arch or ckpt) else None
    view = View(cell, margin, frame, whole, epoch)
    for item in chain(first, items):
        error = float("nan")
        if not item.failed and pick.looks:
            try:
                found = sheets.check(item.record, view, norm)
                if found is not None and sort != "none":
                    one_norm.require(found.norm_name, str(item.record.get("scheme", "")))
                error = found.error if found is not None else float("nan")
            except RecordError as problem:
                stream.fail(item, problem)
            except MixedNorms as problem:  # raised when all records have passed on
                mixed = mixed or problem
        pick.add(item, error)
    stream.flush()
    stream.check_expected()
    if mixed is not None:
        raise mixed
    if not pick.items:
        return _nothing(stream, output, "no face with truth and prediction")
    picture = sheets.make(
        pick, view, stream.fail, norm=norm, points=points, columns=columns, title=title
    )
    write_output(output, images.encode(picture, output.suffix))
    return stream.close()


@tool.command()
def curves(
    logs: Annotated[
        list[str], typer.Argument(metavar="LOG", help="STEM.log.jsonl, or a checkpoint.")
    ],
    output: PlotFile = Path("curves.png"),
    metric: Annotated[
        str, typer.Option(metavar="loss|nme|mae", help="Loss of train and val; the others of val.")
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
    _check_output(output, _PLOTS)

    from kptools.storage.files import write_output
    from kptools.viz import plots, runs

    found = [
        runs.Run(name, _epochs(path)) for name, path in zip(runs.names(logs), logs, strict=True)
    ]
    if not plots.has_values(found, metric):
        raise KptoolsError(f"no {metric} in {', '.join(logs)}; these runs had no val records")
    figure = plots.curves(found, metric, log, title)
    write_output(output, plots.encode(figure, output.suffix))
    return 0


@tool.command()
def ced(
    files: Files = None,
    output: PlotFile = Path("ced.png"),
    norm: Norm = None,
    threshold: Threshold = 0.08,
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
    _check_scoring(norm, threshold)
    _check_output(output, _PLOTS)
    stream = Stream(need_input(files), expect=expect)

    from kptools.storage.files import write_output
    from kptools.viz import plots

    sources = _Sources(stream, norm)
    for item in _passing(stream):
        sources.add(item)
    stream.flush()
    stream.check_expected()
    if not sources.found:
        return _nothing(stream, output, "no face with truth and prediction")
    figure = plots.ced(sources.found, threshold, title)
    write_output(output, plots.encode(figure, output.suffix))
    return stream.close()


@tool.command()
def filters(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="What kp-train -o wrote.")],
    output: PngFile = Path("filters.png"),
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which convolution [default: the first].")
    ] = None,
    most: Annotated[
        int,
        typer.Option("--max", min=1, max=256, help="Deep layers: so many rows and columns."),
    ] = 16,
    list_layers: Annotated[
        bool, typer.Option("--list", help="Print the convolutions and their shapes instead.")
    ] = False,
    title: Title = "",
) -> int:
    """The filters that a convolution learned. Over one channel: grey is 0, white and black the
    largest weight; over three: as RGB. A deeper layer has a row for each filter and a column for
    each input channel.

    \b
    kp-viz filters nose.safetensors -o filters.png
    kp-viz filters resnet18.safetensors --list
    kp-viz filters resnet18.safetensors --layer backbone.layer1.0.conv1 --max 24 -o deep.png
    """
    _check_output(output, _PICTURES)

    from kptools.models import checkpoint as checkpoints
    from kptools.storage import images
    from kptools.storage.files import write_output
    from kptools.viz import filters as tiles

    loaded = checkpoints.load(checkpoint)
    found = tiles.layers(loaded.network())
    if list_layers:
        for one in found:
            print(f"{one.name}\t{one.text}")
        return 0
    chosen = tiles.find(found, layer, checkpoint)
    write_output(output, images.encode(tiles.picture(chosen, title, most), output.suffix))
    return 0


@tool.command()
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
    _check_scoring(norm)
    _check_output(output, _PICTURES)
    cell = _cell(size)
    stream = Stream(need_input(files), expect=expect)

    from kptools.storage import images
    from kptools.storage.files import write_output
    from kptools.viz import heatmaps
    from kptools.viz.views import View

    overlays = heatmaps.Overlays(View(cell, margin, policy=False), count, point, norm, points)
    for item in _passing(stream):
        if not item.failed and not overlays.full:
            try:
                overlays.add(item.record)
            except RecordError as problem:
                stream.fail(item, problem)
    stream.flush()
    stream.check_expected()
    if not overlays.cells:
        return _nothing(stream, output, "no face with a heatmap")
    picture = overlays.sheet(columns, title)
    write_output(output, images.encode(picture, output.suffix))
    return stream.close()


@tool.command()
def report(
    files: Files = None,
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="The page, .html.")
    ] = Path("report.html"),
    count: Annotated[
        int, typer.Option(min=0, max=256, help="How many of the worst, and of the best, faces.")
    ] = 8,
    norm: Norm = None,
    threshold: Threshold = 0.08,
    title: Title = "Facial keypoints",
    expect: Expect = None,
) -> int:
    """One HTML page that holds all it shows: NME, MAE, AUC and failure rate beside those of the
    mean shape, the cumulative errors, the regions, the worst and the best faces. A file each has
    a row of its own.

    \b
    kp-predict model.safetensors < test.jsonl | kp-viz report -o report.html
    kp-viz report resnet18.jsonl unet.jsonl --title "ResNet-18 and U-Net" -o compare.html
    """
    _check_scoring(norm, threshold)
    _check_output(output, (".html", ".htm"))
    stream = Stream(need_input(files), expect=expect)

    from kptools.storage.files import write_output
    from kptools.viz import report as pages
    from kptools.viz.views import View

    faces = pages.Extremes(View(), count, norm)
    sources = _Sources(stream, norm)
    for item in _passing(stream):
        faces.add(item, sources.add(item))
    stream.flush()
    stream.check_expected()
    if not sources.found:
        return _nothing(stream, output, "no face with truth and prediction")
    sheets = faces.sheets(stream.fail, sources.names if len(sources.names) > 1 else None)
    page = pages.page(title, sources.found, threshold, sheets)
    write_output(output, page)
    return stream.close()


# What the commands share


def _passing(stream: Stream) -> Iterator[Item]:
    """Each item, its line first passed on as it came, unless stdout is a terminal."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    for item in stream:
        if not terminal:
            stream.write(item)
        yield item


class _Sources:
    """The scores of each file, in the order of the files."""

    def __init__(self, stream: Stream, norm: str | None) -> None:
        from kptools.evaluation.score import OneNorm
        from kptools.viz import errors, runs

        self._stream, one_norm = stream, OneNorm()
        self.mixed: MixedNorms | None = None
        shown = ["stdin" if name == "-" else name for name in stream.names]
        self._sources: dict[str, Source] = {
            name: errors.Source(short, norm, one_norm)
            for name, short in zip(shown, runs.names(shown), strict=True)
        }

    def add(self, item: Item) -> float:
        """The item's NME, NaN where it has none; a record that cannot be scored is a failure."""
        source = self._sources[item.file]
        if not item.failed:
            try:
                return source.add(item.record)
            except RecordError as problem:
                self._stream.fail(item, problem)
            except MixedNorms as problem:  # raised when all records have passed on
                self.mixed = self.mixed or problem
                return float("nan")
        source.scorer.fail(item.record)
        return float("nan")

    @property
    def names(self) -> dict[str, str]:
        """The short name of each file."""
        return {file: source.name for file, source in self._sources.items()}

    @property
    def found(self) -> list["Source"]:
        """Those with a record that counts. MixedNorms where they cannot be shown together."""
        if self.mixed is not None:
            raise self.mixed
        return [source for source in self._sources.values() if source.pred.nmes]


def _epochs(path: str) -> list[dict[str, Any]]:
    from kptools.training import log

    if not path.endswith(".safetensors"):
        return log.read_log(path)
    from kptools.storage.tensors import read_metadata

    return log.check(path, read_metadata(path).get("history"))


def _check_arch(arch: str) -> None:
    from kptools.models import archs

    if arch not in archs.ARCHS:
        from kptools.models.backbones import torchvision

        if arch not in torchvision.names():
            known = ", ".join(archs.ARCHS)
            raise UsageError(f"--arch {arch!r}: {known}, or a classifier of torchvision")


def _network(arch: str | None, ckpt: str | None, margin: float | None) -> "Frame":
    """The frame of an architecture's defaults, or of a checkpoint; --margin goes before both."""
    from kptools.models import archs
    from kptools.specs import Frame

    if ckpt:
        from kptools.models import checkpoint

        model = checkpoint.load(ckpt).model
        margin = model.margin if margin is None else margin
        return Frame(model.input, margin, model.grey, model.normalization)
    defaults = archs.arch(arch or "")
    return Frame(defaults.input, defaults.margin if margin is None else margin, defaults.grey)


def _cell(size: str) -> tuple[int, int]:
    from kptools.cli import options

    try:
        width, height = options.parse_size(size)
    except UsageError as error:
        raise UsageError(f"--size {error}") from None
    if min(width, height) < 32:
        raise UsageError(f"--size {size}: at least 32x32, to be legible")
    return width, height


def _check_output(output: Path, suffixes: tuple[str, ...]) -> None:
    """Before anything is read: a name that says what to write, in a folder that exists."""
    if output.suffix.lower() not in suffixes:
        raise UsageError(f"-o {output}: its name ends in {' or '.join(suffixes)}")
    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"-o {output}: a file in a folder that exists is needed")
    claim_output(output)


def _check_scoring(norm: str | None, threshold: float = 0.08) -> None:
    from kptools.evaluation.metrics import NORMS

    if norm is not None:
        choice("--norm", norm, NORMS)
    if not 0 < threshold < 1e6:
        raise UsageError("--threshold: more than 0")


def _nothing(stream: Stream, output: Path, what: str) -> int:
    """Nothing to draw: one line, no file, and the status of what was read."""
    if stream.count:
        tell(f"kp-viz: {what}; {output} is not written")
    return stream.close()


def main() -> None:
    run(tool)


if __name__ == "__main__":
    main()
