"""kp-eval: the score of predictions."""

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from kptools.cli.edge import app, need_input
from kptools.cli.options import Expect, Files, Strict, choice
from kptools.console import tell
from kptools.errors import RecordError, UsageError
from kptools.records.stream import Stream
from kptools.storage.files import claim_output


def evaluate(
    files: Files = None,
    norm: Annotated[
        str | None,
        typer.Option(
            metavar="interocular|interpupil|box|diagonal",
            help="Of the NME, one for all faces [default: interocular; box where a scheme has no "
            "eyes].",
        ),
    ] = None,
    threshold: Annotated[float, typer.Option(help="Of AUC and failure rate.")] = 0.08,
    points: Annotated[
        str | None,
        typer.Option(metavar="nose|region:NAME|3,7-9", help="Score these points alone."),
    ] = None,
    merge: Annotated[
        str | None, typer.Option(metavar="mean|median", help="Consecutive lines of one id as one.")
    ] = None,
    with_records: Annotated[
        bool, typer.Option("--records", help="Write the records with their `nme`, not the report.")
    ] = False,
    output_format: Annotated[
        str,
        typer.Option("--format", metavar="auto|table|json", help="auto: a table at a terminal."),
    ] = "auto",
    submission: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Write Kaggle's Id,Predicted; no truth needed."),
    ] = None,
    fill: Annotated[
        str, typer.Option(metavar="none|mean", help="Submission: for faces without prediction.")
    ] = "none",
    fail_if: Annotated[
        list[str] | None,
        typer.Option(metavar="EXPR", help='Exit 4 if so: "nme>0.05", "faces<1".'),
    ] = None,
    expect: Expect = None,
    strict: Strict = False,
) -> int:
    """Score `pred` against `points`: MAE, RMSE, MSE, NME, AUC and failure rate, and beside them
    the error of the training mean shape (`mean`).

    \b
    kp-train --arch nose < nose.jsonl | kp-eval
    kp-eval preds.jsonl --norm box --fail-if "nme>0.05"
    kp-eval preds.jsonl --points region:mouth
    kp-eval preds.jsonl --records | jq -c 'select(.nme > 0.1)'
    kp-predict model.safetensors < test.jsonl | kp-eval --submission kaggle.csv
    """
    from kptools.evaluation.metrics import NORMS

    if norm is not None:
        choice("--norm", norm, NORMS)
    if merge is not None:
        choice("--merge", merge, ("mean", "median"))
    choice("--format", output_format, ("auto", "table", "json"))
    choice("--fill", fill, ("none", "mean"))
    if not 0 < threshold < 1e6:
        raise UsageError("--threshold: more than 0")
    if submission is not None and points is not None:
        raise UsageError("--submission writes all points; leave --points away")

    from kptools.evaluation.gate import gate
    from kptools.evaluation.merge import merged
    from kptools.evaluation.report import Scorer
    from kptools.schemes import choose

    for expression in fail_if or []:
        gate(expression, None)
    if points is not None:
        try:
            choose.words(points)
        except ValueError as error:
            raise UsageError(f"--points {points}: {error}") from None
    if submission is not None:
        claim_output(submission)
    stream = Stream(need_input(files), "-", strict=strict, expect=expect)
    items = merged(stream, merge, stream) if merge else iter(stream)
    if submission is not None:
        from kptools.evaluation.submission import Submission

        writer = Submission(submission, fill)
        for item in items:
            writer.add(item)
        stream.check_expected()
        writer.save()
        faces = stream.count
        tell(f"kp-eval: {submission}: {len(writer.rows) - 1} rows of {faces} faces")
        return stream.close()
    scorer = Scorer(norm, points)
    for item in items:
        if not item.failed:
            try:
                nme = scorer.add(item.record).error
                item.record["nme"] = None if math.isnan(nme) else nme
                item.changed = True
            except RecordError as error:
                item.record.pop("nme", None)  # of another prediction
                stream.fail(item, error)
        if item.failed:
            scorer.fail(item.record)
        if with_records:
            stream.write(item)
    report = scorer.report(threshold)
    if not with_records:
        table = output_format == "table" or (output_format == "auto" and sys.stdout.isatty())
        stream.flush()
        if table:
            _print_table(report)
        else:
            import orjson

            stream.write_line(orjson.dumps(report))
    status = stream.close()
    for expression in fail_if or []:
        gate(expression, report)
    return status


def _print_table(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console()
    sources = ", ".join(f"{name} {count}" for name, count in report["box_source"].items())
    percent = f"at {100 * report['threshold']:g} %"
    rows = [
        ("MAE, px", "mae", 1, 2),
        ("MAE, px of the original", "mae_original", 1, 2),
        ("RMSE, px", "rmse", 1, 2),
        ("MSE, of width and height", "mse", 1, 6),
        ("NME, %", "nme", 100, 2),
        ("NME median, %", "nme_median", 100, 2),
        ("NME 90th percentile, %", "nme_p90", 100, 2),
        ("NME worst, %", "nme_max", 100, 2),
        (f"AUC {percent}", "auc", 1, 4),
        (f"failure rate {percent}", "failure_rate", 1, 4),
    ]
    columns = {"prediction": report, "mean shape": report["mean"] or {}}
    if len(report["splits"]) > 1:
        columns |= report["splits"]
    norms = report.get("norms", {})
    columns |= {f"over {name}": found for name, found in norms.items()}
    table = Table(
        title=escape(
            f"{report['faces']} faces, {report['failed']} failed; {report['scheme']}; "
            f"norm {', '.join(norms) or report['norm']}; boxes: {sources or 'none'}"
        ),
        title_justify="left",
    )
    table.add_column("")
    for name in columns:
        table.add_column(escape(name), justify="right")
    for label, key, factor, digits in rows:
        if report.get(key) is None and key == "mae_original":
            continue
        values = [column.get(key) for column in columns.values()]
        table.add_row(label, *("-" if v is None else f"{factor * v:.{digits}f}" for v in values))
    console.print(table)
    if len(report["regions"]) > 1:
        regions = Table(title="NME by region, %", title_justify="left")
        for name in report["regions"]:
            regions.add_column(name, justify="right")
        regions.add_row(
            *("-" if v is None else f"{100 * v:.2f}" for v in report["regions"].values())
        )
        console.print(regions)


main = app(evaluate)

if __name__ == "__main__":
    main()
