"""A white spot lands where its point lands: in written files and in the crops of training.

The spot is a Gaussian of known centre; where it lands is measured by the centroid of what is
brighter than the ground, with nothing of the project's own geometry.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import save_grey, written
from PIL import Image

from kptools import geometry as g
from kptools import specs
from kptools.augment.sample import sample
from kptools.augment.transform import Transform
from kptools.pixels import batch, warp, write
from kptools.pixels.crop_spec import crop_spec
from kptools.pixels.decode import decode_crop
from kptools.records.face import Face

SPOT = (70.0, 41.0)
SIZE = (133, 97)  # not square, and no multiple of 8
BOX = [30.5, 12.5, 108.5, 80.5]
POLICIES = {
    "nothing": {},
    "rotate": {"rotate": 40},
    "scale": {"scale": 0.3},
    "shift": {"shift": 0.15},
    "flip": {"flip": 1.0},
    "all": {"rotate": 25, "scale": 0.2, "shift": 0.1, "flip": 0.5},
}


def picture(path: Path, size: tuple[int, int] = SIZE, at: tuple[float, float] = SPOT) -> Path:
    """Mid-grey with a white spot of deviation 1.5 whose centre is the centre of pixel `at`."""
    x, y = np.arange(size[0]), np.arange(size[1])[:, None]
    spot = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / (2 * 1.5**2 * (size[0] / SIZE[0]) ** 2))
    grey = (128 + 127 * spot).round().astype(np.uint8)
    return save_grey(path, grey)


def centroid(pixels: np.ndarray) -> tuple[float, float]:
    """Of the brightness over 8 levels above mid-grey, in whole-number-centred pixels."""
    weight = np.clip(pixels.astype(float) - 136, 0, None)
    total = weight.sum()
    return (
        float((weight.sum(axis=0) * np.arange(pixels.shape[1])).sum() / total),
        float((weight.sum(axis=1) * np.arange(pixels.shape[0])).sum() / total),
    )


def record(path: Path, stages: list[dict], name: str = "a") -> dict:
    return {
        "image": str(path),
        "id": name,
        "box": BOX,
        "points": [list(SPOT)],
        "scheme": "nose1",
        "augment": stages,
    }


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("policy", POLICIES)
def test_a_written_file_has_its_spot_where_its_point_is(tmp_path, policy, suffix):
    path = picture(tmp_path / f"spot{suffix}")
    for name in "abc":
        made = write.write_image(record(path, [{"seed": 1} | POLICIES[policy]], name), tmp_path)
        found = centroid(np.asarray(Image.open(made["image"]).convert("L")))
        assert Image.open(made["image"]).size == SIZE
        assert found == pytest.approx(made["points"][0], abs=0.05)


def looked_at(rec: dict, frame: specs.InputSpec, epoch: int) -> tuple[np.ndarray, np.ndarray]:
    """The crop that a network sees of a record, and where its point is in it."""
    face = Face.parse(rec).annotated()
    crops = crop_spec([face], frame)
    pixels = torch.from_numpy(decode_crop(face.image, face.box, crops))[None]
    transform = sample(face, epoch)
    seen = batch.visible_pixels(pixels, [face.box], [transform], crops)[0, 0].numpy() * 255 + 128
    unit = g.to_unit(frame.matrix(face.box), transform.transform_points(face.points), frame.size)
    return seen, g.unit_to_map(unit, frame.size)[0]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [(150, 120), (64, 90)])
def test_a_crop_of_training_has_its_spot_where_its_target_is(tmp_path, policy, suffix, size):
    path = picture(tmp_path / f"spot{suffix}")
    for grey in (False, True):
        frame = specs.InputSpec(size, 0.2, grey)
        for epoch in range(3):
            rec = record(path, [{"seed": 2} | POLICIES[policy]] if POLICIES[policy] else [])
            seen, target = looked_at(rec, frame, epoch)
            # 0.05 pixels of the file, which the crop may show larger
            zoom = max(frame.matrix(tuple(BOX))[0, 0], frame.matrix(tuple(BOX))[1, 1], 1.0)
            assert centroid(seen) == pytest.approx(tuple(target), abs=0.05 * zoom)


def test_stages_compose_about_one_pivot(tmp_path):
    path = picture(tmp_path / "spot.png")
    stages = [{"seed": 3, "rotate": 30, "flip": 0.5}, {"seed": 3, "scale": 0.2, "shift": 0.1}]
    for epoch in range(4):
        seen, target = looked_at(
            record(path, stages), specs.InputSpec((160, 140), 0.3, False), epoch
        )
        assert centroid(seen) == pytest.approx(tuple(target), abs=0.1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_shrunk_and_turned_jpeg_keeps_its_frame(tmp_path, orientation):
    """A JPEG of 1333 x 971, decoded at a fraction of its size, its EXIF saying how it is held."""
    at = (700.0, 410.0)
    path = picture(tmp_path / "large.jpg", (1333, 971), at)
    image = Image.open(path)
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = tmp_path / "turned.jpg"
    image.save(turned, quality=100, subsampling=0, exif=exif)
    w, h = image.size
    shown = {
        1: at,
        2: (w - 1 - at[0], at[1]),
        3: (w - 1 - at[0], h - 1 - at[1]),
        4: (at[0], h - 1 - at[1]),
        5: (at[1], at[0]),
        6: (h - 1 - at[1], at[0]),
        7: (h - 1 - at[1], w - 1 - at[0]),
        8: (at[1], w - 1 - at[0]),
    }[orientation]
    x, y = shown
    rec = record(turned, [])
    rec |= {"box": [x - 330, y - 300, x + 270, y + 280], "points": [[x, y]]}
    for size in ((320, 300), (150, 140), (75, 72)):
        seen, target = looked_at(rec, specs.InputSpec(size, 0.0, False), 0)
        zoom = size[0] / 600
        assert centroid(seen) == pytest.approx(tuple(target), abs=max(0.05 * zoom, 0.03))


def test_a_box_that_leaves_the_image_is_filled_with_mid_grey(tmp_path):
    path = tmp_path / "white.png"
    Image.new("RGB", (40, 30), "white").save(path)
    rec = {"image": str(path), "id": "a", "box": [-20.5, -0.5, 19.5, 29.5], "points": [[5, 5]]}
    seen, _ = looked_at(rec, specs.InputSpec((80, 60), 0.0, False), 0)
    assert np.allclose(seen[:, :38], 128, atol=1)
    assert np.allclose(seen[2:-2, 42:], 255, atol=1)


def test_a_flip_of_a_flip_is_the_identity(tmp_path):
    path = picture(tmp_path / "spot.png")
    twice = [{"seed": 0, "flip": 1.0}, {"seed": 0, "flip": 1.0}]
    transform = sample(Face.parse(record(path, twice)), 0)
    assert not transform.flipped
    assert np.array_equal(transform.matrix, g.IDENTITY)
    once = write.write_image(record(path, twice[:1]), tmp_path)
    back = write.write_image(once | {"augment": twice[:1]}, tmp_path / "..")
    assert back["points"] == [list(SPOT)]
    assert np.array_equal(np.asarray(Image.open(back["image"])), np.asarray(Image.open(path)))


def test_two_halves_of_a_flip_do_not_cancel():
    """`--flip 0.5 | --flip 0.5`: equal stages are sampled apart."""
    stages = [{"seed": 0, "flip": 0.5}, {"seed": 0, "flip": 0.5}]
    faces = [Face.parse(record(Path("a.png"), stages, str(i))) for i in range(200)]
    assert 60 < sum(sample(face, 0).flipped for face in faces) < 140


def test_the_left_eye_stays_the_left_eye(face):
    """In a mirror image the person's left eye is on the left, and the points of the left eye say
    so: they are where the right eye's were, mirrored."""
    rec = face(augment=[{"seed": 0, "flip": 1.0}])
    transform = sample(Face.parse(rec), 0)
    before = g.from_list(rec["points"])
    after = transform.transform_points(before)
    mirrored = before.copy()
    mirrored[:, 0] = rec["box"][0] + rec["box"][2] - before[:, 0]
    assert after[45] == pytest.approx(mirrored[36])  # outer corner of the left eye
    assert after[30] == pytest.approx(mirrored[30])  # nose tip
    assert after[16] == pytest.approx(mirrored[0])
    assert np.allclose(transform.invert_points(after), before)


def test_the_batched_path_is_the_single_one(tmp_path):
    """Within half a grey level on average; faces of one batch do not touch each other."""
    policy = {"seed": 4, "rotate": 20, "scale": 0.2, "shift": 0.1, "flip": 0.5}
    policy |= {"brightness": 0.3, "contrast": 0.3, "saturation": 0.5, "hue": 0.1, "gray": 0.3}
    policy |= {"blur": 2.0, "noise": 0.05, "erase": 0.5}
    rng = np.random.default_rng(0)
    faces = []
    for i in range(6):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8)).resize((160, 120)).save(path)
        rec = record(path, [policy], str(i)) | {"box": [20.0, 10.0, 120.0 + i, 110.0]}
        faces.append(Face.parse(rec))
    frame = specs.InputSpec((96, 80), 0.1, False)
    crops = crop_spec(faces, frame)
    decoded = [decode_crop(face.image, face.box, crops) for face in faces]
    pixels = torch.from_numpy(np.stack(decoded))
    boxes, transforms = [face.box for face in faces], [sample(face, 0) for face in faces]
    together = batch.visible_pixels(pixels, boxes, transforms, crops)
    for i in range(6):
        alone = batch.visible_pixels(pixels[i : i + 1], [boxes[i]], [transforms[i]], crops)
        assert 255 * (together[i] - alone[0]).abs().mean() < 0.5


def test_what_is_not_drawn_leaves_the_pixels_as_they_are(tmp_path):
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    assert np.array_equal(
        np.asarray(write.transform_picture(image, Transform())), np.asarray(image)
    )


def test_noise_is_normal_and_the_same_in_any_batch():
    device = torch.device("cpu")
    both = warp._normal_numbers([7, 8], 50_000, device)
    assert torch.equal(warp._normal_numbers([8], 50_000, device)[0], both[1])
    assert abs(both.mean()) < 0.02
    assert abs(both.std() - 1) < 0.02
    assert abs(torch.corrcoef(both)[0, 1]) < 0.02


@pytest.mark.parametrize(("zoom", "within"), [(0.65, 6), (0.5, 2), (0.4, 2)])
def test_zooming_out_does_not_turn_fine_stripes_into_coarse_ones(tmp_path, zoom, within):
    """As an antialiased resize by Pillow leaves them, within so many grey levels; where each pixel
    is sampled from its four neighbours, 25 to 35 are left."""
    period, width = 2.6, 400
    stripes = 128 + 100 * np.sin(2 * np.pi * np.arange(width) / period)
    image = Image.fromarray(np.repeat(stripes.astype(np.uint8)[None], width, axis=0)).convert("RGB")
    size = (round(width * zoom / 2), round(width * zoom / 2))
    middle = (width / 4, width / 4, 3 * width / 4, 3 * width / 4)
    expected = np.asarray(image.resize(size, Image.Resampling.BILINEAR, box=middle), float).std()
    pixels = torch.from_numpy(np.array(image))[None]
    m = g.compose(g.translation(width / 4, width / 4), g.scaling(1 / zoom, 1 / zoom))
    # beside another that is not shrunk, and stays as it was
    both = warp.warp(pixels.repeat(2, 1, 1, 1), [m, g.IDENTITY], size)
    assert (255 * both[0]).std().item() == pytest.approx(expected, abs=within)
    # where neither is: by more than whole pixels, for a part of a picture would be cut out of it
    without = warp.warp(pixels.repeat(2, 1, 1, 1), [g.translation(0.5, 0), g.IDENTITY], size)
    assert torch.equal(both[1], without[1])


def test_a_stored_crop_zoomed_out_keeps_its_spot_and_a_written_image_its_stripes(tmp_path):
    path = picture(tmp_path / "spot.png")
    stages = [{"seed": 5, "scale": 2.0}]
    for name in "abcdefgh":
        seen, target = looked_at(
            record(path, stages, name), specs.InputSpec((90, 80), 0.2, False), 0
        )
        assert centroid(seen) == pytest.approx(tuple(target), abs=0.1)
    stripes = (128 + 100 * np.sin(2 * np.pi * np.arange(200) / 2.6)).astype(np.uint8)
    image = Image.fromarray(np.repeat(stripes[None], 200, axis=0)).convert("RGB")
    half = Transform(matrix=g.about(g.scaling(0.5, 0.5), 100, 100), is_identity=False)
    made = np.asarray(write.transform_picture(image, half), dtype=float)[60:140, 60:140]
    assert made.std() < 6


def test_noise_made_in_parts_is_the_same_noise(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8)).save(tmp_path / "a.png")
    record = {"image": str(tmp_path / "a.png"), "id": "a", "box": [5, 5, 60, 45]}
    record["augment"] = [{"seed": 0, "noise": 0.3}]
    made = []
    for chunk in (1 << 22, 700):
        monkeypatch.setattr(warp, "_NOISE_CHUNK", chunk)
        (tmp_path / str(chunk)).mkdir()
        path = write.write_image(record, tmp_path / str(chunk))["image"]
        made.append(np.asarray(Image.open(path)))
    assert np.array_equal(made[0], made[1])
    assert 20 < np.std(made[0].astype(float) - np.asarray(Image.open(tmp_path / "a.png"))) < 80


def test_the_matrix_of_a_written_copy_leads_to_its_pixels(face, tmp_path):
    record, copies = written(face, tmp_path / "w", "--rotate", 25, "--scale", 0.1, count=3)
    source = np.asarray(Image.open(record["image"]).convert("L"), dtype=float)
    for copy in copies:
        m = np.array(copy["source"]["matrix"])
        made = np.asarray(Image.open(copy["image"]).convert("L"), dtype=float)
        y, x = np.mgrid[20:40:4, 25:55:5]
        at = np.stack([x.ravel(), y.ravel()], axis=1)
        to = np.round(at @ m[:, :2].T + m[:, 2]).astype(int)
        inside = ((to > 1) & (to < (78, 58))).all(axis=1)
        a = source[at[inside, 1], at[inside, 0]]
        b = made[to[inside, 1], to[inside, 0]]
        assert inside.sum() > 15
        assert np.corrcoef(a, b)[0, 1] > 0.95


def test_the_grid_of_a_warp_is_torchs_own():
    theta = torch.tensor([[[0.9, 0.2, 0.1], [-0.3, 1.1, -0.2]], [[1, 0, 0], [0, 1, 0]]])
    wanted = F.affine_grid(theta, [2, 3, 5, 7], align_corners=False)
    assert torch.allclose(warp._grid(theta, (7, 5)), wanted, atol=1e-6)


def test_a_crop_for_two_passes_holds_the_input_pixel_by_pixel_and_a_margin(tmp_path):
    """What the first pass sees is cut out of it: the pixels of the crop of a single pass."""
    path = tmp_path / "noise.png"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (97, 133, 3), np.uint8)).save(path)
    face = Face.parse(record(path, []))
    spec = specs.InputSpec((96, 80), 0.15, grey=False)
    plain, aligned = crop_spec([face], spec), crop_spec([face], spec, align=True)
    assert aligned.size == (96 + 2 * 15, 80 + 2 * 12)
    once, twice = (
        batch.visible_pixels(
            torch.from_numpy(decode_crop(face.image, face.box, crops))[None],
            [face.box],
            [Transform()],
            crops,
        )
        for crops in (plain, aligned)
    )
    assert (once - twice).abs().max() * 255 < 1.01  # a level, by rounding


@pytest.mark.parametrize("corner", [(0, 0), (3, 2), (4, 6)])
def test_a_warp_by_whole_pixels_is_a_part_of_the_picture(corner):
    pixels = torch.randint(0, 256, (2, 16, 12, 3), dtype=torch.uint8)
    m = g.translation(*corner)
    found = warp.warp(pixels, [m, m], (8, 10))
    left, top = corner
    expected = (pixels[:, top : top + 10, left : left + 8].float() - 128) / 255
    assert torch.allclose(found, expected.permute(0, 3, 1, 2))
    resampled = warp.warp(pixels, [m, m @ np.diag([1.001, 1, 1])], (8, 10))
    assert torch.allclose(found[0], resampled[0], atol=1e-5)


def test_a_warp_that_looks_beyond_the_picture_fills_it_with_grey():
    pixels = torch.full((1, 8, 8, 3), 255, dtype=torch.uint8)
    found = warp.warp(pixels, [g.translation(4, 0)], (8, 8))
    assert (found[..., :4] > 0.49).all()
    assert (found[..., 4:] == 0).all()
