"""Units as type names, so that a signature says what its numbers are.

Frames, in the order of a face's way through the tools:

- file: pixels of the file that `image` names; the centre of its top-left pixel is (0, 0).
- continuous: the same pixels with the origin in the corner of that pixel (file + 0.5); only
  `geometry`, and what it hands to the resamplers, is in this frame.
- input: the network's input, continuous; [0, W] x [0, H].
- unit: the input over its size, so that the input is [0, 1] x [0, 1]; targets of regression.
- map: a heatmap's pixels; the centre of its top-left pixel is (0, 0).
"""

from typing import TypeAlias

Pixels: TypeAlias = float
Degrees: TypeAlias = float
Radians: TypeAlias = float
Seconds: TypeAlias = float
Fraction: TypeAlias = float  # of sqrt(box area)
Box: TypeAlias = tuple[float, float, float, float]  # x0, y0, x1, y1; file frame
Size: TypeAlias = tuple[int, int]  # width, height
Normalization: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]  # mean, deviation; white: 1
Schedule: TypeAlias = tuple[tuple[float, int], ...]  # (learning rate, epochs), in order

DEVICES = ("auto", "cpu", "cuda", "mps")  # where a network runs
PRECISIONS = ("auto", "fp32", "tf32", "bf16")  # of its arithmetic
