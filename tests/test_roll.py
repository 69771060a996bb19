"""A face that is turned in its file, by a `roll` that its record bears, is seen upright."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import parse, run, tiny_unet, untrained
from PIL import Image

from kptools import geometry as g
from kptools.augment.sample import sample
from kptools.datasets.synthetic.faces import synthesize
from kptools.inference.adapting import adapted
from kptools.inference.prediction import prediction
from kptools.inference.predictor import Predictor
from kptools.inference.torch_engine import TorchEngine
from kptools.models.adapter import fit
from kptools.pixels import batch, write
from kptools.pixels.crop_spec import crop_spec
from kptools.pixels.decode import decode_crop
from kptools.records.face import Face
from kptools.records.item import Item
from kptools.specs import InputSpec
from kptools.training.training_set import mean_shape, target
from kptools.viz import views

FOCUS = (0.1, 0.2, 0.95, 1.1)
SPECS = {
    "stretched": InputSpec((64, 80), 0.1, grey=False),
    "with focus": InputSpec((72, 72), 0.1, grey=False, focus=FOCUS),
}
QUARTERS = {  # of a turn, clockwise as seen: how Pillow makes it
    90: Image.Transpose.ROTATE_270,
    180: Image.Transpose.ROTATE_180,
    -90: Image.Transpose.ROTATE_90,
}


def drawn(folder: Path) -> dict:
    """A drawn face, upright, in a box that is no square."""
    face = synthesize(0, 9)
    face.image.save(folder / "upright.png")
    x0, y0, x1, y1 = face.box
    return {
        "image": str(folder / "upright.png"),
        "id": "a",
        "size": list(face.image.size),
        "box": [x0, y0 - 20, x1, y1],
        "points": face.points.tolist(),
        "scheme": "ibug68",
    }


def turned(record: dict, roll: float) -> dict:
    """The same face in a picture turned by `roll`, made by Pillow, with its box and points."""
    image = Image.open(record["image"])
    points = np.concatenate([record["points"], np.reshape(record["box"], (2, 2))])
    middle = np.array(image.size) / 2 - 0.5
    if roll in QUARTERS:
        image = image.transpose(QUARTERS[roll])
    else:
        filler = (128, 128, 128)
        image = image.rotate(-roll, Image.Resampling.BICUBIC, expand=True, fillcolor=filler)
    angle = math.radians(roll)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    moved = (points - middle) @ turn.T + np.array(image.size) / 2 - 0.5
    centre = moved[-2:].mean(axis=0)
    half = (points[-1] - points[-2]) / 2
    if abs(math.sin(angle)) > 0.8:
        half = half[::-1]
    path = Path(record["image"]).with_name(f"{roll}.png")
    image.save(path)
    return record | {
        "image": str(path),
        "size": list(image.size),
        "box": [*(centre - half).tolist(), *(centre + half).tolist()],
        "points": moved[:-2].tolist(),
        "roll": roll,
    }


def seen(record: dict, spec: InputSpec, **policy: object) -> tuple[np.ndarray, np.ndarray]:
    """What a network sees of a record (C, H, W), levels, and where its points are in it."""
    face = Face.parse(record | policy).annotated().focused(spec)
    crops = crop_spec([face], spec)
    pixels = torch.from_numpy(decode_crop(face.image, face.box, crops))[None]
    transform = sample(face, 0)
    x = batch.visible_pixels(pixels, [face.box], [transform], crops)[0].numpy() * 255 + 128
    return x, target(face, transform, spec)


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("roll", [90, 180, -90, 30, -140])
def test_a_turned_face_with_its_roll_is_the_same_crop_as_the_upright_one(tmp_path, roll, spec):
    upright = drawn(tmp_path)
    expected, points = seen(upright, spec)
    crop, moved = seen(turned(upright, roll), spec)
    assert np.abs(moved - points).max() < (1e-9 if roll in QUARTERS else 0.02)
    middle = np.s_[:, 8:-8, 8:-8]  # a picture turned by 30 degrees has new corners
    difference = np.abs(crop - expected) if roll in QUARTERS else np.abs(crop - expected)[middle]
    assert difference.mean() < 3
    without, _ = seen(turned(upright, roll) | {"roll": 0}, spec)
    assert np.abs(without - expected).mean() > 15


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
@pytest.mark.parametrize("roll", [90, 180, -90, 30])
@pytest.mark.parametrize("policy", [[], [{"seed": 1, "rotate": 20, "shift": 0.1, "flip": 0.5}]])
def test_predictions_of_a_turned_face_come_back_to_the_pixels_of_its_file(
    tmp_path, roll, spec, policy
):
    record = turned(drawn(tmp_path), roll) | {"augment": policy}
    face = Face.parse(record).annotated().focused(spec)
    transform = sample(face, 0)
    unit = target(face, transform, spec)
    mean = mean_shape([g.normalize(face.level(face.points), face.box)])
    found = prediction(face, unit, None, transform, spec, mean)
    assert np.abs(np.array(found["pred"]) - record["points"]).max() < 1e-9
    assert np.abs(np.array(found["mean"]) - record["points"]).max() < 1e-9  # of this face alone


def test_a_policy_does_the_same_to_a_turned_face_as_to_the_upright_one(tmp_path):
    upright = drawn(tmp_path)
    spec = SPECS["with focus"]
    policy = [{"seed": 3, "rotate": 40, "scale": 0.3, "shift": 0.2, "flip": 0.5}]
    expected, points = seen(upright, spec, augment=policy)
    crop, moved = seen(turned(upright, 90), spec, augment=policy)
    assert np.abs(moved - points).max() < 1e-9
    assert np.abs(crop - expected).mean() < 3


def test_what_a_network_says_of_a_turned_face_is_what_it_says_of_the_upright_one(tmp_path):
    network, model = tiny_unet(tmp_path)
    upright = drawn(tmp_path)
    records = [upright, turned(upright, 90), turned(upright, 180)]
    items = [Item(record | {"id": str(i)}, "a", i) for i, record in enumerate(records)]
    del items[1].record["scheme"]  # which need not be there
    engine = TorchEngine(network, model, device=torch.device("cpu"), precision="fp32")
    predictor = Predictor(engine, batch=4, workers=1)

    def fail(item, error):
        raise error

    plain, quarter, half = (item.record for item in predictor.run(items, fail, lambda: True))
    width, height = upright["size"]
    x, y = np.array(plain["pred"]).T
    # the peak of an untrained network's map may jump with the last bit of a pixel, but most do not
    off = np.abs(np.array(quarter["pred"]) - np.column_stack([height - 1 - y, x]))
    assert np.median(off) < 0.5
    off = np.abs(np.array(half["pred"]) - np.column_stack([width - 1 - x, height - 1 - y]))
    assert np.median(off) < 0.5
    x, y = np.array(plain["mean"]).T
    assert np.abs(np.array(quarter["mean"]) - np.column_stack([height - 1 - y, x])).max() < 1e-9


def test_a_picture_of_a_turned_face_shows_it_upright_and_the_whole_photo_as_it_is(tmp_path):
    upright = drawn(tmp_path)
    lying = turned(upright, 90)
    shown = [views.show(views.parse(r, views.View()), views.View()) for r in (upright, lying)]
    assert shown[0].picture.size == shown[1].picture.size
    pictures = [np.asarray(one.picture, float) for one in shown]
    assert np.abs(pictures[0] - pictures[1]).mean() < 3
    places = [s.place(np.array(r["points"])) for s, r in zip(shown, (upright, lying), strict=True)]
    assert np.abs(places[0] - places[1]).max() < 0.01
    view = views.View(cell=tuple(lying["size"]), whole=True)
    whole = views.show(views.parse(lying, view), view)
    assert np.abs(np.asarray(whole.picture, float) - Image.open(lying["image"])).max() <= 1


def test_a_written_copy_of_a_turned_face_is_upright_and_has_no_roll(tmp_path):
    upright = drawn(tmp_path)
    (tmp_path / "out").mkdir()
    made = write.write_image(turned(upright, 90), tmp_path / "out")
    assert "roll" not in made
    sides = np.subtract(made["box"][2:], made["box"][:2])
    assert sides == pytest.approx(np.subtract(upright["box"][2:], upright["box"][:2]))
    crop, points = seen(made, SPECS["stretched"])
    expected, where = seen(upright, SPECS["stretched"])
    assert np.abs(points - where).max() < 1e-6
    assert np.abs(crop - expected).mean() < 5  # the edge of a written picture cuts it
    e0, e1 = np.array(made["points"])[[36, 45]]
    assert abs(math.degrees(math.atan2(*(e1 - e0)[::-1]))) < 15


def test_training_sees_turned_faces_upright(tmp_path):
    upright = drawn(tmp_path)
    lines = [upright | {"id": str(i), "split": "train"} for i in range(4)]
    lines += [turned(upright, 90) | {"id": "v", "split": "val"}]
    done = run(
        "train", "--arch", "nose", "--epochs", 30, "-o", tmp_path / "m.safetensors", stdin=lines
    )
    assert done.returncode == 0, done.stderr
    (record,) = parse(done.stdout)
    error = np.abs(np.array(record["pred"]) - record["points"]).mean()
    assert error < 6
    predicted = parse(run("predict", tmp_path / "m.safetensors", stdin=lines).stdout)
    assert np.abs(np.array(predicted[-1]["pred"]) - record["pred"]).max() < 1e-3  # pixels


def test_a_roll_that_is_no_angle_is_a_bad_record(tmp_path):
    model = untrained(tmp_path / "m.safetensors")
    rolls = ["90", True, [1], 1000]
    records = [drawn(tmp_path) | {"id": str(i), "roll": roll} for i, roll in enumerate(rolls)]
    done = run("predict", model, stdin=records)
    assert done.returncode == 1
    assert [record["status"] for record in parse(done.stdout)] == ["bad_record"] * 4
    assert done.stderr.count(b"is not a number of degrees") == 4


def test_an_adapter_gives_a_face_that_lies_on_its_side_what_it_gives_the_upright_one(tmp_path):
    upright = drawn(tmp_path)
    shapes = [synthesize(1, index) for index in range(12)]
    given = [face.points for face in shapes]
    boxes = [(x0, y0 - 20, x1, y1) for x0, y0, x1, y1 in (face.box for face in shapes)]
    longer = [points + (points - points.mean(axis=0)) * (0, 0.1) for points in given]
    adapter, _ = fit(given, longer, boxes, "ibug68")
    lying = turned(upright, 90)
    one, other = (
        np.array(adapted(record | {"pred": record["points"]}, adapter)["pred"])
        for record in (upright, lying)
    )
    assert np.abs(one - upright["points"]).max() > 3
    height = upright["size"][1]
    x, y = one.T
    assert np.abs(other - np.column_stack([height - 1 - y, x])).max() < 1e-3
