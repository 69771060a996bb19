"""The network in the box on real faces, none of which it saw: kp-predict without a checkpoint.

    python tests/benchmarks/box.py ROOT IDS.txt --imm IMM --youtube FRAMES

ROOT holds iBUG 300-W in dlib's layout with the .pts files, IDS.txt the ids of the faces to score.
They are scored in their own boxes, which are dlib's, and in YuNet's (the extra `detect`). `--imm`
and `--youtube` name other people's pictures, as in accuracy.py (`pip install dlib-bin`).
`--checkpoint` scores another network in its place.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import accuracy
import common
import orjson

BOXES = Path(__file__).with_name("boxes.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", help="iBUG 300-W, or a folder above it")
    parser.add_argument("ids", type=Path, help="the ids to score, one a line")
    parser.add_argument("--imm", type=Path, help="a folder of the IMM face database")
    parser.add_argument("--youtube", type=Path, help="a folder of Udacity's frames and their CSV")
    parser.add_argument("--checkpoint", default="", help="score this network instead")
    args = parser.parse_args()
    network = [args.checkpoint] if args.checkpoint else []
    ids = set(args.ids.read_text().split())
    (xml,) = Path(args.root).rglob("labels_ibug_300W_train.xml")
    options = ("--annotations", "pts", "--xml", xml.name)
    faces = [
        line
        for line in common.tool("prep", "ibug", xml.parent, *options).splitlines(keepends=True)
        if orjson.loads(line)["id"] in ids
    ]
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "faces.jsonl"
        path.write_bytes(b"".join(faces))
        yunet = subprocess.run(
            [sys.executable, BOXES, "yunet", path], stdout=subprocess.PIPE, check=True
        ).stdout
        sets = [("iBUG, its own boxes", b"".join(faces)), ("iBUG, boxes by YuNet", yunet)]
        for name, lines in sets:
            path.write_bytes(common.tool("predict", *network, stdin=lines))
            rows.append((name, len(lines.splitlines()), *figures(path)))
        for name, records in accuracy.others(args.imm, args.youtube):
            found = accuracy.predict_other(Path(folder) / f"{name}.jsonl", records, network)
            rows.append((name, len(records), *figures(found)))
    head = ("", "faces", "NME, %", "MAE of the photos, px", "failures, %", "AUC", "tenths by score")
    common.table(head, rows)


def figures(path: Path) -> tuple[float, ...]:
    return accuracy.figures(accuracy.score(path))


if __name__ == "__main__":
    main()
