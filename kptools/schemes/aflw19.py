"""AFLW: 19 of its 21 points, without those of the ears (Koestinger et al., 2011).

Left to right in the picture: brows 0 to 5, eyes 6 to 11, nose 12 to 14, mouth 15 to 17, chin 18.
"""

from kptools.schemes.scheme import Scheme, mirror, path, span, swap_table

SCHEME = Scheme(
    name="aflw19",
    count=19,
    regions={
        "right_brow": span(0, 2),
        "left_brow": span(3, 5),
        "right_eye": span(6, 8),
        "left_eye": span(9, 11),
        "nose": span(12, 14),
        "mouth": span(15, 17),
        "chin": (18,),
    },
    swap=swap_table(19, mirror(0, 5), mirror(6, 11), mirror(12, 14), mirror(15, 17)),
    corners=(6, 11),
    pupils=((7,), (10,)),
    nose=13,
    edges=(
        *path(span(0, 2)),
        *path(span(3, 5)),
        *path(span(6, 8)),
        *path(span(9, 11)),
        *path(span(12, 14)),
        *path(span(15, 17)),
    ),
).named({7: "right_eye_centre", 10: "left_eye_centre", 13: "nose_tip"})
