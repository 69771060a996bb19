"""kp-predict with ONNX files: the records that torch gives, without torch."""

import json
import os
import queue
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from conftest import lines, noise, parse, run, start, untrained

from kptools import geometry as g
from kptools.inference.export import export
from kptools.models import checkpoint
from kptools.pixels import array_warp
from kptools.pixels.warp import warp
from kptools.specs import FILL

onnx = pytest.importorskip("onnx", reason="needs the extra onnx")
pytest.importorskip("onnxruntime", reason="needs the extra onnx")
pytest.importorskip("onnxscript", reason="needs the extra onnx")

AS_THE_GRAPH = ("--passes", 1, "--no-flip", "--no-shape-prior", "--precision", "fp32")
MAPS_AS_THE_GRAPH = (*AS_THE_GRAPH, "--decode", "softargmax")


@pytest.fixture(scope="module")
def nose_pair(tmp_path_factory):
    """A network that gives scores, as a checkpoint and as an ONNX file."""
    return exported(tmp_path_factory.mktemp("nose"))


def exported(folder, scheme="ibug68"):
    path = untrained(folder / "n.safetensors", scheme)
    loaded = checkpoint.load(str(path))
    for name, tensor in loaded.weights.items():
        if name.endswith("distance_weight"):
            tensor.fill_(0.01)
    loaded.save(path)
    export(loaded, folder / "n.onnx")
    return path, folder / "n.onnx"


def changed(path, target, change):
    """The file again, after `change` of its ONNX model."""
    model = onnx.load(str(path))
    change(model)
    target.write_bytes(model.SerializeToString())
    return target


def assert_same(found, wanted):
    """The same records in the same order, but for the third decimal of their numbers."""
    assert [list(record) for record in found] == [list(record) for record in wanted]
    for one, other in zip(found, wanted, strict=True):
        numbers = {"pred", "mean", "score"} & one.keys()
        assert {k: v for k, v in one.items() if k not in numbers} == {
            k: v for k, v in other.items() if k not in numbers
        }
        for key in numbers:
            np.testing.assert_allclose(one[key], other[key], atol=1e-3)


def test_the_records_are_those_of_torch(few, box_onnx, tmp_path):
    records = [dict(record) for record in few[:9]]
    records[0] |= {"box_source": "detector:yunet", "mine": {"passes": True}}  # mapped boxes
    records[1] |= {"image": str(tmp_path / "gone.png")}
    records[2] |= {"box": [0, 0]}
    records[3] |= {"roll": 25.0}
    records[4] |= {"augment": [{"seed": 1, "rotate": 30, "scale": 0.8, "shift": 0.1, "flip": 1}]}
    records[5] |= {"scheme": "imm58", "points": None}
    del records[6]["points"], records[6]["scheme"]  # which takes the network's
    x0, y0, x1, y1 = records[7]["box"]
    records[7] |= {"box": [x0 - 140, y0 - 120, x1 - 140, y1 - 120], "box_source": "by hand"}
    x0, y0, x1, y1 = records[8]["box"]
    records[8] |= {"box": [x0 - 250, y0 - 250, x1 + 250, y1 + 250], "roll": -100.0}
    theirs = run("predict", *MAPS_AS_THE_GRAPH, stdin=records)
    ours = run("predict", box_onnx, "--batch-size", 4, stdin=records)
    assert ours.returncode == theirs.returncode == 1
    assert_same(parse(ours.stdout), parse(theirs.stdout))
    said = theirs.stderr.splitlines()[1:]  # the first says that the network in the box is taken
    assert sorted(ours.stderr.splitlines()) == sorted(said)
    assert 0.0 in parse(ours.stdout)[7]["score"]  # of points outside the image


@pytest.mark.parametrize("scored", [True, False])
def test_a_network_has_scores_if_it_has_them_in_torch(few, nose_pair, tmp_path, scored):
    path, file = nose_pair
    if not scored:
        path = untrained(tmp_path / "n.safetensors")
        file = tmp_path / "n.onnx"
        export(checkpoint.load(str(path)), file)
    ours = parse(run("predict", file, stdin=few).stdout)
    assert_same(ours, parse(run("predict", path, *AS_THE_GRAPH, stdin=few).stdout))
    assert all(("score" in record) == scored for record in ours)


def test_of_several_files_the_mean_is_taken(few, nose_pair, box_onnx):
    alone = [parse(run("predict", name, stdin=few).stdout) for name in (nose_pair[1], box_onnx)]
    both = parse(run("predict", nose_pair[1], box_onnx, stdin=few).stdout)
    for found, one, other in zip(both, *alone, strict=True):
        wanted = np.mean([one["pred"], other["pred"]], axis=0)
        np.testing.assert_allclose(found["pred"], wanted, atol=1e-6)


def test_neither_torch_nor_what_a_run_does_not_use_is_imported(few, box_onnx):
    code = (
        "import os, sys\n"
        f"sys.argv = ['kp-predict', {str(box_onnx)!r}]\n"
        "heavy = {'torch', 'torchvision', 'onnx', 'rich', 'matplotlib', 'cv2', 'safetensors'}\n"
        "from kptools.cli import predict\n"
        "leave = os._exit\n"
        "os._exit = lambda status: leave(len(heavy & set(sys.modules)) * 10 + status)\n"
        "predict.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], input=lines(few[:1]), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert "pred" in parse(done.stdout)[0]


def test_the_same_bytes_with_any_threads_and_workers(few, box_onnx):
    options = [("--threads", 1, "--workers", 1), ("--threads", 3, "--workers", 2)]
    one, other = (run("predict", box_onnx, *words, stdin=few).stdout for words in options)
    assert one == other
    assert len(parse(one)) == len(few)


def test_a_finished_record_is_not_held_back(few, nose_pair, tmp_path):
    process = start("predict", nose_pair[1], "--batch-size", 4, cwd=tmp_path)
    came: queue.Queue[bytes] = queue.Queue()
    reader = threading.Thread(target=lambda: [came.put(line) for line in process.stdout])
    reader.start()
    try:
        for begin, end in ((0, 4), (4, 9)):  # one more than a batch, and then none for a while
            process.stdin.write(lines(few[begin:end]))
            process.stdin.flush()
            for _ in range(4):
                came.get(timeout=60)
    finally:
        process.stdin.close()
        reader.join(timeout=60)
    assert process.wait(timeout=60) == 0
    assert came.qsize() == 1


def test_resume_goes_on_with_the_same_file_alone(few, nose_pair, box_onnx, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(lines(few))
    words = ("-o", "out.jsonl", "in.jsonl")
    assert run("predict", nose_pair[1], *words, cwd=tmp_path).returncode == 0
    assert run("predict", nose_pair[1], *words, "--resume", cwd=tmp_path).returncode == 0
    again = run("predict", box_onnx, *words, "--resume", cwd=tmp_path)
    assert again.returncode == 3
    assert b"checkpoint" in again.stderr


@pytest.mark.parametrize("name", ["brightness", "blur", "noise", "erase"])
def test_a_policy_that_it_cannot_show_fails_the_record(few, nose_pair, name, quick):
    records = [few[0] | {"augment": [{"seed": 1, name: 0.1}]}]
    records.append(few[1] | {"augment": [{"seed": 1, name: 0, "shift": 0.1}]})
    done = quick("predict", nose_pair[1], stdin=records)
    assert done.returncode == 1
    failed, fine = parse(done.stdout)
    assert failed["status"] == "bad_record"
    assert f"{name} is not for ONNX files; use the .safetensors checkpoint" in failed["error"]
    assert "pred" not in failed
    assert len(failed["mean"]) == len(fine["pred"]) == 68


@pytest.mark.parametrize(
    "words",
    [
        ("--decode", "softargmax"),
        ("--heatmaps", "maps"),
        ("--passes", 2),
        ("--flip",),
        ("--shape-prior",),
        ("--precision", "bf16"),
        ("--precision", "tf32"),
        ("--device", "cuda"),
        ("--device", "mps"),
    ],
)
def test_an_option_that_it_cannot_follow_is_refused(words, few, nose_pair, quick):
    done = quick("predict", nose_pair[1], *words, stdin=few)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words[0].encode() in done.stderr
    assert b"use the .safetensors checkpoint" in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_an_option_that_asks_for_what_it_does_is_fine(few, nose_pair, quick):
    words = ("--passes", 1, "--no-flip", "--no-shape-prior", "--device", "cpu")
    done = quick("predict", nose_pair[1], *words, "--precision", "fp32", stdin=few)
    assert done.returncode == 0


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_mean_is_not_of_a_checkpoint_and_an_onnx_file(order, few, nose_pair, quick):
    done = quick("predict", *(nose_pair[i] for i in order), stdin=few)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"n.safetensors is no ONNX file" in done.stderr


def test_files_of_two_schemes_have_no_mean(few, nose_pair, tmp_path, quick):
    _, other = exported(tmp_path, "imm58")
    done = quick("predict", nose_pair[1], other, stdin=few)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"a mean is of one scheme" in done.stderr


def test_an_onnx_file_is_not_exported_again(nose_pair, tmp_path, quick):
    done = quick("predict", nose_pair[1], "--export", tmp_path / "again.onnx")
    assert done.returncode == 2
    assert b"is an ONNX file already" in done.stderr


def without_metadata(model):
    del model.metadata_props[:]


def of_the_future(model):
    (entry,) = (e for e in model.metadata_props if e.key == "kptools")
    entry.value = json.dumps(json.loads(entry.value) | {"version": 99})


def of_no_version(model):
    (entry,) = (e for e in model.metadata_props if e.key == "kptools")
    entry.value = json.dumps({"model": json.loads(entry.value)["model"]})


def of_no_json(model):
    (entry,) = (e for e in model.metadata_props if e.key == "kptools")
    entry.value = "[1"


def of_another_input(model):
    (entry,) = (e for e in model.metadata_props if e.key == "kptools")
    meta = json.loads(entry.value)
    meta["model"]["input"]["size"] = [32, 32]
    entry.value = json.dumps(meta)


def of_another_count(model):
    (entry,) = (e for e in model.metadata_props if e.key == "kptools")
    meta = json.loads(entry.value)
    meta["model"] |= {"count": 2, "mean": meta["model"]["mean"][:2], "scheme": "mine"}
    entry.value = json.dumps(meta)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (without_metadata, b"is an ONNX file, but not of kptools; kp-predict --export makes one"),
        (of_no_json, b"is an ONNX file, but not of kptools"),
        (of_the_future, b"is a checkpoint of version 99"),
        (of_no_version, b"is a checkpoint of version None"),
        (of_another_input, b"is broken: its graph is not as its metadata says"),
        (of_another_count, b"is broken: it does not give 2 points a face"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_one_line(
    change, reason, few, nose_pair, tmp_path, quick
):
    file = changed(nose_pair[1], tmp_path / "other.onnx", change)
    plain = [{k: v for k, v in r.items() if k not in ("points", "scheme")} for r in few]
    done = quick("predict", file, stdin=plain)
    assert (done.returncode, done.stdout) == (3, b"")
    assert reason in done.stderr
    assert done.stderr.count(b"\n") == 1


def test_a_damaged_file_is_one_line(few, nose_pair, tmp_path):
    data = nose_pair[1].read_bytes()
    broken = {"empty": b"", "cut": data[: len(data) // 2], "text": b"hello " * 100}
    for name, content in broken.items():
        (tmp_path / f"{name}.onnx").write_bytes(content)
    os.mkfifo(tmp_path / "fifo.onnx")
    (tmp_path / "folder.onnx").mkdir()
    for name in (*broken, "fifo", "folder", "gone"):
        done = run("predict", tmp_path / f"{name}.onnx", stdin=few)
        assert (done.returncode, done.stdout) == (3, b""), name
        assert done.stderr.count(b"\n") == 1, done.stderr
        assert f"{name}.onnx".encode() in done.stderr


def test_without_onnxruntime_it_says_what_to_install(few, nose_pair, monkeypatch, quick):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    done = quick("predict", nose_pair[1], stdin=few)
    assert done.returncode == 3
    assert b"pip install onnxruntime" in done.stderr


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("zoom", [2.0, 0.9, 0.5, 0.2])
def test_the_warp_by_numpy_is_that_of_torch(tmp_path, channels, zoom):
    from PIL import Image

    picture = Image.open(noise(tmp_path / "a.png", (150, 110)))
    pixels = np.array(picture.convert("L" if channels == 1 else "RGB")).reshape(110, 150, channels)
    turned = g.about(g.rotation(0.6), 70, 60)
    m = g.compose(turned, g.translation(12, -20), g.scaling(1 / zoom, 0.7 / zoom))
    wanted = warp(torch.from_numpy(pixels)[None], [m], (64, 48))[0] * 255 + FILL
    found = array_warp.warp(pixels, m, (64, 48))
    assert found.shape == (48, 64, channels)
    # torch's places are float32: off by up to 1e-5 pixels, where neighbours differ by 100 levels
    off = np.abs(found.transpose(2, 0, 1) - wanted.numpy())
    assert off.max() < 2e-3
    assert off.mean() < 1e-4
    assert np.ptp(found) > 50


def test_a_network_of_several_schemes_gives_each_face_its_own(tmp_path, face):
    model, graph = exported(tmp_path, "kaggle15+ibug68")
    noise(face()["image"])
    photo = {key: value for key, value in face().items() if key not in ("points", "scheme")}
    both = [face(), photo]
    wanted, found = (
        parse(run("predict", path, *words, stdin=both).stdout)
        for path, words in ((model, AS_THE_GRAPH), (graph, ()))
    )
    assert [len(record["pred"]) for record in found] == [68, 15]
    assert_same(found, wanted)
