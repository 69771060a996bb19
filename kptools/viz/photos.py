"""Photos at their full size, with all of their faces drawn on them."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from kptools import geometry as g
from kptools.augment.transform import Transform
from kptools.errors import KptoolsError, RecordError
from kptools.pixels.write import suffix
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.ids import FileNames, SeenIds
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.storage import images, remote
from kptools.storage.files import write_output
from kptools.units import Box, Fraction, Pixels
from kptools.viz import faces, marks, views
from kptools.viz.views import Shown, View

AS_THE_FILE_HAS_IT = View(whole=True, policy=False)
# A box is drawn as that of a face which is at least this share of the photo: its line is seen where
# a large photo is looked at as a whole
LEAST: Fraction = 1 / 8
MADE_BY = "kp-viz photos"  # the comment of each file: what bears it may be written over


class Photos:
    """Writes a picture of each photo of a stream into a folder; it holds one photo at a time.

    Faces that follow each other and name the same `image` share a picture, which is written when
    the next photo comes, or by `finish`. Points of a `score` below `min_score` are left out.
    """

    def __init__(
        self, folder: Path, fail: Fail, *, points: bool = True, min_score: float | None = None
    ) -> None:
        self._folder, self._fail = folder, fail
        self._points, self._min_score = points, min_score
        self._names, self._seen = FileNames(), SeenIds()
        self._image = ""  # of the photo that is held
        self._picture: Image.Image | None = None
        self._path = folder
        self._problem: RecordError | None = None  # why there is no picture

    def add(self, item: Item) -> None:
        """Draw a face on its photo. A face that cannot be drawn is a failure, as is one whose photo
        came before the last one; a record that had failed before leaves its photo as it is. Raises
        KptoolsError where the picture would be written over a file that is not of this making."""
        try:
            self._begin(keys.image(item.record))
            if item.failed:
                return
            if self._problem is not None:
                raise self._problem
            assert self._picture is not None
            draw(self._picture, item.record, points=self._points, min_score=self._min_score)
        except RecordError as error:
            if not item.failed:
                self._fail(item, error)

    def finish(self) -> None:
        """Write the picture of the photo that is held. Raises KptoolsError where it cannot be."""
        if self._picture is not None:
            data = images.encode(self._picture, self._path.suffix, level=3, comment=MADE_BY)
            write_output(self._path, data)
        self._image, self._picture, self._problem = "", None, None

    def _begin(self, image: str) -> None:
        """Make this the photo that is held."""
        if image == self._image:
            return
        self.finish()
        self._image = image
        if self._seen.was_seen(image):
            self._problem = RecordError(
                "bad_record",
                f"the picture of {image} was written before this face came; bring the faces of a "
                "photo together",
            )
            return
        try:
            self._picture, _ = images.read(image)
        except RecordError as error:
            self._problem = error
            return
        self._path = self._folder / (self._names.of_photo(image) + suffix(image))
        _require_own(self._path, image)


def _require_own(path: Path, image: str) -> None:
    """Raise KptoolsError unless a picture of this photo may be written to the path: nobody's photo
    is written over, nor is a picture put where photos are looked for."""
    if not remote.is_remote(image) and path.parent.samefile(Path(image).parent):
        raise KptoolsError(f"{path.parent} is the folder of {image}; --out needs one of its own")
    try:
        is_ours = images.read_comment(path) == MADE_BY
    except RecordError as error:
        is_ours = error.status == "missing"
    if not is_ours:
        raise KptoolsError(f"{path} is there, and {MADE_BY} did not make it; name another --out")


def draw(
    photo: Image.Image, record: Record, *, points: bool = True, min_score: float | None = None
) -> None:
    """Draw a face on its photo (RGB, full size, as shown), in place: the box; the lines of its
    scheme, truth and prediction, of which predictions of a lower score than `min_score` are left
    out. What its policy would do is not shown. Raises RecordError; nothing is drawn then."""
    face = views.parse(record, AS_THE_FILE_HAS_IT)
    if min_score is not None:
        record = _without_low(record, min_score)
    shown = Shown(photo, g.IDENTITY, Transform())
    layers = faces.layers(record, shown) if points else []
    corners = shown.corners(face.box) if record.get("box") is not None else np.empty((0, 2))
    bounds = _bounds([corners, *(layer.points for layer in layers)])
    if bounds is None:
        return
    extent = _extent(record, layers, corners)
    # the part that is drawn on, with room for the widest mark
    room = 4 + 0.05 * max(*extent, LEAST * photo.width, LEAST * photo.height)
    x0, y0, x1, y1 = bounds
    part = (
        max(0, math.floor(x0 - room)),
        max(0, math.floor(y0 - room)),
        min(photo.width, math.ceil(x1 + room)),
        min(photo.height, math.ceil(y1 + room)),
    )
    if part[0] >= part[2] or part[1] >= part[3]:  # all out of sight
        return
    corner = part[:2]
    picture = photo.crop(part)
    if len(corners):
        seen = (max(extent[0], LEAST * photo.width), max(extent[1], LEAST * photo.height))
        picture = marks.mark(picture, [], box=corners - corner, extent=seen)
    if layers:
        moved = [replace(layer, points=layer.points - corner) for layer in layers]
        few = len(layers[0].points) <= faces.FEW
        picture = marks.mark(picture, moved, joined=few, extent=extent)
    photo.paste(picture, corner)


def _without_low(record: Record, min_score: float) -> Record:
    """The record without those predicted points whose score is lower. Raises RecordError."""
    if record.get("pred") is None:
        return record
    predicted = keys.points(record, "pred")
    scores = keys.per_point(record, "score", len(predicted))
    if scores is None:
        raise RecordError("bad_points", "no `score`, which --min-score needs; kp-predict gives it")
    kept = [p if s >= min_score else None for p, s in zip(predicted, scores, strict=True)]
    return record | {"pred": kept}


def _extent(record: Record, layers: list[marks.Layer], corners: g.Points) -> tuple[Pixels, Pixels]:
    """The width and height of a picture of the face alone: of its box with a margin; where that is
    the whole image, or there is none, of its points."""
    bounds = _bounds([corners])
    if bounds is None or record.get("box_source") == "image":
        for layer in layers:
            if len(layer.points) > faces.FEW and np.isfinite(layer.points).any():
                bounds = g.box_of_points(layer.points)
                break
    if bounds is None:
        return (1.0, 1.0)
    half_width, half_height = g.half_extent(bounds, views.MARGIN)
    return (2 * half_width, 2 * half_height)


def _bounds(all_points: list[g.Points]) -> Box | None:
    """The box of all that is finite; None where nothing is."""
    points = np.concatenate([np.empty((0, 2)), *all_points])
    return g.box_of_points(points) if np.isfinite(points).any() else None
