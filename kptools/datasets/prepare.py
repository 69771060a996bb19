"""What kp-prep does with the records of every dataset: split, box, points, and each id once."""

from kptools.errors import RecordError, UsageError
from kptools.records.item import Item
from kptools.records.seen import Seen


class Preparation:
    """The options that all datasets share, applied to one record after the other."""

    def __init__(
        self,
        split: str | None,
        val_fraction: float | None,
        points: str | None,
        box: str | None,
        seed: int,
    ) -> None:
        self.split = split
        self.box = box
        self.val_fraction, self.points, self.seed = val_fraction, points, seed
        self.seen = Seen()
        self.repaired = self.turned = 0

    def apply(self, item: Item) -> None:
        """Raises RecordError."""
        from kptools import geometry as g
        from kptools.records import keys, splits

        record = item.record
        if self.split:
            record["split"] = self.split
        if self.val_fraction is not None and record.get("split") != "test":
            held_out = splits.held_out(splits.group(record), self.val_fraction, self.seed)
            record["split"] = "val" if held_out else "train"
        if self.seen.before(keys.identity(record)):
            raise RecordError(
                "bad_record", f"id {record['id']!r} was there before; each face is listed once"
            )
        if item.failed:
            return
        self.repaired += "repaired" in record
        self.turned += "orientation" in record
        if self.box == "image":
            record["box"] = list(g.whole_image((record["size"][0], record["size"][1])))
            record["box_source"] = "image"
        elif self.box == "points":
            truth = g.from_list(keys.points(record))
            record["box"], record["box_source"] = list(g.box_of_points(truth)), "points"
        if self.points is not None:
            self._select(item)

    def _select(self, item: Item) -> None:
        from kptools.records import keys
        from kptools.schemes import choose

        record = item.record
        try:
            chosen, keep = choose.choose(keys.scheme(record), self.points or "")
        except ValueError as error:
            raise UsageError(f"--points {self.points}: {error}") from None
        if "points" in record:
            truth = keys.points(record)
            record["points"] = [truth[i] for i in keep]
        if "visible" in record:
            record["visible"] = [record["visible"][i] for i in keep]
        record["scheme"] = chosen.name
