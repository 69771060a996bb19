"""What smooths an image that a warp is to shrink: numbers alone, for torch's warp and NumPy's.

Bilinear resampling looks at the four nearest pixels, however far apart the next ones are
(aliasing), so an image is smoothed first where the warp is to skip pixels of it.
"""

import numpy as np
from numpy.typing import NDArray

# The variance, over step^2 - 1, of what smooths an image before every `step`-th pixel is taken: a
# little over the 1/6 of a triangle, so that stripes of 2.6 pixels at half size keep 3.8 levels,
# nearly as Pillow's resize leaves them (3.2), and not 6.4
PREFILTER = 0.22
MIN_PREFILTER = 0.45  # pixels; a narrower Gaussian costs more than it changes


def deviations(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """The deviations (B, 2), along x and y, of the Gaussians that smooth the sources of warps, 0
    where that is not needed. `matrices`: (B, 2, 3), output to source."""
    step = np.hypot(matrices[:, :, 0], matrices[:, :, 1])  # source pixels an output pixel
    sigmas: NDArray[np.float64] = np.sqrt(np.maximum(step**2 - 1, 0) * PREFILTER)
    sigmas[sigmas < MIN_PREFILTER] = 0.0
    return sigmas


def gaussians(sigma: NDArray[np.float64], length: int) -> NDArray[np.float64]:
    """The taps (B, 2 r + 1) of Gaussians of deviations (B,), cut off at 3 of them, for images of
    this length; r is what the widest reaches."""
    reach = np.minimum(np.ceil(3 * sigma), length - 1)
    radius = int(reach.max())
    at = np.abs(np.arange(-radius, radius + 1))
    taps = np.exp(-0.5 * (at / np.maximum(sigma, 1e-3)[:, None]) ** 2) * (at <= reach[:, None])
    normalised: NDArray[np.float64] = taps / taps.sum(axis=1, keepdims=True)
    return normalised
