"""kptools: facial keypoints from the shell, and from Python.

    import kptools as kp

    records = kp.read_records("faces.jsonl")     # dicts, one a face
    checkpoint = kp.train(records, arch="resnet18", weights="none")
    predicted = kp.predict(checkpoint, kp.read_records("new.jsonl"))
    report = kp.evaluate(predicted)

What is listed in `__all__` is public, and nothing else. It is imported when it is first used, so
that `import kptools` costs nothing.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"
__all__ = (
    "__version__",
    "draw",
    "evaluate",
    "load_checkpoint",
    "load_scheme",
    "predict",
    "read_records",
    "schemes",
    "train",
    "write_records",
)

if TYPE_CHECKING:
    from kptools import schemes
    from kptools.api import (
        draw,
        evaluate,
        load_checkpoint,
        load_scheme,
        predict,
        read_records,
        train,
        write_records,
    )


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    if name == "schemes":
        return import_module("kptools.schemes")
    return getattr(import_module("kptools.api"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
