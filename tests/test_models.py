"""Networks: what they are built of, their weights, and their losses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torchvision
from conftest import untrained

from kptools import specs
from kptools.models import build, checkpoint
from kptools.models.backbones import torchvision as backbones
from kptools.models.heads.points import PointsHead
from kptools.models.layers import grid_pool
from kptools.models.losses import wing
from kptools.pixels.batch import normalize_pixels
from kptools.storage.tensors import write_tensors

# Backbones


def test_an_inception_rebuilt_is_the_one_that_was_trained():
    ours = build.build("inception_v3", 3, (299, 299), weights="none")
    assert ours.backbone.transform_input  # as torchvision sets it where it loads weights


def test_local_weights_of_a_classifier_are_taken(drawn, tmp_path):
    torch.manual_seed(5)
    classifier = torchvision.models.resnet18(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "local.pth")
    network = build.build("resnet18", 68, (32, 32), weights=str(tmp_path / "local.pth"))
    assert torch.equal(network.backbone.conv1.weight, classifier.conv1.weight)


def test_googlenets_weights_file_is_taken_with_its_auxiliary_layers(tmp_path):
    whole = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    torch.save(whole.state_dict(), tmp_path / "googlenet.pth")
    network = build.build("googlenet", 5, (96, 96), weights=str(tmp_path / "googlenet.pth"))
    assert torch.equal(network.backbone.conv1.conv.weight, whole.conv1.conv.weight)


def test_a_backbones_weights_state_their_own_normalisation(tmp_path):
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert backbones.normalization("efficientnet_v2_l") == half
    assert backbones.normalization("resnet18") == specs.IMAGENET
    white = torch.full((1, 3, 2, 2), 255.0)
    spec = specs.InputSpec((2, 2), 0.0, False, half)
    assert torch.allclose(normalize_pixels(white, spec, 0, 255), torch.ones(1))
    # a checkpoint holds it, and one of 0.1 has ImageNet's
    path = untrained(tmp_path / "m.safetensors")
    loaded = checkpoint.load(str(path))
    spec = replace(loaded.model.input, normalization=((0.25,), (2.0,)))
    model = replace(loaded.model, input=spec)
    checkpoint.save(path, checkpoint.Checkpoint(model, loaded.weights))
    assert checkpoint.load(str(path)).model.input.normalization == ((0.25,), (2.0,))
    old = {
        "arch": "nose",
        "scheme": "ibug68",
        "count": 68,
        "input": [16, 16],
        "grey": True,
        "margin": 0.0,
        "heatmap": False,
        "width": 64,
        "stride": 1,
        "box_sources": ["dataset"],
        "mean": [[0.5, 0.5]] * 68,
    }
    for more, expected in (({}, None), ({"normalization": [[0.25], [2.0]]}, spec.normalization)):
        meta = {"version": 1, "model": old | more, "history": [], "run": {}}
        write_tensors(path, loaded.weights, meta)
        assert checkpoint.load(str(path)).model.input.normalization == expected


@pytest.mark.parametrize("shape", [(7, 7), (3, 3), (5, 9), (1, 2), (8, 12), (11, 4)])
def test_the_pool_that_mps_has_gives_the_numbers_of_the_other(shape):
    x = torch.randn(2, 3, *shape, dtype=torch.float64, requires_grad=True)
    adaptive = torch.nn.functional.adaptive_avg_pool2d(x, 4)
    ours = grid_pool.pool_by_cells(x)
    assert torch.allclose(ours, adaptive, atol=1e-12)
    (gradient,) = torch.autograd.grad(ours.square().sum(), x)
    (expected,) = torch.autograd.grad(adaptive.square().sum(), x)
    assert torch.allclose(gradient, expected, atol=1e-12)
    assert torch.equal(grid_pool.GridPool()(x), adaptive)  # on this device


# Losses of points


@pytest.mark.parametrize("loss", ["mse", "l1", "smooth_l1", "wing"])
def test_points_that_are_not_annotated_have_no_part_in_the_loss(loss):
    predicted = torch.rand(2, 3, 3, requires_grad=True)  # x, y, log of the expected distance
    truth = torch.rand(2, 3, 2)
    criterion = build.criterion("points", loss)
    whole = criterion(predicted[..., :2], truth)
    truth[0, 1] = float("nan")
    head = PointsHead(1, (), 3, relu=False)
    masked = head.loss(predicted, truth.double().numpy(), criterion).mean
    keep = torch.ones(2, 3, dtype=torch.bool)
    keep[0, 1] = False
    assert masked.item() == pytest.approx(whole[keep].mean().item(), rel=1e-6)
    masked.backward()
    assert predicted.grad[0, 1].abs().max() == 0


def test_wing_is_smooth_where_its_pieces_meet():
    at = torch.tensor([wing.WIDTH - 1e-6, wing.WIDTH + 1e-6]).view(1, 1, 2)
    a, b = wing.loss(at, torch.zeros(1, 1, 2)).flatten().tolist()
    assert a == pytest.approx(b, abs=1e-5)


@pytest.mark.parametrize("arch", ["regnet_x_400mf", "efficientnet_b0", "convnext_tiny", "vgg11"])
def test_where_a_global_average_feeds_the_last_layer_it_becomes_a_grid_of_cells(arch):
    """A regnet computes its widths with tensors, which have no memory on the device meta."""
    network = build.build_shapes(arch, 5, (64, 64))
    pooled = isinstance(network.backbone.avgpool, grid_pool.GridPool)
    assert pooled == (arch in ("regnet_x_400mf", "efficientnet_b0"))
    x = torch.zeros(2, 3, 64, 64, device="meta")
    assert network.eval()(x).shape == (2, 5, 3)


def test_the_depthwise_networks_are_those_that_train_in_fp32():
    names = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "resnet18", "resnext50_32x4d")
    found = [build.is_depthwise(build.build_shapes(name, 1, (64, 64))) for name in names]
    assert found == [True, True, False, False]


LOSSES = {
    "nose": ("points", "mse"),
    "unet": ("heatmap", "bce"),
    "efficientnet_lite0": ("integral", "integral"),
}


@pytest.mark.parametrize("arch", LOSSES)
def test_losses_of_parts_reduce_to_the_loss_of_all(arch):
    """As several processes reduce them: the sum of mean * count over the sum of the counts."""
    torch.manual_seed(0)
    head = build.build(arch, 4, (32, 32)).head
    truth = np.random.default_rng(0).random((6, 4, 2))
    truth[1, 2], truth[4, :3] = np.nan, np.nan
    output = torch.rand(6, 4, 3) if arch == "nose" else torch.randn(6, 4, 32, 32)
    criterion = build.criterion(*LOSSES[arch])
    whole = head.loss(output, truth, criterion)
    parts = [head.loss(output[s], truth[s], criterion) for s in (slice(0, 2), slice(2, 6))]
    count = sum(part.count for part in parts)
    assert count == whole.count
    assert sum(part.mean * part.count for part in parts) / count == pytest.approx(float(whole.mean))
