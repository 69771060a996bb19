"""kp-predict and its predictor: a prediction a face, in order, or a failure."""

import queue
import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import forked, lines, parse, run, start, tiny_unet, untrained

from kptools import runtime
from kptools.augment.transform import Transform
from kptools.errors import KptoolsError
from kptools.inference.prediction import prediction
from kptools.inference.predictor import Predictor
from kptools.inference.torch_engine import TorchEngine
from kptools.models import checkpoint
from kptools.models.backbones.nose import Nose
from kptools.records.face import Face
from kptools.records.item import Item
from kptools.records.stream import Stream
from kptools.specs import InputSpec


def on_cpu(network, model, batch):
    engine = TorchEngine(network, model, device=torch.device("cpu"), precision="fp32")
    return Predictor(engine, batch=batch, workers=1)


def test_memory_that_runs_out_names_the_batch_to_try(drawn, tmp_path):
    class Vast(Nose):
        def forward(self, x):
            return torch.empty(len(x), 1 << 48)

    model = checkpoint.load(str(untrained(tmp_path / "m.safetensors"))).model
    predictor = on_cpu(Vast(68, (16, 16)), model, batch=32)
    items = [Item(record, "in.jsonl", 1) for record in parse(drawn)]
    told = pytest.raises(KptoolsError, match="out of memory at a batch of 32; try --batch-size 16")
    with told, runtime.report_out_of_memory(32):
        list(predictor.run(items, lambda item, error: item, lambda: True))


@pytest.mark.parametrize(
    ("streams", "ready", "left"),
    [
        (1, True, [0, 0, 0, 0, 0, 0, 2, 2, 4]),
        (2, True, [0, 0, 0, 0, 0, 0, 0, 0, 2]),
        (2, False, [0, 0, 2, 2, 4, 4, 6, 6, 8]),
    ],
)
def test_faces_are_decoded_ahead_only_where_that_keeps_no_line_back(
    drawn, tmp_path, streams, ready, left
):
    loaded = checkpoint.load(str(untrained(tmp_path / "m.safetensors")))
    predictor = on_cpu(loaded.network(), loaded.model, batch=2)
    predictor.engine.streams = streams
    records = (parse(drawn) * 9)[:9]
    out, before_each = [], []

    def items():
        for number, record in enumerate(records, start=1):
            before_each.append(len(out))
            yield Item(record, "in.jsonl", number)

    for item in predictor.run(items(), lambda item, error: item, lambda: ready):
        out.append(item.line)
    assert out == list(range(1, 10))
    assert before_each == left


def test_batches_that_are_worked_on_at_once_come_out_in_order_and_the_same(drawn, tmp_path):
    loaded = checkpoint.load(str(untrained(tmp_path / "m.safetensors")))
    records = [record for _ in range(3) for record in parse(drawn)]
    records[4] |= {"image": str(tmp_path / "gone.png")}
    records[7] |= {"box": [0, 0]}
    threads = torch.get_num_threads()

    def predicted(streams):
        predictor = on_cpu(loaded.network(), loaded.model, batch=3)
        predictor.engine.streams = streams
        items = [Item(dict(record), "in.jsonl", n) for n, record in enumerate(records, start=1)]
        failed = []

        def fail(item, error):
            failed.append(item.line)

        done = list(predictor.run(items, fail, lambda: True))
        assert [item.line for item in done] == list(range(1, len(records) + 1))
        assert failed == [5, 8]
        return [item.record for item in done]

    assert predicted(3) == predicted(1)
    assert torch.get_num_threads() == threads


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


def test_a_face_whose_maps_are_nan_fails(few, tmp_path):
    network, model = tiny_unet(tmp_path)
    network.head.bias.data[3] = float("nan")
    predictor = on_cpu(network, model, batch=2)
    (tmp_path / "in.jsonl").write_bytes(lines(few[:3]))
    stream = Stream([str(tmp_path / "in.jsonl")], str(tmp_path / "out.jsonl"))
    for item in predictor.run(stream, stream.fail, stream.ready):
        stream.write(item)
    assert stream.close() == 1
    out = parse((tmp_path / "out.jsonl").read_bytes())
    assert [r["status"] for r in out] == ["bad_points"] * 3
    assert all("score" not in r and "pred" not in r for r in out)


def test_a_point_outside_the_image_has_a_score_of_0():
    record = {"image": "a.png", "box": [0, 0, 40, 40], "size": [40, 30], "scheme": "mine"}
    spec = InputSpec((32, 32), 0.0, grey=True)
    unit = np.array([[0.5, 0.5], [0.5, 0.73], [0.5, 0.75], [-0.1, 0.5]])
    scores = np.array([0.9, 0.8, 0.7, 0.6])

    def score(record):
        face = Face.parse(record)
        return prediction(face, unit, scores, Transform(), spec, np.zeros((4, 2)))["score"]

    assert score(record) == [0.9, 0.8, 0.0, 0.0]  # the last row of pixels ends at 29.5
    del record["size"]
    assert score(record) == scores.tolist()  # nobody knows


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


def scoring(path, factor=1.0):
    """An untrained network that gives scores; `factor` moves its points."""
    loaded = checkpoint.load(str(untrained(path)))
    for name, tensor in loaded.weights.items():
        if name.endswith("distance_weight"):
            tensor.fill_(0.01)
        tensor.mul_(factor)
    loaded.save(path)
    return path


def test_of_several_networks_the_mean_of_their_points_and_scores_is_taken(drawn, tmp_path):
    one, other = scoring(tmp_path / "a.safetensors"), scoring(tmp_path / "b.safetensors", 1.5)
    records = parse(drawn)[:5]
    records[2] |= {"image": str(tmp_path / "gone.png")}
    alone = [parse(run("predict", name, stdin=records).stdout) for name in (one, other)]
    result = run("predict", one, other, "--batch-size", 2, stdin=records)
    assert result.returncode == 1
    both = parse(result.stdout)
    assert [record["id"] for record in both] == [record["id"] for record in records]
    assert both[2]["status"] == "missing"
    for found, a, b in zip(both, *alone, strict=True):
        if "status" in found:
            assert "pred" not in found
            continue
        assert a["pred"] != b["pred"]
        for key in ("pred", "score"):
            np.testing.assert_allclose(found[key], np.mean([a[key], b[key]], axis=0), atol=1e-4)


def test_networks_of_two_schemes_have_no_mean(drawn, tmp_path):
    one = untrained(tmp_path / "a.safetensors")
    other = untrained(tmp_path / "b.safetensors", "imm58")
    result = run("predict", one, other, stdin=drawn)
    assert (result.returncode, result.stdout) == (2, b"")
    assert "imm58" in result.stderr.decode()
    assert len(result.stderr.splitlines()) == 1


def test_a_checkpoint_after_records_is_refused(drawn, tmp_path):
    (tmp_path / "faces.jsonl").write_bytes(drawn)
    result = run("predict", tmp_path / "faces.jsonl", untrained(tmp_path / "a.safetensors"))
    assert result.returncode == 2
    assert result.stderr.decode().strip().endswith("comes after records; checkpoints come first")


def test_several_networks_hold_no_finished_record_back(drawn, tmp_path):
    networks = [untrained(tmp_path / f"{name}.safetensors") for name in "ab"]
    (tmp_path / "in.jsonl").write_bytes(drawn)
    rows = (drawn.splitlines(keepends=True) * 2)[:13]
    rows = [row.replace(b'"id":"', f'"id":"{n}-'.encode()) for n, row in enumerate(rows)]
    process = start("predict", *networks, "--batch-size", 4, cwd=tmp_path, python=forked())
    came: queue.Queue[bytes] = queue.Queue()
    reader = threading.Thread(target=lambda: [came.put(line) for line in process.stdout])
    reader.start()
    try:
        for begin, end in ((0, 4), (4, 9)):  # one more than a batch, and then none for a while
            process.stdin.write(b"".join(rows[begin:end]))
            process.stdin.flush()
            for _ in range(4):
                came.get(timeout=60)
        process.stdin.write(b"".join(rows[9:]))
    finally:
        process.stdin.close()
        reader.join(timeout=60)
    assert process.wait(timeout=60) == 0
    assert came.qsize() == 5


def test_resume_refuses_other_passes_of_any_of_several_networks(drawn, tmp_path):
    networks = [untrained(tmp_path / f"{name}.safetensors") for name in "ab"]
    loaded = checkpoint.load(str(networks[1]))
    loaded.model = replace(loaded.model, passes=2)
    loaded.save(networks[1])
    (tmp_path / "in.jsonl").write_bytes(drawn)
    words = (*networks, "-o", "out.jsonl", "in.jsonl")
    assert run("predict", *words, cwd=tmp_path).returncode == 0
    again = run("predict", *words, "--resume", "--passes", 1, cwd=tmp_path)
    assert again.returncode == 3
    assert b"passes" in again.stderr
