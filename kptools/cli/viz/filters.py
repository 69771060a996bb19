"""kp-viz filters: what a convolution learned."""

from pathlib import Path
from typing import Annotated

import typer

from kptools.cli.viz.common import PICTURES, PngFile, Title, check_output


def filters(
    checkpoint: Annotated[str, typer.Argument(metavar="CKPT", help="What kp-train -o wrote.")],
    output: PngFile = Path("filters.png"),
    layer: Annotated[
        str | None, typer.Option(metavar="NAME", help="Which convolution [default: the first].")
    ] = None,
    most: Annotated[
        int,
        typer.Option("--max", min=1, max=256, help="Deep layers: so many rows and columns."),
    ] = 16,
    list_layers: Annotated[
        bool, typer.Option("--list", help="Print the convolutions and their shapes instead.")
    ] = False,
    title: Title = "",
) -> int:
    """The filters that a convolution learned. Over one channel: grey is 0, white and black the
    largest weight; over three: as RGB. A deeper layer has a row for each filter and a column for
    each input channel.

    \b
    kp-viz filters nose.safetensors -o filters.png
    kp-viz filters resnet18.safetensors --list
    kp-viz filters resnet18.safetensors --layer backbone.layer1.0.conv1 --max 24 -o deep.png
    """
    check_output(output, PICTURES)

    from kptools.models import checkpoint as checkpoints
    from kptools.storage import images
    from kptools.storage.files import write_output
    from kptools.viz import filters as tiles

    loaded = checkpoints.load(checkpoint)
    found = tiles.layers(loaded.network(share=True))
    if list_layers:
        for one in found:
            print(f"{one.name}\t{one.text}")
        return 0
    chosen = tiles.find(found, layer, checkpoint)
    write_output(output, images.encode(tiles.picture(chosen, title, most), output.suffix))
    return 0
