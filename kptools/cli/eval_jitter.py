"""kp-eval --jitter: how much the points of a video tremble."""

import sys
from collections.abc import Iterator, Sequence

from kptools.errors import RecordError
from kptools.evaluation.gate import Gate
from kptools.evaluation.jitter import Jitter
from kptools.records.item import Item
from kptools.records.stream import Stream

LABELS = {"nmf": "NMF, % of the face", "acceleration": "acceleration, % of the face"}


def report_jitter(
    items: Iterator[Item], stream: Stream, output_format: str, gates: Sequence[Gate]
) -> int:
    """Write the figures as a table or as JSON; the exit status."""
    jitter = Jitter()
    for item in items:
        if not item.failed:
            try:
                jitter.add(item.record)
            except RecordError as error:
                stream.fail(item, error)
        if item.failed:
            jitter.fail()
    found = jitter.report()
    stream.flush()
    if output_format == "table" or (output_format == "auto" and sys.stdout.isatty()):
        from rich.console import Console
        from rich.table import Table

        title = f"{found['faces']} faces in {found['tracks']} tracks, {found['failed']} failed"
        table = Table("", "prediction", title=title, title_justify="left")
        for name, label in LABELS.items():
            value = found[name]
            table.add_row(label, "-" if value is None else f"{100 * value:.3f}")
        Console().print(table)
    else:
        import orjson

        stream.write_line(orjson.dumps(found))
    status = stream.close()
    for gate in gates:
        gate.check(found)
    return status
