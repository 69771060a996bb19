"""`kp-augment --write`: the copies of each record, each an image file of its own, written by this
process or by the nodes of a Ray cluster."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kptools.errors import RecordError
from kptools.pixels.write import Save, write_aligned, write_image
from kptools.records import keys, policy
from kptools.records.failures import Fail
from kptools.records.ids import FileNames
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.policy import Stage
from kptools.records.ray_map import ray_map
from kptools.records.stream import Stream
from kptools.storage import files, shared_folder
from kptools.units import Size


@dataclass(frozen=True)
class Copies:
    """What is written of each record: `count` images into the folder, where `stage` follows the
    policy of the record; with a `crop` one aligned crop of this size (width, height)."""

    folder: Path
    count: int = 1
    stage: Stage | None = None
    crop: Size | None = None

    def write(self, item: Item, fail: Fail, save: Save = files.write_output) -> Iterator[Item]:
        """The items of the images that were written of this one, or the item as a failure.
        KptoolsError where the disk says no."""
        if item.failed:
            yield item
            return
        try:
            for record in self._records(item.record):
                if self.crop is not None:
                    made = write_aligned(record, self.folder, self.crop, save)
                else:
                    made = write_image(record, self.folder, save)
                yield item.derive(made)
        except RecordError as error:
            yield fail(item, error)

    def named(self, items: Iterable[Item], fail: Fail) -> Iterator[Item]:
        """The items; one whose file would be that of a record before it is a failure."""
        names = FileNames()
        for item in items:
            if not item.failed:
                try:
                    for record in self._records(item.record):
                        names.unique_name(record)
                except RecordError as error:
                    fail(item, error)
            yield item

    def _records(self, record: Record) -> Iterator[Record]:
        """The copies with their policies, before anything is sampled. Raises RecordError."""
        if self.crop is not None:
            yield record
            return
        copy = keys.copy_index(record)
        stages = policy.stages(record)
        for index in range(self.count):
            one = dict(record)
            if self.count > 1:
                one["copy"] = copy * self.count + index
            one["augment"] = [*stages, self.stage] if self.stage is not None else stages
            yield one


def write_copies(copies: Copies, stream: Stream, *, on_ray: bool) -> Iterator[Item]:
    """The items of all that is written of the records of the stream, in order; `on_ray`: by the Ray
    cluster that is used. The folder is this command's own (`files.make_folder`). KptoolsError."""
    named = copies.named(stream, stream.fail)
    if not on_ray:
        for item in named:
            yield from copies.write(item, stream.fail)
        return
    with shared_folder.marked(copies.folder) as mark:
        # a record a task: where one takes the process with it, the others are written
        yield from ray_map(partial(_work, copies, mark), named, stream.fail, stream.ready, size=1)


def _work(copies: Copies, mark: Path, items: list[Item], fail: Fail) -> Iterator[Iterator[Item]]:
    """On a node."""
    shared_folder.require_marked(mark)
    for item in items:
        yield copies.write(item, fail, shared_folder.write_output)
