"""Heatmaps as files: labels of a record's points, and points from a record's maps.

A file is float16 logits, (N, K, H, W) .npy; a record names the file, the index in it, the 2 x 3
matrix from the map's pixels to the image's, both with whole numbers at the centres, and `sigma`,
that of the Gaussians which the maps are, or were trained to be, in pixels of the map.
"""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kptools import geometry as g
from kptools.augment.transform import Transform
from kptools.errors import RecordError
from kptools.models.codecs import heatmap
from kptools.models.decoded import Maps
from kptools.records import keys
from kptools.records.face import Face
from kptools.records.ids import FileNames
from kptools.records.keys import Record
from kptools.records.points import points_array
from kptools.specs import ModelSpec
from kptools.storage import files
from kptools.storage.files import write_output
from kptools.units import Fraction, Pixels, Size

MAX_MAP_VALUES = 1 << 28  # of one face
_MAX_LOGIT = 15.0  # a probability of 1 - 3e-7: the peak of a label, whose logit is infinite


class MapFolder:
    """The folder that the maps of a run's predictions go to, by the network of `model`."""

    def __init__(self, path: Path, model: ModelSpec) -> None:
        self.path, self.model = path, model
        self.names = FileNames()

    def stem(self, record: Record) -> Path:
        """Of the file of a record's maps, which no other record of the run has. Raises
        RecordError."""
        return self.path / self.names.unique_name(record)

    def save(self, stem: Path, face: Face, transform: Transform, maps: Maps, row: int) -> Record:
        """Write the logits of one face, which was shown so, in the record's order of points; its
        `heatmap`. Raises KptoolsError."""
        z = maps.logits[row].float().cpu().numpy()
        order = [int(i) for i in transform.rename(range(len(z)))]
        to_input = g.compose(self.model.input.matrix(face.box), transform.matrix)
        matrix = g.map_to_file(to_input, self.model.input.size, maps.size)
        return save(stem, z[order][face.block], matrix, maps.sigma)


def save(stem: Path, z: heatmap.Logits, matrix: g.Matrix, sigma: Pixels) -> Record:
    """Write logits (K, H, W) to STEM.npy; the `heatmap` that a record says of them. Raises
    KptoolsError."""
    path = stem.with_name(stem.name + ".npy")
    data = io.BytesIO()
    np.save(data, z.clip(-60000, 60000).astype(np.float16)[None])
    write_output(path, data.getbuffer())
    return {"file": os.fspath(path), "index": 0, "matrix": matrix.tolist(), "sigma": sigma}


def load(record: Record) -> tuple[NDArray[np.float32], g.Matrix, Pixels]:
    """Logits (K, H, W), matrix and sigma of a record's `heatmap`. Raises RecordError."""
    value: Any = record.get("heatmap")
    try:
        path, index = value["file"], value["index"]
        matrix = np.array(value["matrix"], dtype=np.float64)
        sound = isinstance(path, str) and type(index) is int and matrix.shape == (2, 3)
        sigma = float(value.get("sigma", 1.0))
        if not sound or not np.isfinite(matrix).all() or index < 0 or not 0 < sigma < 1e3:
            raise TypeError
        if abs(np.linalg.det(matrix[:, :2])) < 1e-12:
            raise TypeError
    except (TypeError, KeyError, ValueError, AttributeError):
        raise RecordError(
            "bad_record", "no `heatmap` {file, index, matrix}; kp-predict --heatmaps gives it"
        ) from None
    try:
        files.require_regular(path)
        maps = np.load(path, mmap_mode="r", allow_pickle=False)
        z = maps[index]
    except FileNotFoundError:
        raise RecordError("missing", f"{path} does not exist; check the path") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:120]
        raise RecordError("unreadable", f"{path} is no file of maps: {reason}") from None
    if (
        not isinstance(z, np.ndarray)
        or z.ndim != 3
        or z.dtype.kind != "f"
        or not 0 < z.size <= MAX_MAP_VALUES
    ):
        raise RecordError(
            "unreadable", f"{path} holds {z.dtype} of shape {z.shape}; (N, K, H, W) logits needed"
        )
    logits = np.array(z, dtype=np.float32)
    if np.isnan(logits).any():
        raise RecordError("unreadable", f"{path} holds NaN; predict again")
    return logits, matrix, sigma


def encode(
    record: Record,
    folder: Path,
    names: FileNames,
    size: Size,
    margin: Fraction,
    sigma: Pixels,
    picture: bool,
) -> Record:
    """Write the labels of the record's points; its `heatmap`. `names`: those of the run, of which
    no two records share one. Raises RecordError."""
    box = keys.box(record)
    truth = points_array(record)
    if len(truth) * size[0] * size[1] > MAX_MAP_VALUES:
        raise RecordError("too_large", f"{len(truth)} maps of {size[0]}x{size[1]}; ask for less")
    to_map = g.box_to_input(box, margin, size)
    points = g.unit_to_map(g.to_unit(to_map, truth, size), size)
    labels = heatmap.encode(points, size, sigma).astype(np.float64)
    with np.errstate(divide="ignore"):
        logits = np.log(labels) - np.log1p(-labels)
    matrix = g.centred(g.invert(to_map))
    stem = folder / names.unique_name(record)
    saved = save(stem, logits.clip(-_MAX_LOGIT * 4, _MAX_LOGIT), matrix, sigma)
    if picture:
        data = io.BytesIO()
        Image.fromarray((labels.max(axis=0) * 255).round().astype(np.uint8)).save(data, "PNG")
        write_output(stem.with_name(stem.name + ".png"), data.getbuffer())
    return saved


def decode(record: Record, method: str) -> Record:
    """The `pred` and `score` of a record's maps. Raises RecordError."""
    z, matrix, sigma = load(record)
    points, scores = heatmap.decode(torch.from_numpy(z)[None], method, sigma)
    if not np.isfinite(points).all():
        raise RecordError("bad_points", "a map has no finite peak; predict again")
    pred = g.transform(g.uncentred(matrix), points[0]).tolist()
    return {"pred": pred, "score": keys.scores_inside(record, pred, scores[0])}
