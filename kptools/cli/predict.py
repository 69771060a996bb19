"""kp-predict: a network's keypoints for each face, in the pixels of its file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from kptools.cli.common import (
    Device,
    Expect,
    Files,
    Output,
    Precision,
    Resume,
    Strict,
    Workers,
    app,
    choice,
    cores,
    make_folder,
    need_input,
)
from kptools.errors import RecordError, UsageError
from kptools.stream import Item, Stream, tell


def predict(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="What kp-train -o wrote.")],
    files: Files = None,
    batch_size: Annotated[int, typer.Option(min=1, max=4096, help="Faces at a time.")] = 32,
    decode: Annotated[
        str | None,
        typer.Option(
            metavar="argmax|quarter|dark|softargmax",
            help="From heatmaps to points [default: dark].",
        ),
    ] = None,
    heatmaps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save each face's maps there (float16).")
    ] = None,
    workers: Workers = 0,
    threads: Annotated[
        int, typer.Option(min=0, help="Of the arithmetic; 0: torch's own, but 1 on a GPU.")
    ] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    output: Output = "-",
    resume: Resume = False,
    expect: Expect = None,
    strict: Strict = False,
) -> int:
    """Add to each record `pred` (K points), `mean` (the training mean shape in its box) and, from
    heatmaps, `score` (the probability at each peak).

    \b
    kp-predict model.safetensors < photos.jsonl > preds.jsonl
    kp-prep photos holiday/ | kp-predict model.safetensors | kp-viz grid -o holiday.png
    kp-predict unet.safetensors --decode softargmax -o preds.jsonl --resume faces.jsonl
    """
    from kptools import config

    if decode is not None:
        choice("--decode", decode, config.DECODERS)
    choice("--device", device, config.DEVICES)
    choice("--precision", precision, config.PRECISIONS)
    if checkpoint.endswith((".jsonl", ".json")):
        raise UsageError(f"{checkpoint} looks like records; the checkpoint comes first")
    names = need_input(files)

    from kptools import checkpoint as checkpoints
    from kptools import inference, machine, runfile

    where = checkpoints.device(device)
    machine.set_threads(threads, where)
    machine.tune_process()
    loaded = checkpoints.load(checkpoint)
    model = loaded.model
    if not model.heatmap and (heatmaps is not None or decode is not None):
        raise UsageError(f"{checkpoint} ({model.arch}) makes no heatmaps; leave the option out")
    mode = machine.precision_for(model.arch, where, precision)
    machine.set_float32(mode)
    run: dict[str, Any] = {
        "tool": "kp-predict",
        "decode": decode or config.DECODER,
        "precision": mode,
    }
    run["heatmaps"] = str(heatmaps.resolve()) if heatmaps is not None else None
    if output != "-":
        run["checkpoint"] = runfile.hash_of_file(checkpoint)
    stream = Stream(names, output, strict=strict, resume=resume, run=run, expect=expect)
    if heatmaps is not None:
        make_folder(heatmaps)
    with machine.memory_told(batch_size):
        predictor = inference.Predictor(
            loaded.network(),
            model,
            device=where,
            precision=mode,
            batch=batch_size,
            workers=cores(workers),
            decoder=decode or config.DECODER,
            maps=heatmaps,
        )
        warned = False
        for item in predictor.run(_for_model(stream, model.scheme), stream.fail, stream.ready):
            source = item.record.get("box_source")
            if not (warned or item.failed) and str(source or "unknown") not in model.box_sources:
                warned = True
                trained = ", ".join(model.box_sources)
                tell(
                    f"kp-predict: {item.where}: box_source {source!r}, the network was trained on "
                    f"{trained}; other boxes may cost accuracy (iBUG's dataset boxes are dlib's)"
                )
            stream.write(item)
    return stream.close()


def _for_model(stream: Stream, scheme: str) -> Iterator[Item]:
    """The items; a face without truth and scheme takes the network's scheme."""
    from kptools import records

    for item in stream:
        record = item.record
        points = record.get("points")
        if not item.failed and points is None and "scheme" not in record:
            record["scheme"] = scheme
        if not item.failed and records.scheme_name(record) != scheme:
            theirs = records.scheme_name(record)
            stream.fail(
                item, RecordError("bad_scheme", f"its scheme is {theirs}, the network's {scheme}")
            )
        yield item


main = app(predict)

if __name__ == "__main__":
    main()
