"""`python -m kptools`: the tools, with a line each. `python -m kptools doctor`: what is here."""

import sys

from kptools import __version__

TOOLS = {
    "kp-prep": "datasets, photos and drawn faces to records",
    "kp-augment": "adds an augmentation policy, or writes augmented images",
    "kp-train": "records to a checkpoint, a log and scored validation records",
    "kp-predict": "finds the keypoints of each face",
    "kp-track": "follows the faces of a video, smooths their points, flags jumps",
    "kp-eval": "scores predictions: NME, AUC, failure rate; gates and submissions",
    "kp-heatmap": "labels to heatmap files, and heatmaps to points",
    "kp-viz": "pictures of faces and photos, training, errors, filters and heatmaps",
}


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["doctor"]:
        try:
            from kptools.cli import doctor
        except ModuleNotFoundError as error:
            sys.stderr.write(f"kptools: {error.name} is missing; install kptools again\n")
            sys.exit(3)
        sys.argv = ["kptools doctor", *words[1:]]
        doctor.main()
    if words:
        sys.stderr.write(f"kptools: there is no command {words[0]!r}; doctor is the only one\n")
        sys.exit(2)
    print(f"kptools {__version__}: facial keypoints from the shell\n")
    for name, text in TOOLS.items():
        print(f"  {name:<11} {text}")
    print("\nEach has --help with examples; records are JSON Lines, one face a line.")
    print("python -m kptools doctor says what is installed, and what is missing for what.")


if __name__ == "__main__":
    main()
