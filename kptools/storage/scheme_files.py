"""Schemes of one's own, in files: JSON (`kptools.schemes.own`), or a checkpoint of their points.

What is read is known in this process from then on. A checkpoint keeps the definition of its scheme
in its metadata, so that it needs no other file.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from kptools.errors import KptoolsError, UsageError
from kptools.schemes import catalog, own
from kptools.schemes.scheme import Scheme
from kptools.storage import files, sniff
from kptools.storage.run_file import hash_of
from kptools.storage.tensor_metadata import read_metadata

KEY = "own_scheme"  # of the metadata
_CHECKPOINT, _JSON = ".safetensors", ".json"
_MAX_BYTES = 1 << 20


def load(path: str) -> Scheme:
    """The scheme of a file of JSON, or that of a checkpoint. KptoolsError says what is wrong with
    the file, or that another scheme has its name."""
    if path.endswith(_CHECKPOINT):
        meta = read_metadata(path)
        model = meta.get("model", meta)  # of an adapter the metadata itself
        name = model.get("scheme") if isinstance(model, dict) else None
        found = learn(path, meta)
        try:
            return catalog.union(str(name)) or found or catalog.get(str(name).partition(":")[0])
        except ValueError:
            raise KptoolsError(
                f"{path} does not hold the definition of its scheme {str(name)[:40]!r}; name a "
                "file of JSON"
            ) from None
    try:
        return catalog.register(own.read(_text(path)), path)
    except ValueError as error:
        raise KptoolsError(f"{path}: {error}") from None


def load_all(paths: str) -> None:
    """The schemes of several files, as $KPTOOLS_SCHEME lists them. Raises KptoolsError."""
    for path in paths.split(os.pathsep):
        if path:
            load(path)


def load_those_of_environment() -> None:
    """Those of $KPTOOLS_SCHEME. Raises KptoolsError."""
    load_all(os.environ.get(catalog.VARIABLE, ""))


def choose(given: str) -> str:
    """The name of a scheme that is given by its name, or by a file. UsageError where there is no
    such name, KptoolsError for a wrong file."""
    if given.endswith((_JSON, _CHECKPOINT)) or os.sep in given:
        return load(given).name
    try:
        return catalog.get(given).name
    except ValueError as error:
        raise UsageError(f"--scheme: {error}") from None


def metadata_of(name: str) -> dict[str, Any]:
    """What a checkpoint of points of this scheme says of it, in a list where it is several of one's
    own; nothing of a built-in scheme, or of one that is not known."""
    found = [own.describe(scheme) for scheme in catalog.own_parts(name)]
    return {KEY: found[0] if len(found) == 1 else found} if found else {}


def digest_of(name: str) -> str:
    """What tells a scheme of one's own from another of its name, but for its layout; empty where
    `name` is none of these."""
    digests = []
    for scheme in catalog.own_parts(name):
        said = {key: value for key, value in own.describe(scheme).items() if key != "layout"}
        digests.append(hash_of(orjson.dumps(said, option=orjson.OPT_SORT_KEYS)))
    return " ".join(digests)


def learn(path: str, meta: Mapping[str, Any]) -> Scheme | None:
    """The scheme that the metadata of the file at `path` defines, or the first of several; None
    where it defines none. KptoolsError where one is wrong, or another scheme has its name."""
    said = meta.get(KEY)
    if said is None:
        return None
    try:
        found = [
            catalog.register(own.parse(document), path)
            for document in (said if isinstance(said, list) else [said])
        ]
        return found[0] if found else None
    except ValueError as error:
        raise KptoolsError(f"{path}: {error}") from None


def _text(path: str) -> str:
    try:
        files.require_regular(path)
        data = Path(path).read_bytes()[: _MAX_BYTES + 1]
    except OSError as error:
        reason = f"{error.strerror}; a scheme is a FILE of JSON"
        raise KptoolsError(f"cannot read {path}: {reason}") from None
    if len(data) > _MAX_BYTES:
        raise KptoolsError(f"{path} is over {_MAX_BYTES >> 20} MiB; it is no scheme")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        kind = sniff.kind(data[: sniff.HEAD])
        looks = f"it looks like {kind}" if kind else "it is no text in UTF-8"
        raise KptoolsError(f"{path} is no scheme; {looks}; write one in JSON") from None
