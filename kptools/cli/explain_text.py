"""Where a checkpoint comes from, as text: comments and a command, so that the whole of it can be
copied into a script; or as JSON."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kptools.cli.explain import UNKNOWN, Origin, clean
from kptools.models import box, metadata
from kptools.training import history, pipe

HEADER = ("dataset", "split", "faces", "groups", "failed", "scheme", "boxes")
UNNAMED = "(no dataset)"  # of records that name none
NOT_RECORDED = (
    "The options of kp-prep are not recorded. Words in capitals stand for your files and folders."
)
OF_SCRIPT = "What the checkpoint knows of the training in the script:"


def as_json(origin: Origin) -> str:
    """One object on one line."""
    import orjson

    described = None
    if origin.model is not None:
        described = metadata.described(origin.model)
        del described["mean"]  # a long list, of no use here
    found = {
        "checkpoint": origin.name,
        "kind": "adapter" if origin.model is None else "network",
        "scheme": origin.scheme,
        "model": described,
        "settings": origin.settings,
        "provenance": origin.provenance or None,
        "validation": validated(origin),
        "command": "\n".join(origin.command),
    }
    return orjson.dumps(found, option=orjson.OPT_APPEND_NEWLINE).decode()


def as_text(origin: Origin) -> str:
    """Comments, and the command."""
    comments = [f"{origin.name}: {summary(origin)}", *_made(origin)]
    rows = data_rows(origin.provenance)
    if rows:
        comments += ["", *_aligned([HEADER, *rows])]
    measured = [text] if (text := validation(origin)) else []
    for paragraph in (measured, policies(origin.provenance), start(origin)):
        comments += ["", *paragraph] if paragraph else []
    if origin.is_box:
        comments += ["", OF_SCRIPT, *origin.lines]
    else:
        comments += ["", NOT_RECORDED]
    lines = [f"# {clean(comment)}".rstrip() for comment in comments]
    return "\n".join([*lines, *origin.command]) + "\n"


def summary(origin: Origin) -> str:
    """What it is, in a line."""
    model = origin.model
    if model is None:
        return f"an adapter to points of {origin.scheme}"
    size = "{}x{}".format(*model.input.size)
    colour = "grey" if model.input.grey else "RGB"
    return f"{model.arch}, {model.count} points of {model.scheme}, input {size} {colour}"


def made_by(provenance: Mapping[str, Any]) -> str:
    """Versions, in a line; empty where they are not known."""
    return ", ".join(f"{name} {value}" for name, value in _versions(provenance))


def made_on(origin: Origin) -> str:
    """The machine, in a line; empty where it is not known."""
    device = origin.provenance.get("device")
    if device is None:
        return ""
    words = [f"{device['type']} ({device['name']})", str(origin.settings.get("precision"))]
    words.append(counted(origin.settings.get("threads"), "thread"))
    words.append(counted(device["processes"], "process", "processes"))
    return ", ".join(words)


def _made(origin: Origin) -> list[str]:
    found = made_by(origin.provenance)
    if not found:
        return [] if origin.is_box else [f"Records, policies, versions and machine are {UNKNOWN}."]
    machine = made_on(origin)
    return [f"Made by {found}", *([f"on {machine}"] if machine else [])]


def _versions(provenance: Mapping[str, Any]) -> list[tuple[str, Any]]:
    versions = provenance.get("versions", {})
    first = [name for name in ("kptools", "python") if name in versions]
    return [(name, versions[name]) for name in dict.fromkeys([*first, *sorted(versions)])]


def data_rows(provenance: Mapping[str, Any]) -> list[Sequence[str]]:
    """The data as a table without `HEADER`."""
    return [
        (
            str(row["dataset"] or UNNAMED),
            str(row["split"]),
            *(pipe.number(row[key]) for key in ("faces", "groups", "failed")),
            ", ".join(row["schemes"]) or "-",
            ", ".join(row["box_sources"]) or "-",
        )
        for row in provenance.get("data", [])
    ]


def policies(provenance: Mapping[str, Any]) -> list[str]:
    """Where a dataset has faces of several policies: how many have each."""
    lines = []
    for row in provenance.get("data", []):
        found = row.get("policies", [])
        if len(found) < 2:
            continue
        name = row["dataset"] or UNNAMED
        lines.append(f"Faces of {name} had several policies; the pipe has the first:")
        for policy in found:
            if policy["augment"] is None:
                shown = f"{policy['policies']} other policies"
            else:
                shown = " | ".join(pipe.policy_words(policy["augment"])) or "none"
            lines.append(f"  {counted(policy['faces'], 'face')}: {shown}")
    return lines


def start(origin: Origin) -> list[str]:
    """What its weights went on from."""
    lines = []
    weights = origin.provenance.get("weights")
    if weights is not None:
        lines.append(f"WEIGHTS.pth has the SHA-256 {weights['sha256']}")
    init = origin.provenance.get("init")
    if init is None:
        return lines
    if init["name"] == box.NAME:
        return [
            *lines,
            "It went on from the network that comes with kptools (kp-predict --explain box);",
            f"  its SHA-256 is {init['sha256']}",
        ]
    lines.append(f"It went on from {init['name']}, after {counted(init['epochs'], 'epoch')};")
    lines.append(f"  its SHA-256 is {init['sha256']}")
    theirs = init.get("provenance")
    if theirs is None:
        lines.append(f"  what that was trained on is {UNKNOWN}")
        return lines
    lines.append(f"  it was made by {made_by(theirs)}")
    for row in theirs["data"]:
        name = row["dataset"] or UNNAMED
        lines.append(f"  {row['split']}: {counted(row['faces'], 'face')} of {name}")
    if "init" in theirs:
        lines.append(f"  and went on from the one with the SHA-256 {theirs['init']['sha256']}")
    return lines


def validation(origin: Origin) -> str:
    """The error of the epoch that was kept, on the faces that the run was validated on; empty where
    it is not known."""
    found = validated(origin)
    if found is None:
        return ""
    figures = []
    for one in found["schemes"]:
        whose = "" if one["scheme"] == origin.scheme else f" of {one['scheme']}"
        figures.append(f"{100 * one['nme']:.2f} %{whose} ({one['norm']})")
    chosen = "the last" if found["keep"] == "last" else "chosen by these faces"
    return (
        f"Validation: NME {', '.join(figures)}, "
        f"in epoch {pipe.number(found['epoch'])} of {found['epochs']}, {chosen}"
    )


def validated(origin: Origin) -> dict[str, Any] | None:
    """The epoch that was kept, of how many, by what (`keep`, as kp-train has it), and its NME with
    the norm, of each scheme; None where it is not known."""
    first = origin.provenance.get("init", {}).get("epochs", 0)
    epochs = [entry for entry in origin.history[first:] if _figures(origin, entry)]
    if not epochs:
        return None
    is_last = origin.settings.get("keep") == "last"
    kept = epochs[-1] if is_last else history.best(epochs)
    return {
        "epoch": kept["epoch"],
        "epochs": len(origin.history),
        "keep": "last" if is_last else "best",
        "schemes": [
            {"scheme": name, "nme": nme, "norm": _norm(name)}
            for name, nme in _figures(origin, kept).items()
        ],
    }


def _figures(origin: Origin, entry: Mapping[str, Any]) -> dict[str, float]:
    """By scheme the NME of an epoch."""
    found = entry.get("val_nme_of", {origin.scheme: entry.get("val_nme")})
    return {name: nme for name, nme in found.items() if nme is not None}


def _norm(scheme: str) -> str:
    from kptools.evaluation.norms import norm_for
    from kptools.schemes import catalog

    try:
        return norm_for(catalog.get(scheme), None)
    except ValueError:  # a scheme that is not known here
        return norm_for(None, None)


def counted(count: Any, what: str, many: str | None = None) -> str:
    """`1 face`, `2 faces`."""
    return f"{pipe.number(count)} {what if count == 1 else many or what + 's'}"


def _aligned(rows: Iterable[Sequence[str]]) -> list[str]:
    rows = [[clean(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
