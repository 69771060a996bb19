"""kp-augment: add an augmentation policy to each record, or write augmented images."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kptools.cli.edge import app, need_input
from kptools.cli.options import (
    Expect,
    Files,
    OnRay,
    Output,
    Part,
    Resume,
    Strict,
    choice,
    one_of,
    parse_size,
    refuse,
)
from kptools.cli.own_schemes import knows_schemes
from kptools.cli.streams import open_stream
from kptools.errors import RecordError, UsageError
from kptools.records.ray_map import cluster
from kptools.records.shard import WHOLE
from kptools.records.stream import Stream
from kptools.storage.files import make_folder
from kptools.units import Size


def _share(text: str) -> Any:
    return typer.Option(min=0, help=text)


@knows_schemes
def augment(
    files: Files = None,
    preset: Annotated[
        str | None,
        one_of(("face",), help="A policy for faces in photos; the other options change it."),
    ] = None,
    rotate: Annotated[float | None, _share("Degrees to either side, about the box.")] = None,
    shift: Annotated[float | None, _share("Fraction of sqrt(box area), along each axis.")] = None,
    scale: Annotated[float | None, _share("Fraction: up to 1 + F times larger or smaller.")] = None,
    flip: Annotated[float | None, _share("Probability of a mirror image.")] = None,
    brightness: Annotated[float | None, _share("Fraction.")] = None,
    contrast: Annotated[float | None, _share("Fraction, about mid-grey.")] = None,
    saturation: Annotated[float | None, _share("Fraction.")] = None,
    hue: Annotated[float | None, _share("Fraction of the colour wheel, up to 0.5.")] = None,
    gray: Annotated[float | None, _share("Probability of a grey image.")] = None,
    blur: Annotated[float | None, _share("Largest standard deviation, pixels of the file.")] = None,
    noise: Annotated[float | None, _share("Largest standard deviation, fraction of white.")] = None,
    erase: Annotated[float | None, _share("Probability of a filled rectangle in the box.")] = None,
    copies: Annotated[int, typer.Option(min=1, max=10_000, help="Records for each record.")] = 1,
    seed: Annotated[int, typer.Option(min=0, max=2**31, help="Seed of the augmentation.")] = 0,
    write: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Sample now: write images there, with no policy left."),
    ] = None,
    align: Annotated[
        str | None,
        typer.Option(metavar="WxH", help="With --write: aligned crops of the faces, so large."),
    ] = None,
    ray: OnRay = None,
    output: Output = "-",
    resume: Resume = False,
    expect: Expect = None,
    shard: Part = WHOLE,
    strict: Strict = False,
) -> int:
    """Add to each record what may happen to its face; it is sampled anew in each epoch of
    kp-train. No pixels are read, unless --write asks for images; --ray shares that work over many
    machines.

    With --align what is written is a crop of each face: level, and scaled so that eyes and mouth
    lie as those of a mean face do. It goes by `points`, or by `pred` where an eye has none.

    \b
    kp-prep synth --count 100 | kp-augment --rotate 15 --flip 0.5 | kp-viz grid -o grid.png
    kp-prep ibug | kp-augment --preset face --rotate 45 | kp-train -o model.safetensors
    kp-augment --copies 8 --rotate 10 --flip 0.5 < faces.jsonl | kp-predict model.safetensors |
        kp-eval --merge mean
    kp-augment --rotate 30 --write turned < faces.jsonl > turned.jsonl
    kp-augment --align 256x256 --write crops < preds.jsonl > crops.jsonl
    kp-augment --preset face --write copies --ray auto < faces.jsonl > copies.jsonl
    """
    given = locals()

    from kptools.records.policy import OPERATIONS, PRESETS

    if preset is not None:
        choice("--preset", preset, PRESETS)
    base = PRESETS[preset] if preset is not None else {}
    stage: dict[str, Any] = {"seed": seed}
    for name, (bound, meaning) in OPERATIONS.items():
        value = given[name] if given[name] is not None else base.get(name, 0.0)
        if value > bound:
            raise UsageError(f"--{name} {value:g}: at most {bound:g} ({meaning})")
        if value:
            stage[name] = value
    if write is None:
        refuse({"--ray": ray}, "without --write DIR there is no work to share; leave it out")
    crop = _crop_size(align, write, stage, copies) if align is not None else None
    run = {"tool": "kp-augment", "stage": stage, "copies": copies}
    run["write"] = str(write.resolve()) if write is not None else None
    if crop is not None:
        run["align"] = list(crop)
    stream = open_stream(
        need_input(files),
        output,
        strict=strict,
        resume=resume,
        lines_per_record=copies,
        run=run,
        expect=expect,
        shard=shard,
    )
    if write is not None:
        _write_images(stream, stage, copies, write, crop, ray)
    elif len(stage) == 1 and copies == 1:
        for item in stream:
            stream.write(item)
    else:
        _add_policy(stream, stage if len(stage) > 1 else None, copies)
    return stream.close()


def _add_policy(stream: Stream, stage: dict[str, Any] | None, copies: int) -> None:
    """The policy is spliced into the line: one parse a record, and no dump."""
    import orjson

    from kptools.records import keys, policy

    fresh = b',"augment":[' + orjson.dumps(stage) + b"]}" if stage else b"}"
    flips = stage is not None and "flip" in stage
    for item in stream:
        if item.failed:
            stream.write(item)
            continue
        record = item.record
        try:
            keys.box(record)
            if flips:
                policy.swap_table(record)
            stages = policy.stages(record)
            copy = keys.copy_index(record)
            if copies > 1 and "copy" not in record:
                keys.identity(record)
        except RecordError as error:
            stream.write(stream.fail(item, error))
            continue
        if copies == 1 and "augment" not in record and item.raw is not None and not item.changed:
            stream.write_line(item.raw[:-1] + fresh)
            continue
        for index in range(copies):
            if copies > 1:
                record["copy"] = copy * copies + index
            if stage is not None:
                record["augment"] = [*stages, stage]
            stream.write(item.derive(record))


def _crop_size(align: str, write: Path | None, stage: dict[str, Any], copies: int) -> Size:
    """What --align says, where nothing else speaks against it."""
    try:
        size = parse_size(align)
    except UsageError as error:
        raise UsageError(f"--align {error}") from None
    if write is None:
        raise UsageError(f"--align {align} writes crops of faces; say where, with --write DIR")
    if len(stage) > 1 or copies > 1:
        raise UsageError(
            f"--align {align} goes with no policy and no --copies; pipe its records into another "
            "kp-augment"
        )
    return size


def _write_images(
    stream: Stream,
    stage: dict[str, Any],
    copies: int,
    folder: Path,
    crop: Size | None,
    ray: str | None,
) -> None:
    from kptools.pixels.copies import Copies, write_copies

    make_folder(folder)
    wanted = Copies(folder, copies, stage if len(stage) > 1 else None, crop)
    with cluster(ray):
        for item in write_copies(wanted, stream, on_ray=ray is not None):
            stream.write(item)


main = app(augment)

if __name__ == "__main__":
    main()
