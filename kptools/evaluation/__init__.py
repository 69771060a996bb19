"""Evaluation: the score of a face, the figures of many, and what is made of them."""

NORMS = ("interocular", "interpupil", "box", "diagonal")  # that a distance is divided by
MERGES = ("mean", "median")  # of the copies of a face
THRESHOLD = 0.08  # of AUC and failure rate, where none is given
MEASURES = ("score", "spread", "flags")  # by which kp-prep select chooses
