"""`kp-augment --write`: a record's policy drawn into an image file of its own."""

import os
import re
from hashlib import blake2b
from pathlib import Path

from kptools import augment, crops, images, records
from kptools import geometry as g
from kptools.errors import KptoolsError
from kptools.records import Record


def write_image(record: Record, folder: Path) -> Record:
    """Draw the policy at epoch 0, write the image (the same size) into the folder, and give the
    record of it: points, `visible`, `pred`, `score` and `mean` follow, the box stays, no policy is
    left. Raises RecordError; KptoolsError where the disk says no."""
    records.box(record)
    stages = augment.policy(record)
    swap = augment.swap_table(record) if augment.flips(stages) else None
    drawn = augment.draw(record, 0)
    picture, _ = images.read(records.image(record))
    path = folder / _name(record)
    made = {key: value for key, value in record.items() if key != "augment"}
    made["image"] = os.fspath(path)
    made["size"] = [picture.width, picture.height]
    for key in ("points", "pred", "mean"):
        if key in record:
            points = g.from_list(records.points(record, key))
            made[key] = g.to_list(augment.follow(points, drawn, swap))
    for key in ("visible", "score"):
        if key in record and drawn.flipped and swap is not None:
            values = records.per_point(record, key, len(swap))
            made[key] = [values[i] for i in swap] if values is not None else None
    try:
        images.save(crops.whole(picture, drawn), path)
    except OSError as error:
        raise KptoolsError(f"cannot write {path}: {error.strerror}; make room there") from None
    return made


def _name(record: Record) -> str:
    """A file name from the id and the copy: nothing in it leaves the folder. Where characters had
    to go, a hash keeps two ids apart."""
    name, copy = records.identity(record), records.copy_index(record)
    plain = re.sub(r"[^A-Za-z0-9._-]+", "_", name).lstrip(".")[-100:]
    if plain != name:
        digest = blake2b(name.encode(errors="surrogatepass"), digest_size=4)
        plain = f"{plain}.{digest.hexdigest()}"
    suffix = ".png" if records.image(record).lower().endswith(".png") else ".jpg"
    return f"{plain}{f'-{copy}' if 'copy' in record else ''}{suffix}"
