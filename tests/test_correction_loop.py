"""The loop of docs/correcting.md: predict, select, correct in the page, train, and be better."""

from importlib import import_module
from pathlib import Path

from conftest import parse, run, scores

POINTS = "30,36,45,48,54"  # the nose's tip, and corners of the eyes and of the mouth


def test_faces_corrected_in_the_page_lower_the_error_on_others_and_uncorrected_ones_do_not(
    browser, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(Path(__file__).with_name("benchmarks"))
    script = import_module("correction_loop")  # it drags points in the page
    made = run("prep", "synth", "--count", 100, "--out", tmp_path / "f", "--points", POINTS)
    drawn = parse(made.stdout)
    first, pool, others = drawn[:24], drawn[24:64], drawn[64:]
    words = ("--width", 4, "--stride", 2, "--batch-size", 4, "--lr", 2e-3)
    _learn(tmp_path, first, "first", "--arch", "unet", "--input-size", "48x48", *words)
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

    _learn(tmp_path, corrected, "better", "--init", "first.safetensors")
    assert _error(tmp_path, "better", others) < 0.85 * before
    guessed = [record | {"points": record["pred"]} for record in corrected]
    _learn(tmp_path, guessed, "same", "--init", "first.safetensors")
    assert _error(tmp_path, "same", others) > 0.95 * before


def _learn(folder, records, name, *words):
    """Train on all of these records."""
    common = ("--epochs", 20, "--threads", 1, "--val-fraction", 0, "--keep", "last")
    output = ("-o", f"{name}.safetensors")
    done = run("train", *words, *common, *output, stdin=records, cwd=folder)
    assert done.returncode == 0, done.stderr


def _error(folder, name, records):
    """The NME of a network on these records."""
    words = (f"{name}.safetensors", "--threads", 1)
    return scores(run("predict", *words, stdin=records, cwd=folder).stdout)["nme"]
