"""What a file looks like by its first bytes: to say it in one line, where records were expected."""

import re

import orjson

from kptools.errors import KptoolsError

HEAD = 4096  # bytes that are looked at
_MAGIC = (
    (rb"\xff\xd8\xff", "a JPEG picture"),
    (rb"\x89PNG", "a PNG picture"),
    (rb"GIF8[79]a", "a GIF picture"),
    (rb"RIFF....WEBP", "a WebP picture"),
    (rb"BM.{4}\0\0\0\0", "a BMP picture"),
    (rb"II\*\0|MM\0\*", "a TIFF picture"),
    (rb"P[1-6]\s+\d+\s+\d+\s", "a PNM picture"),
    (rb"....ftyp(heic|heix|mif1|avif)", "a HEIC or AVIF picture"),
    (rb".{6}\0\0\{\"", "a safetensors file, such as a checkpoint"),
    (rb"\x93NUMPY", "a NumPy file"),
    (rb"PK\x03\x04", "a zip archive, such as torch.save's"),
    (rb"\x1f\x8b", "gzip data (only a FILE that ends in .gz is read as such)"),
    (rb"\x28\xb5\x2f\xfd", "zstd data (only a FILE that ends in .zst is read as such)"),
    (rb"\x80[\x02-\x05][\x00-\xff]", "a Python pickle"),
    (rb"%PDF", "a PDF"),
    (rb"\xff\xfe|\xfe\xff", "text in UTF-16"),
    (rb"\s*(<!doctype html|<html)", "an HTML page"),
    (rb"\s*<(\?xml|!--|[a-z])", "XML"),
)
_DOCUMENT = "one JSON document (jq -c '.[]' makes lines of an array)"
_REPORT = {"faces", "failed", "nme", "threshold"}
_LOG = {"epoch", "lr", "train_loss"}


def kind(head: bytes) -> str | None:
    """What the first bytes of a file say that it is, in words; None for text of no such kind."""
    flags = re.DOTALL | re.IGNORECASE
    return next((name for pattern, name in _MAGIC if re.match(pattern, head, flags)), None)


def require_records(head: bytes, line: bytes, shown: str) -> None:
    """Raise KptoolsError where the head of a file, and its first line that is not blank, are
    plainly of something else than records. Broken lines among records are not that."""
    found = _of_object(line) if line.startswith(b"{") else _of_other(head, line)
    if found is not None:
        raise KptoolsError(
            f"{shown} looks like {found}; records are expected, one JSON object a line"
        )


def _of_other(head: bytes, line: bytes) -> str | None:
    """Of a head whose first line is not a JSON object."""
    lines = [part for part in head.split(b"\n") if part.strip()]
    if line == b"[":
        return _DOCUMENT
    if any(part.startswith(b'{"') for part in lines):
        return None  # records, the first one broken
    if found := kind(head):
        return found
    if line.startswith((b"[{", b"[[")):
        return _DOCUMENT
    if len(lines) < 2 or b"\0" in head:
        return None
    for separator, name in ((b",", "comma"), (b"\t", "tab"), (b";", "semicolon")):
        if lines[0].count(separator) == lines[1].count(separator) > 0:
            return f"a table of {name}-separated values"
    return "plain text"


def _of_object(line: bytes) -> str | None:
    """Of a first line that begins an object."""
    if line == b"{":
        return _DOCUMENT
    try:
        keys = set(orjson.loads(line))
    except ValueError:
        return None
    if keys >= _REPORT:
        return "a report of kp-eval (kp-eval --records passes the records on)"
    if keys >= _LOG:
        return "a log of kp-train"
    return None
