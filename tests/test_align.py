"""Alignment: the map that levels a face, the faces that it is applied to in training, and
prediction in two passes and with the mirror image."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import noise, parse, tiny_unet, untrained
from torch import nn

from kptools import geometry as g
from kptools.augment.align import JITTER, Alignment
from kptools.augment.sample import sample
from kptools.augment.transform import Transform
from kptools.errors import KptoolsError, UsageError
from kptools.inference import passes
from kptools.inference.passes import Passes
from kptools.models import build, checkpoint
from kptools.models.decoded import Decoded
from kptools.records.face import Face
from kptools.records.item import Item
from kptools.specs import InputSpec, ModelSpec
from kptools.training.gather import Gathered, focus

BOX = (10.0, 20.0, 50.0, 80.0)
SWAP = (1, 0, 2)
# a right eye, a left eye and a mouth, in fractions of the box
MEAN = np.array([[0.3, 0.4], [0.7, 0.4], [0.5, 0.8]])
PLACED = g.denormalize(MEAN, BOX)
OTHER = np.array([[2.0, -1.0], [0.0, 3.0], [-4.0, 1.0]])  # what makes it another shape, pixels


def moved(turn, scale, dx=0.0, dy=0.0):
    """A similarity about the middle of the box."""
    m = g.compose(g.translation(dx, dy), g.rotation(math.radians(turn)), g.scaling(scale, scale))
    return g.about(m, *g.centre(BOX))


# Similarities


def test_a_similarity_recovers_a_turn_a_scale_and_a_move():
    m = moved(25, 1.3, 4.0, -7.0)
    shape = np.random.default_rng(0).uniform(0, 60, (9, 2))
    assert g.similarity(shape, g.transform(m, shape)) == pytest.approx(m)


def test_a_quarter_turn_worked_by_hand():
    """From right and left of (10, 10) to above and below it, twice as far."""
    m = g.similarity(np.array([[12.0, 10.0], [8.0, 10.0]]), np.array([[10.0, 6.0], [10.0, 14.0]]))
    assert g.transform(m, np.array([[10.0, 10.0], [10.0, 8.0]])) == pytest.approx(
        np.array([[10.0, 10.0], [6.0, 10.0]])
    )


def test_a_similarity_leaves_out_points_that_are_not_known():
    m = moved(-40, 0.7, 3.0, 1.0)
    shape = np.random.default_rng(0).uniform(0, 60, (6, 2))
    target = g.transform(m, shape)
    shape[1], target[1] = np.nan, 1e6
    shape[4], target[4] = -1e6, (np.nan, 5.0)
    assert g.similarity(shape, target) == pytest.approx(m)
    assert np.array_equal(g.similarity(shape, np.full((6, 2), np.nan)), g.IDENTITY)


@pytest.mark.parametrize("count", [1, 3])
def test_a_single_place_is_moved_alone(count):
    source, target = np.array([[3.0, 4.0]] * count), np.array([[10.0, -2.0]] * count)
    assert g.similarity(source, target) == pytest.approx(g.translation(7.0, -6.0))


def test_a_similarity_never_mirrors():
    mirror = g.transform(g.scaling(-1, 1), PLACED)
    assert np.linalg.det(g.similarity(PLACED, mirror)[:, :2]) > 0


# Faces that are aligned in training


def annotated(points, name="a", scheme="mine", **stage):
    record = {"image": "a.png", "id": name, "box": list(BOX), "scheme": scheme}
    record["points"] = g.to_list(np.asarray(points, dtype=float))
    if stage:
        record["augment"] = [{"seed": 0, **stage}]
    return Face.parse(record).annotated()


def test_an_aligned_face_lies_where_the_mean_shape_does():
    shape = g.transform(moved(35, 1.4, 6.0, 9.0), PLACED)
    transform = sample(annotated(shape), 0, Alignment(MEAN, 1.0))
    assert transform.transform_points(shape) == pytest.approx(PLACED)
    assert transform.invert_points(PLACED) == pytest.approx(shape)


def test_a_face_of_another_shape_has_the_centre_roll_and_scale_of_the_mean():
    shape = g.transform(moved(-20, 0.8), PLACED) + OTHER
    found = sample(annotated(shape), 0, Alignment(MEAN, 1.0)).transform_points(shape)
    assert found.mean(axis=0) == pytest.approx(PLACED.mean(axis=0))
    again = g.similarity(found, PLACED)  # nothing is left to turn or to scale
    assert again == pytest.approx(g.IDENTITY)
    assert np.abs(found - PLACED).max() > 0.5


def test_a_point_that_is_not_annotated_has_no_part_in_the_alignment():
    shape = g.transform(moved(35, 1.4, 6.0, 9.0), PLACED)
    shape[2] = np.nan
    found = sample(annotated(shape), 0, Alignment(MEAN, 1.0)).transform_points(shape)
    assert found[:2] == pytest.approx(PLACED[:2])
    assert np.isnan(found[2]).all()


def test_a_share_of_nothing_changes_nothing():
    turned = g.transform(moved(35, 1.4), PLACED)
    none = Alignment(MEAN, 0.0)
    assert sample(annotated(turned), 0, none).is_identity
    policy = {"rotate": 30, "scale": 0.2, "shift": 0.1}
    for number in range(20):
        face = annotated(turned, f"f{number}", **policy)
        assert np.array_equal(sample(face, 3, none).matrix, sample(face, 3).matrix)
    assert sample(replace(annotated(turned), points=None), 0, Alignment(MEAN, 1.0)).is_identity


def test_half_of_the_faces_are_aligned_and_others_in_each_epoch():
    turned = g.transform(moved(35, 1.4), PLACED)
    half = Alignment(MEAN, 0.5)
    faces = [annotated(turned, f"f{number}") for number in range(2000)]

    def epoch(number):
        return np.array([not sample(face, number, half).is_identity for face in faces])

    first, second = epoch(0), epoch(1)
    assert np.array_equal(first, epoch(0))
    assert first.mean() == pytest.approx(0.5, abs=0.06)
    assert (first == second).mean() == pytest.approx(0.5, abs=0.06)


def test_chance_plays_less_about_an_aligned_face():
    turned = g.transform(moved(35, 1.4, 5.0), PLACED)
    angles, zooms = [], []
    for number in range(400):
        face = annotated(turned, f"f{number}", rotate=40, scale=0.5)
        m = sample(face, 0, Alignment(MEAN, 1.0)).matrix
        left = g.compose(m, moved(35, 1.4, 5.0))  # what chance adds
        angles.append(math.degrees(math.atan2(left[0, 1], left[0, 0])))
        zooms.append(math.log(g.zoom(left)))
    for values, bound in ((angles, 40 * JITTER), (zooms, math.log(1 + 0.5 * JITTER))):
        assert 0.95 * bound < max(values) <= bound + 1e-9
        assert -bound - 1e-9 <= min(values) < -0.95 * bound


def test_a_face_is_aligned_before_chance_mirrors_it():
    """A symmetric shape in the mirror is itself, left and right exchanged: not so a turned one."""
    turned = g.transform(moved(35, 1.4, 5.0), PLACED)
    face = annotated(turned, scheme="ibug68:36,45,30", flip=1.0)
    transform = sample(face, 0, Alignment(MEAN, 1.0))
    assert transform.flipped
    assert transform.transform_points(turned) == pytest.approx(PLACED)


@pytest.mark.parametrize(
    "shape",
    [
        np.full((3, 2), np.nan),
        PLACED.mean(axis=0) + 0.01 * (PLACED - PLACED.mean(axis=0)),  # nearly one place
        g.transform(moved(0, 2.1), PLACED),
        g.transform(moved(0, 1 / 2.1), PLACED),
    ],
    ids=["unknown", "one place", "large", "small"],
)
def test_a_shape_that_is_none_to_align_by_leaves_the_face_as_it_is(shape):
    assert np.array_equal(Alignment(MEAN).matrix(shape, BOX), g.IDENTITY)


def test_a_face_twice_as_large_is_still_aligned():
    m = Alignment(MEAN).matrix(g.transform(moved(0, 1.9), PLACED), BOX)
    assert g.zoom(m) == pytest.approx(1 / 1.9)


# Two passes, and the mirror image

SCORES = [0.2, 0.5, 0.9]


class Seeing(nn.Module):
    """A stand-in for a network: its input is what its head is to answer, x, y and score of each
    point, of the face and, next to it, of the mirror image. `bias` is added to what it says;
    `shown` is what it was shown, and `asked` how it was decoded."""

    def __init__(self, bias=(0.0, 0.0), decoders=()):
        super().__init__()
        self.head = self
        self.bias, self.decoders = bias, decoders
        self.takes_any_size = False
        self.shown, self.asked = [], []

    def forward(self, x):
        self.shown.append(x[..., 0].numpy())
        return x

    def decode(self, output, method=None, size=None):
        self.asked.append(method)
        found = output[..., 0].numpy()
        return Decoded(found[..., :2] + self.bias, found[..., 2])


def model(**changes):
    spec = InputSpec((64, 96), 0.1, grey=True)
    mean = tuple(map(tuple, MEAN.tolist()))
    return replace(ModelSpec("nose", "mine", 3, spec, ("dataset",), mean), **changes)


def asked(truth, transforms, how, network=None, **more):
    """What two faces with this truth come to, and what the network was shown each time."""
    spec, network = model().input, network or Seeing()

    def see(some):
        rows = []
        for transform in some:
            at = g.to_unit(spec.matrix(BOX), transform.transform_points(truth), spec.size)
            row = np.column_stack([at, transform.rename(SCORES)])
            mirrored = (row * [-1, 1, 1] + [1, 0, 0])[list(SWAP)]
            rows.append(np.stack([row, mirrored], axis=-1))
        return torch.from_numpy(np.stack(rows))  # (B, K, 3, 2)

    boxes = [BOX] * len(transforms)
    decoded = passes.decode(network, model(), see, boxes, transforms, how, precision="fp32", **more)
    return decoded, network.shown


def in_file(decoded, transforms):
    spec = model().input
    pairs = zip(transforms, decoded.points, strict=True)
    return [t.invert_points(spec.to_file(unit, BOX)) for t, unit in pairs]


def turned_and_flipped():
    """What a policy may have made of a face before the first pass."""
    m = g.about(g.compose(g.rotation(0.4), g.scaling(-1.1, 1.1)), *g.centre(BOX))
    return Transform(matrix=m, flipped=True, swap=SWAP, is_identity=False)


@pytest.mark.parametrize(
    ("how", "times"),
    [(Passes(), 1), (Passes(2), 2), (Passes(1, SWAP), 2), (Passes(2, SWAP), 3)],
    ids=["one", "two", "mirror", "both"],
)
def test_a_network_that_sees_well_is_right_in_the_file_whatever_it_is_shown(how, times):
    truth = g.transform(moved(20, 1.2, 3.0, -2.0), PLACED) + OTHER
    transforms = [Transform(), turned_and_flipped()]
    decoded, shown = asked(truth, transforms, how)
    for points, scores, transform in zip(
        in_file(decoded, transforms), decoded.scores, transforms, strict=True
    ):
        assert points == pytest.approx(truth)
        assert list(transform.rename(list(scores))) == pytest.approx(SCORES)
    assert len(shown) == times


def test_the_second_pass_and_its_mirror_see_the_face_as_the_mean_shape_lies():
    truth = g.transform(moved(20, 1.2, 3.0, -2.0), PLACED)
    _, shown = asked(truth, [Transform(), turned_and_flipped()], Passes(2, SWAP))
    spec = model().input
    level = g.to_unit(spec.matrix(BOX), PLACED, spec.size)
    for view in shown[1:]:  # a symmetric shape in a mirror is itself, left and right exchanged
        assert view[..., :2] == pytest.approx(np.stack([level, level]))
    assert np.abs(shown[0][..., :2] - level).max() > 0.05


def test_what_the_first_pass_came_to_is_not_asked_for_again():
    truth = g.transform(moved(20, 1.2), PLACED)
    _, (first,) = asked(truth, [Transform()], Passes())
    output = torch.from_numpy(first).unsqueeze(-1)
    first = {"first_input": output, "first_output": output}
    decoded, shown = asked(truth, [Transform()], Passes(2), **first)
    assert len(shown) == 1
    assert in_file(decoded, [Transform()])[0] == pytest.approx(truth)


def test_a_network_of_linear_layers_sees_a_face_at_the_size_that_it_learnt():
    network = build.build_shapes("efficientnet_lite0", 3, (96, 96), head="points")
    assert not network.takes_any_size
    assert build.build_shapes("efficientnet_lite0", 3, (96, 96), head="integral").takes_any_size


@pytest.mark.parametrize(
    ("how", "shown"),
    [
        (Passes(), [(112, 224)]),
        (Passes(1, SWAP), [(112, 224), (112, 224)]),
        (Passes(2), [(96, 192), (112, 224)]),  # 0.65 of it would be below 96
        (Passes(2, SWAP), [(96, 192), (112, 224), (112, 224)]),
    ],
    ids=["one", "mirror", "two", "both"],
)
def test_the_first_of_two_passes_is_at_a_lower_resolution(how, shown):
    network = build.build("unet", 3, (224, 112), {"width": 2}).eval()
    sizes = []
    network.register_forward_pre_hook(lambda _, given: sizes.append(tuple(given[0].shape[2:])))
    of = replace(model(), input=InputSpec((224, 112), 0.1, grey=False))
    with torch.no_grad():
        passes.decode(
            network,
            of,
            lambda some: torch.zeros(len(some), 3, 112, 224),
            [BOX],
            [Transform()],
            how,
            precision="fp32",
        )
    assert sizes == shown


def test_a_small_input_is_not_shrunk_and_what_is_known_of_it_not_asked_for_again():
    network = build.build("unet", 3, (96, 80), {"width": 2}).eval()
    of = replace(model(), input=InputSpec((96, 80), 0.1, grey=False))
    x = torch.zeros(1, 3, 80, 96)
    with torch.no_grad():
        output = network(x)
        sizes = []
        network.register_forward_pre_hook(lambda _, given: sizes.append(given[0].shape[2:]))
        passes.decode(
            network,
            of,
            lambda some: x,
            [BOX],
            [Transform()],
            Passes(2),
            precision="fp32",
            first_input=x,
            first_output=output,
        )
    assert sizes == [(80, 96)]  # the second look alone


@pytest.mark.parametrize(
    ("how", "methods"),
    [
        (Passes(), ["dark"]),
        (Passes(1, SWAP), ["dark", "dark"]),
        (Passes(2, SWAP), ["quarter", "dark", "dark"]),
    ],
    ids=["one", "mirror", "both"],
)
def test_the_decoder_that_was_asked_for_gives_the_answer_and_a_quick_one_the_alignment(
    how, methods
):
    network = Seeing(decoders=("quarter", "dark"))
    asked(PLACED, [Transform()], how, network, decoder="dark")
    assert network.asked == methods


def test_an_error_to_one_side_goes_out_with_the_mirror_image():
    truth = g.transform(moved(0, 1.1), PLACED)
    network = Seeing(bias=(0.05, 0.03))
    alone, _ = asked(truth, [Transform()], Passes(), network)
    both, _ = asked(truth, [Transform()], Passes(1, SWAP), network)
    spec = model().input
    width, height = 2 * np.array(g.half_extent(BOX, spec.margin))
    assert in_file(alone, [Transform()])[0] - truth == pytest.approx(
        np.tile([0.05 * width, 0.03 * height], (3, 1))
    )
    assert in_file(both, [Transform()])[0] - truth == pytest.approx(
        np.tile([0, 0.03 * height], (3, 1))
    )


def test_the_passes_are_those_of_the_network_unless_one_asks_otherwise():
    eyes = model(scheme="ibug68:36,45", count=2, mean=((0.3, 0.4), (0.7, 0.4)))
    trained = replace(eyes, passes=2, flip=True)
    assert passes.resolve(eyes) == Passes()
    assert passes.resolve(trained) == Passes(2, (1, 0))
    assert passes.resolve(trained, count=1, flip=False) == Passes()
    assert passes.resolve(eyes, count=2, flip=True) == Passes(2, (1, 0))


def test_passes_that_cannot_be_are_wrong_use(tmp_path, quick):
    with pytest.raises(UsageError, match="--passes 3: 1 or 2"):
        passes.resolve(model(), count=3)
    no_table, unknown = "has no table of left and right", "is not known here"
    for lame, why in (
        (model(), unknown),
        (model(scheme="points3"), no_table),
        (model(scheme="imm58:3,7", count=2), no_table),
    ):
        assert passes.resolve(replace(lame, flip=True)) == Passes()  # nobody asked
        with pytest.raises(UsageError, match=f"--flip: {lame.scheme} {why}"):
            passes.resolve(lame, flip=True)
    path = untrained(tmp_path / "m.safetensors", "imm58:3,7")
    for words, told in ((["--passes", 3], b"--passes"), (["--flip"], b"--flip")):
        done = quick("predict", path, *words)
        assert done.returncode == 2
        assert told in done.stderr


def test_maps_are_saved_of_a_single_pass_alone(tmp_path, face, quick):
    network, spec = tiny_unet(tmp_path)
    path = tmp_path / "unet.safetensors"
    trained = replace(spec, passes=2, flip=True)
    checkpoint.save(path, checkpoint.Checkpoint(trained, network.state_dict()))
    record = face(0)
    noise(record["image"])
    for option in (["--passes", 2], ["--flip"]):
        done = quick("predict", path, "--heatmaps", tmp_path / "maps", *option)
        assert done.returncode == 2
        assert b"--heatmaps saves the maps of one pass" in done.stderr
    saved = quick("predict", path, "--heatmaps", tmp_path / "maps", stdin=[record])
    single = quick("predict", path, "--passes", 1, "--no-flip", stdin=[record])
    both = quick("predict", path, stdin=[record])
    (a,), (b,), (c,) = (parse(done.stdout) for done in (saved, single, both))
    assert a["pred"] == b["pred"]
    assert not np.allclose(b["pred"], c["pred"], atol=0.01)


# Where in its box a face is


def test_a_focus_is_the_part_of_the_box_that_a_network_looks_at():
    spec = InputSpec((64, 64), 0.0, grey=True, focus=(0.25, 0.5, 0.75, 1.25))
    assert spec.focused((10.0, 20.0, 50.0, 80.0)) == (20.0, 50.0, 40.0, 95.0)
    assert replace(spec, focus=None).focused(BOX) == BOX


def test_the_focus_of_a_run_is_the_mean_place_and_size_of_its_faces():
    """In fractions of their boxes: one of (0.2, 0.3, 0.6, 0.7), whose side is 0.4, and one of
    (0.2, 0.2, 0.8, 0.8), whose side is 0.6."""
    first = {"box": [0, 0, 100, 100], "points": [[20, 30], [60, 70], None]}
    second = {"box": [10, 10, 60, 110], "points": [[20, 30], [50, 90], [30, 40]]}
    found = Gathered()
    for keys in (first, second):
        record = {"image": "a.png", "scheme": "mine", **keys}
        found.train.append((Item(record, "a.jsonl", 1), Face.parse(record).annotated()))
    assert focus(found) == pytest.approx((0.2, 0.25, 0.7, 0.75))


def test_a_network_with_a_focus_sees_what_another_sees_in_that_box(tmp_path, face, quick):
    path = untrained(tmp_path / "m.safetensors")
    record = face(0) | {"box": [10.0, 5.0, 70.0, 55.0]}
    noise(record["image"])
    inside = record | {"box": [16.0, 15.0, 64.0, 50.0]}
    plain = quick("predict", path, stdin=[inside])
    loaded = checkpoint.load(str(path))
    spec = replace(loaded.model.input, focus=(0.1, 0.2, 0.9, 0.9))
    loaded.model = replace(loaded.model, input=spec)
    loaded.save(path)
    assert checkpoint.load_model(str(path)).input.focus == (0.1, 0.2, 0.9, 0.9)
    focused = quick("predict", path, stdin=[record])
    (a,), (b,) = parse(plain.stdout), parse(focused.stdout)
    assert np.allclose(a["pred"], b["pred"], atol=1e-3)
    assert np.allclose(a["mean"], b["mean"])
    assert b["box"] == record["box"]


@pytest.mark.parametrize("wrong", [(0.5, 0.0, 0.5, 1.0), (0.0, 0.0, 1.0, 11.0)])
def test_a_focus_that_is_no_part_of_a_box_is_refused(tmp_path, wrong):
    loaded = checkpoint.load(str(untrained(tmp_path / "m.safetensors")))
    loaded.model = replace(loaded.model, input=replace(loaded.model.input, focus=wrong))
    loaded.save(tmp_path / "bad.safetensors")
    with pytest.raises(KptoolsError, match="focus is no part of a box"):
        checkpoint.load_model(str(tmp_path / "bad.safetensors"))
