"""From features to one map for each point."""

from torch import Tensor, nn

from kptools.units import Size


class MapConv2d(nn.Conv2d):
    """(B, channels, h, w) features to (B, K, upscale h, upscale w): a 1 x 1 convolution to
    `upscale` ^ 2 numbers for each point, which are the pixels of a block of its map (sub-pixel
    convolution, Shi et al., 2016). It is quicker than features of that size, and as good. Its
    channels are all points of the first pixel of a block, all of the second, and so on: in memory
    with the channels last, they lie together before and after.

    `size` is the network's input (W, H), `stride` how many of its pixels a feature's pixel spans.
    """

    def __init__(
        self, channels: int, count: int, size: Size, *, stride: int, upscale: int = 1
    ) -> None:
        super().__init__(channels, count * upscale**2, 1)
        self.upscale = upscale
        self.map_size = (size[0] * upscale / stride, size[1] * upscale / stride)

    def forward(self, x: Tensor) -> Tensor:
        maps = super().forward(x)
        side = self.upscale
        if side == 1:
            return maps
        batch, _, height, width = maps.shape
        blocks = maps.permute(0, 2, 3, 1).reshape(batch, height, width, side, side, -1)
        rows = blocks.transpose(2, 3)  # (B, h, side, w, side, K)
        return rows.reshape(batch, height * side, width * side, -1).permute(0, 3, 1, 2)

    def size_on(self, maps: Tensor) -> tuple[float, float]:
        """The size (W, H) of the input in pixels of these maps of it, of which the last may be a
        part of one. An input of another size than the network's has a whole number of them."""
        width, height = maps.shape[3], maps.shape[2]
        over = (width - self.map_size[0], height - self.map_size[1])
        if all(0 <= pixels < self.upscale for pixels in over):
            return self.map_size
        return float(width), float(height)
