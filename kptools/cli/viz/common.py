"""What the pictures of kp-viz share: options, and the records that pass through."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kptools.cli.options import choice, parse_size
from kptools.console import report
from kptools.errors import MixedNorms, RecordError, UsageError
from kptools.evaluation import NORMS, THRESHOLD
from kptools.records.item import Item
from kptools.records.stream import Stream
from kptools.storage.files import claim_output

if TYPE_CHECKING:
    from kptools.viz.sources import Source

Title = Annotated[str, typer.Option(help="Above the picture.")]
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
PICTURES = (".png", ".jpg", ".jpeg")
PLOTS = (".png", ".svg", ".pdf")
PngFile = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", help="The picture, .png or .jpg.")
]
PlotFile = Annotated[
    Path, typer.Option("-o", "--output", metavar="FILE", help="The picture, .png, .svg or .pdf.")
]


def passing(stream: Stream) -> Iterator[Item]:
    """Each item, its line first passed on as it came, unless stdout is a terminal."""
    terminal = sys.stdout is not None and sys.stdout.isatty()
    for item in stream:
        if not terminal:
            stream.write(item)
        yield item


class Sources:
    """The scores of each file, in the order of the files."""

    def __init__(self, stream: Stream, norm: str | None) -> None:
        from kptools.evaluation.score import OneNorm
        from kptools.viz import runs, sources

        self._stream, one_norm = stream, OneNorm()
        self.mixed: MixedNorms | None = None
        shown = ["stdin" if name == "-" else name for name in stream.reader.names]
        self._sources: dict[str, Source] = {
            name: sources.Source(short, norm, one_norm)
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


def parse_cell(size: str) -> tuple[int, int]:
    try:
        width, height = parse_size(size)
    except UsageError as error:
        raise UsageError(f"--size {error}") from None
    if min(width, height) < 32:
        raise UsageError(f"--size {size}: at least 32x32, to be legible")
    return width, height


def check_output(output: Path, suffixes: tuple[str, ...], option: str = "-o") -> None:
    """Before anything is read: a name that says what to write, in a folder that exists."""
    if output.suffix.lower() not in suffixes:
        raise UsageError(f"{option} {output}: its name ends in {' or '.join(suffixes)}")
    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"{option} {output}: a file in a folder that exists is needed")
    claim_output(output)


def check_scoring(norm: str | None, threshold: float = THRESHOLD) -> None:
    if norm is not None:
        choice("--norm", norm, NORMS)
    if not 0 < threshold < 1e6:
        raise UsageError("--threshold: more than 0")


def nothing_to_draw(stream: Stream, output: Path, what: str) -> int:
    """Nothing to draw: one line, no file, and the status of what was read."""
    if stream.count:
        report(f"kp-viz: {what}; {output} is not written")
    return stream.close()
