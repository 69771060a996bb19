"""iBUG 300-W: 68 points (Sagonas et al., 2013)."""

from kptools.schemes.scheme import Scheme, mirror, path, span, swap_table

SCHEME = Scheme(
    name="ibug68",
    count=68,
    regions={
        "jaw": span(0, 16),
        "right_brow": span(17, 21),
        "left_brow": span(22, 26),
        "nose": span(27, 35),
        "right_eye": span(36, 41),
        "left_eye": span(42, 47),
        "mouth": span(48, 67),
    },
    swap=swap_table(
        68,
        mirror(0, 16),
        mirror(17, 26),
        mirror(31, 35),
        ((36, 37, 38, 39, 40, 41), (45, 44, 43, 42, 47, 46)),
        ((48, 49, 50, 59, 58, 60, 61, 67), (54, 53, 52, 55, 56, 64, 63, 65)),
    ),
    corners=(36, 45),
    pupils=(span(36, 41), span(42, 47)),
    nose=30,
    edges=(
        *path(span(0, 16)),
        *path(span(17, 21)),
        *path(span(22, 26)),
        *path(span(27, 30)),
        *path(span(31, 35)),
        *path(span(36, 41), closed=True),
        *path(span(42, 47), closed=True),
        *path(span(48, 59), closed=True),
        *path(span(60, 67), closed=True),
    ),
)
