"""The shape prior: what a network's unsure points are worth, and what the shapes of faces say."""

import numpy as np
import pytest
from conftest import noise, parse, run

from kptools import geometry as g
from kptools.errors import KptoolsError, UsageError
from kptools.models import checkpoint
from kptools.models.shape_prior import ShapePrior

COUNT = 8
SWAP = tuple(range(COUNT - 1, -1, -1))
ANGLES = np.linspace(0.1, np.pi - 0.1, COUNT)
BASE = 50 * np.column_stack([-np.cos(ANGLES), 1.3 * np.sin(ANGLES)])
MODES = 4 * np.stack([np.roll(np.sin(2 * BASE / 50), k, axis=0) for k in range(2)])


def shapes(count: int, seed: int = 0) -> np.ndarray:
    """(count, 8, 2): shapes of two modes, each of its own size, turn and place."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        one = BASE + np.tensordot(rng.normal(size=2), MODES, 1)
        turn = g.about(g.rotation(rng.normal(0, 0.3)), 100, 100)
        size = g.scaling(*np.full(2, rng.uniform(0.5, 2)))
        found.append(g.transform(g.compose(size, turn), one + rng.normal(0, 20, 2)))
    return np.stack(found)


def fitted(noise_scale: float = 1.0, **keys) -> ShapePrior:
    prior = ShapePrior(COUNT, noise_scale)
    prior.fit(shapes(200), **keys)
    return prior


def unsure(*stds: float) -> np.ndarray:
    """(8, 2, 2): the covariance of points that are unsure by these, pixels; the last for the rest.
    Faces have a radius of 50."""
    each = [*stds, *[stds[-1]] * (COUNT - len(stds))]
    return np.square(each)[:, None, None] * np.eye(2)


def one_off() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A shape, the same with a point far off, and a covariance that knows which."""
    truth = shapes(1, seed=9)[0]
    points = truth.copy()
    points[3] += (12, -9)
    return truth, points, unsure(0.3, 0.3, 0.3, 7.0, 0.3)


def off(points: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points - truth, axis=1)


def test_an_unsure_point_goes_where_the_others_say():
    truth, points, covariance = one_off()
    found = fitted().most_probable(points, covariance)
    assert off(points, truth)[3] == pytest.approx(15)
    assert off(found, truth)[3] < 3
    others = np.arange(COUNT) != 3
    assert off(found, truth)[others].max() < 1


def test_sure_points_stay():
    truth, points, _ = one_off()
    found = fitted().most_probable(points, unsure(0.001))
    assert off(found, points).max() < 0.5
    assert off(found, truth)[3] > 10


def test_more_noise_moves_them_further():
    _, points, _ = one_off()
    moved = [
        off(fitted(noise_scale).most_probable(points, unsure(0.2)), points)[3]
        for noise_scale in (0.25, 0.5, 1, 2)
    ]
    assert moved == sorted(moved)
    assert moved[0] < 0.7 * moved[-1]


def test_a_face_that_is_turned_and_larger_gets_the_same_answer():
    _, points, covariance = one_off()
    covariance[5] = [(9, 4), (4, 3)]  # less sure along a slope than across it
    prior = fitted()
    m = g.compose(g.scaling(3, 3), g.about(g.rotation(0.7), 40, 90))
    direct = g.transform(m, prior.most_probable(points, covariance))
    moved = m[:, :2] @ covariance @ m[:, :2].T
    turned = prior.most_probable(g.transform(m, points), moved)
    np.testing.assert_allclose(turned, direct, atol=1e-8)


def test_with_a_table_of_left_and_right_it_has_no_side():
    prior = fitted(swap=SWAP)
    _, points, covariance = one_off()
    mirrored = points[list(SWAP)] * (-1, 1)
    direct = prior.most_probable(points, covariance)
    other = prior.most_probable(mirrored, covariance[list(SWAP)])
    np.testing.assert_allclose(other[list(SWAP)] * (-1, 1), direct, atol=0.02)


def test_points_that_are_no_shape_come_back():
    prior = fitted()
    for points in (np.full((COUNT, 2), np.nan), np.full((COUNT, 2), 7.0)):
        found = prior.most_probable(points, unsure(1.0))
        np.testing.assert_array_equal(found, points)


def test_faces_that_lack_a_point_have_no_part():
    some = shapes(60)
    some[::2, 3] = np.nan
    whole, part = ShapePrior(COUNT, 1.0), ShapePrior(COUNT, 1.0)
    whole.fit(some[1::2])
    part.fit(some)
    np.testing.assert_array_equal(whole.modes, part.modes)


def test_faces_whose_points_lie_in_one_place_have_no_part():
    some = shapes(30)
    whole, part = ShapePrior(COUNT, 1.0), ShapePrior(COUNT, 1.0)
    whole.fit(some)
    part.fit(np.concatenate([np.full((1, COUNT, 2), 7.0), some]))
    np.testing.assert_array_equal(whole.modes, part.modes)
    assert part.mean.abs().max() > 0.1


def test_a_point_of_an_outline_moves_along_it():
    truth, points, covariance = one_off()
    along = np.array([12, -9]) / 15  # where the point is off, and unsure
    covariance[3] = 49 * np.outer(along, along) + 1e-4 * np.eye(2)
    prior = fitted()
    moved = prior.most_probable(points, covariance)[3] - points[3]
    assert abs(moved @ along) > 10
    assert abs(moved @ (along[1], -along[0])) < 0.1
    across = np.outer(along[::-1] * (1, -1), along[::-1] * (1, -1))
    covariance[3] = 49 * across + 1e-4 * np.eye(2)
    assert off(prior.most_probable(points, covariance), truth)[3] > 5


def test_its_answer_is_that_of_the_whole_system():
    prior = fitted()
    truth, _, covariance = one_off()
    covariance[5] = [(9, 4), (4, 3)]
    m = g.similarity(truth, prior.mean.double().numpy())
    points = g.transform(m, truth)  # in the prior's frame, where no alignment is left to do
    noise = m[:, :2] @ covariance @ m[:, :2].T
    mean, modes = (t.double().numpy() for t in (prior.mean, prior.modes))
    x, y = mean.T
    rigid = [(x * 0 + 1, y * 0), (x * 0, y * 0 + 1), (x, y), (-y, x)]
    factors = [*modes.reshape(len(modes), -1), *(np.stack(r, 1).ravel() for r in rigid)]
    shape = np.transpose(factors) @ factors + float(prior.residual_std) ** 2 * np.eye(16)
    both = shape.copy()
    for k in range(COUNT):
        both[2 * k : 2 * k + 2, 2 * k : 2 * k + 2] += noise[k]
    wanted = mean + (shape @ np.linalg.solve(both, (points - mean).ravel())).reshape(-1, 2)
    np.testing.assert_allclose(prior.most_probable(points, noise), wanted, atol=1e-9)


def test_too_few_faces_or_points_are_refused():
    with pytest.raises(KptoolsError, match="19 faces with all points; 20 are needed"):
        ShapePrior(COUNT, 1.0).fit(shapes(19))
    with pytest.raises(UsageError, match="2 points have no shape"):
        ShapePrior(2, 1.0).fit(shapes(30)[:, :2])
    with pytest.raises(UsageError, match="1 point has no shape"):
        ShapePrior(1, 1.0).fit(shapes(30)[:, :1])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A checkpoint with a prior, and the faces that it learnt from."""
    folder = tmp_path_factory.mktemp("prior")
    noise(folder / "a.png")
    faces = [
        {
            "image": str(folder / "a.png"),
            "id": f"face {i}",
            "box": [10.0, 5.0, 60.0, 55.0],
            "points": (30 + shape / 8).tolist(),
        }
        for i, shape in enumerate(shapes(24))
    ]
    out = folder / "prior.safetensors"
    small = ("--arch", "unet", "--width", 1, "--input-size", "16x16", "--epochs", 1)
    options = (*small, "--shape-prior", 1.5, "--val-fraction", 0, "-o", out)
    done = run("train", *options, stdin=faces)
    assert done.returncode == 0, done.stderr
    return out, faces


def points_of(done) -> np.ndarray:
    assert done.returncode == 0, done.stderr
    return np.array([record["pred"] for record in parse(done.stdout)])


def test_a_checkpoint_keeps_it_and_prediction_may_leave_it_out(trained, quick):
    path, faces = trained
    model = checkpoint.load(str(path)).model
    assert model.options["shape_prior"] == 1.5
    moved = points_of(quick("predict", path, stdin=faces))
    asked = points_of(quick("predict", path, "--shape-prior", stdin=faces))
    bare = points_of(quick("predict", path, "--no-shape-prior", stdin=faces))
    np.testing.assert_array_equal(moved, asked)
    assert np.abs(moved - bare).max() > 1
    learnt = ShapePrior(COUNT, 1.5)
    learnt.fit(np.array([face["points"] for face in faces]))
    kept = checkpoint.load(str(path)).network().shape_prior
    np.testing.assert_allclose(kept.modes, learnt.modes, atol=1e-6)


def test_a_run_that_starts_from_it_has_its_own_or_none(trained, tmp_path, quick):
    path, faces = trained
    for words, strength in (((), 0.0), (("--shape-prior", 3), 3.0)):
        out = tmp_path / f"{strength}.safetensors"
        given = ("--init", path, *words, "--epochs", 1, "--val-fraction", 0, "-o", out)
        done = quick("train", *given, stdin=faces[:22])
        assert done.returncode == 0, done.stderr
        found = checkpoint.load(str(out))
        assert found.model.options["shape_prior"] == strength
        prior = found.network().shape_prior
        assert (prior is None) == (strength == 0)
    before = checkpoint.load(str(path)).network().shape_prior
    assert not np.array_equal(prior.modes, before.modes)  # of 22 faces, not of 24


def test_a_network_without_one_says_so(trained, tmp_path, quick):
    path, faces = trained
    out = tmp_path / "bare.safetensors"
    quick("train", "--init", path, "--epochs", 1, "--val-fraction", 0, "-o", out, stdin=faces)
    done = quick("predict", out, "--shape-prior", stdin=faces)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1
    assert b"the network (unet) has none; train it with --shape-prior 1" in done.stderr


def test_saved_maps_are_what_pred_is_read_from(trained, tmp_path, quick):
    path, faces = trained
    done = quick("predict", path, "--heatmaps", tmp_path / "maps", stdin=faces)
    assert b"`pred` is without the shape prior" in done.stderr
    bare = points_of(quick("predict", path, "--no-shape-prior", stdin=faces))
    np.testing.assert_allclose(points_of(done), bare, atol=1e-6)
    both = ("--heatmaps", tmp_path / "maps", "--shape-prior")
    assert quick("predict", path, *both, stdin=faces).returncode == 2


def test_a_run_with_too_few_faces_is_one_line(trained, tmp_path, quick):
    _, faces = trained
    options = ("--arch", "unet", "--width", 1, "--input-size", "16x16", "--shape-prior", 1)
    done = quick("train", *options, "-o", tmp_path / "x.safetensors", stdin=faces[:12])
    assert done.returncode == 3
    assert b"faces with all points; 20 are needed" in done.stderr.splitlines()[-1]
