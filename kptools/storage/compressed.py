"""Files compressed by gzip or zstd, as their names say, read and written a piece at a time.

A file is written as one member (gzip) or frame (zstd), so that one that was cut off anywhere is
known as such. Files of several, which `cat a.gz b.gz` makes, are read too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, BinaryIO, Protocol

from kptools.errors import KptoolsError

_PIECE = 1 << 12  # bytes at a time: of zeros, 4 MiB by gzip and 128 MiB by zstd


class Decoder(Protocol):
    """Of one member; after its end `eof` is set, and `unused_data` is what follows it."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class Encoder(Protocol):
    """Of one member, which `flush` without a mode ends."""

    def compress(self, data: bytes, /) -> bytes: ...
    def flush(self, mode: int = ..., /) -> bytes: ...


@dataclass(frozen=True)
class Format:
    """`sync` is the mode of `Encoder.flush` after which all that was written can be read; `error`
    is what a decoder raises."""

    name: str
    decoder: Callable[[], Decoder]
    encoder: Callable[[], Encoder]
    sync: int
    error: type[Exception]


def format_of(name: str) -> Format | None:
    """The format of a file of this name; None where it is plain. KptoolsError where a package is
    needed that is not there."""
    if name.endswith(".gz"):
        return _gzip()
    if name.endswith(".zst"):
        return _zstd(name)
    return None


def _gzip() -> Format:
    import zlib

    bits = 16 + zlib.MAX_WBITS  # with gzip's header and checksum
    return Format(
        "gzip",
        lambda: zlib.decompressobj(bits),
        lambda: zlib.compressobj(wbits=bits),
        zlib.Z_SYNC_FLUSH,
        zlib.error,
    )


def _zstd(name: str) -> Format:
    try:
        import zstandard
    except ImportError:
        raise KptoolsError(
            f"{name}: .zst needs the package zstandard: pip install zstandard; or use .gz"
        ) from None
    return Format(
        "zstd",
        lambda: zstandard.ZstdDecompressor().decompressobj(),
        lambda: zstandard.ZstdCompressor(write_checksum=True).compressobj(),
        zstandard.COMPRESSOBJ_FLUSH_BLOCK,
        zstandard.ZstdError,
    )


class Input:
    """What a compressed file holds. `handle` is unbuffered, and `name` is how errors call it."""

    def __init__(self, handle: BinaryIO, form: Format, name: str) -> None:
        self._handle, self._form, self._name = handle, form, name
        self._decoder: Decoder | None = form.decoder()  # None between two members
        self._rest = b""  # read, and of the next member

    def fileno(self) -> int:
        return self._handle.fileno()

    def read(self, size: int) -> bytes | None:
        """Some bytes, none at the end, or None where nothing came yet: of `size` at most is read.
        KptoolsError where the file is damaged, or was cut off."""
        data = self._rest or self._handle.read(min(size, _PIECE))
        if data is None:
            return None
        if not data:
            if self._decoder is not None:
                raise KptoolsError(
                    f"{self._name} was cut off: its {self._form.name} data has no end; copy or "
                    "make it again"
                )
            return b""
        if self._decoder is None:
            data = data.lstrip(b"\0")  # what some tools fill a file up with
            self._rest = b""
            if not data:
                return None
            self._decoder = self._form.decoder()
        try:
            out = self._decoder.decompress(data)
        except self._form.error as error:
            raise KptoolsError(
                f"{self._name} is damaged, or not {self._form.name}: {error}; copy or make it again"
            ) from None
        self._rest = b""
        if self._decoder.eof:
            self._rest, self._decoder = self._decoder.unused_data, None
        return out or None


class Output:
    """Compresses what is written to `handle`. `finish` is called once, when all is written."""

    def __init__(self, handle: IO[bytes], form: Format) -> None:
        self._handle, self._form = handle, form
        self._encoder = form.encoder()
        self._holds = False  # something that the file has not

    def fileno(self) -> int:
        return self._handle.fileno()

    def write(self, data: bytes) -> None:
        self._handle.write(self._encoder.compress(data))
        self._holds = True

    def flush(self) -> None:
        """Let all that was written be read."""
        if self._holds:
            self._handle.write(self._encoder.flush(self._form.sync))
            self._holds = False
        self._handle.flush()

    def finish(self) -> None:
        self._handle.write(self._encoder.flush())
        self._holds = False
        self._handle.flush()


def reading(handle: BinaryIO, name: str) -> BinaryIO | Input:
    """The file, or what it holds where its name says that it is compressed. KptoolsError."""
    form = format_of(name)
    return handle if form is None else Input(handle, form, name)


def salvage(handle: BinaryIO, form: Format) -> Iterator[bytes]:
    """What can be read of a file that was perhaps not finished."""
    source = Input(handle, form, "")
    try:
        while (data := source.read(_PIECE)) != b"":
            yield data or b""
    except KptoolsError:
        return
