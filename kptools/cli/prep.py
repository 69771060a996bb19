"""kp-prep: a dataset, in its own files, to records; and records to other files."""

import os
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kptools.cli.edge import may_allow_failures, need_input, new_app, run, with_version
from kptools.cli.options import (
    Expect,
    Files,
    OnRay,
    Output,
    Part,
    Resume,
    Strict,
    choice,
    keyword,
    names_points,
    one_of,
    parameter,
    refuse,
    set_parameters,
)
from kptools.cli.prep_check import check
from kptools.cli.prep_select import select
from kptools.cli.prep_to import to
from kptools.cli.streams import open_stream
from kptools.console import program, report
from kptools.datasets import sources
from kptools.datasets.catalog import DATASETS, Dataset
from kptools.errors import RecordError, UsageError
from kptools.options import Option
from kptools.records.item import Item
from kptools.records.keys import SPLITS
from kptools.records.ray_map import cluster
from kptools.records.shard import WHOLE, Shard
from kptools.records.stream import Stream

if TYPE_CHECKING:
    from kptools.datasets.prepare import Preparation

BOXES = ("dataset", "points", "image")

tool = new_app()


@tool.callback()
@with_version
def _kp_prep() -> None:
    """Write the records of a dataset: one face a line.

    \b
    kp-prep synth --count 200 --out faces > faces.jsonl
    kp-prep imm data/imm_face_db --points nose > nose.jsonl
    kp-prep ibug data/ibug --annotations pts --xml labels_ibug_300W_train.xml > ibug.jsonl
    kp-prep ibug data/ibug --xml labels_ibug_300W_test_parsed.xml --split test > test.jsonl
    kp-prep photos holiday/ > photos.jsonl
    kp-prep coco person_keypoints_val2017.json --images val2017 --scheme none > bodies.jsonl
    kp-prep to csv -o faces.csv faces.jsonl

    Without ROOT a dataset is looked for in $KPTOOLS_DATA, then in ./data, under its usual name:
    imm_face_db, ibug_300W_large_face_landmark_dataset.
    """


# The options that datasets share: what each is, and its default
SHARED: dict[str, tuple[Any, Any]] = {
    "split": (Annotated[str | None, one_of(SPLITS, help="The split of every record.")], None),
    "val_fraction": (
        Annotated[
            float | None,
            typer.Option(
                min=0, max=1, help="Share of groups (persons, photos) to hold out as val."
            ),
        ],
        None,
    ),
    "points": (
        Annotated[
            str | None,
            names_points("Keep these: nose, region:mouth, 30, 36-47, with commas.", "NAMES"),
        ],
        None,
    ),
    "box": (
        Annotated[
            str | None,
            one_of(
                BOXES,
                help="From where [default: dataset, or image where it has none]; points: to train "
                "with.",
            ),
        ],
        None,
    ),
    "limit": (Annotated[int | None, typer.Option(min=0, help="Stop after so many faces.")], None),
    "seed": (Annotated[int, typer.Option(min=0, max=2**31, help="Of --val-fraction.")], 0),
}
OUTPUT = {"output": (Output, "-"), "resume": (Resume, False), "strict": (Strict, False)}


def _command(name: str, dataset: Dataset) -> Callable[..., int]:
    """The command of a dataset: its own options, then those that it shares."""
    own = [option.name for option in dataset.options]
    shared = [key for key in dataset.shared if key not in own]

    def command(
        output: str,
        resume: bool,
        strict: bool,
        shard: Shard = WHOLE,
        ray: str | None = None,
        **given: Any,
    ) -> int:
        options = {option.name: option.check(given[option.name]) for option in dataset.options}
        if ray is not None:
            jobs = {"--jobs": options.get("jobs") or None}
            refuse(jobs, "with --ray the cores of the cluster work; leave it out")
        if "scheme" in options:
            options["scheme"] = _scheme(options["scheme"])
        if dataset.source is not None:
            options["root"] = _root(dataset.source, options["root"], given)
        preparation = _preparation(name, dataset, {k: given[k] for k in dataset.shared})
        run: dict[str, Any] = {"tool": f"kp-prep {name}"} | {key: given[key] for key in shared}
        run |= {
            option.name: _absolute(option, options[option.name])
            for option in dataset.options
            if option.name != "jobs"  # which decides how fast it is, and no more
        }
        read = dataset.load().read
        if dataset.is_work:
            options |= {"shard": shard, "on_ray": ray is not None}
        found = read(**options)
        items = islice(found, given.get("limit"))
        stream = open_stream(
            [],
            output,
            total=given.get("limit") or options.get("count") or 0,
            strict=strict,
            resume=resume,
            run=run,
            shard=shard,
        )
        with cluster(ray):
            status = _write(items, dataset, preparation, stream)
        searched = dataset.finds_faces and options.get("boxes") is None
        for note in preparation.notes(dataset, were_searched=searched):
            report(f"kp-prep: {note}")
        return status

    parameters = [parameter(option) for option in dataset.options]
    if dataset.source is not None:
        parameters += [parameter(option) for option in sources.OPTIONS]
    parameters += [keyword(key, *SHARED[key]) for key in shared]
    parameters += [keyword(key, *kind) for key, kind in OUTPUT.items()]
    if dataset.is_work:
        parameters += [keyword("shard", Part, WHOLE), keyword("ray", OnRay, None)]
    set_parameters(command, parameters)
    command.__doc__ = dataset.help
    return command


def _scheme(given: str | None) -> str | None:
    """The name of the scheme that --scheme names, or has the file of. One's own are known from
    here on."""
    from kptools.storage import scheme_files

    scheme_files.load_those_of_environment()
    return given if given in (None, "none") else scheme_files.choose(given)


def _root(source: sources.Source, root: str | None, given: dict[str, Any]) -> str | None:
    """The dataset's folder as it was given, or where it was downloaded to."""
    wanted = {key: given[key] for key in ("accept_terms", "url", "sha256")}
    if not given["download"]:
        named = [f"--{key.replace('_', '-')}" for key, value in wanted.items() if value]
        if named:
            raise UsageError(f"{named[0]} goes with --download")
        return root

    from kptools.cli.bars import DownloadBar

    data = os.environ.get("KPTOOLS_DATA") or "data"
    return sources.fetch(source, root, data, **wanted, bar=DownloadBar())


def _preparation(name: str, dataset: Dataset, given: dict[str, Any]) -> "Preparation":
    """UsageError for a value that the shared options do not take."""
    split, box = given.get("split"), given.get("box")
    if split:
        choice("--split", split, SPLITS)
    if box:
        choice("--box", box, BOXES)
    if box == "dataset" and not dataset.has_boxes:
        raise UsageError(f"--box dataset: {name} has no boxes; use image or points")

    from kptools.datasets.prepare import Preparation

    return Preparation(name, **{key: value for key, value in given.items() if key != "limit"})


def _absolute(option: Option, value: Any) -> Any:
    """The value as a run's file has it: paths from the root, for a run is resumed from anywhere."""
    if not option.is_path or value is None:
        return value
    if isinstance(value, list):
        return [str(Path(path).resolve()) for path in value]
    return str(Path(value).resolve())


def _write(
    items: Iterable[Item], dataset: Dataset, preparation: "Preparation", stream: Stream
) -> int:
    for item in items:
        done = stream.skip_done(item.record)
        problem = None
        if item.failed:
            problem = RecordError(item.record["status"], item.record["error"])
        try:
            preparation.apply(item, dataset.notes)
        except RecordError as error:
            problem = problem or error
        if done:
            continue
        if problem is not None:
            stream.fail(item, problem)
        stream.write(item)
        if dataset.is_slow:
            stream.flush()
    if not stream.count:
        report(f"{program()}: no face was found, so there is no record")
    return stream.close()


for _name, _dataset in DATASETS.items():
    tool.command(_name)(may_allow_failures(_command(_name, _dataset)))


tool.add_typer(to, name="to")
tool.command("check")(check)
tool.command("select")(select)


@tool.command("fit-boxes")
@may_allow_failures
def fit_boxes(
    inputs: Files = None, output: Output = "-", expect: Expect = None, strict: Strict = False
) -> int:
    """Say which part of their boxes faces fill: a line of JSON for each `box_source` and `scheme`.

    Reads records with `box` and `points`. `face` is the part of the box that the points fill, in
    fractions of the box (left, top, right, bottom). Two such parts are the map between two sources.

    \b
    kp-prep fit-boxes faces.jsonl
    """
    names = need_input(inputs)

    import orjson

    from kptools.datasets.box_maps import Fit
    from kptools.records import keys
    from kptools.records.face import Face

    fits: dict[tuple[str, str], Fit] = {}
    stream = open_stream(names, output, strict=strict, expect=expect)
    for item in stream:
        if item.failed:
            continue
        try:
            face = Face.parse(item.record, with_policy=False).annotated()
        except RecordError as error:
            stream.fail(item, error)
            continue
        assert face.points is not None
        source = str(item.record.get("box_source") or "unknown")
        fits.setdefault((source, keys.scheme_name(item.record)), Fit()).add(
            face.box, face.level(face.points)
        )
    for (source, scheme), fit in sorted(fits.items()):
        found = {
            "box_source": source,
            "scheme": scheme,
            "faces": len(fit.parts),
            "face": [round(v, 4) for v in fit.part()],
            "spread": round(fit.spread(), 4),
        }
        stream.write_line(orjson.dumps(found))
    return stream.close()


@tool.command("pack")
@may_allow_failures
def pack(
    inputs: Files = None,
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the tar files.")] = Path(
        "shards"
    ),
    size: Annotated[
        int, typer.Option(min=1, max=10**6, help="Megabytes at which a tar file is full.")
    ] = 512,
    output: Output = "-",
    expect: Expect = None,
    strict: Strict = False,
) -> int:
    """Pack records and their images into tar files, as WebDataset has them.

    Writes the records again, each `image` a member of a tar file, which all tools read. Few large
    files are read faster than many small ones, from a disk that spins or a network above all.

    \b
    kp-prep pack --out shards faces.jsonl > packed.jsonl
    """
    names = need_input(inputs)

    from kptools.datasets import tar_shards
    from kptools.storage.files import make_folder

    stream = open_stream(names, output, strict=strict, expect=expect)
    make_folder(out)
    for item in tar_shards.pack(stream, out, size, stream.fail):
        stream.write(item)
    return stream.close()


def main() -> None:
    run(tool)


if __name__ == "__main__":
    main()
