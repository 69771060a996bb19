"""kp-train: train a network on records; its validation records come out with predictions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kptools import config
from kptools.cli.common import (
    Device,
    Files,
    Precision,
    Strict,
    Workers,
    app,
    choice,
    claim_output,
    cores,
    examples,
    need_input,
)
from kptools.errors import KptoolsError, UsageError
from kptools.stream import Stream, tell

if TYPE_CHECKING:
    from kptools.checkpoint import Checkpoint
    from kptools.crops import Store
    from kptools.training import Faces

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
{config.table()}
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
    defaults = config.arch(arch)
    choice("--keep", keep, ("best", "last"))
    choice("--device", device, config.DEVICES)
    choice("--precision", precision, config.PRECISIONS)
    heatmap = defaults.loss == "bce"
    wanted_loss = choice("--loss", loss or defaults.loss, config.LOSSES)
    if (wanted_loss == "bce") != heatmap:
        valid = "bce" if heatmap else "mse, l1, smooth_l1 or wing"
        raise UsageError(f"--loss {wanted_loss} is not for {arch}; use {valid}")
    if lr is not None and not 0 < lr < 1e3:
        raise UsageError("--lr: more than 0")
    if not (sigma > 0 and pos_weight > 0):
        raise UsageError("--sigma and --pos-weight: more than 0")
    plan = config.parse_schedule(schedule) if schedule else defaults.schedule
    if lr is not None:
        plan = tuple((lr, count) for _, count in plan)
    if epochs is not None:
        plan = config.set_length(plan, epochs)
    if weights is not None and not defaults.pretrained and weights != "none":
        raise UsageError(f"--weights {weights}: there are none for {arch}; see --init")
    if not heatmap and (width is not None or stride is not None):
        raise UsageError(f"--width and --stride are for unet; {arch} has neither")
    out = Path(output or f"{arch}.safetensors")
    claim_output(out)
    for option, path in (("--init", init), ("--weights", weights)):
        if path not in (None, "", "none", "default") and not Path(path).is_file():
            raise KptoolsError(f"{option}: there is no file {path}")
    size = config.parse_size(input_size) if input_size else defaults.input

    import torch

    from kptools import checkpoint, crops, machine, models, training
    from kptools.intake import Intake

    batch = batch_size or defaults.batch
    models.try_out(arch, 1, size, batch, width=width or 64, stride=stride or 1)
    where = checkpoint.device(device)
    machine.set_threads(threads, where)
    machine.tune_process()
    mode = machine.precision_for(arch, where, precision, training=True)
    machine.set_float32(mode)
    chosen_weights = weights or ("default" if defaults.pretrained and not init else "none")
    settings = config.Settings(
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
        normalization=training.normalization(arch, chosen_weights, init),
    )
    stream = Stream(names, "-", strict=strict)

    def report(line: str) -> None:
        tell(f"kp-train: {line}")

    intake = Intake(stream, settings, int(cache_memory * 2**30), report)
    intake.read(val, val_fraction)
    with crops.threads(cores(workers)) as pool:
        faces, val_faces = intake.faces(pool)
        stores = [some.store for some in (faces, val_faces) if some is not None]
        if strict:  # stop before the work
            _finish(stores)
        with machine.memory_told(batch):
            result = _run(
                faces, val_faces, intake.scheme, settings, out, where, resume, compile_network
            )
            _finish(stores)  # a run that was finished before tells the same failures
            if val_faces is not None:
                training.predict(result.network(), val_faces, settings, result.model, where)
    for item in intake.output():
        stream.write(item)
    return stream.close()


train.__doc__ = HELP


def _finish(stores: "list[Store]") -> None:
    """Wait for all crops, so that each failure is reported."""
    for store in stores:
        store.finish()


def _run(
    faces: "Faces",
    val: "Faces | None",
    scheme: str,
    settings: config.Settings,
    out: Path,
    device: Any,
    resume: bool,
    compile_network: bool,
) -> "Checkpoint":
    """Train, with a log and a bar; or, where a run was finished, take what it made."""
    from kptools import checkpoint, training
    from kptools.cli.progress import TrainingTalk

    state = out.with_name(out.stem + ".state.safetensors")
    if resume and out.exists() and not state.exists():
        done = checkpoint.load(str(out))
        if done.run.get("fingerprint") != training.fingerprint(faces, val, settings):
            raise UsageError(
                f"{out} is of another stream or other arguments; give the same, or another -o"
            )
        tell(f"kp-train: {out} is finished")
        return done
    log, goes_on = out.with_name(out.stem + ".log.jsonl"), resume and state.exists()
    with TrainingTalk(log, settings, keep_log=goes_on) as talk:
        result = training.train(
            faces,
            val,
            scheme,
            settings,
            device=device,
            state_path=state,
            resume=resume,
            compile_network=compile_network,
            progress=talk.progress,
        )
    checkpoint.save(out, result)
    state.unlink(missing_ok=True)
    return result


main = app(train)

if __name__ == "__main__":
    main()
