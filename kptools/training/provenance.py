"""The provenance of a checkpoint: what it was trained on, by what, and on which machine.

It comes of the records and of the run, and stands in the checkpoint, so that `kp-predict --explain`
needs no other file. No path, no time and no number of workers is in it: a run that is repeated has
the same.
"""

import hashlib
import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import orjson
import torch

from kptools import __version__, runtime
from kptools.models import box
from kptools.records import keys, splits
from kptools.records.keys import Record
from kptools.storage.tensor_metadata import read_metadata
from kptools.training.gather import Gathered
from kptools.training.settings import Settings

MAX_KINDS = 32  # datasets, policies, schemes, sources of boxes: more are counted together
OTHERS = "(others)"
# What decides the numbers of a run, beside kptools and Python
_PACKAGES = ("torch", "torchvision", "numpy", "pillow")


def of_start(
    settings: Settings, given: Mapping[str, Any], device: torch.device, processes: int
) -> dict[str, Any]:
    """Of a network, as JSON: what is known when the run starts. A file that it starts from may be
    gone when it ends. `given` are those options of the run that are no settings, None or False
    where they were left out. Raises KptoolsError where such a file cannot be read."""
    provenance = _of_program(given)
    provenance["device"] = {
        "type": device.type,
        "name": runtime.device_name(device),
        "processes": processes,
    }
    if settings.init:
        provenance["init"] = _of_init(settings.init)
    if settings.weights not in ("none", "default"):
        provenance["weights"] = {"sha256": _sha256(settings.weights)}
    return provenance


def of_data(found: Gathered) -> dict[str, Any]:
    """The rest, when the images were read: which could not be is part of it."""
    return {"data": _data(found)}


def of_adapter(found: Gathered, given: Mapping[str, Any]) -> dict[str, Any]:
    """What a run without a network has of it: versions, options, and the data."""
    return _of_program(given) | of_data(found)


def _of_program(given: Mapping[str, Any]) -> dict[str, Any]:
    options = {k: v for k, v in given.items() if v is not None and v is not False}
    return {"versions": versions(), "options": options}


def versions() -> dict[str, str]:
    """Of kptools, Python, and the packages that its numbers come from."""
    known = {"kptools": __version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            known[name] = version(name)
        except PackageNotFoundError:  # part of a distribution of another name
            continue
    return known


@dataclass
class _Part:
    """What is counted of a dataset and a split."""

    faces: int = 0
    failed: int = 0
    groups: set[str] = field(default_factory=set)
    schemes: Counter[str] = field(default_factory=Counter)
    boxes: Counter[str] = field(default_factory=Counter)
    policies: Counter[bytes] = field(default_factory=Counter)  # as JSON: stages, and copies
    copies: int = 1

    def add(self, record: Record) -> None:
        self.faces += 1
        self.groups.add(splits.group(record))
        self.schemes[keys.scheme_name(record)] += 1
        self.boxes[str(record.get("box_source") or "unknown")] += 1
        self.policies[orjson.dumps(record.get("augment") or [])] += 1
        self.copies = max(self.copies, keys.copy_index(record) + 1)

    def described(self, *, with_policies: bool) -> dict[str, Any]:
        found: dict[str, Any] = {
            "faces": self.faces,
            "groups": len(self.groups),
            "failed": self.failed,
            "schemes": _largest(self.schemes),
            "box_sources": _largest(self.boxes),
        }
        if with_policies:
            found |= {"copies": self.copies, "policies": _policies(self.policies)}
        return found


def _data(found: Gathered) -> list[dict[str, Any]]:
    """An object for each dataset and split, in the order in which the datasets came, with the
    policies of what was trained on."""
    used = [(record, "train") for record in _sound(found.train)]
    used += [(record, "val") for record in _sound(found.val)]
    lost = [
        (item.record, "val" if id(item) in found.failed_val else str(item.record.get("split")))
        for item in found.items
        if item.failed
    ]
    counts = Counter(_dataset(record) for record, _ in used + lost)
    known = sorted(counts, key=lambda name: (-counts[name], name))[:MAX_KINDS]
    came = dict.fromkeys(_dataset(item.record) for item in found.items)
    order = {name: place for place, name in enumerate(came)}  # OTHERS are last
    parts: dict[tuple[str, str], _Part] = defaultdict(_Part)
    for record, split in used:
        name = _dataset(record)
        parts[name if name in known else OTHERS, split].add(record)
    for record, split in lost:
        name = _dataset(record)
        if split != "test":
            of = "val" if split == "val" else "train"
            parts[name if name in known else OTHERS, of].failed += 1
    return [
        {"dataset": name or None, "split": split}
        | parts[name, split].described(with_policies=split == "train")
        for name, split in sorted(parts, key=lambda part: (order.get(part[0], len(order)), part))
    ]


def _sound(members: Iterable[tuple[Any, Any]]) -> list[Record]:
    return [item.record for item, _ in members if not item.failed]


def _dataset(record: Record) -> str:
    """What the record says that it is of, as 300 in a column of a table; empty where it does
    not."""
    name = record.get("dataset")
    return str(name)[:100] if isinstance(name, str | int) else ""


def _largest(counts: Counter[str]) -> dict[str, int]:
    names = sorted(counts, key=lambda name: (-counts[name], name))
    found = {name[:100]: counts[name] for name in names[:MAX_KINDS]}
    rest = sum(counts[name] for name in names[MAX_KINDS:])
    return found | ({OTHERS: rest} if rest else {})


def _policies(counts: Counter[bytes]) -> list[dict[str, Any]]:
    """The policies and how many faces have each, the commonest first; those past the limit together
    as one without stages."""
    ranked = sorted(counts, key=lambda policy: (-counts[policy], policy))
    found: list[dict[str, Any]] = [
        {"augment": orjson.loads(policy), "faces": counts[policy]} for policy in ranked[:MAX_KINDS]
    ]
    rest = ranked[MAX_KINDS:]
    if rest:
        faces = sum(counts[policy] for policy in rest)
        found.append({"augment": None, "policies": len(rest), "faces": faces})
    return found


def _of_init(path: str) -> dict[str, Any]:
    """What a run says of the checkpoint that it goes on from: which, and what that was trained on;
    not what that one went on from in its turn, but for its hash."""
    meta = read_metadata(path)
    run = meta.get("run")
    run = run if isinstance(run, dict) else {}
    history = meta.get("history")
    found: dict[str, Any] = {
        "name": box.name_of(path),
        "sha256": _sha256(path),
        "epochs": len(history) if isinstance(history, list) else 0,
    }
    if "made_by" in run:
        found["made_by"] = run["made_by"]
    theirs = run.get("provenance")
    if isinstance(theirs, dict):
        found["provenance"] = {key: value for key, value in theirs.items() if key != "init"}
        before = theirs.get("init")
        if isinstance(before, dict):
            found["provenance"]["init"] = {"sha256": before.get("sha256")}
    return found


def _sha256(path: str) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
