"""`kp-augment --write`: a record's policy drawn into an image file of its own."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kptools import geometry as g
from kptools.augment import sample, transform
from kptools.augment.transform import Draw
from kptools.errors import KptoolsError
from kptools.pixels.warp import recolour, warp
from kptools.records import keys, policy
from kptools.records.keys import Record
from kptools.records.seen import FileNames
from kptools.specs import FILL
from kptools.storage import images

_OF_THE_OLD_PICTURE = ("augment", "heatmap", "nme")


def write_image(record: Record, folder: Path, names: FileNames | None = None) -> Record:
    """Sample the policy at epoch 0, write the image (the same size) into the folder, and give the
    record of it: points, `visible`, `pred`, `score`, `mean` and `scale` follow, the box stays;
    `source` says which image it was made from, and how; no policy is left, nor what was measured on
    the old picture (`heatmap`, `nme`). `names`: those of the run, of which no two records share
    one. Raises RecordError, and KptoolsError where the disk says no."""
    keys.box(record)
    stages = policy.policy(record)
    swap = policy.swap_table(record) if policy.flips(stages) else None
    drawn = sample.draw(record, 0)
    picture, _ = images.read(keys.image(record))
    path = folder / f"{(names or FileNames()).take(record)}{suffix(record)}"
    if path.exists() and path.samefile(keys.image(record)):
        raise KptoolsError(f"{path} is the image itself; --write needs a folder of its own")
    made = {key: value for key, value in record.items() if key not in _OF_THE_OLD_PICTURE}
    made["image"] = os.fspath(path)
    made["size"] = [picture.width, picture.height]
    for key in ("points", "pred", "mean"):
        if key in record:
            points = g.from_list(keys.points(record, key))
            made[key] = g.to_list(transform.follow(points, drawn, swap))
    for key in ("visible", "score", "pred_visible"):
        if key in record and drawn.flipped and swap is not None:
            values = keys.per_point(record, key, len(swap))
            made[key] = [values[i] for i in swap] if values is not None else None
    made["source"] = _source(record, drawn)
    scale = keys.scale(record)
    if scale is not None:  # a face shown larger has more pixels than the original's
        made["scale"] = scale / g.zoom(drawn.matrix)
    try:
        images.save(whole(picture, drawn), path)
    except OSError as error:
        raise KptoolsError(f"cannot write {path}: {error.strerror}; make room there") from None
    return made


def _source(record: Record, drawn: Draw) -> dict[str, object]:
    """The image that the written one was made from, at first hand, and the matrix from its pixels
    to the written one's."""
    image, matrix = keys.image(record), drawn.matrix
    if record.get("source") is not None:
        image, rows = keys.source(record)
        matrix = g.compose(matrix, g.uncentred(np.array(rows)))
    return {"image": image, "matrix": g.centred(matrix).tolist()}


def suffix(record: Record) -> str:
    return ".png" if keys.image(record).lower().endswith(".png") else ".jpg"


def whole(picture: Image.Image, drawn: Draw) -> Image.Image:
    """A draw applied to a whole picture (RGB or L), by the same steps as `look`; the size stays."""
    pixels = torch.from_numpy(np.array(picture)).view(1, picture.height, picture.width, -1)
    x = warp(pixels, [g.invert(drawn.matrix)], picture.size)
    x = recolour(x, [drawn], [g.IDENTITY])
    levels = x[0].mul_(255).add_(FILL).round_().clamp_(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).squeeze(2).contiguous().numpy())
