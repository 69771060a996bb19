"""COFW: 29 points (Burgos-Artizzu et al., 2013)."""

from kptools.schemes.scheme import Scheme, path, span, swap_table

SCHEME = Scheme(
    name="cofw29",
    count=29,
    regions={
        "right_brow": (0, 2, 4, 5),
        "left_brow": (1, 3, 6, 7),
        "right_eye": (8, 10, 12, 13, 16),
        "left_eye": (9, 11, 14, 15, 17),
        "nose": (18, 19, 20, 21),
        "mouth": span(22, 27),
        "chin": (28,),
    },
    swap=swap_table(
        29,
        (
            (0, 2, 4, 5, 8, 10, 12, 13, 16, 18, 22),
            (1, 3, 6, 7, 9, 11, 14, 15, 17, 19, 23),
        ),
    ),
    corners=(8, 9),
    pupils=((16,), (17,)),
    nose=20,
    edges=(
        *path((0, 4, 2, 5), closed=True),
        *path((1, 6, 3, 7), closed=True),
        *path((8, 12, 10, 13), closed=True),
        *path((9, 14, 11, 15), closed=True),
        *path((18, 21, 19)),
        *path((22, 24, 23, 27), closed=True),
    ),
).named({16: "right_pupil", 17: "left_pupil"})
