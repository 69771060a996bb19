"""Training: that it learns, says what it did, and gives the same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

import numpy as np
import pytest
import torch
from conftest import forked, lines, parse, run, scores, start, train, wait_for

from kptools.errors import KptoolsError, UsageError
from kptools.models import build, checkpoint
from kptools.models.heads.points import PointsHead
from kptools.pixels import cache
from kptools.pixels.cache import decode_all
from kptools.pixels.decode import decode_crop
from kptools.pixels.threads import decoding_threads
from kptools.records.stream import Stream
from kptools.specs import InputSpec
from kptools.storage import files
from kptools.storage.tensors import read_tensors
from kptools.training import loop
from kptools.training.ema import EMA
from kptools.training.gather import gather, training_sets
from kptools.training.optimizer import make_optimizer
from kptools.training.settings import Settings, rate_at, resolve, set_length
from kptools.training.state import State

CPU = torch.device("cpu")
KILLS = int(os.environ.get("KPTOOLS_KILLS", "4"))
SMALL = InputSpec((32, 32), 0.0, grey=True)


def settings(**changes):
    some = {"arch": "nose", "input": InputSpec((48, 48), 0.0, grey=True), "batch": 8}
    some |= {"head": "points", "loss": "mse", "schedule": ((1e-3, 2),), "threads": 1}
    return Settings(**some | changes)


def faces_of(records, folder, pool, some=None, memory=1 << 30):
    """The faces of train and val, not decoded yet."""
    (folder / "faces.jsonl").write_bytes(lines(records))
    stream = Stream([str(folder / "faces.jsonl")], "-")
    found = gather(stream, stream.failures)
    return training_sets(found, some or settings(), pool, memory, stream.failures)


# A run


def test_a_run_leaves_a_checkpoint_a_log_and_predictions(drawn, tmp_path):
    done = train(tmp_path, drawn, epochs=3)
    assert done.returncode == 0, done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["nose.log.jsonl", "nose.safetensors"]
    log = parse((tmp_path / "nose.log.jsonl").read_bytes())
    assert [entry["epoch"] for entry in log] == [1, 2, 3]
    for key in ("lr", "train_loss", "val_loss", "val_nme", "val_mae", "img_s", "seconds"):
        assert all(entry[key] > 0 for entry in log), key
    val = [r for r in parse(drawn) if r["split"] == "val"]
    out = parse(done.stdout)
    assert [r["id"] for r in out] == [r["id"] for r in val]
    for before, after in zip(val, out, strict=True):
        assert np.shape(after["pred"]) == np.shape(after["mean"]) == (68, 2)
        assert "augment" not in after
        assert {k: after[k] for k in before if k != "augment"} == {
            k: v for k, v in before.items() if k != "augment"
        }


def test_the_best_epoch_is_kept_and_its_val_error_is_the_logs(drawn, tmp_path):
    done = train(tmp_path, drawn, "--lr", 3e-3, epochs=6)
    report = json.loads(run("eval", stdin=done.stdout).stdout)
    log = parse((tmp_path / "nose.log.jsonl").read_bytes())
    assert report["nme"] == pytest.approx(min(e["val_nme"] for e in log), rel=1e-4)
    predicted = run("predict", tmp_path / "nose.safetensors", stdin=done.stdout)
    again = json.loads(run("eval", stdin=predicted.stdout).stdout)
    assert again["nme"] == pytest.approx(report["nme"], rel=1e-3)


def test_the_same_stream_gives_the_same_bytes_with_any_number_of_workers(drawn, tmp_path):
    contents = []
    for workers, hashes in ((1, None), (4, {"PYTHONHASHSEED": "4"})):  # by chance, and these
        folder = tmp_path / str(workers)
        folder.mkdir()
        done = train(folder, drawn, "--workers", workers, env=hashes)
        assert done.returncode == 0, done.stderr
        contents.append(((folder / "nose.safetensors").read_bytes(), done.stdout))
    assert contents[0] == contents[1]
    other = tmp_path / "other"
    other.mkdir()
    train(other, drawn, "--seed", 1)
    assert (other / "nose.safetensors").read_bytes() != contents[0][0]


@pytest.mark.parametrize("arch", ["face", "resnet18", "unet", "mobilenet_v3_small", "inception_v3"])
def test_each_kind_of_network_trains_and_improves_its_loss(drawn, tmp_path, arch):
    sizes = {"inception_v3": "299x299", "unet": "40x48"}
    if arch == "inception_v3":  # it is large, and takes no smaller input
        drawn = lines(
            [r | {"split": "train" if i else "val"} for i, r in enumerate(parse(drawn)[:4])]
        )
    options = ["--weights", "none"] if arch not in ("face", "unet") else []
    if arch == "unet":
        options = ["--width", 4, "--stride", 2, "--pos-weight", 10]
    epochs = 1 if arch == "inception_v3" else 4
    done = train(tmp_path, drawn, *options, arch=arch, size=sizes.get(arch, "32x32"), epochs=epochs)
    assert done.returncode == 0, done.stderr
    log = parse((tmp_path / f"{arch}.log.jsonl").read_bytes())
    if epochs > 1:
        assert min(e["train_loss"] for e in log[1:]) < log[0]["train_loss"]
    out = parse(done.stdout)
    assert np.isfinite(np.array([r["pred"] for r in out])).all()
    assert all(0 <= score <= 1 for score in out[0]["score"])


def test_an_aligned_run_is_validated_in_the_passes_in_which_it_predicts(few, tmp_path, quick):
    words = ["--arch", "nose", "--input-size", "32x32", "--threads", 1, "--epochs", 2]
    words += ["--align", 0.5, "--keep", "last", "-o", tmp_path / "m.safetensors"]
    done = quick("train", *words, stdin=few)
    assert done.returncode == 0, done.stderr
    figures = parse(quick("eval", "--format", "json", stdin=done.stdout).stdout)[0]
    log = parse((tmp_path / "m.log.jsonl").read_bytes())[-1]
    assert log["val_nme"] == pytest.approx(figures["nme"], rel=1e-9)
    trained = parse(done.stdout)
    for options, same in (([], True), (["--passes", 1], False), (["--no-flip"], False)):
        out = quick("predict", tmp_path / "m.safetensors", *options, stdin=done.stdout)
        pairs = zip(trained, parse(out.stdout), strict=True)
        assert same == all(np.allclose(a["pred"], b["pred"], atol=0.02) for a, b in pairs)


def test_without_an_average_the_weights_are_those_of_the_last_step(drawn, tmp_path):
    done = train(tmp_path, drawn, "--average", 0, "--lr", 1e-3)
    assert done.returncode == 0, done.stderr
    first = checkpoint.load(str(tmp_path / "nose.safetensors")).weights
    train(tmp_path, drawn, "--average", 0.5, "--lr", 1e-3)
    second = checkpoint.load(str(tmp_path / "nose.safetensors")).weights
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_the_log_has_kp_evals_figures_where_points_are_missing(few, tmp_path):
    records = [dict(r, points=list(r["points"])) for r in few]
    for number, record in enumerate(r for r in records if r["split"] == "val"):
        if number % 2:
            record["points"][4:] = [None] * 64  # the jaw's side alone, where errors are large
    done = train(tmp_path, lines(records), "--epochs", 2, "--keep", "last")
    assert done.returncode == 0, done.stderr
    log = parse((tmp_path / "nose.log.jsonl").read_bytes())[-1]
    figures = scores(parse(done.stdout))
    assert log["val_mae"] == pytest.approx(figures["mae"], rel=1e-9)
    assert log["val_nme"] == pytest.approx(figures["nme"], rel=1e-9)
    page = run("viz", "report", "-o", "r.html", stdin=done.stdout, cwd=tmp_path)
    assert page.returncode == 0, page.stderr
    text = (tmp_path / "r.html").read_text()
    assert f"<td>{100 * figures['nme']:.2f}</td>" in text
    assert f"<td>{figures['mae']:.2f}</td>" in text


def test_val_faces_without_a_norm_are_no_trouble(drawn, tmp_path):
    records = parse(drawn)
    for record in records:
        record["points"][36] = None
    done = train(tmp_path, lines(records))
    assert done.returncode == 0, done.stderr
    log = parse((tmp_path / "nose.log.jsonl").read_bytes())
    assert log[0]["val_nme"] is None
    assert log[0]["val_mae"] > 0


@pytest.mark.parametrize("keys", [{"scheme": "mine"}, {"scheme": None}, {"augment": None}])
def test_records_of_no_known_scheme_train_and_predict(drawn, tmp_path, keys):
    records = [{k: v for k, v in (r | keys).items() if v is not None} for r in parse(drawn)]
    done = train(tmp_path, lines(records), epochs=1)
    assert done.returncode == 0, done.stderr
    again = run("predict", tmp_path / "nose.safetensors", stdin=lines(records))
    assert again.returncode == 0, again.stderr


# Settings


def test_a_wrong_use_is_told_before_any_work(tmp_path, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words, told in (
        (["--arch", "resnet181"], b"resnet181"),
        (["--arch", "nose", "--loss", "bce"], b"mse, l1"),
        (["--arch", "nose", "--schedule", "fast"], b"LR:EPOCHS"),
        (["--arch", "nose", "--input-size", "big"], b"WIDTHxHEIGHT"),
        (["--arch", "nose", "--weights", "default"], b"--init"),
        (["--arch", "nose", "--keep", "first"], b"best, last"),
        (["--arch", "nose", "--stride", "2"], b"of unet, not of nose"),
        (["--arch", "nose", "--head", "heatmap"], b"use points"),
        (["--arch", "unet", "--head", "points"], b"use heatmap or integral"),
        (["--head", "blobs"], b"points, heatmap, integral"),
        (["--head", "integral", "--loss", "bce"], b"use integral"),
        (["--head", "integral", "--sigma", "2"], b"--sigma is an option of --head heatmap"),
        (["--arch", "swin_t", "--head", "heatmap", "--weights", "none"], b"use --head points"),
        (["--arch", "nose", "--optimizer", "sgd"], b"adam, adamw"),
        (["--arch", "nose", "--decay", "linear"], b"none, cosine"),
        (["--arch", "nose", "--align", "1.5"], b"--align"),
        (["--arch", "unet", "--stride", "3"], b"1, 2, 4"),
        (["--arch", "squeezenet1_0"], b"no linear layer"),
        (["--arch", "vit_b_16", "--input-size", "64x64"], b"64x64"),
        (["--arch", "resnet18", "--input-size", "32x32", "--batch-size", "1"], b"batches of 1"),
    ):
        done = quick("train", *words)
        assert done.returncode == 2, (words, done.stderr)
        assert told in done.stderr


@pytest.mark.parametrize("option", ["--weights", "--init"])
def test_weights_that_are_not_there_are_told_before_a_record_is_read(tmp_path, option):
    done = train(tmp_path, b"no record\n", option, "gone.pth", arch="resnet18", size="32x32")
    assert done.returncode == 3
    assert done.stderr.endswith(f"{option}: there is no file gone.pth\n".encode())
    assert len(done.stderr.splitlines()) == 1


def test_weights_that_cannot_be_had_are_one_line(drawn, tmp_path):
    gone = train(tmp_path, drawn, "--weights", "gone.pth", arch="resnet18", epochs=1)
    assert gone.returncode == 3
    assert b"gone.pth" in gone.stderr.splitlines()[-1]
    no_net = {"TORCH_HOME": str(tmp_path), "https_proxy": "http://127.0.0.1:9"}
    done = run(
        *("train", "--arch", "resnet18", "--epochs", 1, "--input-size", "32x32"),
        stdin=drawn, cwd=tmp_path, env=no_net,
    )  # fmt: skip
    assert done.returncode == 3
    assert b"--weights none" in done.stderr.splitlines()[-1]
    assert b"Traceback" not in done.stderr


def test_a_schedule_is_cut_or_goes_on_at_its_last_rate():
    schedule = ((1e-3, 15), (3e-4, 15))
    assert set_length(schedule, 5) == ((1e-3, 5),)
    assert set_length(schedule, 20) == ((1e-3, 15), (3e-4, 5))
    assert set_length(schedule, 40) == ((1e-3, 15), (3e-4, 25))


def test_a_cosine_takes_the_rate_from_all_of_it_to_zero():
    cosine = settings(decay="cosine")
    found = [rate_at(cosine, 2e-3, done) for done in (0.0, 1 / 3, 0.5, 2 / 3, 1.0)]
    assert found == pytest.approx([2e-3, 1.5e-3, 1e-3, 0.5e-3, 0.0], abs=1e-12)
    assert [rate_at(settings(), 2e-3, done) for done in (0.0, 0.5, 1.0)] == [2e-3] * 3


def test_the_cosine_spans_the_run_step_by_step_and_starts_again_with_another(
    few, tmp_path, quick, monkeypatch
):
    over = []
    monkeypatch.setattr(
        loop, "rate_at", lambda some, rate, done: over.append(done) or rate_at(some, rate, done)
    )
    words = ["--arch", "nose", "--input-size", "32x32", "--threads", 1, "--decay", "cosine"]
    a, b = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    done = quick("train", *words, "--epochs", 3, "-o", a, stdin=few)  # of 12 faces, 8 at a time
    assert done.returncode == 0, done.stderr
    # two steps an epoch, and the epoch's middle, for the log
    assert over == pytest.approx([i / 6 for i in (1, 2, 1, 3, 4, 3, 5, 6, 5)])
    over.clear()
    done = quick("train", *words, "--epochs", 2, "--init", a, "-o", b, stdin=few)
    assert done.returncode == 0, done.stderr
    assert over == pytest.approx([i / 4 for i in (1, 2, 1, 3, 4, 3)])


def test_weight_decay_is_adamws():
    with pytest.raises(UsageError, match="--weight-decay is an option of adamw"):
        resolve("nose", weight_decay=0.1)
    assert resolve("efficientnet_lite0", weights="none", optimizer="adam").weight_decay == 0


def test_adamw_lets_kernels_decay_and_no_bias_or_normalisation():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Linear(4, 2)
    )
    torch.nn.init.constant_(network[1].bias, 0.3)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    optimizer = make_optimizer(network, settings(optimizer="adamw", weight_decay=0.1))
    for group in optimizer.param_groups:
        group["lr"] = 0.5
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    decayed = {"0.weight": 0.95, "2.weight": 0.95}  # 1 - 0.5 * 0.1
    for name, parameter in network.named_parameters():
        assert torch.allclose(parameter, decayed.get(name, 1.0) * before[name]), name


def test_the_network_that_is_taken_by_default_brings_its_own_course():
    ours = resolve("efficientnet_lite0", weights="none")
    assert (ours.head, ours.loss, ours.optimizer, ours.decay) == (
        "heatmap", "bce", "adamw", "cosine",
    )  # fmt: skip
    assert (ours.align, ours.weight_decay) == (0.8, 0.05)
    given = resolve("efficientnet_lite0", weights="none", align=0.0, weight_decay=0.0, decay="none")
    assert (given.align, given.weight_decay, given.decay) == (0.0, 0.0, "none")
    plain = resolve("nose")
    assert (plain.optimizer, plain.decay, plain.align, plain.average) == ("adam", "none", 0, 0.98)


# Records, gathered by split


def test_failures_in_the_stream_are_told_and_the_rest_is_trained_on(drawn, tmp_path):
    records = parse(drawn)
    records[0] |= {"image": "gone.jpg", "split": "train"}
    records[1] |= {"image": "gone2.jpg", "split": "val"}
    records[2] |= {"points": records[2]["points"][:67]}
    records[3]["id"] = records[4]["id"]
    records[5] |= {"box": [5, 5, 5, 5]}
    done = train(tmp_path, lines(records), epochs=1)
    assert done.returncode == 1
    for words in (b"gone.jpg", b"gone2.jpg", b"67 points", b"before", b"no area"):
        assert words in done.stderr
    failed = [r for r in parse(done.stdout) if "status" in r]
    assert "gone2.jpg" in [r.get("image") for r in failed]
    assert "gone.jpg" not in [r.get("image") for r in failed]


def test_strict_stops_before_the_first_step(drawn, tmp_path):
    records = parse(drawn)
    records[-1] |= {"image": "gone.jpg", "split": "val"}
    done = train(tmp_path, lines(records), "--strict")
    assert done.returncode == 3
    assert b"gone.jpg" in done.stderr
    assert not (tmp_path / "nose.log.jsonl").exists()


def test_test_records_are_left_alone_and_counted(drawn, tmp_path):
    records = parse(drawn)
    for record in records[:5]:
        record["split"] = "test"
    done = train(tmp_path, lines(records), epochs=1)
    assert b"5 records of split test were skipped" in done.stderr


def test_without_val_a_tenth_is_held_out_by_group(drawn, tmp_path):
    records = [r | {"split": "train", "group": f"g{i // 2}"} for i, r in enumerate(parse(drawn))]
    done = train(tmp_path, lines(records), epochs=1)
    out = parse(done.stdout)
    assert 0 < len(out) < 20
    groups = {r["group"] for r in out}
    assert len(out) == 2 * len(groups)
    assert b"held out" in done.stderr
    none = train(tmp_path, lines(records), "--val-fraction", 0, epochs=1)
    assert (none.returncode, none.stdout) == (0, b"")


def test_points_that_no_map_can_show_are_counted(drawn, tmp_path):
    records = parse(drawn)[:4]
    for record in records:
        record |= {"box": [20.0, 20.0, 120.0, 120.0], "points": [[70.0, 70.0]] * 68}
    records[0]["points"][0] = [140.0, 70.0]
    records[1]["points"][5] = None
    options = ["--width", 2, "--stride", 4, "--margin", 0.1, "--val-fraction", 0]
    done = train(tmp_path, records, *options, arch="unet", size="32x32", epochs=1)
    assert done.returncode == 0, done.stderr
    assert b"1 of 271 points (1 faces) lie outside" in done.stderr
    assert b"--margin 0.2 would hold them all" in done.stderr
    done = train(tmp_path, records, *options, "--margin", 0.2, arch="unet", size="32x32", epochs=1)
    assert b"lie outside" not in done.stderr


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


def test_library_code_speaks_for_whoever_calls_it(face, tmp_path):
    said = []
    records = [face(i, split="test" if i else "train") for i in range(3)]
    (tmp_path / "in.jsonl").write_bytes(lines(records))
    stream = Stream([str(tmp_path / "in.jsonl")], "-")
    gather(stream, stream.failures, val_fraction=0.0, report=said.append)
    assert said == ["2 records of split test were skipped", *said[1:]]
    assert not any("kp-" in line for line in said)
    words = ("train", "--arch", "nose", "--epochs", 1, "--val-fraction", 0)
    done = run(*words, stdin=records, cwd=tmp_path)
    assert b"kp-train: 2 records of split test" in done.stderr
    assert parse(done.stdout) == []


# Crops and batches


@pytest.mark.parametrize(
    ("memory", "mapped"),
    [(10, (False, False)), (9, (False, True)), (6, (False, True)), (5, (True, False))],
)
def test_cache_memory_is_one_limit_for_train_and_val(face, tmp_path, memory, mapped):
    records = [face(i, split="train" if i < 6 else "val") for i in range(10)]
    with decoding_threads(1) as pool:
        faces, val = faces_of(
            records, tmp_path, pool, settings(input=SMALL, batch=4), memory * 32 * 32
        )
        assert (faces.crops.mapped, val.crops.mapped) == mapped


def test_a_batch_is_ready_before_the_rest_is_decoded(drawn, tmp_path, monkeypatch):
    go_on = threading.Event()

    def slow(path, box, spec):
        assert path in first or go_on.wait(30)
        return decode_crop(path, box, spec)

    with decoding_threads(4) as pool:
        faces, _ = faces_of(parse(drawn), tmp_path, pool)
        order = list(range(len(faces)))[::-1]
        first = {faces.faces[i].image for i in order[:10]}
        monkeypatch.setattr(cache, "decode_crop", slow)
        faces.crops.begin(order)
        groups = faces.groups(order, 8)
        assert next(groups) == order[:8]
        go_on.set()
        rest = list(groups)
    assert [i for group in rest for i in group] == order[8:]


def test_steps_beside_the_decoding_give_the_same_weights(drawn, tmp_path, monkeypatch, capsys):
    """As on a GPU, and with images that cannot be read among the others."""
    records = parse(drawn)
    for index in (3, 17, 40):
        records[index]["image"] = str(tmp_path / "gone.jpg")

    def trained():
        torch.set_num_threads(1)
        with decoding_threads(2) as pool:
            faces, val = faces_of(records, tmp_path, pool)
            return loop.train(
                faces,
                val,
                "ibug68",
                settings(),
                device=CPU,
                state_path=tmp_path / "state",
            )

    before = trained()
    told = sorted(capsys.readouterr().err.splitlines())

    def begin(caches, order, *, wait):
        decode_all(caches, order, wait=False)

    monkeypatch.setattr(loop, "decode_all", begin)
    beside = trained()
    assert before.history == beside.history
    assert all(torch.equal(before.weights[name], beside.weights[name]) for name in before.weights)
    assert sum("does not exist" in line for line in told) == 3
    assert sorted(capsys.readouterr().err.splitlines()) == told


@pytest.mark.parametrize("count", range(1, 11))
def test_no_batch_is_of_one_face_where_two_can_be(drawn, tmp_path, count):
    records = [{**r, "split": "train"} for r in parse(drawn)[:count]]
    with decoding_threads(1) as pool:
        faces, _ = faces_of(records, tmp_path, pool)
        faces.crops.begin()
        sizes = [len(group) for group in faces.groups(range(len(faces)), 4)]
    assert sum(sizes) == len(faces)
    assert all(2 <= size <= 5 for size in sizes) or len(faces) == 1


def test_a_single_face_is_told_where_the_network_needs_two(drawn, tmp_path):
    one = lines([{**parse(drawn)[0], "split": "train"}])
    done = train(tmp_path, one, "--weights", "none", arch="resnet18", size="32x32")
    assert done.returncode == 2
    assert b"batches of 1" in done.stderr
    assert train(tmp_path, one, epochs=1).returncode == 0


def test_a_batch_of_one_is_checked_once_and_not_at_each_step(face, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(build, "check_batch", lambda *a, **k: calls.append(a))
    records = [face(i, split="train") for i in range(5)]
    some = settings(input=SMALL, batch=1, schedule=((1e-3, 1),))
    with decoding_threads(1) as pool:
        faces, _ = faces_of(records, tmp_path, pool, some)
        loop.train(*(faces, None, "ibug68", some), device=CPU, state_path=tmp_path / "state")
    assert calls == []


def test_val_images_that_cannot_be_read_leave_the_last_epoch(drawn, tmp_path):
    records = parse(drawn)
    for record in records:
        if record["split"] == "val":
            record["image"] = "gone.jpg"
    done = train(tmp_path, lines(records), epochs=2)
    assert done.returncode == 1
    assert all(r["status"] == "missing" for r in parse(done.stdout))
    log = parse((tmp_path / "nose.log.jsonl").read_bytes())
    assert [("val_loss" in entry, entry["epoch"]) for entry in log] == [(False, 1), (False, 2)]


def test_no_image_at_all_is_an_error(drawn, tmp_path):
    records = [{**record, "image": "gone.jpg"} for record in parse(drawn)]
    done = train(tmp_path, lines(records))
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].endswith(b"no image of the training records could be read")


# What is not finite


def test_a_loss_that_is_not_finite_stops_with_the_batch_named(drawn, tmp_path):
    done = train(tmp_path, drawn, "--lr", 900)
    if done.returncode == 0:
        done = train(tmp_path, drawn, "--lr", 900, epochs=40)
    assert done.returncode == 3
    assert b"the loss became" in done.stderr
    assert b"try --lr" in done.stderr
    assert not (tmp_path / "nose.safetensors").exists()


def test_a_validation_that_is_not_finite_is_one_line_and_exit_3(few, tmp_path):
    done = train(tmp_path, lines(few[:8]), "--lr", 990, "--epochs", 60)
    assert done.returncode == 3, done.stderr
    assert b"Traceback" not in done.stderr
    assert b"; try --lr" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "nose.safetensors").exists()


def test_predictions_that_are_not_finite_do_not_vanish_from_a_mean(few, tmp_path, monkeypatch):
    decode = PointsHead.decode

    def broken(head, output, *rest, **more):
        found = decode(head, output, *rest, **more)
        found.points[0, 5] = np.nan
        return found

    monkeypatch.setattr(PointsHead, "decode", broken)
    torch.set_num_threads(1)
    some = settings(input=SMALL, batch=4, schedule=((1e-3, 1),))
    with decoding_threads(1) as pool:
        faces, val = faces_of(few, tmp_path, pool, some)
        told = pytest.raises(
            KptoolsError, match=r"a prediction is not finite in epoch 1, at .*; try"
        )
        with told:
            loop.train(*(faces, val, "ibug68", some), device=CPU, state_path=tmp_path / "state")


# What a run starts from, its state and its log


def test_init_goes_on_from_a_checkpoint_on_one_continuous_curve(drawn, tmp_path):
    train(tmp_path, drawn, "-o", "a.safetensors", epochs=2)
    done = train(tmp_path, drawn, "-o", "b.safetensors", "--init", "a.safetensors", "--lr", 1e-4)
    assert done.returncode == 0, done.stderr
    history = checkpoint.load(str(tmp_path / "b.safetensors")).history
    assert [e["epoch"] for e in history] == [1, 2, 3, 4]
    assert [e["lr"] for e in history] == [1e-3, 1e-3, 1e-4, 1e-4]


def test_init_from_another_network_is_refused_with_both_named(drawn, tmp_path):
    train(tmp_path, drawn, epochs=1)
    done = train(tmp_path, drawn, "--init", "nose.safetensors", size="64x48", epochs=1)
    assert done.returncode == 3
    assert b"(48, 48)" in done.stderr
    assert b"(64, 48)" in done.stderr


def test_a_run_that_was_killed_ends_with_the_same_bits(drawn, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(drawn)
    epochs = 4 * KILLS
    options = ["--arch", "nose", "--epochs", epochs, "--threads", "1", "--input-size", "48x48"]
    whole = run("train", *options, "-o", "whole.safetensors", "in.jsonl", cwd=tmp_path)
    resumed = ["-o", "cut.safetensors", "--resume", "in.jsonl"]
    wait = random.Random(1)
    for _ in range(KILLS):
        process = subprocess.Popen(
            [*forked(), "kptools.cli.train", *map(str, options), *resumed],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        for _ in range(wait.randrange(1, 4)):
            process.stderr.readline()
        time.sleep(wait.random() * 0.05)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        process.stderr.close()
    cut = run("train", *options, "-o", "cut.safetensors", "--resume", "in.jsonl", cwd=tmp_path)
    assert cut.returncode == 0, cut.stderr
    assert cut.stdout == whole.stdout
    assert (tmp_path / "cut.safetensors").read_bytes() == (
        tmp_path / "whole.safetensors"
    ).read_bytes()
    log = parse((tmp_path / "cut.log.jsonl").read_bytes())
    assert [e["epoch"] for e in log] == list(range(1, epochs + 1))
    # finished: the records come again; with other arguments it is refused
    again = run("train", *options, "-o", "cut.safetensors", "--resume", "in.jsonl", cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, whole.stdout)
    options[3] = epochs + 1
    other = run("train", *options, "-o", "cut.safetensors", "--resume", "in.jsonl", cwd=tmp_path)
    assert other.returncode == 2


def test_an_aligned_run_that_was_cut_off_ends_with_the_same_bytes(
    few, tmp_path, quick, monkeypatch
):
    words = ["--arch", "nose", "--input-size", "32x32", "--threads", 1, "--epochs", 3]
    words += ["--align", 0.5, "--optimizer", "adamw", "--weight-decay", 0.1, "--decay", "cosine"]
    whole = quick("train", *words, "-o", tmp_path / "whole.safetensors", stdin=few)
    assert whole.returncode == 0, whole.stderr
    save, saved = State.save, []

    def cut(state, path):
        if saved:
            raise KptoolsError("cut off")
        saved.append(path)
        save(state, path)

    monkeypatch.setattr(State, "save", cut)
    again = [*words, "-o", tmp_path / "cut.safetensors", "--resume"]
    assert b"cut off" in quick("train", *again, stdin=few).stderr
    assert saved[0].exists()
    monkeypatch.setattr(State, "save", save)
    resumed = quick("train", *again, stdin=few)
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout == whole.stdout
    made = [(tmp_path / f"{name}.safetensors").read_bytes() for name in ("whole", "cut")]
    assert made[0] == made[1]
    model = checkpoint.load_model(str(tmp_path / "cut.safetensors"))
    assert (model.passes, model.flip) == (2, True)
    x0, y0, x1, y1 = model.input.focus
    assert x1 - x0 == pytest.approx(y1 - y0)


def test_a_finished_run_tells_its_failures_again(drawn, tmp_path):
    records = parse(drawn)
    records[0]["image"], records[1] = "gone.jpg", {**records[1], "split": "train"}
    del records[1]["split"]
    records[1]["image"] = "gone2.jpg"
    first = train(tmp_path, lines(records), epochs=1)
    again = train(tmp_path, lines(records), "--resume", epochs=1)
    assert first.returncode == again.returncode == 1
    assert first.stdout == again.stdout
    assert b"gone.jpg" in again.stderr
    assert b"gone2.jpg" in again.stderr


def test_a_disk_too_small_for_the_run_is_told_before_it_starts(drawn, tmp_path, monkeypatch):
    network = torch.nn.Linear(1000, 1000)
    state = State("run", network, EMA(network, 0.9), torch.optim.Adam(network.parameters()), [])
    state.require_space(tmp_path / "state", "best")
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=30_000_000))
    with pytest.raises(KptoolsError, match=r"has 30 MB free, and .* takes 40 MB; make room"):
        state.require_space(tmp_path / "state", "best")
    with open(tmp_path / "cache", "wb") as file, pytest.raises(KptoolsError, match="make room"):
        files.reserve_space(file, tmp_path, 40_000_000, "the cache of crops")


def test_a_state_that_has_not_all_weights_is_of_another_version(tmp_path):
    """As that of a network of points that did not look at them again."""
    network = build.build("tiny", 68, (32, 32), head="points")

    def state():
        steps = torch.optim.Adam(network.parameters())
        return State("run", network, EMA(network, 0.9), steps, [])

    path = tmp_path / "m.state.safetensors"
    state().save(path)
    tensors, meta = read_tensors(str(path))
    state().take((tensors, meta))
    old = {name: t for name, t in tensors.items() if "local_" not in name}
    with pytest.raises(KptoolsError, match="another version of kptools began the run; go on with"):
        state().take((old, meta))


def test_a_second_training_of_one_checkpoint_fails_before_it_reads(tmp_path):
    made = run("prep", "synth", "--count", 8, "--out", tmp_path / "f")
    (tmp_path / "in.jsonl").write_bytes(made.stdout)
    words = ("--arch", "nose", "--input-size", "32x32", "--threads", 1)
    first = start(
        *("train", *words, "--epochs", 100000, "-o", "m.safetensors", "in.jsonl"), cwd=tmp_path
    )
    wait_for(tmp_path / "m.log.jsonl", first)
    second = run("train", *words, "-o", "m.safetensors", "gone.jsonl", cwd=tmp_path)
    assert second.returncode == 3
    assert f"is being written by process {first.pid}".encode() in second.stderr
    # another checkpoint of the same stem shares its log and its state
    third = run("train", *words, "-o", "m.bin", "in.jsonl", cwd=tmp_path)
    assert third.returncode == 3
    assert f"m.log.jsonl is being written by process {first.pid}".encode() in third.stderr
    assert not (tmp_path / "m.bin.part").exists()
    first.kill()
    first.communicate()


@pytest.mark.parametrize("after", ["state", "log"])
def test_a_kill_between_state_and_log_loses_no_epoch_of_the_log(tmp_path, after):
    made = run("prep", "synth", "--count", 8, "--out", tmp_path / "f")
    (tmp_path / "in.jsonl").write_bytes(made.stdout)
    words = ["--arch", "nose", "--input-size", "32x32", "--threads", "1", "--epochs", "4"]
    words += ["-o", "m.safetensors", "--resume", "in.jsonl"]
    code = (
        "import os, sys\n"
        f"sys.argv = ['kp-train', *{words!r}]\n"
        "from kptools.cli import bars, train\n"
        "from kptools.training.state import State\n"
        "of, name = "
        + ("State, 'save'" if after == "state" else "bars.TrainingBar, 'epoch'")
        + "\n"
        "real, calls = getattr(of, name), []\n"
        "def cut(*rest):\n"
        "    real(*rest)\n"
        "    calls.append(1)\n"
        "    if len(calls) == 2:\n"
        "        os._exit(9)\n"
        "setattr(of, name, cut)\n"
        "train.main()\n"
    )
    (tmp_path / "cut_off.py").write_text(code)
    killed = subprocess.run([*forked(), "cut_off"], cwd=tmp_path, capture_output=True)
    assert killed.returncode == 9, killed.stderr
    done = run("train", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    log = parse((tmp_path / "m.log.jsonl").read_bytes())
    assert [entry["epoch"] for entry in log] == [1, 2, 3, 4]
