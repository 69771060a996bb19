"""`kp-augment --write`: a record's policy drawn into an image file of its own."""

import os
from pathlib import Path

import numpy as np

from kptools import augment, crops, images, records
from kptools import geometry as g
from kptools.augment import Draw
from kptools.errors import KptoolsError
from kptools.records import Record
from kptools.seen import FileNames

_OF_THE_OLD_PICTURE = ("augment", "heatmap", "nme")


def write_image(record: Record, folder: Path, names: FileNames | None = None) -> Record:
    """Sample the policy at epoch 0, write the image (the same size) into the folder, and give the
    record of it: points, `visible`, `pred`, `score`, `mean` and `scale` follow, the box stays;
    `source` says which image it was made from, and how; no policy is left, nor what was measured on
    the old picture (`heatmap`, `nme`). `names`: those of the run, of which no two records share
    one. Raises RecordError, and KptoolsError where the disk says no."""
    records.box(record)
    stages = augment.policy(record)
    swap = augment.swap_table(record) if augment.flips(stages) else None
    drawn = augment.draw(record, 0)
    picture, _ = images.read(records.image(record))
    path = folder / f"{(names or FileNames()).take(record)}{suffix(record)}"
    if path.exists() and path.samefile(records.image(record)):
        raise KptoolsError(f"{path} is the image itself; --write needs a folder of its own")
    made = {key: value for key, value in record.items() if key not in _OF_THE_OLD_PICTURE}
    made["image"] = os.fspath(path)
    made["size"] = [picture.width, picture.height]
    for key in ("points", "pred", "mean"):
        if key in record:
            points = g.from_list(records.points(record, key))
            made[key] = g.to_list(augment.follow(points, drawn, swap))
    for key in ("visible", "score", "pred_visible"):
        if key in record and drawn.flipped and swap is not None:
            values = records.per_point(record, key, len(swap))
            made[key] = [values[i] for i in swap] if values is not None else None
    made["source"] = _source(record, drawn)
    scale = records.scale(record)
    if scale is not None:  # a face shown larger has more pixels than the original's
        made["scale"] = scale / g.zoom(drawn.matrix)
    try:
        images.save(crops.whole(picture, drawn), path)
    except OSError as error:
        raise KptoolsError(f"cannot write {path}: {error.strerror}; make room there") from None
    return made


def _source(record: Record, drawn: Draw) -> dict[str, object]:
    """The image that the written one was made from, at first hand, and the matrix from its pixels
    to the written one's."""
    image, matrix = records.image(record), drawn.matrix
    if record.get("source") is not None:
        image, rows = records.source(record)
        matrix = g.compose(matrix, g.uncentred(np.array(rows)))
    return {"image": image, "matrix": g.centred(matrix).tolist()}


def suffix(record: Record) -> str:
    return ".png" if records.image(record).lower().endswith(".png") else ".jpg"
