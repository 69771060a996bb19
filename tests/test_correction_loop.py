"""The loop of docs/correcting.md: predict, select, correct in the page, train, and be better."""

from importlib import import_module
from pathlib import Path

from conftest import parse, run, scores

POINTS = (30, 48, 54)  # the nose's tip and the corners of the mouth
FP32 = ("--precision", "fp32")


def test_faces_corrected_in_the_page_lower_the_error_on_others_and_uncorrected_ones_do_not(
    browser, drawn, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(Path(__file__).with_name("benchmarks"))
    script = import_module("correction_loop")  # it drags points in the page
    faces = [_of_few_points(record) for record in parse(drawn)]
    first, pool, others = faces[:14], faces[14:46], faces[46:]
    first = [_marked_elsewhere(record) for record in first]
    words = ("--arch", "unet", "--width", 4, "--stride", 2, "--input-size", "32x32")
    _learn(tmp_path, first, "first", *words, "--batch-size", 4, "--epochs", 12)
    before = _error(tmp_path, "first", others)

    unknown = [script.without_truth(record) for record in pool]
    predicted = run("predict", "first.safetensors", stdin=unknown, cwd=tmp_path).stdout
    chosen = run("prep", "select", "--count", 30, stdin=predicted).stdout
    (tmp_path / "chosen.jsonl").write_bytes(chosen)
    truth = {record["id"]: record["points"] for record in pool}
    script.correct(browser, tmp_path / "chosen.jsonl", tmp_path / "corrected.jsonl", truth)
    corrected = parse((tmp_path / "corrected.jsonl").read_bytes())
    assert len(corrected) == 30
    assert script.farthest(corrected, truth) < 1  # pixels of the file

    more = ("--init", "first.safetensors", "--epochs", 16)
    _learn(tmp_path, corrected, "better", *more)
    assert _error(tmp_path, "better", others) < 0.85 * before
    guessed = [record | {"points": record["pred"]} for record in corrected]
    _learn(tmp_path, guessed, "same", *more)
    assert _error(tmp_path, "same", others) > 0.85 * before


def _of_few_points(record):
    """A record of three of its 68 points, without its policy."""
    points = [record["points"][i] for i in POINTS]
    scheme = "ibug68:" + ",".join(map(str, POINTS))
    kept = {key: record[key] for key in record if key not in ("augment", "visible")}
    return kept | {"points": points, "scheme": scheme, "split": "train"}


def _marked_elsewhere(record):
    """The record with its points a fifth of the box further right: a network that learns from such
    faces has much to be corrected, however short the training is."""
    x0, _, x1, _ = record["box"]
    return record | {"points": [[x + 0.2 * (x1 - x0), y] for x, y in record["points"]]}


def _learn(folder, records, name, *words):
    """Train on all of these records, in the same numbers on each machine."""
    common = ("--lr", 4e-3, "--threads", 1, "--val-fraction", 0, "--keep", "last", *FP32)
    output = ("-o", f"{name}.safetensors")
    done = run("train", *words, *common, *output, stdin=records, cwd=folder)
    assert done.returncode == 0, done.stderr


def _error(folder, name, records):
    """The NME of a network on these records."""
    words = (f"{name}.safetensors", "--threads", 1, *FP32)
    return scores(run("predict", *words, stdin=records, cwd=folder).stdout)["nme"]
