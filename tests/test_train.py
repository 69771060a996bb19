"""Training: that it learns, says what it did, and gives the same bytes."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from conftest import lines, parse, run, untrained
from kptools.models.losses.points import point_loss, point_losses
from safetensors import safe_open

from kptools import runtime
from kptools.errors import KptoolsError
from kptools.inference import predictor
from kptools.models import build, checkpoint
from kptools.models.losses import points
from kptools.pixels import cache
from kptools.pixels.cache import CropCache, decoding_threads
from kptools.pixels.decode import decode_crop
from kptools.records.item import Item
from kptools.records.stream import Stream
from kptools.storage import files
from kptools.training import loop
from kptools.training.ema import EMA
from kptools.training.gather import Intake
from kptools.training.settings import Settings, set_length
from kptools.training.state import State

KILLS = int(os.environ.get("KPTOOLS_KILLS", "4"))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Sixty drawn faces, a policy on each; ten groups or so are val."""
    folder = tmp_path_factory.mktemp("drawn")
    made = run("prep", "synth", "--count", 60, "--out", folder / "f", "--val-fraction", 0.2)
    policy = ["--rotate", 10, "--shift", 0.05, "--brightness", 0.2, "--noise", 0.02]
    return run("augment", *policy, stdin=made.stdout).stdout


def train(folder, stdin, *options, arch="nose", epochs=2, size="48x48"):
    return run(
        "train",
        *("--arch", arch, "--epochs", epochs, "--input-size", size, "--threads", 1),
        *options,
        stdin=stdin,
        cwd=folder,
    )


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
    for workers in (1, 4):
        folder = tmp_path / str(workers)
        folder.mkdir()
        done = train(folder, drawn, "--workers", workers)
        assert done.returncode == 0, done.stderr
        contents.append(((folder / "nose.safetensors").read_bytes(), done.stdout))
    assert contents[0] == contents[1]
    other = tmp_path / "other"
    other.mkdir()
    train(other, drawn, "--seed", 1)
    assert (other / "nose.safetensors").read_bytes() != contents[0][0]


def test_a_shuffled_stream_has_the_same_draws(drawn, tmp_path):
    records = parse(drawn)[:12]
    made = []
    for order in (records, random.Random(0).sample(records, len(records))):
        done = run("augment", "--write", tmp_path / str(len(made)), stdin=order)
        assert done.returncode == 0, done.stderr
        made.append({r["id"]: r["points"] for r in parse(done.stdout)})
    assert made[0] == made[1]


@pytest.mark.parametrize("arch", ["face", "resnet18", "unet", "mobilenet_v3_small", "inception_v3"])
def test_each_kind_of_network_trains_and_improves_its_loss(drawn, tmp_path, arch):
    sizes = {"inception_v3": "299x299", "unet": "40x48"}
    if arch == "inception_v3":  # it is large, and takes no smaller input
        drawn = b"".join(drawn.splitlines(keepends=True)[:20])
    options = ["--weights", "none"] if arch not in ("face", "unet") else []
    if arch == "unet":
        options = ["--width", 4, "--stride", 2, "--pos-weight", 10]
    done = train(tmp_path, drawn, *options, arch=arch, size=sizes.get(arch, "32x32"), epochs=4)
    assert done.returncode == 0, done.stderr
    log = parse((tmp_path / f"{arch}.log.jsonl").read_bytes())
    if arch != "inception_v3":  # which twenty faces teach nothing
        assert min(e["train_loss"] for e in log[1:]) < log[0]["train_loss"]
    out = parse(done.stdout)
    assert np.isfinite(np.array([r["pred"] for r in out])).all()
    assert ("score" in out[0]) == (arch == "unet")


def test_without_an_average_the_weights_are_those_of_the_last_step(drawn, tmp_path):
    done = train(tmp_path, drawn, "--average", 0, "--lr", 1e-3)
    assert done.returncode == 0, done.stderr
    first = checkpoint.load(str(tmp_path / "nose.safetensors")).weights
    train(tmp_path, drawn, "--average", 0.5, "--lr", 1e-3)
    second = checkpoint.load(str(tmp_path / "nose.safetensors")).weights
    assert any(not torch.equal(first[name], second[name]) for name in first)


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


def on_cpu(network, model, batch):
    device = torch.device("cpu")
    return predictor.Predictor(
        network, model, device=device, precision="fp32", batch=batch, workers=1
    )


def test_memory_that_runs_out_names_the_batch_to_try(drawn, tmp_path):
    class Vast(torch.nn.Module):
        def forward(self, x):
            return torch.empty(len(x), 1 << 48)

    model = checkpoint.load(str(untrained(tmp_path / "m.safetensors"))).model
    predictor = on_cpu(Vast(), model, batch=32)
    items = [Item(record, "in.jsonl", 1) for record in parse(drawn)]
    told = pytest.raises(KptoolsError, match="out of memory at a batch of 32; try --batch-size 16")
    with told, runtime.memory_told(32):
        list(predictor.run(items, lambda item, error: item, lambda: True))


@pytest.mark.parametrize(
    ("ahead", "ready", "left"),
    [(0, True, [0, 0, 2, 2, 4]), (1, True, [0, 0, 0, 0, 2]), (1, False, [0, 0, 2, 2, 4])],
)
def test_faces_are_decoded_ahead_only_where_that_keeps_no_line_back(
    drawn, tmp_path, ahead, ready, left
):
    loaded = checkpoint.load(str(untrained(tmp_path / "m.safetensors")))
    predictor = on_cpu(loaded.network(), loaded.model, batch=2)
    predictor.ahead = ahead
    out, before_each = [], []

    def items():
        for number, record in enumerate(parse(drawn)[:5], start=1):
            before_each.append(len(out))
            yield Item(record, "in.jsonl", number)

    for item in predictor.run(items(), lambda item, error: item, lambda: ready):
        out.append(item.line)
    assert out == [1, 2, 3, 4, 5]
    assert before_each == left


def test_a_face_whose_prediction_is_not_finite_fails_and_has_the_mean(drawn, tmp_path):
    loaded = checkpoint.load(str(untrained(tmp_path / "m.safetensors")))
    network = loaded.network()
    for values in network.parameters():
        torch.nn.init.constant_(values, torch.nan)
    predictor = on_cpu(network, loaded.model, batch=2)
    (tmp_path / "in.jsonl").write_bytes(drawn)
    stream = Stream([str(tmp_path / "in.jsonl")], str(tmp_path / "out.jsonl"))
    for item in predictor.run(stream, stream.fail, stream.ready):
        stream.write(item)
    assert stream.close() == 1
    out = parse((tmp_path / "out.jsonl").read_bytes())
    assert {record["status"] for record in out} == {"bad_points"}
    assert all("pred" not in record and len(record["mean"]) == 68 for record in out)


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
            [sys.executable, "-m", "kptools.cli.train", *map(str, options), *resumed],
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


def test_strict_stops_before_the_first_step(drawn, tmp_path):
    records = parse(drawn)
    records[-1] |= {"image": "gone.jpg", "split": "val"}
    done = train(tmp_path, lines(records), "--strict")
    assert done.returncode == 3
    assert b"gone.jpg" in done.stderr
    assert not (tmp_path / "nose.log.jsonl").exists()


def settings(**changes):
    some = {"arch": "nose", "input": (48, 48), "grey": True, "batch": 8, "loss": "mse"}
    some |= {"schedule": ((1e-3, 2),), "margin": 0.0, "threads": 1}
    return Settings(**some | changes)


def faces_of(records, folder, pool):
    """The faces of train and val, not decoded yet."""
    (folder / "faces.jsonl").write_bytes(lines(records))
    intake = Intake(Stream([str(folder / "faces.jsonl")], "-"), settings(), 1 << 30)
    intake.read(None, None)
    return intake.faces(pool)


def test_a_batch_is_ready_before_the_rest_is_decoded(drawn, tmp_path, monkeypatch):
    go_on = threading.Event()
    cut = decode_crop

    def slow(record, layout):
        assert record["id"] in first or go_on.wait(30)
        return cut(record, layout)

    with decoding_threads(4) as pool:
        faces, _ = faces_of(parse(drawn), tmp_path, pool)
        order = list(range(len(faces)))[::-1]
        first = {faces.records[i]["id"] for i in order[:10]}
        monkeypatch.setattr(cache, "decode_crop", slow)
        faces.store.begin(order)
        batches = faces.batches(order, 8)
        assert next(batches) == order[:8]
        go_on.set()
        rest = list(batches)
    assert [i for batch in rest for i in batch] == order[8:]


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
                device=torch.device("cpu"),
                state_path=tmp_path / "state",
            )

    before = trained()
    told = sorted(capsys.readouterr().err.splitlines())
    monkeypatch.setattr(CropCache, "finish", lambda store: None)
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
        faces.store.begin()
        sizes = [len(batch) for batch in faces.batches(range(len(faces)), 4)]
    assert sum(sizes) == len(faces)
    assert all(2 <= size <= 5 for size in sizes) or len(faces) == 1


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


def test_a_single_face_is_told_where_the_network_needs_two(drawn, tmp_path):
    one = lines([{**parse(drawn)[0], "split": "train"}])
    done = train(tmp_path, one, "--weights", "none", arch="resnet18", size="32x32")
    assert done.returncode == 2
    assert b"batches of 1" in done.stderr
    assert train(tmp_path, one, epochs=1).returncode == 0


def test_no_image_at_all_is_an_error(drawn, tmp_path):
    records = [{**record, "image": "gone.jpg"} for record in parse(drawn)]
    done = train(tmp_path, lines(records))
    assert done.returncode == 3
    assert done.stderr.splitlines()[-1].endswith(b"no image of the training records could be read")


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


def test_an_inception_rebuilt_is_the_one_that_was_trained():
    ours = build.build("inception_v3", 3, (299, 299), weights="none")
    assert ours.backbone.transform_input  # as torchvision sets it where it loads weights


def test_a_loss_that_is_not_finite_stops_with_the_batch_named(drawn, tmp_path):
    done = train(tmp_path, drawn, "--lr", 900)
    if done.returncode == 0:
        done = train(tmp_path, drawn, "--lr", 900, epochs=40)
    assert done.returncode == 3
    assert b"the loss became" in done.stderr
    assert b"try --lr" in done.stderr
    assert not (tmp_path / "nose.safetensors").exists()


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


@pytest.mark.parametrize("option", ["--weights", "--init"])
def test_weights_that_are_not_there_are_told_before_a_record_is_read(tmp_path, option):
    done = train(tmp_path, b"no record\n", option, "gone.pth", arch="resnet18", size="32x32")
    assert done.returncode == 3
    assert done.stderr.endswith(f"{option}: there is no file gone.pth\n".encode())
    assert len(done.stderr.splitlines()) == 1


def test_local_weights_of_a_classifier_are_taken(drawn, tmp_path):
    import torchvision

    torch.manual_seed(5)
    classifier = torchvision.models.resnet18(weights=None)
    torch.save(classifier.state_dict(), tmp_path / "local.pth")
    network = build.build("resnet18", 68, (32, 32), weights=str(tmp_path / "local.pth"))
    assert torch.equal(network.backbone.conv1.weight, classifier.conv1.weight)


def test_a_wrong_use_is_told_before_any_work(tmp_path):
    for words, told in (
        (["--arch", "resnet181"], b"resnet181"),
        (["--arch", "nose", "--loss", "bce"], b"mse, l1"),
        (["--arch", "nose", "--schedule", "fast"], b"LR:EPOCHS"),
        (["--arch", "nose", "--input-size", "big"], b"WIDTHxHEIGHT"),
        (["--arch", "nose", "--weights", "default"], b"--init"),
        (["--arch", "nose", "--keep", "first"], b"best, last"),
        (["--arch", "nose", "--stride", "2"], b"unet"),
        (["--arch", "unet", "--stride", "3"], b"1, 2, 4"),
        (["--arch", "squeezenet1_0"], b"no linear layer"),
        (["--arch", "vit_b_16", "--input-size", "64x64"], b"64x64"),
        (["--arch", "resnet18", "--input-size", "32x32", "--batch-size", "1"], b"batches of 1"),
        ([], b"--arch NAME"),
    ):
        done = run("train", *words, stdin=b"", cwd=tmp_path)
        assert done.returncode == 2, (words, done.stderr)
        assert told in done.stderr


def test_a_schedule_is_cut_or_goes_on_at_its_last_rate():
    schedule = ((1e-3, 15), (3e-4, 15))
    assert set_length(schedule, 5) == ((1e-3, 5),)
    assert set_length(schedule, 20) == ((1e-3, 15), (3e-4, 5))
    assert set_length(schedule, 40) == ((1e-3, 15), (3e-4, 25))


@pytest.mark.parametrize("loss", ["mse", "l1", "smooth_l1", "wing"])
def test_points_that_are_not_annotated_have_no_part_in_the_loss(loss):
    predicted = torch.rand(2, 3, 2, requires_grad=True)
    truth = torch.rand(2, 3, 2)
    whole = point_losses(predicted, truth, loss)
    truth[0, 1] = float("nan")
    masked = point_loss(predicted, truth, loss)
    keep = torch.ones(2, 3, dtype=torch.bool)
    keep[0, 1] = False
    assert masked.item() == pytest.approx(whole[keep].mean().item(), rel=1e-6)
    masked.backward()
    assert predicted.grad[0, 1].abs().max() == 0


def test_wing_is_smooth_where_its_pieces_meet():
    at = torch.tensor([points.WING_WIDTH - 1e-6, points.WING_WIDTH + 1e-6]).view(1, 1, 2)
    a, b = point_losses(at, torch.zeros(1, 1, 2), "wing").flatten().tolist()
    assert a == pytest.approx(b, abs=1e-5)


def test_a_checkpoint_has_no_time_in_it_and_one_string_of_metadata(drawn, tmp_path):
    train(tmp_path, drawn, epochs=1)
    with safe_open(tmp_path / "nose.safetensors", "pt") as handle:
        meta = handle.metadata()
    assert list(meta) == ["kptools"]
    text = meta["kptools"]
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert "seconds" not in text
    assert "img_s" not in text


def test_a_checkpoint_that_is_none_is_refused(drawn, face, tmp_path):
    import pickle

    train(tmp_path, drawn, epochs=1)
    good = (tmp_path / "nose.safetensors").read_bytes()
    header = int.from_bytes(good[:8], "little")
    bad = {
        "pickle": pickle.dumps({"a": print}),
        "empty": b"",
        "short": good[: len(good) // 2],
        "header": (2 * 2**30).to_bytes(8, "little") + good[8:],
        "text": b"hello world, this is no checkpoint",
        "nan": good[: 8 + header] + b"\xff" * (len(good) - 8 - header),
        "version": good.replace(b'\\"version\\":1', b'\\"version\\":9'),
        "scheme": good.replace(b'\\"count\\":68', b'\\"count\\":67'),
    }
    for name, data in bad.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        done = run("predict", path, stdin=[face(0)])
        assert done.returncode == 3, (name, done.stderr)
        assert len(done.stderr.splitlines()) == 1
        assert name.encode() in done.stderr
    assert run("predict", tmp_path / "gone", stdin=b"").returncode == 3
