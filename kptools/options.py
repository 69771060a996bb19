"""An option of a command, described where it belongs: beside the architecture or the dataset that
has it. `kptools.cli` makes options of the command line of them."""

import math
from dataclasses import dataclass
from typing import Any

from kptools.errors import UsageError


@dataclass(frozen=True)
class Option:
    """`name` is that of the keyword, so that `pos_weight` is `--pos-weight`; with `argument` it is
    given by its place, and not by its name. A value is of `type`, one of `choices` where there are
    any, at least `low` (more than it where `exclusive`), at most `high`."""

    name: str
    type: Any
    default: Any
    help: str
    metavar: str | None = None
    choices: tuple[Any, ...] = ()
    low: float | None = None
    high: float | None = None
    exclusive: bool = False
    argument: bool = False
    is_path: bool = False

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    def check(self, value: Any) -> Any:
        """The value, a whole float as an int where an int is wanted. UsageError where it is none
        that the option takes."""
        if value is None:
            return value
        if self.type in (int, float):
            value = self._number(value)
        if self.choices and value not in self.choices:
            raise UsageError(f"{self.flag} {value!r}: one of {', '.join(map(str, self.choices))}")
        if self.low is not None and not (value > self.low if self.exclusive else value >= self.low):
            bound = "more than" if self.exclusive else "at least"
            raise UsageError(f"{self.flag} {value:g}: {bound} {self.low:g}")
        if self.high is not None and not value <= self.high:
            raise UsageError(f"{self.flag} {value:g}: at most {self.high:g}")
        return value

    def _number(self, value: Any) -> int | float:
        sound = isinstance(value, int | float) and not isinstance(value, bool)
        if not sound or not math.isfinite(value) or (self.type is int and value != int(value)):
            what = "a whole number" if self.type is int else "a number"
            raise UsageError(f"{self.flag} {value!r}: {what} is needed")
        number: int | float = self.type(value)
        return number
