"""The faces of a run, and the batches that are made of them."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kptools import geometry as g
from kptools.augment.align import Alignment
from kptools.augment.sample import sample
from kptools.augment.transform import Transform
from kptools.pixels.batch import network_input
from kptools.pixels.cache import CropCache
from kptools.records.face import Face
from kptools.runtime import send
from kptools.specs import InputSpec


@dataclass
class Batch:
    """Some faces of an epoch: their indices, the network's input (B, C, H, W) on its device, the
    truth (B, K, 2) in fractions of it, NaN where not annotated, with what is seen of it (B, K, 3)
    where that is learnt, and what was sampled for each."""

    indices: list[int]
    input: Tensor
    truth: g.Points
    transforms: list[Transform]

    def __len__(self) -> int:
        return len(self.indices)


@dataclass
class TrainingSet:
    """N faces with K points each, and their crops. Each face has its points, (K, 2); of several
    schemes the points of them all, of which its own are annotated."""

    faces: Sequence[Face]
    crops: CropCache
    alignment: Alignment | None = None  # of a share of them, in each epoch

    def __len__(self) -> int:
        return len(self.faces)

    @property
    def points(self) -> g.Points:
        """(N, K, 2), file frame, NaN where not annotated."""
        return np.stack([face.points for face in self.faces if face.points is not None])

    @property
    def swap(self) -> tuple[int, ...] | None:
        """The table of left and right of the faces' scheme, or schemes, where all have one."""
        schemes = [face.union or face.scheme for face in self.faces]
        tables = {scheme.swap if scheme is not None else None for scheme in schemes}
        return tables.pop() if len(tables) == 1 else None

    def mean_shape(self) -> g.Points:
        """The mean (K, 2) of the points in fractions of the box, of all faces."""
        pairs = zip(self.points, self.faces, strict=True)
        return mean_shape([g.normalize(face.level(points), face.box) for points, face in pairs])

    def steps(self, size: int, least: int = 2) -> int:
        """How many `groups` there are at most."""
        return max(1, math.ceil((len(self) - least + 1) / size))

    def groups(self, order: Iterable[int], size: int, least: int = 2) -> Iterator[list[int]]:
        """The indices of those faces that have a crop, `size` at a time, as they are decoded. Fewer
        than `least` that are left over join the last ones: batch normalisation needs two."""
        ready: list[int] = []
        for index in order:
            if self.crops.wait_for(index):
                ready.append(index)
                if len(ready) == size + least:
                    yield ready[:size]
                    del ready[:size]
        if ready:
            yield ready

    def annotated(self, indices: Sequence[int]) -> int:
        """How many annotated points these faces have."""
        points = [self.faces[i].points for i in indices]
        return sum(int(np.isfinite(p).all(axis=-1).sum()) for p in points if p is not None)

    def batch(self, indices: list[int], epoch: int, device: torch.device) -> Batch:
        """These faces, with what their policies do in this epoch."""
        faces = [self.faces[i] for i in indices]
        transforms = [sample(face, epoch, self.alignment) for face in faces]
        spec = self.crops.spec.input
        truth = [labels(face, t, spec) for face, t in zip(faces, transforms, strict=True)]
        x = self.see(indices, transforms, device)
        return Batch(indices, x, np.stack(truth), transforms)

    def see(
        self, indices: Sequence[int], transforms: Sequence[Transform], device: torch.device
    ) -> Tensor:
        """The network's input (B, C, H, W) of these faces under these transforms."""
        pixels = self.crops.pixels
        at = send(torch.tensor(indices), pixels.device)
        boxes = [self.faces[i].box for i in indices]
        return network_input(send(pixels[at], device), boxes, transforms, self.crops.spec)


def mean_shape(shapes: Sequence[g.Points]) -> g.Points:
    """The mean (K, 2) of the annotated points; the middle of the box for a point that never is."""
    stack = np.stack(shapes)
    known = np.isfinite(stack)
    total = np.where(known, stack, 0.0).sum(axis=0)
    count = known.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), 0.5)


def target(face: Face, transform: Transform, spec: InputSpec) -> g.Points:
    """Where the face's points are in the input, (K, 2) in fractions of it, NaN: not annotated."""
    assert face.points is not None
    moved = transform.transform_points(face.points)
    return g.to_unit(spec.matrix(face.box), moved, spec.size)


def labels(face: Face, transform: Transform, spec: InputSpec) -> g.Points:
    """What is to be learnt of a face: its `target` (K, 2), and where it has `visible` that too,
    (K, 3). What is erased from the picture is hidden."""
    points = target(face, transform, spec)
    if face.visible is None or face.points is None:
        return points
    visible = np.array(transform.rename(face.visible.tolist()))
    x, y = transform.transform_points(face.points).T
    for x0, y0, x1, y1 in transform.erased:
        inside = (x0 <= x) & (x <= x1) & (y0 <= y) & (y <= y1)
        visible[inside & np.isfinite(visible)] = 0.0
    return np.column_stack([points, visible])
