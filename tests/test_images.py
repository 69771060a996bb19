"""Odd images are read rightly, or become records that say why not."""

import base64
import io
import struct
import sys
import zlib

import numpy as np
import pytest
from conftest import parse, run
from PIL import Image, features

from kptools.errors import RecordError
from kptools.specs import FILL
from kptools.storage import images


def pixels(path, grey=False):
    return np.asarray(images.read(str(path), grey=grey)[0]).astype(int)


def ramp(width=32, height=24):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    return np.stack([x * 8, y * 10, (x + y) * 4], axis=-1).astype(np.uint8)


def test_a_jpg_that_is_a_png_is_read(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(ramp()).save(path, "PNG")
    assert np.array_equal(pixels(path), ramp())


def test_cmyk_is_what_it_looks_like(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (20, 20), (0, 255, 255, 0)).save(path, quality=100)
    assert np.abs(pixels(path)[5, 5] - [255, 0, 0]).max() < 6


def test_a_palette_is_looked_up(tmp_path):
    path = tmp_path / "a.gif"
    Image.fromarray(ramp()).quantize(256).save(path)
    assert np.abs(pixels(path) - ramp()).mean() < 8


def test_sixteen_bits_are_scaled_to_eight(tmp_path):
    path = tmp_path / "a.png"
    values = np.linspace(0, 65535, 24 * 32).reshape(24, 32).astype(np.uint16)
    Image.fromarray(values).save(path)
    assert np.abs(pixels(path, grey=True) - values / 257).max() <= 1
    assert pixels(path).shape == (24, 32, 3)


def test_what_is_transparent_is_mid_grey(tmp_path):
    rgba = np.dstack([ramp(), np.full((24, 32), 255, np.uint8)])
    rgba[:10, :10, 3] = 0
    path = tmp_path / "a.png"
    Image.fromarray(rgba).save(path)
    assert (pixels(path)[:10, :10] == FILL).all()
    assert np.array_equal(pixels(path)[10:, 10:], ramp()[10:, 10:])
    Image.fromarray(np.dstack([ramp()[..., 0], rgba[..., 3]])).save(tmp_path / "la.png")
    assert (pixels(tmp_path / "la.png", grey=True)[:10, :10] == FILL).all()


def test_of_an_animation_the_first_frame_is_taken(tmp_path):
    frames = [Image.new("RGB", (16, 16), c) for c in ("red", "lime", "blue")]
    for suffix in ("gif", "webp", "png"):
        path = tmp_path / f"a.{suffix}"
        options = {"lossless": True} if suffix == "webp" else {}
        frames[0].save(path, save_all=True, append_images=frames[1:], **options)
        assert np.abs(pixels(path)[8, 8] - [255, 0, 0]).max() < 3, suffix


def test_one_pixel_and_fifty_megapixels(tmp_path):
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "one.png")
    assert pixels(tmp_path / "one.png").tolist() == [[[1, 2, 3]]]
    Image.new("L", (10_000, 5_000), 77).save(tmp_path / "large.jpg")
    assert images.shown_size(str(tmp_path / "large.jpg")) == (10_000, 5_000)
    small, _ = images.read(str(tmp_path / "large.jpg"), shrink=8)
    assert small.size == (1250, 625)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_the_size_is_that_of_the_picture_as_shown(tmp_path, orientation, suffix):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(ramp()).save(path, exif=exif, quality=100)
    with Image.open(path) as stored:
        expected = ImageOps.exif_transpose(stored).convert("RGB")
    assert images.shown_size(str(path)) == expected.size
    assert np.abs(pixels(path) - np.asarray(expected).astype(int)).max() <= 3


def bomb() -> bytes:
    """A PNG that says it has 50,000 x 50,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def broken(tmp_path):
    jpeg = io.BytesIO()
    Image.fromarray(ramp(200, 150)).save(jpeg, "JPEG")
    contents = {
        "empty.jpg": (b"", "unreadable"),
        "truncated.jpg": (jpeg.getvalue()[:900], "unreadable"),
        "text.png": (b"this is no image at all", "unreadable"),
        "bomb.png": (bomb(), "too_large"),
        "page.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n", "unreadable"),
    }
    for name, (data, _) in contents.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.jpg").mkdir()
    return {name: status for name, (_, status) in contents.items()} | {
        "folder.jpg": "unreadable",
        "gone.jpg": "missing",
    }


def test_broken_images_say_what_they_are(tmp_path):
    for name, status in broken(tmp_path).items():
        with pytest.raises(RecordError) as caught:
            images.read(str(tmp_path / name))
        assert caught.value.status == status, name
        assert name in str(caught.value)


def test_broken_images_are_records_and_the_rest_is_predicted(face, tmp_path):
    train = [face(i) for i in range(4)]
    model = tmp_path / "m.safetensors"
    made = run(
        *("train", "--arch", "nose", "--epochs", 1, "--val-fraction", 0, "-o", model),
        stdin=train, cwd=tmp_path,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    statuses = broken(tmp_path)
    bad = [face(0, image=str(tmp_path / name), id=name) for name in statuses]
    far = face(1, id="far", box=[5000, 5000, 5100, 5100])
    vast = face(1, id="vast", box=[-9e5, -9e5, 9e5, 9e5])
    done = run("predict", model, stdin=[face(0), *bad, far, vast, face(2)])
    out = parse(done.stdout)
    assert done.returncode == 1
    expected = [None, *statuses.values(), "bad_box", "bad_box", None]
    assert [r.get("status") for r in out] == expected
    assert "pred" in out[0]
    assert "pred" in out[-1]
    assert b"Traceback" not in done.stderr
    assert b"9 of 11 records failed" in done.stderr
    assert all("mean" in r for r in out)  # for kp-eval --fill mean


def test_what_pillow_has_to_say_does_not_reach_stderr(face, tmp_path):
    out = io.BytesIO()
    Image.new("RGB", (9, 9)).save(out, "TIFF")
    data = out.getvalue()
    at = data.index((277).to_bytes(2, "little"))  # samples per pixel: 279 of them
    path = tmp_path / "odd.tif"
    path.write_bytes(data[: at + 8] + (279).to_bytes(2, "little") + data[at + 10 :])
    done = run("augment", "--rotate", 5, "--write", tmp_path / "w", stdin=[face(image=str(path))])
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 2, done.stderr  # the record's, and the count


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_tiffs_size_is_that_of_its_picture(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.tif", exif=exif)
    path = str(tmp_path / "a.tif")
    picture, _ = images.read(path)
    assert images.shown_size(path) == picture.size
    assert picture.size == ((30, 40) if orientation > 4 else (40, 30))


# 96x64, left half red, to the right green over blue, with an EXIF orientation of 6
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAaFtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAA"
    "AAAAAAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAABxQABAAAAAAAAAH8AAgAAAAACRAABAAAAAAAAACQAAAA4aWlu"
    "ZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA"
    "4GlwcnAAAADAaXBjbwAAAHhodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoDCBBZbqSSmubgIaDAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAi"
    "QAAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABgAAAAQAAAABBwaXhpAAAAAAMICAgAAAAJaXJvdAMA"
    "AAAYaXBtYQAAAAAAAAABAAEFgQIDBIUAAAAaaXJlZgAAAAAAAAAOY2RzYwACAAEAAQAAAKttZGF0AAAAeygBrwng"
    "40ibUR///h2+f/9Um9D/Sy7B5k8i/xXa3+rU4/+R0thMrsbXTfb+X1GYd9I3NW8yvYKtAL0EJNbe7uuWYWGg8YcA"
    "AgWq3BL1M0BgBoiar/JHP6IPFZ1hTqnf//s4X4/ONcW90FoH/4vR2wffB4xz34ZV84AZ8AAAAAZFeGlmAABNTQAq"
    "AAAACAABARIAAwAAAAEABgAAAAAAAA=="
)


def test_a_heic_picture_is_read_as_it_is_shown(tmp_path):
    pytest.importorskip("pi_heif", reason="needs pi-heif: pip install pi-heif")
    path = tmp_path / "IMG_1.HEIC"
    path.write_bytes(HEIC)
    assert images.shown_size(str(path)) == (64, 96)
    picture, _ = images.read(str(path))
    assert picture.size == (64, 96)
    red, blue, green = (picture.getpixel(at) for at in ((5, 5), (5, 90), (60, 90)))
    assert red[0] > 180 > 60 > max(red[1:])
    assert blue[2] > 140 > 60 > max(blue[:2])
    assert green[1] > 140 > 60 > max(green[0], green[2])


def test_without_its_wheel_a_heic_picture_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    path = tmp_path / "a.heic"
    path.write_bytes(HEIC)
    with pytest.raises(RecordError, match="is a HEIC picture; pip install pi-heif"):
        images.shown_size(str(path))


def test_an_avif_picture_is_read(tmp_path):
    if not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF; 11.3 or later does")
    path = tmp_path / "a.avif"
    Image.new("RGB", (40, 30), (200, 30, 30)).save(path)
    for brand in (b"avif", b"mif1"):  # the first of its brands need not be its own
        path.write_bytes(path.read_bytes()[:8] + brand + path.read_bytes()[12:])
        picture, _ = images.read(str(path))
        assert picture.size == (40, 30)
        assert picture.getpixel((20, 15))[0] > 180
