"""`kp-augment --write`: a record's policy sampled and applied, or its face aligned, in an image
file of its own."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image, ImageOps

from kptools import geometry as g
from kptools.augment import aligned_crop
from kptools.augment.sample import sample
from kptools.augment.transform import Transform
from kptools.errors import KptoolsError, RecordError
from kptools.pixels.warp import recolour, warp
from kptools.records import keys, policy
from kptools.records.face import Face
from kptools.records.keys import Record
from kptools.records.points import points_array
from kptools.specs import FILL
from kptools.storage import images, remote
from kptools.storage.files import write_output
from kptools.units import Box, Size

# Writes a file, whole or not at all. KptoolsError where the disk says no
Save: TypeAlias = Callable[[Path, bytes], None]

_OF_THE_OLD_PICTURE = ("augment", "heatmap", "nme", "roll")


def write_image(record: Record, folder: Path, save: Save = write_output) -> Record:
    """Sample the policy at epoch 0, write the image (the same size) into the folder, and give the
    record of it: points, `visible`, `pred`, `score`, `mean` and `scale` follow, the box stays;
    `source` says which image it was made from, and how; no policy is left, nor what was measured on
    the old picture (`heatmap`, `nme`). A face with a `roll` is upright in the image, in the box of
    the upright face, and has no `roll`. Raises RecordError, and KptoolsError where the disk says
    no."""
    face = Face.parse(record)
    transform = sample(face, 0)
    picture, _ = images.read(face.image)
    path = _new_file(record, folder)
    made = _moved(record, transform, path, picture.size)
    if face.roll:
        made["box"] = list(face.box)
    changed = transform_picture(picture, transform)
    save(path, images.encode(changed, path.suffix, level=3))
    return made


def write_aligned(record: Record, folder: Path, size: Size, save: Save = write_output) -> Record:
    """Write the face's aligned crop (`augment.aligned_crop`) of this size (width, height) into the
    folder, and give the record of it, which is as that of `write_image`. The box, where there is
    one, is moved and scaled with the face, and not turned; one that was the whole image is the
    whole crop. `roll` goes, as the face is level. Raises RecordError, also where the record has a
    policy, and KptoolsError where the disk says no."""
    image = keys.image(record)
    if policy.stages(record):
        raise RecordError(
            "bad_record",
            "it has a policy (`augment`), which --align does not sample; write those images first",
        )
    transform = Transform(aligned_crop.matrix(record, size), is_identity=False)
    box = None
    if record.get("box") is not None:
        whole = record.get("box_source") == "image"
        box = g.whole_image(size) if whole else _moved_box(keys.box(record), transform.matrix)
    picture = cut_out(image, transform.matrix, size)
    path = _new_file(record, folder)
    made = _moved(record, transform, path, size)
    if box is not None:
        made["box"] = list(box)
    save(path, images.encode(picture, path.suffix, level=3))
    return made


def _new_file(record: Record, folder: Path) -> Path:
    """The file for what is made of a record. KptoolsError where that is its image itself."""
    image = keys.image(record)
    path = folder / f"{keys.file_stem(record)}{suffix(image)}"
    if not remote.is_remote(image) and path.exists() and path.samefile(image):
        raise KptoolsError(f"{path} is the image itself; --write needs a folder of its own")
    return path


def _moved(record: Record, transform: Transform, path: Path, size: Size) -> Record:
    """The record of the picture at `path`, of this size; its box is that of `record`."""
    made = {key: value for key, value in record.items() if key not in _OF_THE_OLD_PICTURE}
    made["image"] = os.fspath(path)
    made["size"] = list(size)
    for key in ("points", "pred", "mean"):
        if key in record:
            points = points_array(record, key)
            made[key] = g.to_list(transform.transform_points(points))
    for key in ("visible", "score", "pred_visible"):
        if key in record and transform.flipped and transform.swap is not None:
            values = keys.per_point(record, key, len(transform.swap))
            made[key] = None if values is None else transform.rename(values)
    made["source"] = _source(record, transform)
    scale = keys.scale(record)
    if scale is not None:  # a face shown larger has more pixels than the original's
        made["scale"] = scale / g.zoom(transform.matrix)
    return made


def _moved_box(box: Box, m: g.Matrix) -> Box:
    """The box about where `m` brings its centre, scaled as `m` scales, its sides level."""
    x, y = (m[:, :2] @ g.centre(box) + m[:, 2]).tolist()
    half_width, half_height = (g.zoom(m) * half for half in g.half_extent(box, 0.0))
    return g.from_edges(x - half_width, y - half_height, x + half_width, y + half_height)


def _source(record: Record, transform: Transform) -> dict[str, object]:
    """The image that the written one was made from, at first hand, and the matrix from its pixels
    to the written one's."""
    image, matrix = keys.image(record), transform.matrix
    if record.get("source") is not None:
        image, rows = keys.source(record)
        matrix = g.compose(matrix, g.uncentred(np.array(rows)))
    return {"image": image, "matrix": g.centred(matrix).tolist()}


def suffix(image: str) -> str:
    """Of what is written in place of this image: PNG stays PNG, all else becomes JPEG."""
    return ".png" if remote.path_of(image).lower().endswith(".png") else ".jpg"


def transform_picture(picture: Image.Image, transform: Transform) -> Image.Image:
    """A whole picture (RGB or L), transformed by the steps that training takes; the size stays."""
    pixels = torch.from_numpy(np.array(picture)).view(1, picture.height, picture.width, -1)
    x = warp(pixels, [g.invert(transform.matrix)], picture.size)
    x = recolour(x, [transform], [g.IDENTITY])
    levels = x[0].mul_(255).add_(FILL).round_().clamp_(0, 255).to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).squeeze(2).contiguous().numpy())


def cut_out(path: str, m: g.Matrix, size: Size) -> Image.Image:
    """The picture (RGB) of this size that `m` (2, 3), continuous, brings an image file into; it
    turns, scales and moves. What the file does not have is mid-grey. Resampled twice at most: where
    that shrinks, to the picture's scale, antialiased, then turned; bicubic both times. Raises
    RecordError."""
    zoom = g.zoom(m)
    shrink = next(s for s in (8, 4, 2, 1) if s * zoom <= 1 or s == 1)
    picture, to_picture = images.read(path, shrink=shrink)
    m = g.compose(m, g.invert(to_picture))
    zoom = min(1.0, g.zoom(m))

    # the part of the file that is seen, and what the filters look at about it
    back = g.invert(m)
    corners = np.array([(0, 0), (size[0], 0), size, (0, size[1])]) @ back[:, :2].T + back[:, 2]
    x0, y0 = np.floor(corners.min(axis=0) - 4 / zoom).astype(int).clip(0).tolist()
    x1, y1 = np.ceil(corners.max(axis=0) + 4 / zoom).astype(int).clip(0, picture.size).tolist()
    if x0 >= x1 or y0 >= y1:
        raise RecordError("bad_points", f"the face lies outside {path}; fix its points")
    part, m = picture.crop((x0, y0, x1, y1)), g.compose(m, g.translation(x0, y0))
    if zoom < 1:
        small = (max(1, round(zoom * part.width)), max(1, round(zoom * part.height)))
        m = g.compose(m, g.scaling(part.width / small[0], part.height / small[1]))
        part = part.resize(small, Image.Resampling.BICUBIC)
    # a rim, so that the edge of the file is smooth
    part, m = ImageOps.expand(part, 4, (FILL,) * 3), g.compose(m, g.translation(-4, -4))
    data = tuple(g.invert(m).ravel().tolist())
    affine, filtered = Image.Transform.AFFINE, Image.Resampling.BICUBIC
    return part.transform(size, affine, data, filtered, fillcolor=(FILL,) * 3)
