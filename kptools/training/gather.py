"""From a stream of records to the faces of a training run: checked, and sorted by split."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from kptools import geometry as g
from kptools.augment.align import Alignment
from kptools.errors import KptoolsError, RecordError
from kptools.models import heads
from kptools.pixels.cache import CropCache
from kptools.pixels.crop_folder import CropFolder
from kptools.pixels.crop_spec import crop_spec
from kptools.records import keys, splits
from kptools.records.face import Face
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.records.keys import PREDICTION, Record
from kptools.specs import InputSpec
from kptools.training import several
from kptools.training.distributed import ALONE, Ranks
from kptools.training.settings import Settings
from kptools.training.training_set import TrainingSet
from kptools.units import Box

HOLD_OUT = 1  # the seed of the share that is held out here; kp-prep --val-fraction has its own

MAX_FOCUS = 4.0  # boxes: how far off, and half how large, faces may be by their boxes

Report: TypeAlias = Callable[[str], None]  # is given a line about what was found
Member: TypeAlias = tuple[Item, Face]  # of train or of val


@dataclass
class Gathered:
    """The records of a run, all of them held. `items` are all, in order."""

    scheme: str = ""
    count: int = 0  # K
    train: list[Member] = field(default_factory=list)
    val: list[Member] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    failed_val: set[int] = field(default_factory=set)  # ids of items that came as failures of val
    several: bool = False  # whether it may have several schemes
    visibility: bool = False  # whether it is to be learnt which points are seen

    @property
    def faces(self) -> "Gathered":
        """What a process needs that has no part in reading and writing: the faces alone."""

        def bare(members: list[Member]) -> list[Member]:
            return [(Item(face.record, "", 0), face) for _, face in members]

        return Gathered(self.scheme, self.count, bare(self.train), bare(self.val))

    def output(self, predictions: Sequence[Record] = ()) -> Iterator[Item]:
        """What goes to stdout, in order: val, whose records get their predictions as they are asked
        for, and what failed and is neither train's nor test's."""
        for (item, _), prediction in zip(self.val, predictions, strict=False):
            if prediction:
                item.update(prediction, without=PREDICTION)
        val = {id(item) for item, _ in self.val}
        for item in self.items:
            of_others = item.record.get("split") in ("train", "test")
            unused = item.failed and (not of_others or id(item) in self.failed_val)
            if id(item) in val or unused:
                yield item


def gather(
    items: Iterable[Item],
    failures: Failures,
    *,
    val_items: Iterable[Item] | None = None,
    val_name: str = "",
    val_fraction: float | None = None,
    several_schemes: bool = False,
    visibility: bool = False,
    report: Report = lambda line: None,
) -> Gathered:
    """The records of a run. What cannot be used becomes a failure, and is left out.

    `val_items` are all of val; `val_name` is what they are called. A share of the groups is held
    out as val where there is no val, or where `val_fraction` asks for it. With `several_schemes`
    the faces of each have the points of them all, of which their own are annotated; with
    `visibility` faces have what is seen of their points. KptoolsError where nothing is to train on;
    under `strict` where val has what is trained on.
    """
    found = Gathered(several=several_schemes, visibility=visibility)
    seen: set[tuple[str, int, str]] = set()
    tests = 0
    for item in items:
        found.items.append(item)
        if item.record.get("split") == "test":
            tests += 1
        elif not item.failed:
            face = _check(item, seen, found, failures)
            if face is not None:
                is_val = item.record.get("split") == "val"
                (found.val if is_val else found.train).append((item, face))
    more = [] if val_items is None else _add_val(val_items, found, failures)
    if tests:
        report(f"{tests} records of split test were skipped")
    if val_fraction is not None or not found.val:
        _hold_out(found, 0.1 if val_fraction is None else val_fraction, report)
    copies = sum(1 for item, _ in found.val if keys.copy_index(item.record))
    if copies:
        report(f"{copies} val records are copies; copy 0 alone is validated on")
        found.val = [pair for pair in found.val if not keys.copy_index(pair[0].record)]
    for item, _ in found.val:
        item.update({}, without=("augment",))
    found.val = [(item, face.without_policy()) for item, face in found.val]
    if not found.train:
        raise KptoolsError("no record to train on; records of split train, with points, needed")
    if not found.val:
        report("no validation records, so the last epoch is kept")
    _check_leaks(found, more, val_name, failures, report)
    if several_schemes:
        several.unite(found, failures)
    return found


def _check(
    item: Item, seen: set[tuple[str, int, str]], found: Gathered, failures: Failures
) -> Face | None:
    """The face of a record; None where it cannot be used, and is a failure."""
    record = item.record
    try:
        face = Face.parse(record)
        keys.split(record)
        key = _key(item)
        if _face_key(item, found) in seen:
            raise RecordError("bad_record", f"id and copy {key} were there before; each once")
        seen.add(_face_key(item, found))
        face = face.annotated(visibility=found.visibility)
        several.check(face, found)
    except RecordError as error:
        failures.add(item, error)
        return None
    return face


def _add_val(items: Iterable[Item], found: Gathered, failures: Failures) -> list[Item]:
    """Add further records to val; those that were taken. A face that is of val already is a
    failure, as one that comes twice in a stream."""
    seen = {_face_key(item, found) for item, _ in found.val}
    taken = []
    for item in items:
        found.items.append(item)
        if item.failed:
            found.failed_val.add(id(item))
            continue
        item.update({"split": "val"})
        face = _check(item, seen, found, failures)
        if face is not None:
            found.val.append((item, face))
            taken.append(item)
    return taken


def _hold_out(found: Gathered, fraction: float, report: Report) -> None:
    before, found.train = found.train, []
    groups = set()
    for item, face in before:
        group = splits.group(item.record)
        if splits.held_out(group, fraction, HOLD_OUT):
            item.update({"split": "val"})
            found.val.append((item, face))
            groups.add(group)
        else:
            found.train.append((item, face))
    if fraction:
        report(
            f"held out {len(before) - len(found.train)} of {len(before)} records as val "
            f"({len(groups)} groups, by hash)"
        )


def _check_leaks(
    found: Gathered, more: list[Item], val_name: str, failures: Failures, report: Report
) -> None:
    """Report what is in train and in val; `more` are the faces of `val_name`."""
    trained = {_key(item) for item, _ in found.train}
    again = [item for item in more if _key(item) in trained]
    if again:
        names = [keys.identity(item.record) for item in again]
        what = f"{len(again)} faces of {val_name} have the id of a face that is trained on"
        _report_leak(what, names, failures, report)
    trained_groups = {splits.group(item.record) for item, _ in found.train}
    reported = set(map(id, again))
    groups = [splits.group(item.record) for item, _ in found.val if id(item) not in reported]
    shared = [group for group in groups if group in trained_groups]
    if shared:
        what = f"{len(set(shared))} groups are in train and in val ({len(shared)} val faces)"
        _report_leak(what, shared, failures, report)


def _report_leak(what: str, names: Iterable[str], failures: Failures, report: Report) -> None:
    """Report faces on which training would be validated by what it has seen. KptoolsError under
    --strict."""
    some = ", ".join(list(dict.fromkeys(names))[:3])
    report(f"{what}, such as {some}: validation will look better than it is")
    if failures.strict:
        raise KptoolsError(f"{what}; stopped there, as --strict asks")


def focus(found: Gathered) -> Box:
    """Where in their boxes the faces to train on are, in fractions of the box: a square about the
    median middle of their points' tight boxes, about as large as most of these. Points that
    are a part of the face, as a mouth or a nose, are seen with what is about them: it is at least
    half of the box wide. KptoolsError where the boxes are of something else."""
    tight = []
    for _, face in found.train:
        assert face.points is not None
        corners = np.reshape(g.box_of_points(face.level(face.points)), (2, 2))
        tight.append(g.normalize(corners, face.box).ravel())
    boxes = np.array(tight)  # (N, 4)
    x, y = np.median((boxes[:, :2] + boxes[:, 2:]) / 2, axis=0).tolist()
    sides = boxes[:, 2:] - boxes[:, :2]
    side = float(np.median(np.sqrt(sides.prod(axis=1))))
    half = max(0.5, side, 0.9 * float(np.median(sides.max(axis=1)))) / 2
    if half > MAX_FOCUS or max(abs(x - 0.5), abs(y - 0.5)) > MAX_FOCUS:
        raise KptoolsError(
            "most faces lie far outside their boxes, or are many times larger; check the boxes, or "
            "take --align 0"
        )
    return (x - half, y - half, x + half, y + half)


def training_sets(
    found: Gathered,
    settings: Settings,
    pool: ThreadPoolExecutor,
    memory: int,
    failures: Failures,
    report: Report = lambda line: None,
    ranks: Ranks = ALONE,
    folder: CropFolder | None = None,
) -> tuple[TrainingSet, TrainingSet | None]:
    """The faces of train and val, with crops of at most `memory` bytes in memory, the rest in a
    mapped file, or all in files of a `folder`, which keeps them for other runs; the threads of
    `pool` decode them when they are begun. Several `ranks` share mapped files, and the first one
    marks failures."""
    if heads.get(settings.head).bounded:
        _report_outside(found, settings.input, report)
    train = _training_set(found.train, settings, pool, memory, failures, ranks, folder)
    if settings.align:
        train.alignment = Alignment(train.mean_shape(), settings.align)
    if not found.val:
        return train, None
    used = train.crops.pixels.nbytes
    left = memory - used if used <= memory else memory
    return train, _training_set(found.val, settings, pool, left, failures, ranks, folder)


def _training_set(
    members: list[Member],
    settings: Settings,
    pool: ThreadPoolExecutor,
    memory: int,
    failures: Failures,
    ranks: Ranks,
    folder: CropFolder | None,
) -> TrainingSet:
    items = [item for item, _ in members]
    faces = [face.focused(settings.input) for _, face in members]

    def failed(index: int, error: RecordError) -> None:
        if ranks.is_first:
            failures.add(items[index], error)

    spec = crop_spec(faces, settings.input, align=settings.align > 0)
    peers = ranks if ranks.count > 1 else None
    crops = CropCache(faces, spec, pool, memory=memory, failed=failed, peers=peers, folder=folder)
    return TrainingSet(faces, crops)


def _report_outside(found: Gathered, spec: InputSpec, report: Report) -> None:
    """Say how many points the network cannot give, since they lie outside the box and its
    margin."""
    known = outside = touched = 0
    needed = 0.0
    for _, face in (*found.train, *found.val):
        assert face.points is not None
        seen = face.focused(spec)
        box = seen.box
        beyond = g.distance_outside(seen.level(face.points), box, spec.margin)
        count = int((beyond > 0).sum())
        known += int(np.isfinite(beyond).sum())
        outside += count
        touched += count > 0
        needed = max(needed, spec.margin + float(np.nanmax(beyond)) / g.side(box))
    if outside:
        all_held = math.ceil(100 * needed - 1e-6) / 100
        report(
            f"{outside} of {known} points ({touched} faces) lie outside the box and its "
            f"margin; --margin {all_held:g} would hold them all"
        )


def _key(item: Item) -> tuple[str, int]:
    """What tells one face from another. RecordError."""
    return keys.identity(item.record), keys.copy_index(item.record)


def _face_key(item: Item, found: Gathered) -> tuple[str, int, str]:
    """What may come once: of several schemes, a face may have the points of each. RecordError."""
    return (*_key(item), keys.scheme_name(item.record) if found.several else "")
