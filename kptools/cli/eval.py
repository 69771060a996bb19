"""kp-eval: the score of predictions."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from kptools.cli.edge import app, need_input
from kptools.cli.options import Expect, Files, Norm, Part, Strict, choice, names_points, one_of
from kptools.cli.own_schemes import knows_schemes
from kptools.console import report
from kptools.errors import UsageError
from kptools.evaluation import MERGES, NORMS, THRESHOLD
from kptools.records.item import Item
from kptools.records.shard import WHOLE
from kptools.records.stream import Stream
from kptools.storage.files import claim_output

FORMATS = ("auto", "table", "json")
FILLS = ("none", "mean")


@knows_schemes
def evaluate(
    files: Files = None,
    norm: Norm = None,
    threshold: Annotated[float, typer.Option(help="Of AUC and failure rate.")] = THRESHOLD,
    points: Annotated[
        str | None,
        names_points("Score these points alone.", "nose|region:NAME|3,7-9"),
    ] = None,
    min_score: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Leave out points of a lower `score`."),
    ] = None,
    merge: Annotated[str | None, one_of(MERGES, help="Consecutive lines of one id as one.")] = None,
    with_records: Annotated[
        bool, typer.Option("--records", help="Write the records with their `nme`, not the report.")
    ] = False,
    output_format: Annotated[
        str,
        one_of(FORMATS, "--format", help="auto: a table at a terminal."),
    ] = "auto",
    submission: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Write Kaggle's Id,Predicted; no truth needed."),
    ] = None,
    fill: Annotated[str, one_of(FILLS, help="Submission: for faces without prediction.")] = "none",
    fail_if: Annotated[
        list[str] | None,
        typer.Option(metavar="EXPR", help='Exit 4 if so: "nme>0.05", "faces<1".'),
    ] = None,
    expect: Expect = None,
    shard: Part = WHOLE,
    strict: Strict = False,
) -> int:
    """Score `pred` against `points`: MAE, RMSE, MSE, NME, AUC and failure rate, and beside them
    the error of the training mean shape (`mean`).

    \b
    kp-train --arch nose < nose.jsonl | kp-eval
    kp-eval preds.jsonl --norm box --fail-if "nme>0.05"
    kp-eval preds.jsonl --points region:mouth
    kp-eval preds.jsonl --min-score 0.5
    kp-eval preds.jsonl --records | jq -c 'select(.nme > 0.1)'
    kp-predict model.safetensors < test.jsonl | kp-eval --submission kaggle.csv
    """
    if norm is not None:
        choice("--norm", norm, NORMS)
    if merge is not None:
        choice("--merge", merge, MERGES)
    choice("--format", output_format, FORMATS)
    choice("--fill", fill, FILLS)
    if not 0 < threshold < 1e6:
        raise UsageError("--threshold: more than 0")
    if submission is not None and points is not None:
        raise UsageError("--submission writes all points; leave --points out")
    if submission is not None and min_score is not None:
        raise UsageError("--submission writes all points; leave --min-score out")
    if shard != WHOLE and (not with_records or merge or submission or fail_if):
        raise UsageError(
            f"--shard {shard}: a figure of a part is not that of all; it goes with --records alone"
        )

    from kptools.evaluation.gate import Gate
    from kptools.evaluation.merge import merge_copies
    from kptools.evaluation.report import Scorer
    from kptools.schemes import selection

    gates = [Gate.parse(expression) for expression in fail_if or []]
    if points is not None:
        try:
            selection.parse_selection(points)
        except ValueError as error:
            raise UsageError(f"--points {points}: {error}") from None
    if submission is not None:
        claim_output(submission)
    stream = Stream(need_input(files), "-", strict=strict, expect=expect, shard=shard)
    items = merge_copies(stream, merge, stream.fail) if merge else iter(stream)
    if submission is not None:
        return _write_submission(items, stream, submission, fill)
    scorer = Scorer(norm, points, min_score=min_score)
    if with_records:
        # a merged face may take lines that are still to come
        ready = (lambda: False) if merge else stream.ready
        for item in scorer.score(items, stream.fail, ready):
            stream.write(item)
    else:
        scorer.count(items, stream.fail)
    found = scorer.report(threshold)
    if not with_records:
        table = output_format == "table" or (output_format == "auto" and sys.stdout.isatty())
        stream.flush()
        if table:
            _print_table(found)
        else:
            import orjson

            stream.write_line(orjson.dumps(found))
    status = stream.close()
    for gate in gates:
        gate.check(found)
    return status


def _write_submission(items: Iterator[Item], stream: Stream, path: Path, fill: str) -> int:
    from kptools.evaluation.submission import Submission

    writer = Submission(path, fill)
    for item in items:
        writer.add(item)
    stream.check_expected()
    writer.save()
    report(f"kp-eval: {path}: {len(writer.rows) - 1} rows of {stream.count} faces")
    return stream.close()


def _print_table(found: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from kptools.evaluation.metrics import METRICS

    console = Console()
    sources = ", ".join(f"{name} {count}" for name, count in found["box_source"].items())
    columns = {"prediction": found, "mean shape": found["mean"] or {}}
    if len(found["splits"]) > 1:
        columns |= found["splits"]
    norms = found.get("norms", {})
    columns |= {f"over {name}": over for name, over in norms.items()}
    table = Table(
        title=escape(
            f"{found['faces']} faces, {found['failed']} failed; {found['scheme']}; "
            f"norm {', '.join(norms) or found['norm']}; boxes: {sources or 'none'}"
        ),
        title_justify="left",
    )
    table.add_column("")
    for name in columns:
        table.add_column(escape(name), justify="right")
    threshold = f"{100 * found['threshold']:g} %"
    for m in METRICS:
        if not m.label or (m.only_if is not None and found.get(m.name) is None):
            continue
        values = [column.get(m.name) for column in columns.values()]
        shown = ["-" if v is None else f"{m.factor * v:.{m.digits}f}" for v in values]
        table.add_row(m.label.format(threshold=threshold), *shown)
    console.print(table)
    if found.get("coverage") is not None:
        console.print(
            f"{100 * found['coverage']:.1f} % of the points have a score of at least "
            f"{found['min_score']:g}"
        )
    if "hidden_ap" in found:
        console.print(
            f"hidden points: average precision {found['hidden_ap']:.3f}, by chance "
            f"{found['hidden_share']:.3f}"
        )
    if found.get("by_score"):
        tenths = Table(title="NME by score, %: tenths, lowest first", title_justify="left")
        for tenth in range(1, 11):
            tenths.add_column(str(tenth), justify="right")
        tenths.add_row(*(f"{100 * v:.1f}" for v in found["by_score"]))
        console.print(tenths)
    if len(found["regions"]) > 1:
        regions = Table(title="NME by region, %", title_justify="left")
        for name in found["regions"]:
            regions.add_column(name, justify="right")
        regions.add_row(
            *("-" if v is None else f"{100 * v:.2f}" for v in found["regions"].values())
        )
        console.print(regions)


main = app(evaluate)

if __name__ == "__main__":
    main()
