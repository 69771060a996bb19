"""Kaggle submissions: `Id,Predicted`, a row a coordinate, x and y alternating, ids from 0, in
pixels of the original image."""

from pathlib import Path
from typing import Any

import numpy as np

from kptools import geometry as g
from kptools.errors import KptoolsError, RecordError
from kptools.records import keys
from kptools.records.item import Item
from kptools.records.points import points_array
from kptools.storage.files import write_output


class Submission:
    """Rows as faces come, in the stream's order; the file appears whole, at `save`."""

    def __init__(self, path: Path, fill: str) -> None:
        self.path, self.fill = path, fill
        self.rows: list[str] = ["Id,Predicted"]

    def add(self, item: Item) -> None:
        """Raises KptoolsError where the face has no prediction and none is to be filled in."""
        record: dict[str, Any] = item.record
        key = "mean" if item.failed or "pred" not in record else "pred"
        if key == "mean" and (self.fill != "mean" or "mean" not in record):
            why = record.get("error", "no `pred`; kp-predict gives it")
            hint = (
                "kp-predict gives `mean` to each face with a box"
                if self.fill == "mean"
                else "--fill mean takes the mean shape"
            )
            raise KptoolsError(f"{item.where}: no prediction for {record.get('id')}: {why}; {hint}")
        try:
            points = points_array(record, key)
            scale = keys.scale(record) or 1.0
        except RecordError as error:
            raise KptoolsError(f"{item.where}: {error}") from None
        if not np.isfinite(points).all():
            raise KptoolsError(f"{item.where}: {key} has a null; a submission needs each point")
        # the original's pixels are scale times as many; both frames have (0, 0) at a centre
        original = g.transform(g.scaling(scale, scale), points)
        first = len(self.rows) - 1
        self.rows += [f"{first + i},{v!r}" for i, v in enumerate(original.flatten().tolist())]

    def save(self) -> None:
        """Raises KptoolsError where no face came: a file without rows is no submission."""
        if len(self.rows) == 1:
            raise KptoolsError(
                f"no record came, so {self.path} is not written; kp-predict makes them"
            )
        write_output(self.path, ("\n".join(self.rows) + "\n").encode())
