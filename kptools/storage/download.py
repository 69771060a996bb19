"""A large file from a web server, which goes on where it was cut off.

What came is `FILE.part`; a request asks for the rest (`Range`), of the same version (`If-Range`,
with the tag that the server gave, kept in `FILE.part.tag`). A server that cannot do that sends all
again.
"""

import http.client
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from kptools.errors import KptoolsError, UsageError
from kptools.storage import files, remote
from kptools.units import Seconds

TIMEOUT: Seconds = 60.0  # without a byte
ATTEMPTS = 5  # in a row without a byte more
PAUSE: Seconds = 1.0
_CHUNK = 1 << 18
# Called as bytes come: how many there are, and how many there will be, 0 where that is not known
Progress = Callable[[int, int], None]


def fetch(url: str, path: Path, wanted: str | None, progress: Progress) -> str:
    """Download the file at `url` to `path`; its SHA-256, in hex. Raises UsageError for a URL that
    is not of http; KptoolsError where the server or the disk says no, and where the SHA-256 is not
    `wanted`: the file is then removed."""
    if not url.startswith(("http://", "https://")):
        raise UsageError(f"--url {url}: an address begins with https:// or http://")
    if not path.exists():
        with files.writing_on(path) as part:
            _fill(url, part, path.with_name(path.name + ".part.tag"), progress)
    with open(path, "rb") as handle:
        digest = sha256()
        while chunk := handle.read(_CHUNK):
            digest.update(chunk)
    found = digest.hexdigest()
    if wanted is not None and found != wanted.lower():
        path.unlink()
        raise KptoolsError(
            f"{remote.shown(url)}: its SHA-256 is {found}, and not {wanted}; the file was removed"
        )
    return found


def _fill(url: str, part: Any, tag: Path, progress: Progress) -> None:
    """Bring the rest of the file to the end of `part`."""
    failures = 0
    while True:
        before = part.seek(0, 2)
        try:
            if _request(url, part, tag, progress):
                tag.unlink(missing_ok=True)
                return
            problem = "the connection was cut off"
        except urllib.error.HTTPError as error:
            if error.code < 500:
                raise KptoolsError(f"{remote.shown(url)}: {error.code} {error.reason}") from None
            problem = f"{error.code} {error.reason}"
        except (http.client.HTTPException, urllib.error.URLError, TimeoutError, OSError) as error:
            problem = str(getattr(error, "reason", None) or error)
        failures = 0 if part.seek(0, 2) > before else failures + 1
        if failures >= ATTEMPTS:
            raise KptoolsError(
                f"{remote.shown(url)}: {problem}; run again to go on, or name a mirror by --url"
            )
        time.sleep(PAUSE)


def _request(url: str, part: Any, tag: Path, progress: Progress) -> bool:
    """One attempt; whether all is there."""
    have = part.seek(0, 2)
    version = tag.read_text() if tag.exists() else ""
    request = urllib.request.Request(url, headers={"Accept-Encoding": "identity"})
    if have and version:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", version)
    with urllib.request.urlopen(request, timeout=TIMEOUT) as answer:
        begins = f"bytes {have}-"
        if not (
            answer.status == 206 and answer.headers.get("Content-Range", "").startswith(begins)
        ):
            part.truncate(0)
            have = part.seek(0)
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdecimal() else 0
        found = answer.headers.get("ETag", "")
        known = found if found and not found.startswith("W/") else ""
        tag.write_text(known or answer.headers.get("Last-Modified", ""))
        files.require_space(tag.parent, total - have, "the file")
        while chunk := answer.read(_CHUNK):
            part.write(chunk)
            have += len(chunk)
            progress(have, total)
    part.flush()
    return not total or have == total
