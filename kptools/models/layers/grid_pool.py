"""The mean over each cell of a grid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GRID = 4  # cells along each axis


class GridPool(nn.Module):
    """The mean over each of GRID x GRID cells: (B, C, H, W) to (B, C, GRID, GRID), as
    AdaptiveAvgPool2d has it, which on MPS takes multiples of GRID only."""

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        if x.device.type != "mps" or not (height % GRID or width % GRID):
            return F.adaptive_avg_pool2d(x, GRID)
        return pool_by_cells(x)


def pool_by_cells(x: Tensor) -> Tensor:
    """GridPool's numbers, a cell at a time. A cell reaches from floor(i H / GRID) to
    ceil((i + 1) H / GRID)."""

    def cells(length: int) -> list[slice]:
        return [slice(i * length // GRID, -(-(i + 1) * length // GRID)) for i in range(GRID)]

    rows = [
        torch.stack([x[..., row, column].mean(dim=(-2, -1)) for column in cells(x.shape[-1])], -1)
        for row in cells(x.shape[-2])
    ]
    return torch.stack(rows, dim=-2)
