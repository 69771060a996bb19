"""What a checkpoint, and an ONNX file, say of their network: JSON in, `ModelSpec` out.

Nothing here imports torch.
"""

import math
from dataclasses import asdict
from typing import Any

from kptools.errors import KptoolsError, UsageError
from kptools.models import archs
from kptools.specs import InputSpec, ModelSpec
from kptools.storage import scheme_files

VERSION = 6


def model_of(path: str, meta: dict[str, Any]) -> ModelSpec:
    """What the metadata of the file at `path` says of its network; whether there is such an
    architecture is not asked. A scheme of one's own that it defines is known from then on.
    KptoolsError where it is of another version, or not kp-train's."""
    if "adapter" in meta:
        raise KptoolsError(f"{path} is an adapter (kp-train --arch adapter), and no network")
    version = meta.get("version")
    if version not in range(1, VERSION + 1):
        raise KptoolsError(
            f"{path} is a checkpoint of version {version!r}; this kptools reads versions 1 to "
            f"{VERSION}"
        )
    if version == 3 and _has_pyramid(meta):  # for a day of development
        raise KptoolsError(f"{path} is of an early development version; train it again")
    try:
        described = _from_version_1(meta) if version == 1 else meta["model"]
        model = _parse_model(described)
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise KptoolsError(f"{path}: its metadata is not kp-train's ({error})") from None
    scheme_files.learn(path, meta)
    return model


def described(model: ModelSpec) -> dict[str, Any]:
    """What the metadata of a file says of a network; `visibility` where it has it, so that the
    bytes of others stay what they were."""
    found = asdict(model)
    if not model.visibility:
        del found["visibility"]
    return found


def _has_pyramid(meta: dict[str, Any]) -> bool:
    model = meta.get("model")
    described = model if isinstance(model, dict) else {}
    return described.get("head") in ("heatmap", "integral") and described.get("arch") != "unet"


def _from_version_1(meta: dict[str, Any]) -> dict[str, Any]:
    """The description of a network as this version has it. What kptools 0.1 did not write at first
    is as it was then. Raises KeyError, TypeError, ValueError or AttributeError."""
    old = meta["model"]
    arch = archs.get(str(old["arch"]))
    run = meta.get("run")
    settings = run.get("settings") if isinstance(run, dict) else None
    trained = settings if isinstance(settings, dict) else {}
    names = arch.resolve(str(old["arch"]), arch.heads[0], {})
    options = {name: old.get(name, trained.get(name)) for name in names}
    return {
        "arch": old["arch"],
        "scheme": old["scheme"],
        "count": old["count"],
        "input": {
            "size": old["input"],
            "margin": old["margin"],
            "grey": old["grey"],
            "normalization": old.get("normalization"),
        },
        "box_sources": old["box_sources"],
        "mean": old["mean"],
        "options": {name: value for name, value in options.items() if value is not None},
    }


def _parse_model(m: dict[str, Any]) -> ModelSpec:
    """Raises KeyError, TypeError, ValueError, AttributeError or UsageError."""
    arch = str(m["arch"])
    mean = tuple((float(x), float(y)) for x, y in m["mean"])
    head = archs.get(arch).resolve_head(arch, m.get("head"))
    given = {str(name): _number(value) for name, value in m["options"].items()}
    model = ModelSpec(
        arch=arch,
        scheme=str(m["scheme"]),
        count=int(m["count"]),
        input=_parse_input(m["input"]),
        box_sources=tuple(str(s) for s in m["box_sources"]),
        mean=mean,
        options=archs.get(arch).resolve(arch, head, given),
        head=head,
        passes=int(m.get("passes", 1)),
        flip=bool(m.get("flip", False)),
        visibility=bool(m.get("visibility", False)),
    )
    sound = (
        1 <= model.count <= 100_000
        and model.passes in (1, 2)
        and len(mean) == model.count
        and all(math.isfinite(v) for point in mean for v in point)
    )
    if not sound:
        raise ValueError("a size or a count is out of bounds")
    return model


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("an option is not a number")
    return value


def _parse_input(m: dict[str, Any]) -> InputSpec:
    normalization = m["normalization"]
    if normalization is not None:
        average, deviation = (tuple(float(v) for v in values) for values in normalization)
        normalization = average, deviation
    width, height = (int(v) for v in m["size"])
    focus = m.get("focus")
    if focus is not None:
        x0, y0, x1, y1 = (float(v) for v in focus)
        if not (-10 <= x0 < x1 <= 10 and -10 <= y0 < y1 <= 10):
            raise ValueError("focus is no part of a box")
        focus = (x0, y0, x1, y1)
    spec = InputSpec((width, height), float(m["margin"]), bool(m["grey"]), normalization, focus)
    if normalization is not None and (
        len(average) != spec.channels or len(deviation) != spec.channels or not min(deviation) > 0
    ):
        raise ValueError("normalization is not a mean and a deviation for each channel")
    if not (8 <= width <= 4096 and 8 <= height <= 4096 and 0 <= spec.margin <= 10):
        raise ValueError("a size or a count is out of bounds")
    return spec
