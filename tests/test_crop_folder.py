"""Crops that are kept between runs (`kp-train --cache`)."""

import os
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from conftest import lines, parse
from PIL import Image

from kptools.errors import KptoolsError
from kptools.pixels import cache
from kptools.pixels.cache import CropCache
from kptools.pixels.crop_folder import CropFolder
from kptools.pixels.crop_spec import crop_spec
from kptools.records.face import Face
from kptools.specs import InputSpec
from kptools.storage import files

SPEC = InputSpec((16, 16), 0.1, False)
BYTES = 16 * 16 * 3


@pytest.fixture
def photos(tmp_path):
    """Six faces, on as many pictures."""
    folder = tmp_path / "photos"
    folder.mkdir()
    records = []
    for i in range(6):
        path = folder / f"{i}.png"
        picture = Image.linear_gradient("L").rotate(45).resize((40, 30))
        Image.merge("RGB", [picture, picture.point(lambda v, i=i: v // (i + 1)), picture]).save(
            path
        )
        records.append({"image": str(path), "id": str(i), "box": [5, 5, 30, 25], "points": []})
    return records


def faces(records):
    return [Face(r, r["image"], tuple(map(float, r["box"])), []) for r in records]


def decoded(records, folder, spec=SPEC, size=10**6):
    """The crops of a run, as bytes, how many were decoded, and which have failed."""
    some, failures, calls = faces(records), {}, []
    whole = cache.decode_crop

    def counted(*args):
        calls.append(args)
        return whole(*args)

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(2) as pool:
        patch.setattr(cache, "decode_crop", counted)
        crops = CropCache(
            some,
            crop_spec(some, spec),
            pool,
            memory=10**6,
            failed=lambda i, error: failures.update({i: (error.status, str(error))}),
            folder=CropFolder(folder, size),
        )
        crops.wait_for_all()
        return crops.pixels.numpy().tobytes(), len(calls), failures


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_second_run_takes_the_crops_that_the_first_has_left(photos, tmp_path):
    folder = tmp_path / "kept"
    first, count, _ = decoded(photos, folder)
    assert count == 6
    assert len(set(first)) > 6  # they are no file of zeros
    again, count, _ = decoded(photos, folder)
    assert count == 0
    assert again == first
    assert len(names(folder)) == 1


@pytest.mark.parametrize("what", ["photo", "time", "box", "order", "size", "margin", "grey"])
def test_what_decides_the_pixels_makes_another_file(photos, tmp_path, what):
    folder, spec = tmp_path / "kept", SPEC
    first, _, _ = decoded(photos, folder)
    if what == "photo":
        Image.new("RGB", (40, 30), (7, 7, 7)).save(photos[2]["image"])
    elif what == "time":
        os.utime(photos[2]["image"], ns=(1, 1))
    elif what == "box":
        photos[2]["box"] = [5, 5, 30, 28]
    elif what == "order":
        photos.reverse()
    else:
        spec = {
            "size": InputSpec((16, 20), 0.1, False),
            "margin": InputSpec((16, 16), 0.2, False),
            "grey": InputSpec((16, 16), 0.1, True),
        }[what]
    again, count, _ = decoded(photos, folder, spec)
    assert count == 6
    assert (again == first) == (what == "time")
    assert len(names(folder)) == 2


def test_faces_without_a_crop_are_reported_in_each_run_until_their_photo_is_there(photos, tmp_path):
    folder = tmp_path / "kept"
    os.rename(photos[1]["image"], tmp_path / "away.png")
    _, _, first = decoded(photos, folder)
    _, count, again = decoded(photos, folder)
    assert count == 0
    assert first == again
    assert first[1][0] == "missing"
    assert list(first) == [1]
    os.rename(tmp_path / "away.png", photos[1]["image"])
    assert decoded(photos, folder)[1:] == (6, {})


def test_a_file_that_was_cut_off_is_made_again(photos, tmp_path):
    folder = tmp_path / "kept"
    first, _, _ = decoded(photos, folder)
    kept = folder / names(folder)[0]
    data = kept.read_bytes()
    for damaged in (data[: 3 * BYTES], data[:-1], b""):
        kept.write_bytes(damaged)
        assert decoded(photos, folder)[:2] == (first, 6)
        assert kept.read_bytes() == data


def test_what_a_run_has_not_finished_is_no_file_and_is_removed(photos, tmp_path):
    folder = tmp_path / "kept"
    some = faces(photos)
    spec = crop_spec(some, SPEC)
    left = CropFolder(folder, 10**6).open(some, spec, 6 * BYTES)
    assert names(folder) == [left.path.name + ".part"]
    # another run at the same time keeps nothing, and has its crops
    assert decoded(photos, folder)[1] == 6
    assert names(folder) == [left.path.name + ".part"]
    left.handle.close()  # the process has died
    assert decoded(photos[:3], folder)[1] == 3
    assert len(names(folder)) == 1
    assert not names(folder)[0].endswith(".part")


def test_a_full_folder_loses_what_was_used_longest_ago(photos, tmp_path):
    folder, size = tmp_path / "kept", 5 * BYTES
    decoded(photos[:2], folder, size=size)
    decoded(photos[2:4], folder, size=size)
    for age, path in enumerate(sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime_ns)):
        os.utime(path, (1000 + age, 1000 + age))
    assert decoded(photos[:2], folder, size=size)[1] == 0  # used now
    assert decoded(photos[4:], folder, size=size)[1] == 2
    assert decoded(photos[:2], folder, size=size)[1] == 0
    assert decoded(photos[2:4], folder, size=size)[1] == 2
    with pytest.raises(KptoolsError, match="raise --cache-size"):
        decoded(photos, folder, size=size)


def test_photos_on_a_server_are_not_kept(photos, tmp_path):
    some = faces([photos[0] | {"image": "https://example.org/a.jpg"}])
    folder = CropFolder(tmp_path / "kept", 10**6)
    assert folder.open(some, crop_spec(some, SPEC), BYTES) is None


def test_a_full_disk_is_one_line(photos, tmp_path, monkeypatch):
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: SimpleNamespace(free=10))
    with pytest.raises(KptoolsError, match="make room"):
        decoded(photos, tmp_path / "kept")
    assert names(tmp_path / "kept") == []


def test_a_run_with_kept_crops_has_the_same_bytes(drawn, tmp_path, quick):
    records = lines(parse(drawn)[:24])
    words = ["train", "--arch", "nose", "--input-size", "32x32", "--epochs", 2, "--threads", 1]
    kept = ["--cache", tmp_path / "kept"]
    made = {}
    for name, more in (("plain", []), ("first", kept), ("second", kept)):
        out = tmp_path / f"{name}.safetensors"
        done = quick(*words, *more, "-o", out, stdin=records)
        assert done.returncode == 0, done.stderr
        made[name] = out.read_bytes(), done.stdout
    assert made["plain"] == made["first"] == made["second"]
    assert len(names(tmp_path / "kept")) == 2  # of train, and of val


def test_a_cache_that_is_no_folder_is_one_line(drawn, tmp_path, quick):
    (tmp_path / "kept").write_text("a file")
    words = ["--arch", "nose", "--epochs", 1, "--cache", tmp_path / "kept"]
    done = quick("train", *words, "-o", tmp_path / "m.safetensors", stdin=drawn)
    assert done.returncode == 3
    assert done.stderr.decode().splitlines() == [f"--cache {tmp_path}/kept: File exists"]
