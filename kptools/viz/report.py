"""One HTML page that holds all it shows: no scripts, and nothing from elsewhere."""

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape

import numpy as np
from PIL import Image

from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.storage import images
from kptools.viz import faces, plots
from kptools.viz.faces import Pick
from kptools.viz.sources import Source
from kptools.viz.views import View

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 1080px; margin: 2.5rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; }
p { color: #555; margin: .2rem 0 .8rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .9rem .3rem 0; text-align: right; border-bottom: 1px solid #e2e2e2; }
th { font-weight: 600; border-bottom-color: #999; }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere; }
tr.base td { color: #777; }
img { max-width: 100%; height: auto; display: block; }
.wide { overflow-x: auto; }
"""


# No scripts, and pictures from the page alone, even if a name smuggled one in
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(
    title: str,
    sources: Sequence[Source],
    threshold: float,
    sheets: Sequence[tuple[str, Image.Image]] = (),
) -> bytes:
    """The page, UTF-8. Each source has at least one face; each sheet has a heading."""
    norms = ", ".join(dict.fromkeys(source.norm for source in sources if source.norm))
    schemes = ", ".join(dict.fromkeys(name for source in sources for name in source.schemes))
    curve = plots.encode(plots.ced(sources, threshold), ".png")
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<p>Scheme {escape(schemes or 'none')}. NME is the mean distance over the norm "
        f"({escape(norms or 'none')}); MAE the mean of |dx| and |dy|. AUC and failure rate at "
        f"{100 * threshold:g} %, where a failed record counts as a failure; it has no part in "
        "the means.</p>",
        "<h2>Summary</h2>",
        _table(_HEAD, [row for source in sources for row in _summary(source, threshold)]),
        "<h2>Cumulative errors</h2>",
        _picture(curve, "The share of faces up to each NME", 720),
    ]
    regions = _regions(sources)
    if regions:
        parts += ["<h2>NME by region, %</h2>", regions]
    for heading, sheet in sheets:
        parts += [f"<h2>{escape(heading)}</h2>", _picture(images.encode(sheet), heading)]
    return _html(title, "\n".join(parts)).encode("utf-8", "replace")


class Extremes:
    """The faces of the largest and of the smallest errors; it holds `count` of each."""

    def __init__(self, view: View, count: int, norm: str | None) -> None:
        self.view, self.norm = view, norm
        self._picks = {
            heading: Pick(count, sort)
            for heading, sort in (("Largest errors", "worst"), ("Smallest errors", "best"))
            if count
        }

    def add(self, item: Item, error: float) -> None:
        for pick in self._picks.values():
            pick.add(item, error)

    def sheets(
        self, fail: Fail, sources: Mapping[str, str] | None = None
    ) -> list[tuple[str, Image.Image]]:
        """Headings and sheets; `sources` names each file, where there are several."""
        return [
            (
                heading,
                faces.make(pick, self.view, fail, norm=self.norm, columns=4, sources=sources),
            )
            for heading, pick in self._picks.items()
            if pick.items
        ]


def _html(title: str, body: str) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f"<body>\n{body}\n</body>\n</html>\n"
    )


_HEAD = (
    "",
    "faces",
    "failed",
    "NME mean, %",
    "NME median, %",
    "MAE mean, px",
    "MAE median, px",
    "AUC",
    "failure rate, %",
)


def _summary(source: Source, threshold: float) -> list[tuple[str, ...]]:
    """The rows of a source: the prediction, and the mean shape where there is one."""
    report = source.pred.report(threshold)
    median = float(np.median(source.face_mae)) if source.face_mae else math.nan
    rows: list[tuple[str, ...]] = [
        (
            source.name,
            str(report["faces"]),
            str(report["failed"]),
            _number(report["nme"], 100),
            _number(report["nme_median"], 100),
            _number(report["mae"]),
            _number(median),
            _number(report["auc"], digits=3),
            _number(report["failure_rate"], 100, 1),
        )
    ]
    if source.baseline is not None:
        base = source.mean.report(threshold)
        rows.append(
            (
                "\N{EN SPACE}mean shape",
                str(base["faces"]),
                "",
                _number(base["nme"], 100),
                _number(base["nme_median"], 100),
                _number(base["mae"]),
                "",
                _number(base["auc"], digits=3),
                _number(base["failure_rate"], 100, 1),
            )
        )
    return rows


def _regions(sources: Sequence[Source]) -> str:
    """A row a region, a column a source; empty where no source has more than one region."""
    tables = [(source, source.regions()) for source in sources]
    tables = [(source, table) for source, table in tables if len(table) > 1]
    names = dict.fromkeys(name for _, table in tables for name in table)
    if not names:
        return ""
    head = ("", *(source.name for source, _ in tables))
    rows = [
        (name.replace("_", " "), *(_number(table.get(name), 100) for _, table in tables))
        for name in names
    ]
    return _table(head, rows)


def _number(value: float | None, factor: float = 1.0, digits: int = 2) -> str:
    if value is None or not math.isfinite(value):
        return "\N{EN DASH}"
    return f"{factor * value:.{digits}f}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = ["<tr>" + "".join(f"<th>{escape(cell)}</th>" for cell in head) + "</tr>"]
    for row in rows:
        kind = ' class="base"' if row[0].startswith("\N{EN SPACE}") else ""
        cells = "".join(f"<td>{escape(cell)}</td>" for cell in row)
        lines.append(f"<tr{kind}>{cells}</tr>")
    return '<div class="wide"><table>\n' + "\n".join(lines) + "\n</table></div>"


def _picture(png: bytes, text: str, width: int | None = None) -> str:
    data = base64.b64encode(png).decode("ascii")
    size = f' width="{width}"' if width else ""
    return f'<img alt="{escape(text)}"{size} src="data:image/png;base64,{data}">'
