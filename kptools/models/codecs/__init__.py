"""Codecs: from points to what a head is trained on, and back. One a file."""

DECODERS = ("argmax", "quarter", "dark", "softargmax")  # from heatmaps to points
DECODER = "dark"  # the one that is used where none is named
