"""Records and images packed into tar files."""

import json
import tarfile

import pytest
from conftest import noise, parse, run, untrained


@pytest.fixture
def records(tmp_path):
    """Three pictures, of which the second has two faces; and one that is not there."""
    made = []
    for index, name in enumerate(("a.png", "b.png", "b.png", "gone.png", "c.png")):
        if name != "gone.png":
            noise(tmp_path / name)
        box = [10.0 + index, 5.0, 60.0, 50.0]
        image = str(tmp_path / name)
        made.append({"image": image, "id": f"{index}", "box": box, "size": [80, 60], "mine": 1})
    return made


def test_packed_records_are_predicted_as_the_others_are(records, tmp_path):
    packed = run("prep", "pack", "--out", "shards", stdin=records, cwd=tmp_path)
    assert packed.returncode == 1
    assert packed.stderr.count(b"gone.png does not exist") == 1
    made = parse(packed.stdout)
    assert [r["id"] for r in made] == [r["id"] for r in records]
    assert made[0]["image"] == "tar://00000000.png::shards/00000.tar"
    assert made[1]["image"] == made[2]["image"]
    checkpoint = untrained(tmp_path / "m.safetensors")
    plain, packed = (
        parse(run("predict", checkpoint, stdin=some, cwd=tmp_path).stdout)
        for some in (records, made)
    )
    assert [r.get("pred") for r in plain] == [r.get("pred") for r in packed]


def test_a_shard_has_the_layout_of_webdataset(records, tmp_path):
    run("prep", "pack", "--out", "shards", stdin=records, cwd=tmp_path)
    with tarfile.open(tmp_path / "shards" / "00000.tar") as shard:
        names = shard.getnames()
        record = json.loads(shard.extractfile("00000001.1.json").read())
    assert names[:2] == ["00000000.png", "00000000.0.json"]
    assert names[2:5] == ["00000001.png", "00000001.0.json", "00000001.1.json"]
    assert record["id"] == "2"
    assert record["mine"] == 1


def test_a_full_shard_is_followed_by_the_next(tmp_path):
    made = []
    for index in range(4):
        path = noise(tmp_path / f"{index}.png", (900, 700))
        made.append({"image": str(path), "id": f"{index}", "box": [1, 1, 9, 9]})
    done = run("prep", "pack", "--out", "shards", "--size", 1, stdin=made, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    shards = sorted(path.name for path in (tmp_path / "shards").iterdir())
    assert shards[:2] == ["00000.tar", "00001.tar"]
    assert not [name for name in shards if name.endswith(".part")]
    members = [r["image"] for r in parse(done.stdout)]
    assert len(set(members)) == 4
    assert run("viz", "photos", "--out", "drawn", stdin=done.stdout, cwd=tmp_path).returncode == 0


def test_shards_are_not_written_over(records, tmp_path):
    run("prep", "pack", "--out", "shards", stdin=records, cwd=tmp_path)
    again = run("prep", "pack", "--out", "shards", stdin=records, cwd=tmp_path)
    assert again.returncode == 3
    assert b"there already" in again.stderr


def test_nothing_to_pack_makes_no_shard(tmp_path):
    done = run("prep", "pack", "--out", "shards", stdin=b"", cwd=tmp_path)
    assert done.returncode == 0
    assert not list((tmp_path / "shards").iterdir())
