"""The metadata of a file that `tensors` wrote, read without torch."""

import os
from typing import Any

import orjson

from kptools.errors import KptoolsError
from kptools.limits import MAX_HEADER_BYTES
from kptools.storage import files, sniff


def read_metadata(path: str) -> dict[str, Any]:
    """The metadata alone. A header over the limit is refused before it is read."""
    try:
        files.require_regular(path)
        with open(path, "rb") as handle:
            length = int.from_bytes(handle.read(8), "little")
            if length > MAX_HEADER_BYTES or length > os.fstat(handle.fileno()).st_size:
                raise ValueError("no header")
            header = orjson.loads(handle.read(length))
        meta = orjson.loads(header["__metadata__"]["kptools"])
        if not isinstance(meta, dict):
            raise ValueError("no object")
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        with open(path, "rb") as handle:
            kind = sniff.kind(handle.read(sniff.HEAD))
        looks = f" (it looks like {kind})" if kind else ""
        raise KptoolsError(
            f"{path} is no checkpoint of kptools{looks}; kp-train -o makes one (pickles are not "
            "read)"
        ) from None
    return meta
