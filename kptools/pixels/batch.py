"""From stored crops to the input of a network, a batch at a time, on its device.

A face without a policy has a crop of the input's own size, and is not resampled again. Any other is
warped once, by one matrix that holds the augmentation and the box, then recoloured.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kptools import geometry as g
from kptools.augment.transform import Transform
from kptools.pixels.crop_spec import CropSpec
from kptools.pixels.warp import recolour, warp
from kptools.runtime import send
from kptools.specs import FILL, GREY, IMAGENET, InputSpec
from kptools.units import Box


def network_input(
    crops: Tensor, boxes: Sequence[Box], transforms: Sequence[Transform], spec: CropSpec
) -> Tensor:
    """The crops as the network takes them: warped, recoloured and normalised. (B, Hs, Ws, C) uint8
    stored crops, or those `centred`, to (B, C, H, W) float32, on their device."""
    if _is_input(transforms, spec) and not crops.is_floating_point():
        return normalize_pixels(crops.permute(0, 3, 1, 2).to(torch.float32), spec.input, 0, 255)
    black = -FILL / 255
    shown = visible_pixels(crops, boxes, transforms, spec)
    return normalize_pixels(shown, spec.input, black, black + 1)


def visible_pixels(
    crops: Tensor, boxes: Sequence[Box], transforms: Sequence[Transform], spec: CropSpec
) -> Tensor:
    """What the network sees, before normalisation.

    `crops`: (B, Hs, Ws, C) uint8 stored crops, or those `centred`. Returns (B, C, H, W) float32,
    mid-grey (`FILL`) at 0 and 255 levels to 1.
    """
    size = spec.input.size
    if _is_input(transforms, spec):
        return warp(crops, [g.IDENTITY] * len(boxes), size)
    pairs = zip(boxes, transforms, strict=True)
    matrices = [spec.from_input(box, transform.matrix) for box, transform in pairs]
    zooms = [spec.input.matrix(box) for box in boxes]
    return recolour(warp(crops, matrices, size), transforms, zooms)


def _is_input(transforms: Sequence[Transform], spec: CropSpec) -> bool:
    """Whether the stored crops are already what the network sees."""
    return spec.is_input and all(transform.is_identity for transform in transforms)


def normalize_pixels(x: Tensor, spec: InputSpec, black: float, white: float) -> Tensor:
    """The network's numbers, in place, of pixels that run from `black` to `white`: by default
    grey from -0.5 to 0.5, RGB with ImageNet's mean and deviation. (B, C, H, W) float32."""
    default = GREY if spec.grey else IMAGENET
    mean, std = (np.array(values) for values in spec.normalization or default)
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
