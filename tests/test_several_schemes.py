"""One network on records of several schemes: each face is learnt from, and answered, in its own."""

import numpy as np
import orjson
import pytest
import torch
from conftest import parse, scores
from PIL import Image, ImageDraw

import kptools as kp
from kptools.errors import UsageError
from kptools.inference.prediction import found_by
from kptools.models import checkpoint
from kptools.models.shape_prior import ShapePrior, ShapePriors
from kptools.records.face import Face
from kptools.schemes import catalog
from kptools.schemes.layouts import layout_of
from kptools.storage import scheme_files

SMALL = ("--arch", "nose", "--input-size", "32x32", "--threads", 1, "--device", "cpu")
# Points of a head from the side of the mouth on, in an order of their own
FIVE = {
    "name": "five5",
    "points": ["mouth_left", "nose", "eye_right", "mouth_right", "eye_left"],
    "pairs": [["mouth_left", "mouth_right"], ["eye_right", "eye_left"]],
    "interocular": ["eye_right", "eye_left"],
}
OF_IBUG = (54, 30, 36, 48, 45)  # the same points in ibug68
BOTH = "five5+ibug68"


@pytest.fixture(autouse=True)
def five(monkeypatch, tmp_path):
    """The file of the scheme; no test knows it but by that file, or by a checkpoint."""

    def forget():
        monkeypatch.setattr(catalog, "_own", {})
        catalog.get.cache_clear()
        catalog.count.cache_clear()

    monkeypatch.delenv("KPTOOLS_SCHEME", raising=False)
    forget()
    path = tmp_path / "five5.json"
    path.write_bytes(orjson.dumps(FIVE))
    yield path
    forget()


def in_five(record):
    """The same face in the other scheme."""
    keep = {key: [record[key][i] for i in OF_IBUG] for key in ("points", "visible")}
    return record | keep | {"scheme": "five5"}


@pytest.fixture
def mixed(few):
    """Drawn faces, half of them of either scheme, in train and in val."""
    return [in_five(r) if i % 8 >= 4 else r for i, r in enumerate(few)]


@pytest.fixture
def trained(quick, mixed, five, tmp_path):
    """Train on the mixed faces; the path of the checkpoint, and the records of val."""

    def train(*words, stdin=mixed, name="m", status=0):
        path = tmp_path / f"{name}.safetensors"
        options = ("--several-schemes", "--scheme", five, *SMALL, "--epochs", 1)
        done = quick("train", *options, "-o", path, *words, stdin=stdin)
        assert done.returncode == status, done.stderr
        return path, parse(done.stdout)

    return train


def bare(record):
    """As of a photo: without truth and scheme."""
    return {k: v for k, v in record.items() if k not in ("points", "visible", "scheme")}


# Schemes


def test_several_schemes_are_one_with_a_block_for_each(five):
    scheme_files.load(str(five))
    both = catalog.get("ibug68+five5")
    assert (both.count, both.block("five5"), both.block("wflw98")) == (73, slice(68, 73), None)
    assert both.swap[:68] == catalog.get("ibug68").swap
    assert both.swap[68:] == (71, 69, 72, 68, 70)
    assert both.regions["ibug68.mouth"] == catalog.get("ibug68").regions["mouth"]
    assert len(set(both.names)) == 73
    assert (both.corners, layout_of(both), both.base) == ((), (), both.name)
    assert catalog.get("imm58:3,7+nose1").count == 3


@pytest.mark.parametrize("name", ["ibug68+none9", "ibug68+ibug68", "+ibug68", "ibug68+"])
def test_what_is_no_scheme_or_comes_twice_is_none_of_several(name):
    with pytest.raises(ValueError, match="scheme"):
        catalog.get(name)
    assert catalog.count(name) is None
    assert catalog.union(name) is None


def test_a_subset_is_of_one_scheme():
    with pytest.raises(ValueError, match="several schemes"):
        catalog.get("ibug68+nose1").select([0])


def test_a_mirror_image_renames_within_the_block_even_beside_a_scheme_without_a_table(face):
    """One without left and right makes the whole have none; a face of another is mirrored."""
    union = catalog.get("nose1+ibug68")
    record = face(augment=[{"flip": 1}])
    found = Face.parse(record).annotated().among(union)
    assert np.isnan(found.points[0]).all()
    assert found.points[1:].tolist() == record["points"]
    assert found.swap == (0, *(1 + i for i in catalog.get("ibug68").swap))


# Training


def test_several_schemes_in_one_stream_are_an_error_that_names_the_option(quick, mixed, tmp_path):
    done = quick("train", *SMALL, "--epochs", 1, "-o", tmp_path / "m.safetensors", stdin=mixed)
    assert done.returncode == 1
    assert done.stderr.count(b"5 points of five5; the run has 68 of ibug68; --several-schemes") == 8


def _dots(folder, count):
    """Pictures of a disc with two eyes, and a record of each in one of two schemes."""
    rng = np.random.default_rng(0)
    for number in range(count):
        x, y, r = (float(v) for v in rng.uniform((16, 16, 8), (32, 32, 14)))
        picture = Image.new("L", (48, 48), 40)
        pen = ImageDraw.Draw(picture)
        pen.ellipse((x - r, y - r, x + r, y + r), 220)
        for side in (-0.4, 0.4):
            pen.ellipse((x + side * r - 2, y - 3, x + side * r + 2, y + 1), 0)
        picture.save(folder / f"{number}.png")
        eyes = [[x - 0.4 * r, y - 1], [x + 0.4 * r, y - 1]]
        mouth = [[x + 0.3 * r, y + 0.5 * r], [x - 0.3 * r, y + 0.5 * r]]
        if number % 2:
            kind = {"points": [mouth[0], [x, y], eyes[0], mouth[1], eyes[1]], "scheme": "five5"}
        else:
            around = [[x - r, y], [x, y - r], [x + r, y]]
            kind = {"points": around, "scheme": "ibug68:0,8,16"}
        yield {
            "image": str(folder / f"{number}.png"),
            "id": str(number),
            "size": [48, 48],
            "box": [-0.5, -0.5, 47.5, 47.5],
            "box_source": "image",
            "split": "val" if number % 4 > 1 else "train",
        } | kind


def test_both_schemes_are_learnt(trained, tmp_path):
    faces = list(_dots(tmp_path, 128))
    path, val = trained("--epochs", 16, "--lr", "3e-3", stdin=faces)
    assert {record["scheme"] for record in val} == {"five5", "ibug68:0,8,16"}
    (*_, last) = checkpoint.load(str(path)).history
    for scheme, logged in last["val_nme_of"].items():
        some = [record for record in val if record["scheme"] == scheme]
        report = scores(some, "--scheme", tmp_path / "five5.json")
        assert report["nme"] < 0.5 * report["mean"]["nme"], scheme
        history = checkpoint.load(str(path)).history
        assert report["nme"] in [pytest.approx(e["val_nme_of"][scheme]) for e in history], logged
    assert last["val_nme"] is None  # one figure never mixes norms


def test_the_bytes_are_the_same_for_any_number_of_workers_and_after_a_resume(trained):
    paths = [trained("--workers", n, "--epochs", 2, name=f"w{n}")[0] for n in (1, 3)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    again, val = trained("--epochs", 2, "--resume", name="w3")
    assert again.read_bytes() == paths[0].read_bytes()
    assert len(val) == 4


def test_the_order_of_the_records_does_not_decide_the_order_of_the_schemes(trained, mixed):
    path, _ = trained(stdin=mixed[::-1])
    assert checkpoint.load_model(str(path)).scheme == BOTH


def test_records_of_one_scheme_give_the_network_of_that_scheme(trained, few):
    path, val = trained(stdin=few)
    assert checkpoint.load_model(str(path)).scheme == "ibug68"
    assert len(val[0]["pred"]) == 68


def test_a_face_may_come_once_in_each_scheme(trained, few):
    twice = [one for r in few for one in (r, in_five(r))]
    _, val = trained(stdin=twice)
    assert [len(record["pred"]) for record in val] == [68, 5] * 4
    _, val = trained(stdin=[*few, few[0]], status=1)


def test_val_of_a_scheme_that_is_not_trained_on_fails(trained, few):
    faces = [in_five(r) if r["split"] == "val" else r for r in few]
    _, val = trained(stdin=faces, status=1)
    assert {r["error"] for r in val} == {"no face to train on is of five5"}


def test_a_scheme_that_is_not_known_fails_with_the_option_that_defines_it(quick, mixed, tmp_path):
    words = ("--several-schemes", *SMALL, "--epochs", 1, "-o", tmp_path / "m.safetensors")
    done = quick("train", *words, stdin=mixed)
    assert done.returncode == 1
    assert b"5 points of five5; --several-schemes needs its definition" in done.stderr


def test_an_adapter_has_one_scheme(quick, mixed):
    done = quick("train", "--arch", "adapter", "--several-schemes", stdin=mixed)
    assert done.returncode == 2
    assert b"--several-schemes: not for an adapter" in done.stderr


# Predicting


def test_each_face_gets_the_points_of_its_own_scheme(trained, quick, mixed):
    """And the checkpoint holds the definition of a scheme of one's own."""
    path, _ = trained()
    catalog._own.clear()
    catalog.get.cache_clear()
    done = quick("predict", path, stdin=mixed)
    assert done.returncode == 0, done.stderr
    for before, after in zip(mixed, parse(done.stdout), strict=True):
        assert after["scheme"] == before["scheme"]
        for key in ("pred", "score", "mean"):
            assert len(after[key]) == len(before["points"])


def test_a_face_without_a_scheme_gets_what_is_asked_for(trained, quick, few):
    path, _ = trained()
    photos = [bare(record) for record in few[:2]]

    def found(*words):
        done = quick("predict", path, *words, stdin=photos)
        assert done.returncode == 0, done.stderr
        return parse(done.stdout)

    first, other, both = found(), found("--find", "ibug68"), found("--find", BOTH)
    for a, b, c in zip(first, other, both, strict=True):
        assert [r["scheme"] for r in (a, b, c)] == ["five5", "ibug68", BOTH]
        for key in ("pred", "score", "mean"):
            assert c[key] == a[key] + b[key]
    done = quick("predict", path, "--find", "wflw98", stdin=photos)
    assert done.returncode == 2
    assert b"--find wflw98: the network finds points of five5, ibug68, " in done.stderr


def test_a_record_of_a_third_scheme_fails(trained, quick, few):
    path, _ = trained()
    other = bare(few[0]) | {"scheme": "cofw29"}
    done = quick("predict", path, stdin=[other, few[1]])
    assert done.returncode == 1
    failed, fine = parse(done.stdout)
    assert failed["error"] == f"its scheme is cofw29, the network's {BOTH}"
    assert "mean" not in failed  # of what points?
    assert len(fine["pred"]) == 68


def test_a_network_of_one_scheme_finds_no_other():
    assert found_by("ibug68") == found_by("ibug68", "ibug68") == "ibug68"
    with pytest.raises(UsageError, match=r"--find nose1: the network finds points of ibug68$"):
        found_by("ibug68", "nose1")


@pytest.fixture
def unet(trained, few):
    """A checkpoint of heatmaps with a shape prior, which looks twice and in a mirror."""
    faces = [one for r in few for one in (r, in_five(r))]
    copies = [r | {"id": f"{r['id']}-{n}", "split": "train"} for n in range(2) for r in faces]
    words = ("--arch", "unet", "--width", 2, "--head", "heatmap", "--shape-prior", 1)
    return trained(*words, "--align", 0.5, "--val-fraction", 0, stdin=copies, name="u")[0]


def test_each_scheme_has_a_shape_prior_of_its_own(unet, few):
    prior = checkpoint.load(str(unet)).network().shape_prior
    assert isinstance(prior, ShapePriors)
    assert [tuple(part.mean.shape) for part in prior.parts] == [(5, 2), (68, 2)]
    truth = np.array([r["points"] for r in few] * 2, dtype=float)
    alone = ShapePrior(68, 1.0)
    alone.fit(truth, catalog.get("ibug68").swap)
    assert torch.allclose(prior.parts[1].mean, alone.mean, atol=1e-5)
    unsure = np.tile(4.0 * np.eye(2), (73, 1, 1))
    points = np.concatenate([truth[0][list(OF_IBUG)], truth[0]])
    found = prior.most_probable(points, unsure)
    assert np.allclose(found[5:], prior.parts[1].most_probable(points[5:], unsure[5:]))
    assert not np.allclose(found[:5], points[:5])


def test_maps_passes_and_means_of_networks_are_of_the_own_scheme(unet, quick, mixed, tmp_path):
    done = quick("predict", unet, unet, "--flip", "--passes", 2, stdin=mixed)
    assert done.returncode == 0, done.stderr
    assert [len(r["pred"]) for r in parse(done.stdout)] == [len(r["points"]) for r in mixed]
    done = quick("predict", unet, "--heatmaps", tmp_path / "maps", stdin=mixed[3:5])
    shapes = [np.load(r["heatmap"]["file"]).shape for r in parse(done.stdout)]
    assert shapes == [(1, 68, 32, 32), (1, 5, 32, 32)]


def test_a_policy_with_a_flip_comes_back_under_the_own_names(trained, quick, mixed):
    """A mirror image of a mirror image: the same pixels, so the same points."""
    path, _ = trained()
    flip = {"flip": 1, "seed": 0}
    policies = [r | {"augment": [flip, flip]} for r in mixed]
    plain, twice = (parse(quick("predict", path, stdin=some).stdout) for some in (mixed, policies))
    for a, b in zip(plain, twice, strict=True):
        assert np.allclose(a["pred"], b["pred"], atol=0.05)
    once = parse(quick("predict", path, stdin=[r | {"augment": [flip]} for r in mixed]).stdout)
    assert [len(r["pred"]) for r in once] == [len(r["points"]) for r in mixed]
    assert all(r.get("status") is None for r in once)


def test_the_functions_of_python_do_the_same(trained, mixed, five):
    path, _ = trained()
    made = kp.train(
        mixed, arch="nose", input_size=(32, 32), epochs=1, threads=1, several_schemes=True
    )
    assert made.model == checkpoint.load_model(str(path))
    found = kp.predict(made, map(bare, mixed[:2]), find="ibug68")
    assert [len(record["pred"]) for record in found] == [68, 68]
    picture = np.asarray(Image.open(mixed[0]["image"]).convert("RGB"))
    assert kp.predict(made, picture, [mixed[0]["box"]]).shape == (1, 5, 2)
    assert kp.predict(made, picture, [mixed[0]["box"]], find=BOTH).shape == (1, 73, 2)


def test_a_checkpoint_of_several_names_its_schemes(trained, five):
    path, _ = trained()
    catalog._own.clear()
    catalog.get.cache_clear()
    assert scheme_files.load(str(path)).name == BOTH
    assert [scheme.name for scheme in catalog.own()] == ["five5"]
