"""dlib's frontal face detector (King, 2009): the one that the boxes of iBUG 300-W come from, so
that networks trained on those are at home. It finds upright faces, and does not say how they are
turned. It needs the wheel `dlib-bin` (the extra `dlib`).
"""

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from kptools import geometry as g
from kptools.datasets.detectors import Detector, Found
from kptools.errors import KptoolsError
from kptools.storage import images

SOURCE = "detector:dlib-frontal"
# The detector's smallest face is 80 pixels wide. A photo is searched at about this many pixels, in
# which it sees faces down to a thirtieth of a large photo's width.
SEARCH_PIXELS = 4_000_000


def load() -> Detector:
    """The detector. KptoolsError where dlib is not installed."""
    try:
        import dlib
    except ImportError:
        raise KptoolsError(
            "--detector dlib needs dlib: pip install dlib-bin; "
            "or take the whole image with --box image"
        ) from None
    own = threading.local()  # a detector has buffers of its own

    def detect(path: str) -> list[Found]:
        if not hasattr(own, "search"):
            own.search = dlib.get_frontal_face_detector().run
        return find(path, own.search)

    return detect


def find(path: str, search: Callable[..., Any]) -> list[Found]:
    """The faces in a photo. `search` is dlib's: from pixels (H, W, 3), and how often to double
    them, to three lists, of rectangles that include their last pixel, of scores, and of which of
    its filters found them. Raises RecordError."""
    width, height = images.shown_size(path)
    zoom = (SEARCH_PIXELS / (width * height)) ** 0.5
    shrink = max(s for s in (1, 2, 4, 8) if s == 1 or s * zoom <= 1)
    picture, to_picture = images.read(path, shrink=shrink)
    size = (max(1, round(width * min(zoom, 2.0))), max(1, round(height * min(zoom, 2.0))))
    searched = picture.resize(size, Image.Resampling.BILINEAR)
    scale = g.scaling(size[0] / picture.width, size[1] / picture.height)
    back = g.invert(g.compose(scale, to_picture))
    found = []
    rectangles, scores, _ = search(np.asarray(searched), 0)
    for rectangle, score in zip(rectangles, scores, strict=True):
        x0, y0 = back[:, :2] @ (rectangle.left(), rectangle.top()) + back[:, 2]
        x1, y1 = back[:, :2] @ (rectangle.right() + 1, rectangle.bottom() + 1) + back[:, 2]
        found.append(Found(g.from_edges(x0, y0, x1, y1), float(score)))
    return found
