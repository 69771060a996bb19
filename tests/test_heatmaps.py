"""Heatmaps: the loss without labels, and the decoders."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import parse, run

from kptools.models import build
from kptools.models.codecs import DECODERS, heatmap
from kptools.models.losses import bernoulli


def stored_label_loss(z, points, sigma, weight):
    """The same loss written plainly, with the labels stored, in double precision."""
    known = torch.isfinite(points).all(dim=-1)
    height, width = z.shape[2:]
    x, y = torch.nan_to_num(points).unsqueeze(-1).unbind(dim=2)
    gx = torch.exp(-0.5 * ((torch.arange(width) - x) / sigma) ** 2)
    gy = torch.exp(-0.5 * ((torch.arange(height) - y) / sigma) ** 2)
    label = gy.unsqueeze(3) * gx.unsqueeze(2)
    losses = F.softplus(z) * (1 - label) + weight * label * F.softplus(-z)
    return (losses * known[..., None, None]).sum() / (height * width * known.sum())


@pytest.mark.parametrize("weight", [1.0, 25.0])
@pytest.mark.parametrize("sigma", [1.0, 2.5])
def test_the_loss_and_its_gradient_are_those_of_stored_labels(sigma, weight):
    torch.manual_seed(0)
    z = 3 * torch.randn(3, 5, 40, 52) - 4
    points = torch.rand(3, 5, 2) * torch.tensor([51.0, 39.0])
    points[0, 0] = float("nan")  # not annotated
    points[1, 2] = torch.tensor([-3.0, 20.0])  # outside: its tail counts
    ours, plain = z.clone().requires_grad_(), z.double().requires_grad_()
    loss = bernoulli.loss(ours, points, sigma, weight).mean
    reference = stored_label_loss(plain, points.double(), sigma, weight)
    (7 * loss).backward()
    (7 * reference).backward()
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    largest = plain.grad.abs().max()
    assert (ours.grad - plain.grad).abs().max() < 1e-5 * largest
    assert ours.grad[0, 0].abs().max() == 0


def test_the_loss_in_bf16_is_reduced_in_fp32():
    torch.manual_seed(0)
    z = (torch.randn(2, 3, 64, 64) - 4).bfloat16()
    points = torch.rand(2, 3, 2) * 63
    loss = bernoulli.loss(z.requires_grad_(), points).mean
    reference = stored_label_loss(z.double(), points.double(), 1.0, 1.0)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(reference.item(), rel=1e-5)
    loss.backward()
    assert z.grad.dtype == torch.bfloat16


def test_no_annotated_point_makes_a_loss_of_zero():
    z = torch.zeros(1, 2, 8, 8, requires_grad=True)
    loss = bernoulli.loss(z, torch.full((1, 2, 2), float("nan"))).mean
    loss.backward()
    assert loss.item() == 0
    assert float(z.grad.abs().max()) == 0


def test_a_label_is_a_unit_gaussian_written_out():
    maps = heatmap.encode(np.array([[1.0, 2.0], [np.nan, np.nan]]), (4, 3))
    e = np.exp(-0.5)
    expected = [
        [e * np.exp(-2), np.exp(-2), e * np.exp(-2), np.exp(-4)],
        [e * e, e, e * e, e * np.exp(-2)],
        [e, 1, e, np.exp(-2)],
    ]
    assert maps[0] == pytest.approx(np.array(expected), abs=1e-7)
    assert maps[1].max() == 0


def logits(points, size=(50, 40), sigma=2.0):
    p = heatmap.encode(np.array(points, dtype=float), size, sigma).astype(np.float64) * 0.9
    p = np.maximum(p, 1e-12)
    return np.log(p) - np.log1p(-p)


def decode(z, method, **options):
    """Points (K, 2) and scores (K,) of the maps of one face."""
    points, scores = heatmap.decode(torch.from_numpy(z)[None], method, **options)
    return points[0], scores[0]


def test_decoders_find_a_gaussian_as_well_as_they_promise():
    points = np.array([[20.3, 10.6], [7.8, 30.1], [33.0, 21.45]])
    z = logits(points)
    bound = {"argmax": 0.5, "quarter": 0.26, "dark": 0.02, "softargmax": 0.25}
    for method, most in bound.items():
        found, scores = decode(z, method)
        assert np.abs(found - points).max() <= most, method
        assert ((scores > 0.7) & (scores < 1)).all()


@pytest.mark.parametrize("sigma", [1.0, 2.0])
def test_dark_is_the_papers_a_gaussian_over_the_map_then_a_newton_step(sigma):
    """Against Zhang et al. (2020) written out: the map smoothed, its log, and at the largest pixel
    m of the map: m - H^-1 D."""
    rng = np.random.default_rng(0)
    z = logits([[20.3, 18.6], [24.8, 21.1], [27.2, 16.4]]) + rng.normal(0, 0.5, (3, 40, 50))
    reach = np.arange(-np.ceil(3 * sigma), np.ceil(3 * sigma) + 1)
    taps = np.exp(-0.5 * (reach / sigma) ** 2)
    found, _ = decode(z, "dark", sigma=sigma)
    for index, values in enumerate(z):
        p = 1 / (1 + np.exp(-values))
        smooth = np.apply_along_axis(np.convolve, 0, p, taps, "same")
        log = np.log(np.apply_along_axis(np.convolve, 1, smooth, taps, "same"))
        y, x = np.unravel_index(values.argmax(), values.shape)
        dx, dy = (log[y, x + 1] - log[y, x - 1]) / 2, (log[y + 1, x] - log[y - 1, x]) / 2
        xx = log[y, x + 1] - 2 * log[y, x] + log[y, x - 1]
        yy = log[y + 1, x] - 2 * log[y, x] + log[y - 1, x]
        xy = log[y + 1, x + 1] - log[y + 1, x - 1] - log[y - 1, x + 1] + log[y - 1, x - 1]
        hessian = np.array([[xx, xy / 4], [xy / 4, yy]])
        expected = np.array([x, y]) - np.linalg.solve(hessian, [dx, dy])
        assert found[index] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("sigma", [1.0, 2.0, 300.0])
def test_dark_finds_a_gaussian_at_the_edge_as_well_as_elsewhere(sigma):
    width = min(sigma, 2.0)
    at = [[x, y] for x in (1.3, 2.7, 4.2, 46.6) for y in (1.6, 3.4, 20.3, 37.4)]
    found, _ = decode(logits(at, sigma=width), "dark", sigma=sigma)
    assert np.abs(found - at).max() < 0.02


def test_dark_takes_the_sigma_that_its_maps_were_made_with(face, tmp_path):
    options = ("--sigma", 3, "--out", tmp_path / "maps")
    (record,) = parse(run("heatmap", "encode", *options, stdin=[face(0)]).stdout)
    assert record["heatmap"]["sigma"] == 3
    for sigma in (3, 1):  # maps of 0.1 have none, and are taken for 1
        record["heatmap"]["sigma"] = sigma
        (out,) = parse(run("heatmap", "decode", "--decode", "dark", stdin=[record]).stdout)
        z = np.load(record["heatmap"]["file"])[0].astype(np.float64)
        points, _ = decode(z.astype(np.float32), "dark", sigma=sigma)
        m = np.array(record["heatmap"]["matrix"])
        assert np.allclose(out["pred"], points @ m[:, :2].T + m[:, 2])


@pytest.mark.parametrize("method", DECODERS)
def test_decoders_stay_finite_at_the_edges_and_on_flat_maps(method):
    z = np.concatenate([logits([[0, 0], [49, 39], [0.2, 39]]), np.zeros((1, 40, 50))])
    z = np.concatenate([z, np.full((1, 40, 50), -60000.0)])
    found, scores = decode(z.astype(np.float16), method)
    assert np.isfinite(found).all()
    assert np.isfinite(scores).all()
    assert np.abs(found[:3] - [[0, 0], [49, 39], [0, 39]]).max() < 0.6


def test_labels_written_and_read_back_are_the_points(face, tmp_path):
    records = [face(i) for i in range(3)]
    written = run("heatmap", "encode", "--out", tmp_path / "maps", "--pictures", stdin=records)
    assert written.returncode == 0, written.stderr
    assert (tmp_path / "maps" / "face2.png").exists()
    read = run("heatmap", "decode", "--decode", "dark", stdin=written.stdout)
    for before, after in zip(records, parse(read.stdout), strict=True):
        assert np.abs(np.array(before["points"]) - after["pred"]).max() < 0.05


def test_the_loss_leaves_logits_in_the_layout_that_the_network_gives():
    """A U-Net's logits are channels-last: neither they nor their gradient are to be copied."""
    torch.manual_seed(0)
    z = torch.randn(3, 5, 40, 52).contiguous(memory_format=torch.channels_last)
    points = torch.rand(3, 5, 2) * 40
    plain, last = z.contiguous().requires_grad_(), z.requires_grad_()
    losses = [bernoulli.loss(logits, points).mean for logits in (plain, last)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)
    for loss in losses:
        loss.backward()
    assert torch.allclose(plain.grad, last.grad, atol=1e-9)
    assert last.grad.is_contiguous(memory_format=torch.channels_last)


def test_maps_stay_on_the_networks_device_until_they_are_saved():
    maps = torch.randn(2, 3, 16, 16)
    network = build.build("unet", 3, (16, 16), {"width": 4})
    decoded = network.head.decode(maps)
    assert decoded.maps.logits.data_ptr() == maps.data_ptr()
    assert np.isfinite(decoded.points).all()


@pytest.mark.parametrize("size", [(52, 40), (17, 9), (5, 7), (9, 8), (3, 21)])
@pytest.mark.parametrize("method", DECODERS)
def test_maps_are_decoded_alike_in_whichever_order_they_lie_in_memory(method, size):
    generator = torch.Generator().manual_seed(0)
    z = 3 * torch.randn(40, 3, *size, generator=generator)
    z[0, 0, size[0] // 2, 2] = torch.nan
    z[1, 1, -1, 0] = torch.inf
    points, scores = heatmap.decode(z, method)
    last = z.contiguous(memory_format=torch.channels_last)
    part = F.pad(last, (1, 2, 3, 1)).contiguous(memory_format=torch.channels_last)
    for other in (last, part[:, :, 3:-1, 1:-2]):
        again = heatmap.decode(other, method)
        np.testing.assert_array_equal(again[0], points)
        np.testing.assert_array_equal(again[1], scores)
    largest = z[2:].flatten(2).argmax(dim=2).numpy()
    at = np.stack([largest % size[1], largest // size[1]], axis=-1)
    assert np.abs(points[2:] - at).max() <= (0 if method == "argmax" else 3)  # half of a window
    assert np.isnan(points[0, 0]).all()
    assert np.isnan(points[1, 1]).all()
    assert np.isfinite(points[2:]).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_map_without_a_finite_peak_gives_no_point(value):
    z = torch.full((2, 3, 20, 24), -5.0)
    z[:, :, 7, 9] = 2.0
    z[1, 2, 4, 5] = value
    for method in ("argmax", "quarter", "dark", "softargmax"):
        points, scores = heatmap.decode(z, method)
        assert np.isnan(points[1, 2]).all(), method
        assert np.isnan(scores[1, 2]), method
        points[1, 2], scores[1, 2] = points[0, 0], scores[0, 0]
        assert np.allclose(points, (9, 7), atol=0.3)
        assert np.isfinite(scores).all()


def test_points_decoded_anew_have_no_old_error(face, tmp_path):
    record = face(0)
    maps = run("heatmap", "encode", "--out", tmp_path / "maps", stdin=[record])
    (mapped,) = parse(maps.stdout)
    (decoded,) = parse(run("heatmap", "decode", stdin=[mapped | {"nme": 0.5}]).stdout)
    assert "nme" not in decoded
    assert "heatmap" in decoded


@pytest.mark.parametrize("sigma", [1.0, 1.5])
@pytest.mark.parametrize("unsure", [[[4, 0], [0, 0.5]], [[3, 2], [2, 3]], [[0, 0], [0, 0]]])
def test_the_covariance_is_by_how_much_a_map_is_wider_than_its_label(sigma, unsure):
    total = np.array(unsure) + sigma**2 * np.eye(2)
    y, x = np.mgrid[:40, :48]
    d = np.stack([x - 20.3, y - 18.6], axis=-1)
    p = (
        sigma**2
        / np.sqrt(np.linalg.det(total))
        * np.exp(-0.5 * np.einsum("...i,ij,...j", d, np.linalg.inv(total), d))
    )
    z = torch.from_numpy(np.log(p) - np.log1p(-p.clip(0, 1 - 1e-9)))[None, None]
    points, _ = heatmap.decode(z, "dark", sigma)
    found = heatmap.covariance(z, points, sigma)[0, 0]
    np.testing.assert_allclose(found, unsure, atol=0.15)


def test_where_a_map_says_nothing_a_point_may_be_anywhere():
    z = torch.zeros(1, 3, 12, 16)
    points = np.array([[[5.0, 6.0], [np.nan, np.nan], [0.0, 11.0]]])
    for size in (12, 5, 3):
        found = heatmap.covariance(z[:, :, :size, :size], points.clip(max=size - 1), 1.0)
        np.testing.assert_allclose(found, np.broadcast_to(196 * np.eye(2), found.shape), atol=4)
