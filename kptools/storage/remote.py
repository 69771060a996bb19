"""Images that are no files of their own: on a web server, in a bucket, in an archive.

`image` is then a URL as fsspec has it: `https://host/a.jpg`, `s3://bucket/a.jpg`, `gs://...`, or a
member of a local archive, `tar://a.jpg::shard.tar`, `zip://a.jpg::photos.zip`. fsspec reads from
servers, with the package of each protocol, which finds credentials by its usual means. Here are
the limits: so many bytes, so many seconds, so many attempts.
"""

import asyncio
import re
import tarfile
import time
import zipfile
from functools import lru_cache
from os import pread
from typing import Any
from urllib.parse import urlsplit

from kptools.errors import KptoolsError, RecordError
from kptools.limits import MAX_IMAGE_BYTES
from kptools.storage import files
from kptools.units import Seconds

# By protocol the package that fsspec needs for it
PROTOCOLS = {"https": "aiohttp", "http": "aiohttp", "s3": "s3fs", "gs": "gcsfs"}
ARCHIVES = ("tar", "zip")
TIMEOUT: Seconds = 60.0  # of an attempt
ATTEMPTS = 3  # where a server is not reached, is too slow, or says that it has trouble
PAUSE: Seconds = 0.5  # before the second attempt; twice as long before the next
_CHUNK = 1 << 20
_TOO_LARGE = f"over {MAX_IMAGE_BYTES >> 20} MiB; shrink it"

_PROTOCOL = re.compile(r"([a-z][a-z0-9]*)://")


def is_remote(image: str) -> bool:
    """Whether this is the address of such an image, and no path."""
    found = _PROTOCOL.match(image)
    return found is not None and (found[1] in PROTOCOLS or found[1] in ARCHIVES)


def shown(image: str) -> str:
    """An address, or a path, for messages: without the password or the signature that it may
    hold."""
    protocol, colon, rest = image.partition("://")
    if not colon or not is_remote(image):
        return image
    if protocol in ARCHIVES:
        member, colons, path = rest.partition("::")
        return f"{protocol}://{member}{colons}{shown(path)}"
    host, slash, path = rest.partition("?")[0].partition("#")[0].partition("/")
    return f"{protocol}://{host.rpartition('@')[2]}{slash}{path}"


def path_of(image: str) -> str:
    """What names an image, for files that are made of it: its path, that on its server, or that in
    its archive."""
    if not is_remote(image):
        return image
    protocol, _, rest = image.partition("://")
    return rest.partition("::")[0] if protocol in ARCHIVES else shown(image)


def read(image: str) -> bytes:
    """The bytes of an image file. RecordError: `missing`, `too_large`, `unreadable` of an archive
    that is broken, `unreachable` of a server. KptoolsError where a package is not installed."""
    protocol, _, rest = image.partition("://")
    if protocol in ARCHIVES:
        return _read_member(image, protocol, rest)
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE * 2 ** (attempt - 1))
        try:
            return _download(image, protocol)
        except _Temporary as error:
            problem = error
    raise problem


def _download(image: str, protocol: str) -> bytes:
    """One attempt."""
    import fsspec

    name = shown(image)
    try:
        filesystem = fsspec.filesystem(protocol, **_options(protocol))
        file = filesystem.open(image, "rb", block_size=0 if protocol.startswith("http") else None)
        ends = time.monotonic() + TIMEOUT
        found = bytearray()
        with file:
            while chunk := file.read(_CHUNK):
                found += chunk
                if len(found) > MAX_IMAGE_BYTES:
                    raise RecordError("too_large", f"{name} is {_TOO_LARGE}")
                if time.monotonic() > ends:
                    raise TimeoutError
    except RecordError:
        raise
    except ImportError:
        package = PROTOCOLS[protocol]
        raise KptoolsError(f"{name} needs the package {package}; pip install {package}") from None
    except FileNotFoundError as error:
        cause = _behind(error) if protocol.startswith("http") else None
        if cause is not None:
            raise _unreachable(name, cause) from None
        raise RecordError("missing", f"{name} does not exist; check the address") from None
    except PermissionError:
        raise RecordError("unreachable", f"{name} may not be read; check the credentials") from None
    except Exception as error:  # of any package: what it says may hold what is secret
        raise _unreachable(name, error) from None
    expected = getattr(file, "size", None)
    if expected is not None and len(found) < expected:
        raise _Temporary("unreachable", f"{name} ended after {len(found)} of {expected} bytes")
    return bytes(found)


@lru_cache
def _options(protocol: str) -> dict[str, Any]:
    """For fsspec's filesystem of this protocol, which it keeps as long as these are the same."""
    if protocol.startswith("http"):
        import aiohttp

        tracing = aiohttp.TraceConfig()
        tracing.on_request_redirect.append(_check_redirect)
        limit = aiohttp.ClientTimeout(total=TIMEOUT, sock_read=TIMEOUT / 2)
        return {"client_kwargs": {"timeout": limit, "trace_configs": [tracing]}}
    if protocol == "s3":
        limits = {"connect_timeout": TIMEOUT / 4, "read_timeout": TIMEOUT / 2}
        return {"config_kwargs": limits, "default_cache_type": "none"}
    return {}


class _Redirected(Exception):
    """A server sends to another protocol."""


async def _check_redirect(session: Any, context: Any, answer: Any) -> None:
    target = urlsplit(answer.response.headers.get("Location", "")).scheme
    if target not in ("", answer.url.scheme, "https"):
        raise _Redirected


class _Temporary(RecordError):
    """A failure that another attempt may not meet."""


def _unreachable(name: str, error: BaseException) -> RecordError:
    """That a server does not give an image, as `error` has it."""
    status = getattr(error, "status", None)
    is_final = isinstance(error, _Redirected) or (
        isinstance(status, int) and status < 500 and status not in (408, 429)
    )
    kind = RecordError if is_final else _Temporary
    return kind("unreachable", f"{name} is not available: {_reason(error)}")


def _behind(error: BaseException) -> BaseException | None:
    """What fsspec's filesystem of web servers calls a file that is not there, whatever it is."""
    while isinstance(error, FileNotFoundError):
        if error.__cause__ is None:
            return None
        error = error.__cause__
    return None if getattr(error, "status", None) in (404, 410) else error


def _reason(error: BaseException) -> str:
    """In a few words, without what the packages say, which may hold addresses and keys."""
    if isinstance(error, _Redirected):
        return "it redirects to another protocol"
    if isinstance(error, TimeoutError | asyncio.TimeoutError) or "Timeout" in type(error).__name__:
        return f"no answer in {TIMEOUT:g} s"
    status = getattr(error, "status", None)
    return f"the server answers {status}" if status else type(error).__name__


def _read_member(image: str, protocol: str, rest: str) -> bytes:
    """A member of a local archive."""
    member, _, path = rest.partition("::")
    if is_remote(path):
        raise RecordError(
            "missing", f"{shown(image)}: the archive has to be a file; fetch it first"
        )
    if not member or not path:
        problem = f"{image} names no member of an archive; as {protocol}://a.jpg::FILE.{protocol}"
        raise RecordError("missing", problem)
    try:
        files.require_regular(path)
        found = (_tar if protocol == "tar" else _zip)(path).read(member)
    except KeyError:
        raise RecordError("missing", f"{path} has no member {member}; check the name") from None
    except FileNotFoundError:
        raise RecordError("missing", f"{path} does not exist; check the path") from None
    except RecordError:
        raise
    except Exception as error:  # a broken archive raises much
        reason = " ".join(str(error).split())[:160] or type(error).__name__
        raise RecordError("unreadable", f"{path} cannot be read: {reason}") from None
    return found


class _Tar:
    """An uncompressed tar file, its members found by one look at all headers. Threads may share
    it."""

    def __init__(self, path: str) -> None:
        self.file = open(path, "rb")  # noqa: SIM115 (it is kept)
        with tarfile.open(fileobj=self.file, mode="r:") as archive:
            self.members = {m.name: (m.offset_data, m.size) for m in archive if m.isreg()}

    def read(self, member: str) -> bytes:
        """KeyError where there is none of this name."""
        offset, size = self.members[member]
        if size > MAX_IMAGE_BYTES:
            raise RecordError("too_large", f"{member} is {_TOO_LARGE}")
        data = pread(self.file.fileno(), size, offset)
        if len(data) < size:
            raise EOFError(f"{member} ends after {len(data)} of {size} bytes")
        return data


class _Zip:
    """A zip file. Threads may share it."""

    def __init__(self, path: str) -> None:
        self.archive = zipfile.ZipFile(path)

    def read(self, member: str) -> bytes:
        """KeyError where there is none of this name."""
        with self.archive.open(member) as file:
            data = file.read(MAX_IMAGE_BYTES + 1)  # whatever size its header says
        if len(data) > MAX_IMAGE_BYTES:
            raise RecordError("too_large", f"{member} is {_TOO_LARGE}")
        return data


@lru_cache(maxsize=32)
def _tar(path: str) -> _Tar:
    return _Tar(path)


@lru_cache(maxsize=32)
def _zip(path: str) -> _Zip:
    return _Zip(path)
