"""kp-prep video and kp-viz video: frames in, frames out."""

import re
import sys
from fractions import Fraction

import numpy as np
import pytest
from conftest import in_process, lines, parse, untrained
from PIL import Image

from kptools.cli.prep import tool as prep
from kptools.cli.viz import tool as viz
from kptools.datasets import detectors, video
from kptools.datasets.detectors import Found
from kptools.errors import KptoolsError
from kptools.records.stream import Stream
from kptools.storage.video import VideoFile, frames

av = pytest.importorskip("av", reason="needs the extra video")
TICKS = 90_000
UNEVEN = [0, 0.04, 0.08, 0.2, 0.24, 0.5]


def grey(level, size=(64, 48)):
    return Image.new("RGB", size, (level,) * 3)


def make(path, times, size=(64, 48), rotation=None, picture=None, **options):
    """A video of pictures, each of another grey level, shown from these times on."""
    with av.open(path, "w", options={k: str(v) for k, v in options.items()}) as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, TICKS)
        stream.options = {"crf": "1", "g": "5"}
        if rotation is not None:
            stream.set_display_rotation(rotation)
        for index, time in enumerate(times):
            shown = picture or grey(40 + 5 * index, size)
            frame = av.VideoFrame.from_ndarray(np.asarray(shown), format="rgb24")
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def run(folder, *words, name="talk.mp4"):
    return in_process(prep, "video", folder / name, "--out", folder / "f", "--box=image", *words)


@pytest.mark.parametrize("name", ["talk.mp4", "talk.mkv"])
def test_each_frame_is_a_picture_with_the_time_that_the_video_has(tmp_path, name):
    make(str(tmp_path / name), UNEVEN)
    done = run(tmp_path, "--format", "png", name=name)
    assert done.returncode == 0, done.stderr
    made = parse(done.stdout)
    assert [r["time"] for r in made] == pytest.approx(UNEVEN, abs=1e-3)
    assert [r["image"] for r in made] == sorted(map(str, (tmp_path / "f").iterdir()))
    assert re.fullmatch(rf"{tmp_path}/f/talk-[0-9a-f]{{8}}-000003.png", made[3]["image"])
    assert made[3] == {
        "image": made[3]["image"],
        "id": f"{tmp_path}/talk/000003",
        "group": f"{tmp_path}/talk",
        "size": [64, 48],
        "time": made[3]["time"],
        "split": "test",
        "box": [-0.5, -0.5, 63.5, 47.5],
        "box_source": "image",
        "dataset": "video",
    }
    for index, record in enumerate(made):
        pixels = np.asarray(Image.open(record["image"])).astype(int)
        assert abs(pixels - (40 + 5 * index)).max() <= 2


def test_fps_takes_the_first_frame_of_each_step_and_limit_so_many(tmp_path):
    make(str(tmp_path / "talk.mp4"), [i / 30 for i in range(30)])
    made = parse(run(tmp_path, "--fps", 10).stdout)
    assert [r["id"][-2:] for r in made] == [f"{i:02d}" for i in range(0, 30, 3)]
    assert len(list((tmp_path / "f").iterdir())) == 10
    make(str(tmp_path / "talk.mp4"), UNEVEN)
    assert [r["id"][-1] for r in parse(run(tmp_path, "--fps", 10).stdout)] == ["0", "3", "5"]
    assert len(parse(run(tmp_path, "--fps", 100).stdout)) == 6
    assert len(parse(run(tmp_path, "--limit", 2).stdout)) == 2


@pytest.mark.parametrize(("rotation", "corner"), [(-90, (1, 0)), (90, (0, 1)), (180, (1, 1))])
def test_a_phones_video_is_turned_as_it_says(tmp_path, rotation, corner):
    """Of a phone held upright the rotation is -90: what is stored is shown turned clockwise."""
    stored = grey(40)
    stored.paste((250, 250, 250), (0, 0, 8, 8))  # top left
    make(str(tmp_path / "talk.mp4"), [0, 0.1], rotation=rotation, picture=stored)
    record = parse(run(tmp_path).stdout)[0]
    width, height = (64, 48) if rotation == 180 else (48, 64)
    assert record["size"] == [width, height]
    pixels = np.asarray(Image.open(record["image"]).convert("L"))
    assert pixels.shape == (height, width)
    assert pixels[corner[1] * (height - 8) + 4, corner[0] * (width - 8) + 4] > 200
    assert (pixels > 200).mean() < 0.05


@pytest.mark.parametrize(
    ("name", "options"),
    [("talk.mp4", {"movflags": "faststart"}), ("talk.mkv", {}), ("last.mp4", {})],
)
def test_a_video_that_was_cut_off_gives_its_frames_so_far_and_exit_3(tmp_path, name, options):
    noise = Image.effect_noise((64, 48), 80).convert("RGB")
    path = tmp_path / name
    make(str(path), [i / 10 for i in range(40)], picture=noise, **options)
    path.write_bytes(path.read_bytes()[: int(0.5 * path.stat().st_size)])
    done = run(tmp_path, "-o", tmp_path / "out.jsonl", name=name)
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 1
    assert name.encode() in done.stderr
    assert b"copy it again" in done.stderr
    assert not (tmp_path / "out.jsonl").exists()
    made = parse(run(tmp_path, name=name).stdout)
    assert (5 < len(made) < 40) != (name == "last.mp4")  # whose index was at its end
    assert all(Image.open(r["image"]).size == (64, 48) for r in made)


def test_what_is_no_video_is_one_line(tmp_path):
    (tmp_path / "text.mp4").write_text("no video\n" * 100)
    (tmp_path / "empty.mp4").write_bytes(b"")
    for name in ("text.mp4", "empty.mp4", "missing.mp4", "."):
        done = run(tmp_path, name=name)
        assert (done.returncode, done.stdout) == (3, b"")
        assert len(done.stderr.splitlines()) == 1


def test_without_pyav_a_line_says_what_to_install(tmp_path, monkeypatch):
    make(str(tmp_path / "talk.mp4"), [0])
    monkeypatch.setitem(sys.modules, "av", None)
    done = run(tmp_path)
    assert done.returncode == 3
    assert b"pip install 'av>=15'" in done.stderr


def finder(monkeypatch, faces):
    """Have a detector find these faces, of each search in turn; the pictures it was given."""
    given = []

    def detect(path):
        given.append(path)
        return faces[len(given) - 1]

    module = type("Module", (), {"SOURCE": "detector:mine", "load": lambda: detect})
    monkeypatch.setattr(detectors, "module", lambda name: module)
    return given


def test_faces_stay_where_they_were_found_until_the_next_search(tmp_path, monkeypatch):
    make(str(tmp_path / "talk.mp4"), [i / 10 for i in range(7)])
    left, right = Found((1, 2, 20, 22), 0.9), Found((30, 2, 50, 22), 0.9, roll=4.0)
    given = finder(monkeypatch, [[right, left], [], [left]])
    words = ("--box", "detector", "--detect-every", 3, "--limit", 20)
    done = run(tmp_path, *words)
    made = parse(done.stdout)
    assert done.returncode == 1
    assert [path[-5] for path in given] == ["0", "3", "6"]
    ids = ["000", "0#2", "001", "1#2", "002", "2#2", "003", "004", "005", "006"]
    assert [r["id"][-3:] for r in made] == ids
    assert [r.get("box_time") for r in made[:4]] == [None, None, 0.0, 0.0]
    assert [r["box"][0] for r in made[:6]] == [1, 30] * 3
    assert [r.get("roll") for r in made[:2]] == [None, 4.0]
    assert [r.get("status") for r in made[6:]] == ["no_face"] * 3 + [None]
    assert all(r["box_source"] == "detector:mine" for r in made if "status" not in r)


def test_a_record_is_there_before_the_next_frame_is_written(tmp_path):
    make(str(tmp_path / "talk.mp4"), UNEVEN)
    out = tmp_path / "f"
    items = video.read(str(tmp_path / "talk.mp4"), out, None, "jpg", "image", "", 1)
    for number in range(1, 4):
        item = next(items)
        assert item.line == number
        assert len(list(out.iterdir())) == number
    items.close()


def test_a_record_leaves_kp_prep_before_the_next_frame_is_written(tmp_path, monkeypatch):
    make(str(tmp_path / "talk.mp4"), UNEVEN)
    flush, written = Stream.flush, []

    def noted(stream):
        written.append(len(list((tmp_path / "f").iterdir())))
        flush(stream)

    monkeypatch.setattr(Stream, "flush", noted)
    assert len(parse(run(tmp_path).stdout)) == 6
    assert written[:6] == [1, 2, 3, 4, 5, 6]


def frame(folder, number, **keys):
    """A record of a grey frame of odd sizes with one point, at (30, 20)."""
    path = folder / f"{number}.png"
    Image.new("RGB", (81, 61), (90, 90, 90)).save(path)
    return {
        "image": str(path),
        "id": f"v/{number}",
        "time": 3 + UNEVEN[number % 6],
        "size": [81, 61],
        "box": [10.0, 5.0, 70.0, 55.0],
        "pred": [[30.0, 20.0]],
        "scheme": "nose1",
    } | keys


def test_the_points_lie_in_the_video_where_the_records_have_them(tmp_path):
    records = [frame(tmp_path, i) for i in range(6)]
    records.insert(1, frame(tmp_path, 0, id="v/0#2", pred=[[60.0, 40.0]]))
    done = in_process(viz, "video", "-o", tmp_path / "o.mp4", stdin=lines(records))
    assert done.returncode == 0, done.stderr
    assert done.stdout == lines(records)
    found = list(frames(str(tmp_path / "o.mp4")))
    assert [f.time for f in found] == pytest.approx(UNEVEN, abs=1e-3)
    for index, one in enumerate(found):
        pixels = np.asarray(one.picture).astype(int)
        assert pixels.shape == (62, 82, 3)
        blue = np.argwhere(pixels[..., 2] - pixels[..., 0] > 60)[:, ::-1]
        expected = {0: [(30, 20), (60, 40)]}.get(index, [(30, 20)])
        for x, y in expected:
            near = blue[np.abs(blue - (x, y)).max(axis=1) < 10]
            assert near.mean(axis=0) == pytest.approx((x, y), abs=0.6)
        assert (len(blue) > 1.5 * len(near)) == (index == 0)
        assert np.abs(pixels[2, 2] - 90).max() <= 3


def test_frames_that_do_not_fit_are_failures_and_the_rest_is_a_video(tmp_path):
    records = [frame(tmp_path, i) for i in range(6)]
    del records[1]["time"]
    records[2]["time"] = 1.0  # before the first
    Image.new("RGB", (40, 40)).save(records[3]["image"])
    records[4] |= {"status": "no_face", "error": "none", "box": None}
    words = ("video", "-o", tmp_path / "o.mp4")
    done = in_process(viz, *words, stdin=lines(records))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 4
    assert len(list(frames(str(tmp_path / "o.mp4")))) == 3  # a frame without a face is shown
    done = in_process(viz, *words, "--fps", 5, stdin=lines(records))
    times = [f.time for f in frames(str(tmp_path / "o.mp4"))]
    assert times == pytest.approx([0, 0.2, 0.4, 0.6, 0.8])
    before = (tmp_path / "o.mp4").read_bytes()
    done = in_process(viz, *words, stdin=lines(records[1:2]))
    assert b"is not written" in done.stderr
    assert (tmp_path / "o.mp4").read_bytes() == before
    assert not list(tmp_path.glob("*.part"))


def test_a_video_that_cannot_be_finished_does_not_appear(tmp_path):
    made = VideoFile(tmp_path / "o.mp4").__enter__()
    made.add(grey(9), 0.0)
    made.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
    assert not list(tmp_path.iterdir())
    with pytest.raises(KptoolsError, match="cannot write"):
        VideoFile(tmp_path / "away" / "o.mp4").__enter__()


def test_a_video_goes_through_the_whole_pipe(tmp_path, quick):
    make(str(tmp_path / "talk.mp4"), [i / 30 for i in range(30)])
    network = untrained(tmp_path / "m.safetensors")
    found = quick("predict", network, "--workers", 1, stdin=run(tmp_path).stdout)
    tracked = quick("track", stdin=found.stdout)
    done = in_process(viz, "video", "-o", tmp_path / "o.mp4", stdin=tracked.stdout)
    assert done.returncode == 0, done.stderr
    made = parse(done.stdout)
    assert len(made) == 30
    assert {r["track"] for r in made} == {"1"}
    found = list(frames(str(tmp_path / "o.mp4")))
    assert [f.time for f in found] == pytest.approx([i / 30 for i in range(30)], abs=1e-3)
