"""kp-viz edit, in a real browser and without one."""

import json
import math
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from conftest import lines, parse, run


class Editor:
    """`kp-viz edit` on some records, and the address of its page."""

    def __init__(self, records, path, *words):
        given = path.with_name("given.jsonl")
        given.write_bytes(lines(records))
        command = [sys.executable, "-m", "kptools.cli.viz", "edit", "--no-browser", "-o", path]
        self.process = subprocess.Popen(
            [*command, *words, given],
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        self.said = b""
        for line in self.process.stderr:
            if line.startswith(b"http://"):
                self.address = line.decode().strip()
                return
            self.said += line
        self.process.wait()

    def end(self, number=signal.SIGINT):
        self.process.send_signal(number)
        self.said += self.process.stderr.read()
        return self.process.wait(timeout=30)

    def ask(self, path, data=None, **headers):
        """The answer, or the status that refuses."""
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            return error.code

    def save(self, place, **values):
        origin = self.address.rsplit("/", 2)[0]
        return self.ask(f"save/{place}", json.dumps(values).encode(), Origin=origin)


@pytest.fixture
def editor(tmp_path):
    """Starts an editor, whose file is `corrected.jsonl`."""
    started = []

    def start(records, *words):
        started.append(Editor(records, tmp_path / "corrected.jsonl", *words))
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        one.process.stderr.close()


def predicted(face, count):
    """Faces with a prediction and no truth, the least sure first."""
    found = []
    for number in range(count):
        record = face(number) | {"id": f"{number}", "mine": number}
        record["pred"] = record.pop("points")
        found.append(record | {"score": [0.1 + 0.1 * number] * len(record["pred"])})
    return found


def opened(browser, editor, complaints):
    page = browser.new_page(viewport={"width": 1000, "height": 800})
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(editor.address)
    page.wait_for_selector("html[data-ready='0']")
    return page


def drag(page, point, dx, dy):
    x, y = page.evaluate(f"whereIs({point})")
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + dx, y + dy, steps=3)
    page.mouse.up()


def test_points_are_dragged_hidden_removed_undone_and_saved(browser, editor, face, tmp_path):
    given, complaints = predicted(face, 3), []
    started = editor(given)
    page = opened(browser, started, complaints)
    drag(page, 30, 40, 25)
    page.keyboard.press("h")
    drag(page, 8, 5, 5)
    page.keyboard.press("m")
    drag(page, 0, 50, 50)
    page.keyboard.press("u")
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-ready='1']")
    assert "1 saved" in page.inner_text("#count")
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-ready='2']")
    page.reload()
    page.wait_for_selector("html[data-ready='2']")  # the first that is not saved
    page.click("#end")
    page.wait_for_selector("text=The editor has ended")
    assert started.process.wait(timeout=30) == 0
    saved = parse((tmp_path / "corrected.jsonl").read_bytes())
    assert [record["id"] for record in saved] == ["0", "1"]
    assert saved[1]["points"] == given[1]["pred"]  # to the last digit
    assert [record["pred"] for record in saved] == [record["pred"] for record in given[:2]]
    moved, before = saved[0]["points"], given[0]["pred"]
    assert moved[8] is None
    assert moved[30][0] > before[30][0] + 1
    assert moved[30][1] > before[30][1] + 1
    assert [i for i in range(68) if moved[i] != before[i]] == [8, 30]
    assert saved[0]["visible"] == [0 if i == 30 else 1 for i in range(68)]
    assert saved[0]["mine"] == 0
    assert complaints == []
    page.close()


def test_a_killed_browser_and_a_killed_editor_lose_nothing_that_was_saved(
    browser, editor, face, tmp_path
):
    given = predicted(face, 4)
    started = editor(given)
    page = opened(browser, started, [])
    page.keyboard.press("Enter")
    page.wait_for_selector("html[data-ready='1']")
    drag(page, 30, 30, 0)
    page.close()  # in the middle of a correction
    started.save(2, points=given[2]["pred"][::-1])
    assert started.end(signal.SIGKILL) == -signal.SIGKILL
    part = tmp_path / "corrected.jsonl.part"
    with open(part, "ab") as handle:
        handle.write(b'{"id":"3","torn')
    refused = editor(given)
    assert refused.process.returncode == 3
    assert b"--resume" in refused.said
    again = editor(given, "--resume")
    assert json.loads(again.ask("faces"))["faces"][0]["saved"]
    assert again.end() == 0
    saved = parse((tmp_path / "corrected.jsonl").read_bytes())
    assert [record["id"] for record in saved] == ["0", "2"]
    assert saved[1]["points"] == given[2]["pred"][::-1]
    assert not part.exists()


def test_another_site_can_neither_read_nor_write(browser, editor, face):
    started = editor(predicted(face, 1))
    host, token = started.address.split("/")[2], started.address.split("/")[3]
    body = json.dumps({"points": None}).encode()
    assert started.ask("save/0", body, Origin="http://evil.example") == 403
    assert started.ask("save/0", body) == 403
    assert started.ask("end", b"", Origin="null") == 403
    assert started.ask("faces", Host="evil.example") == 403  # a name that was bound anew
    started.address = f"http://{host}/{'x' * len(token)}/"
    assert started.ask("faces") == 403
    started.address = f"http://{host}/"
    assert started.ask("") == 403
    page = browser.new_page()  # of another origin
    page.goto("about:blank")
    url = f"http://{host}/{token}/"
    read = "async (url) => { try { return await (await fetch(url)).text() } catch { return 'no' } }"
    assert page.evaluate(read, url + "faces") == "no"
    framed = browser.new_page()
    framed.set_content(f"<iframe src='{url}'></iframe>")
    framed.wait_for_timeout(300)
    assert all("Save" not in (f.text_content("body") or "") for f in framed.frames)
    page.close()
    framed.close()
    started.address = url
    assert b'"saved":false' in started.ask("faces")


def test_what_is_no_face_is_refused_and_not_saved(editor, face, tmp_path):
    started = editor(predicted(face, 1))
    right = face(0)["points"]
    assert started.save(0, points=right[1:]) == 422
    assert started.save(0, points=[["x", 1], *right[1:]]) == 422
    assert started.save(0, points=right, visible=[1, 0]) == 422
    assert started.save(0, points=right, box=[5, 5, 1, 1]) == 422
    assert started.save(7, points=right) == 404
    assert started.ask("../../etc/passwd") == 404
    assert started.save(0, points=right, box=[1, 2, 50, 60]) == b'{"saved":1}'
    assert started.end() == 0
    saved = parse((tmp_path / "corrected.jsonl").read_bytes())[0]
    assert saved["box"] == [1, 2, 50, 60]
    assert saved["box_source"] == "editor"


def test_a_photo_that_was_corrected_is_trained_on_and_a_test_set_is_not(editor, face, tmp_path):
    photo, labelled = ({**face(number), "split": "test"} for number in range(2))
    points = photo.pop("points")
    started = editor([{**photo, "pred": points}, labelled])
    for number in range(2):
        assert started.save(number, points=points) == b'{"saved":%d}' % (number + 1)
    assert started.end() == 0
    saved = parse((tmp_path / "corrected.jsonl").read_bytes())
    assert [record["split"] for record in saved] == ["train", "test"]


def test_where_nothing_was_saved_there_is_no_file(editor, face, tmp_path):
    started = editor(predicted(face, 1))
    assert started.end() == 0
    assert b"no face was saved" in started.said
    assert sorted(os.listdir(tmp_path)) == ["0.png", "given.jsonl"]


def test_records_without_points_fail_and_two_of_one_id_are_an_error(face, tmp_path):
    empty = {key: value for key, value in face(0).items() if key != "points"}
    done = run("viz", "edit", "--no-browser", stdin=[empty], cwd=tmp_path)
    assert done.returncode == 3
    assert b"stdin:1: no `points` and no `pred`" in done.stderr
    done = run("viz", "edit", "--no-browser", stdin=[face(0), face(0)], cwd=tmp_path)
    assert done.returncode == 3
    assert b"stdin:2: a second face of the id" in done.stderr


def test_points_of_a_turned_face_are_where_they_lie(browser, editor, face, tmp_path):
    given = [predicted(face, 1)[0] | {"roll": 30}]
    started = editor(given)
    shown = json.loads(started.ask("face/0"))
    (a, b, _), _ = shown["matrix"]
    assert abs(b / a) == pytest.approx(math.tan(math.radians(30)))
    page = opened(browser, started, [])
    drag(page, 30, 0, 40)  # down on the page, where the face is upright
    page.keyboard.press("Enter")
    page.wait_for_selector("text=1 saved")
    page.close()
    assert started.end() == 0
    moved = parse((tmp_path / "corrected.jsonl").read_bytes())[0]["points"][30]
    dx, dy = moved[0] - given[0]["pred"][30][0], moved[1] - given[0]["pred"][30][1]
    assert abs(math.degrees(math.atan2(dx, dy))) == pytest.approx(30, abs=2)


def test_a_finished_file_is_not_written_over_and_resumed_as_it_is(editor, face, tmp_path):
    given, done = predicted(face, 3), tmp_path / "corrected.jsonl"
    kept = [record | {"points": record["pred"]} for record in given[:2]]
    done.write_bytes(lines(kept).rstrip(b"\n"))  # without its last line feed
    refused = editor(given)
    assert refused.process.returncode == 3
    assert b"corrected.jsonl holds faces" in refused.said
    again = editor(given, "--resume")
    assert again.save(2, points=given[2]["pred"]) == b'{"saved":3}'
    assert again.end(signal.SIGKILL) == -signal.SIGKILL
    last = editor(given, "--resume")
    assert last.end() == 0
    assert [record["id"] for record in parse(done.read_bytes())] == ["0", "1", "2"]


def test_the_input_is_no_output(face, tmp_path):
    (tmp_path / "a.jsonl").write_bytes(lines(predicted(face, 2)))
    done = run("viz", "edit", "--no-browser", "-o", "a.jsonl", "a.jsonl", cwd=tmp_path)
    assert done.returncode == 2
    assert len(parse((tmp_path / "a.jsonl").read_bytes())) == 2


def test_a_face_without_any_point_starts_without_and_odd_records_do_no_harm(editor, face):
    empty = face(0) | {"id": "0", "points": [None] * 68, "flags": "odd"}
    started = editor([empty, face(1) | {"id": "1", "flags": [{"a": 1}, "shape"]}])
    assert json.loads(started.ask("face/0"))["points"] == [None] * 68
    assert [one["flags"] for one in json.loads(started.ask("faces"))["faces"]] == [[], ["shape"]]


def test_what_a_correction_makes_wrong_is_removed(editor, face, tmp_path):
    given = predicted(face, 1)[0] | {"nme": 0.1, "mean": face(0)["points"], "box_time": 1}
    started = editor([given])
    started.save(0, points=given["pred"], box=[1, 2, 50, 60])
    assert started.end() == 0
    saved = parse((tmp_path / "corrected.jsonl").read_bytes())[0]
    assert not {"nme", "mean", "box_time"} & set(saved)
