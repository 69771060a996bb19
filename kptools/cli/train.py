"""kp-train: train a network on records; its validation records come out with predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kptools.cli import options
from kptools.cli.edge import app, need_input
from kptools.cli.options import Device, Files, Precision, Strict, Workers, choice, cores, examples
from kptools.console import tell
from kptools.errors import KptoolsError, UsageError
from kptools.models import archs
from kptools.records.stream import Stream
from kptools.storage.files import claim_output
from kptools.training.run import finish, run
from kptools.training.settings import Settings, parse_schedule, set_length

if TYPE_CHECKING:
    pass

HELP = f"""Train on the records of split train, validate on those of split val.

Without val records a tenth of the groups is held out. The rate rises in the first epoch; what is
validated and kept is the average of the weights over the last steps. The checkpoint goes to -o, an
object an epoch to STEM.log.jsonl, and the validation records, with `pred`, to stdout.

{
    examples('''
kp-prep imm --points nose | kp-augment --rotate 15 --shift 0.05 | kp-train --arch nose | kp-eval
kp-train --arch resnet18 --epochs 5 -o r18.safetensors faces.jsonl | kp-viz grid -o val.png
kp-train --arch face --init face.safetensors --lr 1e-4 --epochs 100 -o long.safetensors faces.jsonl
''')
}

{
    examples(f'''
Defaults by architecture (any other NAME: a classifier of torchvision, as resnet18):
{archs.table()}
''')
}
"""


def train(
    inputs: Files = None,
    arch: Annotated[str, typer.Option(metavar="NAME", help="The network; see the table.")] = "",
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
    loss: Annotated[
        str | None,
        typer.Option(metavar="mse|l1|smooth_l1|wing|bce", help="Of points; bce is unet's."),
    ] = None,
    keep: Annotated[
        str, typer.Option(metavar="best|last", help="Which epoch (best: least NME on val).")
    ] = "best",
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="default|none|FILE",
            help="ImageNet's, which torchvision downloads once; nothing; or a classifier's "
            "state_dict [default: default; none with --init, and where there are none].",
        ),
    ] = None,
    init: Annotated[str, typer.Option(metavar="CKPT", help="Train on from this checkpoint.")] = "",
    average: Annotated[
        float, typer.Option(min=0, max=0.9999, help="Decay of the weights' average; 0: none.")
    ] = 0.98,
    sigma: Annotated[float, typer.Option(help="unet: of the Gaussians, pixels of the map.")] = 1.0,
    pos_weight: Annotated[float, typer.Option(help="unet: weight of the label's term.")] = 1.0,
    width: Annotated[
        int | None, typer.Option(min=1, max=256, help="unet: channels of its first block [64].")
    ] = None,
    stride: Annotated[
        int | None, typer.Option(help="unet: input pixels per map pixel, 1, 2, 4 or 8 [1].")
    ] = None,
    val: Annotated[str | None, typer.Option(metavar="FILE", help="More records, all val.")] = None,
    val_fraction: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of the train groups to hold out; 0: none."),
    ] = None,
    workers: Workers = 0,
    threads: Annotated[
        int, typer.Option(min=0, help="Of the arithmetic; 0: torch's own, but 1 on a GPU.")
    ] = 0,
    seed: Annotated[
        int, typer.Option(min=0, max=2**31, help="Of the weights' start and the order of faces.")
    ] = 0,
    device: Device = "auto",
    precision: Precision = "auto",
    compile_network: Annotated[bool, typer.Option("--compile", help="Use torch.compile.")] = False,
    cache_memory: Annotated[
        float, typer.Option(min=0, max=1e6, help="GB of crops in memory; past it, a mapped file.")
    ] = 8.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a run was cut off, or start.")
    ] = False,
    strict: Strict = False,
) -> int:
    names = need_input(inputs)
    if not arch:
        raise UsageError("--arch NAME is needed; kp-train --help has the table")
    defaults = archs.arch(arch)
    choice("--keep", keep, ("best", "last"))
    choice("--device", device, options.DEVICES)
    choice("--precision", precision, options.PRECISIONS)
    heatmap = defaults.loss == "bce"
    wanted_loss = choice("--loss", loss or defaults.loss, archs.LOSSES)
    if (wanted_loss == "bce") != heatmap:
        valid = "bce" if heatmap else "mse, l1, smooth_l1 or wing"
        raise UsageError(f"--loss {wanted_loss} is not for {arch}; use {valid}")
    if lr is not None and not 0 < lr < 1e3:
        raise UsageError("--lr: more than 0")
    if not (sigma > 0 and pos_weight > 0):
        raise UsageError("--sigma and --pos-weight: more than 0")
    plan = parse_schedule(schedule) if schedule else defaults.schedule
    if lr is not None:
        plan = tuple((lr, count) for _, count in plan)
    if epochs is not None:
        plan = set_length(plan, epochs)
    if weights is not None and not defaults.pretrained and weights != "none":
        raise UsageError(f"--weights {weights}: there are none for {arch}; see --init")
    if not heatmap and (width is not None or stride is not None):
        raise UsageError(f"--width and --stride are for unet; {arch} has neither")
    out = Path(output or f"{arch}.safetensors")
    claim_output(out)
    for option, path in (("--init", init), ("--weights", weights)):
        if path not in (None, "", "none", "default") and not Path(path).is_file():
            raise KptoolsError(f"{option}: there is no file {path}")
    size = options.parse_size(input_size) if input_size else defaults.input

    import torch

    from kptools import runtime
    from kptools.cli.bars import TrainingTalk
    from kptools.models import build
    from kptools.pixels.cache import decoding_threads
    from kptools.training import start, validate
    from kptools.training.gather import Intake

    batch = batch_size or defaults.batch
    build.try_out(arch, 1, size, batch, width=width or 64, stride=stride or 1)
    where = runtime.device(device)
    runtime.set_threads(threads, where)
    runtime.tune_process()
    mode = runtime.precision_for(arch, where, precision, training=True)
    runtime.set_float32(mode)
    chosen_weights = weights or ("default" if defaults.pretrained and not init else "none")
    settings = Settings(
        arch=arch,
        input=size,
        grey=defaults.grey,
        batch=batch,
        loss=wanted_loss,
        schedule=plan,
        margin=defaults.margin if margin is None else margin,
        keep=keep,
        weights=chosen_weights,
        init=init,
        seed=seed,
        average=average,
        sigma=sigma,
        pos_weight=pos_weight,
        width=width or 64,
        stride=stride or 1,
        precision=mode,
        threads=torch.get_num_threads(),
        normalization=start.normalization(arch, chosen_weights, init),
    )
    stream = Stream(names, "-", strict=strict)

    def report(line: str) -> None:
        tell(f"kp-train: {line}")

    intake = Intake(stream, settings, int(cache_memory * 2**30), report)
    intake.read(val, val_fraction)
    with decoding_threads(cores(workers)) as pool:
        faces, val_faces = intake.faces(pool)
        stores = [some.store for some in (faces, val_faces) if some is not None]
        if strict:  # stop before the work
            finish(stores)
        with runtime.memory_told(batch):
            result = run(
                faces,
                val_faces,
                intake.scheme,
                settings,
                out,
                where,
                resume,
                compile_network,
                TrainingTalk,
            )
            finish(stores)  # a run that was finished before tells the same failures
            if val_faces is not None:
                validate.predict(result.network(), val_faces, settings, result.model, where)
    for item in intake.output():
        stream.write(item)
    return stream.close()


train.__doc__ = HELP


main = app(train)

if __name__ == "__main__":
    main()
