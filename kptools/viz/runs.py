"""The epochs of training runs, as `kp-train` logs them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kptools.training.log import is_number


@dataclass(frozen=True)
class Run:
    """A run: its name, and an object an epoch (`epoch`, `lr`, `train_loss`, `val_loss`, ...)."""

    name: str
    epochs: list[dict[str, Any]]

    def series(self, key: str) -> tuple[list[float], list[float]]:
        """The epochs that have the number `key`, and the numbers."""
        pairs = [
            (float(entry["epoch"]), float(entry[key]))
            for entry in self.epochs
            if is_number(entry.get(key))
        ]
        return [x for x, _ in pairs], [y for _, y in pairs]

    def rate_changes(self) -> list[tuple[float, float]]:
        """(epoch, rate) where the learning rate is not that of the epoch before; the epoch is the
        first with the new rate. A rate that changes from epoch to epoch, as along a cosine, has no
        such place."""
        x, rates = self.series("lr")
        together = list(zip(x[1:], rates, rates[1:], strict=False))
        changed = [False, *(new != old for _, old, new in together), False]
        return [
            (epoch, new)
            for place, (epoch, _, new) in enumerate(together, 1)
            if changed[place] and not (changed[place - 1] or changed[place + 1])
        ]


def by_scheme(run: Run, key: str) -> list[Run]:
    """A run of several schemes as one of each, in which `key` (`val_nme`) is the scheme's number:
    there is none of them together. Any other run as it is."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for epoch in run.epochs:
        found = epoch.get(f"{key}_of")
        for scheme, value in found.items() if isinstance(found, dict) else ():
            parts.setdefault(scheme, []).append({**epoch, key: value})
    return [Run(f"{run.name}, {scheme}", epochs) for scheme, epochs in parts.items()] or [run]


def names(paths: Sequence[str]) -> list[str]:
    """A short name for each file: its stem; with its folder, or as it is, where two are alike."""
    for shorten in (_stem, _with_folder):
        short = [shorten(path) for path in paths]
        if max(Counter(short).values(), default=1) == 1:
            return short
    return list(paths)


def _stem(path: str) -> str:
    name = Path(path).name.removesuffix(".gz").removesuffix(".zst")
    for suffix in (".log.jsonl", ".safetensors", ".jsonl", ".json"):
        if name.endswith(suffix) and name != suffix:
            return name.removesuffix(suffix)
    return name


def _with_folder(path: str) -> str:
    return f"{Path(path).parent.name}/{_stem(path)}"
