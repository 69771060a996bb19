"""kp-predict --explain: where a checkpoint comes from, and the pipe that makes it again."""

import shlex
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kptools.errors import KptoolsError, UsageError
from kptools.inference.onnx_names import SUFFIX
from kptools.models import box, metadata
from kptools.schemes.catalog import VARIABLE
from kptools.specs import ModelSpec
from kptools.storage import scheme_files
from kptools.storage.tensor_metadata import read_metadata
from kptools.training import pipe

# What comes of metadata that is not as kp-train writes it
_BROKEN = (LookupError, ArithmeticError, TypeError, ValueError, AttributeError)
UNKNOWN = "not known: kptools did not record it when this was made"


@dataclass(frozen=True)
class Origin:
    """What a checkpoint says of where it comes from. `model` is None of an adapter; `provenance` is
    empty where it was made before there was any."""

    name: str
    path: str
    model: ModelSpec | None
    scheme: str
    settings: Mapping[str, Any]
    provenance: Mapping[str, Any]
    history: list[Any]
    is_box: bool  # made by examples/box.sh
    lines: list[str]  # the pipe

    @property
    def command(self) -> list[str]:
        """What makes it again, as lines of a shell."""
        return [f"{box.MADE_BY} OUT.safetensors"] if self.is_box else self.lines


def _origin(name: str, path: str, model: ModelSpec | None, meta: dict[str, Any]) -> Origin:
    run = meta.get("run") or {}
    settings, provenance = run.get("settings") or {}, run.get("provenance") or {}
    if model is None:
        lines = pipe.of_adapter(provenance)
    else:
        lines = pipe.of_network(model, settings, provenance)
    if scheme_files.KEY in meta:  # a checkpoint defines its scheme
        file = "SCHEME.json" if path.endswith(SUFFIX) else shlex.quote(path)
        lines.insert(0, f"export {VARIABLE}={file}")
    return Origin(
        name=name,
        path=path,
        model=model,
        scheme=str(meta["scheme"] if model is None else model.scheme),
        settings=dict(settings),
        provenance=dict(provenance),
        history=list(meta.get("history") or []),
        is_box=run.get("made_by") == box.MADE_BY,
        lines=[clean(line) for line in lines],
    )


def explain(names: list[str], form: str) -> None:
    """Print where these come from; without a name, the network in the box. Raises KptoolsError."""
    from kptools.cli import explain_card, explain_text

    renders = {
        "text": explain_text.as_text,
        "json": explain_text.as_json,
        "markdown": explain_card.as_markdown,
    }
    shown = [_rendered(name, renders[form]) for name in names or [box.NAME]]
    text = ("" if form == "json" else "\n").join(shown)
    sys.stdout.write(text.encode(errors="replace").decode())  # names of files may be any bytes
    sys.stdout.flush()


def _rendered(name: str, render: Callable[[Origin], str]) -> str:
    """Of the checkpoint, adapter or ONNX file `name`. Raises KptoolsError."""
    path = box.locate(name)
    if path.endswith(SUFFIX):
        from kptools.inference import onnx_engine

        meta = onnx_engine.read_metadata(path)
    else:
        meta = read_metadata(path)
    model = None if "adapter" in meta else metadata.model_of(path, meta)
    try:
        shown = name.encode(errors="replace").decode()
        return render(_origin(shown, path, model, meta))
    except (*_BROKEN, UsageError) as error:
        raise KptoolsError(f"{path}: its metadata is not kp-train's ({error})") from None


def clean(text: str) -> str:
    """One line, of characters that a terminal shows: a file may be anybody's."""
    return "".join(c if c.isprintable() else "?" for c in text)


def notes_of(path: str) -> Path:
    """Where a person writes what no program knows of the checkpoint at `path`."""
    return Path(path).with_suffix(".card.md")
