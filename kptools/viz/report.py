"""One HTML page that holds all it shows: no script but its own, and nothing from elsewhere."""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from kptools.schemes import catalog
from kptools.schemes.layouts import layout_of
from kptools.viz import plots
from kptools.viz.sources import Source

_WEB = Path(__file__).with_name("web")

# What the gallery's own script works with; it fills the lists
_GALLERY = """
<div class="controls">
<label>Sort <select id="sort"></select></label>
<label>Run <select id="run"></select></label>
<label>Region <select id="region"></select></label>
<label>Split <select id="split"></select></label>
<label>Status <select id="status"></select></label>
<label>Flag <select id="flag"></select></label>
<label><input type="search" id="search" placeholder="name" aria-label="Name"></label>
<label><input type="checkbox" id="truth" checked> <span class="truth">truth</span></label>
<label><input type="checkbox" id="pred" checked> <span class="pred">prediction</span></label>
<label><input type="checkbox" id="lines"> lines</label>
<span id="found" aria-live="polite"></span>
</div>
<div id="gallery"></div>
<p>Click a face to enlarge it. Keys: <kbd>&larr;</kbd> <kbd>&rarr;</kbd> next face, <kbd>t</kbd>
truth, <kbd>p</kbd> prediction, <kbd>l</kbd> lines, <kbd>/</kbd> name, <kbd>Esc</kbd> close.</p>
<noscript><p>The gallery needs JavaScript.</p></noscript>
<dialog id="large" aria-labelledby="name">
<header><h3 id="name"></h3><button type="button" id="close">Close</button></header>
<div id="panels"></div>
</dialog>
"""


def page(
    title: str,
    sources: Sequence[Source],
    threshold: float,
    gallery: Mapping[str, Any],
) -> bytes:
    """The page, UTF-8. Each source has at least one face that was scored; without sources the page
    is the gallery alone. `gallery` is what `Gallery.data` gave."""
    parts = [f"<h1>{escape(title)}</h1>"]
    if sources:
        parts += _figures(sources, threshold)
    if gallery["faces"]:
        parts += ["<h2>Faces</h2>", _GALLERY]
    return _html(title, "\n".join(parts), gallery).encode("utf-8", "replace")


def _figures(sources: Sequence[Source], threshold: float) -> list[str]:
    """What stands above the gallery: summary, cumulative errors, regions."""
    norms = ", ".join(dict.fromkeys(source.norm for source in sources if source.norm))
    schemes = ", ".join(dict.fromkeys(name for source in sources for name in source.schemes))
    curve = plots.encode(plots.ced(sources, threshold), ".png")
    parts = [
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
        drawn = "".join(map(_region_face, sources[:2]))
        parts += ["<h2>NME by region, %</h2>", f'<div class="pair">{regions}{drawn}</div>']
    return parts


def _html(title: str, body: str, gallery: Mapping[str, Any]) -> str:
    """The document. Of scripts and styles only its own run: they are named by their hashes."""
    style = (_WEB / "report.css").read_text(encoding="utf-8")
    script = (_WEB / "report.js").read_text(encoding="utf-8") if gallery["faces"] else ""
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}; "
        "base-uri 'none'; form-action 'none'"
    )
    # in a script element the text ends at the first "</script", whatever it is part of
    data = orjson.dumps(gallery).decode().replace("<", "\\u003c")
    scripts = (
        f'<script type="application/json" id="data">{data}</script>\n<script>{script}</script>\n'
        if script
        else ""
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{style}</style>\n</head>\n"
        f"<body>\n{body}\n{scripts}</body>\n</html>\n"
    )


def _hash(text: str) -> str:
    """How a Content-Security-Policy names a script or a style."""
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return f"'sha256-{digest}'"


def _region_face(source: Source) -> str:
    """The face of a source's scheme as SVG, each region in the colour of its error; empty where the
    scheme has no layout."""
    table = {name: value for name, value in source.regions().items() if value is not None}
    names = source.schemes
    scheme = catalog.get(names[0]) if len(names) == 1 and catalog.count(names[0]) else None
    places = layout_of(scheme) if scheme is not None else ()
    if scheme is None or not places or not table:
        return ""
    xs, ys = zip(*places, strict=True)
    size = 300 / (max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0)
    at = [(20 + (x - min(xs)) * size, 20 + (y - min(ys)) * size) for x, y in places]
    worst = max(table.values()) or 1.0
    parts = []
    for name, points in scheme.regions.items():
        if name not in table:
            continue
        lines = [(a, b) for a, b in scheme.edges if a in points and b in points]
        path = " ".join(
            f"M{at[a][0]:.1f} {at[a][1]:.1f}L{at[b][0]:.1f} {at[b][1]:.1f}" for a, b in lines
        ) or " ".join(f"M{at[i][0]:.1f} {at[i][1]:.1f}h0" for i in points)
        hue = 140 - 140 * table[name] / worst
        parts.append(f'<path d="{path}" stroke="hsl({hue:.0f} 85% 45%)"/>')
        x = sum(at[i][0] for i in points) / len(points)
        y = (
            max(at[i][1] for i in points)
            if name == "jaw"
            else sum(at[i][1] for i in points) / len(points)
        )
        parts.append(
            f'<text x="{x:.1f}" y="{y - 8 if name == "jaw" else y + 4:.1f}">'
            f"{_number(table[name], 100)}</text>"
        )
    width, height = 40 + (max(xs) - min(xs)) * size, 40 + (max(ys) - min(ys)) * size
    label = escape(f"{source.name}: NME by region, %")
    return (
        f'<figure><svg class="face" viewBox="0 0 {width:.0f} {height:.0f}" role="img" '
        f'aria-label="{label}">{"".join(parts)}</svg><figcaption>{escape(source.name)}'
        "</figcaption></figure>"
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
    return f'<img class="plot" alt="{escape(text)}"{size} src="data:image/png;base64,{data}">'
