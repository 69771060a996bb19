"""Heads: what each makes of its output, its loss, and how sure it says that it is."""

import math

import numpy as np
import pytest
import torch

from kptools import geometry as g
from kptools.models import build
from kptools.models.codecs import marginal
from kptools.models.heads import confidence
from kptools.models.heads.integral import IntegralHead
from kptools.models.heads.local_points import LocalPointsHead
from kptools.models.heads.points import PointsHead
from kptools.models.layers import sampling
from kptools.models.losses import integral
from kptools.models.necks.cells import CellFeatures
from kptools.training import settings

NAN = math.nan


def points(*xy):
    """Points (1, K, 2) of one face."""
    return torch.tensor([xy], dtype=torch.float32)


# Marginals


def test_marginals_are_the_sums_of_one_softmax():
    z = torch.tensor([[[[1.0, 2.0, 3.0], [2.0, 0.0, 2.0]]]]).log()  # of sum 10
    columns, rows = marginal.marginals(z)
    assert columns[0, 0].tolist() == pytest.approx([0.3, 0.2, 0.5])
    assert rows[0, 0].tolist() == pytest.approx([0.6, 0.4])
    mean = marginal.mean(columns)
    assert mean.item() == pytest.approx(1.2)
    assert marginal.variance(columns, mean).item() == pytest.approx(0.76)  # 0.2 + 2.0 - 1.2^2


def test_the_label_of_a_marginal_is_a_gaussian_of_sum_1():
    label = marginal.encode(torch.tensor([[1.0]]), 4, 2.0)[0, 0]
    e = [math.exp(-1 / 8), 1.0, math.exp(-1 / 8), math.exp(-4 / 8)]
    assert label.tolist() == pytest.approx([v / sum(e) for v in e])


# The loss of maps whose mean is the point


def test_the_integral_loss_worked_by_hand():
    """A map of two pixels in a row, of probabilities 1/4 and 3/4; the point is the first's centre.
    The mean is 3/4 of a pixel off, and the label of the columns 1 : exp(-1/2)."""
    z = torch.tensor([[[[1.0, 3.0]]]]).log()
    e = math.exp(-0.5)
    cross_entropy = -(math.log(0.25) + e * math.log(0.75)) / (1 + e)
    found = integral.loss(z, points((0.0, 0.0)))
    assert found.mean.item() == pytest.approx(0.75 + cross_entropy, rel=1e-5)
    assert found.count == 1


def test_a_point_outside_its_map_has_the_distance_alone():
    z = torch.tensor([[[[1.0, 3.0]]]]).log()
    assert integral.loss(z, points((3.0, -2.0))).mean.item() == pytest.approx(2.25 + 2.0)
    # to the outer edge of the last pixel it is inside
    within, beyond = (integral.loss(z, points((x, 0.0))).mean.item() for x in (1.49, 1.51))
    assert within > 0.74 + 0.1
    assert beyond == pytest.approx(0.76)


def test_points_that_are_not_known_have_no_part_in_the_integral_loss():
    torch.manual_seed(0)
    z = torch.randn(1, 3, 6, 8)
    two = integral.loss(z[:, [0, 2]], points((3.0, 2.0), (5.5, 1.0)))
    z.requires_grad_()
    loss = integral.loss(z, points((3.0, 2.0), (NAN, NAN), (5.5, 1.0)))
    assert loss.mean.item() == pytest.approx(two.mean.item(), rel=1e-6)
    assert loss.count == two.count == 2
    loss.mean.backward()
    assert z.grad[0, 1].abs().max() == 0
    assert z.grad[0, 0].abs().max() > 0
    none = integral.loss(z, points(*[(NAN, NAN)] * 3))
    assert (none.mean.item(), none.count.item()) == (0, 1)


def test_a_map_learns_where_its_point_is():
    """From a flat map, by the head's own loss: fractions of the input in, fractions out."""
    head = IntegralHead(1, 1, (64, 48), stride=4)
    z = torch.zeros(1, 1, 12, 16, requires_grad=True)
    truth = np.array([[[0.2, 0.7]]])
    steps = torch.optim.Adam([z], lr=0.3)
    for _ in range(60):
        head.loss(z, truth, integral.loss).mean.backward()
        steps.step()
        steps.zero_grad()
    found = head.decode(z).points[0, 0]
    assert found == pytest.approx([0.2, 0.7], abs=0.01)


# Decoding by the mean place


def decoded(*peaks):
    """The point and the score of a map of 8 x 6, of an input of 32 x 24, with equal peaks."""
    z = torch.full((1, 1, 6, 8), -100.0)
    for column, row in peaks:
        z[0, 0, row, column] = 0.0
    found = IntegralHead(1, 1, (32, 24), stride=4).decode(z)
    return found.points[0, 0].tolist(), found.scores[0, 0].item()


def test_a_single_hot_pixel_is_its_own_centre_and_sure():
    for column, row in ((5, 2), (0, 0), (7, 5)):
        point, score = decoded((column, row))
        assert point == pytest.approx([(column + 0.5) / 8, (row + 0.5) / 6])
        assert score == pytest.approx(1.0)


def test_two_equal_peaks_are_their_middle_and_less_sure():
    point, score = decoded((1, 4), (5, 4))
    assert point == pytest.approx([3.5 / 8, 4.5 / 6])
    assert score == pytest.approx(1 - math.exp(-0.02 / (2 / 8)))  # 2 of 8 pixels off
    _, nearer = decoded((2, 4), (4, 4))
    assert score < nearer < 1


def test_what_a_spread_says_of_the_distance_has_no_part_in_how_maps_are_learnt():
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 3, 6, 8), np.random.default_rng(0).random((2, 3, 2))
    truth[1, 2] = NAN
    values, gradients, of_offset = [], [], []
    for offset in (0.0, -3.0):
        head = IntegralHead(1, 3, (32, 24), stride=4)
        torch.nn.init.constant_(head.offset, offset)
        z = logits.clone().requires_grad_()
        loss = head.loss(z, truth, integral.loss).mean
        loss.backward()
        values.append(loss.item())
        gradients.append(z.grad)
        of_offset.append(head.offset.grad)
    points = torch.from_numpy(g.unit_to_map(truth, (8, 6))).float()
    assert values == pytest.approx([integral.loss(logits, points).mean.item()] * 2)
    assert torch.equal(*gradients)
    assert gradients[0].abs().max() > 0
    assert not torch.equal(*of_offset)


def test_of_two_maps_as_wide_that_of_the_point_which_is_further_off_has_the_lower_score():
    """Maps of one row of two hot pixels, 2 of 8 pixels from their mean, and points that are on
    average 0.01 and 0.15 of the input from it."""
    z = torch.full((256, 2, 6, 8), -100.0)
    z[:, :, 2, [2, 6]] = 0.0
    middle = np.array([4.5 / 8, 2.5 / 6])
    aside = np.random.default_rng(0).uniform(0, 2, (256, 2, 1)) * [[[0.01], [0.15]]]
    truth = middle + aside * [1.0, 0.0]
    head = IntegralHead(1, 2, (32, 24), stride=4)
    steps = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(300):
        head.loss(z, truth, integral.loss).mean.backward()
        steps.step()
        steps.zero_grad()
    near, far = head.decode(z).scores[0]
    assert near == pytest.approx(1 - math.exp(-0.02 / 0.01), abs=0.03)
    assert far == pytest.approx(1 - math.exp(-0.02 / 0.15), abs=0.03)


def test_a_score_falls_from_1_to_0_with_the_distance():
    distances = torch.tensor([[0.0, 0.01, 0.02, 0.2, 1e6]])
    scores = confidence.score(distances)[0].tolist()
    assert scores[0] == 1
    assert scores[2] == pytest.approx(1 - 1 / math.e)  # as far as what counts as near
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == pytest.approx(0, abs=1e-7)


# Points, and by how much they are expected to be off


def points_head(distance):
    """A head of 4 points on 6 inputs, whose expected distance is that everywhere; chance in all
    else."""
    torch.manual_seed(0)
    head = PointsHead(6, (5,), 4, relu=False)
    torch.nn.init.normal_(head.distance_weight)
    torch.nn.init.constant_(head.distance_bias, math.log(distance))
    return head


def test_the_expected_distance_has_no_part_in_how_points_are_learnt():
    chance = np.random.default_rng(0)
    x = torch.from_numpy(chance.normal(size=(3, 6))).float()
    truth = chance.random((3, 4, 2))
    truth[1, 2] = NAN
    criterion = build.criterion("points", "mse")
    values, gradients, of_distance = [], [], []
    for distance in (0.01, 3.0):
        head = points_head(distance)
        there = x.clone().requires_grad_()
        loss = head.loss(head(there), truth, criterion).mean
        loss.backward()
        values.append(loss.item())
        apart = ("distance_weight", "distance_bias")
        found = dict(head.named_parameters())
        of_distance.append([found.pop(name).grad for name in apart])
        gradients.append([there.grad, *(parameter.grad for parameter in found.values())])
    known = np.isfinite(truth)
    off = points_head(1.0)(x)[..., :2].detach().numpy() - truth
    assert values == pytest.approx([(off[known] ** 2).mean()] * 2, rel=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(tensor.abs().max() > 0 for tensor in gradients[0])
    assert not any(torch.equal(a, b) for a, b in zip(*of_distance, strict=True))


def test_a_point_that_is_often_far_off_has_a_lower_score():
    """Two points of noise of 0.005 and 0.1 about one place: what is learnt is how far they are
    off in the mean, and the score falls with it."""
    torch.manual_seed(0)
    head = PointsHead(1, (), 2, relu=False)
    criterion = build.criterion("points", "mse")
    noise = np.random.default_rng(0).normal(size=(512, 2, 2)) * [[[0.005], [0.1]]]
    truth, x = 0.5 + noise, torch.ones(512, 1)
    steps = torch.optim.Adam(head.parameters(), lr=0.03)
    for _ in range(300):
        head.loss(head(x), truth, criterion).mean.backward()
        steps.step()
        steps.zero_grad()
    output = head(x[:1])
    expected = output[0, :, 2].exp().tolist()
    assert expected == pytest.approx(np.linalg.norm(noise, axis=2).mean(axis=0), rel=0.1)
    (steady, restless) = head.decode(output).scores[0]
    assert steady > 0.9
    assert restless < 0.3


def test_a_head_that_never_learnt_distances_gives_no_scores():
    head = PointsHead(6, (), 4, relu=False)
    assert head.decode(head(torch.ones(2, 6))).scores is None


def test_a_distance_that_cannot_be_does_not_reach_the_loss():
    """Features of any scale: what is expected of the distance has a bound."""
    head = PointsHead(4, (), 2, relu=False)
    torch.nn.init.constant_(head.distance_weight, 100.0)
    x = torch.full((3, 4), -300.0)
    loss = head.loss(head(x), np.full((3, 2, 2), 0.4), build.criterion("points", "mse")).mean
    assert torch.isfinite(loss)
    loss.backward()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters())


# Points that are looked at again


def plain_part(head, *inputs):
    """The PointsHead that a LocalPointsHead holds."""
    plain = PointsHead(*inputs, relu=False)
    own = ("local_", "step_")
    plain.load_state_dict({k: t for k, t in head.state_dict().items() if not k.startswith(own)})
    return plain


def test_how_far_points_are_off_teaches_neither_points_nor_features():
    torch.manual_seed(0)
    head = LocalPointsHead((3, 5), (7,), 4)
    torch.nn.init.normal_(head.local_output)
    torch.nn.init.normal_(head.step_output)
    plain = plain_part(head, 80, (7,), 4)
    maps = [torch.randn(2, c, s, s, requires_grad=True) for c, s in ((3, 16), (5, 8))]
    cells = torch.randn(2, 80, requires_grad=True)
    output = head(CellFeatures(cells, maps))
    assert torch.equal(output[..., 3:5], plain(cells)[..., :2])
    assert not torch.equal(output[..., 2], plain(cells)[..., 2])
    output[..., 2].sum().backward()
    assert not any(some.grad.any() for some in (*maps, cells))
    names = {"local_weight", "local_embedding", "local_output", "distance_weight", "distance_bias"}
    assert {name for name, p in head.named_parameters() if p.grad.any()} == names


def test_a_step_teaches_the_maps_and_not_the_points_that_it_began_from():
    torch.manual_seed(0)
    head = LocalPointsHead((3, 5), (7,), 4)
    torch.nn.init.normal_(head.step_output)
    torch.nn.init.normal_(head.step_mixing)

    def learners(pick):
        """What a gradient goes to from a part of the output."""
        maps = [torch.randn(2, c, s, s, requires_grad=True) for c, s in ((3, 16), (5, 8))]
        cells = torch.randn(2, 80, requires_grad=True)
        head.zero_grad()
        pick(head(CellFeatures(cells, maps))).square().sum().backward()
        inputs = {"cells": cells, "fine": maps[0], "coarse": maps[1]}
        parts = inputs | dict(head.named_parameters())
        return {name for name, some in parts.items() if some.grad is not None and some.grad.any()}

    linear = {"0.weight", "0.bias", "1.weight", "1.bias"}
    steps = {"step_weight", "step_embedding", "step_mixing", "step_output"}
    assert learners(lambda output: output[..., :2]) == {"fine", "coarse"} | steps
    assert learners(lambda output: output[..., 5:7]) == {"fine", "coarse"} | steps  # the first step
    assert learners(lambda output: output[..., 3:5]) == {"cells"} | linear


def test_what_one_point_sees_moves_another_by_the_mixing_alone():
    torch.manual_seed(0)
    head = LocalPointsHead((3,), (7,), 4)
    torch.nn.init.normal_(head.step_output)
    x = CellFeatures(torch.randn(2, 48), [torch.randn(2, 3, 8, 8)])
    before = head(x)
    with torch.no_grad():
        head.step_mixing[1, 2] = 1.0  # the second point hears of the third
    moved = (head(x) != before)[..., 5:7].any(dim=-1).any(dim=0)
    assert moved.tolist() == [False, True, False, False]


def test_a_new_head_on_maps_expects_what_its_linear_layers_do():
    head = LocalPointsHead((3,), (7,), 4)
    torch.nn.init.normal_(head.distance_weight)
    plain = plain_part(head, 48, (7,), 4)
    x = CellFeatures(torch.randn(2, 48), [torch.randn(2, 3, 8, 8)])
    assert torch.equal(head(x)[..., :3], plain(x.cells))


def spots(truth):
    """Maps (B, 1, 32, 32) that are bright about the one point (B, 1, 2) of each face."""
    pixels = (np.arange(32) + 0.5) / 32
    square = (pixels[None, :, None] - truth[..., 1:]) ** 2 + (pixels - truth[..., :1]) ** 2
    return torch.from_numpy(np.exp(-square / (2 * 0.05**2))).float()[:, None]


def head_with_the_point_in_the_middle():
    """Its linear layers give (0.5, 0.5) for each face, and learn nothing."""
    head = LocalPointsHead((1,), (), 1)
    for fixed in head[0].parameters():
        torch.nn.init.zeros_(fixed).requires_grad_(False)
    return head


def teach(head, make, *, times):
    """Train a head on batches of `make(count)`: CellFeatures and truth."""
    steps = torch.optim.Adam((p for p in head.parameters() if p.requires_grad), lr=0.01)
    for _ in range(times):
        x, truth = make(32)
        head.loss(head(x), truth, build.criterion("points", "smooth_l1")).mean.backward()
        steps.step()
        steps.zero_grad()


def test_points_move_to_what_lies_about_them_step_by_step():
    """A bright spot where the truth is, up to 0.1 from where the linear layers have it."""
    torch.manual_seed(0)
    chance = np.random.default_rng(0)
    head = head_with_the_point_in_the_middle()

    def make(count):
        truth = 0.5 + chance.uniform(-0.1, 0.1, (count, 1, 2))
        return CellFeatures(torch.ones(count, 16), [spots(truth)]), truth

    teach(head, make, times=200)
    x, truth = make(64)
    output = head(x).detach()
    before = output[..., 3:].unflatten(-1, (-1, 2)).unbind(dim=2)
    errors = [
        np.linalg.norm(some.numpy() - truth, axis=-1).mean() for some in (*before, output[..., :2])
    ]
    assert errors[0] > 0.05
    assert errors[1] < 0.5 * errors[0]
    assert errors[-1] < 0.5 * errors[1]


def test_a_point_that_is_not_annotated_teaches_no_step_anything():
    torch.manual_seed(0)
    head = LocalPointsHead((4,), (), 2)
    torch.nn.init.normal_(head.step_output)
    x = CellFeatures(torch.ones(3, 64), [torch.randn(3, 4, 8, 8)])
    truth = np.full((3, 2, 2), 0.4)
    truth[:, 1] = np.nan
    head.loss(head(x), truth, build.criterion("points", "l1")).mean.backward()
    assert head.step_output.grad[0].any()
    assert not head.step_output.grad[1].any()


def test_networks_of_parts_learn_points_by_smooth_l1_and_the_others_by_mse():
    losses = {arch: settings.resolve(arch, head="points").loss for arch in ("tiny", "resnet18")}
    assert losses == {"tiny": "smooth_l1", "resnet18": "mse"}
    assert settings.resolve("efficientnet_lite0", head="points").loss == "smooth_l1"
    assert settings.resolve("efficientnet_lite0").loss == "bce"


def test_the_loss_of_steps_is_the_mean_of_theirs():
    head = LocalPointsHead((4,), (), 1)
    at = torch.tensor([0.5, 0.5])  # after the last step; before the others 0.1, 0.2 and 0.3 off
    before = torch.cat([at + aside for aside in (0.1, 0.2, 0.3)])
    output = torch.cat([at, torch.zeros(1), before])[None, None]
    loss = head.loss(output, np.full((1, 1, 2), 0.5), build.criterion("points", "l1"))
    assert loss.mean.item() == pytest.approx((0 + 0.1 + 0.2 + 0.3) / 4)
    assert loss.count.item() == 2


@pytest.mark.parametrize("at", [(0.25, 0.25), (0.9, 0.4), (1.3, -0.2)])
def test_features_are_looked_at_where_the_points_are(at):
    """On a map whose features are its places: beyond its edge those of the edge."""
    width, height = 10, 8
    across, down = (torch.arange(width) + 0.5) / width, (torch.arange(height) + 0.5) / height
    rows, columns = torch.meshgrid(down, across, indexing="ij")
    places = torch.tensor([[[at, (0.5, 0.75)]]])  # (B, K, P, 2)
    seen = sampling.sample(torch.stack([columns, rows])[None], places)
    edge = np.array([0.5 / width, 0.5 / height])
    expected = np.concatenate([np.clip(at, edge, 1 - edge), (0.5, 0.75)])
    assert np.allclose(seen.flatten().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize("size", [(9, 7), (1, 5), (5, 1), (1, 1)])
def test_rows_of_pixels_give_what_a_graph_has(size, monkeypatch):
    """The numbers, and the gradient of the features."""
    torch.manual_seed(0)
    maps = [torch.randn(3, 4, *size, requires_grad=True) for _ in range(2)]
    maps[1].data.copy_(maps[0].data)
    places = torch.rand(3, 6, 2, 2) * 1.4 - 0.2
    weights = torch.randn(3, 6, 2, 4)
    by_rows = sampling.sample(maps[0], places)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    by_grid = sampling.sample(maps[1], places)
    assert torch.allclose(by_rows, by_grid, atol=1e-5)
    (by_rows * weights).sum().backward()
    (by_grid * weights).sum().backward()
    assert torch.allclose(maps[0].grad, maps[1].grad, atol=1e-5)


def test_points_that_are_no_numbers_look_somewhere(monkeypatch):
    """So that a training that diverges says so itself."""
    places = torch.full((1, 2, 1, 2), torch.nan)
    assert sampling.sample(torch.ones(1, 3, 4, 4), places).eq(1).all()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert sampling.sample(torch.ones(1, 3, 4, 4), places).eq(1).all()


def test_a_point_that_does_not_lie_on_what_it_should_has_a_low_score():
    """A bright spot where the truth is, and a point on it or 0.2 to the left of it, by chance:
    nothing in the linear layers' input says which."""
    torch.manual_seed(0)
    chance = np.random.default_rng(0)
    head = head_with_the_point_in_the_middle()
    head.step_output.requires_grad_(False)  # it stays where it is

    def make(count):
        truth = np.full((count, 1, 2), 0.5)
        truth[:, 0, 0] += chance.integers(0, 2, count) * 0.2
        return CellFeatures(torch.ones(count, 16), [spots(truth)]), truth

    teach(head, make, times=150)
    x, truth = make(64)
    is_off = truth[:, 0, 0] > 0.5
    scores = head.decode(head(x)).scores[:, 0]
    assert scores[~is_off].min() > 3 * scores[is_off].max()


def test_what_is_seen_about_points_has_a_bound_too():
    head = LocalPointsHead((4,), (), 2)
    torch.nn.init.constant_(head.local_output, -1e4)  # a distance of exp(-1e4)
    x = CellFeatures(torch.ones(3, 64), [torch.randn(3, 4, 8, 8)])
    loss = head.loss(head(x), np.full((3, 2, 2), 0.4), build.criterion("points", "mse")).mean
    assert torch.isfinite(loss)
