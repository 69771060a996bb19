"""All but the head: what is behind it, what is before it, and the photograph of it all.

Strokes are in pixels of the file.
"""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageFilter

from kptools.datasets.synthetic import Array, Rng
from kptools.datasets.synthetic.head import EYES, Head, curve
from kptools.datasets.synthetic.paint import CIRCLE, Stroke, ink, paint
from kptools.datasets.synthetic.raster import Camera, nearest
from kptools.datasets.synthetic.surface import SKINS, Hair, random_colour
from kptools.units import Size

_BICUBIC = Image.Resampling.BICUBIC
_IN_FOCUS = ImageFilter.BoxBlur(0.25)


def background(rng: Rng, size: Size) -> Image.Image:
    """Blurred patches, or clouds."""
    if rng.random() < 0.6:
        return _clouds(rng, size)
    rough = rng.random((*rng.integers(2, 9, 2), 3)) * rng.uniform(0.2, 1)
    rough += rng.uniform(0, 1 - rough.max())
    rough += rng.random() * (rough.mean(axis=2, keepdims=True) - rough)  # not always so colourful
    return Image.fromarray((rough * 255).astype(np.uint8)).resize(size, _BICUBIC)


def _clouds(rng: Rng, size: Size) -> Image.Image:
    """Detail of every size in few colours, less of it the finer, as in photographs."""
    colour = rng.random() * np.ones(3) + rng.normal(0, 0.12, 3)
    fade, contrast = rng.uniform((0.45, 0.05), (0.85, 0.3))
    total = np.zeros((3, 2, 2), np.float32)
    for octave in range(6):
        cells = 2 ** (octave + 1)
        grey, tint = rng.normal(size=(1, cells, cells)), rng.normal(size=(3, cells, cells))
        larger = [np.asarray(Image.fromarray(c).resize((cells, cells), _BICUBIC)) for c in total]
        total = np.stack(larger) + (contrast * fade**octave * (grey + 0.25 * tint)).astype(
            np.float32
        )
    pixels = (colour[:, None, None] + total).clip(0, 1) * 255
    return Image.fromarray(pixels.transpose(1, 2, 0).astype(np.uint8)).resize(size, _BICUBIC)


def shadow(rng: Rng, size: Size, camera: Camera) -> Array:
    """(h * w, 1) float32: how much light is left where a shadow with a wavy edge falls on the
    face."""
    y, x = np.mgrid[: size[1], : size[0]].astype(np.float32)
    turn, unit = rng.uniform(0, 2 * np.pi), camera.scale
    across = (x - camera.centre[0]) * np.cos(turn) + (y - camera.centre[1]) * np.sin(turn)
    across += unit * rng.uniform(0, 0.3) * np.sin((x - y) * rng.uniform(0.01, 0.06))
    lit = (across - unit * rng.normal(0, 0.6)) / (unit * rng.uniform(0.03, 0.6))
    left = 1 - rng.uniform(0.2, 0.7) / (1 + np.exp(-lit.clip(-20, 20)))
    return np.asarray(left, np.float32).reshape(-1, 1)


def soften_jaw(rng: Rng, image: Image.Image, points: Array, camera: Camera, skin: Array) -> None:
    """Paint a jaw that hardly stands out from the neck, and a second chin below it. skin: lit."""
    unit, down = camera.scale, camera.rotation[:2, 1]
    strokes = []
    first, last = sorted(rng.choice(17, 2, replace=False))
    if rng.random() < 0.4 and last - first > 3:
        tone, jaw = skin * rng.uniform(0.6, 1.1), curve(points[first : last + 1])
        for _ in range(3):
            width, opacity = rng.uniform((0.04, 0.1), (0.14, 0.35))
            strokes.append(Stroke(jaw, ink(tone, opacity), unit * width))
    if rng.random() < 0.3:
        sag = np.interp(np.arange(11), (0, 5, 10), (0.02, 1, 0.02)) * rng.uniform(0.08, 0.3)
        below = curve(points[3:14] + unit * sag[:, None] * down)
        dark = ink(skin * rng.uniform(0.3, 0.7), rng.uniform(0.2, 0.7))
        strokes.append(Stroke(below, dark, unit * rng.uniform(0.02, 0.06)))
    if strokes:
        paint(image, strokes, zoom=2)


def hood(rng: Rng, image: Image.Image, camera: Camera) -> Array:
    """Paint a hood or a shawl about the face; (h, w) bool: the pixels that it covers."""
    x, y = rng.uniform((0.85, 0.85), (1.1, 1.05))
    inner = CIRCLE * (x, 1.35 * y) + (0, 0.35 + rng.uniform(-0.1, 0.15))
    outer = CIRCLE * rng.uniform((1.3, 1.7), (1.7, 2.3)) + (0, 0.4)
    ring = np.concatenate([inner, inner[:1], outer[:1], outer[::-1]])
    colour = rng.random(3) * rng.uniform(0.4, 1)
    strokes = [Stroke(camera.pixels(ring, -0.15), ink(colour))]
    for t in rng.random(12):
        at = rng.integers(0, 26)
        fold = camera.pixels((inner + t * (outer - inner))[at : at + 6], -0.15)
        shade = ink(colour * rng.uniform(0.5, 1.3))
        strokes.append(Stroke(fold, shade, camera.scale * 0.04))
    return _painted(image, strokes)


def locks(rng: Rng, image: Image.Image, camera: Camera, hair: Hair, light: Array) -> Array:
    """Paint hair that falls before cheeks and forehead; (h, w) bool: the pixels that it covers.
    light: (3,), the mean on the face."""
    tone = hair.colour * light
    strokes = [*_side_hair(rng, camera, tone)]
    for x in rng.normal(0, 0.5, rng.integers(3, 25) if rng.random() < 0.35 else 0):
        path = np.array([(x * 0.7, -1), (x, -0.6), (x * 1.1, rng.uniform(-0.45, 0))])
        path[2, 0] += rng.normal(0, 0.1)
        colour, width = ink(tone * rng.uniform(0.5, 1.4), 0.8), rng.uniform(0.01, 0.05)
        strokes.append(Stroke(camera.pixels(curve(path), 0.75), colour, camera.scale * width))
    return _painted(image, strokes)


def _painted(image: Image.Image, strokes: list[Stroke]) -> Array:
    """Paint them; (h, w) bool: the pixels that are others than before."""
    if not strokes:
        return np.zeros((image.height, image.width), bool)
    before = np.asarray(image)
    paint(image, strokes, zoom=2)
    return np.asarray((np.asarray(image) != before).any(-1))


def _side_hair(rng: Rng, camera: Camera, tone: Array) -> Iterator[Stroke]:
    """From the temples down, a lock after the other."""
    for side in (-1, 1):
        if rng.random() < 0.25 or side * camera.rotation[0, 2] > 0.25:  # that side is turned away
            continue
        reach, end, spread = rng.uniform((0, 0.3, 0.02), (0.3, 2.2, 0.08))
        for t in np.linspace(0, 1, rng.integers(10, 30)):
            root = 0.9 + 0.2 * t
            x = np.array([0.85 * root, root, root - 0.6 * reach + 0.1 * t, 0.98 - reach + 0.3 * t])
            x[1:] += rng.normal(0, spread, 3)
            y = np.array([-0.85, -0.35, 0.25 * end, end + rng.normal(0, 0.12)])
            path = camera.pixels(curve(np.column_stack([side * x, y])), -0.2)
            colour, width = ink(tone * rng.uniform(0.45, 1.3)), rng.uniform(0.02, 0.07)
            yield Stroke(path, colour, camera.scale * width)


def clutter(rng: Rng, size: Size) -> list[Stroke]:
    """Stripes and shapes, some of them like eyes, mouths and heads."""
    strokes = _stripes(rng, size) if rng.random() < 0.3 else []
    for _ in range(rng.integers(2, 10)):
        middle, radius = rng.random(2) * size, rng.uniform(4, 40) * rng.uniform(0.4, 1, 2)
        colour = ink(rng.random(3), rng.uniform(0.3, 1))
        match rng.integers(4):
            case 0:
                corners = rng.normal(0, 1, (rng.integers(3, 6), 2))
                strokes.append(Stroke(middle + corners * radius, colour))
            case 1:
                strokes.append(Stroke(middle + CIRCLE * radius, colour))
            case 2:  # like an eye
                eye = rng.uniform(4, 10)
                strokes.append(Stroke(middle + CIRCLE * (eye, eye / 2), (230, 225, 220, 255)))
                strokes.append(Stroke(middle + CIRCLE * eye * 0.4, ink(rng.random(3) * 0.4)))
            case _:  # like a mouth or a face
                face = ink(random_colour(rng, SKINS, 0.05))
                strokes.append(Stroke(middle + CIRCLE * radius * (1, 1.3), face))
                strokes.append(Stroke(middle + CIRCLE * radius * (0.5, 0.12), (150, 60, 60, 255)))
    return strokes


def _stripes(rng: Rng, size: Size) -> list[Stroke]:
    """A fence, a shelf, bricks."""
    step, turn = rng.uniform(6, 30), rng.uniform(0, np.pi)
    across, along = (np.array([np.cos(a), np.sin(a)]) for a in (turn, turn + np.pi / 2))
    colour = ink(rng.random(3), rng.uniform(0.1, 0.7))
    stripe = np.outer((-160, 160), along)
    middles = [np.array(size) / 2 + offset * across for offset in np.arange(-160, 161, step)]
    return [Stroke(middle + stripe, colour, step * 0.3) for middle in middles]


def body(rng: Rng, camera: Camera, skin: Array, hair: Hair, light: Array) -> list[Stroke]:
    """Long hair behind, shoulders, neck and ears. light: (3,), the mean on the face."""
    half_turned = camera.rotation * 0.5 + np.eye(3) * 0.5
    upright = Camera(half_turned, camera.scale, camera.centre, np.inf)
    strokes = _long_hair(rng, upright, hair.colour * light * 0.8) if hair.long else []
    return strokes + _shoulders(rng, upright, skin * light, light) + _ears(camera, skin * light)


def _long_hair(rng: Rng, camera: Camera, tone: Array) -> list[Stroke]:
    length, wide = rng.uniform(1.2, 3), rng.uniform(1.1, 1.5)
    down = np.where(CIRCLE[:, 1] > 0, length, 1.5)
    shape = np.column_stack([CIRCLE[:, 0] * wide, 0.2 + CIRCLE[:, 1] * down])
    strokes = [Stroke(camera.pixels(shape, -0.9), ink(tone))]
    for x in rng.uniform(-wide, wide, 14):
        lock = np.array([(x * 0.8, -0.6), (x, 0.2 + length * 0.7)])
        shade = ink(tone * rng.uniform(0.6, 1.4))
        strokes.append(Stroke(camera.pixels(lock, -0.9), shade, camera.scale * 0.06))
    return strokes


def _shoulders(rng: Rng, camera: Camera, skin: Array, light: Array) -> list[Stroke]:
    """Shoulders, neck and collar. skin: lit."""

    def both_sides(right: list[tuple[float, float]]) -> Array:
        return np.concatenate([right, np.multiply(right[::-1], (-1, 1))])

    wide, top, neck = rng.uniform(1.7, 2.4), rng.uniform(1.95, 2.3), rng.uniform(0.5, 0.72)
    cloth = ink(rng.random(3) * light)
    back = both_sides([(0.5, top), (wide * 0.8, top + 0.45), (wide, 5)])
    strokes = [Stroke(camera.pixels(back, -0.8), cloth)]
    shade = rng.uniform(0.5, 1.15)  # under the chin it is darker, or hardly so
    column = both_sides([(neck, 0.9), (neck * 0.95, 1.6), (neck * 1.25, top + 0.1)])
    for k in np.linspace(1, 0.15, 6):  # shaded to its sides, and under the chin
        part = column * (k, 1) + (0, 0.25 * (1 - k))
        strokes.append(
            Stroke(camera.pixels(part, -0.55), ink(skin * shade * (0.8 + 0.3 * (1 - k))))
        )
    dip = top + rng.uniform(0.15, 0.4)
    front = both_sides([(0, dip), (neck * 1.3, top - 0.05), (wide * 0.8, top + 0.5), (wide, 5)])
    return [*strokes, Stroke(camera.pixels(front, -0.5), cloth)]


def _ears(camera: Camera, skin: Array) -> list[Stroke]:
    """skin: lit."""
    strokes = []
    for sign in (-1, 1):
        for k in (1.0, 0.6):
            rim = CIRCLE * (0.14, 0.27) * k + (sign * 1.05, 0.2)
            z = -0.55 - 0.25 * (abs(rim[:, 0]) - 1)
            strokes.append(Stroke(camera.pixels(rim, z), ink(skin * k**0.6 * 0.85)))
    return strokes


def put_on_glasses(rng: Rng, image: Image.Image, head: Head, camera: Camera) -> bool:
    """Paint glasses on the face; whether they hide the eyes."""
    dark = rng.random() < 0.3
    rim, lens = ink(rng.random(3) * 0.5), (200, 220, 235, 30)
    if dark:
        lens = ink(rng.random(3) * 0.15, 0.95)
    radius = np.array([rng.uniform(0.29, 0.36), rng.uniform(0.2, 0.34)])
    shape = np.sign(CIRCLE) * abs(CIRCLE) ** rng.uniform(0.45, 1) * radius
    nose_z = head.lift(head.points[27:28] + np.array((0, 0.03)))[0, 2] + 0.05

    def at(xy: Array, back: Array | float = 0.0) -> Array:
        return camera.pixels(xy, nose_z - 0.18 * xy[:, 0] ** 2 - back)

    thick = camera.scale * rng.uniform(0.02, 0.08)
    middles = [head.points[eye].mean(0) + np.array((0, 0.03)) for eye in EYES]
    bridge = np.stack([middles[0] + (radius[0], -0.03), middles[1] - (radius[0], 0.03)])
    strokes = [Stroke(at(bridge), rim, thick)]
    for middle, sign in zip(middles, (-1, 1), strict=True):
        ring = at(middle + shape)
        reflection = at(middle + shape * (0.15, 0.7) - (0.1, 0))
        strokes += [
            Stroke(ring, lens),
            Stroke(reflection, (255, 255, 255, rng.choice([0, 60]))),
            Stroke(np.concatenate([ring, ring[:2]]), rim, thick),
        ]
        if sign * camera.rotation[0, 2] < 0.15:  # the far arm is behind the face
            arm = np.array([(middle[0] + sign * radius[0], middle[1] - 0.08), (sign * 1.02, 0.0)])
            strokes.append(Stroke(at(arm, np.array([0, 0.55])), rim, thick))
    paint(image, strokes, zoom=4)
    return dark


def hold_before(rng: Rng, image: Image.Image, points: Array, unit: float, skin: Array) -> Array:
    """Paint a hand, a scarf or some object before the face; (68,) bool: the points that it hides.

    points: (68, 2) pixels; unit: pixels per head unit.
    """
    aim = points[rng.integers(68)] + rng.normal(0, 0.3 * unit, 2)
    turn = rng.uniform(0, 2 * np.pi)
    axes = np.array([(np.cos(turn), np.sin(turn)), (-np.sin(turn), np.cos(turn))]) * unit
    colour = rng.random(3)
    white = (255, 255, 255, 255)
    match rng.integers(3):
        case 0:  # a hand: a palm, and fingers with round tips
            shapes = [Stroke(aim + (CIRCLE * (0.5, 0.45) + (0.4, 0)) @ axes, white)]
            for y in np.linspace(-0.33, 0.33, 4):
                finger = np.array([(0.2, y), (y**2 * 2 - 0.65, y * 1.3)])
                shapes.append(Stroke(aim + finger @ axes, white, 0.2 * unit))
                shapes.append(Stroke(aim + (finger[1] + CIRCLE * 0.1) @ axes, white))
            colour = skin * rng.uniform(0.6, 1)
        case 1:  # a scarf, or a mask over mouth and chin
            edge = curve(np.linspace(points[2], points[14], 5) + rng.normal(0, 0.08 * unit, (5, 2)))
            fall = np.array([0, unit * rng.uniform(1.9, 2.8)])
            shapes = [Stroke(np.concatenate([edge, edge[::-1] + fall]), white)]
        case _:  # a book, a telephone, a cup
            box = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * rng.uniform(0.25, 0.7, 2)
            shapes = [Stroke(aim + box @ axes, white)]
    cover = Image.new("RGB", image.size)
    paint(cover, shapes, zoom=2)
    mask = cover.getchannel(0)
    fabric = rng.normal(1, 0.2, (*rng.integers(3, 24, 2), 1)).clip(0.4, 1.6) * colour * 255
    texture = Image.fromarray(fabric.clip(0, 255).astype(np.uint8))
    image.paste(texture.resize(image.size, _BICUBIC), mask=mask)
    return nearest(np.asarray(mask), points) > 127


def photograph(rng: Rng, image: Image.Image) -> Image.Image:
    """Blur, exposure, tone and sensor noise; points stay where they are."""
    out_of_focus = rng.random() < 0.25
    blur = ImageFilter.GaussianBlur(rng.uniform(0.7, 2)) if out_of_focus else _IN_FOCUS
    image = image.filter(blur)
    if rng.random() < 0.12:
        image = image.convert("L").convert("RGB")
    grain = rng.integers(0, 256, (2, image.height, image.width, 1), dtype=np.uint8)
    noise = (grain[0].astype(np.float32) - grain[1]) * np.float32(rng.uniform(0.5, 7) / 104)
    contrast = rng.uniform(0.7, 1.5)
    pixels = np.asarray(image) * np.float32(contrast)
    pixels += noise + np.float32(128 * (1 - contrast) + rng.normal(0, 12))
    pixels = pixels.clip(0, 255, out=pixels).astype(np.uint8)
    if rng.random() < 0.5:
        gamma = np.exp(rng.normal(0, 0.25) + rng.normal(0, 0.06, 3))
        table = 255 * (np.arange(256) / 255) ** gamma[:, None]
        pixels = np.stack([table[c].astype(np.uint8)[pixels[..., c]] for c in range(3)], axis=-1)
    return Image.fromarray(pixels)
