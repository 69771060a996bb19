"""WFLW: 98 points (Wu et al., 2018)."""

from kptools.schemes.scheme import Scheme, mirror, path, span, swap_table

SCHEME = Scheme(
    name="wflw98",
    count=98,
    regions={
        "jaw": span(0, 32),
        "right_brow": span(33, 41),
        "left_brow": span(42, 50),
        "nose": span(51, 59),
        "right_eye": (*span(60, 67), 96),
        "left_eye": (*span(68, 75), 97),
        "mouth": span(76, 95),
    },
    swap=swap_table(
        98,
        mirror(0, 32),
        ((33, 34, 35, 36, 37, 38, 39, 40, 41), (46, 45, 44, 43, 42, 50, 49, 48, 47)),
        mirror(55, 59),
        ((60, 61, 62, 63, 64, 65, 66, 67, 96), (72, 71, 70, 69, 68, 75, 74, 73, 97)),
        ((76, 77, 78, 87, 86), (82, 81, 80, 83, 84)),
        ((88, 89, 95), (92, 91, 93)),
    ),
    corners=(60, 72),
    pupils=((96,), (97,)),
    nose=54,
    edges=(
        *path(span(0, 32)),
        *path(span(33, 41), closed=True),
        *path(span(42, 50), closed=True),
        *path(span(51, 54)),
        *path(span(55, 59)),
        *path(span(60, 67), closed=True),
        *path(span(68, 75), closed=True),
        *path(span(76, 87), closed=True),
        *path(span(88, 95), closed=True),
    ),
).named({96: "right_pupil", 97: "left_pupil"})
