"""kp-heatmap: labels of points as files, and points from files of heatmaps."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kptools.cli.edge import may_allow_failures, need_input, new_app, run, with_version
from kptools.cli.options import (
    Expect,
    Files,
    Output,
    Part,
    Resume,
    Strict,
    choice,
    one_of,
    parse_size,
)
from kptools.cli.own_schemes import knows_schemes
from kptools.cli.streams import open_stream
from kptools.errors import RecordError, UsageError
from kptools.models.codecs import DECODER, DECODERS
from kptools.records.shard import WHOLE
from kptools.storage.files import make_folder

tool = new_app()


@tool.callback()
@with_version
def _kp_heatmap() -> None:
    """Heatmaps as files: encode writes labels, decode reads points.

    \b
    kp-heatmap encode --out maps --pictures < faces.jsonl | kp-heatmap decode --decode dark
    kp-predict unet.safetensors --heatmaps maps < faces.jsonl > mapped.jsonl
    kp-heatmap decode --decode quarter mapped.jsonl | kp-eval
    """


Out = Annotated[Path, typer.Option(metavar="DIR", help="For the .npy files.")]


@tool.command()
@may_allow_failures
@knows_schemes
def encode(
    files: Files = None,
    out: Out = Path("heatmaps"),
    size: Annotated[str, typer.Option(metavar="WxH", help="Of the maps.")] = "200x200",
    margin: Annotated[
        float, typer.Option(min=0, max=10, help="Added to each side of the box, of sqrt(box area).")
    ] = 0.25,
    sigma: Annotated[float, typer.Option(help="Of the Gaussians, pixels of the map.")] = 1.0,
    pictures: Annotated[
        bool, typer.Option("--pictures", help="Beside each .npy a .png: all its labels in one.")
    ] = False,
    output: Output = "-",
    resume: Resume = False,
    expect: Expect = None,
    shard: Part = WHOLE,
    strict: Strict = False,
) -> int:
    """Write the labels that the loss of kp-train --arch unet stands for: a Gaussian about each
    point, on the box and its margin. They go to DIR/ID.npy as float16 logits, (1, K, H, W), and
    the record gets `heatmap`. The map of a point that is not annotated is empty.

    \b
    kp-prep synth --count 4 | kp-heatmap encode --out maps --pictures > mapped.jsonl
    """
    if not sigma > 0:
        raise UsageError("--sigma: more than 0")
    map_size = parse_size(size)
    names = need_input(files)

    from kptools.inference import heatmap_files
    from kptools.records.ids import FileNames

    run: dict[str, Any] = {
        "tool": "kp-heatmap encode",
        "out": str(out.resolve()),
        "size": list(map_size),
    }
    run |= {"margin": margin, "sigma": sigma, "pictures": pictures}
    stream = open_stream(
        names, output, strict=strict, resume=resume, run=run, expect=expect, shard=shard
    )
    make_folder(out)
    file_names = FileNames()
    for item in stream:
        if not item.failed:
            try:
                saved = heatmap_files.encode(
                    item.record, out, file_names, map_size, margin, sigma, pictures
                )
                item.update({"heatmap": saved})
            except RecordError as error:
                stream.fail(item, error)
        stream.write(item)
    return stream.close()


@tool.command()
@may_allow_failures
@knows_schemes
def decode(
    files: Files = None,
    method: Annotated[str, one_of(DECODERS, "--decode")] = DECODER,
    output: Output = "-",
    resume: Resume = False,
    expect: Expect = None,
    shard: Part = WHOLE,
    strict: Strict = False,
) -> int:
    """Read the maps that `heatmap` names and set `pred` and `score` from them: the decoders can be
    compared on one set of maps, without the network.

    \b
    kp-heatmap decode --decode argmax mapped.jsonl | kp-eval
    """
    choice("--decode", method, DECODERS)
    names = need_input(files)

    from kptools.inference import heatmap_files

    run = {"tool": "kp-heatmap decode", "decode": method}
    stream = open_stream(
        names, output, strict=strict, resume=resume, run=run, expect=expect, shard=shard
    )
    for item in stream:
        if not item.failed:
            try:
                found = heatmap_files.decode(item.record, method)
                item.update(found, without=("pred_visible", "nme"))
            except RecordError as error:
                stream.fail(item, error)
        stream.write(item)
    return stream.close()


def main() -> None:
    run(tool)


if __name__ == "__main__":
    main()
