"""Augmentation as a policy: what may happen to a face, and what does.

A policy is a list of stages in the record (`augment`); a stage is a JSON object with its `seed`
and one number an operation. `sample` turns it into numbers for one epoch, from a counter-based
generator. Applying them to pixels is the work of `kptools.pixels`.

Operations, in the order in which a stage applies them: flip, scale, rotate, shift (one matrix
about the box's centre); then brightness, contrast, saturation, hue, gray (one affine map of
colour); then blur, noise and erase. Stages follow each other; of their blurs and noises the
variances add, and what is erased is erased last.
"""

import math
from functools import lru_cache
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from kptools import geometry as g
from kptools.augment.align import JITTER, Alignment
from kptools.augment.transform import Transform
from kptools.records import keys
from kptools.records.face import Face
from kptools.records.policy import Stage
from kptools.units import Box, Fraction

_LUMA = np.array([0.299, 0.587, 0.114])
# RGB to YIQ: hue turns the plane of I and Q
_YIQ = np.array([[0.299, 0.587, 0.114], [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])


def sample(face: Face, epoch: int, alignment: Alignment | None = None) -> Transform:
    """Sample the face's policy for an epoch: the same numbers for the same face and epoch, whatever
    else is in the stream, on any machine. It happens to the face as turned upright by its `roll`.
    With an `alignment` a share of the annotated faces is aligned first."""
    transform = Transform(swap=face.swap)
    aligned = _aligned(face, epoch, alignment)
    if not face.stages and aligned is None and not face.roll:
        return transform
    transform.is_identity = False
    for index, stage in enumerate(face.stages):
        key = f"{stage.get('seed', 0)}\0{face.key}\0{epoch}\0{index}"
        _sample_stage(transform, stage, face.box, key, 1.0 if aligned is None else JITTER)
    transform.matrix = g.about(transform.matrix, *g.centre(face.box))
    if aligned is not None:
        transform.matrix = g.compose(transform.matrix, aligned)
    if face.roll:
        transform.matrix = g.compose(transform.matrix, face.levelling)
    return transform


def _aligned(face: Face, epoch: int, alignment: Alignment | None) -> g.Matrix | None:
    """The map that aligns the face, upright, or None where chance lets it be as it is."""
    if alignment is None or face.points is None:
        return None
    key = f"{keys.identity(face.record)}\0{keys.copy_index(face.record)}\0{epoch}"
    if uniforms(key, "align")[0] >= alignment.share:
        return None
    return alignment.matrix(face.level(face.points), face.box)


def _sample_stage(transform: Transform, stage: Stage, box: Box, key: str, jitter: Fraction) -> None:
    """Add one stage; until the end `transform.matrix` is about the box's centre. `jitter`: how much
    of its turns, scales and shifts."""
    side = g.side(box)

    def amount(name: str) -> float:
        factor = jitter if name in ("scale", "rotate", "shift") else 1.0
        return factor * float(stage.get(name, 0.0))

    def within(name: str) -> float:  # uniform in -1..1
        return 2 * uniforms(key, name)[0] - 1

    def happens(name: str) -> bool:
        return amount(name) > 0 and uniforms(key, name)[0] < amount(name)

    if happens("flip"):
        transform.matrix = g.compose(g.scaling(-1, 1), transform.matrix)
        transform.flipped = not transform.flipped
    if amount("scale"):
        zoom = (1 + amount("scale")) ** within("scale")
        transform.matrix = g.compose(g.scaling(zoom, zoom), transform.matrix)
    if amount("rotate"):
        turn = math.radians(amount("rotate") * within("rotate"))
        transform.matrix = g.compose(g.rotation(turn), transform.matrix)
    if amount("shift"):
        u, v, _, _ = uniforms(key, "shift")
        reach = amount("shift") * side
        transform.matrix = g.compose(
            g.translation(reach * (2 * u - 1), reach * (2 * v - 1)), transform.matrix
        )
    if amount("brightness"):
        factor = 1 + amount("brightness") * within("brightness")
        _recolour(transform, factor * np.eye(3), (factor - 1) / 2)
    if amount("contrast"):
        _recolour(transform, (1 + amount("contrast") * within("contrast")) * np.eye(3))
    if amount("saturation"):
        _recolour(transform, _saturation(1 + amount("saturation") * within("saturation")))
    if amount("hue"):
        _recolour(transform, _hue(2 * math.pi * amount("hue") * within("hue")))
    if happens("gray"):
        _recolour(transform, _saturation(0.0))
    if amount("blur"):
        transform.blur = math.hypot(transform.blur, amount("blur") * uniforms(key, "blur")[0])
    if amount("noise"):
        u, v, _, _ = uniforms(key, "noise")
        transform.noise = math.hypot(transform.noise, amount("noise") * u)
        transform.noise_key ^= int(v * 2**31)
    if happens("erase"):
        transform.erased.append(_erased(box, uniforms(key, "erase")[1:], uniforms(key, "erase/at")))


def _recolour(transform: Transform, m: NDArray[np.float64], offset: float = 0.0) -> None:
    if transform.colour is None:
        transform.colour = np.eye(3, 4)
    transform.colour = m @ transform.colour
    transform.colour[:, 3] += offset


def _saturation(factor: float) -> NDArray[np.float64]:
    return factor * np.eye(3) + (1 - factor) * np.tile(_LUMA, (3, 1))


def _hue(turn: float) -> NDArray[np.float64]:
    cos, sin = math.cos(turn), math.sin(turn)
    turned = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
    result: NDArray[np.float64] = np.linalg.inv(_YIQ) @ turned @ _YIQ
    return result


def _erased(box: Box, shape: tuple[float, ...], at: tuple[float, ...]) -> Box:
    """A rectangle of 2 to 20 % of the box's area, 1:3 to 3:1, its centre anywhere in the box."""
    area = (0.02 + 0.18 * shape[0]) * (box[2] - box[0]) * (box[3] - box[1])
    ratio = 3 ** (2 * shape[1] - 1)
    width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
    x = box[0] + at[0] * (box[2] - box[0])
    y = box[1] + at[1] * (box[3] - box[1])
    return (x - width / 2, y - height / 2, x + width / 2, y + height / 2)


@lru_cache(maxsize=64)
def uniforms(key: str, name: str) -> tuple[float, float, float, float]:
    """Four numbers in [0, 1), a function of the key and the operation's name alone."""
    digest = blake2b(f"{key}\0{name}".encode(errors="surrogatepass"), digest_size=32).digest()
    a, b, c, d = (int.from_bytes(digest[i : i + 8], "little") >> 11 for i in (0, 8, 16, 24))
    return (a * 2.0**-53, b * 2.0**-53, c * 2.0**-53, d * 2.0**-53)
