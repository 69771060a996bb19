"""What an ONNX file of kptools calls its parts."""

SUFFIX = ".onnx"
INPUT, POINTS, SCORES = "pixels", "points", "scores"
METADATA = "kptools"
