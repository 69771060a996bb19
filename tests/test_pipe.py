"""The whole pipe: random faces go through kp-augment, kp-predict and kp-eval, cut into stages in
any way, and every figure is the one that a scorer written here finds. It uses numpy alone, follows
the definitions in docs/metrics.md, and knows truth and predictions from where they were made.
`KPTOOLS_EXAMPLES=500` tries more pipes than the default."""

import json
import math
import os
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import forked, in_process, module
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from PIL import Image

from kptools import runtime
from kptools.cli.augment import augment
from kptools.cli.edge import new_app
from kptools.cli.eval import evaluate
from kptools.cli.predict import predict
from kptools.models import build, checkpoint
from kptools.models.checkpoint import Checkpoint
from kptools.schemes import catalog
from kptools.schemes.scheme import Scheme
from kptools.specs import InputSpec, ModelSpec

EXAMPLES = int(os.environ.get("KPTOOLS_EXAMPLES", "60"))
DOCUMENTED = {0, 1, 2, 3, 4, 130, 141, 143}
CLOSE = 1e-9

Record = dict[str, Any]
Floats = np.ndarray[Any, np.dtype[np.float64]]


# A pipe, as it is drawn

SCHEMES = {
    "ibug68": 68,
    "imm58": 58,
    "cofw29": 29,
    "kaggle15": 15,
    "nose1": 1,
    "ibug68:36,45,30,48,54": 5,  # eye corners, no pupils
    "imm58:3,7": 2,  # no eyes, no table of left and right
    "mine": 5,  # not known to kptools
    "": 4,  # no scheme
}
OPERATIONS = {
    "flip": (0.5, 1.0),
    "rotate": (10.0, 180.0),
    "scale": (0.1, 0.6),
    "shift": (0.05, 0.3),
    "brightness": (0.3,),
    "hue": (0.2,),
    "gray": (0.5,),
    "blur": (2.0,),
    "noise": (0.1,),
    "erase": (0.5,),
}
EXTRAS: tuple[Record, ...] = (
    {},
    {"name": "Zoë 人 😀", "group": "p1"},
    {"deep": {"ü": [1, {"b": None}, True, 1.5e-9]}, "group": "p1"},
    {"big": 2**70},
    {"big": [-(10**25), {"more": 2**64}], "dataset": "\u2028 own"},
)


@dataclass(frozen=True)
class Face:
    """What is drawn of a face; its numbers come from the seed of the pipe."""

    image: int
    scheme: str
    id: str  # "": the record has none
    missing: float  # share of the points that are not annotated
    eyes: str = "plain"  # or an outer corner is `lacking`, or both are at the `same` place
    rounded: bool = False
    leaves: bool = False  # the box leaves the image
    split: str = ""
    scale: float | None = None
    visible: bool = False
    mean: bool = False
    score: bool = False
    stale: bool = False  # an earlier prediction stands in the record
    extra: int = 0
    failed: bool = False


@dataclass(frozen=True)
class Stage:
    """A call of kp-augment. `both`: the records that came in go on beside those made of them."""

    write: bool
    operations: tuple[tuple[str, float], ...] = ()
    copies: int = 1
    seed: int = 0
    both: bool = False

    @property
    def arguments(self) -> list[str]:
        return [f"--{name}={value}" for name, value in (*self.operations, ("seed", self.seed))]


@dataclass(frozen=True)
class Pipe:
    seed: int
    faces: tuple[Face, ...]
    stages: tuple[Stage, ...]
    predictor: str  # exact | noisy | constant | untrained
    place: int  # so many stages stand before the prediction
    ways: tuple[str, ...]  # how each call of the second run gets its records
    norm: str | None = None
    points: str | None = None
    threshold: float | None = None
    merge: str | None = None
    trouble: str = ""

    @property
    def schemes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(face.scheme for face in self.faces))

    @property
    def options(self) -> list[str]:
        given = {"norm": self.norm, "points": self.points, "merge": self.merge}
        given["threshold"] = None if self.threshold is None else str(self.threshold)
        return [f"--{name}={value}" for name, value in given.items() if value is not None]


def known(scheme: str) -> Scheme | None:
    return None if scheme in ("mine", "") else catalog.get(scheme)


def has(scheme: str, what: str) -> bool:
    found = known(scheme)
    return found is not None and getattr(found, what) not in (None, ())


@st.composite
def pipes(draw: Callable[..., Any], predictor: str, trouble: str = "") -> Pipe:
    """A pipe whose records are all sound; with `trouble` some of them have to fail."""
    if trouble == "misfit":
        trouble = draw(st.sampled_from(("eyes", "flip")))
    what = {"eyes": "corners", "flip": "swap"}.get(trouble)
    names = [name for name in SCHEMES if not (what and has(name, what))]
    several = draw(st.sampled_from((0, 0, 1)))
    names += [name for name in names if has(name, "swap")]  # those more often
    used = draw(st.lists(st.sampled_from(names), min_size=1 + several, max_size=1 + several))
    scaled = draw(st.sampled_from(("none", "some", "all")))
    named = draw(st.booleans())
    faces = tuple(
        _face(draw, index, used[draw(st.integers(0, len(used) - 1))], scaled, named)
        for index in range(draw(st.integers(2 if trouble or several else 1, 6)))
    )
    if trouble == "failed":
        at = draw(st.integers(0, len(faces) - 1))
        faces = (*faces[:at], _failed(faces[at]), *faces[at + 1 :])
    used = list(dict.fromkeys(face.scheme for face in faces))
    mirrors = all(has(name, "swap") for name in used)
    stages = _stages(draw, mirrors, both=all(face.id for face in faces))
    if trouble == "flip":
        stages = (Stage(False, (("flip", 0.5),)), *stages)[:3]
    copied = any(stage.copies > 1 or stage.write for stage in stages)
    merges = ("mean", "median", None, "mean") if copied else (None, "mean", None)
    both = any(stage.both for stage in stages)
    norm, points = _options(draw, used)
    return Pipe(
        seed=draw(st.integers(0, 2**32 - 1)),
        faces=faces,
        stages=stages,
        predictor=predictor,
        place=draw(st.sampled_from((*[len(stages)] * 4, *range(len(stages))))),
        ways=tuple(draw(st.sampled_from(("pipe", "file", "parts"))) for _ in range(6)),
        norm="interocular" if trouble == "eyes" else norm,
        points=None if trouble == "eyes" else points,
        threshold=draw(st.sampled_from((None, 0.02, 0.3, 5.0))),
        merge=draw(st.sampled_from(merges[:2] if both else merges)),
        trouble=trouble,
    )


def _face(draw: Callable[..., Any], index: int, scheme: str, scaled: str, named: bool) -> Face:
    flag = st.booleans()
    names = (f"face{index}", f"../é ü/{index}#2", f"人{index}", "")
    name = draw(st.sampled_from(names[:3] if named else names))
    scale = draw(st.sampled_from((0.5, 1.0, 3.7)))
    if scaled == "none" or (scaled == "some" and draw(flag)):
        scale = None
    return Face(
        image=draw(st.integers(0, 5)) if name else index,  # without an id, an image each
        scheme=scheme,
        id=name,
        missing=draw(st.sampled_from((0.0, 0.1, 0.7))),
        eyes=draw(st.sampled_from(("plain",) * 4 + ("lacking", "same") + ("plain",) * 4)),
        rounded=draw(st.integers(0, 4)) == 0,
        leaves=draw(flag),
        split=draw(st.sampled_from(("", "train", "val", "test"))),
        scale=scale,
        visible=draw(flag),
        mean=draw(st.sampled_from((True, True, False))),
        score=draw(st.sampled_from((True, True, False))),
        stale=draw(flag),
        extra=draw(st.integers(0, len(EXTRAS) - 1)),
    )


def _failed(face: Face) -> Face:
    return Face(face.image, face.scheme, face.id, 0.0, split=face.split, failed=True)


def _stages(draw: Callable[..., Any], mirrors: bool, both: bool) -> tuple[Stage, ...]:
    """Up to three, with at most four copies in all."""
    shapes, rest = ("rotate", "scale", "shift"), tuple(OPERATIONS)[4:]
    stages: list[Stage] = []
    room = 4
    for _ in range(draw(st.sampled_from((0, 1, 1, 2, 2, 3)))):
        names = draw(st.lists(st.sampled_from(shapes * 2 + rest), max_size=3, unique=True))
        names += ["flip"] * (mirrors and draw(st.sampled_from((False, True, True))))
        operations = tuple((n, draw(st.sampled_from(OPERATIONS[n]))) for n in names)
        copies = min(room, draw(st.sampled_from((1, 2, 2, 3))))
        room //= copies
        write = draw(st.sampled_from((True, False, True)))
        stages.append(Stage(write, operations, copies, draw(st.integers(0, 3))))
    if stages and stages[-1].write and both and draw(st.booleans()):
        last = stages[-1]
        stages[-1] = Stage(True, last.operations, last.copies, last.seed, both=True)
    return tuple(stages)


def _options(draw: Callable[..., Any], used: list[str]) -> tuple[str | None, str | None]:
    """A norm and points to score that all of these schemes have."""
    norms = [None, None, "box", "diagonal"]
    norms += ["interocular"] * all(has(name, "corners") for name in used)
    norms += ["interpupil"] * all(has(name, "pupils") for name in used)
    parts: list[str | None] = [None]
    if all(known(name) for name in used):
        parts += ["0"]
        parts += ["nose"] * all(has(name, "nose") for name in used)
        parts += ["4,0-2"] * all(SCHEMES[name] >= 5 for name in used)
        regions = [set(catalog.get(name).regions) for name in used]
        parts += [f"region:{name}" for name in sorted(set.intersection(*regions))[:2]]
    partly = len(parts) > 1 and draw(st.integers(0, 2)) == 0
    return draw(st.sampled_from(norms)), draw(st.sampled_from(parts[1:])) if partly else None


# Maps and tables, as docs/record.md has them


def table_of(scheme: str) -> list[int]:
    found = known(scheme)
    assert found is not None
    assert found.swap is not None
    return list(found.swap)


def map_of(line: Record) -> Floats:
    """The 3x3 matrix from the image that a line was made from to the one that it names."""
    return np.array([*line["source"]["matrix"], [0, 0, 1]]) if "source" in line else np.eye(3)


def forth(m: Floats, values: Floats, scheme: str) -> Floats:
    """Points (K, 2) through a map; where it is a mirror left and right change names."""
    moved = values @ m[:2, :2].T + m[:2, 2]
    return moved[table_of(scheme)] if np.linalg.det(m[:2, :2]) < 0 else moved


def back(m: Floats, values: Floats, scheme: str) -> Floats:
    if np.linalg.det(m[:2, :2]) < 0:
        values = values[table_of(scheme)]
    moved: Floats = np.linalg.solve(m[:2, :2], (values - m[:2, 2]).T).T
    return moved


def renamed(m: Floats, values: list[Any], scheme: str) -> list[Any]:
    """A list of one value a point, in the order of the map's other side."""
    if np.linalg.det(m[:2, :2]) > 0:
        return values
    return [values[i] for i in table_of(scheme)]


def scale_through(m: Floats, scale: float | None) -> float | None:
    """Pixels of the original photo to one of the map's other side."""
    return None if scale is None else scale / math.sqrt(abs(np.linalg.det(m[:2, :2])))


def array_of(points: list[list[float] | None]) -> Floats:
    return np.array([[math.nan] * 2 if p is None else p for p in points], dtype=float)


def list_of(points: Floats) -> list[list[float] | None]:
    return [None if math.isnan(x) else [x, y] for x, y in points.tolist()]


# The scorer


@dataclass
class Scored:
    """A face as the scorer has to see it: all from where it was made, nothing from the pipe."""

    number: int
    face: Face
    record: Record
    failed: bool
    truth: Floats
    pred: Floats
    mean: Floats | None
    score: list[float] | None
    visible: list[int] | None
    scale: float | None


@dataclass
class Row:
    failed: bool
    norm: str
    split: str
    name: str = ""
    source: str = ""
    length: float | None = None
    pred: Floats = field(default_factory=lambda: np.zeros((0, 2)))
    mean: Floats | None = None
    size: tuple[int, int] = (0, 0)
    scale: float | None = None
    regions: dict[str, list[int]] = field(default_factory=dict)


def norm_name(scheme: str, wanted: str | None) -> str:
    return wanted or ("interocular" if has(scheme, "corners") else "box")


def length_of(name: str, face: Scored) -> float | None:
    """What distances are divided by; None where an eye is not annotated, or both are one."""
    x0, y0, x1, y1 = face.record["box"]
    if name == "box":
        return math.sqrt((x1 - x0) * (y1 - y0))
    if name == "diagonal":
        return math.sqrt(face.record["size"][0] ** 2 + face.record["size"][1] ** 2)
    scheme = known(face.face.scheme)
    assert scheme is not None
    eyes = scheme.pupils if name == "interpupil" else [[corner] for corner in scheme.corners]
    right, left = (face.truth[list(eye)].sum(axis=0) / len(eye) for eye in eyes)
    found = math.sqrt(((right - left) ** 2).sum())
    return found if found > CLOSE else None


def part_of(scheme: Scheme, points: str) -> tuple[str, list[int]]:
    """The name and the indices of the points that --points names."""
    if points == "nose":
        assert scheme.nose is not None
        return "nose1", [scheme.nose]
    keep: list[int] = []
    for word in points.split(","):
        if word.startswith("region:"):
            keep += scheme.regions[word.removeprefix("region:")]
        else:
            first, _, last = word.partition("-")
            keep += range(int(first), int(last or first) + 1)
    if keep == list(range(scheme.count)):
        return scheme.name, keep
    base, _, old = scheme.name.partition(":")
    numbers = old.split(",") if old else [str(i) for i in range(scheme.count)]
    return base + ":" + ",".join(numbers[i] for i in keep), keep


def row_of(face: Scored, pipe: Pipe) -> Row:
    scheme = known(face.face.scheme)
    row = Row(face.failed, norm_name(face.face.scheme, pipe.norm), face.face.split or "none")
    if pipe.norm == "interocular" and not has(face.face.scheme, "corners"):
        row.failed = True
    if row.failed:
        return row
    keep = list(range(len(face.truth)))
    row.name = face.face.scheme or "unknown"
    if pipe.points is not None:
        assert scheme is not None
        row.name, keep = part_of(scheme, pipe.points)
    row.source = face.record.get("box_source", "unknown")
    row.length = length_of(row.norm, face)
    row.pred = (face.pred - face.truth)[keep]
    row.mean = None if face.mean is None else (face.mean - face.truth)[keep]
    row.size, row.scale = tuple(face.record["size"]), face.scale
    for name, region in scheme.regions.items() if scheme else ():
        inside = [keep.index(i) for i in region if i in keep]
        if inside:
            row.regions[name] = inside
    if row.name == "nose1":
        row.regions = {"nose": [0]}
    return row


def figures(rows: list[Row], threshold: float, key: str = "pred") -> Record:
    """MAE and the rest of docs/metrics.md; the failure rate as the least and the most that it
    may be, for an error that is within 1e-9 of the threshold."""
    failed = sum(row.failed for row in rows)
    scored = [row for row in rows if not row.failed and getattr(row, key) is not None]
    gaps, shares, originals, errors = [], [], [], []
    for row in scored:
        offsets = getattr(row, key)
        offsets = offsets[~np.isnan(offsets).any(axis=1)]
        if not len(offsets):
            continue
        gaps.append(offsets)
        shares.append(offsets / np.array(row.size))
        originals.append(np.abs(offsets) * (1.0 if row.scale is None else row.scale))
        if row.length is not None:
            errors.append(float(np.sqrt((offsets**2).sum(axis=1)).mean() / row.length))
    gap = np.concatenate(gaps) if gaps else None
    ordered = sorted(errors)
    judged = len(errors) + failed
    found: Record = {
        "faces": len(scored) + failed,
        "failed": failed,
        "without_norm": len(scored) - len(errors),
        "mae": None if gap is None else np.abs(gap).mean(),
        "rmse": None if gap is None else math.sqrt((gap**2).mean()),
        "mse": None if gap is None else (np.concatenate(shares) ** 2).mean(),
        "nme": sum(errors) / len(errors) if errors else None,
        "nme_median": between(ordered, 50),
        "nme_p90": between(ordered, 90),
        "nme_p95": between(ordered, 95),
        "nme_max": ordered[-1] if errors else None,
        "auc": area(ordered, judged, threshold),
        "failure_rate": None,
    }
    if judged:
        over = [sum(e > threshold + gap for e in errors) for gap in (CLOSE, -CLOSE)]
        found["failure_rate"] = tuple((count + failed) / judged for count in over)
    if any(row.scale is not None for row in scored):
        found["mae_original"] = np.concatenate(originals).mean() if originals else None
    return found


def between(ordered: list[float], percent: float) -> float | None:
    """A percentile, linear between the two numbers next to it."""
    if not ordered:
        return None
    place = percent / 100 * (len(ordered) - 1)
    low = min(int(place), len(ordered) - 1)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (place - low) * (ordered[high] - ordered[low])


def area(ordered: list[float], judged: int, threshold: float) -> float | None:
    """Under the steps of the cumulative error distribution, over the threshold."""
    if not judged:
        return None
    steps = [error for error in ordered if error < threshold]
    ends = [*steps[1:], threshold] if steps else []
    total = sum((i + 1) * (b - a) for i, (a, b) in enumerate(zip(steps, ends, strict=True)))
    return total / judged / threshold


def over_points(rows: list[Row]) -> tuple[list[float | None], dict[str, float | None]]:
    """The NME of each point, and of each region, over the faces that have a norm."""
    normed = [row for row in rows if not row.failed and row.length]
    normed = [row for row in normed if not np.isnan(row.pred).all()]
    count = max((len(row.pred) for row in normed), default=0)
    seen: list[list[float]] = [[] for _ in range(count)]
    for row in normed:
        for index, (x, y) in enumerate(row.pred):
            if not math.isnan(x):
                seen[index].append(math.sqrt(x * x + y * y) / row.length)
    tables = [row.regions for row in rows if not row.failed]
    regions: dict[str, float | None] = {}
    for name, inside in (tables[0] if tables else {}).items():
        values = [value for index in inside if index < count for value in seen[index]]
        regions[name] = sum(values) / len(values) if values else None
    return [sum(s) / len(s) if s else None for s in seen], regions


OVER_A_NORM = dict.fromkeys(
    ("nme", "nme_median", "nme_p90", "nme_p95", "nme_max", "auc", "failure_rate")
)


def report_of(scored: list[Scored], pipe: Pipe) -> Record:
    """What kp-eval has to report."""
    rows = [row_of(face, pipe) for face in scored]
    good = [row for row in rows if not row.failed]
    threshold = 0.08 if pipe.threshold is None else pipe.threshold
    norms = [
        n for n in dict.fromkeys(r.norm for r in rows) if _some([r for r in good if r.norm == n])
    ]
    names = list(dict.fromkeys(row.name for row in good))
    by_point, by_region = over_points(rows)
    one_scheme = len(names) == 1 and names[0] not in ("mine", "unknown")
    means = figures([row for row in rows if row.failed or row.mean is not None], threshold, "mean")
    found = {
        **figures(rows, threshold),
        "threshold": threshold,
        "norm": norms[0] if len(norms) == 1 else None,
        "scheme": "+".join(names) or None,
        "box_source": dict(Counter(row.source for row in good)),
        "mean": None if means["mae"] is None else means,
        "splits": {
            name: figures([row for row in rows if row.split == name], threshold)
            for name in {row.split for row in rows}
        },
        "regions": by_region if one_scheme else {},
        "points": by_point if len(names) <= 1 else [],
    }
    if len(norms) < 2:
        return found
    apart = {n: figures([row for row in rows if row.norm == n], threshold) for n in norms}
    splits = {name: split | OVER_A_NORM for name, split in found["splits"].items()}
    mean = found["mean"] and found["mean"] | OVER_A_NORM
    several = {"norms": apart, "splits": splits, "mean": mean, "regions": {}, "points": []}
    return found | OVER_A_NORM | several


def _some(rows: list[Row]) -> bool:
    return any(not np.isnan(row.pred).all() for row in rows)


def agree(found: Any, wanted: Any, where: str = "report") -> None:
    """Both are the same, numbers to 1e-9; `wanted` may be a pair of bounds."""
    if isinstance(wanted, dict):
        assert isinstance(found, dict), where
        assert set(found) == set(wanted), where
        for key in wanted:
            agree(found[key], wanted[key], f"{where}.{key}")
    elif isinstance(wanted, tuple):
        assert wanted[0] - CLOSE <= found <= wanted[1] + CLOSE, (where, found, wanted)
    elif isinstance(wanted, list):
        assert isinstance(found, list), where
        assert len(found) == len(wanted), where
        for index, (a, b) in enumerate(zip(found, wanted, strict=True)):
            agree(a, b, f"{where}[{index}]")
    elif isinstance(wanted, float | np.floating) and isinstance(found, float | int):
        assert abs(found - wanted) <= CLOSE * max(1.0, abs(wanted)), (where, found, wanted)
    else:
        assert found == wanted, (where, found, wanted)


# The tools, in this process


@dataclass
class Done:
    status: int
    out: bytes
    err: str


def _app(function: Callable[..., Any]) -> Any:
    tool = new_app()
    tool.command()(function)
    return tool


TOOLS = {"augment": _app(augment), "predict": _app(predict), "eval": _app(evaluate)}


def call(name: str, *arguments: object, stdin: bytes = b"") -> Done:
    """Run a tool in this process."""
    done = in_process(TOOLS[name], *arguments, stdin=stdin)
    assert b"Traceback" not in done.stderr, done.stderr
    assert done.returncode in DOCUMENTED
    return Done(done.returncode, done.stdout, done.stderr.decode())


class Stopped(Exception):
    """A tool ended with a status other than 0 or 1, so that there is nothing to go on with."""


@dataclass
class Network:
    path: Path
    shape: Floats  # (K, 2): what the constant one gives, in fractions of its input
    mean: Floats  # (K, 2), fractions of the box
    margin: float


@dataclass
class Place:
    """Pictures and networks, made once."""

    folder: Path
    images: list[tuple[Path, tuple[int, int]]]
    networks: dict[tuple[str, bool], Network] = field(default_factory=dict)

    def network(self, scheme: str, constant: bool) -> Network:
        """An untrained `nose`, or one that gives the same points whatever it sees."""
        key = scheme, constant
        if key not in self.networks:
            self.networks[key] = self._make(scheme, constant)
        return self.networks[key]

    def _make(self, scheme: str, constant: bool) -> Network:
        count, index = SCHEMES[scheme], len(self.networks)
        rng = np.random.default_rng(index)
        shape, mean = rng.integers(-16, 80, (count, 2)) / 64, rng.random((count, 2))
        margin = 0.0 if index % 2 else 0.1
        torch.manual_seed(index)
        network = build.build("nose", count, (16, 16))
        if constant:
            *_, last = (m for m in network.modules() if isinstance(m, torch.nn.Linear))
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
            network.head.start(torch.from_numpy(shape), torch.ones(count, 2))
        model = ModelSpec(
            arch="nose",
            scheme=scheme or f"points{count}",
            count=count,
            input=InputSpec((16, 16), margin, grey=True),
            box_sources=("dataset",),
            mean=tuple((x, y) for x, y in mean.tolist()),
        )
        path = self.folder / f"{index}.safetensors"
        checkpoint.save(path, Checkpoint(model, network.state_dict()))
        return Network(path, shape, mean, margin)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("pipe")
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6  # held sideways
    plans = (
        ("a.png", "RGB", (31, 47), {}),
        ("b.jpg", "RGB", (80, 61), {"quality": 90}),
        ("c.png", "L", (53, 29), {}),
        ("d.JPG", "RGB", (64, 97), {"exif": exif}),
        ("é e.png", "RGBA", (45, 38), {}),
        ("f.jpeg", "L", (71, 71), {}),
    )
    images = []
    for name, mode, (width, height), keys in plans:
        pixels = rng.integers(0, 256, (height, width, 4), np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / name, **keys)
        size = (height, width) if "exif" in keys else (width, height)
        images.append((folder / name, size))
    threads = torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patch:
        # what kp-predict does for a process of its own stays away from that of the tests
        patch.setattr(runtime, "tune_process", lambda: None)
        yield Place(folder, images)
    torch.set_num_threads(threads)


# A pipe that is run


@dataclass
class Origin:
    """Where a prediction was made: what it says, in pixels of the image that the face came from,
    and by the names that its points have there."""

    pred: Floats
    mean: Floats | None
    score: list[float] | None


class Run:
    """One run of a pipe through the tools. `plain`: as `a | b | c`; else cut as `ways` says."""

    def __init__(self, pipe: Pipe, place: Place, folder: Path, plain: bool) -> None:
        self.pipe, self.place, self.folder, self.plain = pipe, place, folder, plain
        self.ways = list(pipe.ways)
        self.status = 0
        self.origins: dict[int, Origin] = {}
        self.records = [self._record(i, face) for i, face in enumerate(pipe.faces)]

    def go(self) -> None:
        data = dump(self.records)
        for index in range(len(self.pipe.stages) + 1):
            if index == self.pipe.place:
                data = self._predict(data)
            if index < len(self.pipe.stages):
                data = self._augment(data, index)
        self.lines = parse(data)
        self.report = self._last(data)
        self.scored = parse(self._last(data, "--records"))

    def _record(self, number: int, face: Face) -> Record:
        """A record of a face; the key `number` is one that kptools does not know."""
        rng = np.random.default_rng((self.pipe.seed, number))
        path, (width, height) = self.place.images[face.image]
        record: Record = {"number": number, "image": str(path)}
        if face.id:
            record["id"] = face.id
        if face.scheme:
            record["scheme"] = face.scheme
        if face.split:
            record["split"] = face.split
        if face.failed:
            return record | {"status": "missing", "error": "it is gone"}
        count = SCHEMES[face.scheme]
        centre = rng.uniform(0.3, 0.7, 2) * (width, height)
        half = rng.uniform(0.1, 0.7 if face.leaves else 0.3, 2) * (width, height)
        box = np.concatenate((centre - half, centre + half))
        points = centre + rng.uniform(-1.3, 1.3, (count, 2)) * half
        if face.rounded:
            box, points = np.round(box * 2) / 2, np.round(points)
        gone = rng.random(count) < face.missing
        gone[rng.integers(count)] = False
        if has(face.scheme, "corners"):
            right, left = catalog.get(face.scheme).corners
            gone[[right, left]] &= face.eyes == "plain" and rng.random() < 0.2
            if face.eyes == "same":
                points[left] = points[right]
            gone[left] |= face.eyes == "lacking"
            gone[right] &= face.eyes != "lacking"
        points[gone] = math.nan
        record |= {"size": [width, height], "box": box.tolist(), "points": list_of(points)}
        if rng.random() < 0.8:
            record["box_source"] = "dataset"
        if face.scale is not None:
            record["scale"] = face.scale
        if face.visible:
            record["visible"] = rng.integers(0, 2, count).tolist()
        if face.stale:
            record |= {"pred": [[1.5, 2.5]] * count, "nme": 0.25, "mean": [[3.0, 4.0]] * count}
            record["score"] = [0.5] * count
        return record | EXTRAS[face.extra]

    def _call(self, name: str, arguments: list[str], data: bytes) -> bytes:
        way = "pipe" if self.plain else self.ways.pop()
        self.ways.insert(0, way)
        pieces = [data]
        if way == "parts":
            lines = data.splitlines(keepends=True)
            cut = int(np.random.default_rng(len(data)).integers(len(lines) + 1))
            pieces = [b"".join(lines[:cut]), b"".join(lines[cut:])]
        if way == "pipe":
            return self._done(call(name, *arguments, stdin=data))
        given = []
        for piece in pieces:
            given.append(self.folder / f"{len(list(self.folder.iterdir()))}.jsonl")
            given[-1].write_bytes(piece)
        if name == "eval":  # all files in one call
            return self._done(call(name, *arguments, *given))
        made = b""
        for path in given:
            out = path.with_suffix(".out")
            assert self._done(call(name, *arguments, path, "-o", out)) == b""
            made += out.read_bytes()
        return made

    def _done(self, done: Done) -> bytes:
        self.status = max(self.status, done.status)
        if done.status > 1:
            raise Stopped(done.err)
        return done.out

    def _augment(self, data: bytes, index: int) -> bytes:
        stage = self.pipe.stages[index]
        arguments = [*stage.arguments, f"--copies={stage.copies}"]
        if not stage.write:
            return self._call("augment", arguments, data)
        into = f"--write={self.folder.parent / f'written{index}'}"
        if self.plain:
            made = self._call("augment", [*arguments, into], data)
        else:  # the policy by one tool, the images by the next
            made = self._call("augment", [into], self._call("augment", arguments, data))
        if not stage.both:
            return made
        lines, new = parse(data), parse(made)
        return dump(
            [
                line
                for number in range(len(self.records))
                for line in (*_sound(_of(number, lines)), *_of(number, new))
            ]
        )

    def _predict(self, data: bytes) -> bytes:
        """Give each line a prediction, and a number of its own, `from`, by which what is made of
        it later is known."""
        lines = [line | {"from": i} for i, line in enumerate(parse(data))]
        if self.pipe.predictor in ("exact", "noisy"):
            for line in _sound(lines):
                self._own(line)
            return dump(lines)
        for scheme in self.pipe.schemes:
            network = self.place.network(scheme, self.pipe.predictor == "constant")
            options = [network.path, "--device=cpu", "--precision=fp32", "--threads=1"]
            options += ["--workers=1", f"--batch-size={1 + self.pipe.seed % 4}"]
            wanted = [line for line in lines if line.get("scheme", "") == scheme]
            for line in parse(self._call("predict", list(map(str, options)), dump(wanted))):
                lines[line["from"]] = line
        draws = self._draws([line for line in _sound(lines) if line.get("augment")])
        for line in _sound(lines):
            self._given(line, draws.get(line["from"], np.eye(3)))
        return dump(lines)

    def _own(self, line: Record) -> None:
        """A prediction of our own, in pixels of the file that the line names."""
        number, scheme = line["number"], line.get("scheme", "")
        rng = np.random.default_rng((self.pipe.seed, number, line["from"]))
        record, m, face = self.records[number], map_of(line), self.pipe.faces[line["number"]]
        pred = array_of(record["points"])
        if self.pipe.predictor == "exact":
            line["pred"] = [[1.5, -2.5] if p is None else p for p in line["points"]]
            pred = np.where(np.isnan(pred), back(m, array_of(line["pred"]), scheme), pred)
        else:
            pred = np.where(np.isnan(pred), rng.uniform(-20, 90, pred.shape), pred)
            pred += rng.normal(0, (0.05, 0.5, 5.0)[self.pipe.seed % 3], pred.shape)
            line["pred"] = list_of(forth(m, pred, scheme))
        for key in ("mean", "score", "nme"):
            line.pop(key, None)
        mean = score = None
        if face.mean:
            mean = rng.uniform(0, 60, pred.shape)
            line["mean"] = list_of(forth(m, mean, scheme))
        if face.score:
            score = rng.random(len(pred)).tolist()
            line["score"] = renamed(m, score, scheme)
        self.origins[line["from"]] = Origin(pred, mean, score)

    def _draws(self, lines: list[Record]) -> dict[int, Floats]:
        """What the policies of these lines do at epoch 0, as the images that kp-augment writes of
        them say: the matrix within the file that the line names."""
        if not lines or self.pipe.predictor != "constant":
            return {}
        into = self.folder.parent / "drawn"
        done = call("augment", f"--write={into}", stdin=dump(lines))
        assert done.status == 0, done.err
        return {
            new["from"]: map_of(new) @ np.linalg.inv(map_of(old))
            for old, new in zip(lines, parse(done.out), strict=True)
        }

    def _given(self, line: Record, draw: Floats) -> None:
        """Take note of a network's prediction; of the constant network's it is known beforehand."""
        scheme, m = line.get("scheme", ""), map_of(line)
        network = self.place.network(scheme, self.pipe.predictor == "constant")
        x0, y0, x1, y1 = self.records[line["number"]]["box"]
        corner, size = np.array([x0, y0]), np.array([x1 - x0, y1 - y0])
        pred = array_of(line["pred"])
        if self.pipe.predictor == "constant":
            grow = network.margin * math.sqrt(size.prod())
            seen = corner - grow + network.shape * (size + 2 * grow)
            pred = back(draw, seen, scheme)
            agree(line["pred"], pred.tolist(), "pred")
        mean = corner + network.mean * size
        assert "score" not in line
        self.origins[line["from"]] = Origin(back(m, pred, scheme), back(m, mean, scheme), None)

    def _last(self, data: bytes, *more: str) -> bytes:
        return self._call("eval", [*self.pipe.options, "--format=json", *more], data)


def _of(number: int, lines: list[Record]) -> list[Record]:
    return [line for line in lines if line["number"] == number]


def _sound(lines: list[Record]) -> list[Record]:
    return [line for line in lines if "status" not in line]


def dump(records: list[Record]) -> bytes:
    return b"".join(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)


def parse(data: bytes) -> list[Record]:
    return [json.loads(line) for line in data.split(b"\n") if line]


# What has to come out


MOVED = {"image", "points", "visible", "pred", "score", "mean", "nme", "status", "error", "scale"}


def check_lines(run: Run) -> None:
    """The lines that reach kp-eval: all are there, in order, and each is its face, moved as its
    `source` says."""
    wanted = []
    for number, face in enumerate(run.pipe.faces):
        copies = 1
        for stage in run.pipe.stages:
            copies = copies * stage.copies + copies * stage.both
        wanted += [number] * (1 if face.failed else copies)
    if run.pipe.trouble != "flip":
        assert [line["number"] for line in run.lines] == wanted
    for line in run.lines:
        face, record = run.pipe.faces[line["number"]], run.records[line["number"]]
        kept = [key for key in record if key not in MOVED]
        assert [(key, line[key]) for key in line if key in kept] == [(k, record[k]) for k in kept]
        if "status" in line:
            assert run.pipe.trouble
            continue
        m = map_of(line)
        agree(line["points"], list_of(forth(m, array_of(record["points"]), face.scheme)), "points")
        agree(line.get("scale"), scale_through(m, face.scale), "scale")
        if face.visible:
            assert line["visible"] == renamed(m, record["visible"], face.scheme)
        if "source" in line:
            assert line["source"]["image"] == record["image"]
            with Image.open(line["image"]) as picture:
                assert picture.size == tuple(record["size"])
        else:
            assert line["image"] == record["image"]
        check_prediction(line, run.origins[line["from"]], m, face.scheme)
    last = run.pipe.stages[-1] if run.pipe.stages else None
    policy: list[Record] = []
    for stage in run.pipe.stages:
        policy.append(dict((*stage.operations, ("seed", stage.seed))))
        policy = [] if stage.write else [one for one in policy if len(one) > 1]
    if not (last and last.both):
        assert all(line.get("augment", []) == policy for line in _sound(run.lines))
    if last and not last.both and last.copies > 1:
        for number, face in enumerate(run.pipe.faces):
            of_face = [line.get("copy") for line in _of(number, run.lines)]
            if not face.failed and run.pipe.trouble != "flip":
                assert of_face == list(range(len(of_face)))


def check_prediction(line: Record, origin: Origin, m: Floats, scheme: str) -> None:
    agree(line["pred"], list_of(forth(m, origin.pred, scheme)), "pred")
    assert ("mean" in line, "score" in line) == (origin.mean is not None, origin.score is not None)
    if origin.mean is not None:
        agree(line["mean"], list_of(forth(m, origin.mean, scheme)), "mean")
    if origin.score is not None:
        agree(line["score"], renamed(m, origin.score, scheme), "score")


def to_score(run: Run) -> list[Scored]:
    """The faces that kp-eval has to score: its lines, or with --merge one a face, in the pixels of
    the image that it came from."""
    pipe = run.pipe
    if not pipe.merge:
        return [_scored(run, [line], map_of(line)) for line in run.lines]
    numbers = dict.fromkeys(line["number"] for line in run.lines)
    return [_scored(run, _of(number, run.lines), np.eye(3)) for number in numbers]


def _scored(run: Run, lines: list[Record], m: Floats) -> Scored:
    """What lines are together, through `m`."""
    number = lines[0]["number"]
    face, record = run.pipe.faces[number], run.records[number]
    if any("status" in line for line in lines):
        nothing = np.zeros((0, 2))
        return Scored(number, face, record, True, nothing, nothing, None, None, None, None)
    middle = np.median if run.pipe.merge == "median" else np.mean
    origins = [run.origins[line["from"]] for line in lines]

    def together(values: list[Any]) -> Any:
        return None if any(v is None for v in values) else middle(np.array(values), axis=0)

    mean, score = together([o.mean for o in origins]), together([o.score for o in origins])
    visible = record.get("visible")
    return Scored(
        number=number,
        face=face,
        record=record,
        failed=False,
        truth=forth(m, array_of(record["points"]), face.scheme),
        pred=forth(m, together([o.pred for o in origins]), face.scheme),
        mean=None if mean is None else forth(m, mean, face.scheme),
        score=None if score is None else renamed(m, score.tolist(), face.scheme),
        visible=None if visible is None else renamed(m, visible, face.scheme),
        scale=scale_through(m, face.scale),
    )


def check_records(run: Run, scored: list[Scored]) -> None:
    """What `kp-eval --records` writes: the faces as they were scored, each with its error."""
    assert len(run.scored) == len(scored)
    for line, face in zip(run.scored, scored, strict=True):
        row = row_of(face, run.pipe)
        assert (line["number"], "status" in line) == (face.number, row.failed)
        if row.failed:
            continue
        alone = figures([row], 1.0)
        agree(line["nme"], alone["nme"], "nme")
        agree(line["points"], list_of(face.truth), "points")
        agree(line["pred"], list_of(face.pred), "pred")
        agree(line.get("mean"), None if face.mean is None else face.mean.tolist(), "mean")
        agree(line.get("score"), face.score, "score")
        agree(line.get("scale"), face.scale, "scale")
        assert line.get("visible") == face.visible
        if run.pipe.merge:
            assert line["image"] == face.record["image"]
            assert not {"source", "copy"} & set(line)


def note(seen: Counter[str], run: Run, scored: list[Scored]) -> None:
    """Count what the pipe had in it."""
    report = json.loads(run.report)
    groups = [_of(number, run.lines) for number in range(len(run.records))]
    many = bool(run.pipe.merge) and any(len(group) > 1 for group in groups)
    written = [line for line in run.lines if "source" in line]
    mirrored = [line for line in written if np.linalg.det(map_of(line)[:2, :2]) < 0]
    twice = sum(stage.write for stage in run.pipe.stages) > 1
    policies = [line for line in run.lines if line.get("augment")]
    seen.update(
        {
            "merged": many,
            "written copies merged": many and bool(written),
            "policy copies merged": many and bool(policies),
            "mirrored copies merged": many and bool(mirrored),
            "the original among its copies": any(stage.both for stage in run.pipe.stages),
            "mirrored and not merged": bool(mirrored) and not run.pipe.merge,
            "scores of mirrored copies": many and any("score" in line for line in mirrored),
            "written twice": twice,
            "predicted by networks": run.pipe.predictor == "untrained",
            "predicted under a policy": run.pipe.predictor == "constant" and bool(policies),
            "predicted, then written": run.pipe.place < len(run.pipe.stages) and bool(written),
            "missing points": any(np.isnan(face.truth).any() for face in scored),
            "several norms": "norms" in report,
            "several schemes": len(run.pipe.schemes) > 1,
            "a scheme that is not known": not all(map(known, run.pipe.schemes)),
            "pixels of the original": report.get("mae_original") is not None,
            "faces without a norm": report["without_norm"] > 0,
            "a part of the points": run.pipe.points is not None,
            "failed records": report["failed"] > 0 and report["faces"] > report["failed"],
            "cut": len({*run.pipe.ways}) > 1,
        }
    )


def try_pipe(pipe: Pipe, place: Place, seen: Counter[str]) -> None:
    with tempfile.TemporaryDirectory(dir=place.folder) as name:
        runs = []
        for plain in (True, False):
            folder = Path(name) / ("one" if plain else "cut")
            folder.mkdir()
            run = Run(pipe, place, folder, plain)
            try:
                run.go()
            except Stopped as stopped:
                raise AssertionError(f"status {run.status}: {stopped}") from None
            check_lines(run)
            scored = to_score(run)
            found = json.loads(run.report)
            found.pop("by_score", None)  # tests/test_risk.py has its numbers
            agree(found, report_of(scored, pipe))
            check_records(run, scored)
            # sound records have no reason to fail
            assert run.status == (1 if any(row_of(f, pipe).failed for f in scored) else 0)
            assert bool(run.status) == bool(pipe.trouble)
            runs.append(run)
        one, cut = runs
        if pipe.predictor != "untrained":  # whose last bits may depend on the batch
            assert one.lines == cut.lines
            assert one.report == cut.report
            assert one.scored == cut.scored
        seen[f"status {cut.status}"] += 1
        note(seen, cut, scored)


def test_the_figures_of_any_pipe_are_an_independent_scorers(place: Place) -> None:
    seen: Counter[str] = Counter()

    def try_some(count: int, number: int, predictor: str, trouble: str = "") -> None:
        @seed(number)
        @settings(
            max_examples=count,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(pipe=pipes(predictor, trouble))
        def holds(pipe: Pipe) -> None:
            try_pipe(pipe, place, seen)

        holds()

    # nine at a time: of more, hypothesis makes the first small, and most of them alike
    predictors = ("noisy", "constant", "exact", "noisy", "untrained", "constant")
    for number in range(math.ceil(EXAMPLES / 9)):
        try_some(9, number, predictors[number % len(predictors)])
        if number % 4 == 0:
            try_some(2, number, "noisy", ("failed", "misfit")[number // 4 % 2])
    statuses = {key: count for key, count in seen.items() if key.startswith("status")}
    assert seen["status 0"] >= 0.9 * sum(statuses.values()), statuses
    if EXAMPLES >= 60:
        assert all(seen.values()), [key for key, count in seen.items() if not count]


def test_a_pipe_of_processes_gives_what_the_tools_give_in_one_process(
    place: Place, tmp_path: Path
) -> None:
    faces = tuple(Face(i, "ibug68", f"f{i}", 0.1, leaves=True) for i in range(4))
    records = dump(Run(Pipe(1, faces, (), "constant", 0, ()), place, tmp_path, True).records)
    network = place.network("ibug68", True).path
    options = [str(network), "--device=cpu", "--precision=fp32", "--threads=1"]
    calls = [
        ["augment", "--copies=3", "--rotate=20", "--flip=0.5"],
        ["predict", *options],
        ["eval", "--merge=mean", "--format=json"],
    ]
    data = records
    for name, *arguments in calls:
        done = call(name, *arguments, stdin=data)
        assert done.status == 0, done.err
        data = done.out
    python = {"predict": forked()}  # which would import torch
    shell = " | ".join(f"{module(name, python.get(name, ()))} {' '.join(r)}" for name, *r in calls)
    piped = subprocess.run(["sh", "-c", shell], input=records, capture_output=True, timeout=300)
    assert (piped.returncode, piped.stdout) == (0, data), piped.stderr
