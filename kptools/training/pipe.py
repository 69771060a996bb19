"""The pipe that makes a network again, as lines of a shell: from what its checkpoint says of its
run. Nothing here imports torch.

A checkpoint may be anybody's, and its lines are to be copied: what comes of it stands in them as a
number, as a name that kptools has, or quoted.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kptools.datasets.catalog import DATASETS
from kptools.models import archs, box
from kptools.records.policy import OPERATIONS, PRESETS
from kptools.specs import ModelSpec
from kptools.training.settings import Settings, resolve
from kptools.units import DEVICES, PRECISIONS

WIDTH = 100
WITHOUT_POINTS = ("photos", "video")  # their points are of another source, as of kp-viz edit
INDENT = "    "


def of_network(
    model: ModelSpec, settings: Mapping[str, Any], provenance: Mapping[str, Any]
) -> list[str]:
    """Of a network. Raises KeyError, TypeError, ValueError, AttributeError or UsageError where this
    is of no run of kp-train."""
    words = _settings(model, settings, provenance)
    device = provenance.get("device", {})
    count = device.get("processes", 1)
    command = ["kp-train"]
    if count > 1:
        command = ["torchrun", f"--nproc-per-node {int(count)}", "-m kptools.cli.train"]
    return _joined(provenance, [*command, *map(" ".join, words), "-o OUT.safetensors > VAL.jsonl"])


def of_adapter(provenance: Mapping[str, Any]) -> list[str]:
    """Of an adapter. Raises as `of_network` does."""
    words = ["kp-train", "--arch adapter", *map(" ".join, _of_command(provenance))]
    return _joined(
        provenance,
        [*words, "-o OUT.safetensors > VAL.jsonl"],
        before=["kp-predict CKPT.safetensors"],
    )


def policy_words(policy: Sequence[Mapping[str, Any]], copies: int = 1) -> list[str]:
    """The commands that give records this policy: a kp-augment for each stage."""
    commands = []
    for index, stage in enumerate(policy or ([{}] if copies > 1 else [])):
        given = {name: value for name, value in stage.items() if name != "seed"}
        preset = next((name for name, of in PRESETS.items() if of == given), None)
        words = ["kp-augment"]
        if index == 0 and copies > 1:
            words.append(f"--copies {int(copies)}")
        if preset is not None:
            words.append(f"--preset {preset}")
        else:
            words += [f"--{name} {number(given[name])}" for name in OPERATIONS if name in given]
        if stage.get("seed", 0):
            words.append(f"--seed {number(stage['seed'])}")
        commands.append(" ".join(words))
    return commands


def number(value: Any) -> str:
    """A number as it can be given to a command, to its last digit."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("no number")
    short = f"{value:g}"
    if isinstance(value, int) or float(short) != value:
        return repr(value)
    return short


def _settings(
    model: ModelSpec, settings: Mapping[str, Any], provenance: Mapping[str, Any]
) -> list[tuple[str, ...]]:
    """The options of kp-train that are not its defaults, and those that its bytes depend on."""
    arch = archs.get(model.arch)
    optimizer = settings.get("optimizer")
    default = resolve(model.arch, head=model.head, optimizer=optimizer)
    head = model.head if model.head != arch.heads[0] else None
    words: list[tuple[str, ...]] = [("--arch", shlex.quote(model.arch))]
    words += [("--head", shlex.quote(head))] if head is not None else []
    init = settings.get("init")
    if init:
        is_box = provenance.get("init", {}).get("name") == box.NAME
        words.append(("--init", box.NAME if is_box else "INIT.safetensors"))
    weights = settings.get("weights", "none")
    if weights not in ("none", "default"):
        words.append(("--weights", "WEIGHTS.pth"))
    elif weights != ("default" if arch.pretrained and not init else "none"):
        words.append(("--weights", weights))
    if model.input.size != default.input.size:
        words.append(("--input-size", "{}x{}".format(*model.input.size)))
    if model.input.margin != default.input.margin:
        words.append(("--margin", number(model.input.margin)))
    for name, value in sorted(model.options.items()):
        if value != default.options.get(name):
            words.append((f"--{name.replace('_', '-')}", number(value)))
    schedule = tuple((rate, epochs) for rate, epochs in settings.get("schedule", default.schedule))
    if schedule != default.schedule:
        stages = ",".join(f"{number(rate)}:{int(epochs)}" for rate, epochs in schedule)
        words.append(("--schedule", stages))
    if optimizer is not None and optimizer != arch.optimizer:
        words.append(("--optimizer", shlex.quote(optimizer)))
    words += _plain(settings, default)
    if model.visibility:
        words.append(("--visibility",))
    if settings.get("several_schemes"):
        words.append(("--several-schemes",))
    words += _of_command(provenance)
    kind = provenance.get("device", {}).get("type")
    words += [("--device", str(kind))] if kind in DEVICES else []
    precision = settings.get("precision")
    words += [("--precision", str(precision))] if precision in PRECISIONS else []
    if "threads" in settings:
        words.append(("--threads", number(settings["threads"])))
    return words


def _plain(settings: Mapping[str, Any], default: Settings) -> list[tuple[str, ...]]:
    """Options whose values are numbers or words as the settings have them."""
    words: list[tuple[str, ...]] = []
    numbers = ("batch", "weight_decay", "average", "align", "accumulate", "seed")
    for name in ("loss", "decay", "keep", *numbers):
        value = settings.get(name, getattr(default, name))
        if value != getattr(default, name):
            flag = "batch-size" if name == "batch" else name.replace("_", "-")
            words.append((f"--{flag}", number(value) if name in numbers else shlex.quote(value)))
    return words


def _of_command(provenance: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Those that are no settings of a run."""
    given = provenance.get("options", {})
    words: list[tuple[str, ...]] = []
    if given.get("val"):
        words.append(("--val", "VAL-FACES.jsonl"))
    if given.get("val_fraction") is not None:
        words.append(("--val-fraction", number(given["val_fraction"])))
    if given.get("compile"):
        words.append(("--compile",))
    return words


def _joined(
    provenance: Mapping[str, Any], last: list[str], before: Iterable[str] = ()
) -> list[str]:
    """The readers of the data, what gives it its policies, and then these."""
    has_val = bool(provenance.get("options", {}).get("val"))  # from a file of its own
    sources = _sources(provenance.get("data", []), with_val=not has_val)
    policies = {tuple(policy) for _, policy in sources}
    stations = [*before]
    if len(policies) == 1:
        stations = [*policies.pop(), *stations]
        readers = [reader for reader, _ in sources]
    else:
        readers = [" | ".join([reader, *policy]) for reader, policy in sources]
    if len(readers) == 1:
        lines = [readers[0] + " |"]
    else:
        lines = ["{", *(INDENT + reader for reader in readers), "} |"]
    for station in stations:
        lines += _wrapped(station.split(" "))
        lines[-1] += " |"
    return lines + _wrapped(last)


def _sources(data: Sequence[Mapping[str, Any]], *, with_val: bool) -> list[tuple[str, list[str]]]:
    """For each dataset the command that reads it, and those that give it the policy that most of
    its faces have; val has none."""
    found: dict[str, list[str]] = {}
    for row in data:
        if row["split"] == "train" or with_val:
            policies = row.get("policies") or [{"augment": []}]
            words = policy_words(policies[0]["augment"] or [], row.get("copies", 1))
            reader = _reader(row["dataset"])
            found[reader] = found.get(reader) or words
    return list(found.items()) or [(_reader(None), [])]


def _reader(name: str | None) -> str:
    """The command that reads a dataset, its paths words in capitals; of one that no reader of
    kptools made, or that has no name, its records."""
    if name is None or name not in DATASETS or name in WITHOUT_POINTS:
        plain = re.sub(r"[^A-Z0-9]+", "_", (name or "").upper()).strip("_")[:40]
        return f"cat {plain or 'FACES'}.jsonl"
    words = [
        (option.metavar or option.name).partition("|")[0].upper()
        for option in DATASETS[name].options
        if option.argument
    ]
    return " ".join(["kp-prep", name, *words])


def _wrapped(words: list[str]) -> list[str]:
    """A command on lines that are not too long."""
    lines = [INDENT + words[0]]
    for word in words[1:]:
        if len(lines[-1]) + len(word) + 3 > WIDTH:
            lines[-1] += " \\"
            lines.append(2 * INDENT + word)
        else:
            lines[-1] += " " + word
    return lines
