"""kp-viz: what is drawn lies where the record says, and records pass through untouched."""

import io
import math
import os
import re
import subprocess
import sys
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from conftest import in_process, nose, run
from PIL import Image

from kptools import geometry as g
from kptools.cli.viz import tool
from kptools.errors import RecordError
from kptools.models.build import build
from kptools.models.checkpoint import Checkpoint, save
from kptools.records import policy
from kptools.records.item import Item
from kptools.specs import InputSpec, ModelSpec
from kptools.storage.tensors import tensors_of
from kptools.viz import colours, faces, filters, heatmaps, marks, plots, runs, sheet, sources, views
from kptools.viz.text import elide, font, text_width
from kptools.viz.views import Shown, View

TRUTH = np.array(colours.TRUTH, dtype=float)
PREDICTION = np.array(colours.PREDICTION, dtype=float)


Done = subprocess.CompletedProcess[bytes]


def viz(*arguments: str, lines: bytes = b"", cwd: Path) -> Done:
    """Run kp-viz in this process."""
    with chdir(cwd):
        return in_process(tool, *arguments, stdin=lines)


def face(folder: Path, name: str = "a", **keys: Any) -> dict[str, Any]:
    """A record of a grey picture of 60x40 whose box is [10, 4, 34, 28]."""
    path = folder / f"{name}.png"
    if not path.exists():
        Image.new("RGB", (60, 40), (150, 150, 150)).save(path)
    return {
        "image": str(path),
        "id": name,
        "size": [60, 40],
        "box": [10.0, 4.0, 34.0, 28.0],
        "scheme": "nose1",
        "points": [[20.25, 13.5]],
        **keys,
    }


def dump(*records: dict[str, Any]) -> bytes:
    return b"".join(orjson.dumps(record) + b"\n" for record in records)


def centroid(picture: Image.Image, colour: np.ndarray[Any, Any]) -> tuple[float, float]:
    """Where the disc of a colour lies, pixels."""
    pixels = np.asarray(picture.convert("RGB"), dtype=float)
    near = np.abs(pixels - colour).sum(axis=2) < 60
    assert near.any()
    rows, columns = np.nonzero(near)
    return float(columns.mean()), float(rows.mean())


def drawn(record: dict[str, Any], view: View) -> Image.Image:
    return faces.marked(views.parse(record, view), see(record, view), view)


def see(record: dict[str, Any], view: View) -> Shown:
    return views.show(views.parse(record, view), view)


# Where things land


@pytest.mark.parametrize(
    ("view", "expected"),
    [
        # 24 pixels of box and 6 of margin on each side, on 216 pixels: 6 times
        (View((216, 216)), (6 * (20.75 - 4.5) - 0.5, 6 * (14.0 + 1.5) - 0.5)),
        (View((240, 160), whole=True), (4 * 20.75 - 0.5, 4 * 14.0 - 0.5)),
        # the box alone on 80x40, enlarged 2.5 times, each axis stretched
        (
            View((200, 200), network=InputSpec((80, 40), 0.0, True)),
            (2.5 * 80 / 24 * (20.75 - 10.5) - 0.5, 2.5 * 40 / 24 * (14.0 - 4.5) - 0.5),
        ),
    ],
)
def test_a_red_disc_lands_where_the_truth_is(
    tmp_path: Path, view: View, expected: tuple[float, float]
) -> None:
    assert centroid(drawn(face(tmp_path), view), TRUTH) == pytest.approx(expected, abs=0.3)


def test_the_disc_covers_the_spot_of_the_picture_that_the_point_names(tmp_path: Path) -> None:
    pixels = np.full((40, 60, 3), 100, np.uint8)
    pixels[14, 21] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    record = face(
        tmp_path, points=[[21.0, 14.0]], augment=[{"seed": 3, "rotate": 40, "shift": 0.2}]
    )
    view = View((216, 216), margin=1.0)
    bare = np.asarray(see(record, view).picture, dtype=float)[..., 0] - 100
    bright = np.where(bare > 30, bare, 0)
    rows, columns = np.mgrid[: bright.shape[0], : bright.shape[1]]
    spot = ((columns * bright).sum() / bright.sum(), (rows * bright).sum() / bright.sum())
    assert centroid(drawn(record, view), TRUTH) == pytest.approx(spot, abs=0.6)


def test_a_flip_mirrors_the_picture_and_swaps_the_points(tmp_path: Path) -> None:
    points = [[12.0 + 0.3 * k, 6.0 + 0.2 * k] for k in range(15)]
    record = face(tmp_path, scheme="kaggle15", points=points, augment=[{"seed": 0, "flip": 1.0}])
    seen = see(record, View((216, 216)))
    assert seen.transform.flipped
    truth = g.from_list(points)
    placed = seen.place(truth)
    # the left eye's centre of the mirrored face (0) is where the right one's (1) was mirrored to
    swap = policy.swap_table(record)
    mirrored = truth * (-1, 1) + (2 * 22.0, 0)  # about the box's centre
    expected = (mirrored[list(swap)] + 0.5 - (4.5, -1.5)) * 6 - 0.5
    np.testing.assert_allclose(placed, expected, atol=1e-6)
    assert seen.transform.rename(list(range(15))) == list(swap)


def test_truth_and_prediction_of_one_point_are_joined(tmp_path: Path) -> None:
    picture = drawn(face(tmp_path, pred=[[28.0, 13.5]]), View((216, 216)))
    x0, y = centroid(picture, TRUTH)
    x1, _ = centroid(picture, PREDICTION)
    assert x1 - x0 == pytest.approx(6 * 7.75, abs=0.5)
    between = np.asarray(picture)[round(y), round((x0 + x1) / 2)]
    assert (between > 185).all()  # on 150


def test_a_cell_is_not_distorted(tmp_path: Path) -> None:
    wide = face(tmp_path, box=[-0.5, -0.5, 59.5, 39.5], box_source="image")
    assert see(wide, View()).picture.size == (224, 149)
    square = face(tmp_path)
    assert see(square, View()).picture.size == (224, 224)
    matrix = see(square, View()).matrix
    assert matrix[0, 0] == pytest.approx(matrix[1, 1])


def test_what_lies_far_outside_is_left_out_and_harms_nothing() -> None:
    picture = Image.new("RGB", (64, 64), (9, 9, 9))
    far = np.array([[1e9, -1e9], [math.nan, math.nan], [-1e12, 30.0]])
    marked = marks.mark(picture, [marks.Layer(far, colours.TRUTH, None, ((0, 1), (0, 2)))])
    assert marked.size == (64, 64)
    assert marks.clip((-10, 5, 30, 5), (20, 10)) == (0, 5, 20, 5)
    assert marks.clip((-10, 50, 30, 50), (20, 10)) is None


# Records and files


def test_records_pass_through_byte_by_byte(tmp_path: Path) -> None:
    good = orjson.dumps(face(tmp_path)).replace(b'"id":', b' "odd" : 1.50, "id":')
    lines = good + b"\n" + b'{"id":"x","status":"no_face","error":"none"}\n' + good + b"\n"
    done = viz("grid", lines=lines, cwd=tmp_path)
    assert done.stdout == lines
    assert done.returncode == 1  # a failure came in
    assert Image.open(tmp_path / "grid.png").width > 100
    assert not list(tmp_path.glob("*.part"))


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    lines = dump(face(tmp_path, pred=[[21.0, 15.0]]), face(tmp_path, "b"))
    for name in ("1.png", "2.png"):
        viz("grid", "-o", name, lines=lines, cwd=tmp_path)
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()


@pytest.mark.parametrize("command", ["grid", "ced", "heatmap", "report"])
def test_no_records_are_one_line_and_no_file(tmp_path: Path, command: str) -> None:
    done = viz(command, cwd=tmp_path)
    assert done.returncode == 0
    assert done.stderr.count(b"\n") == 1
    assert b"no records" in done.stderr
    assert not list(tmp_path.iterdir())


def test_an_image_that_is_missing_is_told_once_and_has_a_cell(tmp_path: Path) -> None:
    lines = dump(face(tmp_path), {**face(tmp_path, "b"), "image": "nowhere.png"})
    done = viz("grid", lines=lines, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stdout == lines
    assert done.stderr.count(b"stdin:2: nowhere.png does not exist") == 1
    assert (tmp_path / "grid.png").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("grid", "-o", "x.txt"),
        ("grid", "-o", "nowhere/x.png"),
        ("grid", "--sort", "up"),
        ("grid", "--size", "4x4"),
        ("grid", "--whole", "--arch", "nose"),
        ("grid", "--arch", "resnot"),
        ("ced", "--norm", "x"),
        ("ced", "--threshold", "0"),
        ("curves",),
        ("curves", "a.log.jsonl", "--metric", "x"),
    ],
)
def test_a_wrong_use_is_one_line_and_exit_2(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = viz(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, kptools.cli.viz\n"
        "print([m for m in ('torch','numpy','PIL','rich','matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_full_disk_is_exit_3_and_a_reader_that_went_away_is_silent(tmp_path: Path) -> None:
    lines = dump(*[face(tmp_path)] * 3)
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kptools.cli.viz", "ced"],
            input=lines, stdout=full, stderr=subprocess.PIPE, cwd=tmp_path, check=False,
        )  # fmt: skip
    assert done.returncode == 3
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-m", "kptools.cli.viz", "grid"],
            input=lines, stdout=gone, stderr=subprocess.PIPE, cwd=tmp_path, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (141, b"")


# Which faces


def _pick(errors: list[float], count: int, sort: str) -> faces.Pick:
    pick = faces.Pick(count, sort)
    for number, error in enumerate(errors):
        pick.add(Item({"id": str(number)}, "stdin", number, b"x"), error)
        assert len(pick._held) <= count
    return pick


def test_only_as_many_faces_are_held_as_are_shown() -> None:
    errors = [0.3, 0.1, math.nan, 0.5, 0.1, 0.4, 0.5]
    ids = {
        sort: [item.record["id"] for item in _pick(errors, 3, sort).items]
        for sort in ("none", "worst", "best")
    }
    assert ids == {"none": ["0", "1", "2"], "worst": ["3", "6", "5"], "best": ["1", "4", "0"]}
    assert all(item.raw is None for item in _pick(errors, 3, "worst").items)
    assert _pick(errors, 3, "best").note == (
        "3 of 7 faces, smallest errors first; 1 without an error"
    )


def test_captions_say_the_error_and_its_norm_or_why_there_is_none(tmp_path: Path) -> None:
    record = face(tmp_path, pred=[[23.25, 17.5]])
    assert faces.caption(record, None)[1] == "NME 20.83 % box"
    assert faces.caption(record, "pixels")[1] == "5.00 px"
    assert faces.caption(face(tmp_path), None)[1] == "no prediction"
    assert faces.caption({"id": "x", "status": "no_face"}, None) == ("x", "no_face")
    assert faces.caption({**record, "copy": 2, "points": [None]}, None) == (
        "a (copy 2)",
        "no truth",
    )


def test_a_long_id_loses_its_middle() -> None:
    letters = font(13)
    short = elide("a/very/long/" * 20 + "end", letters, 150)
    assert text_width(short, letters) <= 150
    assert short.startswith("a/very")
    assert short.endswith("end")


def test_many_cells_make_a_sheet_of_rows_without_overlap() -> None:
    cell = sheet.Cell(Image.new("RGB", (64, 48), (0, 0, 0)), ("name", "error"))
    picture = sheet.sheet([cell] * 7, sheet.Sheet(3, legend=[("truth", colours.TRUTH)]))
    black = (np.asarray(picture) == 0).all(axis=2)
    assert black.sum() >= 7 * 64 * 48
    assert picture.width == 3 * 64 + 4 * 10


# Curves


def _log(path: Path, epochs: int, **more: float) -> None:
    with open(path, "wb") as handle:
        for epoch in range(1, epochs + 1):
            entry = {"epoch": epoch, "lr": 1e-3 if epoch < 3 else 3e-4, "train_loss": 1 / epoch}
            handle.write(orjson.dumps({**entry, **more}) + b"\n")


def test_a_rate_that_falls_in_steps_is_marked_and_one_that_falls_all_the_time_is_not() -> None:
    def marks(rates: list[float]) -> int:
        log = [{"epoch": i, "train_loss": 1.0, "lr": rate} for i, rate in enumerate(rates, 1)]
        return sum(text.get_text().startswith("lr ") for text in axes_of(log).texts)

    def axes_of(log: list[dict[str, Any]]) -> Any:
        return plots.curves([runs.Run("a", log)]).axes[0]

    assert marks([1e-3] * 15 + [3e-4] * 15) == 1
    assert marks([1e-3 / epoch for epoch in range(1, 31)]) == 0
    assert marks([1e-3] * 10 + [1e-3 / epoch for epoch in range(2, 12)]) == 0
    assert marks([1e-3, 1e-4]) == 1


def test_curves_of_two_runs_and_a_checkpoint(tmp_path: Path) -> None:
    _log(tmp_path / "a.log.jsonl", 5, val_loss=0.5, val_nme=0.1, val_mae=3.0)
    (tmp_path / "b").mkdir()
    _log(tmp_path / "b" / "a.log.jsonl", 3)
    with open(tmp_path / "b" / "a.log.jsonl", "ab") as handle:
        handle.write(b'{"epoch": 4, "lr"')  # torn
    arguments = ("curves", "a.log.jsonl", "b/a.log.jsonl", "-o", "c.svg")
    done = viz(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    svg = (tmp_path / "c.svg").read_text()
    assert "b/a" in svg
    assert "lr 0.0003" in svg
    assert "best val 0.5 at epoch 1" in svg
    viz(*arguments, cwd=tmp_path)
    assert (tmp_path / "c.svg").read_text() == svg
    assert viz("curves", "b/a.log.jsonl", "--metric", "nme", cwd=tmp_path).returncode == 3


def test_the_curves_of_several_schemes_have_a_line_for_each(tmp_path: Path) -> None:
    of = {"val_nme": None, "val_nme_of": {"ibug68": 0.1, "cat5": 0.25}}
    _log(tmp_path / "both.log.jsonl", 3, **of)
    done = viz("curves", "both.log.jsonl", "--metric", "nme", "-o", "c.svg", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    svg = (tmp_path / "c.svg").read_text()
    assert "both, ibug68" in svg
    assert "both, cat5" in svg
    assert "best val 10 at epoch 1" in svg
    assert "best val 25 at epoch 1" in svg


def test_the_axis_is_logarithmic_where_the_range_is_wide() -> None:
    def scale(last: float, log: bool | None = None) -> str:
        run = runs.Run("a", [{"epoch": i, "train_loss": y} for i, y in enumerate((1.0, last))])
        return str(plots.curves([run], log=log).axes[0].get_yscale())

    assert [scale(0.5), scale(0.01), scale(0.5, True), scale(0.01, False)] == [
        "linear", "log", "log", "linear",
    ]  # fmt: skip


def test_a_log_that_is_none_is_exit_3(tmp_path: Path) -> None:
    (tmp_path / "a.log.jsonl").write_text("hello\nyou\n")
    (tmp_path / "b.log.jsonl").write_text("")
    (tmp_path / "c.safetensors").write_text("hello")
    for name in ("a.log.jsonl", "b.log.jsonl", "c.safetensors", "nowhere"):
        done = viz("curves", name, cwd=tmp_path)
        assert (done.returncode, done.stderr.count(b"\n")) == (3, 1)


def test_failures_count_in_the_cumulative_errors(tmp_path: Path) -> None:
    source = sources.Source("run")
    for x in (20.25, 21.45):  # 0 and 5 % of the box
        source.add(face(tmp_path, pred=[[x, 13.5]], mean=[[22.0, 16.0]]))
    source.pred.fail()
    axes = plots.ced([source], 0.08).axes[0]
    x, y = axes.lines[0].get_data()
    assert np.asarray(y)[-1] == pytest.approx(2 / 3)
    np.testing.assert_allclose(x, [0, 0, 5, 8], atol=1e-9)
    assert len(axes.lines) == 2  # and the mean shape


# Filters


def test_the_picture_of_filters_has_a_tile_for_each() -> None:
    weights = np.zeros((12, 1, 5, 5), np.float32)
    weights[:, 0, 2, 2] = 1
    weights[:, 0, 0, 0] = -0.5
    picture = filters.picture(filters.Convolution("conv", weights), "")
    pixels = np.asarray(picture.convert("L"))
    zoom = filters._zoom(5, 5, filters._columns(12))
    assert zoom * 5 >= 24
    assert (pixels == 128).sum() >= 12 * 23 * zoom**2  # 0 is grey
    assert (pixels == 64).sum() >= 12 * zoom**2


def test_deep_layers_have_a_row_a_filter_up_to_a_bound() -> None:
    layer = filters.Convolution("deep", np.ones((40, 30, 3, 3), np.float32))
    small, large = (filters.picture(layer, "", most) for most in (4, 16))
    assert small.width < large.width
    assert large.width < 16 * (3 * filters._zoom(3, 3, 16) + 6) + 80


def test_filters_of_a_checkpoint(tmp_path: Path) -> None:
    network = build("nose", 1, (80, 60))
    spec = InputSpec((80, 60), 0.0, grey=True)
    model = ModelSpec("nose", "nose1", 1, spec, ("image",), ((0.5, 0.5),))
    save(tmp_path / "nose.safetensors", Checkpoint(model, tensors_of(network)))
    done = viz("filters", "nose.safetensors", "--list", cwd=tmp_path)
    names = [line.split("\t")[0] for line in done.stdout.decode().splitlines()]
    assert len(names) > 1
    assert viz("filters", "nose.safetensors", "--layer", names[1], cwd=tmp_path).returncode == 0
    assert Image.open(tmp_path / "filters.png").size[0] > 200
    done = viz("filters", "nose.safetensors", "--layer", "no", cwd=tmp_path)
    assert done.returncode == 2
    assert names[0].encode() in done.stderr


# Heatmaps


def _maps(folder: Path, **keys: Any) -> dict[str, Any]:
    logits = np.full((1, 1, 12, 12), -9, np.float16)
    logits[0, 0, 3, 8] = 4
    np.save(folder / "m.npy", logits)
    entry = {"file": str(folder / "m.npy"), "index": 0, "matrix": [[2, 0, 11], [0, 2, 5]]}
    return face(folder, heatmap={**entry, **keys})


def test_a_peak_lies_where_its_matrix_says(tmp_path: Path) -> None:
    record = _maps(tmp_path)
    probability, matrix = heatmaps.read(record)
    assert probability.max() == pytest.approx(1 / (1 + math.exp(-4)))
    seen = see(record, View((216, 216)))
    heat = heatmaps.resample(probability, g.compose(seen.matrix, g.uncentred(matrix)), (216, 216))
    rows, columns = np.nonzero(heat > 0.9 * heat.max())
    # the map's (8, 3) is the file's (27, 11)
    expected = seen.place(np.array([[27.0, 11.0]]))[0]
    assert (columns.mean(), rows.mean()) == pytest.approx(tuple(expected), abs=0.6)


@pytest.mark.parametrize(
    "keys",
    [
        {"file": "nowhere.npy"},
        {"file": 3},
        {"index": 5},
        {"index": "0"},
        {"matrix": [[1, 0, 0]]},
        {"matrix": [[0, 0, 0], [0, 0, 0]]},
        {"matrix": [["a", 0, 0], [0, 1, 0]]},
    ],
)
def test_a_broken_heatmap_is_a_failure(tmp_path: Path, keys: dict[str, Any]) -> None:
    with pytest.raises(RecordError) as caught:
        heatmaps.read(_maps(tmp_path, **keys))
    assert caught.value.status in ("bad_record", "missing", "unreadable")


def test_a_broken_map_file_is_told_and_the_others_are_shown(tmp_path: Path) -> None:
    good = _maps(tmp_path)
    (tmp_path / "broken.npy").write_bytes(b"\x93NUMPY\x01\x00junk")
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(buffer.getvalue())
    bad = [
        {**good, "heatmap": {**good["heatmap"], "file": name}}
        for name in ("broken.npy", "pickle.npy")
    ]
    done = viz("heatmap", lines=dump(*bad, good), cwd=tmp_path)
    assert done.returncode == 1
    statuses = [orjson.loads(line).get("status") for line in done.stdout.splitlines()]
    assert statuses == [None, None, None]  # they pass as they came, and are told
    for name in (b"broken.npy", b"pickle.npy"):
        assert name in done.stderr
    assert b"Traceback" not in done.stderr
    assert (tmp_path / "heatmap.png").exists()


# The report


def test_the_report_escapes_what_it_is_given_and_needs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "<i>.jsonl").write_bytes(
        dump(*[face(tmp_path, n, pred=[[21.0, 15.0]], mean=[[22.0, 16.0]]) for n in "abc"])
    )
    done = viz("report", "<i>.jsonl", "--title", "<script>alert(1)</script>", cwd=tmp_path)
    assert done.returncode == 0
    html = (tmp_path / "report.html").read_text()
    assert html.count("<script") == 2  # its data, and its own
    assert "&lt;script&gt;" in html
    assert "<i>" not in html
    assert html.count("data:image/png;base64,") == 1
    assert not re.search(r"(src|href)=\"(?!data:)", html)
    assert "mean shape" in html


def test_a_face_is_scored_as_kp_eval_scores_it(tmp_path: Path) -> None:
    points = [[10.0 + k, 5.0 + k % 7] for k in range(15)]
    pred = [[x + 1.0, y - 0.5] for x, y in points]
    records = [face(tmp_path, n, scheme="kaggle15", points=points, pred=pred) for n in "ab"]
    records[1]["points"] = [*points[:3], None, *points[4:]]  # an eye corner: no norm
    source = sources.Source("run")
    nmes = [source.add(record) for record in records]
    assert nmes[0] == pytest.approx(math.hypot(1, 0.5) / math.dist(points[5], points[3]))
    assert math.isnan(nmes[1])
    assert source.pred.report(0.08)["mae"] == pytest.approx(0.75)
    records[0]["pred"] = [None, *pred[1:]]
    with pytest.raises(RecordError, match="null"):
        source.add(records[0])


@pytest.mark.parametrize("words", [["ced"], ["report"], ["grid", "--sort", "worst"]])
def test_one_picture_never_mixes_two_norms(face, tmp_path, words):
    whole = face(0) | {"pred": face(0)["points"]}
    small = nose(0, 6, 0) | {"image": whole["image"], "size": [80, 60]}
    done = run("viz", *words, stdin=[whole, small, whole], cwd=tmp_path)
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 3  # all have passed through
    assert len(done.stderr.splitlines()) == 1
    assert b"--norm box" in done.stderr
    done = run("viz", *words, "--norm", "box", stdin=[whole, small], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
