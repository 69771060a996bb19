"""The formats that `kp-prep to` writes. One more is a `write` beside the `read` of its file, and a
line in `FORMATS`. Nothing here imports numpy or Pillow."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from kptools.options import Option

WHAT = ("points", "pred")


@dataclass(frozen=True)
class Format:
    """`module` has `write(items, fail, what, folder, **options)`, which yields the lines of one
    file, whose folder it is (None: stdout); or, where `is_folder`, pairs of a path below the folder
    and the bytes of that file."""

    module: str
    help: str
    options: tuple[Option, ...] = ()
    is_folder: bool = False

    def load(self) -> Any:
        """The module that writes it."""
        return import_module(self.module)


FORMATS: Mapping[str, Format] = {
    "coco": Format(
        "kptools.datasets.coco",
        """COCO keypoints: one JSON document, of which an annotation is written as its face comes.

        \b
        kp-prep to coco -o faces.json faces.jsonl""",
    ),
    "dlib": Format(
        "kptools.datasets.dlib_xml",
        """dlib's XML. dlib reads whole numbers alone, so boxes and points are rounded.

        \b
        kp-prep to dlib -o faces.xml faces.jsonl""",
    ),
    "pts": Format(
        "kptools.datasets.pts",
        """Files of 1-based points, one a face, named by its id, and copies of the pictures.

        \b
        kp-prep to pts --out points faces.jsonl""",
        is_folder=True,
    ),
    "csv": Format(
        "kptools.datasets.csv_table",
        """A table, one face a line: its keys, its box, and x and y of each point.

        \b
        kp-prep to csv -o faces.csv faces.jsonl""",
        options=(
            Option("base", int, 0, "What the first pixel is called: 0 or 1.", choices=(0, 1)),
            Option("delimiter", str, ",", "What stands between cells; tab is a tabulator."),
        ),
    ),
    "kaggle": Format(
        "kptools.datasets.kaggle",
        """The training.csv of Kaggle's Facial Keypoints Detection: 15 points of grey pictures of
        96x96, which are written into it.

        \b
        kp-prep to kaggle -o training.csv faces.jsonl""",
    ),
    "labelme": Format(
        "kptools.datasets.labelme",
        """A JSON of labelme for each picture: a point a shape, a rectangle for the box.

        \b
        kp-prep to labelme --out labels faces.jsonl""",
        is_folder=True,
    ),
    "yolo": Format(
        "kptools.datasets.yolo",
        """A folder for YOLO-pose (Ultralytics): copies of the images, labels and data.yaml.

        \b
        kp-prep to yolo --out dataset faces.jsonl""",
        is_folder=True,
    ),
}
