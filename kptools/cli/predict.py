"""kp-predict: a network's keypoints for each face, in the pixels of its file."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import typer

from kptools.cli import on_ray, streams
from kptools.cli.edge import app, need_input
from kptools.cli.options import (
    Device,
    Expect,
    OnRay,
    Output,
    Part,
    Precision,
    Resume,
    Strict,
    Threads,
    Workers,
    choice,
    one_of,
    refuse,
)
from kptools.cli.own_schemes import knows_schemes
from kptools.cli.predictors import Asked, beyond_one_pass, by_onnxruntime, by_torch, is_onnx
from kptools.console import report
from kptools.errors import UsageError
from kptools.inference.onnx_names import SUFFIX
from kptools.models.codecs import DECODER, DECODERS
from kptools.records.ray_map import cluster
from kptools.records.shard import WHOLE
from kptools.records.stream import Stream
from kptools.storage.files import make_folder

if TYPE_CHECKING:
    from kptools.specs import ModelSpec

CHECKPOINTS = (".safetensors", SUFFIX)  # how the name of one ends
FORMATS = ("text", "json", "markdown")  # of --explain


@knows_schemes
def predict(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CKPT|FILE",
            help="First the networks, if any, which end in .safetensors: what kp-train -o wrote; "
            "or in .onnx: what --export wrote, which starts sooner, without PyTorch. "
            "Of several the mean is taken; without one, the network in the box finds 68 points. "
            "Then records; - or none: stdin.",
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, max=4096, help="Faces at a time [default: 16 on a CPU, else 32]."),
    ] = None,
    decode: Annotated[
        str | None,
        one_of(DECODERS, help=f"From heatmaps to points [default: {DECODER}]."),
    ] = None,
    passes: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2,
            help="How often the network looks at a face, the second time aligned by its first "
            "answer [default: as it was trained].",
        ),
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            "--flip/--no-flip", help="Look at the mirror image too [default: as it was trained]."
        ),
    ] = None,
    shape_prior: Annotated[
        bool | None,
        typer.Option(
            "--shape-prior/--no-shape-prior",
            help="Move points that the network is unsure of to where the training faces' shapes "
            "have them [default: as it was trained].",
        ),
    ] = None,
    find: Annotated[
        str | None,
        typer.Option(
            metavar="SCHEME",
            help="Of a network of several schemes: whose points to find on a face that has no "
            "`scheme`, as of a photo [default: its first].",
        ),
    ] = None,
    heatmaps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save each face's maps there (float16).")
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.onnx",
            help="Write the network as an ONNX file instead, for a quick start, and for programs "
            "without kptools.",
        ),
    ] = None,
    ray: OnRay = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain", help="Say where the networks come from, and the pipe that makes them."
        ),
    ] = False,
    output_format: Annotated[
        str, one_of(FORMATS, "--format", help="Of --explain; markdown: a model card.")
    ] = "text",
    workers: Workers = 0,
    threads: Threads = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    output: Output = "-",
    resume: Resume = False,
    expect: Expect = None,
    shard: Part = WHOLE,
    strict: Strict = False,
) -> int:
    """Add to each record `pred` (K points), `score` (how sure the network is of each, 0 to 1) and
    `mean` (the training mean shape in its box).

    \b
    kp-prep photos holiday/ | kp-predict | kp-viz grid -o holiday.png > preds.jsonl
    kp-predict model.safetensors < photos.jsonl > preds.jsonl
    kp-predict seed0.safetensors seed1.safetensors faces.jsonl -o preds.jsonl
    kp-predict model.safetensors faces.jsonl | kp-predict adapter.safetensors > adapted.jsonl
    kp-predict model.safetensors faces.jsonl.gz --shard 1/8 -o preds.1-of-8.jsonl
    kp-predict model.safetensors --explain
    kp-predict model.safetensors --export model.onnx; kp-predict model.onnx faces.jsonl
    kp-predict unet.safetensors --decode softargmax -o preds.jsonl --resume faces.jsonl
    kp-predict model.safetensors --ray auto -o preds.jsonl millions.jsonl
    """
    if decode is not None:
        choice("--decode", decode, DECODERS)
    checkpoints, files = _split(arguments or [])
    of_pixels = {
        "--decode": decode,
        "--heatmaps": heatmaps,
        "--passes": passes,
        "--flip": flip,
        "--shape-prior": shape_prior,
    }
    of_records = {
        "--batch-size": batch_size,
        "--expect": expect,
        "--find": find,
        "--ray": ray,
        "--output": output != "-" or None,
        "--resume": resume or None,
        "--shard": shard if shard != WHOLE else None,
        "--strict": strict or None,
    }
    choice("--format", output_format, FORMATS)
    if explain:
        others = of_pixels | of_records | {"--export": export}
        refuse(others, "--explain reads no records and writes to stdout; leave it out")
        return _explain(checkpoints, files, output_format)
    refuse({"--format": output_format if output_format != "text" else None}, "goes with --explain")
    if export is not None:
        refuse(of_pixels | of_records, "--export reads no records; leave it out")
        return _export(checkpoints, files, export)
    names = need_input(files)

    def open_stream(run: dict[str, Any]) -> Stream:
        """`run`: what of the arguments decides the predictions, beside the checkpoints."""
        run = {"tool": "kp-predict", **run}
        if output != "-":
            run["checkpoint"] = on_ray.hash_of(checkpoints)
        return streams.open_stream(
            names, output, strict=strict, resume=resume, run=run, expect=expect, shard=shard
        )

    asked = Asked(
        batch_size=batch_size,
        decode=decode,
        passes=passes,
        flip=flip,
        shape_prior=shape_prior,
        heatmaps=heatmaps,
        workers=workers,
        threads=threads,
        device=device,
        precision=precision,
        find=find,
    )
    if any(map(is_onnx, checkpoints)):  # nothing here may import torch
        return _predict(checkpoints, asked, open_stream, ray)

    from kptools.models import adapter, box

    if not checkpoints:
        checkpoints = [box.path()]
        report(f"kp-predict: no checkpoint is named: {box.DESCRIPTION}")
    adapters = [name for name in checkpoints if adapter.is_adapter(name)]
    if adapters:
        checkpoint = adapters[0]
        if len(checkpoints) > 1:
            raise UsageError(f"{checkpoint} is an adapter; apply it in a kp-predict of its own")
        refuse(
            of_pixels | {"--find": find, "--ray": ray},
            f"{checkpoint} is an adapter, which sees no image",
        )
        return _adapt(checkpoint, open_stream)

    return _predict(checkpoints, asked, open_stream, ray)


OpenStream: TypeAlias = Callable[[dict[str, Any]], Stream]


def _predict(checkpoints: list[str], asked: Asked, open_stream: OpenStream, ray: str | None) -> int:
    """Predict the records of these files by the checkpoints, which are of torch or ONNX files."""
    from kptools.inference import ensemble
    from kptools.inference.prediction import found_by, of_scheme

    if ray is not None:
        asked = on_ray.for_tasks(asked)
    load = by_onnxruntime if any(map(is_onnx, checkpoints)) else by_torch
    predictors, how = load(checkpoints, asked)
    models = [predictor.model for predictor in predictors]
    found_by(models[0].scheme, asked.find)
    stream = open_stream(how | ({} if asked.find is None else {"find": asked.find}))
    if asked.heatmaps is not None:
        make_folder(asked.heatmaps)
    reported: set[str] = set()
    if ray is not None:
        found = on_ray.predicted(stream, predictors[0], checkpoints, asked, how)
    else:
        items = of_scheme(stream, models[0].scheme, stream.fail, asked.find)
        found = ensemble.run(predictors, items, stream.fail, stream.ready)
    with cluster(ray):
        for item in found:
            source = str(item.record.get("box_source") or "unknown")
            if source not in reported and not item.failed:
                reported.add(source)
                for model in models:
                    _report_boxes(item.where, source, model)
            stream.write(item)
    return stream.close()


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The checkpoints, which come first and are known by how they end, and the files of records."""
    count = 0
    while count < len(arguments) and arguments[count].endswith(CHECKPOINTS):
        count += 1
    for name in arguments[count:]:
        if name.endswith(CHECKPOINTS):
            raise UsageError(f"{name} comes after records; checkpoints come first")
    return arguments[:count], arguments[count:]


def _report_boxes(where: str, source: str, model: "ModelSpec") -> None:
    """Say what is done with boxes of another source than those of the network's training."""
    from kptools.datasets.box_maps import known_target

    if source in model.box_sources:
        return
    target = known_target(model, source)
    trained = ", ".join(model.box_sources)
    if target is not None:
        report(f"kp-predict: {where}: boxes of {source} are mapped to those of {target}")
    else:
        report(
            f"kp-predict: {where}: box_source {source!r}, the network was trained on {trained}; "
            "other boxes may cost accuracy, and no map between the two is known"
        )


def _explain(checkpoints: list[str], files: list[str], form: str) -> int:
    """Print where the networks, or that in the box, come from."""
    from kptools.cli.explain import explain
    from kptools.models import box

    names = [*checkpoints, *(name for name in files if name == box.NAME)]
    for name in files:
        if name != box.NAME:
            raise UsageError(f"--explain reads no records; leave {name} out")
    explain(names, form)
    return 0


def _export(checkpoints: list[str], files: list[str], path: Path) -> int:
    """Write the one network, or that in the box, as an ONNX file."""
    from kptools.inference.export import export
    from kptools.models import box
    from kptools.models.checkpoint import load

    if files or len(checkpoints) > 1:
        extra = (files or checkpoints[1:])[0]
        raise UsageError(f"--export writes one network and reads no records; leave {extra} out")
    if checkpoints and is_onnx(checkpoints[0]):
        raise UsageError(
            f"{checkpoints[0]} is an ONNX file already; name a .safetensors checkpoint"
        )
    checkpoint = load(checkpoints[0] if checkpoints else box.path())
    export(checkpoint, path)
    if left_out := beyond_one_pass(checkpoint.model):
        report(f"kp-predict: {path} looks at a face once, without {left_out}")
    return 0


def _adapt(checkpoint: str, open_stream: OpenStream) -> int:
    """Give records that have `pred` the points that an annotator of another kind would set."""
    from kptools.inference.adapting import adapt
    from kptools.models import adapter

    made = adapter.load(checkpoint)
    stream = open_stream({})
    for item in adapt(stream, made, stream.fail):
        stream.write(item)
    return stream.close()


main = app(predict)

if __name__ == "__main__":
    main()
