"""Drawn faces with known points (`kptools.datasets.synthetic`): a dataset that needs no download.

    OUT/000000.jpg  OUT/000001.jpg  ...      one face each, 160 to 224 pixels a side

A coarse 3-D head (a mean shape, varied in identity and expression) is turned, projected,
rasterised and lit; eyes, brows, nostrils and lips are painted on it through the very points that
the record gives, so that these are exact to 0.1 px. Points are in the file frame: the centre of
the top-left pixel is (0, 0). Jaw points that a turned cheek hides slide to its contour, as
annotators of iBUG-300W place them. The box is what a detector would give: square, about brow to
chin, a few percent off, and not made from the points.

Face `index` of `seed` is the same whatever else is made.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kptools.datasets.synthetic.faces import Face, synthesize
from kptools.datasets.synthetic.head import SCHEME
from kptools.errors import KptoolsError
from kptools.records.item import Item
from kptools.storage import files


def read(out: Path, count: int, seed: int) -> Iterator[Item]:
    """Draw `count` faces into `out`, one as each record is asked for. Raises KptoolsError."""
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        files.claim_folder(out)
    for index in range(count):
        face = synthesize(seed, index)
        name = f"{index:06d}"
        path = out / f"{name}.jpg"
        with _writing(path):
            _save(face, path)
        record = {
            "image": f"{out}/{name}.jpg",
            "id": f"{seed}-{name}",
            "group": f"{seed}-{name}",
            "size": list(face.image.size),
            "box": list(face.box),
            "box_source": "detector:synth",
            "points": face.points.tolist(),
            "visible": face.visible.astype(int).tolist(),
            "scheme": SCHEME,
            "split": "train",
        }
        yield Item(record, "synth", index + 1)


def _save(face: Face, path: Path) -> None:
    """Whole or not at all. Not `files.write_whole`: its fsync can take half as long as drawing."""
    part = path.with_name(path.name + ".part")
    try:
        face.image.save(part, "JPEG", quality=face.quality)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise KptoolsError(f"cannot write {path}: {reason}; make room there") from None
