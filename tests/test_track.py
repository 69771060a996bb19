"""kp-track: which face is which, smooth points, jumps; and kp-eval --jitter."""

import math

import numpy as np
import pytest
from conftest import lines, parse, start

from kptools.errors import RecordError
from kptools.evaluation.jitter import Jitter
from kptools.inference.one_euro import OneEuro
from kptools.inference.tracking import Tracker

SHAPE = np.random.default_rng(0).uniform(-40, 40, (20, 2))


def record(number, where, **keys):
    """The record of a frame of a video of ten frames a second."""
    kept = [None if p is None else list(map(float, p)) for p in where]
    return {"id": f"v/{number}", "group": "v", "time": number / 10, "pred": kept} | keys


def still(count, noise=1.0, seed=1):
    """The points (count, 20, 2) of a face that does not move, and trembles."""
    return SHAPE + 200 + np.random.default_rng(seed).normal(0, noise, (count, *SHAPE.shape))


def one_euro(values, times, min_cutoff, beta, size):
    """A coordinate, step by step, as Algorithm 1 of the paper has it; `beta` for a face of one
    pixel is `beta` over its size."""

    def alpha(rate, cutoff):
        tau = 1 / (2 * math.pi * cutoff)
        return 1 / (1 + tau * rate)

    found, last, speed = [values[0]], times[0], 0.0
    for value, time in zip(values[1:], times[1:], strict=True):
        rate = 1 / (time - last)
        weight = alpha(rate, 1.0)
        speed = weight * (value - found[-1]) * rate + (1 - weight) * speed
        weight = alpha(rate, min_cutoff + beta / size * abs(speed))
        found.append(weight * value + (1 - weight) * found[-1])
        last = time
    return found


def test_the_filter_is_that_of_the_paper_also_where_frames_come_unevenly():
    rng = np.random.default_rng(3)
    times = np.cumsum(rng.uniform(0.01, 0.1, 40))
    points = rng.normal(0, 30, (40, 3, 2)).cumsum(axis=0)
    smooth = OneEuro(1.5, 7.0)
    found = np.array([smooth(p, t, 120.0) for p, t in zip(points, times, strict=True)])
    for k in range(3):
        for axis in range(2):
            expected = one_euro(points[:, k, axis], times, 1.5, 7.0, 120.0)
            assert found[:, k, axis] == pytest.approx(expected, abs=1e-9)


def test_the_same_face_twice_as_large_is_smoothed_as_much():
    small, large = OneEuro(1.0, 30.0), OneEuro(1.0, 30.0)
    for index, points in enumerate(still(20)):
        one, other = small(points, index / 10, 80.0), large(2 * points, index / 10, 160.0)
        assert 2 * one == pytest.approx(other)


def test_a_missing_point_stays_missing_and_begins_anew_where_it_is_back(quick):
    points = [[*p] for p in SHAPE + 200]
    moved = [[x + 9, y] for x, y in points]
    gone = [None, *moved[1:]]
    done = quick("track", stdin=[record(i, p) for i, p in enumerate((points, gone, moved))])
    assert done.returncode == 0
    _, second, third = parse(done.stdout)
    assert second["pred"][0] is None
    assert third["pred"][0] == moved[0]
    assert third["pred"][1] != moved[1]
    assert all(len(r["pred"]) == 20 for r in (second, third))


def test_points_tremble_less_and_no_key_is_lost(quick):
    faces = [record(i, p, mine=[i], nme=0.1, points=p.tolist()) for i, p in enumerate(still(30))]
    done = quick("track", stdin=faces)
    assert done.returncode == 0
    made = parse(done.stdout)
    assert [r["id"] for r in made] == [r["id"] for r in faces]
    assert {r["track"] for r in made} == {"1"}
    assert [*made[0]] == [key for key in faces[0] if key != "nme"] + ["track"]  # of other points
    assert [r["points"] for r in made] == [r["points"] for r in faces]
    raw, smooth = (np.array([r["pred"] for r in rs]) for rs in (faces, made))
    assert np.diff(smooth, axis=0).std() < 0.6 * np.diff(raw, axis=0).std()
    kept = parse(quick("track", "--no-smooth", stdin=faces).stdout)
    assert [r["pred"] for r in kept] == [r["pred"] for r in faces]
    assert [r["nme"] for r in kept] == [0.1] * 30


def test_two_faces_that_cross_keep_their_names_whatever_their_order_in_a_frame(quick):
    faces = []
    for i in range(40):
        pair = [("a", 100 + 10 * i), ("b", 490 - 10 * i)]
        for name, x in pair if i % 2 else pair[::-1]:
            faces.append(record(i, SHAPE + np.array((x, 200)), mine=name))
    made = parse(quick("track", stdin=faces).stdout)
    assert len({(r["mine"], r["track"]) for r in made}) == 2
    assert {r["track"] for r in made} == {"1", "2"}


def test_a_face_that_was_gone_for_long_and_one_of_another_video_are_other_tracks(quick):
    points = SHAPE + 200
    times = {0: "v", 1: "v", 2: "w", 9: "v", 40: "v"}
    faces = [record(i, points, group=group) for i, group in times.items()]
    assert [r["track"] for r in parse(quick("track", stdin=faces).stdout)] == [
        "1",
        "1",
        "2",
        "1",
        "3",
    ]
    longer = parse(quick("track", "--max-gap", 4, stdin=faces).stdout)
    assert [r["track"] for r in longer] == ["1", "1", "2", "1", "1"]


def test_a_jump_is_flagged_and_quick_motion_is_not(quick):
    points = still(40, noise=0.3)
    points[20, 7] += (30, 0)  # of a face of some 75 pixels
    faces = [record(i, p, flags=["mine", "jump"]) for i, p in enumerate(points)]
    made = parse(quick("track", stdin=faces).stdout)
    assert [i for i, r in enumerate(made) if "jump" in r["flags"]] == [20, 21]
    assert all(r["flags"][0] == "mine" for r in made)
    walks = still(40) + np.arange(40)[:, None, None] * (12, 0)
    made = parse(quick("track", stdin=[record(i, p) for i, p in enumerate(walks)]).stdout)
    assert not any("flags" in r for r in made)
    assert {r["track"] for r in made} == {"1"}


def test_a_frame_without_time_or_out_of_order_is_a_failure_and_the_others_go_on(quick):
    points = SHAPE + 200
    faces = [record(i, points) for i in (0, 2, 1, 3)]
    del faces[3]["time"]
    faces += [record(4, points, time=float("1e999")), record(5, points, pred=None)]
    faces += [record(6, points, status="no_face", error="none"), record(7, points)]
    done = quick("track", stdin=lines(faces).replace(b'"time":null', b'"time":"late"'))
    assert done.returncode == 1
    made = parse(done.stdout)
    assert [r.get("status") for r in made] == [
        *(None, None, "bad_record", "bad_record", "bad_record", "bad_points", "no_face", None)
    ]
    assert len(done.stderr.splitlines()) == 5  # one that had failed before is not reported again
    assert b"stdin:3: time 0.1 s comes after 0.2 s" in done.stderr
    assert made[-1]["track"] == "1"


def test_few_points_are_followed_by_their_box_which_box_leaves_as_it_is(quick):
    faces = [record(i, [[50 + i, 50]], box=[0, 0, 90, 90]) for i in range(3)]
    made = parse(quick("track", "--box", stdin=faces).stdout)
    assert [r["track"] for r in made] == ["1"] * 3
    assert made[0]["box"] == [0, 0, 90, 90]
    with pytest.raises(RecordError, match="no `box`"):
        Tracker(None, 0.0, 1.0).add("v", 0.0, np.array([[5.0, 5.0]]), None)


def test_box_comes_from_the_points_and_says_so(quick):
    made = parse(
        quick("track", "--box", stdin=[record(0, SHAPE, box_time=0, box=[0, 0, 9, 9])]).stdout
    )
    assert made[0]["box"] == pytest.approx([*SHAPE.min(axis=0), *SHAPE.max(axis=0)])
    assert made[0]["box_source"] == "points"
    assert "box_time" not in made[0]


def test_a_record_leaves_before_the_next_one_comes(tmp_path):
    process = start("track", cwd=tmp_path)
    for number in range(3):
        process.stdin.write(lines([record(number, SHAPE)]))
        process.stdin.flush()
        assert parse(process.stdout.readline())[0]["id"] == f"v/{number}"
    process.stdin.close()
    assert process.wait(timeout=30) == 0


def test_the_tracks_that_are_held_do_not_grow_with_the_video():
    tracker = Tracker(1.0, 30.0, 1.0)
    for number in range(500):
        where = (1000.0 * (number % 7), 0.0)
        tracker.add(f"video {number // 5}", float(number), SHAPE + where, None)
    assert len(tracker._groups) <= 64
    assert all(len(group.tracks) <= 2 for group in tracker._groups.values())


# kp-eval --jitter


def flicker(records):
    """NMF of one video, as `video_NMJ` of LDEQ's code has it, of a face of size 1."""
    predicted, truth = (np.array([r[k] for r in records]) for k in ("pred", "points"))
    sizes = np.sqrt(np.ptp(truth[..., 0], axis=1) * np.ptp(truth[..., 1], axis=1))
    moves = np.linalg.norm(np.diff(truth - predicted, axis=0), axis=2) / sizes[1:, None]
    return np.sqrt((np.sqrt((moves**2).mean(axis=1)) ** 2).mean())


def test_the_flicker_is_that_of_the_paper_and_acceleration_needs_no_truth(quick):
    walk = np.arange(12)[:, None, None] * (5, 1)
    videos = {
        name: [
            record(i, p, group=name, points=(SHAPE + 200 + walk[i]).tolist())
            for i, p in enumerate(still(12, noise=noise) + walk)
        ]
        for name, noise in (("calm", 0.5), ("wild", 3.0))
    }
    faces = [r for pair in zip(*videos.values(), strict=True) for r in pair]
    done = quick("eval", "--jitter", stdin=faces)
    assert done.returncode == 0
    (found,) = parse(done.stdout)
    expected = np.mean([flicker(records) for records in videos.values()])
    assert found["nmf"] == pytest.approx(expected)
    assert (found["faces"], found["failed"], found["tracks"]) == (24, 0, 2)
    accelerations = []
    for records in videos.values():
        p = np.array([r["pred"] for r in records])
        sizes = np.sqrt(np.ptp(p[2:, :, 0], axis=1) * np.ptp(p[2:, :, 1], axis=1))
        second = np.linalg.norm(p[2:] - 2 * p[1:-1] + p[:-2], axis=2) / sizes[:, None]
        accelerations.append(np.sqrt((second**2).mean()))
    assert found["acceleration"] == pytest.approx(np.mean(accelerations))
    bare = [{k: v for k, v in r.items() if k != "points"} for r in faces]
    (found,) = parse(quick("eval", "--jitter", stdin=bare).stdout)
    assert found["nmf"] is None
    assert found["acceleration"] == pytest.approx(np.mean(accelerations))


def test_nothing_is_compared_over_a_gap_or_at_points_that_are_missing():
    jitter = Jitter()
    for i in (0, 1, 2, 30, 31, 32):
        points = SHAPE + np.array((200 + 5 * (i > 10), 200))
        truth = [None, *(SHAPE[1:] + 200).tolist()]
        predicted = points.tolist()
        predicted[1] = None if i == 1 else predicted[1]
        jitter.add(record(i, predicted, points=truth))
    found = jitter.report()
    assert found["nmf"] == pytest.approx(0, abs=1e-12)
    assert found["acceleration"] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("key", ["track", "time"])
def test_two_faces_of_one_name_in_a_frame_and_those_without_time_have_no_figure(quick, key):
    faces = [record(i, SHAPE + 9, points=SHAPE.tolist()) for i in (0, 0)]
    if key == "time":
        faces = [{k: v for k, v in r.items() if k != "time"} for r in faces]
    done = quick("eval", "--jitter", "--fail-if", "nmf>1", stdin=faces)
    assert done.returncode == 4
    assert parse(done.stdout)[0]["nmf"] is None
    assert b"bring frames in order" in done.stderr or b"no `time`" in done.stderr


def test_so_few_points_that_they_have_no_size_have_no_flicker(quick):
    done = quick("eval", "--jitter", stdin=[record(i, [[i, 5]]) for i in range(4)])
    assert done.returncode == 1
    assert parse(done.stdout)[0]["acceleration"] is None
    assert b"have no size to divide by" in done.stderr


def test_a_gate_on_the_flicker_and_an_option_that_does_not_go_with_it(quick):
    faces = [record(i, p, points=(SHAPE + 200).tolist()) for i, p in enumerate(still(5))]
    assert quick("eval", "--jitter", "--fail-if", "nmf>0.5", stdin=faces).returncode == 0
    assert quick("eval", "--jitter", "--fail-if", "nmf>0.001", stdin=faces).returncode == 4
    for words in (("--norm", "box"), ("--by", "split"), ("--records",), ("--fail-if", "nme>1")):
        assert quick("eval", "--jitter", *words, stdin=faces).returncode == 2


def test_a_gap_after_the_first_frame_is_no_jitter():
    jitter = Jitter()
    points = [[float(10 * i), float(7 * (i % 5))] for i in range(8)]
    for time, off in ((0, 30.0), (10, 0.0), (10.04, 0.0), (10.08, 0.0), (30, 9.0)):
        pred = [[x + off, y] for x, y in points]
        jitter.add({"time": time, "points": points, "pred": pred})
    assert jitter.report()["nmf"] == 0
