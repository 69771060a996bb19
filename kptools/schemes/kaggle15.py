"""Kaggle's Facial Keypoints Detection: 15 points."""

from kptools.schemes.scheme import Scheme, swap_table

SCHEME = Scheme(
    name="kaggle15",
    count=15,
    regions={
        "left_eye": (0, 2, 3),
        "right_eye": (1, 4, 5),
        "left_brow": (6, 7),
        "right_brow": (8, 9),
        "nose": (10,),
        "mouth": (11, 12, 13, 14),
    },
    swap=swap_table(15, ((1, 4, 5, 8, 9, 12), (0, 2, 3, 6, 7, 11))),
    corners=(5, 3),
    pupils=((1,), (0,)),
    nose=10,
    edges=((2, 3), (4, 5), (6, 7), (8, 9), (11, 13), (13, 12), (12, 14), (14, 11)),
    names=(
        "left_eye_center",
        "right_eye_center",
        "left_eye_inner_corner",
        "left_eye_outer_corner",
        "right_eye_inner_corner",
        "right_eye_outer_corner",
        "left_eyebrow_inner_end",
        "left_eyebrow_outer_end",
        "right_eyebrow_inner_end",
        "right_eyebrow_outer_end",
        "nose_tip",
        "mouth_left_corner",
        "mouth_right_corner",
        "mouth_center_top_lip",
        "mouth_center_bottom_lip",
    ),
)
