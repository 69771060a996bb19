"""From a stream of records to the faces of a training run."""

import math
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from kptools import geometry as g
from kptools import specs
from kptools.console import tell
from kptools.errors import KptoolsError, RecordError
from kptools.pixels.cache import Store
from kptools.pixels.layout import crop_spec
from kptools.records import keys, policy, splits
from kptools.records.item import Item
from kptools.records.stream import Stream
from kptools.training.settings import Settings
from kptools.training.training_set import Faces

HOLD_OUT = 1  # the seed of the share that is held out here; kp-prep --val-fraction has its own


class Intake:
    """The records of a stream, all of them held: checked, and sorted by split.

    What cannot be used is reported and counted by the stream, and left out of the run. `memory`:
    how many bytes the crops may take; `report` is given a line about what was found.
    """

    def __init__(
        self,
        stream: Stream,
        settings: Settings,
        memory: int,
        report: Callable[[str], None] = tell,
    ) -> None:
        self.stream, self.settings, self.memory = stream, settings, memory
        self.report = report
        self.train: list[Item] = []
        self.val: list[Item] = []
        self.items: list[Item] = []  # all, in order
        self.scheme = ""
        self.count = 0  # K

    def read(self, val_file: str | None, val_fraction: float | None) -> None:
        """Read the stream, and a file of val records; hold out a share of the groups where there is
        no val, or where `val_fraction` asks for it. KptoolsError where nothing is to train on."""
        tests = 0
        seen: set[tuple[str, int]] = set()
        for item in self.stream:
            self.items.append(item)
            if item.record.get("split") == "test":
                tests += 1
            elif not item.failed and self._check(item, seen):
                (self.val if item.record.get("split") == "val" else self.train).append(item)
        more = self._read_val(val_file) if val_file is not None else []
        if tests:
            self.report(f"{tests} records of split test were skipped")
        if val_fraction is not None or not self.val:
            self._hold_out(0.1 if val_fraction is None else val_fraction)
        copies = [item for item in self.val if keys.copy_index(item.record)]
        if copies:
            self.report(f"{len(copies)} val records are copies; copy 0 alone is validated on")
            self.val = [item for item in self.val if not keys.copy_index(item.record)]
        for item in self.val:
            item.record.pop("augment", None)
        if not self.train:
            raise KptoolsError("no record to train on; records of split train, with points, needed")
        if not self.val:
            self.report("no validation records, so the last epoch is kept")
        self._check_leaks(more, val_file)

    def _check_leaks(self, more: list[Item], val_file: str | None) -> None:
        """Report what is in train and in val; `more` are the faces of `val_file`."""
        trained = {_key(item) for item in self.train}
        again = [item for item in more if _key(item) in trained]
        if again:
            names = [keys.identity(item.record) for item in again]
            self._leak(
                f"{len(again)} faces of {val_file} have the id of a face that is trained on", names
            )
        trained_groups = {splits.group(item.record) for item in self.train}
        others = set(map(id, self.val)) - set(map(id, again))
        groups = [splits.group(item.record) for item in self.val if id(item) in others]
        shared = [group for group in groups if group in trained_groups]
        if shared:
            count = len(set(shared))
            self._leak(f"{count} groups are in train and in val ({len(shared)} val faces)", shared)

    def _leak(self, what: str, names: Iterable[str]) -> None:
        """Report faces on which training would be validated by what it has seen. KptoolsError under
        --strict."""
        some = ", ".join(list(dict.fromkeys(names))[:3])
        line = f"{what}, such as {some}: validation will look better than it is"
        self.report(line)
        if self.stream.strict:
            raise KptoolsError(f"{what}; stopped there, as --strict asks")

    def _read_val(self, name: str) -> list[Item]:
        """Read a file of val records; the faces that it adds to val. A face that is of the stream's
        val already is a failure, as one that comes twice in a stream."""
        more = Stream([name], "-", strict=self.stream.strict)
        seen = {_key(item) for item in self.val}
        found = []
        for item in more:
            self.items.append(item)
            item.record["split"] = "val"
            if not item.failed and self._check(item, seen):
                found.append(item)
        self.val += found
        self.stream.failures += more.failures
        self.stream.count += more.count
        return found

    def _hold_out(self, fraction: float) -> None:
        before, self.train = self.train, []
        groups = set()
        for item in before:
            group = splits.group(item.record)
            if splits.held_out(group, fraction, HOLD_OUT):
                item.record["split"] = "val"
                self.val.append(item)
                groups.add(group)
            else:
                self.train.append(item)
        if fraction:
            self.report(
                f"held out {len(before) - len(self.train)} of {len(before)} records as val "
                f"({len(groups)} groups, by hash)"
            )

    def _check(self, item: Item, seen: set[tuple[str, int]]) -> bool:
        record = item.record
        try:
            keys.image(record)
            keys.box(record)
            keys.split(record)
            key = _key(item)
            if key in seen:
                raise RecordError("bad_record", f"id and copy {key} were there before; each once")
            seen.add(key)
            points = keys.points(record)
            if not any(points):
                raise RecordError("bad_points", "no point is annotated; there is nothing to learn")
            scheme = keys.scheme_name(record)
            self.scheme, self.count = self.scheme or scheme, self.count or len(points)
            if (scheme, len(points)) != (self.scheme, self.count):
                raise RecordError(
                    "bad_scheme",
                    f"{len(points)} points of {scheme}; the run has {self.count} of {self.scheme}",
                )
            if policy.flips(policy.policy(record)):
                policy.swap_table(record)
        except RecordError as error:
            self.stream.fail(item, error)
            return False
        return True

    def output(self) -> Iterator[Item]:
        """What goes to stdout, in order: val, and what failed and is neither train's nor test's."""
        val = set(map(id, self.val))
        for item in self.items:
            if id(item) in val:
                item.changed = True
                yield item
            elif item.failed and item.record.get("split") not in ("train", "test"):
                yield item

    def faces(self, pool: ThreadPoolExecutor) -> tuple[Faces, Faces | None]:
        """The faces of train and val; the threads of `pool` decode them when they are begun."""
        if self.settings.loss == "bce":
            self._report_outside()
        train = self._faces(self.train, pool, self.memory)
        if not self.val:
            return train, None
        used = train.store.pixels.nbytes
        left = self.memory - used if used <= self.memory else self.memory
        return train, self._faces(self.val, pool, left)

    def _faces(self, items: list[Item], pool: ThreadPoolExecutor, memory: int) -> Faces:
        s = self.settings
        kept = [item.record for item in items]
        layout = crop_spec(kept, specs.Frame(s.input, s.margin, s.grey, s.normalization))

        def failed(index: int, error: RecordError) -> None:
            self.stream.fail(items[index], error)

        store = Store(kept, layout, pool, memory=memory, failed=failed)
        points = np.stack([g.from_list(record["points"]) for record in kept])
        flips = any(policy.flips(policy.policy(record)) for record in kept)
        return Faces(kept, points, store, policy.swap_table(kept[0]) if flips else None)

    def _report_outside(self) -> None:
        """Say how many points no map can show, since they lie outside the box and its margin."""
        margin = self.settings.margin
        known = outside = touched = 0
        needed = 0.0
        for item in (*self.train, *self.val):
            box, truth = keys.box(item.record), g.from_list(item.record["points"])
            beyond = g.beyond(truth, box, margin)
            count = int((beyond > 0).sum())
            known += int(np.isfinite(beyond).sum())
            outside += count
            touched += count > 0
            needed = max(needed, margin + float(np.nanmax(beyond)) / g.side(box))
        if outside:
            all_held = math.ceil(100 * needed - 1e-6) / 100
            self.report(
                f"{outside} of {known} points ({touched} faces) lie outside the box and its "
                f"margin; --margin {all_held:g} would hold them all"
            )


def _key(item: Item) -> tuple[str, int]:
    """What tells one face from another. RecordError."""
    return keys.identity(item.record), keys.copy_index(item.record)
