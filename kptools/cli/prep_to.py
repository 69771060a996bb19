"""kp-prep to: records to the files of other programs."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from kptools.cli.edge import may_allow_failures, need_input, new_app
from kptools.cli.options import (
    Expect,
    Files,
    Output,
    Strict,
    choice,
    keyword,
    one_of,
    parameter,
    set_parameters,
)
from kptools.cli.own_schemes import knows_schemes
from kptools.cli.streams import open_stream
from kptools.datasets.formats import FORMATS, WHAT, Format
from kptools.errors import KptoolsError

to = new_app()


@to.callback()
def _to() -> None:
    """Write records in another format. A face that it cannot hold is reported, and left out.

    \b
    kp-prep to coco -o faces.json faces.jsonl
    kp-predict photos.jsonl | kp-prep to csv --what pred > points.csv
    kp-prep to yolo --out dataset faces.jsonl
    """


What = Annotated[str, one_of(WHAT, help="The annotated points, or the predicted ones.")]
Out = Annotated[
    Path, typer.Option(metavar="DIR", help="The folder of the files, a new or empty one.")
]


def _command(name: str, format: Format) -> Callable[..., int]:
    def command(
        inputs: list[str] | None,
        what: str,
        expect: int | None,
        strict: bool,
        output: str = "-",
        out: Path | None = None,
        **given: Any,
    ) -> int:
        choice("--what", what, WHAT)
        options = {option.name: option.check(given[option.name]) for option in format.options}
        names = need_input(inputs)
        write = format.load().write
        stream = open_stream(names, output, strict=strict, expect=expect)
        folder = str(out) if out else None if output == "-" else str(Path(output).parent)
        written = write(stream, stream.fail, what, folder, **options)
        if out is None:
            for line in written:
                stream.write_line(line)
        else:
            _write_files(out, written)
        return stream.close()

    kinds: dict[str, tuple[Any, Any]] = {"inputs": (Files, None)}
    if format.is_folder:
        kinds["out"] = (Out, Path(name))
    else:
        kinds["output"] = (Output, "-")
    kinds |= {"what": (What, "points"), "expect": (Expect, None), "strict": (Strict, False)}
    parameters = [keyword(key, *kind) for key, kind in kinds.items()]
    set_parameters(command, [*parameters, *(parameter(option) for option in format.options)])
    command.__doc__ = format.help
    return command


def _write_files(out: Path, written: Any) -> None:
    """KptoolsError where the folder holds something, or the disk says no."""
    from kptools.storage.files import copy_file, make_folder, write_unsynced

    make_folder(out)
    if any(out.iterdir()):
        raise KptoolsError(f"{out} is not empty; give --out another folder, or empty it")
    for name, data in written:
        path = out / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(data, Path):
                copy_file(data, path)
            else:
                write_unsynced(path, data)
        except OSError as error:
            name = error.filename or path
            raise KptoolsError(f"cannot write {path}: {name}: {error.strerror}") from None


for _name, _format in FORMATS.items():
    to.command(_name)(may_allow_failures(knows_schemes(_command(_name, _format))))
