"""Maps between the boxes of different sources.

A network sees a face as the boxes of its training framed it, and a detector whose boxes are centred
elsewhere, or are of another size, costs accuracy. Four numbers fix most of it: the part of a
source's box that the points of the face fill, in fractions of the box. The parts of two sources
make the map from the one's boxes to the other's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from kptools import geometry as g
from kptools.records.face import Face
from kptools.specs import ModelSpec
from kptools.units import Box

# By `box_source`: the part of the box that the 68 points of ibug68 fill, from `kp-prep fit-boxes`.
# The detectors' are medians over faces of iBUG 300-W: 1,323 of its own boxes, which are dlib's, and
# 400 of YuNet's (docs/data.md). Those of drawn faces are over 16,000 of them.
SCHEME = "ibug68"
TIGHT = "points"  # tight boxes are of the points of a scheme: those of another are other boxes
PARTS: Mapping[str, Box] = {
    TIGHT: (0.0, 0.0, 1.0, 1.0),
    "detector:dlib-frontal": (0.0052, 0.1147, 0.9786, 1.0557),
    "detector:yunet": (-0.0096, 0.2571, 1.0165, 1.0034),
    "detector:synth": (0.0127, 0.1066, 0.989, 1.0612),
}


def convert(box: Box, source: str, target: str) -> Box:
    """The box, in the file frame, that `target` would have given for a face for which `source` gave
    this one. KeyError where a source is not known."""
    face = g.part(box, PARTS[source])
    left, top, right, bottom = PARTS[target]
    width, height = (face[2] - face[0]) / (right - left), (face[3] - face[1]) / (bottom - top)
    x, y = face[0] - left * width, face[1] - top * height
    return (x, y, x + width, y + height)


def known_target(model: ModelSpec, source: str) -> str | None:
    """The source of the boxes that a network was trained on, to which those of `source` are to be
    mapped; None where they are of its own kind, or one of the two is not known."""
    if source in model.box_sources:
        return None
    known = [name for name in PARTS if name != TIGHT or model.scheme == SCHEME]
    return next((t for t in model.box_sources if t in known and source in known), None)


def reframed(face: Face, model: ModelSpec) -> Face:
    """The face in a box like those that the network was trained on, where there is a map."""
    source = str(face.record.get("box_source") or "unknown")
    target = known_target(model, source)
    return face if target is None else face.with_box(convert(face.box, source, target))


@dataclass
class Fit:
    """What is known of the boxes of one source: the faces that were added, and their part."""

    parts: list[Box] = field(default_factory=list)

    def add(self, box: Box, points: g.Points) -> None:
        """A face: its box and its points (K, 2), file frame, NaN where not annotated."""
        corners = np.reshape(g.box_of_points(points), (2, 2))
        x0, y0, x1, y1 = g.normalize(corners, box).ravel().tolist()
        self.parts.append((x0, y0, x1, y1))

    def part(self) -> Box:
        """The median middle and the median sides, in fractions of the box."""
        parts = np.array(self.parts)
        middle = np.median((parts[:, :2] + parts[:, 2:]) / 2, axis=0)
        half = np.median(parts[:, 2:] - parts[:, :2], axis=0) / 2
        x0, y0, x1, y1 = np.concatenate([middle - half, middle + half]).tolist()
        return (x0, y0, x1, y1)

    def spread(self) -> float:
        """How much the sizes of the boxes vary for faces of one size: the standard deviation of the
        logarithm of the side, about a fraction."""
        parts = np.array(self.parts)
        return float(np.log(np.sqrt((parts[:, 2:] - parts[:, :2]).prod(axis=1))).std())
