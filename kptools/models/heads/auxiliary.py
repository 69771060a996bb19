"""A second head on an earlier layer, which helps to train and is not there afterwards."""

from dataclasses import dataclass

from torch import Tensor

from kptools import geometry as g
from kptools.models.decoded import Decoded
from kptools.models.heads.points import PointsHead
from kptools.models.network import Criterion, Loss
from kptools.units import Size

WEIGHT = 0.4  # of the second output's loss, as in torchvision's own training of Inception-v3


@dataclass(frozen=True)
class AuxiliaryHead:
    """Two heads of points as one. In training the network gives both outputs, else the main one."""

    main: PointsHead
    auxiliary: PointsHead
    decoders: tuple[str, ...] = ()

    def loss(
        self, output: Tensor | tuple[Tensor, Tensor], truth: g.Points, criterion: Criterion
    ) -> Loss:
        if isinstance(output, Tensor):
            return self.main.loss(output, truth, criterion)
        main = self.main.loss(output[0], truth, criterion)
        auxiliary = self.auxiliary.loss(output[1], truth, criterion)
        return Loss(main.mean + WEIGHT * auxiliary.mean, main.count)

    def decode(
        self, output: Tensor, method: str | None = None, size: Size | None = None
    ) -> Decoded:
        return self.main.decode(output)

    def decode_in_graph(self, output: Tensor) -> tuple[Tensor, Tensor]:
        return self.main.decode_in_graph(output)

    def start(self, mean: Tensor, spread: Tensor) -> None:
        self.main.start(mean, spread)
        self.auxiliary.start(mean, spread)
