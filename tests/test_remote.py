"""Images on a server, in a bucket, in an archive."""

import io
import os
import tarfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from conftest import noise, parse, run, untrained

from kptools.errors import KptoolsError, RecordError
from kptools.storage import images, remote

BOX = [10.0, 5.0, 60.0, 50.0]


@pytest.fixture
def photo(tmp_path):
    return noise(tmp_path / "a.png").read_bytes()


def record(image, index=0):
    return {"image": image, "id": f"{index}", "box": BOX, "size": [80, 60]}


@pytest.fixture(params=["tar", "zip"])
def archive(request, tmp_path, photo):
    path = tmp_path / f"photos.{request.param}"
    if request.param == "tar":
        with tarfile.open(path, "w") as made:
            for name in ("one/a.png", "one/b.png"):
                member = tarfile.TarInfo(name)
                member.size = len(photo)
                made.addfile(member, io.BytesIO(photo))
    else:
        with zipfile.ZipFile(path, "w") as made:
            for name in ("one/a.png", "one/b.png"):
                made.writestr(name, photo)
    return path


def test_a_member_of_an_archive_is_an_image_as_its_file_is(archive, tmp_path):
    checkpoint = untrained(tmp_path / "m.safetensors")
    protocol = archive.suffix[1:]
    names = [str(tmp_path / "a.png"), f"{protocol}://one/a.png::{archive}"]
    done = run("predict", checkpoint, stdin=[record(name, i) for i, name in enumerate(names)])
    assert done.returncode == 0, done.stderr
    file, member = parse(done.stdout)
    assert file["pred"] == member["pred"]
    assert member["image"] == names[1]


def test_a_member_that_is_not_there_and_a_broken_archive_are_failures(archive, tmp_path):
    protocol = archive.suffix[1:]
    broken = tmp_path / f"broken.{protocol}"
    broken.write_bytes(b"no archive")
    for image, status in (
        (f"{protocol}://one/c.png::{archive}", "missing"),
        (f"{protocol}://one/c.png::{tmp_path}/none.{protocol}", "missing"),
        (f"{protocol}://one/c.png", "missing"),
        (f"{protocol}://one/a.png::{broken}", "unreadable"),
    ):
        with pytest.raises(RecordError) as caught:
            images.read(image)
        assert caught.value.status == status, image


class Handler(BaseHTTPRequestHandler):
    """Answers by the name: what is asked for a picture that is slow, gone, cut off, redirected."""

    photo = b""
    asked: list[str]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        name = self.path.partition("?")[0]
        if self.command == "GET":
            self.asked.append(name)
        if name == "/moved.png":
            return self._answer(302, b"", Location="/a.png")
        if name == "/elsewhere.png":
            return self._answer(302, b"", Location="ftp://127.0.0.1/a.png")
        if name == "/file.png":
            return self._answer(302, b"", Location="file:///etc/hostname")
        if name == "/gone.png":
            return self._answer(404, b"")
        if name == "/secret.png":
            return self._answer(403, b"")
        if name == "/trouble.png":
            return self._answer(503, b"")
        if name == "/once.png" and self.asked.count(name) < 2:
            return self._answer(503, b"")
        if name == "/slow.png":
            time.sleep(3)
        if name == "/large.png":
            return self._answer(200, b"\0" * 3000000)
        if name == "/short.png":
            return self._answer(200, self.photo[:500], length=len(self.photo))
        return self._answer(200, self.photo)

    def _answer(self, status, body, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *words):
        pass


@pytest.fixture
def server(photo, monkeypatch):
    pytest.importorskip("aiohttp")
    handler = type("Handler", (Handler,), {"photo": photo, "asked": []})
    made = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    monkeypatch.setattr(remote, "TIMEOUT", 1.0)
    monkeypatch.setattr(remote, "MAX_IMAGE_BYTES", 1 << 20)
    remote._options.cache_clear()
    yield f"http://127.0.0.1:{made.server_port}", handler
    remote._options.cache_clear()
    made.shutdown()


@pytest.mark.parametrize("name", ["a.png", "moved.png", "once.png"])
def test_an_image_on_a_server_is_read(server, name, tmp_path):
    url, _ = server
    picture, _ = images.read(f"{url}/{name}")
    expected, _ = images.read(str(tmp_path / "a.png"))
    assert np.array_equal(np.asarray(picture), np.asarray(expected))


@pytest.mark.parametrize(
    ("name", "status", "words", "asked"),
    [
        ("gone.png", "missing", "does not exist", 1),
        ("secret.png", "unreachable", "403", 1),
        ("trouble.png", "unreachable", "503", 3),
        ("slow.png", "unreachable", "no answer in 1 s", 3),
        ("large.png", "too_large", "MiB", 1),
        ("short.png", "unreachable", "", 3),
        ("elsewhere.png", "unreachable", "another protocol", 1),
        ("file.png", "unreachable", "another protocol", 1),
    ],
)
def test_what_a_server_does_not_give_is_a_failure_with_its_reason(
    server, name, status, words, asked
):
    url, handler = server
    with pytest.raises(RecordError) as caught:
        images.read(f"{url}/{name}")
    assert caught.value.status == status
    assert words in str(caught.value)
    assert f"{url}/{name}" in str(caught.value)
    assert handler.asked.count(f"/{name}") <= asked


def test_a_server_that_is_away_is_a_failure(server):
    with pytest.raises(RecordError) as caught:
        images.read("http://127.0.0.1:9/a.png")
    assert caught.value.status == "unreachable"


def test_no_message_holds_a_password_or_a_signature(server):
    url, _ = server
    address = url.replace("//", "//user:hidden@") + "/gone.png?signature=hidden"
    with pytest.raises(RecordError) as caught:
        images.read(address)
    assert "hidden" not in str(caught.value)
    assert "gone.png" in str(caught.value)


@pytest.mark.parametrize(
    "image",
    [
        "https://[x/a.jpg",
        "http://[::1]:9/a.jpg",
        "http://127.0.0.1:9/a::b.jpg",
        "tar://a.jpg::https://user:hidden@host/x.tar",
    ],
)
def test_a_strange_address_is_a_failure_of_its_record_alone(image, monkeypatch, tmp_path):
    pytest.importorskip("aiohttp")
    monkeypatch.setattr(remote, "PAUSE", 0.01)
    with pytest.raises(RecordError) as caught:
        images.read(image)
    assert caught.value.status in ("missing", "unreachable")
    assert "hidden" not in str(caught.value)
    assert remote.path_of(image)


def test_of_a_zip_no_more_is_read_than_an_image_may_have(tmp_path, monkeypatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("a.png", bytes(1 << 22))
    monkeypatch.setattr(remote, "MAX_IMAGE_BYTES", 1 << 20)
    with pytest.raises(RecordError) as caught:
        images.read(f"zip://a.png::{path}")
    assert caught.value.status == "too_large"


def test_a_missing_package_is_named(monkeypatch):
    import builtins

    plain = builtins.__import__

    def without(name, *rest, **keys):
        if name.startswith("gcsfs"):
            raise ImportError(name)
        return plain(name, *rest, **keys)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(KptoolsError, match="pip install gcsfs"):
        images.read("gs://bucket/a.png")


COUNT = int(os.environ.get("KPTOOLS_RECORDS", "100"))


def test_of_a_bucket_all_images_come_out_and_each_bad_one_is_reported(photo, tmp_path, monkeypatch):
    """KPTOOLS_RECORDS=1000 for more: of 50 one each is missing, slow, cut off or too large."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    boto3 = pytest.importorskip("boto3")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hidden-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-secret")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="faces")
        bad = set()
        for index in range(COUNT):
            data = photo
            if index % 50 == 7:
                bad.add(index)
                continue  # missing
            if index % 50 == 31:
                bad.add(index)
                data = photo[: len(photo) // 2]
            client.put_object(Bucket="faces", Key=f"{index}.png", Body=data)
        records = [record(f"s3://faces/{index}.png", index) for index in range(COUNT)]
        checkpoint = untrained(tmp_path / "m.safetensors")
        done = run("predict", checkpoint, stdin=records)
    finally:
        server.stop()
    assert done.returncode == 1, done.stderr.decode()[-2000:]
    found = parse(done.stdout)
    assert [r["id"] for r in found] == [r["id"] for r in records]
    assert {int(r["id"]) for r in found if "status" in r} == bad
    reports = [line for line in done.stderr.decode().splitlines() if "s3://faces/" in line]
    assert len(reports) == len(bad)
    assert "hidden" not in done.stderr.decode()
