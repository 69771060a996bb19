"""A scheme of one's own, from a file, in every tool; and the names of points."""

import csv
import os
import pickle
import random
import re
import shlex
import subprocess
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pytest
from conftest import forked, in_process, lines, parse, run
from PIL import Image, ImageDraw

from kptools import __version__
from kptools.cli import on_ray, prep, viz
from kptools.cli.predictors import Asked
from kptools.errors import KptoolsError
from kptools.models import adapter
from kptools.models.checkpoint import load, load_model
from kptools.records import ray_map
from kptools.schemes import catalog, own
from kptools.schemes.layouts import layout_of
from kptools.storage import scheme_files
from kptools.storage.tensor_metadata import read_metadata
from kptools.viz.labels import place
from kptools.viz.scheme import COLOURS

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "schemes.md").read_text()
CAT = orjson.loads(re.search(r"```json\n(.*?)```", PAGE, re.S)[1])
COMMANDS = re.search(r"```sh\n(export .*?)```", PAGE, re.S)[1]
ORDER = ("left_ear", "nose", "right_eye", "right_ear", "left_eye")  # of the table's columns


@pytest.fixture(autouse=True)
def _none_is_known(monkeypatch):
    """Each test knows the built-in schemes alone, as a new process does."""

    def forget():
        catalog.get.cache_clear()
        catalog.count.cache_clear()

    monkeypatch.setattr(catalog, "_own", {})
    monkeypatch.delenv("KPTOOLS_SCHEME", raising=False)
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def cats(tmp_path_factory):
    """A folder with cat5.json, and drawn heads of cats with a table of their points."""
    folder = tmp_path_factory.mktemp("cats")
    (folder / "cat5.json").write_bytes(orjson.dumps(CAT))
    rng = random.Random(0)
    with open(folder / "cats.csv", "w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["image", *(f"{name}_{axis}" for name in ORDER for axis in "xy")])
        for number in range(24):
            at = _draw_cat(folder / f"{number}.png", rng)
            writer.writerow([f"{number}.png", *(v for name in ORDER for v in at[name])])
    return folder


def _draw_cat(path, rng):
    """Draw a head; where its points are."""
    x, y, r = rng.uniform(42, 54), rng.uniform(48, 54), rng.uniform(20, 26)
    eye, ear, chin = rng.uniform(0.4, 0.5), rng.uniform(1.1, 1.4), rng.uniform(0.3, 0.4)
    picture = Image.new("RGB", (96, 96), (rng.randrange(90, 200),) * 3)
    pen, fur = ImageDraw.Draw(picture), (230, rng.randrange(100, 180), 60)
    pen.ellipse((x - r, y - r, x + r, y + r), fur)
    at = {"nose": (x, y + chin * r)}
    for side, name in ((-1, "right"), (1, "left")):
        at[f"{name}_eye"] = (x + side * eye * r, y - 0.1 * r)
        at[f"{name}_ear"] = tip = (x + side * 0.8 * r, y - ear * r)
        pen.polygon([tip, (x + side * 0.95 * r, y - 0.3 * r), (x + side * 0.2 * r, y - r)], fur)
    for name in ("nose", "right_eye", "left_eye"):
        (a, b), width = at[name], 3
        pen.ellipse((a - width, b - width, a + width, b + width), (20, 60, 40))
    picture.save(path)
    return at


@pytest.fixture(scope="module")
def done(cats):
    """The folder, after the page's own commands ran in it, but for a shorter training."""
    functions = "\n".join(
        f'kp-{tool}() {{ {shlex.join(forked())} kptools.cli.{tool} "$@"; }}'
        for tool in ("prep", "augment", "train", "predict", "eval", "viz")
    )
    short = "--arch nose --input-size 32x32 --epochs 2 --threads 1 --device cpu"
    commands = COMMANDS.replace("--arch nose", short)
    assert len(commands.strip().splitlines()) == 6  # five, and where the scheme is
    script = f"set -e -o pipefail\n{functions}\n{commands}"
    ran = subprocess.run(["bash", "-c", script], cwd=cats, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    return cats, ran


@pytest.fixture
def cat5(cats):
    return scheme_files.load(str(cats / "cat5.json"))


@pytest.fixture
def cat(cats):
    """A record."""
    points = [[30.0, 40.0], [60.0, 40.0], [45.0, 60.0], [25.0, 10.0], [65.0, 10.0]]
    return {
        "image": str(cats / "0.png"),
        "id": "a",
        "size": [96, 96],
        "box": [20, 5, 70, 75],
        "points": points,
        "scheme": "cat5",
    }


def write(path, **changes):
    document = {key: value for key, value in (CAT | changes).items() if value is not ...}
    path.write_bytes(orjson.dumps(document))
    return path


def test_the_five_commands_of_the_page_work(done):
    folder, ran = done
    report = orjson.loads(ran.stdout)
    assert report["scheme"] == "cat5:3,4"
    assert (report["norm"], report["failed"]) == ("interocular", 0)
    assert report["regions"].keys() == {"ears"}
    assert Image.open(folder / "cats.png").width > 500
    faces = parse((folder / "cats.jsonl").read_bytes())
    assert len(faces) == 24
    assert {face["scheme"] for face in faces} == {"cat5"}
    rows = list(csv.DictReader((folder / "cats.csv").read_text().splitlines()))
    wanted = [[float(rows[0][f"{name}_{axis}"]) for axis in "xy"] for name in CAT["points"]]
    assert faces[0]["points"] == wanted  # in the order of the scheme, and not of the table


def test_a_checkpoint_needs_no_file(done):
    folder, _ = done
    words = (folder / "cat.safetensors", "--flip", "--threads", 1, folder / "cats.jsonl")
    found = run("predict", *words, cwd=folder)
    assert found.returncode == 0, found.stderr
    assert all(len(record["pred"]) == 5 for record in parse(found.stdout))


def test_a_checkpoint_says_its_scheme_to_other_tools(done, cat, quick):
    folder, _ = done
    assert quick("augment", "--flip", 1, stdin=[cat]).returncode == 1
    done_ = quick("augment", "--flip", 1, "--scheme", folder / "cat.safetensors", stdin=[cat])
    assert done_.returncode == 0, done_.stderr


def test_a_process_of_a_cluster_knows_what_the_command_knew(done, cat, cat5, tmp_path, quick):
    bare = str(tmp_path / "bare.safetensors")  # of a run that did not know the scheme
    mine = load(str(done[0] / "cat.safetensors"))
    catalog._own.clear()
    mine.save(bare)
    found = quick("predict", "--flip", bare, stdin=[cat])
    assert found.returncode == 2
    assert b"cat5 is not known here (--scheme FILE)" in found.stderr
    catalog.register(cat5, "cat5.json")
    asked = Asked(1, None, None, True, None, None, 1, 1, "cpu", "fp32")
    work = partial(on_ray._work, (bare,), on_ray.hash_of([bare]), asked)
    sent = pickle.dumps((work, ray_map.Command(os.getcwd(), __version__, catalog.own())))
    catalog._own.clear()
    work, command = pickle.loads(sent)
    [[line]] = ray_map._run(work, [orjson.dumps(cat)], [("f", 1, False)], command)
    assert len(orjson.loads(line)["pred"]) == 5


def test_the_metadata_of_a_built_in_scheme_has_no_definition(done, tmp_path):
    mine = load(str(done[0] / "cat.safetensors"))
    mine.model = replace(mine.model, scheme="ibug68:0,1,2,3,4")
    mine.save(tmp_path / "built_in.safetensors")
    keys = read_metadata(str(tmp_path / "built_in.safetensors")).keys()
    assert keys == {"version", "model", "history", "run"}
    assert read_metadata(str(done[0] / "cat.safetensors")).keys() == {*keys, "own_scheme"}


def test_an_adapter_keeps_the_definition(cat5, tmp_path):
    eye = np.eye(10)
    adapter.Adapter("cat5", np.zeros((5, 2)), eye, np.zeros(10)).save(tmp_path / "a.safetensors")
    catalog._own.clear()
    adapter.load(str(tmp_path / "a.safetensors"))
    assert catalog.own() == (cat5,)


def test_an_onnx_file_keeps_the_definition(done, cat5, tmp_path):
    pytest.importorskip("onnxruntime", reason="needs the extra onnx")
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    from kptools.inference.export import export
    from kptools.inference.onnx_engine import OnnxEngine

    export(load(str(done[0] / "cat.safetensors")), tmp_path / "cat.onnx")
    catalog._own.clear()
    assert OnnxEngine(str(tmp_path / "cat.onnx"), threads=1).model.scheme == "cat5"
    assert catalog.own() == (cat5,)


def test_a_definition_comes_back_from_its_description(cat5):
    assert own.parse(own.describe(cat5)) == cat5
    bare = own.parse({"name": "dots", "points": ["a", "b"]})
    assert bare.swap is None
    assert own.parse(own.describe(bare)) == bare
    middle = own.parse({"name": "dots", "points": ["a", "b"], "pairs": []})
    assert middle.swap == (0, 1)
    assert own.parse(own.describe(middle)) == middle


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"name": ...}, "`name` is None; up to 40 letters, digits, _ and -, a letter first"),
        ({"name": "cat:5"}, "`name` is 'cat:5'"),
        ({"name": "a b"}, "`name` is 'a b'"),
        ({"name": "ibug68"}, "`name`: ibug68 is a built-in scheme; give yours another name"),
        ({"name": "points5"}, "`name`: points5 means points of no scheme"),
        ({"points": ...}, "`points` is no list of names"),
        ({"points": []}, "`points` is no list of names"),
        ({"points": ["a", "a"]}, "`points`: two are called a; give each a name of its own"),
        ({"points": ["a,b"]}, "`points`: 'a,b' is no name of a point"),
        ({"points": ["7"]}, "`points`: '7' is no name of a point"),
        ({"regions": ["eyes"]}, "`regions` is no object"),
        ({"regions": {"my eyes": [0]}}, "`regions`: 'my eyes' is no name"),
        ({"regions": {"eyes": []}}, "`regions.eyes`: [] is no list of points"),
        ({"regions": {"eyes": [0, 0]}}, "`regions.eyes`: a point is there twice"),
        ({"regions": {"eyes": ["tail"]}}, "`regions.eyes`: 'tail' is no point; name one of"),
        ({"regions": {"eyes": [5]}}, "`regions.eyes`: 5 is no point"),
        ({"regions": {"eyes": [True]}}, "`regions.eyes`: True is no point"),
        ({"pairs": [["nose"]]}, "`pairs`: ['nose'] is not two points"),
        ({"pairs": [[0, 0]]}, "`pairs`: [0, 0] is one point twice"),
        ({"pairs": [[0, 1], [1, 2]]}, "`pairs`: left_eye is in two pairs; keep one"),
        ({"edges": "all"}, "`edges` is 'all'; a list is needed"),
        ({"edges": [[0, 9]]}, "`edges`: 9 is no point; name one of `points`, or its index, 0 to 4"),
        ({"interocular": [0]}, "`interocular`: [0] is not two points"),
        ({"interpupil": [[0]]}, "`interpupil`: two lists of points"),
        ({"interpupil": [[0], []]}, "`interpupil`: [] is no list of points"),
        ({"nose": "tip"}, "`nose`: 'tip' is no point"),
        ({"layout": [[0, 0]]}, "`layout` has 1 places, and there are 5 points"),
        ({"layout": [[0, 0]] * 4 + [[0, 2]]}, "`layout`: place 4 is [0, 2]; [x, y], each 0 to 1"),
        ({"eyes": [0, 1]}, "'eyes' is no key of a scheme; they are name, points, regions"),
    ],
)
def test_each_mistake_of_a_file_is_said(changes, reason, tmp_path):
    path = write(tmp_path / "bad.json", **changes)
    with pytest.raises(KptoolsError) as error:
        scheme_files.load(str(path))
    assert str(error.value).startswith(f"{path}: {reason}")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"name": "a",\n oh}', "line 2: it is no JSON"),
        (b'{"name": "a", "name": "b"}', "'name' is there twice; keep one"),
        (b"[1]", "a scheme is an object with the keys name, points"),
        (b"[" * 100_000, "it is no JSON (nested too deep)"),
        (b"\x89PNG\r\n\x1a\n", "it looks like a PNG picture"),
        (b" " * (2 << 20), "over 1 MiB"),
    ],
)
def test_a_file_that_is_no_scheme_is_one_line(data, reason, tmp_path, quick):
    path = tmp_path / "bad.json"
    path.write_bytes(data)
    done = quick("eval", "--scheme", path)
    assert (done.returncode, len(done.stderr.splitlines())) == (3, 1)
    assert str(path).encode() in done.stderr
    assert reason.encode() in done.stderr


def test_a_file_that_is_not_there_is_exit_3(quick, tmp_path):
    done = quick("augment", "--scheme", tmp_path / "no.json")
    assert done.returncode == 3
    assert b"no.json: No such file" in done.stderr


def test_a_name_that_is_not_known_is_exit_2(cats):
    done = in_process(prep.tool, "csv", cats / "cats.csv", "--scheme", "dog5")
    assert done.returncode == 2
    assert b"'dog5' is not known" in done.stderr
    assert b"--scheme FILE" in done.stderr


def test_a_name_has_one_definition(done, cat5, cat, quick, tmp_path):
    other = write(tmp_path / "other.json", nose="left_ear", pairs=[["right_eye", "left_eye"]])
    words = ("--scheme", other, done[0] / "cat.safetensors")
    catalog._own.clear()
    found = quick("predict", *words, stdin=[cat])
    assert (found.returncode, found.stdout) == (3, b"")
    assert b"cat.safetensors: its scheme cat5 is not that of" in found.stderr
    assert b"they differ in `pairs`, `nose`;" in found.stderr


def test_another_layout_is_no_other_scheme(done, tmp_path):
    scheme_files.load(str(write(tmp_path / "l.json", layout=...)))
    assert load_model(str(done[0] / "cat.safetensors")).scheme == "cat5"


def test_an_unknown_scheme_says_how_to_name_its_file(cat, quick):
    done = quick("augment", "--flip", 0.5, stdin=[cat])
    assert done.returncode == 1
    assert parse(done.stdout)[0]["status"] == "bad_scheme"
    assert b"--scheme FILE or $KPTOOLS_SCHEME" in done.stderr
    done = quick("eval", "--points", "region:ears", stdin=[cat | {"pred": cat["points"]}])
    assert done.returncode == 2
    assert b"no region 'ears'" in done.stderr
    assert b"--scheme FILE" in done.stderr


def test_left_and_right_change_places(cats, cat, quick, tmp_path):
    words = ("--scheme", cats / "cat5.json", "--flip", 1, "--write", tmp_path / "w")
    (made,) = parse(quick("augment", *words, stdin=[cat]).stdout)
    # about the middle of the box
    mirrored = [[90 - cat["points"][i][0], cat["points"][i][1]] for i in (1, 0, 2, 4, 3)]
    assert np.abs(np.array(made["points"]) - mirrored).max() < 1e-9


def test_the_norm_is_between_the_two_points(cats, cat, quick):
    record = cat | {"pred": [[x + 3, y] for x, y in cat["points"]]}
    report = orjson.loads(quick("eval", "--scheme", cats / "cat5.json", stdin=[record]).stdout)
    assert (report["norm"], report["nme"]) == ("interocular", pytest.approx(3 / 30))
    assert report["regions"].keys() == {"eyes", "nose", "ears"}


def test_a_subset_of_it_is_a_scheme(cat5):
    subset = catalog.get("cat5:3,4")
    assert subset.names == ("right_ear", "left_ear")
    assert (subset.regions, subset.swap) == ({"ears": (0, 1)}, (1, 0))
    assert layout_of(subset) == cat5.layout[3:]


def test_the_environment_lists_several(cats, cat, quick, tmp_path, monkeypatch):
    other = write(tmp_path / "dog.json", name="dog5", regions={"snout": ["nose"]})
    monkeypatch.setenv("KPTOOLS_SCHEME", f"{cats / 'cat5.json'}{os.pathsep}{other}")
    scored = [one | {"pred": one["points"]} for one in (cat, cat | {"id": "b", "scheme": "dog5"})]
    done = quick("eval", "--points", "region:nose,region:snout", stdin=scored[1:])
    assert done.returncode == 1  # dog5 has no region nose
    done = quick("eval", "--points", "region:snout", stdin=scored[1:])
    assert orjson.loads(done.stdout)["scheme"] == "dog5:2"


def test_another_definition_is_not_resumed(cats, cat, quick, tmp_path):
    out, other = tmp_path / "a.jsonl", write(tmp_path / "cat5.json", pairs=[])
    words = ("-o", out, "--flip", 1)
    assert quick("augment", "--scheme", cats / "cat5.json", *words, stdin=[cat]).returncode == 0
    catalog._own.clear()
    done = quick("augment", "--scheme", other, *words, "--resume", stdin=[cat])
    assert done.returncode == 3
    assert b"was made by another run" in done.stderr
    assert b"schemes" in done.stderr


@pytest.mark.parametrize("options", [("--points", "region:ears"), ()], ids=["ears", "all"])
def test_a_table_is_read_by_a_file(cats, options):
    words = ("csv", cats / "cats.csv", "--scheme", cats / "cat5.json", "--limit", 1, *options)
    (face,) = parse(in_process(prep.tool, *words).stdout)
    assert face["scheme"] == ("cat5:3,4" if options else "cat5")


def test_lists_in_the_order_of_the_table_forbid_another(cats, cat5, tmp_path):
    head, row, *_ = (cats / "cats.csv").read_text().splitlines()
    (tmp_path / "c.csv").write_text(f'{head},visible\n{row},"[1,1,1,0,1]"\n')
    done = in_process(prep.tool, "csv", tmp_path / "c.csv", "--images", cats, "--scheme", "cat5")
    assert done.returncode == 3
    assert b"another order than those of cat5, and so may visible" in done.stderr


@pytest.mark.parametrize(
    ("kind", "word"),
    [("csv", "right_ear_x"), ("coco", '"right_ear"'), ("labelme", '"label": "right_ear"')],
)
def test_files_of_other_programs_have_the_names(kind, word, cat, cat5, tmp_path):
    visible = [1, 1, 0, 1, 1]
    faces = [
        cat | {"group": "a", "box_source": "dataset", "visible": visible, "split": "train"},
    ]
    out = tmp_path / kind
    where = ("--out", out) if kind == "labelme" else ("-o", out)
    assert in_process(prep.tool, "to", kind, *where, stdin=lines(faces)).returncode == 0
    text = next(out.iterdir()).read_text() if out.is_dir() else out.read_text()
    assert word in text
    (again,) = parse(in_process(prep.tool, kind, out, "--scheme", "cat5").stdout)
    for key in ("points", "visible", "scheme"):
        assert again[key] == faces[0][key]


def test_points_of_coco_go_by_their_names(cat, cat5, tmp_path):
    order = [4, 2, 0, 3, 1]
    keypoints = [v for i in order for v in (*cat["points"][i], 1 + (i != 3))]
    document = {
        "images": [{"id": 1, "file_name": cat["image"], "width": 96, "height": 96}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 9, 9], "keypoints": keypoints}
        ],
        "categories": [{"id": 1, "name": "face", "keypoints": [CAT["points"][i] for i in order]}],
    }
    (tmp_path / "c.json").write_bytes(orjson.dumps(document))
    (face,) = parse(in_process(prep.tool, "coco", tmp_path / "c.json").stdout)
    assert (face["scheme"], face["points"]) == ("cat5", cat["points"])
    assert face["visible"] == [1, 1, 1, 0, 1]


def test_labels_that_are_missing_are_points_that_are_null(cat, cat5, tmp_path):
    known = cat | {"points": [None, *cat["points"][1:]], "group": "a"}
    in_process(prep.tool, "to", "labelme", "--out", tmp_path / "l", stdin=lines([known]))
    (again,) = parse(in_process(prep.tool, "labelme", tmp_path / "l", "--scheme", "cat5").stdout)
    assert again["points"] == known["points"]


@pytest.mark.parametrize("scheme", catalog.FULL.values(), ids=lambda scheme: scheme.name)
def test_each_point_has_a_name_and_a_place(scheme):
    assert len(set(scheme.names)) == len(scheme.names) == scheme.count
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in scheme.names)
    places = np.array(layout_of(scheme))
    assert places.shape == (scheme.count, 2)
    assert places.min() >= 0
    assert places.max() <= 1
    mirrored = (places * (-1, 1) + (1, 0))[list(scheme.swap)]
    assert np.abs(mirrored - places).max() < 0.002


def test_a_region_numbers_its_points():
    names = catalog.get("ibug68").names
    assert (names[0], names[36], names[67]) == ("jaw_1", "right_eye_1", "mouth_20")
    assert catalog.get("cofw29").names[28] == "chin"
    assert catalog.get("kaggle15").names[0] == "left_eye_center"
    assert catalog.get("ibug68:36,0").names == ("right_eye_1", "jaw_1")


def draw(tmp_path, *words, stdin=b""):
    out = tmp_path / "s.png"
    done = in_process(viz.tool, "scheme", *words, "-o", out, stdin=stdin)
    return done, np.asarray(Image.open(out)) if out.exists() else None


def shows(picture, colour):
    return bool((picture == colour).all(axis=2).any())


def test_a_scheme_is_drawn_with_its_regions(cats, tmp_path):
    done, picture = draw(tmp_path, cats / "cat5.json", "--size", "300x300")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    assert all(shows(picture[:, :300], colour) for colour in COLOURS[:3])
    assert not shows(picture, COLOURS[3])
    _, with_names = draw(tmp_path, cats / "cat5.json", "--size", "300x300", "--names")
    assert with_names.tobytes() != picture.tobytes()


def test_a_scheme_is_drawn_at_the_mean_of_records(cats, cat, tmp_path):
    low = cat | {"id": "b", "points": [[x, y + 15] for x, y in cat["points"]]}
    given = lines([cat, low, cat | {"id": "c", "scheme": "ibug68", "points": [[1, 1]] * 68}])
    done, _ = draw(tmp_path, cats / "cat5.json", "-", stdin=given)
    assert (done.returncode, done.stdout) == (1, given)  # they pass through
    assert b"its scheme is ibug68, and not cat5" in done.stderr
    done, _ = draw(tmp_path, "cat5", "-", stdin=lines([cat | {"points": [[1, 1]] + [None] * 4}]))
    assert done.returncode == 3
    assert b"no record has point 1 of cat5 (left_eye) annotated" in done.stderr


def test_a_scheme_without_a_layout_is_drawn_on_a_circle(tmp_path):
    done, picture = draw(tmp_path, write(tmp_path / "c.json", layout=...), "--size", "300x300")
    assert done.returncode == 0
    assert b"cat5 has no `layout`" in done.stderr
    assert shows(picture, COLOURS[0])


def test_a_scheme_to_draw_that_is_not_known_is_exit_2(tmp_path):
    done, picture = draw(tmp_path, "dog5")
    assert (done.returncode, picture) == (2, None)
    assert done.stderr.startswith(b"dog5: scheme 'dog5' is not known")


@pytest.mark.parametrize("name", ["lapa106", "wflw98", "ibug68"])
def test_no_number_covers_another_or_a_point(name):
    points = 60 + 840 * np.array(layout_of(catalog.get(name)))
    sizes = np.tile([28.0, 20.0], (len(points), 1))
    centres = place(points, sizes, (960, 960), 9.0, np.empty((0, 2)))
    apart = np.abs(centres[:, None] - centres[None])
    overlap = (apart < sizes).all(axis=2) & ~np.eye(len(points), dtype=bool)
    assert not overlap.any()
    assert not (np.abs(centres[:, None] - points[None]) < sizes / 2).all(axis=2).any()
    assert (centres - sizes / 2).min() >= 0
    assert (centres + sizes / 2).max() <= 960


def test_kp_eval_says_where_a_scheme_is_not_known(quick, face):
    given = [face(0) | {"scheme": "unheard", "pred": face(0)["points"]}]
    done = quick("eval", stdin=given)
    assert done.returncode == 0, done.stderr
    assert b"scheme unheard is not known here" in done.stderr
    assert b"not known" not in quick("eval", stdin=[face(0) | {"pred": face(0)["points"]}]).stderr
