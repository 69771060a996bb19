"""Curves. The one file that knows matplotlib; nothing here opens a window."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from kptools.evaluation import metrics
from kptools.evaluation.score import Errors
from kptools.viz.runs import Run
from kptools.viz.sources import Source

# Okabe and Ito's, told apart by all eyes, and black first on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C6D31")
PALE = "#8a8a8a"
WIDE = 20.0  # from this ratio of largest to smallest on, the axis is logarithmic
_STYLE = {
    "font.size": 10,
    "axes.edgecolor": "#555555",
    "axes.labelcolor": "#222222",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": "#222222",
    "ytick.labelcolor": "#222222",
    "legend.frameon": False,
    "svg.hashsalt": "kptools",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}
_DPI = 200


def encode(figure: Figure, suffix: str) -> bytes:
    """The figure as PNG, SVG or PDF, without dates: equal figures give equal bytes."""
    kind = suffix.lower().removeprefix(".")
    metadata: dict[str, Any] = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }[kind]
    data = io.BytesIO()
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure.savefig(data, format=kind, dpi=_DPI, metadata=metadata)
    return data.getvalue()


def colour_map(name: str = "viridis") -> NDArray[np.uint8]:
    """256 colours, (256, 3), evenly spaced to the eye."""
    colours = matplotlib.colormaps[name](np.arange(256))
    result: NDArray[np.uint8] = np.round(np.asarray(colours)[:, :3] * 255).astype(np.uint8)
    return result


def new_axes(width: float = 7.2, height: float = 4.0) -> tuple[Figure, Axes]:
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.add_subplot()
        axes.grid(color="#e4e4e4", linewidth=0.7)
        axes.set_axisbelow(True)
    return figure, axes


def _legend(figure: Figure, handles: list[Line2D]) -> None:
    """To the right of the axes, where it covers no data."""
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        figure.legend(
            handles=handles, loc="outside right upper", fontsize=9, labelspacing=0.7, frameon=False
        )


def colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


@dataclass(frozen=True)
class _Measure:
    label: str
    train: str | None
    val: str
    factor: float = 1.0

    def text(self, value: float) -> str:
        return f"{value * self.factor:.4g}"


_MEASURES = {
    "loss": _Measure("loss", "train_loss", "val_loss"),
    "nme": _Measure("NME of val, %", None, "val_nme", 100.0),
    "mae": _Measure("MAE of val, px", None, "val_mae"),
}


def curves(
    runs: Sequence[Run], metric: str = "loss", log: bool | None = None, title: str = ""
) -> Figure:
    """Each run in its colour: train dashed, val solid, a ring at the best epoch of val; a hairline
    where a learning rate changes. `log` None: logarithmic where the range is wide."""
    measure = _MEASURES[metric]
    figure, axes = new_axes()
    handles, values = [], []
    for index, run in enumerate(runs):
        handle, drawn = _run(axes, run, measure, colour(index))
        handles.append(handle)
        values.extend(drawn)
    if any(run.series(measure.train)[0] for run in runs if measure.train):
        handles.append(Line2D([], [], color=PALE, linestyle="--", linewidth=1.1, label="train"))
        handles.append(Line2D([], [], color=PALE, linewidth=1.6, label="val"))
    axes.margins(x=0.02)
    _rates(axes, runs)
    if log if log is not None else _wide(values):
        axes.set_yscale("log")
    axes.set_xlabel("epoch")
    axes.set_ylabel(measure.label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _title(figure, axes, title)
    _legend(figure, handles)
    return figure


def has_values(runs: Sequence[Run], metric: str) -> bool:
    """Whether any run has this metric."""
    measure = _MEASURES[metric]
    keys = [key for key in (measure.train, measure.val) if key]
    return any(run.series(key)[0] for run in runs for key in keys)


def _run(axes: Axes, run: Run, measure: _Measure, shade: str) -> tuple[Line2D, list[float]]:
    """Draw one run; its entry in the legend, and the values drawn."""
    values: list[float] = []
    label = plain(run.name)
    for key, style, width in ((measure.train, "--", 1.1), (measure.val, "-", 1.6)):
        if key is None:
            continue
        x, y = run.series(key)
        y = [value * measure.factor for value in y]
        marker = "o" if len(x) == 1 else ""
        axes.plot(x, y, style, color=shade, linewidth=width, marker=marker, markersize=4)
        values.extend(y)
    x, y = run.series(measure.val)
    known = [(value, epoch) for epoch, value in zip(x, y, strict=True) if math.isfinite(value)]
    if known:
        least, epoch = min(known)
        best = least * measure.factor
        axes.plot([epoch], [best], "o", color=shade, markersize=6, markerfacecolor="white")
        label += f"\nbest val {measure.text(least)} at epoch {epoch:g}"
    return Line2D([], [], color=shade, linewidth=2, label=label), values


def _rates(axes: Axes, runs: Sequence[Run]) -> None:
    """A hairline before each epoch that has a new rate; the rate stands above the axes where the
    runs agree on it and there is room."""
    changes: dict[float, set[float]] = {}
    for run in runs:
        for epoch, rate in run.rate_changes():
            changes.setdefault(epoch - 0.5, set()).add(rate)
    left, right = axes.get_xlim()
    before = -math.inf
    for x in sorted(changes):
        axes.axvline(x, color="#999999", linewidth=0.7, zorder=0.9)
        if len(changes[x]) == 1 and x - before > 0.12 * (right - left):
            (rate,) = changes[x]
            text = f"lr {rate:g}"
            place = axes.get_xaxis_transform()
            axes.text(
                x,
                1.01,
                text,
                transform=place,
                fontsize=8,
                color="#555555",
                ha="center",
                va="bottom",
            )
            before = x


def _wide(values: Sequence[float]) -> bool:
    known = [value for value in values if math.isfinite(value)]
    return bool(known) and min(known) > 0 and max(known) / min(known) >= WIDE


def _title(figure: Figure, axes: Axes, title: str) -> None:
    if title:
        axes.set_title(plain(title), loc="left", fontsize=11, pad=18 if axes.texts else 8)


def plain(text: str) -> str:
    """The text as it stands: a dollar sign starts no formula, an underscore hides no entry."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    text = text if len(text) <= 60 else f"{text[:28]}...{text[-28:]}"
    return ("\N{ZERO WIDTH SPACE}" if text.startswith("_") else "") + text.replace("$", r"\$")


def ced(sources: Sequence[Source], threshold: float, title: str = "") -> Figure:
    """Cumulative errors, a curve a source, each with at least one face; a failure is an infinite
    error. The share of faces up to each error, as the step function that it is."""
    figure, axes = new_axes()
    handles = []
    for index, source in enumerate(sources):
        shade = colour(index)
        axes.step(*_steps(source.errors, threshold), where="post", color=shade, linewidth=1.7)
        score = metrics.auc(source.errors, threshold)
        failed = metrics.failure_rate(source.errors, threshold)
        label = (
            f"{plain(source.name)}, {len(source.errors)} faces\n"
            f"AUC {score:.3f}, failures {100 * failed:.1f} %"
        )
        handles.append(Line2D([], [], color=shade, linewidth=2, label=label))
    baselines = _distinct([s.baseline for s in sources if s.baseline is not None])
    for baseline in baselines:
        axes.step(*_steps(baseline, threshold), where="post", color=PALE, linewidth=0.9)
    if baselines:
        label = "mean shape"
        if len(baselines) == 1:
            label += f"\nAUC {metrics.auc(baselines[0], threshold):.3f}"
        handles.append(Line2D([], [], color=PALE, linewidth=0.9, label=label))
    axes.set_xlim(0, 100 * threshold)
    axes.set_ylim(0, 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    norms = dict.fromkeys(source.norm for source in sources if source.norm)
    axes.set_xlabel(f"NME, % ({', '.join(norms) or 'no face was scored'})")
    axes.set_ylabel("faces with at most this error")
    _title(figure, axes, title)
    _legend(figure, handles)
    return figure


def risk(sources: Sequence[Source], title: str = "") -> Figure:
    """Risk and coverage, a curve a source: the mean error of the points whose scores are highest,
    as more and more of them are taken. A ring at the tenth of the points that score highest, and
    the end of the curve, say what the scores are worth."""
    figure, axes = new_axes()
    handles = []
    for index, source in enumerate(sources):
        shade, found = colour(index), source.scorer.risk
        curve, tenths = found.curve(), found.by_tenth()
        shown = (curve.coverage >= 0.01) | (curve.coverage == 1)  # a few points say nothing
        coverage = np.concatenate([[0.0], curve.coverage[shown]])
        risks = np.concatenate([curve.risk[shown][:1], curve.risk[shown]])
        axes.plot(100 * coverage, 100 * risks, color=shade, linewidth=1.7)
        axes.plot([10], [100 * tenths[-1]], "o", color=shade, markersize=6, markerfacecolor="white")
        label = (
            f"{plain(source.name)}, {found.points} points\n"
            f"tenths: {100 * tenths[0]:.2f} % to {100 * tenths[-1]:.2f} %"
        )
        handles.append(Line2D([], [], color=shade, linewidth=2, label=label))
    axes.set_xlim(0, 100)
    axes.set_ylim(bottom=0)
    norms = dict.fromkeys(source.norm for source in sources if source.norm)
    axes.set_xlabel("points kept, those of the highest scores, %")
    axes.set_ylabel(f"their NME, % ({', '.join(norms)})")
    _title(figure, axes, title)
    _legend(figure, handles)
    return figure


def _steps(errors: Errors, threshold: float) -> tuple[Errors, Errors]:
    """x in percent, y in 0..1; from 0 to the threshold."""
    known = np.sort(errors[errors <= threshold])
    share = np.arange(1, len(known) + 1) / max(1, len(errors))
    last = share[-1] if len(share) else 0.0
    x = np.concatenate([[0.0], known, [threshold]])
    return 100 * x, np.concatenate([[0.0], share, [last]])


def _distinct(arrays: Sequence[Errors]) -> list[Errors]:
    found: list[Errors] = []
    for one in arrays:
        if not any(np.array_equal(one, other) for other in found):
            found.append(one)
    return found
