"""Gates: a bound on a figure of the report, and an exit status where it is broken."""

import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from kptools.errors import GateError, UsageError
from kptools.evaluation.metrics import METRICS

HIDDEN = "hidden_ap"  # there where records say what is seen
GATED = ("faces", "failed", *(metric.name for metric in METRICS), HIDDEN)
_SIGNS: dict[str, Callable[[float, float], bool]] = {
    ">": operator.gt,
    "<": operator.lt,
    ">=": operator.ge,
    "<=": operator.le,
}


@dataclass(frozen=True)
class Gate:
    """An expression such as `nme>0.05`, which must not hold."""

    expression: str
    name: str
    sign: str
    bound: float

    @classmethod
    def parse(cls, expression: str, names: Sequence[str] = GATED) -> "Gate":
        """A bound on one of the figures `names`. Raises UsageError."""
        match = re.fullmatch(r"\s*(\w+)\s*(>=|<=|>|<)\s*([-+.\deE]+)\s*", expression)
        try:
            name, sign, bound = match.groups() if match else ("", "", "")
            limit = float(bound)
        except ValueError:
            name, sign, limit = "", "", 0.0
        if name not in names:
            raise UsageError(
                f"--fail-if {expression!r}: METRIC, then > or <, then a number; "
                f"metrics are {', '.join(names)}"
            )
        return cls(expression, name, sign, limit)

    def check(self, report: dict[str, Any]) -> None:
        """Raise GateError where the expression holds of the report, or cannot be evaluated."""
        value = report.get(self.name)
        if value is None:
            norms = report.get("norms")
            why = f"the faces have the norms {', '.join(norms)}" if norms else "nothing was scored"
            if self.name == HIDDEN:
                why = "no point is hidden, or records lack `visible` or `pred_visible`"
            raise GateError(f"--fail-if {self.expression}: there is no {self.name}, since {why}")
        if _SIGNS[self.sign](value, self.bound):
            raise GateError(f"--fail-if {self.expression}: {self.name} is {value:.6g}")
