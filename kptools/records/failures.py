"""The failures of a job: records with a `status`, each reported once on stderr, and counted."""

from collections.abc import Callable
from typing import TypeAlias

from kptools.console import report
from kptools.errors import KptoolsError, RecordError
from kptools.records.item import Item
from kptools.records.keys import as_failure

# Marks an item as a failure, and gives it back: `Failures.add`
Fail: TypeAlias = Callable[[Item, RecordError], Item]


class Failures:
    """How many records failed. With `strict` the first one ends the job."""

    def __init__(self, strict: bool = False) -> None:
        self.strict = strict
        self.count = 0

    def add(self, item: Item, error: RecordError) -> Item:
        """Make the item a failure. KptoolsError under `strict`."""
        item.update(as_failure(error))
        if not item.reported:
            item.reported = True
            self.count += 1
            report(f"{item.where}: {error}")
        if self.strict:
            raise KptoolsError(f"stopped at {item.where}, as --strict asks")
        return item

    def add_earlier(self, item: Item) -> None:
        """Count an item that came as a failure. KptoolsError under `strict`."""
        item.reported = True
        self.count += 1
        if self.strict:
            why = str(item.record.get("error", item.record["status"]))
            raise KptoolsError(f"{item.where}: {why}; stopped there, as --strict asks")
