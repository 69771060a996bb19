"""The errors of one source of records, as curves and reports show them: kp-eval's numbers."""

from array import array

import numpy as np

from kptools.evaluation.report import Scorer
from kptools.evaluation.score import Errors, OneNorm, mean
from kptools.evaluation.tally import Tally
from kptools.records.keys import Record


class Source:
    """A name, and the errors of its records, reduced as they come. Sources that are shown together
    share `one_norm`."""

    def __init__(self, name: str, norm: str | None = None, one_norm: OneNorm | None = None) -> None:
        self.name = name
        self.scorer = Scorer(norm, one_norm=one_norm)
        self.face_mae = array("d")  # one a face, pixels

    def add(self, record: Record) -> float:
        """Score a face; its NME, NaN where its norm is not known. Raises RecordError, and
        MixedNorms where its norm is another one than that of the faces before it."""
        score = self.scorer.add(record)
        self.face_mae.append(mean(np.abs(score.offsets).ravel()))
        return score.error

    @property
    def pred(self) -> Tally:
        return self.scorer.all

    @property
    def mean(self) -> Tally:
        """Of the mean shape."""
        return self.scorer.mean

    @property
    def norm(self) -> str | None:
        """The name of the norm; None where no face was scored."""
        return self.scorer.norm

    @property
    def schemes(self) -> list[str]:
        return list(self.scorer.schemes)

    def regions(self) -> dict[str, float | None]:
        """NME by region, where all faces share a scheme."""
        return self.scorer.regions()

    @property
    def errors(self) -> Errors:
        """(N,), infinite for a failure."""
        return np.array(self.pred.nmes, dtype=np.float64)

    @property
    def baseline(self) -> Errors | None:
        """(N,), of the mean shape; None where no record has one."""
        return np.array(self.mean.nmes, dtype=np.float64) if self.mean.coordinates else None
