"""`OUT.run.json`: what made an output, so that `--resume` goes on with the same run and no other.

It holds the tool, its version, the arguments that decide what it writes (with a checkpoint's hash),
and hashes of the first records that it read. `size` is how many bytes OUT has, once it is what this
run made; until then the run has made a part of OUT.part.
"""

from dataclasses import asdict, dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from kptools import __version__
from kptools.errors import KptoolsError
from kptools.storage import files

FIRST = 16  # so many records are hashed


@dataclass
class RunFile:
    """`arguments` are of JSON's types; `records` grows to `FIRST` hashes as records are read."""

    tool: str
    arguments: dict[str, Any]
    version: str = __version__
    records: list[str] = field(default_factory=list)
    size: int | None = None

    def add(self, index: int, line: bytes, output: str) -> None:
        """Take note of record `index` (from 0, of the first `FIRST`); KptoolsError where the run
        of this output that is resumed read another record there."""
        digest = hash_of(line)
        if index < len(self.records):
            if self.records[index] != digest:
                raise KptoolsError(
                    f"--resume: {output} was made from other input, as {output}.run.json says: "
                    f"record {index + 1} is another one; give the same input, or choose another -o"
                )
        else:
            self.records.append(digest)

    def save(self, path: Path) -> None:
        """Write it beside the output `path`. Raises OSError."""
        files.write_whole(name_for(path), orjson.dumps(asdict(self)) + b"\n")


def name_for(path: Path) -> Path:
    return path.with_name(path.name + ".run.json")


def hash_of(data: bytes) -> str:
    return blake2b(data, digest_size=8).hexdigest()


def hash_of_file(path: str) -> str:
    """Raises KptoolsError."""
    try:
        files.require_regular(path)
        digest = blake2b(digest_size=16)
        with open(path, "rb") as handle:
            while chunk := handle.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}") from None
    return digest.hexdigest()


def resumed(path: Path, ours: RunFile, *, begun: bool) -> RunFile:
    """What stands beside an output that is to be resumed: of the same run as ours, or KptoolsError,
    which names what differs. `begun`: there is a part of the output to go on with."""
    beside = name_for(path)
    advice = "repeat that run's arguments, choose another -o, or leave --resume out"
    try:
        found = RunFile(**orjson.loads(beside.read_bytes()))
        if not isinstance(found.arguments, dict) or not isinstance(found.records, list):
            raise ValueError("no run")
    except FileNotFoundError:
        raise KptoolsError(
            f"--resume: {path.name} has no {beside.name} next to it to say what made it; "
            "choose another -o, or leave --resume out"
        ) from None
    except (OSError, ValueError, TypeError) as error:
        raise KptoolsError(f"--resume: {beside} cannot be read ({error}); {advice}") from None
    theirs = {"tool": found.tool, "version": found.version} | found.arguments
    wanted = {"tool": ours.tool, "version": ours.version} | ours.arguments
    different = [key for key in (theirs | wanted) if theirs.get(key) != wanted.get(key)]
    if different:
        was, now = ({key: run.get(key) for key in different} for run in (theirs, wanted))
        raise KptoolsError(
            f"--resume: {path.name} was made by another run, as {beside.name} says: "
            f"{_listed(was)}, now {_listed(now)}; {advice}"
        )
    if not begun and found.size != path.stat().st_size:
        raise KptoolsError(
            f"--resume: {path.name} is not what the run in {beside.name} made, which never "
            f"finished, or it was changed since; {advice}"
        )
    return found


def _listed(values: dict[str, Any]) -> str:
    words = (
        f"{key} {value if isinstance(value, str) else orjson.dumps(value).decode()}"
        for key, value in values.items()
    )
    return ", ".join(words)[:200]
