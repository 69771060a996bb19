"""kp-eval --protocol, --by and --oks, against figures worked out here from nothing."""

import json
import math

import numpy as np
import pytest
from conftest import nose, parse

import kptools as kp
from kptools.errors import UsageError
from kptools.evaluation import groups
from kptools.evaluation.oks import Sigmas
from kptools.evaluation.protocols import PROTOCOLS

COUNTS = {"ibug68": 68, "wflw98": 98, "cofw29": 29, "kaggle15": 15}


def faces(scheme, number, seed=0, noise=3.0, **keys):
    """Faces with random points, some of them not annotated, and predictions near them."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(number):
        truth = random.uniform(10, 90, (COUNTS[scheme], 2))
        pred = truth + random.normal(0, noise * (1 + i % 4), truth.shape)
        points = truth.tolist()
        if i % 3 == 0:
            points[1] = None  # no point of an eye in any of the schemes but kaggle15
        found.append(
            nose(i, 0, 0, points=points, pred=pred.tolist(), scheme=scheme)
            | {"id": f"face_{i}", "size": [96, 96], "split": "test"}
            | keys
        )
    return found


def pick(record, *wanted):
    """The mean of some of the points."""
    return np.mean([record["points"][i] for i in wanted], axis=0)


def nmes(records, right, left):
    """From the definition: mean distance over the distance of two eyes' points."""
    found = []
    for record in records:
        norm = math.dist(pick(record, *right), pick(record, *left))
        pairs = zip(record["points"], record["pred"], strict=True)
        found.append(np.mean([math.dist(p, q) / norm for p, q in pairs if p is not None]))
    return np.array(found)


def area_below(errors, threshold):
    """The integral of the step function that counts errors, over the threshold."""
    steps = sorted(e for e in errors if e < threshold)
    ends = [*steps, threshold]
    area = sum((i + 1) * (ends[i + 1] - ends[i]) for i in range(len(steps)))
    return area / len(errors) / threshold


def run_protocol(quick, name, records, *options, status=0):
    done = quick("eval", "--protocol", name, *options, stdin=records)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)["protocol"], done.stderr.decode()


def values(found, name):
    """The figures of a set, by metric."""
    return {figure["metric"]: figure["value"] for figure in found["sets"][name]["figures"]}


EYES = {
    "300w": ([36], [45], 0.08),
    "300w-pupil": (range(36, 42), range(42, 48), 0.08),
    "wflw": ([60], [72], 0.10),
    "cofw": ([16], [17], 0.10),
    "cofw-ocular": ([8], [9], 0.10),
}


@pytest.mark.parametrize("name", EYES)
def test_a_protocol_is_what_its_papers_define(quick, name):
    right, left, threshold = EYES[name]
    records = faces(PROTOCOLS[name].scheme, 40, noise=1.0)
    if name.startswith("300w"):
        records = [r | {"id": f"ibug/image_{i}"} for i, r in enumerate(records)]
    found, _ = run_protocol(quick, name, records)
    errors = nmes(records, right, left)
    expected = {"nme": errors.mean(), "failure_rate": (errors > threshold).mean()}
    if name in ("300w", "300w-pupil", "wflw"):
        expected["auc"] = area_below(errors, threshold)
    assert 0 < expected["failure_rate"] < 1
    first = next(iter(found["sets"]))
    assert values(found, first) == pytest.approx(expected, abs=1e-6)
    for figure in found["sets"][first]["figures"]:
        assert figure["norm"] == ("interpupil" if name in ("300w-pupil", "cofw") else "interocular")
        assert figure["threshold"] == (None if figure["metric"] == "nme" else threshold)


def test_kaggles_protocols_are_of_pixels(quick):
    records = faces("ibug68", 9, scale=2.5)
    apart = np.concatenate(
        [
            np.subtract(p, q)
            for r in records
            for p, q in zip(r["points"], r["pred"], strict=True)
            if p is not None
        ]
    )
    found, _ = run_protocol(quick, "cs194-kaggle", records)
    assert values(found, "test") == {"mae_original": pytest.approx(2.5 * np.abs(apart).mean())}
    assert found["sets"]["test"]["figures"][0]["norm"] is None
    # photos that were not shrunk have no `scale`
    found, _ = run_protocol(quick, "cs194-kaggle", faces("ibug68", 9))
    assert values(found, "test") == {"mae_original": pytest.approx(np.abs(apart).mean())}

    records = faces("kaggle15", 9, split="train")
    records[4]["points"][7:] = [None] * 8  # as most faces of training.csv
    squares = [
        (a - b) ** 2
        for r in records
        for p, q in zip(r["points"], r["pred"], strict=True)
        if p is not None
        for a, b in zip(p, q, strict=True)
    ]
    found, told = run_protocol(quick, "kaggle-fkp", records)
    assert values(found, "all") == {"rmse": pytest.approx(math.sqrt(np.mean(squares)), abs=1e-6)}
    assert told == ""  # there is no number of faces that papers have
    done = quick("eval", "--protocol", "kaggle-fkp", stdin=[records[0] | {"size": [192, 192]}])
    assert done.returncode == 3
    assert b"of pictures of 96x96" in done.stderr


# Failure rates in % that Valle et al. (ECCV 2018) published of their network, cut off after three
# digits: https://github.com/pcr-upm/bobetocalo_eccv18/issues/3
PUBLISHED = {
    ("300w-pupil", "full"): 6.095,
    ("300w-pupil", "challenge"): 25.925,
    ("cofw", "test"): 6.508,
    ("wflw", "test"): 5.040,
    ("wflw", "pose"): 22.392,
    ("wflw", "expression"): 5.414,
    ("wflw", "illumination"): 3.868,
    ("wflw", "makeup"): 6.796,
    ("wflw", "occlusion"): 9.375,
    ("wflw", "blur"): 6.727,
}


@pytest.mark.parametrize(("name", "part"), PUBLISHED)
def test_a_published_failure_rate_is_a_whole_number_of_the_faces_of_its_set(name, part):
    faces = PROTOCOLS[name].sets[part]
    failed = round(PUBLISHED[name, part] / 100 * faces)
    assert math.floor(failed * 100_000 / faces) / 1000 == PUBLISHED[name, part]


def test_the_sets_of_300w_are_known_by_folder_and_the_rest_is_outside(quick):
    names = {
        "lfpw/testset/image_0001": "common",
        "helen/testset/1#2": "common",
        "ibug/image_003_1": "challenge",
        "ibug/image_003_1_mirror": None,
        "lfpw/trainset/image_0001": None,
        "afw/1_1": None,
        "ibug/helen/trainset/1_1": None,
        "indoor_001": None,
    }
    records = faces("ibug68", len(names) + 2)
    for record, name in zip(records, names, strict=False):
        record["id"] = name
    records[-2] |= {"id": "x", "image": "/data/300w/helen/testset/9_1.jpg"}
    records[-1] |= {"id": "y", "subset": "challenge"}
    found, told = run_protocol(quick, "300w", records)
    assert found["outside"] == 5
    assert {name: s["faces"] for name, s in found["sets"].items()} == {
        "full": 5,
        "common": 3,
        "challenge": 2,
    }
    assert "5 faces are in none of its sets, and not scored" in told
    assert "papers have full 689, common 554, challenge 135 faces" in told
    common = [records[0], records[1], records[-2]]
    assert values(found, "common")["nme"] == pytest.approx(nmes(common, [36], [45]).mean())
    everything = json.loads(quick("eval", "--protocol", "300w", stdin=records).stdout)
    assert everything["faces"] == 5
    assert everything["nme"] == values(found, "full")["nme"]


def test_wflw_has_a_set_for_each_attribute(quick):
    records = faces("wflw98", 12)
    for i, record in enumerate(records):
        record |= {"pose": i % 2, "blur": int(i == 3)}
    found, _ = run_protocol(quick, "wflw", [*records, records[0] | {"split": "train"}])
    counts = {name: s["faces"] for name, s in found["sets"].items() if s["faces"]}
    assert (counts, found["outside"]) == ({"test": 12, "pose": 6, "blur": 1}, 1)
    assert values(found, "pose")["nme"] == pytest.approx(nmes(records[1::2], [60], [72]).mean())
    assert values(found, "blur")["nme"] == pytest.approx(nmes([records[3]], [60], [72]).mean())
    assert values(found, "makeup")["nme"] is None


def test_a_failed_face_of_a_set_is_a_failure_there(quick):
    records = faces("cofw29", 3, noise=0.01)
    records[1] |= {"status": "no_face", "error": "none"}
    found, _ = run_protocol(quick, "cofw", records, status=1)
    assert found["sets"]["test"]["failed"] == 1
    assert values(found, "test")["failure_rate"] == pytest.approx(1 / 3)


def test_a_protocol_of_another_dataset_is_an_error_and_never_a_figure(quick):
    for name, scheme in (("wflw", "ibug68"), ("300w", "wflw98"), ("cofw", "kaggle15")):
        done = quick("eval", "--protocol", name, stdin=faces(scheme, 2))
        assert (done.returncode, done.stdout) == (3, b""), name
        text = f"stdin:1: the protocol {name} is of {PROTOCOLS[name].scheme}, and this face is of"
        assert text.encode() in done.stderr
    done = quick("eval", "--protocol", "wflw", stdin=faces("wflw98", 2, split="train"))
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"none of the 2 faces is in a set of the protocol wflw" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("--norm", "box"),
        ("--threshold", 0.1),
        ("--points", "nose"),
        ("--min-score", 0.5),
        ("--submission", "x.csv"),
    ],
)
def test_a_protocol_leaves_no_choice_of_norm_threshold_or_points(quick, words):
    done = quick("eval", "--protocol", "300w", *words, stdin=faces("ibug68", 1))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_records_of_a_protocol_have_its_error_and_those_outside_none(quick):
    records = faces("cofw29", 2)
    records[1] |= {"split": "train", "nme": 0.5}
    done = quick("eval", "--protocol", "cofw", "--records", stdin=records)
    scored, outside = parse(done.stdout)
    assert scored["nme"] == pytest.approx(nmes(records[:1], [16], [17])[0])
    assert outside == {k: v for k, v in records[1].items() if k != "nme"}


def test_a_gate_holds_the_figures_of_a_protocol(quick):
    records = faces("cofw29", 5)
    for gate, status in (("nme>0.001", 4), ("nme>9", 0)):
        done = quick("eval", "--protocol", "cofw", "--fail-if", gate, stdin=records)
        assert done.returncode == status


# --by


def test_a_key_divides_faces_and_those_without_it_are_a_group(quick):
    records = [
        nose(0, 3, 4, pose=1, source={"camera": "a"}),
        nose(1, 6, 8, pose=0, source={"camera": "b"}),
        nose(2, 0, 0, pose=1, source=3),
        nose(3, 30, 40),
        {"id": "x", "status": "missing", "error": "gone", "pose": 1},
    ]
    done = quick("eval", "--by", "pose,split", "--by", "source.camera", stdin=records)
    r = json.loads(done.stdout)
    assert list(r["by"]) == ["pose", "split", "source.camera"]
    counts = {k: (v["faces"], v["failed"]) for k, v in r["by"]["pose"].items()}
    assert counts == {"1": (3, 1), "0": (1, 0), "none": (1, 0)}
    assert r["by"]["pose"]["1"]["nme"] == pytest.approx((5 + 0) / 60 / 2)
    assert r["by"]["split"] == r["splits"]
    assert set(r["by"]["source.camera"]) == {"a", "b", "none"}
    done = quick("eval", "--by", "pose", "--format", "table", stdin=records[:2])
    assert b"By pose" in done.stdout


def test_a_key_of_lists_or_of_too_many_values_is_an_error(quick, monkeypatch):
    monkeypatch.setattr(groups, "MAX_GROUPS", 3)
    records = [nose(i, 1, 1) for i in range(4)]
    for key, words in (("box", b"f0 has a list"), ("id", b"more than 3 values of id")):
        done = quick("eval", "--by", key, stdin=records)
        assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
        assert words in done.stderr
    assert quick("eval", "--by", "split,", stdin=records).returncode == 2
    assert quick("eval", "--by", "split", "--records", stdin=records).returncode == 2


# --oks


def coco_eval(records, sigmas, tmp_path):
    """The OKS of each face and the AP, by pycocotools, where each face is a picture."""
    coco = pytest.importorskip("pycocotools.coco", reason="needs the extra test")
    from pycocotools.cocoeval import COCOeval

    images, annotations, results = [], [], []
    for i, r in enumerate(records, start=1):
        x0, y0, x1, y1 = r["box"]
        images.append({"id": i})
        truth = [[0, 0, 0] if p is None else [*p, 2] for p in r["points"]]
        annotations.append(
            {
                "id": i,
                "image_id": i,
                "category_id": 1,
                "keypoints": [v for p in truth for v in p],
                "num_keypoints": sum(p is not None for p in r["points"]),
                "bbox": [x0, y0, x1 - x0, y1 - y0],
                "area": (x1 - x0) * (y1 - y0),
                "iscrowd": 0,
            }
        )
        if "status" not in r:
            keypoints = [v for p in r["pred"] for v in (*p, 1)]
            result = {"image_id": i, "category_id": 1, "keypoints": keypoints}
            results.append(result | {"score": float(np.mean(r["score"]))})
    file = tmp_path / "truth.json"
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1}]}
    file.write_text(json.dumps(data))
    truth = coco.COCO(str(file))
    judge = COCOeval(truth, truth.loadRes(results), "keypoints")
    judge.params.kpt_oks_sigmas = np.array(sigmas)
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    found = [float(v[0, 0]) for v in judge.ious.values() if len(v)]
    return np.mean(found), judge.stats[:3]


# Of `sigmas` in MMPose's coco_wholebody_face.py, in thousandths: the sum, each times its place from
# 1, shows a number that is another one, or elsewhere
SUM_BY_PLACE = 27345


def test_oks_and_its_ap_are_those_of_pycocotools(quick, tmp_path, capsys):
    random = np.random.default_rng(1)
    records = faces("ibug68", 40, noise=0.9, box=[0, 0, 80, 90])
    for i, record in enumerate(records):
        record["score"] = random.uniform(0, 1, 68).tolist()
        if i % 9 == 5:
            record |= {"status": "no_face", "error": "none"}
    sigmas = np.linspace(0.02, 0.05, 68)
    file = tmp_path / "sigmas.txt"
    file.write_text(json.dumps(sigmas.tolist()))
    for given, used in ((file, sigmas), (0.03, [0.03] * 68)):
        mean, aps = coco_eval(records, used, tmp_path)
        capsys.readouterr()
        assert 0.2 < aps[0] < 0.9
        done = quick("eval", "--oks", given, stdin=records)
        found = json.loads(done.stdout)["oks"]
        assert found["mean"] == pytest.approx(mean, abs=1e-6)
        assert [found[k] for k in ("ap", "ap50", "ap75")] == pytest.approx(list(aps), abs=1e-6)
        assert (found["failed"], found["area"], found["sigmas"]) == (4, "box", "given")
    done = quick("eval", "--oks", 0.03, "--format", "table", stdin=records)
    assert b"OKS of 40 faces" in done.stdout
    without = [{k: v for k, v in r.items() if k != "score"} for r in records]
    found = json.loads(quick("eval", "--oks", 0.03, stdin=without).stdout)["oks"]
    assert (found["ap"], found["mean"]) == (None, pytest.approx(mean, abs=1e-6))


def test_cocos_sigmas_are_of_the_68_points_and_their_parts(quick, tmp_path):
    coco = Sigmas("coco").of("ibug68", 68)
    assert (1000 * coco * np.arange(1, 69)).sum() == pytest.approx(SUM_BY_PLACE)
    assert coco[[0, 16, 17, 27, 35, 36, 47, 48, 60, 67]].tolist() == pytest.approx(
        [0.042, 0.045, 0.013, 0.009, 0.010, 0.017, 0.034, 0.008, 0.007, 0.008]
    )
    assert Sigmas("coco").of("ibug68:36,0", 2).tolist() == [coco[36], coco[0]]
    record = faces("ibug68", 1)[0]
    (x, y), (px, py) = record["points"][30], record["pred"][30]
    oks = math.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 0.007) ** 2 / (40 * 90) / 2)
    done = quick("eval", "--oks", "coco", "--points", "nose", stdin=[record])
    assert json.loads(done.stdout)["oks"]["mean"] == pytest.approx(oks, rel=1e-6)
    done = quick("eval", "--oks", "coco", stdin=faces("wflw98", 1))
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"COCO-WholeBody has sigmas for ibug68, not for wflw98" in done.stderr
    done = quick("eval", "--oks", "0.1,0.2", stdin=faces("wflw98", 1))
    assert done.returncode == 3
    file = tmp_path / "sigmas.txt"
    file.write_bytes(b"\xff 0.1")
    for path in (file, tmp_path):
        assert quick("eval", "--oks", path, stdin=faces("wflw98", 1)).returncode == 3, path
    for wrong in ("cocoa", "0", "-1", "0.1,x", "nan", "inf", ""):
        assert quick("eval", "--oks", wrong, stdin=faces("wflw98", 1)).returncode == 2, wrong


def test_the_function_is_the_command(quick):
    records = faces("cofw29", 12)
    old = [r | {"pred": faces("cofw29", 12, seed=1)[i]["pred"]} for i, r in enumerate(records)]
    found = kp.evaluate(records, protocol="cofw", by=["split"], oks="0.1", compare=old)
    done = quick("eval", "--protocol", "cofw", "--by", "split", "--oks", 0.1, stdin=records)
    assert {k: v for k, v in found.items() if k != "compare"} == json.loads(done.stdout)
    (comparison,) = found["compare"]
    assert comparison["nme"]["worse"] is False
    assert comparison["nme"]["high"] < 0
    for wrong in ({"protocol": "x"}, {"protocol": "cofw", "norm": "box"}, {"oks": "x"}):
        with pytest.raises(UsageError):
            kp.evaluate(records, **wrong)


def test_oks_of_a_subset_that_is_none_is_an_error(quick, face):
    record = face(0) | {"scheme": "ibug68:foo", "pred": face(0)["points"]}
    done = quick("eval", "--oks", "coco", stdin=[record])
    assert done.returncode == 3, done.stderr
    assert b"this is a bug" not in done.stderr
