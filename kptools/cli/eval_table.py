"""The report of kp-eval as tables at a terminal."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from kptools.evaluation.metrics import BY_NAME, METRICS

_OF_GROUPS = ("mae", "nme", "auc", "failure_rate")


def print_report(found: dict[str, Any]) -> None:
    """Print the tables of a report, as `Scorer.report` gives it, and of its comparisons."""
    console = Console()
    console.print(_main(found))
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
        tenths = _table("NME by score, %: tenths, lowest first", map(str, range(1, 11)))
        tenths.add_row(*(f"{100 * v:.1f}" for v in found["by_score"]))
        console.print(tenths)
    if len(found["regions"]) > 1:
        regions = _table("NME by region, %", found["regions"])
        regions.add_row(
            *("-" if v is None else f"{100 * v:.2f}" for v in found["regions"].values())
        )
        console.print(regions)
    for key, groups in found.get("by", {}).items():
        console.print(_groups(key, groups, found))
    if "oks" in found:
        console.print(_oks(found["oks"]))
    if "protocol" in found:
        console.print(_protocol(found["protocol"]))
    for comparison in found.get("compare", []):
        console.print(_comparison(comparison))


def _table(title: str, columns: Iterable[str], first: str | None = None) -> Table:
    """An empty table of numbers; `first` heads a column of names, where there is one."""
    table = Table(title=escape(title), title_justify="left")
    if first is not None:
        table.add_column(escape(first))
    for name in columns:
        table.add_column(escape(name), justify="right")
    return table


def _shown(metric: str, value: float | None) -> str:
    m = BY_NAME[metric]
    return "-" if value is None else f"{m.factor * value:.{m.digits}f}"


def _label(metric: str, threshold: float | None) -> str:
    return BY_NAME[metric].label.format(threshold=f"{100 * (threshold or 0):g} %")


def _main(found: dict[str, Any]) -> Table:
    sources = ", ".join(f"{name} {count}" for name, count in found["box_source"].items())
    columns = {"prediction": found, "mean shape": found["mean"] or {}}
    if len(found["splits"]) > 1:
        columns |= found["splits"]
    norms = found.get("norms", {})
    columns |= {f"over {name}": over for name, over in norms.items()}
    table = _table(
        f"{found['faces']} faces, {found['failed']} failed; {found['scheme']}; "
        f"norm {', '.join(norms) or found['norm']}; boxes: {sources or 'none'}",
        columns,
        "",
    )
    for m in METRICS:
        if not m.label or (m.only_if is not None and found.get(m.name) is None):
            continue
        values = [_shown(m.name, column.get(m.name)) for column in columns.values()]
        table.add_row(_label(m.name, found["threshold"]), *values)
    return table


def _groups(key: str, groups: Mapping[str, Any], found: dict[str, Any]) -> Table:
    """A line for each value of a key."""
    labels = [_label(name, found["threshold"]) for name in _OF_GROUPS]
    table = _table(f"By {key}; norm {found['norm']}", ["faces", "failed", *labels], key)
    for name, figures in groups.items():
        values = [_shown(metric, figures[metric]) for metric in _OF_GROUPS]
        table.add_row(escape(name[:60]), str(figures["faces"]), str(figures["failed"]), *values)
    return table


def _oks(found: dict[str, Any]) -> Table:
    title = f"OKS of {found['faces']} faces; area of the {found['area']}, sigmas {found['sigmas']}"
    table = _table(title, ["mean OKS", "AP .50:.95", "AP .50", "AP .75"])
    values = [found[name] for name in ("mean", "ap", "ap50", "ap75")]
    table.add_row(*("-" if value is None else f"{value:.4f}" for value in values))
    return table


def _protocol(found: dict[str, Any]) -> Table:
    """A line for each set; over each figure stand its norm and its threshold."""
    first = next(iter(found["sets"].values()))
    labels = []
    for figure in first["figures"]:
        label = _label(figure["metric"], figure["threshold"])
        labels.append(f"{label}, {figure['norm']}" if figure["norm"] else label)
    title = f"{found['name']}, {found['paper']}; {found['outside']} faces outside"
    table = _table(title, ["faces", "of", "failed", *labels], "set")
    for name, own in found["sets"].items():
        counts = ["-" if v is None else str(v) for v in (own["faces"], own["expected"])]
        values = [_shown(figure["metric"], figure["value"]) for figure in own["figures"]]
        table.add_row(name, *counts, str(own["failed"]), *values)
    return table


def _comparison(found: dict[str, Any]) -> Table:
    """A line for each figure that was compared."""
    percent = 100 * found["confidence"]
    table = _table(
        f"Against {found['baseline']}: {found['faces']} faces in {found['groups']} groups",
        ["input", "baseline", "difference", f"{percent:g} % interval", "the input is"],
        "",
    )

    def add(name: str, figure: dict[str, Any], metric: str) -> None:
        words = [_shown(metric, figure[k]) for k in ("candidate", "baseline", "difference")]
        interval = [_shown(metric, figure[key]) for key in ("low", "high")]
        verdict = "-" if figure["worse"] is None else "worse" if figure["worse"] else "unclear"
        if figure["high"] is not None and figure["high"] < 0:
            verdict = "better"
        label = f"{_label(metric, found['threshold'])}{name}"
        table.add_row(escape(label), *words, " to ".join(interval), verdict)

    for metric in ("nme", "failure_rate"):
        add("", found[metric], metric)
    for key, groups in found["by"].items():
        for name, figures in groups.items() if len(groups) > 1 else ():
            for metric in ("nme", "failure_rate"):
                add(f", {key} {name[:60]}", figures[metric], metric)
    for name, figure in found["regions"].items():
        add(f", {name}", figure, "nme")
    return table
