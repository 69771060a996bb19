"""Heatmaps laid over the faces that they belong to."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.evaluation import score
from kptools.inference import heatmap_files
from kptools.records.keys import Record
from kptools.units import Size
from kptools.viz import colours, faces, marks, plots, sheet
from kptools.viz.sheet import Cell, Sheet
from kptools.viz.views import View, parse, show

COVER = 0.92  # how much of the face the peak hides


class Overlays:
    """The cells of the first `count` faces; each is drawn as its record comes."""

    def __init__(
        self,
        view: View,
        count: int,
        point: int | None = None,
        norm: str | None = None,
        points: bool = True,
    ) -> None:
        self.view, self.count = view, count
        self.point, self.norm, self.points = point, norm, points
        self.cells: list[Cell] = []
        self._truth = self._predicted = False

    @property
    def full(self) -> bool:
        return len(self.cells) >= self.count

    def add(self, record: Record) -> None:
        """Raises RecordError."""
        self.cells.append(overlay(record, self.view, self.point, self.norm, self.points))
        self._truth |= self.points and record.get("points") is not None
        self._predicted |= self.points and record.get("pred") is not None

    def sheet(self, columns: int | None, title: str) -> Image.Image:
        legend = [("truth", colours.TRUTH)] if self._truth else []
        legend += [("prediction", colours.PREDICTION)] if self._predicted else []
        across = columns or faces.columns_for(len(self.cells), sheet.layout_size(self.cells))
        what = "any point" if self.point is None else f"point {self.point}"
        note = f"probability of {what}, from 0 to each face's peak"
        return sheet.sheet(self.cells, Sheet(across, title, note, legend, strip()))


def overlay(
    record: Record, view: View, point: int | None, norm: str | None, points: bool = True
) -> Cell:
    """The face with its map: the largest probability over its points, or that of one point. The
    colours run from 0 to the map's own peak. Raises RecordError."""
    probability, matrix = read(record, point)
    peak = float(probability.max())
    shown = show(parse(record, view), view)
    heat = resample(probability, g.compose(shown.matrix, g.uncentred(matrix)), shown.picture.size)
    layers = faces.layers(record, shown, lines=False) if points else []
    if point is not None:
        layers = [
            marks.Layer(layer.points[point : point + 1], layer.colour)
            for layer in layers
            if point < len(layer.points)
        ]
    picture = marks.mark(blend(shown.picture, heat / (peak or 1.0)), layers, sparse=True)
    name, error = faces.caption(record, norm)
    if point is not None:
        error = _distance(record, point)
    return Cell(picture, (name, error, f"peak {peak:.2g}"))


def _distance(record: Record, point: int) -> str:
    """How far a point is off, in words."""
    if not faces.annotated(record) or record.get("pred") is None:
        return faces.caption(record, None)[1]
    distances = score.score(record, "pixels").distances
    distance = distances[point] if point < len(distances) else np.nan
    return f"{distance:.1f} px off" if np.isfinite(distance) else "not annotated"


def read(record: Record, point: int | None = None) -> tuple[NDArray[np.float32], g.Matrix]:
    """Probabilities (H, W) and the matrix from the map's pixels to the file's, whole numbers at
    the centres. Raises RecordError."""
    z, matrix, _ = heatmap_files.load(record)
    if point is not None:
        if point >= len(z):
            raise RecordError("bad_points", f"there is no map {point}; the face has {len(z)}")
        z = z[point : point + 1]
    top = np.clip(z.max(axis=0), -60, 60)
    result: NDArray[np.float32] = 0.5 * (1 + np.tanh(0.5 * top))
    return result, matrix


def resample(values: NDArray[np.float32], m: g.Matrix, size: Size) -> NDArray[np.float32]:
    """Values (h, w) as a picture of this size (W, H) shows them, bilinear, 0 outside. `m` maps
    the values' continuous coordinates to the picture's. (H, W)."""
    # two samples along each axis of a picture's pixel, so that no narrow peak is missed
    fine = g.compose(g.scaling(2, 2), m)
    data = tuple(g.invert(fine).ravel().tolist())
    picture = Image.fromarray(np.ascontiguousarray(values)).transform(
        (2 * size[0], 2 * size[1]), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR
    )
    doubled = np.asarray(picture).reshape(size[1], 2, size[0], 2)
    result: NDArray[np.float32] = doubled.max(axis=(1, 3))
    return result


def blend(face: Image.Image, heat: NDArray[np.float32]) -> Image.Image:
    """The face in grey, covered by the map's colours the more the larger it is. `heat`: (H, W) in
    0..1."""
    unit = heat.clip(0, 1)
    colours = plots.colour_map()[np.round(unit * 255).astype(int)].astype(np.float32)
    below = np.asarray(face.convert("L"), dtype=np.float32)[..., None]
    share = (COVER * np.sqrt(unit))[..., None]
    mixed = share * colours + (1 - share) * below
    return Image.fromarray(np.round(mixed).astype(np.uint8))


def strip() -> Image.Image:
    """The colours from 0 to 1, for the legend."""
    return Image.fromarray(plots.colour_map()[None])
