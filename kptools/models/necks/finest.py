"""The finest features as they are: for a backbone that has joined its levels itself."""

from torch import Tensor, nn


class Finest(nn.Module):
    """Features of a backbone, from fine to coarse, to the first of them, (B, C, H, W)."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return features[0]
