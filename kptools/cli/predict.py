"""kp-predict: a network's keypoints for each face, in the pixels of its file."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kptools.cli.edge import app, need_input
from kptools.cli.options import (
    Device,
    Expect,
    Files,
    Output,
    Precision,
    Resume,
    Strict,
    Threads,
    Workers,
    choice,
    cores,
    one_of,
)
from kptools.console import report
from kptools.errors import UsageError
from kptools.models.codecs import DECODER, DECODERS
from kptools.records.stream import Stream
from kptools.storage.files import make_folder


def predict(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="What kp-train -o wrote.")],
    files: Files = None,
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
    heatmaps: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Save each face's maps there (float16).")
    ] = None,
    workers: Workers = 0,
    threads: Threads = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    output: Output = "-",
    resume: Resume = False,
    expect: Expect = None,
    strict: Strict = False,
) -> int:
    """Add to each record `pred` (K points), `score` (how sure the network is of each, 0 to 1) and
    `mean` (the training mean shape in its box).

    \b
    kp-predict model.safetensors < photos.jsonl > preds.jsonl
    kp-prep photos holiday/ | kp-predict model.safetensors | kp-viz grid -o holiday.png
    kp-predict model.safetensors faces.jsonl | kp-predict adapter.safetensors > adapted.jsonl
    kp-predict unet.safetensors --decode softargmax -o preds.jsonl --resume faces.jsonl
    """
    if decode is not None:
        choice("--decode", decode, DECODERS)
    if checkpoint.endswith((".jsonl", ".json")):
        raise UsageError(f"{checkpoint} looks like records; the checkpoint comes first")
    names = need_input(files)

    from kptools.models import adapter

    if adapter.is_adapter(checkpoint):
        of_pixels = {"--decode": decode, "--heatmaps": heatmaps, "--passes": passes, "--flip": flip}
        for option, value in of_pixels.items():
            if value is not None:
                raise UsageError(f"{option}: {checkpoint} is an adapter, which sees no image")
        return _adapt(checkpoint, names, output, strict=strict, resume=resume, expect=expect)

    from kptools import runtime
    from kptools.inference.passes import resolve
    from kptools.inference.predictor import Predictor, default_batch, of_scheme
    from kptools.models.checkpoint import load
    from kptools.storage.run_file import hash_of_file

    where = runtime.device(device)
    runtime.set_threads(threads, where)
    loaded = load(checkpoint)
    model, network = loaded.model, loaded.network(share=True)
    runtime.tune_process()  # all that the network needs is imported now
    if not network.head.decoders and (heatmaps is not None or decode is not None):
        raise UsageError(f"{checkpoint} ({model.arch}) makes no heatmaps; leave the option out")
    if heatmaps is not None:  # maps are of a face in its box, and `pred` is what is read from them
        if passes == 2 or flip:
            raise UsageError("--heatmaps saves the maps of one pass; leave --passes and --flip out")
        if model.passes == 2 and passes is None:
            report("kp-predict: --heatmaps: the network looks at each face once, not twice")
        passes, flip = 1, False
    how = resolve(model, count=passes, flip=flip)
    mode = runtime.precision_for(where, precision)
    runtime.set_float32(mode)
    run: dict[str, Any] = {
        "tool": "kp-predict",
        "decode": decode or DECODER,
        "precision": mode,
        "passes": how.count,
        "flip": how.swap is not None,
        "heatmaps": str(heatmaps.resolve()) if heatmaps is not None else None,
    }
    if output != "-":
        run["checkpoint"] = hash_of_file(checkpoint)
    stream = Stream(names, output, strict=strict, resume=resume, run=run, expect=expect)
    if heatmaps is not None:
        make_folder(heatmaps)
    batch = batch_size or default_batch(where)
    with runtime.report_out_of_memory(batch):
        predictor = Predictor(
            network,
            model,
            device=where,
            precision=mode,
            batch=batch,
            workers=cores(workers),
            decoder=decode,
            maps=heatmaps,
            passes=how,
        )
        warned = False
        items = of_scheme(stream, model.scheme, stream.fail)
        for item in predictor.run(items, stream.fail, stream.ready):
            source = item.record.get("box_source")
            if not (warned or item.failed) and str(source or "unknown") not in model.box_sources:
                warned = True
                trained = ", ".join(model.box_sources)
                report(
                    f"kp-predict: {item.where}: box_source {source!r}, the network was trained on "
                    f"{trained}; other boxes may cost accuracy (iBUG's dataset boxes are dlib's)"
                )
            stream.write(item)
    return stream.close()


def _adapt(
    checkpoint: str,
    names: list[str],
    output: str,
    *,
    strict: bool,
    resume: bool,
    expect: int | None,
) -> int:
    """Give records that have `pred` the points that an annotator of another kind would set."""
    from kptools.inference.adapting import adapt
    from kptools.models import adapter
    from kptools.storage.run_file import hash_of_file

    made = adapter.load(checkpoint)
    run: dict[str, Any] = {"tool": "kp-predict"}
    if output != "-":
        run["checkpoint"] = hash_of_file(checkpoint)
    stream = Stream(names, output, strict=strict, resume=resume, run=run, expect=expect)
    for item in adapt(stream, made, stream.fail):
        stream.write(item)
    return stream.close()


main = app(predict)

if __name__ == "__main__":
    main()
