"""kp-viz edit: correct points by hand, in the browser."""

import threading
from pathlib import Path
from typing import Annotated

import typer

from kptools.cli.edge import need_input
from kptools.cli.options import Expect, Files, choice, one_of
from kptools.cli.streams import open_stream
from kptools.console import report
from kptools.errors import KptoolsError, RecordError, UsageError
from kptools.storage.files import claim_output

ORDERS = ("unsure", "given")


def edit(
    files: Files = None,
    output: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="FILE", help="Where corrected records go."),
    ] = Path("corrected.jsonl"),
    order: Annotated[
        str, one_of(ORDERS, help="unsure: those of the lowest score first.")
    ] = "unsure",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the faces that were saved before.")
    ] = False,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="On this machine; 0: a free one.")
    ] = 0,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in the browser.")
    ] = True,
    expect: Expect = None,
) -> int:
    """Correct points, and boxes, by hand: a page for your browser, served to this machine alone.

    It starts from `points`, or from `pred` where there are none. Each face that you save is on
    disk at once. End it on the page or with Ctrl-C: FILE then holds the saved faces, in the order
    of the input, with what you set in `points`, `visible` and `box`; `pred` stays.

    \b
    kp-predict photos.jsonl | kp-viz edit -o corrected.jsonl
    kp-viz edit --resume -o corrected.jsonl preds.jsonl
    kp-train --init box --lr 3e-4 --epochs 40 -o mine.safetensors corrected.jsonl > val.jsonl
    """
    choice("--order", order, ORDERS)
    if output.is_dir() or not output.parent.is_dir():
        raise UsageError(f"-o {output}: a file in a folder that exists is needed")
    names = need_input(files)
    if output.exists() and any(Path(name).exists() and output.samefile(name) for name in names):
        raise UsageError(f"-o {output} is an input, too; choose another name")
    claim_output(output)

    from kptools.records import keys
    from kptools.viz.corrections import Corrections
    from kptools.viz.editor import Editor, Server, order_of

    stream = open_stream(names, writes=False, expect=expect)
    items = []
    for item in stream:
        if item.failed:
            continue
        try:
            if item.record.get("points") is None and item.record.get("pred") is None:
                raise RecordError(
                    "bad_points", "no `points` and no `pred`; kp-predict gives `pred`"
                )
            keys.identity(item.record)
            keys.copy_index(item.record)
            keys.box(item.record)
            for key in ("points", "pred"):
                if item.record.get(key) is not None:
                    keys.points(item.record, key)
        except RecordError as error:
            stream.fail(item, error)
            continue
        items.append(item)
    status = stream.close()
    if not items:
        raise KptoolsError("there is no face to correct")
    corrections = Corrections(items, output, resume)
    editor = Editor(corrections, order_of([item.record for item in items], order))
    try:
        server = Server(editor, port)
    except OSError as error:
        raise KptoolsError(f"--port {port}: {error.strerror}; choose another") from None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:  # Ctrl-C may come as soon as the address is seen
        report(f"kp-viz: {len(items)} faces, {len(corrections.saved)} saved; edit them at")
        report(server.address)
        if browser:
            import webbrowser

            webbrowser.open(server.address)
        editor.ended.wait()
    except KeyboardInterrupt:
        pass
    finally:
        server.shutdown()
    saved = editor.close()
    what = f"{output}: {saved} faces" if saved else f"no face was saved, so there is no {output}"
    report(f"kp-viz: {what}")
    return status
