"""From features to one map for each point."""

from torch import Tensor, nn

from kptools.units import Size


class MapConv2d(nn.Conv2d):
    """(B, channels, h, w) features to (B, K, upscale h, upscale w): a 1 x 1 convolution to
    `upscale` ^ 2 numbers for each point, which are the pixels of a block of its map (sub-pixel
    convolution, Shi et al., 2016). Its channels are all points of the first pixel of a block, all
    of the second, and so on: with the channels last in memory, they lie together before and after.

    `size` is the network's input (W, H), `stride` how many of its pixels a feature's pixel spans.
    """

    def __init__(
        self, channels: int, count: int, size: Size, *, stride: int, upscale: int = 1
    ) -> None:
        super().__init__(channels, count * upscale**2, 1)
        self.input_size, self.stride_of_maps, self.upscale = size, stride / upscale, upscale

    def forward(self, x: Tensor) -> Tensor:
        maps = super().forward(x)
        side = self.upscale
        if side == 1:
            return maps
        batch, _, height, width = maps.shape
        blocks = maps.permute(0, 2, 3, 1).reshape(batch, height, width, side, side, -1)
        rows = blocks.transpose(2, 3)  # (B, h, side, w, side, K)
        return rows.reshape(batch, height * side, width * side, -1).permute(0, 3, 1, 2)

    def map_size(self, size: Size | None = None) -> tuple[float, float]:
        """An input's size (W, H), by default the network's own, in pixels of its maps: the last may
        be a part of one, or lie outside the input."""
        width, height = size or self.input_size
        return width / self.stride_of_maps, height / self.stride_of_maps
