"""kp-prep: a dataset, in its own files, to records."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from kptools.cli.edge import new_app, run
from kptools.cli.options import Output, Resume, Strict, choice
from kptools.console import program, tell
from kptools.datasets.prepare import Preparation
from kptools.errors import RecordError, UsageError
from kptools.records.item import Item
from kptools.records.stream import Stream

tool = new_app()


@tool.callback()
def _kp_prep() -> None:
    """Write the records of a dataset: one face a line.

    \b
    kp-prep synth --count 200 --out faces > faces.jsonl
    kp-prep imm data/imm_face_db --points nose > nose.jsonl
    kp-prep ibug data/ibug --annotations pts --xml labels_ibug_300W_train.xml > ibug.jsonl
    kp-prep ibug data/ibug --xml labels_ibug_300W_test_parsed.xml --split test > test.jsonl
    kp-prep photos holiday/ > photos.jsonl

    Without ROOT a dataset is looked for in $KPTOOLS_DATA, then in ./data, under its usual name:
    imm_face_db, ibug_300W_large_face_landmark_dataset.
    """


Root = Annotated[str | None, typer.Argument(metavar="ROOT", help="The dataset's folder.")]
Split = Annotated[
    str | None, typer.Option(metavar="train|val|test", help="The split of every record.")
]
ValFraction = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Share of groups (persons, photos) to hold out as val."),
]
Points = Annotated[
    str | None,
    typer.Option(metavar="NAMES", help="Keep these: nose, region:mouth, 30, 36-47, with commas."),
]
BoxFrom = Annotated[
    str | None,
    typer.Option(
        "--box",
        metavar="dataset|points|image",
        help="From where [default: dataset, or image where it has none]; points: to train with.",
    ),
]
Limit = Annotated[int | None, typer.Option(min=0, help="Stop after so many faces.")]
Seed = Annotated[int, typer.Option(min=0, max=2**31, help="Of the draw of --val-fraction.")]


@tool.command()
def ibug(
    root: Root = None,
    xml: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="dlib's XML [default: labels_ibug_300W_train.xml]."),
    ] = None,
    annotations: Annotated[
        str, typer.Option(metavar="xml|pts", help="Where the points are; .pts are exact.")
    ] = "xml",
    split: Split = None,
    val_fraction: ValFraction = None,
    points: Points = None,
    box: BoxFrom = None,
    limit: Limit = None,
    seed: Seed = 0,
    output: Output = "-",
    resume: Resume = False,
    strict: Strict = False,
) -> int:
    """iBUG 300-W, 68 points: dlib's XML, a tree of .pts files, or the boxes of the one with the
    points of the other (--annotations pts --xml FILE)."""
    from kptools.datasets import ibug as importer

    choice("--annotations", annotations, ("xml", "pts"))
    items = importer.read(root, xml=xml, annotations=annotations)
    default = "test" if importer.is_test(xml) else "train"
    prep = _preparation(split or default, val_fraction, points, box, seed)
    run = _run("ibug", locals(), xml=xml, annotations=annotations)
    stream = Stream([], output, strict=strict, resume=resume, run=run)
    status = _write(islice(items, limit), prep, stream)
    if prep.turned:
        tell(
            f"kp-prep: {prep.turned} faces are on pictures with an EXIF orientation: their points "
            "and boxes were turned to the picture as shown (marked `orientation`)"
        )
    return status


@tool.command()
def imm(
    root: Root = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Turn the eyes whose points run the wrong way round.")
    ] = False,
    split: Split = None,
    val_fraction: ValFraction = None,
    points: Points = None,
    box: BoxFrom = None,
    limit: Limit = None,
    seed: Seed = 0,
    output: Output = "-",
    resume: Resume = False,
    strict: Strict = False,
) -> int:
    """IMM face database, 58 points. Persons 1 to 32 are train, 33 to 40 val, as in the course.

    It has no boxes: the box is the whole image, or with --box points that of the points.
    """
    from kptools.datasets import imm as importer

    if box == "dataset":
        raise UsageError("--box dataset: IMM has no boxes; use image or points")
    items = importer.read(root, repair=repair)
    prep = _preparation(split, val_fraction, points, box, seed)
    run = _run("imm", locals(), repair=repair)
    stream = Stream([], output, strict=strict, resume=resume, run=run)
    status = _write(islice(items, limit), prep, stream)
    if repair:
        tell(f"kp-prep: {prep.repaired} pictures had an eye turned (marked `repaired`)")
    return status


@tool.command()
def synth(
    count: Annotated[int, typer.Option(min=1, max=10_000_000, help="How many faces.")] = 1000,
    out: Annotated[Path, typer.Option(metavar="DIR", help="For the pictures.")] = Path("synth"),
    split: Split = None,
    val_fraction: ValFraction = None,
    points: Points = None,
    box: BoxFrom = None,
    limit: Limit = None,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Of faces and --val-fraction.")] = 0,
    output: Output = "-",
    resume: Resume = False,
    strict: Strict = False,
) -> int:
    """Draw faces with 68 known points: nothing to download, and the truth is exact."""
    from kptools.datasets import synth as importer

    if limit is not None:
        count = min(count, limit)
    found = importer.read(out, count, seed)
    items = (Item(record, "synth", number) for number, record in enumerate(found, start=1))
    prep = _preparation(split, val_fraction, points, box, seed)
    run = _run("synth", locals(), count=count, out=str(out.resolve()))
    return _write(items, prep, Stream([], output, strict=strict, resume=resume, run=run))


@tool.command()
def photos(
    paths: Annotated[list[str], typer.Argument(metavar="DIR|FILE", help="Photos, or folders.")],
    box: Annotated[
        str, typer.Option(metavar="detector|image", help="Find the faces, or take the image whole.")
    ] = "detector",
    limit: Limit = None,
    output: Output = "-",
    resume: Resume = False,
    strict: Strict = False,
) -> int:
    """One's own photos, of split test. dlib's frontal detector finds the faces (pip install
    dlib-bin); with --box image the box is the whole picture."""
    from kptools.datasets import photos as importer

    choice("--box", box, ("detector", "image"))
    items = importer.read(paths, detect=box == "detector")
    prep = _preparation(None, None, None, None, 0)
    run = _run("photos", locals(), paths=[str(Path(path).resolve()) for path in paths])
    stream = Stream([], output, strict=strict, resume=resume, run=run)
    return _write(islice(items, limit), prep, stream)


def _preparation(
    split: str | None,
    val_fraction: float | None,
    points: str | None,
    box: str | None,
    seed: int,
) -> Preparation:
    from kptools.records.keys import SPLITS

    if split:
        choice("--split", split, SPLITS)
    if box:
        choice("--box", box, ("dataset", "points", "image"))
    return Preparation(split, val_fraction, points, box, seed)


def _run(dataset: str, options: dict[str, Any], **more: Any) -> dict[str, Any]:
    """What decides which records are written, of the options of a command (its `locals()`)."""
    run: dict[str, Any] = {"tool": f"kp-prep {dataset}"}
    for name in ("root", "split", "val_fraction", "points", "box", "limit", "seed"):
        if name in options:
            run[name] = options[name]
    if run.get("root") is not None:
        run["root"] = str(Path(run["root"]).resolve())
    return run | more


def _write(items: Iterator[Item], prep: Preparation, stream: Stream) -> int:
    for item in items:
        done = stream.skips(item.record)
        problem = None
        if item.failed:
            problem = RecordError(item.record["status"], item.record["error"])
        try:
            prep.apply(item)
        except RecordError as error:
            problem = problem or error
        if done:
            continue
        if problem is not None:
            stream.fail(item, problem)
        stream.write(item)
    if not stream.count:
        tell(f"{program()}: no face was found, so there is no record")
    return stream.close()


def main() -> None:
    run(tool)


if __name__ == "__main__":
    main()
