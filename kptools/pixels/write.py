"""`kp-augment --write`: a record's policy sampled and applied, in an image file of its own."""

import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kptools import geometry as g
from kptools.augment.sample import sample
from kptools.augment.transform import Transform
from kptools.errors import KptoolsError
from kptools.pixels.warp import recolour, warp
from kptools.records import keys
from kptools.records.face import Face
from kptools.records.ids import FileNames
from kptools.records.keys import Record
from kptools.specs import FILL
from kptools.storage import images
from kptools.storage.files import write_output

_OF_THE_OLD_PICTURE = ("augment", "heatmap", "nme", "roll")


def write_image(record: Record, folder: Path, names: FileNames | None = None) -> Record:
    """Sample the policy at epoch 0, write the image (the same size) into the folder, and give the
    record of it: points, `visible`, `pred`, `score`, `mean` and `scale` follow, the box stays;
    `source` says which image it was made from, and how; no policy is left, nor what was measured on
    the old picture (`heatmap`, `nme`). A face with a `roll` is upright in the image, in the box of
    the upright face, and has no `roll`. `names`: those of the run, of which no two records share
    one. Raises RecordError, and KptoolsError where the disk says no."""
    face = Face.parse(record)
    transform = sample(face, 0)
    picture, _ = images.read(face.image)
    path = folder / f"{(names or FileNames()).unique_name(record)}{suffix(face.image)}"
    if path.exists() and path.samefile(face.image):
        raise KptoolsError(f"{path} is the image itself; --write needs a folder of its own")
    made = {key: value for key, value in record.items() if key not in _OF_THE_OLD_PICTURE}
    made["image"] = os.fspath(path)
    made["box"] = list(face.box) if face.roll else record["box"]
    made["size"] = [picture.width, picture.height]
    for key in ("points", "pred", "mean"):
        if key in record:
            points = g.from_list(keys.points(record, key))
            made[key] = g.to_list(transform.transform_points(points))
    for key in ("visible", "score", "pred_visible"):
        if key in record and transform.flipped and face.swap is not None:
            values = keys.per_point(record, key, len(face.swap))
            made[key] = None if values is None else transform.rename(values)
    made["source"] = _source(face, transform)
    scale = keys.scale(record)
    if scale is not None:  # a face shown larger has more pixels than the original's
        made["scale"] = scale / g.zoom(transform.matrix)
    changed = transform_picture(picture, transform)
    write_output(path, images.encode(changed, path.suffix, level=3))
    return made


def _source(face: Face, transform: Transform) -> dict[str, object]:
    """The image that the written one was made from, at first hand, and the matrix from its pixels
    to the written one's."""
    image, matrix = face.image, transform.matrix
    if face.record.get("source") is not None:
        image, rows = keys.source(face.record)
        matrix = g.compose(matrix, g.uncentred(np.array(rows)))
    return {"image": image, "matrix": g.centred(matrix).tolist()}


def suffix(image: str) -> str:
    """Of what is written in place of this image: PNG stays PNG, all else becomes JPEG."""
    return ".png" if image.lower().endswith(".png") else ".jpg"


def transform_picture(picture: Image.Image, transform: Transform) -> Image.Image:
    """A whole picture (RGB or L), transformed by the steps that training takes; the size stays."""
    pixels = torch.from_numpy(np.array(picture)).view(1, picture.height, picture.width, -1)
    x = warp(pixels, [g.invert(transform.matrix)], picture.size)
    x = recolour(x, [transform], [g.IDENTITY])
    levels = x[0].mul_(255).add_(FILL).round_().clamp_(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).squeeze(2).contiguous().numpy())
