"""From crops to points, in as many passes as the network was trained for.

In a single pass the network sees each face in its box. In two, the second sees it as the points of
the first align it (`kptools.augment.align`); the first then is at a lower resolution, where the
network takes one. With a mirror image the last pass is the mean of both.

Last of all the shape prior (`kptools.models.shape_prior`) of a network that has one moves the
points that it is unsure of. In the first pass it would cost accuracy where a network is poor, and
gain little where it is not.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from kptools import geometry as g
from kptools.augment.align import Alignment
from kptools.augment.transform import Transform
from kptools.errors import UsageError
from kptools.models.codecs import heatmap
from kptools.models.decoded import Decoded
from kptools.models.network import Network, forward
from kptools.schemes import catalog
from kptools.specs import ModelSpec
from kptools.units import Box

# Of a first pass of two, which is to align the face and no more: its decoder, and its side, of the
# input's, but not below LEAST pixels; rounded to a multiple of STEP (docs/networks.md)
COARSE_DECODER = "quarter"
COARSE_SIDE = 0.65
STEP, LEAST = 8, 96


@dataclass(frozen=True)
class Passes:
    """How often a network sees each face: `count` is 1 or 2; `swap`, the scheme's table of left and
    right, adds the mirror image; `shape_prior`: the network's own moves the points."""

    count: int = 1
    swap: tuple[int, ...] | None = None
    shape_prior: bool = False


def resolve(
    model: ModelSpec,
    *,
    count: int | None = None,
    flip: bool | None = None,
    shape_prior: bool | None = None,
) -> Passes:
    """The passes of a network: those that were asked for, else those that it was trained for.
    UsageError for more than two, for a mirror image of a scheme without left and right, and for the
    shape prior of a network that has none."""
    if count is not None and count not in (1, 2):
        raise UsageError(f"--passes {count}: 1 or 2")
    known = catalog.count(model.scheme) == model.count
    swap = catalog.get(model.scheme).swap if known else None
    if flip and swap is None:
        no_scheme = model.scheme == f"points{model.count}"
        lacks = "has no table of left and right"
        if not (known or no_scheme):
            lacks = "is not known here (--scheme FILE)"
        raise UsageError(f"--flip: {model.scheme} {lacks}; leave it out")
    wanted = model.flip if flip is None else flip
    has_prior = model.options.get("shape_prior", 0) > 0
    if shape_prior and not has_prior:
        raise UsageError(
            f"--shape-prior: the network ({model.arch}) has none; train it with --shape-prior 1"
        )
    use_prior = has_prior if shape_prior is None else shape_prior
    return Passes(count or model.passes, swap if wanted else None, use_prior)


def decode(
    network: Network,
    model: ModelSpec,
    see: Callable[[Sequence[Transform]], Tensor],
    boxes: Sequence[Box],
    transforms: Sequence[Transform],
    passes: Passes,
    *,
    precision: str,
    decoder: str | None = None,
    first_input: Tensor | None = None,
    first_output: Any = None,
) -> Decoded:
    """The points of B faces, (B, K, 2) in fractions of the input, as `transforms` show them, and
    their scores and what is seen of them; the maps are those of the first pass. `see` gives the
    network's input of these faces under any transforms; their mirror image is made of it.
    `first_input` is that under `transforms`, and `first_output` the network's output for it, where
    these are there already."""

    def ask(x: Tensor) -> Decoded:
        return network.head.decode(forward(network, x, precision), decoder)

    x = see(transforms) if first_input is None else first_input
    output, method = first_output, decoder
    if passes.count == 2:
        if COARSE_DECODER in network.head.decoders:
            method = COARSE_DECODER
        if network.takes_any_size:
            coarse = _shrunk(x)
            x, output = coarse, (output if coarse is x else None)
    if output is None:
        output = forward(network, x, precision)
    found = network.head.decode(output, method, size=(x.shape[3], x.shape[2]))
    if passes == Passes():
        return found
    views = [(transforms, found)]
    if passes.count == 2:
        alignment = Alignment(np.array(model.mean))
        aligned = []
        for box, transform, unit in zip(boxes, transforms, found.points, strict=True):
            m = alignment.matrix(model.input.to_file(unit, box), box)
            aligned.append(
                replace(transform, matrix=g.compose(m, transform.matrix), is_identity=False)
            )
        x = see(aligned)
        views = [(aligned, ask(x))]
    if passes.swap is not None:
        pairs = zip(views[0][0], boxes, strict=True)
        mirrored = [_mirrored(transform, box, passes.swap) for transform, box in pairs]
        views.append((mirrored, ask(x.flip(3))))  # the box's centre is that of the input
    prior = network.shape_prior if passes.shape_prior else None
    unsure = [_covariance(decoded) for _, decoded in views] if prior is not None else []
    points, scores, visible = [], [], []
    for row, (box, transform) in enumerate(zip(boxes, transforms, strict=True)):
        in_file = np.mean(
            [v[row].invert_points(model.input.to_file(d.points[row], box)) for v, d in views],
            axis=0,
        )
        named = [v[row].rename(d.scores[row]) for v, d in views if d.scores is not None]
        if named:
            scores.append(np.asarray(transform.rename(np.mean(named, axis=0))))
        seen_as = [v[row].rename(d.visible[row]) for v, d in views if d.visible is not None]
        if seen_as:
            visible.append(np.asarray(transform.rename(np.mean(seen_as, axis=0))))
        if prior is not None:
            each = [
                _in_file(covariance[row], decoded, model, box, shown[row])
                for covariance, (shown, decoded) in zip(unsure, views, strict=True)
            ]
            in_file = prior.most_probable(in_file, np.mean(each, axis=0))
        seen = transform.transform_points(in_file)
        points.append(g.to_unit(model.input.matrix(box), seen, model.input.size))
    return Decoded(
        np.stack(points),
        np.stack(scores) if scores else None,
        found.maps,
        np.stack(visible) if visible else None,
    )


def _covariance(decoded: Decoded) -> NDArray[np.float64]:
    """How unsure maps are of their points, (B, K, 2, 2), pixels^2 of the maps."""
    maps = decoded.maps
    assert maps is not None  # which the head of a shape prior makes
    on_map = g.unit_to_map(decoded.points, maps.size)
    return heatmap.covariance(maps.logits, on_map, maps.sigma)


def _in_file(
    covariance: NDArray[np.float64],
    decoded: Decoded,
    model: ModelSpec,
    box: Box,
    shown: Transform,
) -> NDArray[np.float64]:
    """Of a face that was shown so, (K, 2, 2), pixels^2 of the maps, to those of the file, under
    the names that the points have there."""
    assert decoded.maps is not None
    to_input = g.compose(model.input.matrix(box), shown.matrix)
    linear = g.map_to_file(to_input, model.input.size, decoded.maps.size)[:, :2]
    order = [int(i) for i in shown.rename(range(len(covariance)))]
    return np.asarray(linear @ covariance[order] @ linear.T)


def _shrunk(x: Tensor) -> Tensor:
    """(B, C, H, W) at the resolution of a coarse pass; `x` itself where that is not lower."""
    scale = max(COARSE_SIDE, LEAST / min(x.shape[2:]))
    if scale >= 1:
        return x
    size = [round(scale * side / STEP) * STEP for side in x.shape[2:]]
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _mirrored(transform: Transform, box: Box, swap: tuple[int, ...]) -> Transform:
    """What a transform shows, mirrored about the vertical line through the box's centre."""
    mirror = g.about(g.scaling(-1, 1), *g.centre(box))
    return replace(
        transform,
        matrix=g.compose(mirror, transform.matrix),
        flipped=not transform.flipped,
        swap=swap,
        is_identity=False,
    )
