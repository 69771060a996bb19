"""Eyes, brows, mouth and nose: strokes in (x, y) of the head frame, through the points.

What is dark does not end where a point lies: lashes and creases go on beyond the corners of eyes
and mouth, a brow is densest below its points and thin at its inner end, and there is a shadow under
the lower lip. Networks that never saw this put the points of photographs there.
"""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from kptools.datasets.synthetic import Array, Rng
from kptools.datasets.synthetic.head import BROWS, EYES, Head, curve
from kptools.datasets.synthetic.paint import CIRCLE, Stroke, ink, paint
from kptools.datasets.synthetic.raster import Camera
from kptools.datasets.synthetic.surface import Hair

_UPPER_LIP, _LOWER_LIP = [48, 49, 50, 51, 52, 53, 54], [54, 55, 56, 57, 58, 59, 48]


_UPPER_INNER, _LOWER_INNER = [60, 61, 62, 63, 64], [64, 65, 66, 67, 60]
_ZOOM = 8


@dataclass(frozen=True, slots=True)
class Look:
    """What the features have in common, colours 0..1 without light."""

    iris: Array  # (3,)
    gaze: Array  # (2,) of an eye's width
    white: float  # how bright the white of the eye is
    wing: Array  # (2,) from an eye's outer corner to the end of its lashes, head units, outward
    crease: Array  # (3,) opacity of what goes on beyond corners: of an eye, its shade, of the mouth
    lashes: float  # head units
    shadow: float  # opacity on the lid
    lips: Array  # (3,)
    brows: Array  # (3,)
    thick: float  # half a brow's height, head units
    low: float  # from the points of a brow down to its middle, head units
    unit: float  # pixels per head unit


def random_look(rng: Rng, skin: Array, hair: Hair, unit: float) -> Look:
    irises = np.array([(0.45, 0.3, 0.2), (0.35, 0.5, 0.65)])
    lipstick = np.array((1, 0.2, 0.3)) * rng.uniform(0.4, 0.8)
    bare = skin * (rng.uniform(0.75, 0.97), *np.full(2, rng.uniform(0.5, 0.82)))
    thick = rng.uniform(0.02, 0.07)
    return Look(
        iris=rng.uniform(0.05, 1) * irises[rng.integers(2)],
        gaze=rng.normal(0, 0.07, 2) * (1, 0.4),
        white=rng.uniform(0.62, 1),
        wing=rng.uniform((0.03, -0.01), (0.13, 0.045)),
        crease=rng.uniform((60, 20, 60), (210, 140, 210)),
        lashes=rng.uniform(0.04, 0.065),
        shadow=0.25 + 0.5 * rng.random() ** 2,
        lips=bare if rng.random() < 0.7 else lipstick,
        brows=(0.5 * hair.natural + 0.1 * skin) * rng.uniform(0.6, 1.2),
        thick=thick,
        low=thick * rng.uniform(0.4, 1.1),
        unit=unit,
    )


def paint_features(
    rng: Rng, image: Image.Image, head: Head, camera: Camera, look: Look, ridge: Image.Image
) -> None:
    """ridge: a mask of the nose's pixels, which hide an eye or a brow behind them."""

    def place(xy: Array) -> Array:
        return camera.project(head.lift(xy))[:, :2]

    p, bare = head.points, image.copy()
    for an_eye, its_brow, side in zip(EYES, BROWS, (-1, 1), strict=True):
        strokes = eye(p[an_eye], side, look) + brow(p[its_brow], look)
        paint(image, strokes, zoom=_ZOOM, place=place)
    paint(image, mouth(rng, p, look), zoom=_ZOOM, place=place)
    paint(image, wrinkles(rng, p, look), zoom=4, place=place)
    image.paste(bare, mask=ridge)
    paint(image, nose(rng, p, look), zoom=_ZOOM, place=place)


def eye(corners: Array, side: int, look: Look) -> list[Stroke]:
    """corners: (6, 2), the outline from image-left over the top, as in the scheme. side: -1 is
    image-left, 1 image-right."""
    upper, lower = curve(corners[:4]), curve(corners[[3, 4, 5, 0]])
    lid = upper - (0, look.lashes)
    width = np.ptp(corners[:, 0])
    middle = corners.mean(0) + look.gaze * width
    discs = [(0.22, look.iris * 0.45), (0.187, look.iris), (0.09, np.full(3, 0.03))]
    glint = middle + (0.03, -0.035) + CIRCLE * 0.018
    opening = upper, lower[::-1]
    outer = corners[0] if side < 0 else corners[3]
    wing = np.stack([outer, outer + look.wing * (side, 1)])
    shade = outer + np.array([(-0.04, -0.03), (0.06, 0.02), (-0.04, 0.03)]) * (side, 1)
    white = ink(np.array((0.94, 0.91, 0.89)) * look.white)
    of_wing, of_shade, _ = look.crease.astype(int).tolist()
    return [
        Stroke(np.concatenate([lid, upper[::-1]]), ink(np.array((0.3, 0.15, 0.1)), look.shadow)),
        Stroke(shade, (60, 30, 25, of_shade)),
        Stroke(np.concatenate([upper, lower]), white),
        *(Stroke(_between(middle + CIRCLE * r * width, *opening), ink(c)) for r, c in discs),
        Stroke(_between(glint, *opening), (255, 255, 255, 230)),
        Stroke(upper, (25, 15, 12, 235), look.unit * width * look.lashes),
        Stroke(wing, (35, 20, 16, of_wing), look.unit * width * look.lashes * 0.8),
        Stroke(lower, (90, 45, 40, 170), look.unit * width * 0.025),
        Stroke(lid, (60, 30, 25, 120), look.unit * width * 0.03),
    ]


def brow(spine: Array, look: Look) -> list[Stroke]:
    """spine: (5, 2), the points of the brow."""
    spine = curve(spine) + np.array((0, look.low))
    taper = np.interp(abs(spine[:, 0]), (0.13, 0.2, 0.32, 0.6, 0.85), (0.1, 0.5, 1, 0.8, 0.15))
    half = np.column_stack([0 * taper, look.thick * taper])
    up, down = spine - half, spine + half
    hairs = [np.stack([down[i], up[i + 1]]) for i in range(0, len(spine) - 2, 2)]
    return [
        Stroke(np.concatenate([up, down[::-1]]), ink(look.brows, 0.8)),
        *(Stroke(hair, ink(look.brows * 0.6, 0.7), look.unit * 0.015) for hair in hairs),
    ]


def mouth(rng: Rng, p: Array, look: Look) -> list[Stroke]:
    """p: (68, 2)."""
    upper, lower = curve(p[_UPPER_LIP]), curve(p[_LOWER_LIP])
    inner_up, inner_low = curve(p[_UPPER_INNER]), curve(p[_LOWER_INNER])
    opening = inner_up, inner_low[::-1]
    cavity = np.concatenate([inner_up, inner_low])
    gap = max(0.0, p[66, 1] - p[62, 1])
    bite = np.array((0, min(gap * 0.6, rng.uniform(0.03, 0.11))))
    teeth = np.concatenate([inner_up, inner_up[::-1] + bite])
    gaps = [
        Stroke(
            _between(np.array([(x, -9), (x, 9)]), *opening), (120, 95, 85, 110), look.unit * 0.012
        )
        for x in np.arange(-0.3, 0.31, 0.075)
    ]
    tongue = p[66] + (0, 0.06) + CIRCLE * (0.17, gap * rng.uniform(0.2, 0.6))
    shine = (p[57] + p[66]) / 2 + CIRCLE * (0.12, 0.018)
    dark = int(look.crease[2])
    reach, rise, wide = rng.uniform((0.01, -0.03, 0.015), (0.1, 0.03, 0.045))
    corners = []
    for corner, side in ((p[48], -1), (p[54], 1)):
        line = corner + np.array([(-0.04, 0), (reach, rise)]) * (side, 1)
        corners += [
            Stroke(line, (60, 25, 20, dark), look.unit * wide),
            Stroke(corner + (side * 0.03, 0) + CIRCLE * 0.05, (70, 35, 25, dark // 4)),
        ]
    shadow = round(rng.uniform(10, 45))
    below = [
        Stroke(
            p[57] + (0, 0.02 + 0.02 * k) + CIRCLE * (0.26 - 0.04 * k, 0.05), (40, 20, 12, shadow)
        )
        for k in range(3)
    ]
    return [
        *below,
        Stroke(np.concatenate([upper, inner_up[::-1]]), ink(look.lips * 0.85)),
        Stroke(np.concatenate([lower, inner_low[::-1]]), ink(look.lips)),
        Stroke(cavity, (45, 14, 16, 255)),
        Stroke(_between(teeth, *opening), ink(rng.uniform(0.7, 0.95) * np.array((1, 0.98, 0.92)))),
        *(gaps if gap > 0.06 else []),
        Stroke(_between(tongue, *opening), (165, 80, 80, 255)),
        Stroke(shine, (255, 235, 230, int(rng.uniform(10, 80)))),
        Stroke(cavity, (60, 20, 20, 190), look.unit * 0.018),
        *corners,
    ]


def wrinkles(rng: Rng, p: Array, look: Look) -> list[Stroke]:
    """Of the forehead and the corners of the eyes, bags, and the folds from nose to mouth.
    p: (68, 2)."""
    tone = (60, 30, 20, round(90 * rng.random() ** 2))
    strokes = []
    for _ in range(rng.integers(0, 5)):
        x = np.linspace(-0.5, 0.5, 5) * rng.uniform(0.4, 1) + rng.normal(0, 0.1)
        y = rng.uniform(-0.75, -0.42) + 0.05 * x**2 + rng.normal(0, 0.01, 5)
        strokes.append(Stroke(curve(np.column_stack([x, y])), tone, look.unit * 0.02))
    bag, fold = rng.uniform(0, (90, 110)).astype(int).tolist()
    low, wide = rng.uniform((0.1, 0.02), (0.18, 0.06))
    for an_eye, side in zip(EYES, (-1, 1), strict=True):
        outer = p[an_eye][0 if side < 0 else 3]
        for slope in rng.normal(0, 0.06, rng.integers(0, 4)):
            foot = outer + np.array([(0.05, slope * 0.5), (0.2, slope * 1.6)]) * (side, 1)
            strokes.append(Stroke(foot, tone, look.unit * 0.015))
        under = p[an_eye].mean(0) + np.array([(-0.17, low), (0, low + 0.05), (0.17, low)])
        strokes.append(Stroke(curve(under), (70, 35, 30, bag), look.unit * 0.03))
    for corner, wing, side in ((p[48], p[31], -1), (p[54], p[35], 1)):
        path = np.stack([wing, corner, corner])
        path += np.array([(0.1, -0.08), (0.14, -0.1), (0.12, 0.1)]) * (side, 1)
        strokes.append(Stroke(curve(path), (60, 30, 20, fold), look.unit * wide))
    return strokes


def nose(rng: Rng, p: Array, look: Look) -> list[Stroke]:
    """p: (68, 2)."""
    strokes = [
        Stroke(curve(p[27:31]), (255, 245, 235, int(rng.uniform(15, 60))), look.unit * 0.06),
        Stroke(p[30] + CIRCLE * 0.05, (255, 248, 240, int(rng.uniform(25, 90)))),
        Stroke(curve(p[31:36]), (70, 30, 20, 110), look.unit * 0.035),
    ]
    wide = 0.13 * (p[35, 0] - p[31, 0])
    wing_shape = np.array([(0.025, -0.16), (0.05, -0.1), (0.045, -0.02), (0, 0)])
    fold_shape = np.array([(0.08, -0.04), (0.12, -0.12)])
    fold_depth = int(rng.uniform(5, 70))
    for wing, nostril, corner, sign in ((31, 32, 48, -1), (35, 34, 54, 1)):
        hole = p[nostril] + (sign * 0.77 * wide, -0.02) + CIRCLE * (wide, 0.028)
        fold = p[[wing, corner]] + fold_shape * (sign, 1)
        strokes += [
            Stroke(hole, (40, 14, 12, 220)),
            Stroke(curve(p[wing] + wing_shape * (sign, 1)), (70, 30, 20, 120), look.unit * 0.025),
            Stroke(fold, (70, 30, 20, fold_depth), look.unit * 0.03),
        ]
    return strokes


def _between(shape: Array, upper: Array, lower: Array) -> Array:
    """The part of a shape (n, 2) between two curves, each from small x to large x."""
    x = shape[:, 0].clip(upper[0, 0], upper[-1, 0])
    low, high = np.interp(x, *upper.T), np.interp(x, *lower.T)
    return np.column_stack([x, np.minimum(shape[:, 1].clip(low), high)])
