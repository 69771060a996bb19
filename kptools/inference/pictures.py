"""From a picture in memory, and boxes, to points: for who has no files."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from kptools import geometry as g
from kptools.augment.transform import Transform
from kptools.errors import RecordError, UsageError
from kptools.inference.passes import Passes, decode, resolve
from kptools.inference.prediction import found_by
from kptools.inference.torch_engine import check_decoder, prepare
from kptools.models.network import Network
from kptools.pixels.batch import network_input
from kptools.pixels.crop_spec import crop_spec
from kptools.pixels.decode import crop_picture
from kptools.records import keys
from kptools.runtime import send
from kptools.schemes import catalog
from kptools.specs import ModelSpec
from kptools.units import Box


@torch.inference_mode()
def predict_picture(
    network: Network,
    model: ModelSpec,
    picture: NDArray[np.uint8],
    boxes: Sequence[Box],
    *,
    device: torch.device,
    precision: str,
    batch: int,
    decoder: str | None = None,
    passes: Passes | None = None,
    find: str | None = None,
) -> g.Points:
    """The points (N, K, 2) of the faces in N boxes of an RGB picture (H, W, 3) or a grey one
    (H, W), uint8; of a network of several schemes those of the scheme `find`, or of its first.
    Points and boxes are in pixels of the picture: the centre of its top-left pixel is (0, 0). The
    numbers are those of the same pixels in a PNG file. UsageError where the picture is none, or
    where a box has no area or lies outside it."""
    if (
        picture.dtype != np.uint8
        or picture.ndim not in (2, 3)
        or picture.shape[2:] not in ((), (3,))
    ):
        raise UsageError(
            f"a picture is uint8 of shape (H, W, 3), RGB, or (H, W), grey; this is {picture.dtype} "
            f"of {picture.shape}"
        )
    wanted, union = found_by(model.scheme, find), catalog.union(model.scheme)
    block = (union and union.block(wanted)) or slice(None)
    check_decoder(network, decoder)
    if batch < 1:
        raise UsageError(f"--batch-size {batch}: at least 1")
    prepare(network, device, precision)
    image = Image.fromarray(picture).convert("L" if model.input.grey else "RGB")
    how = passes or resolve(model)
    spec = crop_spec([], model.input, align=how.count > 1)
    found: list[g.Points] = []
    for first in range(0, len(boxes), batch):
        some, crops = [], []
        for number, box in enumerate(boxes[first : first + batch], start=first):
            try:
                checked = keys.box({"box": np.asarray(box, dtype=float).tolist()})
                some.append(model.input.focused(checked))
                crops.append(crop_picture(image, g.IDENTITY, some[-1], spec, "the picture"))
            except (RecordError, ValueError, TypeError) as error:
                raise UsageError(f"boxes[{number}]: {error}") from None
        pixels = send(torch.from_numpy(np.stack(crops)), device)
        decoded = decode(
            network,
            model,
            partial(network_input, pixels, some, spec=spec),
            some,
            [Transform()] * len(some),
            how,
            precision=precision,
            decoder=decoder,
        )
        pairs = zip(decoded.points, some, strict=True)
        found += [model.input.to_file(points, box)[block] for points, box in pairs]
    return np.stack(found) if found else np.zeros((0, model.count, 2))[:, block]
