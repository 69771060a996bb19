"""What covers the head: skin, hair and beard. Colours are (3,) or (n, 3), 0..1, without light."""

from dataclasses import dataclass

import numpy as np

from kptools.datasets.synthetic import Array, Rng

SKINS = np.array([(247, 214, 192), (236, 190, 160), (222, 170, 135), (198, 140, 102),
                  (150, 98, 68), (96, 62, 46)]) / 255  # fmt: skip


_HAIR_COLOURS = np.array([(20, 16, 15), (45, 30, 22), (85, 55, 35), (140, 95, 55), (200, 165, 105),
                          (125, 50, 25), (150, 148, 145), (60, 60, 66)]) / 255  # fmt: skip


# Where hair lines stand: v at each of these u
_KNOTS = np.array([-1.3, -1.0, -0.85, -0.5, 0, 0.5, 0.85, 1.0, 1.3])
_LINES = {
    "bald": np.full(9, -9.0),
    "short": np.array([0.45, -0.05, -0.45, -0.8, -0.9, -0.8, -0.45, -0.05, 0.45]),
    "fringe": np.array([0.6, 0.3, -0.2, -0.5, -0.55, -0.5, -0.2, 0.3, 0.6]),
    "parted": np.array([0.6, 0.1, -0.45, -0.85, -0.8, -0.55, -0.2, 0.2, 0.6]),
    "long": np.array([4.0, 1.4, 0.1, -0.6, -0.95, -0.6, 0.1, 1.4, 4.0]),
}
_U = np.linspace(-2, 2, 129)  # and of a line with its jags
_PER_U = 32  # of them in a unit


@dataclass(frozen=True, slots=True)
class Hair:
    """Hair, or a hat, covers the head where v < line(u)."""

    jags: Array  # (129,): the line, at _U
    volume: float  # head units
    colour: Array
    natural: Array  # of brows and beard: under a hat, the hair's own
    strands: Array  # (512,) brightness
    long: bool

    def line(self, u: Array) -> Array:
        """v of the hair line, smooth: for the shape."""
        return np.interp(u, _U, self.jags)

    def jagged_line(self, u: Array) -> Array:
        """v of the hair line, in steps: for the pixels."""
        return np.asarray(self.jags[np.rint((u - _U[0]) * _PER_U).astype(np.int32)])


def random_hair(rng: Rng) -> Hair:
    style = list(_LINES)[rng.choice(5, p=[0.1, 0.3, 0.2, 0.2, 0.2])]
    bald, long = style == "bald", style == "long"
    line = _LINES[style][:: rng.choice([-1, 1])] + rng.normal(0, 0.08)
    fringe_falls = rng.uniform(0, 0.35) * np.exp(-(_KNOTS**2) * 3)
    if style == "fringe":
        line += fringe_falls
    colour = natural = random_colour(rng, _HAIR_COLOURS, 0.05)
    hat = not bald and rng.random() < 0.1
    if hat:
        line, colour = np.full(9, -rng.uniform(0.45, 0.7)), rng.random(3)
    roughness = 0.01 if hat else rng.uniform(0.02, 0.09)
    jags = np.interp(_U, _KNOTS, line) + rng.normal(0, roughness, len(_U))
    strands = rng.normal(1, 0.05 if hat else 0.22, 512).clip(0.4, 2)
    volume = 0.0 if bald else rng.uniform(0.04, 0.28 if long else 0.2)
    return Hair(jags, volume, colour, natural, strands, long)


def random_colour(rng: Rng, palette: Array, spread: float) -> Array:
    """Between two neighbours of the palette, and a little off."""
    at = rng.uniform(0, len(palette) - 1)
    low = int(at)
    colour = palette[low] + (at - low) * (palette[low + 1] - palette[low])
    return np.asarray(colour * rng.normal(1, spread, 3)).clip(0.02, 1)


def albedo(rng: Rng, u: Array, v: Array, skin: Array, hair: Hair) -> tuple[Array, Array]:
    """(n, 3) colours of the head's pixels, and (n,) which of them are hair."""
    side = abs(u)
    grain = 1 + rng.uniform(0.01, 0.05) * rng.standard_normal((len(u), 1), dtype=np.float32)
    colour = skin.astype(np.float32) * grain
    blush = rng.uniform(0, 0.35) * np.exp(-(((side - 0.52) / 0.25) ** 2) - ((v - 0.5) / 0.22) ** 2)
    tired = rng.uniform(0, 0.3) * np.exp(-(((side - 0.4) / 0.28) ** 2) - ((v - 0.05) / 0.14) ** 2)
    colour *= 1 - blush[:, None] * np.array((0, 0.6, 0.5), np.float32) - tired[:, None]
    strand = (np.arctan2(u, v + 0.3) * 80 + v * 6).astype(np.int32) % 512
    strands = hair.strands[strand]
    if rng.random() < 0.4:
        colour += _beard(rng, side, v, strands)[:, None] * (
            hair.natural * strands[:, None] - colour
        )
    hairy = v < hair.jagged_line(u)
    colour[hairy] = hair.colour * strands[hairy, None]
    return colour, hairy


def _beard(rng: Rng, side: Array, v: Array, strands: Array) -> Array:
    """(n,) 0..1: how much a beard of some cut, or stubble, covers the skin at side = |u| and v."""
    soft = rng.uniform(0.01, 0.15)
    edge = np.interp(side, (0, 0.3, 0.42, 0.6, 0.9, 1.1), (1.22, 1.15, 0.85, 0.8, 0.4, 0.2))
    edge = edge + rng.normal(0, 0.06)
    over = np.clip((v - edge - 0.05 * (strands - 1)) / soft + 0.5, 0, 1)
    cut = rng.integers(4)
    if cut == 1:  # a goatee
        over = over * np.clip((rng.uniform(0.25, 0.45) - side) / soft + 0.5, 0, 1)
    elif cut == 2:  # along the jaw
        over = over * np.clip((v - rng.uniform(0.7, 1.2)) / soft + 0.5, 0, 1)
    lip = np.clip(1 - abs(v - rng.uniform(0.74, 0.8)) / rng.uniform(0.05, 0.11), 0, 1)
    moustache = np.clip(lip * 3, 0, 1) * np.clip((rng.uniform(0.3, 0.5) - side) / 0.08, 0, 1)
    if cut == 3:  # a moustache alone
        over = moustache
    elif rng.random() < 0.7:
        over = np.maximum(over, moustache)
    return over * rng.uniform(0.15, 0.95)
