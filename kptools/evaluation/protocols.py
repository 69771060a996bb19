"""Protocols: how the papers of a dataset score it. One more is an entry in `PROTOCOLS`.

The bare name of a dataset is the protocol of its own paper. A face that belongs to none of a
protocol's sets is outside: it is counted, and not scored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from kptools.errors import KptoolsError
from kptools.records.item import Item
from kptools.records.keys import Record

SetsOf: TypeAlias = Callable[[Record], tuple[str, ...]]
ATTRIBUTES = {  # of WFLW: how many of its test faces have each
    "pose": 326,
    "expression": 314,
    "illumination": 698,
    "makeup": 206,
    "occlusion": 736,
    "blur": 773,
}


class Figure(NamedTuple):
    """A metric of `kptools.evaluation.metrics`, and the threshold that it takes, if any."""

    metric: str
    threshold: float | None = None


@dataclass(frozen=True)
class Protocol:
    """`figures` over `norm` (None: they are pixels) of faces of `scheme`, in each of the `sets`.

    `sets` says how many faces each has in the papers, None where they do not say; the first is of
    all. `sets_of` gives those that a record belongs to, none where it is outside. `size` is the
    width and height that pictures have to have, where pixels of another size would mean nothing.
    """

    name: str
    paper: str
    scheme: str
    norm: str | None
    figures: tuple[Figure, ...]
    sets: Mapping[str, int | None]
    sets_of: SetsOf
    size: tuple[int, int] | None = None

    @property
    def threshold(self) -> float | None:
        """That of the first figure which has one."""
        return next((figure.threshold for figure in self.figures if figure.threshold), None)

    def has(self, item: Item) -> bool:
        """Whether the face is in one of the sets. KptoolsError where it cannot be of this dataset,
        by its scheme or the size of its picture."""
        record = item.record
        if not item.failed and record.get("scheme") != self.scheme:
            raise KptoolsError(
                f"{item.where}: the protocol {self.name} is of {self.scheme}, and this face is of "
                f"{str(record.get('scheme', 'no scheme'))[:80]}; choose the protocol of its dataset"
            )
        if not self.sets_of(record):
            return False
        if self.size and not item.failed and record.get("size") != list(self.size):
            raise KptoolsError(
                f"{item.where}: the protocol {self.name} is of pictures of "
                f"{'x'.join(map(str, self.size))}, and the size of this one is "
                f"{str(record.get('size'))[:40]}; score the dataset's own pictures"
            )
        return True


def _parts_of_300w(record: Record) -> tuple[str, ...]:
    """By the folders at the end of the id, or of the path of the image: lfpw/testset/image_0001.
    The key `subset`, where it is there, goes first. Mirror images are in no set."""
    if record.get("subset") in ("common", "challenge"):
        return "full", record["subset"]
    for name in (record.get("id"), record.get("image")):
        *folders, file = str(name).lower().replace("\\", "/").split("/")
        if "_mirror" in file:
            return ()
        if folders[-1:] == ["ibug"]:
            return "full", "challenge"
        if folders[-2:] in (["lfpw", "testset"], ["helen", "testset"]):
            return "full", "common"
    return ()


def _of_split_test(record: Record) -> tuple[str, ...]:
    return ("test",) if record.get("split") == "test" else ()


def _parts_of_wflw(record: Record) -> tuple[str, ...]:
    return _of_split_test(record) and (
        "test",
        *(name for name in ATTRIBUTES if record.get(name) == 1),
    )


_SETS_OF_300W = {"full": 689, "common": 554, "challenge": 135}
_AT_8 = (Figure("nme"), Figure("auc", 0.08), Figure("failure_rate", 0.08))
_AT_10 = (Figure("nme"), Figure("auc", 0.10), Figure("failure_rate", 0.10))
_FAILURES_AT_10 = (Figure("nme"), Figure("failure_rate", 0.10))

PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "300w",
            "Sagonas et al., 300 Faces in-the-Wild Challenge, ICCVW 2013 (norm); Kowalski et al., "
            "Deep Alignment Network, CVPRW 2017 (AUC, failures)",
            "ibug68",
            "interocular",
            _AT_8,
            _SETS_OF_300W,
            _parts_of_300w,
        ),
        Protocol(
            "300w-pupil",
            "Ren et al., Face Alignment at 3000 FPS, CVPR 2014 (norm); Valle et al., A "
            "Deeply-initialized Coarse-to-fine Ensemble of Regression Trees, ECCV 2018 (AUC, "
            "failures)",
            "ibug68",
            "interpupil",
            _AT_8,
            _SETS_OF_300W,
            _parts_of_300w,
        ),
        Protocol(
            "wflw",
            "Wu et al., Look at Boundary, CVPR 2018",
            "wflw98",
            "interocular",
            _AT_10,
            {"test": 2500, **ATTRIBUTES},
            _parts_of_wflw,
        ),
        Protocol(
            "cofw",
            "Burgos-Artizzu et al., Robust Face Landmark Estimation under Occlusion, ICCV 2013",
            "cofw29",
            "interpupil",
            _FAILURES_AT_10,
            {"test": 507},
            _of_split_test,
        ),
        Protocol(
            "cofw-ocular",
            "Wang et al., Deep High-Resolution Representation Learning, TPAMI 2020",
            "cofw29",
            "interocular",
            _FAILURES_AT_10,
            {"test": 507},
            _of_split_test,
        ),
        Protocol(
            "cs194-kaggle",
            "CS194-26, UC Berkeley, Facial Keypoint Detection with Neural Networks, 2020: the "
            "class's competition on Kaggle, mean absolute error",
            "ibug68",
            None,
            (Figure("mae_original"),),
            {"test": 1008},
            _of_split_test,
        ),
        Protocol(
            "kaggle-fkp",
            "Kaggle, Facial Keypoints Detection, 2013: root mean squared error",
            "kaggle15",
            None,
            (Figure("rmse"),),
            {"all": None},
            lambda record: ("all",),
            size=(96, 96),
        ),
    )
}
