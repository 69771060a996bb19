"""Checkpoints: what is in them, and what is refused."""

import json
import re

import pytest
import torch
from conftest import run, train, untrained
from PIL import Image
from safetensors import safe_open

from kptools.errors import KptoolsError
from kptools.models import checkpoint
from kptools.storage import files
from kptools.storage.tensors import write_tensors


def test_a_checkpoint_has_no_time_in_it_and_one_string_of_metadata(drawn, tmp_path):
    train(tmp_path, drawn, epochs=1)
    with safe_open(tmp_path / "nose.safetensors", "pt") as handle:
        meta = handle.metadata()
    assert list(meta) == ["kptools"]
    text = meta["kptools"]
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert "seconds" not in text
    assert "img_s" not in text


def test_a_checkpoint_that_is_none_is_refused(drawn, face, tmp_path, quick):
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
        "version": re.sub(rb'(\\"version\\":)\d', rb"\g<1>9", good),
        "scheme": good.replace(b'\\"count\\":68', b'\\"count\\":67'),
    }
    for name, data in bad.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(data)
        done = quick("predict", path, stdin=[face(0)])
        assert done.returncode == 3, (name, done.stderr)
        assert len(done.stderr.splitlines()) == 1
        assert name.encode() in done.stderr
    assert quick("predict", tmp_path / "gone").returncode == 3


def test_a_pipe_given_as_a_checkpoint_is_refused(face, fifo):
    pipe = fifo.rename(fifo.with_name("m.safetensors"))
    done = run("predict", pipe, stdin=[face(0)])
    assert done.returncode == 3
    assert b"not a regular file" in done.stderr
    assert run("viz", "filters", pipe).returncode == 3


def test_a_photo_given_as_a_checkpoint_is_called_one(tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.safetensors", "JPEG")
    done = run("predict", "a.safetensors", stdin=b"", cwd=tmp_path)
    assert done.returncode == 3
    assert b"it looks like a JPEG picture" in done.stderr


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    loaded = checkpoint.load(str(untrained(tmp_path / "m.safetensors")))
    next(iter(loaded.weights.values()))[0] = float("inf")
    with pytest.raises(KptoolsError, match="not finite"):
        checkpoint.save(tmp_path / "n.safetensors", loaded)
    assert not (tmp_path / "n.safetensors").exists()


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
