"""A job over other people's files, from end to end: each bad input named, each good result kept.

KPTOOLS_RECORDS=10000 is the long run: 100 bad ones among 10,000 (here 20 among 400)."""

import io
import os
import re

import orjson
from conftest import parse, run, untrained
from PIL import Image

COUNT = int(os.environ.get("KPTOOLS_RECORDS", "400"))
EACH = max(1, COUNT // 2000)  # of each kind

BOX = "<box top='5' left='15' width='45' height='50'>{}</box>"
PARTS = "".join(
    f"<part name='{i:02d}' x='{20 + i % 9 * 4}' y='{10 + i // 9 * 5}'/>" for i in range(68)
)
SOUND = BOX.format(PARTS)


def bomb():
    """A PNG whose header speaks of 900 megapixels."""
    out = io.BytesIO()
    Image.new("RGB", (2, 2)).save(out, "PNG")
    data = bytearray(out.getvalue())
    data[16:24] = (30000).to_bytes(4, "big") * 2
    return bytes(data)


# What is wrong in the dataset: the image's bytes (None: not there), and its box
def bad_images(jpeg):
    return {
        "missing": None,
        "empty": b"",
        "truncated": jpeg[: len(jpeg) // 2],
        "folder": ...,
        "text": b"this is no image\n",
        "bomb": bomb(),
    }


BAD_BOXES = {
    "flat": SOUND.replace("width='45'", "width='0'"),
    "nan": SOUND.replace("left='15'", "left='nan'"),
    "vast": SOUND.replace("height='50'", "height='1e308'"),
    "part99": SOUND.replace("name='67'", "name='99'"),
    "partx": SOUND.replace("x='20'", "x='left'"),
}

# What happens to lines on their way
BAD_LINES = {
    "torn": lambda record: orjson.dumps(record)[:200],
    "utf8": lambda record: orjson.dumps(record).replace(b"dataset", b"\xff\xfe"),
    "array": lambda record: b"[1, 2, 3]",
    "scheme": lambda record: orjson.dumps(record | {"scheme": "mine"}),
    "no box": lambda record: orjson.dumps(record | {"box": None}),
    "policy": lambda record: orjson.dumps(record | {"augment": [{"seed": 0, "rotate": -400}]}),
    "count": lambda record: orjson.dumps(record | {"points": record["points"][:67]}),
}


def dataset(folder):
    """A dataset of COUNT - 7 * EACH faces, 13 * EACH of them bad, in an order that mixes them."""
    out = io.BytesIO()
    Image.effect_noise((80, 60), 60).convert("RGB").save(out, "JPEG")
    (folder / "sound.jpg").write_bytes(out.getvalue())
    bad = bad_images(out.getvalue())
    kinds = [*bad, *BAD_BOXES, "nameless", "twice"]
    images = []
    for index in range(COUNT - len(BAD_LINES) * EACH):
        kind = kinds[index % len(kinds)] if 20 <= index < 20 + len(kinds) * EACH else "sound"
        name = f"{index:05d}.jpg"
        if kind == "twice":
            name = "00003.jpg"
        elif kind in bad:
            if bad[kind] is ...:
                (folder / name).mkdir()
            elif bad[kind] is not None:
                (folder / name).write_bytes(bad[kind])
        else:
            os.link(folder / "sound.jpg", folder / name)
        file = "" if kind == "nameless" else f" file='{name}'"
        images.append(f"<image{file}>{BAD_BOXES.get(kind, SOUND)}</image>")
    text = "\n".join(images)
    (folder / "faces.xml").write_text(f"<dataset><images>\n{text}\n</images></dataset>\n")


def test_each_bad_one_among_many_is_named_once_and_the_rest_is_done(tmp_path):
    dataset(tmp_path)
    model = untrained(tmp_path / "m.safetensors")
    told = 0

    def stage(*words, stdin=b""):
        """Run a tool; each line on stderr but the last is one record's, and no record has two."""
        nonlocal told
        done = run(*words, stdin=stdin, cwd=tmp_path)
        assert done.returncode == 1, done.stderr[-2000:]
        assert b"Traceback" not in done.stderr
        *lines, last = done.stderr.decode().splitlines()
        assert re.fullmatch(rf"kp-{words[0]}: \d+ of \d+ records failed", last)
        places = [re.match(r"(\S+:\d+): ", line).group(1) for line in lines]
        assert len(set(places)) == len(places)
        told += len(places)
        return done.stdout

    listed = stage("prep", "ibug", tmp_path, "--xml", "faces.xml").splitlines()
    assert len(listed) == COUNT - len(BAD_LINES) * EACH
    sound = orjson.loads(listed[0])
    added = [
        spoil(sound | {"id": f"{kind} {number}"})
        for number in range(EACH)
        for kind, spoil in BAD_LINES.items()
    ]
    stream = b"\n".join([*listed[:7], *added, *listed[7:]]) + b"\n"

    augmented = stage("augment", "--rotate", 5, "--flip", 0.5, stdin=stream)
    predicted = stage("predict", model, stdin=augmented)
    scored = stage("eval", "--records", stdin=predicted)
    for output in (augmented, predicted, scored):
        assert output.count(b"\n") == COUNT
    bad = (len(BAD_LINES) + 13) * EACH
    out = parse(scored)
    assert sum("status" in record for record in out) == bad == told
    assert sum("nme" in record for record in out) == COUNT - bad
    ids = [record["id"] for record in parse(augmented)]
    assert [record["id"] for record in out] == ids
