"""The network in the box: 68 points, trained on drawn faces alone, as data of the package.

`examples/box.sh` makes it from nothing. Its weights are stored in half precision and used in single
precision. It stands under kptools' own licence (MIT): no photo, no annotation of one and no weights
of anybody else's went into it; where its points lie follows aggregate statistics of annotated
shapes (`kptools.datasets.synthetic`).
"""

import sys
from pathlib import Path

from kptools.errors import KptoolsError

NAME = "box"  # what it is called where a checkpoint may be named
MADE_BY = "sh examples/box.sh"  # and the file to write
DESCRIPTION = "the network in the box is taken, which learnt 68 points from drawn faces"

_FILE = Path(__file__).with_name("box.safetensors")


def path() -> str:
    """Its file. KptoolsError where the package came without it."""
    if not _FILE.exists():
        raise KptoolsError(f"{_FILE} is missing; install kptools again, or name a checkpoint")
    return str(_FILE)


def locate(name: str) -> str:
    """The file of a checkpoint that may be called `box`."""
    return path() if name == NAME else name


def name_of(path: str) -> str:
    """What the checkpoint at `path` is called in another's provenance: `box`, or its file's name
    without the folder."""
    return NAME if Path(path) == _FILE else Path(path).name


def pack(source: str, target: Path) -> None:
    """Write a checkpoint again with its weights in half precision. Of its run the settings and the
    provenance stay, and who made it; not the history of its epochs, nor the fingerprint of its
    records, which holds the paths of their pictures. Raises KptoolsError."""
    import torch  # slow, and not needed for the path alone

    from kptools.models import checkpoint

    loaded = checkpoint.load(source)
    halves = {
        name: tensor.to(torch.float16) if tensor.dtype == torch.float32 else tensor
        for name, tensor in loaded.weights.items()
    }
    run = {"made_by": MADE_BY, "settings": loaded.run.get("settings")}
    if "provenance" in loaded.run:
        run["provenance"] = loaded.run["provenance"]
    checkpoint.Checkpoint(loaded.model, halves, [], run).save(target)


if __name__ == "__main__":  # python -m kptools.models.box CHECKPOINT BOX
    pack(sys.argv[1], Path(sys.argv[2]))
