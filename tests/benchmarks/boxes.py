"""Annotated faces in the boxes of a detector: to measure what a network loses on other boxes.

    python tests/benchmarks/boxes.py yunet faces.jsonl > yunet.jsonl
    kp-prep fit-boxes yunet.jsonl                        # the map to these boxes
    kp-predict model.safetensors yunet.jsonl | kp-eval   # the error with them

Each record comes out with the box (and the roll) that the detector found for its face, which is the
one that overlaps most with the box of its points, by a third at least. Faces that it did not find
are left out, and counted on stderr.
"""

import sys

import numpy as np
import orjson

from kptools import geometry as g
from kptools.datasets import detectors


def overlap(a, b):
    """Intersection over union of two boxes."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in (a, b)]
    return width * height / (sum(areas) - width * height)


def main() -> None:
    name, path = sys.argv[1:]
    module = detectors.module(name)
    detect = module.load()
    missed = 0
    with open(path, "rb") as lines:
        for line in lines:
            record = orjson.loads(line)
            tight = g.box_of_points(g.from_list(record["points"]))
            found = detect(record["image"])
            scores = [overlap(face.box, tight) for face in found]
            if not scores or max(scores) < 1 / 3:
                missed += 1
                continue
            face = found[int(np.argmax(scores))]
            record |= {"box": list(face.box), "box_source": module.SOURCE}
            record |= {} if face.roll is None else {"roll": face.roll}
            sys.stdout.buffer.write(orjson.dumps(record) + b"\n")
    print(f"{missed} faces were not found", file=sys.stderr)


if __name__ == "__main__":
    main()
