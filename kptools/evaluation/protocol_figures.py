"""The figures of a protocol, in a report."""

import math
from collections.abc import Mapping
from typing import Any

from kptools.evaluation.metrics import BY_NAME
from kptools.evaluation.protocols import Protocol
from kptools.evaluation.tally import Tally


def figures(protocol: Protocol, tallies: Mapping[str, Tally]) -> dict[str, Any]:
    """Of each set of a protocol, from the tallies of those that have faces: how many it has, and
    `expected`, how many it has in the papers; its figures, each with its norm and its threshold."""
    return {
        "name": protocol.name,
        "paper": protocol.paper,
        "sets": {
            name: {"expected": expected, **_of_set(protocol, tallies.get(name) or Tally())}
            for name, expected in protocol.sets.items()
        },
    }


def _of_set(protocol: Protocol, tally: Tally) -> dict[str, Any]:
    return {
        "faces": tally.faces,
        "failed": tally.failed,
        "without_norm": tally.without_norm,
        "figures": [
            {
                "metric": metric,
                "norm": protocol.norm if BY_NAME[metric].over_norm else None,
                "threshold": threshold,
                "value": tally.figure(metric, threshold or math.nan),
            }
            for metric, threshold in protocol.figures
        ],
    }


def incomplete(found: dict[str, Any]) -> str | None:
    """What a reader should know before comparing the `protocol` of a report with papers; None where
    each set is whole."""
    sets = found["sets"].items()
    other = [f"{name} {s['faces']}" for name, s in sets if s["expected"] not in (None, s["faces"])]
    outside = f"{found['outside']} faces are in none of its sets, and not scored"
    parts = [outside] if found["outside"] else []
    if other:
        papers = [f"{name} {s['expected']}" for name, s in sets if s["expected"] is not None]
        parts.append(f"papers have {', '.join(papers)} faces, and here are {', '.join(other)}")
    return "; ".join(parts) or None
