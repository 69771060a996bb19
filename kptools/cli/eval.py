"""kp-eval: the score of predictions."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kptools.cli.edge import app, need_input
from kptools.cli.options import (
    Expect,
    Files,
    Norm,
    Part,
    Strict,
    choice,
    names_points,
    one_of,
    refuse,
)
from kptools.cli.own_schemes import knows_schemes
from kptools.cli.streams import open_stream
from kptools.console import report
from kptools.errors import SOME_FAILED, UsageError
from kptools.evaluation import MERGES, NORMS, THRESHOLD
from kptools.evaluation.protocols import PROTOCOLS
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.records.shard import WHOLE
from kptools.records.stream import Stream
from kptools.storage.files import claim_output

if TYPE_CHECKING:
    from kptools.evaluation.comparison import Outcomes
    from kptools.evaluation.report import Scorer

FORMATS = ("auto", "table", "json")
FILLS = ("none", "mean")


@knows_schemes
def evaluate(
    files: Files = None,
    norm: Norm = None,
    threshold: Annotated[
        float | None,
        typer.Option(help=f"Of AUC and failure rate [default: {THRESHOLD}]."),
    ] = None,
    protocol: Annotated[
        str | None,
        one_of(PROTOCOLS, help="The sets, norm and thresholds of a dataset's papers."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY", help="Figures for each value of a key, too: KEY[,KEY..]."),
    ] = None,
    oks: Annotated[
        str | None,
        typer.Option(
            metavar="SIGMAS", help="COCO's OKS, too: coco, 0.05, one number a point, or a FILE."
        ),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="BASELINE",
            help="Exit 4 if the input is worse than these predictions of the same faces.",
        ),
    ] = None,
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
    kp-eval preds.jsonl --protocol wflw --oks 0.05 --by split
    kp-eval new.jsonl --compare old.jsonl
    kp-eval preds.jsonl --points region:mouth
    kp-eval preds.jsonl --min-score 0.5
    kp-eval preds.jsonl --records | jq -c 'select(.nme > 0.1)'
    kp-predict model.safetensors < test.jsonl | kp-eval --submission kaggle.csv
    """
    if norm is not None:
        choice("--norm", norm, NORMS)
    if merge is not None:
        choice("--merge", merge, MERGES)
    if protocol is not None:
        choice("--protocol", protocol, PROTOCOLS)
    choice("--format", output_format, FORMATS)
    choice("--fill", fill, FILLS)
    if threshold is not None and not 0 < threshold < 1e6:
        raise UsageError("--threshold: more than 0")
    parts = {"--points": points, "--min-score": min_score}
    extra = {"--by": by or None, "--oks": oks, "--compare": compare or None}
    if submission is not None:
        given = next((option for option, value in parts.items() if value is not None), None)
        if given is not None:
            raise UsageError(f"--submission writes all points; leave {given} out")
        refuse({"--protocol": protocol, **extra}, "a submission is not scored; leave this out")
    if with_records:
        refuse(extra, "it is of the report, which --records replaces; leave one of them out")
    if protocol is not None:
        own = {"--norm": norm, "--threshold": threshold, **parts}
        refuse(own, f"--protocol {protocol} says what is scored, and how; leave one of them out")
    if compare:
        refuse({"--min-score": min_score}, "--compare is of the same points; leave one of them out")
        if "-" in compare:
            raise UsageError("--compare -: name a file; stdin is for the input")
    if shard != WHOLE and (not with_records or merge or submission or fail_if):
        raise UsageError(
            f"--shard {shard}: a figure of a part is not that of all; it goes with --records alone"
        )

    from kptools.evaluation.comparison import Outcomes, require_no_regression
    from kptools.evaluation.gate import Gate
    from kptools.evaluation.groups import split_keys
    from kptools.evaluation.merge import merge_copies
    from kptools.evaluation.oks import Sigmas
    from kptools.evaluation.protocol_figures import incomplete
    from kptools.evaluation.report import Scorer
    from kptools.evaluation.score import OneNorm
    from kptools.schemes import catalog, selection

    gates = [Gate.parse(expression) for expression in fail_if or []]
    keys_of_groups = split_keys(by or [])
    sigmas = Sigmas(oks) if oks is not None else None
    if points is not None:
        try:
            selection.parse_selection(points)
        except ValueError as error:
            raise UsageError(f"--points {points}: {error}") from None
    if submission is not None:
        claim_output(submission)
    stream = open_stream(
        need_input(files), writes=with_records, strict=strict, expect=expect, shard=shard
    )
    items = merge_copies(stream, merge, stream.fail) if merge else iter(stream)
    if submission is not None:
        return _write_submission(items, stream, submission, fill)

    chosen = PROTOCOLS[protocol] if protocol is not None else None
    threshold = threshold or (chosen and chosen.threshold) or THRESHOLD
    one_norm = OneNorm() if compare else None

    def scorer_for(outcomes: Outcomes | None) -> Scorer:
        return Scorer(norm, points, one_norm, min_score, chosen, keys_of_groups, sigmas, outcomes)

    outcomes = Outcomes("the input") if compare else None
    scorer = scorer_for(outcomes)
    if with_records:
        # a merged face may take lines that are still to come
        ready = (lambda: False) if merge else stream.ready
        for item in scorer.score(items, stream.fail, ready):
            stream.write(item)
    else:
        scorer.count(items, stream.fail)
    found = scorer.report(threshold)
    for name in scorer.schemes:
        if name and catalog.count(name) is None:
            report(
                f"kp-eval: scheme {name} is not known here: it has no eyes to measure by, and no "
                "regions; name its file by --scheme"
            )
    if chosen and (note := incomplete(found["protocol"])):
        report(f"kp-eval: --protocol {protocol}: {note}")
    baselines = Failures(strict)
    if outcomes:
        found["compare"] = [
            _against(name, outcomes, scorer_for, merge, threshold, baselines)
            for name in compare or []
        ]
    if not with_records:
        stream.flush()
        if output_format == "table" or (output_format == "auto" and sys.stdout.isatty()):
            from kptools.cli.eval_table import print_report

            print_report(found)
        else:
            import orjson

            stream.write_line(orjson.dumps(found))
    status = stream.close() or (SOME_FAILED if baselines.count else 0)
    for gate in gates:
        gate.check(found)
    for comparison in found.get("compare", []):
        require_no_regression(comparison)
    return status


def _against(
    name: str,
    candidate: "Outcomes",
    scorer_for: Callable[["Outcomes"], "Scorer"],
    merge: str | None,
    threshold: float,
    failures: Failures,
) -> dict[str, Any]:
    """The candidate compared with the baseline in the file of that name, which is scored as the
    input was."""
    from kptools.evaluation.comparison import Outcomes, compare
    from kptools.evaluation.merge import merge_copies
    from kptools.records.reader import Reader

    baseline, before = Outcomes(name), failures.count
    items = iter(Reader([name], failures))
    if merge:
        items = merge_copies(items, merge, failures.add)
    scorer_for(baseline).count(items, failures.add)
    if failures.count > before:
        report(f"kp-eval: {name}: {failures.count - before} records failed")
    return compare(candidate, baseline, threshold)


def _write_submission(items: Iterator[Item], stream: Stream, path: Path, fill: str) -> int:
    from kptools.evaluation.submission import Submission

    writer = Submission(path, fill)
    for item in items:
        writer.add(item)
    stream.check_expected()
    writer.save()
    report(f"kp-eval: {path}: {len(writer.rows) - 1} rows of {stream.count} faces")
    return stream.close()


main = app(evaluate)

if __name__ == "__main__":
    main()
