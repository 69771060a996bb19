"""The IMM face database: 58 points."""

from kptools.schemes.scheme import Scheme, mirror, path, span, swap_table

SCHEME = Scheme(
    name="imm58",
    count=58,
    regions={
        "jaw": span(0, 12),
        "left_eye": span(13, 20),
        "right_eye": span(21, 28),
        "left_brow": span(29, 33),
        "right_brow": span(34, 38),
        "mouth": span(39, 46),
        "nose": span(47, 57),
    },
    swap=swap_table(
        58,
        mirror(0, 12),
        (span(21, 28), span(13, 20)),
        (span(34, 38), span(29, 33)),
        mirror(39, 43),
        mirror(44, 46),
        mirror(47, 57),
    ),
    corners=(21, 13),
    pupils=(span(21, 28), span(13, 20)),
    nose=52,
    edges=(
        *path(span(0, 12)),
        *path(span(13, 20), closed=True),
        *path(span(21, 28), closed=True),
        *path(span(29, 33)),
        *path(span(34, 38)),
        *path(span(39, 46), closed=True),
        *path(span(47, 57)),
    ),
)
