"""Gates: a bound on a figure, and the exit status where it is not kept."""

import re
from typing import Any

from kptools.errors import GateError, UsageError

GATED = (
    *("faces", "failed", "mae", "rmse", "mse", "nme", "nme_median", "auc", "failure_rate"),
    "mae_original",
)


def gate(expression: str, report: dict[str, Any] | None) -> None:
    """Check an expression such as `nme>0.05`; with a report, raise GateError where it holds."""
    match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", expression)
    try:
        name, sign, bound = match.groups() if match else ("", "", "")
        limit = float(bound)
    except ValueError:
        name, limit = "", 0.0
    if name not in GATED:
        raise UsageError(
            f"--fail-if {expression!r}: METRIC, then > or <, then a number; "
            f"metrics are {', '.join(GATED)}"
        )
    if report is None:
        return
    value = report.get(name)
    if value is None:
        norms = report.get("norms")
        why = f"the faces have the norms {', '.join(norms)}" if norms else "nothing was scored"
        raise GateError(f"--fail-if {expression}: there is no {name}, since {why}")
    holds = {
        ">": value > limit,
        "<": value < limit,
        ">=": value >= limit,
        "<=": value <= limit,
    }[sign]
    if holds:
        raise GateError(f"--fail-if {expression}: {name} is {value:.6g}")
