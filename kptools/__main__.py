"""`python -m kptools`: the tools, with a line each."""

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
    print(f"kptools {__version__}: facial keypoints from the shell\n")
    for name, text in TOOLS.items():
        print(f"  {name:<11} {text}")
    print("\nEach has --help with examples; records are JSON Lines, one face a line.")


if __name__ == "__main__":
    main()
