"""Figures that could be wrong without a word: each of these once was."""

import json
import os

import numpy as np
import orjson
import pytest
import torch
from conftest import lines, parse, run, untrained
from PIL import Image

from kptools import specs
from kptools.datasets.synthetic.faces import synthesize
from kptools.inference.predictor import Predictor
from kptools.models import build, checkpoint
from kptools.models.backbones import torchvision
from kptools.models.codecs import heatmap
from kptools.pixels.batch import normalise
from kptools.pixels.cache import decoding_threads
from kptools.schemes import catalog
from kptools.storage import files, images
from kptools.storage.tensors import write_tensors
from kptools.training import loop, validate


def report(records, *options, status=0):
    done = run("eval", *options, stdin=records)
    assert done.returncode == status, done.stderr
    return json.loads(done.stdout)


def noise(path, size=(80, 60)):
    """A picture in which each place looks different."""
    rng = np.random.default_rng(0)
    small = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
    small.resize(size, Image.Resampling.BICUBIC).save(path)
    return path


# Copies that are merged


def written(face, folder, *policy, count=4, **keys):
    """The records of `count` copies of a face, each written as a picture of its own."""
    record = face(0, **keys)
    noise(record["image"])
    done = run("augment", "--copies", count, *policy, "--write", folder, stdin=[record])
    assert done.returncode == 0, done.stderr
    return record, parse(done.stdout)


POLICY = ("--rotate", 30, "--shift", 0.1, "--scale", 0.2, "--flip", 0.5)


def test_written_copies_are_merged_where_they_came_from(face, tmp_path):
    record, copies = written(face, tmp_path / "w", *POLICY, visible=[1] * 67 + [0])
    assert any(np.linalg.det(np.array(c["source"]["matrix"])[:, :2]) < 0 for c in copies)
    # perfect predictions, each in the pixels of its own picture
    copies = [c | {"pred": c["points"], "score": c["visible"]} for c in copies]
    merged = report(copies, "--merge", "mean")
    assert (merged["faces"], merged["failed"]) == (1, 0)
    assert merged["nme"] == pytest.approx(0, abs=1e-9)
    (one,) = parse(run("eval", "--merge", "mean", "--records", stdin=copies).stdout)
    assert one["image"] == record["image"]
    assert np.allclose(one["points"], record["points"])
    assert np.allclose(one["pred"], record["points"])
    assert one["visible"] == record["visible"]
    assert np.allclose(one["score"], record["visible"])
    assert "source" not in one
    assert "copy" not in one


def test_an_error_in_one_copy_has_its_share_in_the_merged_face(face, tmp_path):
    _, copies = written(face, tmp_path / "w", *POLICY)
    matrix = np.array(copies[2]["source"]["matrix"])
    moved = np.array(copies[2]["points"]) + matrix[:, :2] @ (4.0, 0.0)  # 4 pixels of the source
    copies = [c | {"pred": c["points"]} for c in copies]
    copies[2]["pred"] = moved.tolist()
    assert report(copies, "--merge", "mean")["mae"] == pytest.approx(1.0 / 2)
    assert report(copies, "--merge", "median")["mae"] == pytest.approx(0, abs=1e-9)


def test_a_copy_of_a_written_copy_knows_the_first_picture(face, tmp_path):
    record, copies = written(face, tmp_path / "w", "--rotate", 20, "--flip", 1, count=2)
    again = run("augment", "--rotate", 20, "--write", tmp_path / "x", stdin=copies)
    twice = parse(again.stdout)
    assert all(c["source"]["image"] == record["image"] for c in twice)
    for copy in twice:
        m = np.array(copy["source"]["matrix"])
        shown = np.array(record["points"])[list(catalog.get("ibug68").swap)] @ m[:, :2].T + m[:, 2]
        assert np.allclose(shown, copy["points"])
    twice = [c | {"pred": c["points"]} for c in twice]
    assert report(twice, "--merge", "mean")["nme"] == pytest.approx(0, abs=1e-9)


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


def test_the_scale_of_a_written_copy_is_that_of_its_pixels(face, tmp_path):
    record = face(0, scale=2.0) | {"pred": [[x + 1, y + 1] for x, y in face(0)["points"]]}
    done = run("augment", "--copies", 3, "--scale", 1, "--write", tmp_path / "w", stdin=[record])
    copies = parse(done.stdout)
    assert report(copies)["mae"] != pytest.approx(1.0)
    assert report(copies)["mae_original"] == pytest.approx(2.0)
    merged = report(copies, "--merge", "mean")
    assert (merged["mae"], merged["mae_original"]) == (pytest.approx(1.0), pytest.approx(2.0))


def test_a_face_without_a_norm_and_with_a_long_integer_is_not_lost(face):
    record = face(0) | {"pred": face(0)["points"], "n": BIG}
    record["points"] = [None if i == 36 else p for i, p in enumerate(record["points"])]
    text = json.dumps(record).encode() + b"\n"
    done = run("eval", "--records", stdin=text)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == record | {"nme": None}


def test_copies_of_different_pictures_are_not_averaged(face):
    copies = [face(n) | {"id": "one", "copy": n} for n in range(3)]
    copies = [c | {"pred": c["points"]} for c in copies]
    done = run("eval", "--merge", "mean", stdin=copies)
    assert done.returncode == 1
    assert b"different images" in done.stderr
    assert json.loads(done.stdout)["failed"] == 1


def test_copies_with_other_truths_or_out_of_turn_are_not_averaged(face):
    a, b = face(0, copy=0), face(0, copy=1)
    b["points"] = [[x + 3, y] for x, y in b["points"]]
    both = [c | {"pred": c["points"]} for c in (a, b)]
    done = run("eval", "--merge", "mean", stdin=both)
    assert (done.returncode, json.loads(done.stdout)["failed"]) == (1, 1)
    assert b"different points" in done.stderr
    other = face(1) | {"pred": face(1)["points"]}
    apart = [both[0], other, both[0] | {"copy": 1}]
    done = run("eval", "--merge", "mean", stdin=apart)
    assert done.returncode == 1
    assert b"stdin:3" in done.stderr
    assert b"consecutive" in done.stderr


@pytest.mark.parametrize(
    "source", [{}, {"image": "a.png"}, {"image": "a.png", "matrix": [[0, 0, 0], [0, 0, 0]]}]
)
def test_a_source_that_is_none_is_reported(face, source):
    copies = [face(0, copy=c, source=source) | {"pred": face(0)["points"]} for c in range(2)]
    done = run("eval", "--merge", "mean", stdin=copies)
    assert done.returncode == 1
    assert b"Traceback" not in done.stderr
    assert json.loads(done.stdout)["failed"] == 1


def test_copies_without_an_id_are_merged_by_their_picture(face):
    copies = [{k: v for k, v in face(0, copy=c).items() if k != "id"} for c in range(3)]
    copies = [c | {"pred": [[x + 3 * i, y] for x, y in c["points"]]} for i, c in enumerate(copies)]
    merged = report(copies, "--merge", "mean")
    assert (merged["faces"], merged["mae"]) == (1, pytest.approx(1.5))


def test_the_score_of_a_merged_face_is_that_of_all_copies(face):
    copies = [face(0, copy=c) | {"score": [c / 2] * 68, "nme": 9, "heatmap": {}} for c in range(3)]
    copies = [c | {"pred": c["points"]} for c in copies]
    (one,) = parse(run("eval", "--merge", "mean", "--records", stdin=copies).stdout)
    assert one["score"] == [0.5] * 68
    assert one["nme"] == 0
    assert "heatmap" not in one
    del copies[1]["score"]
    (one,) = parse(run("eval", "--merge", "mean", "--records", stdin=copies).stdout)
    assert "score" not in one


def test_networks_predictions_without_ids_are_merged_by_picture_and_several_faces_refused(face):
    first = [{k: v for k, v in face(i).items() if k != "id"} for i in range(2)]
    pairs = [r | {"pred": [[x + d, y] for x, y in r["points"]]} for r in first for d in (3, -3)]
    merged = report(pairs, "--merge", "mean")
    assert (merged["faces"], merged["mae"]) == (2, pytest.approx(0, abs=1e-9))
    two = [first[0] | {"pred": first[0]["points"], "box": [i, 0, 50 + i, 50]} for i in range(2)]
    done = run("eval", "--merge", "mean", stdin=two)
    assert done.returncode == 1
    assert b"give each face an id of its own" in done.stderr


@pytest.mark.parametrize("tool", ["write", "encode", "maps"])
def test_two_faces_never_share_a_file(face, tmp_path, tool):
    """Without ids, two faces of one picture have one name; the second one fails."""
    records = [{k: v for k, v in face(0).items() if k != "id"} for _ in range(2)]
    records[1]["box"] = [5.5, 5.5, 40.5, 45.5]
    words = {
        "write": ["augment", "--rotate", 5, "--write", tmp_path / "w"],
        "encode": ["heatmap", "encode", "--size", "16x16", "--out", tmp_path / "w"],
        "maps": ["predict", tmp_path / "u.safetensors", "--heatmaps", tmp_path / "w"],
    }[tool]
    if tool == "maps":
        network, model = tiny_unet(tmp_path)
        checkpoint.save(
            tmp_path / "u.safetensors", checkpoint.Checkpoint(model, network.state_dict())
        )
    done = run(*words, stdin=records)
    assert done.returncode == 1, done.stderr
    assert b"stdin:2" in done.stderr
    assert b"give each face an id of its own" in done.stderr
    assert [r.get("status") for r in parse(done.stdout)] == [None, "bad_record"]
    assert len(os.listdir(tmp_path / "w")) == 1


# What is not finite


def train(folder, stdin, *options, arch="nose", size="48x48", env=None):
    words = ("--arch", arch, "--input-size", size, "--threads", 1, *options)
    return run("train", *words, stdin=stdin, cwd=folder, env=env)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """Sixteen drawn faces, four of them val."""
    folder = tmp_path_factory.mktemp("few")
    made = parse(run("prep", "synth", "--count", 16, "--out", folder / "f").stdout)
    return [r | {"split": "val" if i % 4 == 3 else "train"} for i, r in enumerate(made)]


def test_a_validation_that_is_not_finite_is_one_line_and_exit_3(few, tmp_path):
    done = train(tmp_path, lines(few[:8]), "--lr", 990, "--epochs", 60)
    assert done.returncode == 3, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"; try --lr" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "nose.safetensors").exists()


def test_predictions_that_are_not_finite_do_not_vanish_from_a_mean(few, tmp_path, monkeypatch):
    from kptools.errors import KptoolsError

    decode = validate.decode

    def broken(output, model, *rest):
        found = decode(output, model, *rest)
        found.unit[0, 5] = np.nan
        return found

    monkeypatch.setattr(validate, "decode", broken)
    with pytest.raises(KptoolsError, match=r"a prediction is not finite in epoch 1, at .*; try"):
        _train_here(few, tmp_path)


def _train_here(records, folder):
    """Train in this process."""
    from kptools.records.stream import Stream
    from kptools.training.gather import Intake
    from kptools.training.settings import Settings

    torch.set_num_threads(1)
    (folder / "in.jsonl").write_bytes(lines(records))
    settings = Settings(
        arch="nose", input=(32, 32), grey=True, batch=4, loss="mse", schedule=((1e-3, 1),), margin=0
    )
    intake = Intake(Stream([str(folder / "in.jsonl")], "-"), settings, 1 << 30)
    intake.read(None, None)
    with decoding_threads(1) as pool:
        faces, val = intake.faces(pool)
        return loop.train(
            *(faces, val, "ibug68", settings),
            device=torch.device("cpu"),
            state_path=folder / "state.safetensors",
        )


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    from kptools.errors import KptoolsError

    loaded = checkpoint.load(str(untrained(tmp_path / "m.safetensors")))
    next(iter(loaded.weights.values()))[0] = float("inf")
    with pytest.raises(KptoolsError, match="not finite"):
        checkpoint.save(tmp_path / "n.safetensors", loaded)
    assert not (tmp_path / "n.safetensors").exists()


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


def tiny_unet(folder):
    """A U-Net of 68 points, and what a checkpoint says of it."""
    torch.manual_seed(0)
    network = build.build("unet", 68, (32, 32), width=2, stride=2)
    model = checkpoint.load(str(untrained(folder / "m.safetensors"))).model
    changes = {"arch": "unet", "heatmap": True, "grey": False, "width": 2, "stride": 2}
    return network, type(model)(**{**model.__dict__, **changes, "input": (32, 32)})


def test_a_face_whose_maps_are_nan_fails(few, tmp_path):
    network, model = tiny_unet(tmp_path)
    network.head.bias.data[3] = float("nan")
    predictor = Predictor(
        network, model, device=torch.device("cpu"), precision="fp32", batch=2, workers=1
    )
    from kptools.records.stream import Stream

    (tmp_path / "in.jsonl").write_bytes(lines(few[:3]))
    stream = Stream([str(tmp_path / "in.jsonl")], str(tmp_path / "out.jsonl"))
    for item in predictor.run(stream, stream.fail, stream.ready):
        stream.write(item)
    assert stream.close() == 1
    out = parse((tmp_path / "out.jsonl").read_bytes())
    assert [r["status"] for r in out] == ["bad_points"] * 3
    assert all("score" not in r and "pred" not in r for r in out)


# One scorer


def test_the_log_has_kp_evals_figures_where_points_are_missing(few, tmp_path):
    records = [dict(r, points=list(r["points"])) for r in few]
    for number, record in enumerate(r for r in records if r["split"] == "val"):
        if number % 2:
            record["points"][4:] = [None] * 64  # the jaw's side alone, where errors are large
    done = train(tmp_path, lines(records), "--epochs", 2, "--keep", "last")
    assert done.returncode == 0, done.stderr
    log = parse((tmp_path / "nose.log.jsonl").read_bytes())[-1]
    figures = report(parse(done.stdout))
    assert log["val_mae"] == pytest.approx(figures["mae"], rel=1e-9)
    assert log["val_nme"] == pytest.approx(figures["nme"], rel=1e-9)
    page = run("viz", "report", "-o", "r.html", stdin=done.stdout, cwd=tmp_path)
    assert page.returncode == 0, page.stderr
    text = (tmp_path / "r.html").read_text()
    assert f"<td>{100 * figures['nme']:.2f}</td>" in text
    assert f"<td>{figures['mae']:.2f}</td>" in text


# EXIF


def _stored(folder, orientation):
    """A drawn face whose file is stored turned, so that it is seen upright; annotated by dlib's
    XML and a .pts in the pixels as they are stored. Its points and box as shown."""
    face = synthesize(3, 0)
    # as files are turned to be seen, the other way round
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Image.Transpose
    stored = face.image.transpose(Image.Transpose(turn[orientation]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    folder.mkdir(exist_ok=True)
    stored.save(folder / "a.jpg", quality=95, exif=exif)
    w, h = face.image.size
    to_stored = {
        2: lambda x, y: (w - 1 - x, y),
        3: lambda x, y: (w - 1 - x, h - 1 - y),
        4: lambda x, y: (x, h - 1 - y),
        5: lambda x, y: (y, x),
        6: lambda x, y: (y, w - 1 - x),
        7: lambda x, y: (h - 1 - y, w - 1 - x),
        8: lambda x, y: (h - 1 - y, x),
    }[orientation]
    named = face.points
    if orientation in (2, 4, 5, 7):  # a mirror image: what is seen at its left is called right
        named = named[list(catalog.get("ibug68").swap)]
    points = [to_stored(*p) for p in named.tolist()]
    x0, y0, x1, y1 = (round(v) for v in face.box)
    corners = [to_stored(x0, y0), to_stored(x1, y1)]
    left, top = (min(c[i] for c in corners) for i in (0, 1))
    right, bottom = (max(c[i] for c in corners) for i in (0, 1))
    parts = "".join(
        f"<part name='{i:02d}' x='{round(x)}' y='{round(y)}'/>" for i, (x, y) in enumerate(points)
    )
    box = f"<box top='{top}' left='{left}' width='{right - left + 1}' height='{bottom - top + 1}'>"
    text = f"<dataset><images><image file='a.jpg'>{box}{parts}</box></image></images></dataset>"
    (folder / "faces.xml").write_text(text)
    rows = "\n".join(f"{x + 1} {y + 1}" for x, y in points)
    (folder / "a.pts").write_text(f"version: 1\nn_points:  68\n{{\n{rows}\n}}")
    return face, (x0 - 0.5, y0 - 0.5, x1 + 0.5, y1 + 0.5)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_annotations_of_a_turned_photo_are_turned_with_it(tmp_path, orientation):
    face, box = _stored(tmp_path / "d", orientation)
    exact = ("--annotations", "pts")
    for options in (("--xml", "faces.xml"), (*exact, "--xml", "faces.xml"), exact):
        done = run("prep", "ibug", tmp_path / "d", *options)
        assert done.returncode == 0, done.stderr
        (record,) = parse(done.stdout)
        assert record["size"] == list(face.image.size)
        worst = np.abs(np.array(record["points"]) - face.points).max()
        assert worst <= (1e-6 if exact[0] in options else 0.501), options
        if options != exact:
            assert record["box"] == pytest.approx(box)
        assert record["orientation"] == orientation
        assert b"1 faces are on pictures with an EXIF orientation" in done.stderr
    shown, _ = images.read(str(tmp_path / "d" / "a.jpg"))
    assert np.abs(np.asarray(shown, float) - np.asarray(face.image, float)).mean() < 3


# Keys of an earlier prediction


def test_a_new_prediction_leaves_nothing_of_the_old_one(face, tmp_path):
    model = untrained(tmp_path / "m.safetensors")
    old = {"pred": face(0)["points"], "score": [0.5] * 68, "nme": 0.1, "pred_visible": [1] * 68}
    record = face(0) | old | {"heatmap": {"file": "x.npy", "index": 0, "matrix": [[1, 0, 0]] * 2}}
    gone = record | {"id": "gone", "image": "gone.png", "mean": [[1.0, 1.0]] * 68}
    done = run("predict", model, stdin=[record, gone])
    assert done.returncode == 1
    new, failed = parse(done.stdout)
    assert new["pred"] != record["pred"]
    for key in ("score", "nme", "pred_visible", "heatmap"):
        assert key not in new
        assert key not in failed
    assert "pred" not in failed
    assert failed["mean"] == new["mean"]
    decoded = run("heatmap", "decode", stdin=[new])
    assert decoded.returncode == 1
    assert b"no `heatmap`" in decoded.stderr


def test_a_face_that_cannot_be_scored_has_no_old_error(face):
    (out,) = parse(run("eval", "--records", stdin=[face(0) | {"nme": 0.5}]).stdout)
    assert "nme" not in out


def test_points_decoded_anew_have_no_old_error(face, tmp_path):
    record = face(0)
    maps = run("heatmap", "encode", "--out", tmp_path / "maps", stdin=[record])
    (mapped,) = parse(maps.stdout)
    (decoded,) = parse(run("heatmap", "decode", stdin=[mapped | {"nme": 0.5}]).stdout)
    assert "nme" not in decoded
    assert "heatmap" in decoded


# Leaks


def test_a_group_in_train_and_val_is_reported_and_counted(few, tmp_path):
    records = [r | {"group": f"g{i // 2}"} for i, r in enumerate(few)]
    done = train(tmp_path, lines(records), "--epochs", 1)
    assert done.returncode == 0, done.stderr
    assert b"4 groups are in train and in val (4 val faces), such as g1, g3, g5" in done.stderr
    strict = train(tmp_path, lines(records), "--epochs", 1, "--strict")
    assert strict.returncode == 3
    assert b"--strict" in strict.stderr.splitlines()[-1]


def test_a_face_of_the_stream_in_the_val_file_is_reported_and_counted(few, tmp_path):
    stream, extra = few[:12], [*few[2:4], *few[12:]]
    stream = [r | {"split": "train"} for r in stream]
    (tmp_path / "val.jsonl").write_bytes(lines(extra))
    done = train(tmp_path, lines(stream), "--epochs", 1, "--val", "val.jsonl")
    assert done.returncode == 0, done.stderr
    assert b"2 faces of val.jsonl have the id of a face that is trained on" in done.stderr
    assert few[2]["id"].encode() in done.stderr
    assert b"groups are in train" not in done.stderr  # said already
    (tmp_path / "val.jsonl").write_bytes(lines(few[12:]))
    done = train(tmp_path, lines(stream), "--epochs", 1, "--val", "val.jsonl")
    assert b"have the id" not in done.stderr


# Norms


def nose(number, dx):
    keys = {"image": "a.jpg", "size": [200, 100], "box": [0, 0, 40, 90], "box_source": "dataset"}
    points = {"points": [[50, 50]], "pred": [[50 + dx, 50]], "scheme": "nose1"}
    return keys | points | {"id": f"nose{number}"}


def test_one_mean_never_mixes_two_norms(face):
    whole = face(0) | {"pred": [[x + 3, y] for x, y in face(0)["points"]]}
    gone = face(1) | {"status": "missing", "error": "gone"}
    mixed = [whole, nose(0, 6), nose(1, 12)]
    r = report([*mixed, gone], status=1)
    assert (r["norm"], r["nme"], r["auc"], r["failure_rate"]) == (None, None, None, None)
    assert r["mae"] == pytest.approx((68 * 3 + 6 + 12) / (2 * 70))
    assert set(r["norms"]) == {"interocular", "box"}
    assert r["norms"]["box"]["nme"] == pytest.approx(9 / 60)
    eyes = np.subtract(whole["points"][45], whole["points"][36])
    assert r["norms"]["interocular"]["nme"] == pytest.approx(3 / np.hypot(*eyes))
    assert r["norms"]["interocular"]["failed"] == 1
    one = report(mixed, "--norm", "box")
    assert one["norm"] == "box"
    assert "norms" not in one
    table = run("eval", "--format", "table", stdin=mixed, env={"COLUMNS": "120"})
    assert b"over interocular" in table.stdout
    gated = run("eval", "--fail-if", "nme>0.9", stdin=mixed)
    assert gated.returncode == 4
    assert b"interocular, box" in gated.stderr


@pytest.mark.parametrize("words", [["ced"], ["report"], ["grid", "--sort", "worst"]])
def test_one_picture_never_mixes_two_norms(face, tmp_path, words):
    whole = face(0) | {"pred": face(0)["points"]}
    small = nose(0, 6) | {"image": whole["image"], "size": [80, 60]}
    done = run("viz", *words, stdin=[whole, small, whole], cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 3  # all have passed through
    assert len(done.stderr.splitlines()) == 1
    assert b"--norm box" in done.stderr
    done = run("viz", *words, "--norm", "box", stdin=[whole, small], cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_norm_that_was_asked_for_is_not_replaced_by_another():
    done = run("eval", "--norm", "interocular", stdin=[nose(0, 6)])
    assert done.returncode == 1
    assert b"nose1 has no eyes for the norm interocular" in done.stderr


# Numbers on their way through

BIG = 2**64 + 12345678901234567890


@pytest.mark.parametrize("tool", ["augment", "predict", "eval", "encode"])
def test_integers_of_more_than_64_bits_pass_as_they_are(face, tmp_path, tool):
    text = orjson.dumps(face(0) | {"pred": face(0)["points"], "mine": {"a": [0, 1.5]}, "n": 0})
    line = text.replace(b'"n":0', b'"n":%d' % BIG).replace(b"[0,1.5]", b"[%d,1.5]" % -BIG)
    words = {
        "augment": ["augment", "--copies", 2, "--rotate", 5],
        "predict": ["predict", untrained(tmp_path / "m.safetensors")],
        "eval": ["eval", "--records"],
        "encode": ["heatmap", "encode", "--out", tmp_path / "maps"],
    }[tool]
    done = run(*words, stdin=line + b"\n")
    assert done.returncode == 0, done.stderr
    for out in done.stdout.splitlines():
        record = json.loads(out)
        assert record["n"] == BIG
        assert record["mine"] == {"a": [-BIG, 1.5]}
        assert record["id"] == "face0"


def test_a_backbones_weights_state_their_own_normalisation(tmp_path):
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert torchvision.normalization("efficientnet_v2_l") == half
    assert torchvision.normalization("resnet18") == specs.IMAGENET
    white = torch.full((1, 3, 2, 2), 255.0)
    frame = specs.InputSpec((2, 2), 0.0, False, half)
    assert torch.allclose(normalise(white, frame, 0, 255), torch.ones(1))
    # a checkpoint holds it, and one of 0.1 has ImageNet's
    path = untrained(tmp_path / "m.safetensors")
    loaded = checkpoint.load(str(path))
    changes = {"normalization": ((0.25,), (2.0,))}
    model = type(loaded.model)(**{**loaded.model.__dict__, **changes})
    checkpoint.save(path, checkpoint.Checkpoint(model, loaded.weights))
    assert checkpoint.load(str(path)).frame.normalization == ((0.25,), (2.0,))
    data = path.read_bytes()
    old = data.replace(b'\\"normalization\\":[[0.25],[2.0]]', b'\\"normalizatiom\\":[[0.25],[2.0]]')
    assert old != data
    path.write_bytes(old)
    assert checkpoint.load(str(path)).frame.normalization is None


def test_googlenets_weights_file_is_taken_with_its_auxiliary_layers(tmp_path):
    import torchvision

    whole = torchvision.models.googlenet(weights=None, aux_logits=True, init_weights=False)
    torch.save(whole.state_dict(), tmp_path / "googlenet.pth")
    network = build.build("googlenet", 5, (96, 96), weights=str(tmp_path / "googlenet.pth"))
    assert torch.equal(network.backbone.conv1.conv.weight, whole.conv1.conv.weight)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiffs_size_is_that_of_its_picture(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.tif", exif=exif)
    path = str(tmp_path / "a.tif")
    picture, _ = images.read(path)
    assert images.shown_size(path) == picture.size
    assert picture.size == ((30, 40) if orientation > 4 else (40, 30))


@pytest.mark.parametrize("name", ["..", ".", "", "...a", "x" * 99 + "." + "y" * 99])
def test_no_id_makes_a_hidden_file(face, tmp_path, name):
    done = run("augment", "--rotate", 5, "--write", tmp_path / "w", stdin=[face(0, id=name)])
    assert done.returncode == 0, done.stderr
    (made,) = os.listdir(tmp_path / "w")
    assert not made.startswith(".")
    assert len(made) > 4


def test_a_checkpoint_has_the_bytes_that_safetensors_would_write(tmp_path):
    import safetensors.torch

    torch.manual_seed(0)
    tensors = {
        "b": torch.randn(3, 4),
        "a.x": torch.tensor(7),
        "z": torch.randn(2, 3, 4, 5).contiguous(memory_format=torch.channels_last),
        "h": torch.randn(3).bfloat16(),
        "é": torch.zeros(0, 3).double(),
    }
    write_tensors(tmp_path / "x.safetensors", tensors, {"é": 'a "b"'})
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    meta = json.dumps({"é": 'a "b"'}, separators=(",", ":"))
    expected = safetensors.torch.save(plain, {"kptools": meta})
    assert (tmp_path / "x.safetensors").read_bytes() == expected
    assert not files.part_of(tmp_path / "x.safetensors").exists()
