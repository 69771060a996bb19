"""The coarsest features as a vector, for a head of linear layers."""

from torch import Tensor, nn

from kptools.models.layers.grid_pool import GRID, GridPool


class Cells(nn.Module):
    """Features of a backbone, from fine to coarse, to (B, CELLS * C): the means of the coarsest,
    (B, C, H, W), over cells that still know where they are."""

    CELLS = GRID * GRID

    def __init__(self) -> None:
        super().__init__()
        self.pool = GridPool()

    def forward(self, features: list[Tensor]) -> Tensor:
        return self.pool(features[-1]).flatten(1)  # type: ignore[no-any-return]
