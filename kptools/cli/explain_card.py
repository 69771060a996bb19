"""Where a checkpoint comes from, as a model card in Markdown (Mitchell et al., 2019).

What a program can know comes from the checkpoint; the rest is a person's, from the file
STEM.card.md next to it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from kptools.cli import explain_text as text
from kptools.cli.explain import UNKNOWN, Origin, clean, notes_of
from kptools.models import box

TO_BE_WRITTEN = (
    "What it is for, its limits, its figures on other faces and its licence are not in the "
    "checkpoint. Write them into `{}` next to it, and they stand here."
)


def as_markdown(origin: Origin) -> str:
    """The card, which ends in a newline."""
    notes = notes_of(origin.path)
    title = "the network in the box" if origin.name == box.NAME else Path(origin.name).name
    written = TO_BE_WRITTEN.format(notes.name)
    if notes.is_file():
        written = notes.read_text(encoding="utf-8", errors="replace").strip()
    measured = text.validation(origin)
    parts = [
        f"# Model card: {_cell(title)}",
        "## What it is",
        _table(("", ""), _facts(origin)),
        written,
        "## Training data",
        _data(origin),
        *([_cell(measured) + "."] if measured else []),
        "## How it was made",
        "\n".join(_made(origin)),
    ]
    return "\n\n".join(parts) + "\n"


def _facts(origin: Origin) -> list[Sequence[str]]:
    model = origin.model
    file = Path(origin.path)
    rows: list[Sequence[str]] = [("kind", text.summary(origin))]
    if model is not None:
        head = model.head or "points"
        looks = "two looks at each face" if model.passes == 2 else "one look at each face"
        rows += [
            ("head", head),
            ("prediction", f"{looks}, and the mirror image" if model.flip else looks),
            ("boxes that it expects", ", ".join(model.box_sources)),
            ("margin", f"{model.input.margin:g} of sqrt(box area)"),
        ]
    with file.open("rb") as handle:
        digest = hashlib.file_digest(handle, "sha256").hexdigest()
    return [*rows, ("file", f"{file.stat().st_size:,} bytes, SHA-256 {digest}")]


def _data(origin: Origin) -> str:
    rows = text.data_rows(origin.provenance)
    if rows:
        return _table(text.HEADER, rows)
    if origin.is_box:
        return "The script below makes or reads it."
    return f"What it was trained on is {UNKNOWN}."


def _made(origin: Origin) -> list[str]:
    lines = []
    if found := text.made_by(origin.provenance):
        lines.append(_cell(f"By {found}."))
    if found := text.made_on(origin):
        lines.append(_cell(f"On {found}."))
    lines += [""] if lines else []
    lines += ["```sh", *origin.command, "```"]
    if origin.is_box:
        lines += ["", text.OF_SCRIPT, "", "```sh", *origin.lines, "```"]
    else:
        lines += ["", text.NOT_RECORDED]
    for paragraph in (text.policies(origin.provenance), text.start(origin)):
        lines += ["", "```", *map(clean, paragraph), "```"] if paragraph else []
    return lines


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _cell(value: str) -> str:
    shown = clean(value)
    for mark in ("\\", "|", "<", "`", "*", "["):
        shown = shown.replace(mark, "\\" + mark)
    return shown
