"""From stored crops to the input of a network."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kptools import geometry as g
from kptools.augment.transform import Draw
from kptools.pixels.layout import Layout
from kptools.pixels.warp import recolour, warp
from kptools.runtime import send
from kptools.specs import FILL, GREY, IMAGENET, Frame
from kptools.units import Box


def network_input(
    crops: Tensor, boxes: Sequence[Box], draws: Sequence[Draw], layout: Layout
) -> Tensor:
    """What `look` gives, in the network's numbers. (B, Hs, Ws, C) uint8 to (B, C, H, W) float32."""
    frame = layout.frame
    if _as_cut(draws, layout):
        return normalise(crops.permute(0, 3, 1, 2).to(torch.float32), frame, 0, 255)
    black = -FILL / 255
    return normalise(look(crops, boxes, draws, layout), frame, black, black + 1)


def _as_cut(draws: Sequence[Draw], layout: Layout) -> bool:
    """Whether the stored crops are already what the network sees."""
    plain = layout.size == layout.frame.size and layout.ratio == (1.0, 1.0)
    return plain and all(drawn.idle for drawn in draws)


def look(crops: Tensor, boxes: Sequence[Box], draws: Sequence[Draw], layout: Layout) -> Tensor:
    """What the network sees, before normalisation.

    `crops`: (B, Hs, Ws, C) uint8 stored crops. Returns (B, C, H, W) float32, mid-grey (`FILL`) at
    0 and 255 levels to 1.
    """
    size = layout.frame.size
    if _as_cut(draws, layout):
        return warp(crops, [g.IDENTITY] * len(boxes), size)
    matrices = []  # input to stored crop
    for box, drawn in zip(boxes, draws, strict=True):
        inverse = g.compose(g.invert(drawn.matrix), g.invert(layout.frame.matrix(box)))
        matrices.append(g.compose(layout.matrix(box), inverse))
    zooms = [layout.frame.matrix(box) for box in boxes]
    return recolour(warp(crops, matrices, size), draws, zooms)


def normalise(x: Tensor, frame: Frame, black: float, white: float) -> Tensor:
    """The network's numbers, in place, of pixels that run from `black` to `white`: by default
    grey from -0.5 to 0.5, RGB with ImageNet's mean and deviation. (B, C, H, W) float32."""
    default = GREY if frame.grey else IMAGENET
    mean, std = (np.array(values) for values in frame.normalization or default)
    factor = 1 / (std * (white - black))
    constants = np.stack((factor, -mean / std - black * factor))
    scale, offset = send(torch.from_numpy(constants), x.device, x.dtype)
    last = x.permute(0, 2, 3, 1)
    if last.is_contiguous():  # channels last: by whole rows, for three at a time are slow
        rows, width = last.flatten(2), x.shape[3]
        torch.addcmul(offset.repeat(width), rows, scale.repeat(width), out=rows)
    else:
        torch.addcmul(offset.view(-1, 1, 1), x, scale.view(-1, 1, 1), out=x)
    return x
