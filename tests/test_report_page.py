"""The page of kp-viz report, in a real browser."""

import re

import orjson
import pytest
from conftest import in_process, lines

from kptools.cli.viz import tool


def predicted(face, shift, **keys):
    """A face whose prediction is off by so many pixels."""
    return face | {"pred": [[x + shift, y] for x, y in face["points"]], **keys}


def write(path, records):
    path.write_bytes(lines(records))
    return path


def make(tmp_path, *files, words=()):
    page = tmp_path / "report.html"
    done = in_process(tool, "report", "-o", page, *words, *files)
    assert done.returncode in (0, 1), done.stderr  # 1: some records are failures
    return page


@pytest.fixture
def page(browser, tmp_path, face):
    """Opens the page of these records; it fails where the browser complained."""
    complaints, requested, opened = [], [], []

    def open_page(*runs, width=1200):
        files = [write(tmp_path / f"run{n}.jsonl", run) for n, run in enumerate(runs)]
        path = make(tmp_path, *files)
        found = browser.new_page(viewport={"width": width, "height": 900})
        found.on("console", lambda message: complaints.append(message.text))
        found.on("pageerror", lambda error: complaints.append(str(error)))
        found.on("request", lambda request: requested.append(request.url))
        found.goto(path.as_uri())
        found.wait_for_selector("html[data-ready]")
        found.evaluate("document.querySelector('.controls').scrollIntoView()")
        found.wait_for_selector(".tile")
        opened.append(found)
        return found

    yield open_page
    for found in opened:
        found.close()
    assert complaints == []
    assert all(url.startswith(("file:", "data:")) for url in requested)


BLUE = """(() => {
  const c = document.querySelector("#panels canvas");
  const d = c.getContext("2d").getImageData(0, 0, c.width, c.height).data;
  let n = 0;
  for (let i = 0; i < d.length; i += 4) n += d[i + 2] > 230 && d[i] < 40;
  return n;
})()"""  # how many pixels of the first large picture are of a prediction


def names(page):
    tiles = page.locator(".tile")
    placed = [
        (int(tile.get_attribute("data-place")), tile.locator("span").first.inner_text())
        for tile in tiles.all()
    ]
    return [name for _, name in sorted(placed)]


def test_faces_are_sorted_and_filtered(page, face):
    run = [
        predicted(face(0), 1, id="a", split="train", score=[0.9] * 68, flags=["shape"]),
        predicted(face(1), 3, id="b", split="val", score=[0.2] * 68),
        predicted(face(2), 2, id="c", split="val", score=[0.5] * 68),
        face(3) | {"id": "d", "status": "unreadable", "error": "broken", "split": "val"},
    ]
    opened = page(run)
    assert names(opened) == ["d", "b", "c", "a"]
    opened.select_option("#sort", "sure")
    assert names(opened) == ["a", "c", "b", "d"]
    opened.select_option("#split", "val")
    assert names(opened) == ["c", "b", "d"]
    opened.select_option("#status", "unreadable")
    assert names(opened) == ["d"]
    opened.select_option("#status", "")
    opened.select_option("#split", "")
    opened.select_option("#flag", "shape")
    assert names(opened) == ["a"]
    opened.select_option("#flag", "")
    opened.fill("#search", "C")
    assert names(opened) == ["c"]
    assert opened.inner_text("#found") == "1 of 4 faces"


def test_a_region_is_what_faces_are_sorted_by(page, face):
    a, b = predicted(face(0), 1, id="a"), predicted(face(1), 2, id="b")
    a["pred"][48:] = [[x + 9, y] for x, y in a["points"][48:]]
    opened = page([a, b])
    opened.select_option("#region", "jaw")
    assert names(opened) == ["b", "a"]
    opened.select_option("#region", "mouth")
    assert names(opened) == ["a", "b"]


def test_a_face_is_enlarged_and_its_points_are_switched_by_key(page, face):
    opened = page([predicted(face(n), n + 1, id=f"face {n}") for n in range(3)])
    opened.click(".tile >> nth=0")
    assert opened.inner_text("#name") == "face 2"
    opened.wait_for_selector("#panels canvas[data-drawn]")
    assert opened.evaluate(BLUE) > 50
    opened.keyboard.press("p")
    opened.wait_for_selector("#panels canvas[data-drawn]")
    assert opened.evaluate(BLUE) == 0
    opened.keyboard.press("ArrowRight")
    assert opened.inner_text("#name") == "face 1"
    opened.keyboard.press("Escape")
    assert not opened.locator("dialog").is_visible()


def test_two_runs_stand_side_by_side(page, face):
    one = [predicted(face(n), n + 1, id=f"{n}") for n in range(3)]
    two = [predicted(face(n), 3 - n, id=f"{n}") for n in range(2)]
    opened = page(one, two)
    opened.select_option("#sort", "worse")
    assert names(opened) == ["0", "1", "2"]
    opened.click(".tile >> nth=0")
    assert opened.locator("#panels canvas").count() == 2
    assert "run1" in opened.inner_text("#panels")


def test_many_faces_are_drawn_as_they_come_into_view(page, face):
    opened = page([predicted(face(0), 0.01 * n, id=f"{n}") for n in range(150)], width=420)
    assert opened.locator(".tile").count() < 80
    opened.mouse.wheel(0, 100_000)
    opened.wait_for_selector(".tile >> text='0'")
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_a_name_is_text_whatever_it_holds(page, face):
    hostile = "</script><script>document.title='taken'</script><img src=x onerror=alert(1)>"
    opened = page([predicted(face(0), 1, id=hostile, split="val", flags=["<b>"])])
    assert opened.locator(".tile span").first.inner_text() == hostile
    assert opened.title() == "Facial keypoints"


# Without a browser


def data_of(path):
    found = re.search(rb'<script type="application/json" id="data">(.*)', path.read_bytes())
    return orjson.loads(found[1].removesuffix(b"</script>"))


def test_photos_without_truth_are_sorted_by_their_scores(page, face):
    photos = [predicted(face(i), 1, score=[score] * 68) for i, score in enumerate((0.8, 0.2, 0.5))]
    for record in photos:
        del record["points"]
    found = page(photos)
    assert names(found) == ["face1", "face2", "face0"]
    assert found.locator("h2").all_inner_texts() == ["Faces"]
    assert "largest error" not in found.locator("#sort").inner_text()


def test_a_broken_photo_makes_no_figures_of_photos_without_truth(tmp_path, face):
    photo = predicted(face(0), 1)
    del photo["points"]
    broken = {"image": "x.jpg", "id": "x", "split": "test", "status": "unreadable", "error": "no"}
    path = make(tmp_path, write(tmp_path / "photos.jsonl", [photo, broken]))
    assert b"<h2>Summary" not in path.read_bytes()
    assert len(data_of(path)["faces"]) == 2


def test_photos_without_truth_beside_others_have_no_part_in_the_figures(tmp_path, face, quick):
    photo = predicted(face(1), 1)
    del photo["points"]
    path = write(tmp_path / "mixed.jsonl", [predicted(face(0), 2), photo])
    done = in_process(tool, "report", "-o", tmp_path / "report.html", path)
    assert done.returncode == 0
    assert b"which are shown and not scored: 1\n" in done.stderr
    assert len(data_of(tmp_path / "report.html")["faces"]) == 2
    assert "<td>1</td>" in (tmp_path / "report.html").read_text()


def test_of_more_faces_than_count_the_worst_are_shown(tmp_path, face):
    given = [predicted(face(0), shift, id=f"{shift}") for shift in (1, 5, 3, 2, 4)]
    one = write(tmp_path / "one.jsonl", given)
    two = write(tmp_path / "two.jsonl", given[::-1])
    found = data_of(make(tmp_path, one, two, words=("--count", 2)))
    assert sorted(entry["id"] for entry in found["faces"]) == ["4", "5"]
    assert found["seen"] == 5
    assert all(run["status"] == "ok" for entry in found["faces"] for run in entry["runs"])


def test_faces_of_one_name_are_all_shown(tmp_path, face):
    given = [predicted(face(0), shift) for shift in (1, 2)]
    for record in given:
        del record["id"]
    found = data_of(make(tmp_path, write(tmp_path / "one.jsonl", given)))
    assert len(found["faces"]) == 2


def test_errors_of_the_page_are_those_of_kp_eval(tmp_path, face, quick):
    given = [predicted(face(n), 1 + n) for n in range(3)]
    found = data_of(make(tmp_path, write(tmp_path / "one.jsonl", given)))
    report = orjson.loads(quick("eval", stdin=given).stdout)
    errors = [entry["runs"][0]["error"] for entry in found["faces"]]
    assert sum(errors) / 3 == pytest.approx(report["nme"], abs=1e-6)
    jaws = [entry["runs"][0]["regions"]["jaw"] for entry in found["faces"]]
    assert sum(jaws) / 3 == pytest.approx(report["regions"]["jaw"], abs=1e-6)


def test_of_two_runs_the_worst_of_either_are_shown(tmp_path, face):
    one = [predicted(face(0), n, id=f"{n}") for n in range(1, 7)]
    two = [predicted(face(0), 9 if n < 3 else 0.1, id=f"{n}") for n in range(1, 7)]
    files = write(tmp_path / "one.jsonl", one), write(tmp_path / "two.jsonl", two)
    found = data_of(make(tmp_path, *files, words=("--count", 2)))
    assert sorted(entry["id"] for entry in found["faces"]) == ["1", "2"]


def test_a_perfect_prediction_and_odd_flags_have_a_page(tmp_path, face):
    given = [predicted(face(0), 0, flags=5)]
    assert data_of(make(tmp_path, write(tmp_path / "one.jsonl", given)))["faces"][0]["flags"] == []
