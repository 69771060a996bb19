"""What kp-prep does with the records of every dataset: split, box, points, and each id once."""

from collections import Counter
from collections.abc import Iterator, Mapping

from kptools import geometry as g
from kptools.datasets.catalog import Dataset
from kptools.errors import RecordError, UsageError
from kptools.records import keys, splits
from kptools.records.ids import SeenIds
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.points import points_array
from kptools.schemes import selection


class Preparation:
    """The options that datasets share, applied to one record after the other.

    `dataset` is what a record says that it is of, unless it says so itself. `split` goes before the
    dataset's own. `val_fraction` of the groups is held out, by a hash with `seed`. `points` names
    those that are kept. `box` is `dataset`, `points` or `image`.
    """

    def __init__(
        self,
        dataset: str,
        split: str | None = None,
        val_fraction: float | None = None,
        points: str | None = None,
        box: str | None = None,
        seed: int = 0,
    ) -> None:
        self.dataset = dataset
        self.split, self.val_fraction, self.seed = split, val_fraction, seed
        self.points, self.box = points, box
        self._seen = SeenIds()
        self._marks: Counter[str] = Counter()  # how many records bear a key that a note is about
        self._found: Counter[str] = Counter()  # faces, the photos that show one, and those searched
        self._photo: str | None = None  # of the last face

    def apply(self, item: Item, notes: Mapping[str, str]) -> None:
        """Raises RecordError."""
        record = item.record
        self._count(record)
        if "dataset" not in record:
            record["dataset"] = self.dataset
            if item.failed:  # status and error close the record
                record |= {key: record.pop(key) for key in ("status", "error")}
        if self.split:
            record["split"] = self.split
        if self.val_fraction is not None and record.get("split") != "test":
            held_out = splits.held_out(splits.group(record), self.val_fraction, self.seed)
            record["split"] = "val" if held_out else "train"
        if self._seen.was_seen(keys.identity(record)):
            raise RecordError(
                "bad_record", f"id {record['id']!r} was there before; each face is listed once"
            )
        if item.failed:
            return
        self._marks.update(key for key in notes if key in record)
        if self.box == "image":
            record["box"] = list(g.whole_image((record["size"][0], record["size"][1])))
            record["box_source"] = "image"
        elif self.box == "points":
            truth = points_array(record)
            record["box"], record["box_source"] = list(g.box_of_points(truth)), "points"
        if self.points is not None:
            self._select(item)

    def notes(self, dataset: Dataset, *, were_searched: bool = False) -> Iterator[str]:
        """What is to be reported at the end. `were_searched`: a detector looked for the faces."""
        for key, text in dataset.notes.items():
            if self._marks[key]:
                yield f"{self._marks[key]} {text}"
        faces, photos, searched = (self._found[key] for key in ("faces", "photos", "searched"))
        if searched and were_searched:
            yield f"found {faces} faces, in {photos} of {searched} photos"

    def _count(self, record: Record) -> None:
        """Count what a detector found; the faces of a photo come one after the other."""
        found = str(record.get("box_source")).startswith("detector:")
        is_new = not found or record.get("image") != self._photo
        self._photo = record.get("image") if found else None
        self._found["faces"] += found
        self._found["photos"] += found and is_new
        self._found["searched"] += is_new and (found or record.get("status") == "no_face")

    def _select(self, item: Item) -> None:
        record = item.record
        try:
            chosen, keep = selection.select_points(keys.scheme(record), self.points or "")
        except ValueError as error:
            raise UsageError(f"--points {self.points}: {error}") from None
        if "points" in record:
            truth = keys.points(record)
            record["points"] = [truth[i] for i in keep]
        if "visible" in record:
            record["visible"] = [record["visible"][i] for i in keep]
        record["scheme"] = chosen.name
