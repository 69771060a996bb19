"""kp-prep --download, from a server of the test: resumed, checked, unpacked safely."""

import io
import tarfile
import threading
import zipfile
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from conftest import in_process, parse
from PIL import Image

from kptools.cli.prep import tool
from kptools.errors import KptoolsError
from kptools.storage import download, unpack


def archive(folder="imm_face_db/", names=("01-1m.asf",), kind="gz"):
    """A tar file of IMM with one face, and noise that does not compress."""
    rows = "\n".join(f"0 0 {0.2 + i / 200} 0.5 {i} 0 0" for i in range(58))
    picture = io.BytesIO()
    Image.effect_noise((640, 480), 90).save(picture, "PNG")
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode=f"w:{kind}") as tar:
        for name in names:
            for path, data in ((name, f"58\n{rows}\na.bmp\n".encode()),
                               (name[:-4] + ".png", picture.getvalue())):  # fmt: skip
                member = tarfile.TarInfo(folder + path)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    return found.getvalue()


class Server(ThreadingHTTPServer):
    """`data` by Range; each answer is cut off after `most` bytes. `asked` are the Range headers."""

    def __init__(self, data):
        super().__init__(("127.0.0.1", 0), Handler)
        self.data, self.most, self.asked, self.tag, self.can_range = data, None, [], '"1"', True
        self.url = f"http://127.0.0.1:{self.server_port}/a/imm_face_db.tar.gz"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.asked.append(asked)
        if not self.path.startswith("/a/"):
            self.send_error(404)
            return
        first = 0
        if asked and server.can_range and self.headers.get("If-Range") == server.tag:
            first = int(asked.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
            end = len(server.data)
            self.send_header("Content-Range", f"bytes {first}-{end - 1}/{end}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(server.data) - first))
        self.send_header("ETag", server.tag)
        self.end_headers()
        self.wfile.write(server.data[first:][: server.most])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download, "PAUSE", 0)
    found = Server(archive())
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


def imm(server, root, *words):
    accept = ["--download", "--accept-terms", "--url", server.url]
    return in_process(tool, "imm", root, *accept, *words)


def test_a_download_that_is_cut_off_again_and_again_goes_on(server, tmp_path):
    server.most = len(server.data) // 3
    done = imm(server, tmp_path / "imm", "--sha256", sha256(server.data).hexdigest())
    assert done.returncode == 0, done.stderr
    (record,) = parse(done.stdout)
    assert record["id"] == "01-1m"
    # where the connection ends some bytes that were sent may be lost, so each begins a bit sooner
    first, *begins = [0 if asked is None else int(asked[6:-1]) for asked in server.asked]
    assert first == 0
    assert len(begins) >= 3
    assert all(0 < b - a <= server.most for a, b in pairwise([first, *begins]))
    assert f"SHA-256 {sha256(server.data).hexdigest()}".encode() in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["imm"]
    again = imm(server, tmp_path / "imm")
    assert b"is there already" in again.stderr
    assert again.stdout == done.stdout
    assert len(server.asked) == 1 + len(begins)


@pytest.mark.parametrize("change", ["tag", "can_range"])
def test_another_version_or_a_server_without_range_is_begun_again(server, tmp_path, change):
    (tmp_path / "f.gz.part").write_bytes(b"of an older version")
    (tmp_path / "f.gz.part.tag").write_text('"0"' if change == "tag" else '"1"')
    server.can_range = change != "can_range"
    digest = download.fetch(server.url, tmp_path / "f.gz", None, lambda *_: None)
    assert server.asked == ["bytes=19-"]
    assert digest == sha256(server.data).hexdigest()
    assert (tmp_path / "f.gz").read_bytes() == server.data
    assert not (tmp_path / "f.gz.part.tag").exists()


def test_a_wrong_checksum_is_exit_3_and_leaves_nothing(server, tmp_path):
    done = imm(server, tmp_path / "imm", "--sha256", "0" * 64)
    assert done.returncode == 3
    assert b"and not 0000" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_gives_nothing_is_one_line_and_what_came_is_kept(server, tmp_path):
    server.most = 0
    done = imm(server, tmp_path / "imm")
    assert done.returncode == 3
    assert b"run again to go on" in done.stderr
    assert len(server.asked) == download.ATTEMPTS
    server.url = server.url.replace("/a/", "/b/")
    done = imm(server, tmp_path / "imm")
    assert b"404" in done.stderr


def test_terms_come_first(tmp_path, monkeypatch):
    monkeypatch.setenv("KPTOOLS_DATA", str(tmp_path))
    for name, word in (("ibug", b"commercial"), ("imm", b"research")):
        done = in_process(tool, name, "--download")
        assert done.returncode == 2
        assert word in done.stderr
        assert b"--accept-terms" in done.stderr
    assert in_process(tool, "imm", "--accept-terms").returncode == 2
    done = in_process(tool, "imm", "--download", "--accept-terms", "--url", "ftp://a/b.zip")
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["../out.asf", "/out.asf", "a/../../out.asf", "C:/out.asf"])
def test_a_path_that_leads_out_is_refused(tmp_path, name):
    (tmp_path / "a.tar").write_bytes(archive("", [name], ""))
    with pytest.raises(KptoolsError, match="leads out of the folder"):
        unpack.unpack(tmp_path / "a.tar", tmp_path / "in" / "a")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as found:
        found.writestr(name, "x")
    with pytest.raises(KptoolsError, match="leads out of the folder"):
        unpack.unpack(tmp_path / "a.zip", tmp_path / "in" / "a")
    assert not list(tmp_path.rglob("out.*"))


def test_links_bombs_and_broken_archives_are_refused(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc"
        tar.addfile(link)
    with pytest.raises(KptoolsError, match="no regular file"):
        unpack.unpack(tmp_path / "a.tar", tmp_path / "a")
    (tmp_path / "b.tar.gz").write_bytes(archive()[:-1000])
    with pytest.raises(KptoolsError, match="broken"):
        unpack.unpack(tmp_path / "b.tar.gz", tmp_path / "a")
    (tmp_path / "c").write_bytes(b"<html>")
    with pytest.raises(KptoolsError, match="neither a tar nor a zip"):
        unpack.unpack(tmp_path / "c", tmp_path / "a")
    monkeypatch.setattr(unpack, "MAX_UNPACKED_BYTES", 1000)
    (tmp_path / "d.tar").write_bytes(archive(kind=""))
    with pytest.raises(KptoolsError, match="it is not unpacked"):
        unpack.unpack(tmp_path / "d.tar", tmp_path / "a")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "a.part").exists()
