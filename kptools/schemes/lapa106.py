"""LaPa: 106 points (Liu et al., 2020), in the order of JD-landmark (Liu et al., 2019)."""

from kptools.schemes.scheme import Scheme, mirror, path, span, swap_table

SCHEME = Scheme(
    name="lapa106",
    count=106,
    regions={
        "jaw": span(0, 32),
        "right_brow": span(33, 41),
        "left_brow": span(42, 50),
        "nose": span(51, 65),
        "right_eye": (*span(66, 74), 104),
        "left_eye": (*span(75, 83), 105),
        "mouth": span(84, 103),
    },
    swap=swap_table(
        106,
        mirror(0, 32),
        (span(33, 41), (46, 45, 44, 43, 42, 50, 49, 48, 47)),
        mirror(55, 65),
        ((*span(66, 74), 104), (79, 78, 77, 76, 75, 82, 81, 80, 83, 105)),
        mirror(84, 90),
        mirror(91, 95),
        mirror(96, 100),
        mirror(101, 103),
    ),
    corners=(66, 79),
    pupils=((104,), (105,)),
    nose=54,
    edges=(
        *path(span(0, 32)),
        *path(span(33, 41), closed=True),
        *path(span(42, 50), closed=True),
        *path(span(51, 54)),
        *path((55, 56, 57, 58, 59, 60, 61, 62, 63, 64, 65)),
        *path(span(66, 73), closed=True),
        *path(span(75, 82), closed=True),
        *path(span(84, 95), closed=True),
        *path(span(96, 103), closed=True),
    ),
).named({104: "right_pupil", 105: "left_pupil"})
