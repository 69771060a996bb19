"""The coarsest features as a vector, for a head of linear layers."""

from typing import NamedTuple

from torch import Tensor, nn

from kptools.models.layers.grid_pool import GRID, GridPool


class CellFeatures(NamedTuple):
    """What `Cells` gives: the vector (B, CELLS * C), and the maps (B, C_i, H_i, W_i), from fine to
    coarse, of the last of which it is made."""

    cells: Tensor
    maps: list[Tensor]


class Cells(nn.Module):
    """Features of a backbone, from fine to coarse, to (B, CELLS * C), the means of the coarsest,
    (B, C, H, W), over cells that still know where they are; and to the features themselves."""

    CELLS = GRID * GRID

    def __init__(self) -> None:
        super().__init__()
        self.pool = GridPool()

    def forward(self, features: list[Tensor]) -> CellFeatures:
        return CellFeatures(self.pool(features[-1]).flatten(1), features)
