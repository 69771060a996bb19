"""Drawn faces with known points: a coarse 3-D head, rasterised with numpy, painted with Pillow.

    faces       Face, and synthesize(seed, index), the whole story
    head        shape: the mean face, identity and expression, the surface, its mesh
    surface     skin, hair and beard: colours without light
    raster      camera, mesh to pixels, light
    paint       polygons and lines on a picture
    features    eyes, brows, mouth and nose, painted through the points
    scene       what is behind the head and before it, and the photograph

Two frames. File: pixels, the centre of the top-left pixel is (0, 0). Head: x to image-right, y
down, z to the camera; the unit is half a face's width, the origin lies between the eyes. (u, v)
is (x, y) of the mean face: what sticks to the skin has its place there.

Chance comes from one generator a face, so that the order of its calls is part of what is drawn:
a call more, or two that change places, and every picture is another. What draws chance takes
`rng` first, and is called `random_...` where that is all it does.
"""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Rng: TypeAlias = np.random.Generator
