"""How far a policy may reach: what a stored crop has to hold."""

import math

from kptools.records.policy import Stage
from kptools.units import Degrees, Pixels


def extent(
    stages: list[Stage], half: tuple[Pixels, Pixels], side: Pixels, roll: Degrees = 0.0
) -> tuple[Pixels, Pixels]:
    """Half the extent (x, y) of what the policy may bring into a rectangle of half extent `half`
    about the box's centre, of a face that is turned by `roll` and levelled first; `side` is
    sqrt(box area)."""
    width, height = half
    for stage in reversed(stages):
        move = stage.get("shift", 0.0) * side
        width, height = width + move, height + move
        turn = math.radians(stage.get("rotate", 0.0))
        width, height = _turned(width, height, turn), _turned(height, width, turn)
        zoom = 1 + stage.get("scale", 0.0)
        width, height = width * zoom, height * zoom
    if roll:
        turn = math.radians(roll)
        cos, sin = abs(math.cos(turn)), abs(math.sin(turn))
        width, height = width * cos + height * sin, width * sin + height * cos
    return width, height


def _turned(along: float, across: float, turn: float) -> float:
    """Half the extent along an axis of a rectangle turned by anything up to `turn`."""
    best = min(turn, math.atan2(across, along))
    return along * math.cos(best) + across * math.sin(best)
