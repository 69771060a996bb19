"""One face: a seed and an index in, a picture and its points out."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from kptools.datasets.synthetic import Array, Rng, features, raster, scene, surface
from kptools.datasets.synthetic.head import EYES, JAW, UV, mesh_of, normals_of, random_head
from kptools.datasets.synthetic.paint import paint
from kptools.units import Box, Size


@dataclass(frozen=True, slots=True)
class Face:
    """One drawn face."""

    image: Image.Image  # RGB
    points: Array  # (68, 2) float64, pixels of the image, file frame
    visible: Array  # (68,) bool; False: hidden by hair, the head itself, glasses or an object
    box: Box  # pixels, file frame; may leave the image
    quality: int  # of the JPEG file


def synthesize(seed: int, index: int) -> Face:
    """Face `index` of `seed`, both 0 to 2**64 - 1; no other face has a say in it."""
    rng = np.random.Generator(np.random.Philox(key=[seed, index]))
    size = (int(rng.integers(190, 290)), int(rng.integers(190, 290)))
    camera = raster.random_camera(rng, size)
    head = random_head(rng)
    hair = surface.random_hair(rng)
    skin = surface.random_colour(rng, surface.SKINS, 0.03)

    # the head's mesh, and what each of the N pixels shows that it covers
    mesh = mesh_of(head, hair, forehead=rng.uniform(1.05, 1.25))
    corners = camera.project(mesh.reshape(-1, 3))
    light = raster.random_light(rng, normals_of(mesh), camera)
    values = np.column_stack([UV.reshape(-1, 2), corners[:, 2], light]).astype(np.float32)
    at, values = raster.rasterise(corners, values, size)  # (N,), (N, 6)
    (u, v, depth), light = np.ascontiguousarray(values[:, :3].T), values[:, 3:]
    colour, hairy = surface.albedo(rng, u, v, skin, hair)  # (N, 3), (N,)

    # the points, and which of them the head itself or its hair hides
    placed = camera.project(head.lift(head.points))
    placed[JAW] = raster.contour(corners.reshape(mesh.shape), camera)
    placed = placed.round(3)
    points = placed[:, :2]
    front = _picture(np.where(hairy, np.float32(9), depth), at, size, empty=-9)
    visible = placed[:, 2] > raster.nearest(front, points) - 0.15

    # the features are painted under the hair, and all is lit
    bare = (colour * 255).clip(0, 255).astype(np.uint8)
    ridge = ((abs(u) < 0.1 + 0.15 * v) & (v < 0.66)).astype(np.uint8) * 255
    painted = Image.fromarray(_picture(bare, at, size))
    look = features.random_look(rng, skin, hair, camera.scale)
    mask = Image.fromarray(_picture(ridge, at, size))
    features.paint_features(rng, painted, head, camera, look, mask)
    flesh = np.where(hairy[:, None], bare, np.asarray(painted).reshape(-1, 3)[at])
    lit = (flesh * light).clip(0, 255)

    # the head is set before what is behind it, and things before the head
    behind = scene.background(rng, size)
    mean_light = light.mean(0) if len(light) else np.ones(3)
    strokes = scene.clutter(rng, size) + scene.body(rng, camera, skin, hair, mean_light)
    paint(behind, strokes, zoom=2)
    pixels = np.array(behind)
    if rng.random() < 0.25:
        lit *= scene.shadow(rng, size, camera)[at]
    pixels.reshape(-1, 3)[at] = lit
    image = Image.fromarray(pixels)
    scene.soften_jaw(rng, image, points, camera, skin * mean_light)
    if rng.random() < 0.07:
        covered = scene.hood(rng, image, camera)
        visible &= raster.nearest(covered, points) == 0
    if rng.random() < (0.7 if hair.long else 0.15):
        covered = scene.locks(rng, image, camera, hair, mean_light)
        visible &= raster.nearest(covered, points) == 0
    if rng.random() < 0.2 and scene.put_on_glasses(rng, image, head, camera):
        visible[EYES[0]] = visible[EYES[1]] = False
    if rng.random() < 0.18:
        visible &= ~scene.hold_before(rng, image, points, camera.scale, skin)

    box = _random_box(rng, camera)
    quality = int(rng.integers(45, 96))
    return Face(scene.photograph(rng, image), points, visible, box, quality)


def _picture(values: Array, at: Array, size: Size, empty: int = 0) -> Array:
    """(h, w) or (h, w, C): the values (N,) or (N, C) at their flat pixel indices, else `empty`."""
    w, h = size
    picture = np.full((h * w, *values.shape[1:]), empty, values.dtype)
    picture[at] = values
    return picture.reshape(h, w, *values.shape[1:])


def _random_box(rng: Rng, camera: raster.Camera) -> Box:
    """What a detector would give: square, about brow to chin, and a few percent off."""
    side = 2 * camera.scale * rng.lognormal(0.02, 0.06)
    middle = camera.centre + rng.normal((0, -0.07), (0.06, 0.04)) * side
    x0, y0, x1, y1 = np.concatenate([middle - side / 2, middle + side / 2]).round(3).tolist()
    return x0, y0, x1, y1
