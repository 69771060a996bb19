"""The tools as functions, for a notebook: the same numbers as the commands.

A record is a dict (docs/record.md); a face that fails is a record with a `status`, and is reported
on stderr. Errors are `kptools.errors.KptoolsError`. The examples of these functions run as tests.
"""

import inspect
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from os import cpu_count
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import orjson
from numpy.typing import NDArray
from PIL import Image

from kptools import console, runtime
from kptools import geometry as g
from kptools.errors import KptoolsError, UsageError
from kptools.evaluation import MERGES, THRESHOLD
from kptools.evaluation.comparison import Outcomes
from kptools.evaluation.comparison import compare as compare_outcomes
from kptools.evaluation.merge import merge_copies
from kptools.evaluation.oks import Sigmas
from kptools.evaluation.protocols import PROTOCOLS
from kptools.evaluation.report import Scorer
from kptools.evaluation.score import OneNorm
from kptools.inference.passes import resolve as resolve_passes
from kptools.inference.pictures import predict_picture
from kptools.inference.prediction import of_scheme
from kptools.inference.predictor import Predictor
from kptools.inference.torch_engine import TorchEngine, default_batch
from kptools.models import archs, box
from kptools.models import checkpoint as checkpoints
from kptools.models.checkpoint import Checkpoint
from kptools.pixels.crop_folder import CropFolder
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.reader import Reader
from kptools.schemes.scheme import Scheme
from kptools.storage import compressed, files, scheme_files
from kptools.training.run import Observer, RunOptions, prepare, train_records
from kptools.training.settings import resolve
from kptools.units import Box, Size
from kptools.viz.faces import Pick, make
from kptools.viz.views import View


def read_records(path: str | Path) -> Iterator[Record]:
    """The records of a JSON Lines file, one a face; `-` is stdin, and `.gz` and `.zst` are read as
    what they hold. They are read as they are asked for. KptoolsError where there is no such file,
    or it holds something else.

    >>> import kptools as kp
    >>> record = next(kp.read_records("faces.jsonl"))
    >>> record["scheme"], len(record["points"])
    ('ibug68', 68)
    """
    return (item.record for item in Reader([str(path)], Failures()))


def write_records(records: Iterable[Record], path: str | Path) -> None:
    """Write records as JSON Lines, to a file that appears whole or not at all, compressed where it
    ends in `.gz` or `.zst`. KptoolsError where one cannot be written as JSON, or the disk is full.

    >>> import kptools as kp
    >>> kp.write_records(kp.read_records("faces.jsonl"), "copy.jsonl")
    >>> list(kp.read_records("copy.jsonl")) == list(kp.read_records("faces.jsonl"))
    True
    """
    form = compressed.format_of(str(path))
    try:
        with files.writing(Path(path)) as handle:
            out = compressed.Output(handle, form) if form else handle
            for number, record in enumerate(records, start=1):
                try:
                    out.write(orjson.dumps(record) + b"\n")
                except TypeError as error:
                    raise KptoolsError(f"record {number} is not JSON: {error}") from None
            if isinstance(out, compressed.Output):
                out.finish()
    except OSError as error:
        raise KptoolsError(f"cannot write {path}: {error.strerror}; make room there") from None


def train(
    records: Iterable[Record],
    arch: str = archs.DEFAULT,
    *,
    val: Iterable[Record] | None = None,
    val_fraction: float | None = None,
    output: str | Path | None = None,
    input_size: Size | None = None,
    batch_size: int | None = None,
    epochs: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    threads: int = 0,
    workers: int = 0,
    cache_memory: float = 8.0,
    cache: str | Path | None = None,
    cache_size: float = 50.0,
    resume: bool = False,
    progress: Callable[[dict[str, Any]], None] = lambda epoch: None,
    **settings: Any,
) -> Checkpoint:
    """Train a network, as `kp-train` does: on the records of split train, validated on those of
    split val, or on a tenth of the groups where there are none.

    With `output` the checkpoint is written there, the log next to it, and `resume` goes on where a
    run was cut off. `cache_memory` and `cache_size`, of the folder `cache`, are GB. What it finds
    about the records is reported on stderr. It sets torch's threads, random seed and float32
    precision, as the command does. `settings` are the other options of kp-train, under their names
    (`head`, `margin`, `loss`, `lr`, `schedule`, `weights`, `init`, `keep`, `seed`, `average`,
    `optimizer`, `weight_decay`, `decay`, `align`, `several_schemes`, `visibility`) and those of the
    architecture (`width`, ...). `input_size` is (width, height). `progress` is called after each
    epoch with what the log has of it.

    >>> import kptools as kp
    >>> checkpoint = kp.train(
    ...     kp.read_records("faces.jsonl"), arch="nose", epochs=2, threads=1, input_size=(32, 32)
    ... )
    >>> checkpoint.model.arch, checkpoint.model.count, len(checkpoint.history)
    ('nose', 68, 2)
    >>> checkpoint.save("nose.safetensors")
    """
    if resume and output is None:
        raise UsageError("resume goes on with a file; name it with output")
    known = archs.all_options()
    options = {name: settings.pop(name) for name in list(settings) if name in known}
    unknown = settings.keys() - inspect.signature(resolve).parameters.keys()
    if unknown:
        raise UsageError(f"train has no argument {', '.join(sorted(unknown))}")
    wanted = resolve(
        arch, input_size=input_size, batch=batch_size, epochs=epochs, options=options, **settings
    )
    where = runtime.device(device)
    thread_count = runtime.set_threads(threads, where)
    with tempfile.TemporaryDirectory() as folder:
        result, _ = train_records(
            _items(records),
            Failures(),
            prepare(wanted, where, precision),
            RunOptions(
                out=Path(output or f"{folder}/network.safetensors"),
                device=where,
                workers=workers or cpu_count() or 1,
                cache_memory=int(cache_memory * 2**30),
                crop_folder=CropFolder(Path(cache), int(cache_size * 10**9)) if cache else None,
                resume=resume,
                threads=thread_count,
            ),
            Observer(
                epoch=lambda entry, done: progress(entry),
                report=lambda line: console.report(f"kptools: {line}"),
            ),
            val_items=None if val is None else _items(val),
            val_name="val",
            val_fraction=val_fraction,
        )
    return result


@overload
def predict(
    checkpoint: Checkpoint | str | Path,
    faces: Iterable[Record],
    *,
    batch_size: int | None = None,
    decode: str | None = None,
    passes: int | None = None,
    flip: bool | None = None,
    shape_prior: bool | None = None,
    find: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 0,
) -> list[Record]: ...


@overload
def predict(
    checkpoint: Checkpoint | str | Path,
    faces: NDArray[np.uint8],
    boxes: Sequence[Box],
    *,
    batch_size: int | None = None,
    decode: str | None = None,
    passes: int | None = None,
    flip: bool | None = None,
    shape_prior: bool | None = None,
    find: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 0,
) -> g.Points: ...


def predict(
    checkpoint: Checkpoint | str | Path,
    faces: Iterable[Record] | NDArray[np.uint8],
    boxes: Sequence[Box] | None = None,
    *,
    batch_size: int | None = None,
    decode: str | None = None,
    passes: int | None = None,
    flip: bool | None = None,
    shape_prior: bool | None = None,
    find: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    workers: int = 0,
) -> list[Record] | g.Points:
    """The keypoints of faces, as `kp-predict` finds them: records with `pred`, `score` and
    `mean`; a face that fails has a `status`.

    Or of a picture: an RGB array (H, W, 3) uint8, with the boxes [x0, y0, x1, y1] of its N faces.
    Then the points are an array (N, K, 2). Both are pixels of the picture, and the centre of its
    top-left pixel is (0, 0).

    `passes`, 1 or 2, is how often the network looks at each face, and `flip` whether at its mirror
    image too; `shape_prior`, whether it moves points that it is unsure of to where the shapes of
    its training faces have them: by default as it was trained. `find` is the scheme, of a network
    of several, of a face that has none, or of the picture: by default its first.

    >>> import kptools as kp
    >>> predicted = kp.predict("nose.safetensors", kp.read_records("faces.jsonl"))
    >>> len(predicted[0]["pred"])
    68
    >>> import numpy as np
    >>> from PIL import Image
    >>> picture = np.asarray(Image.open(predicted[0]["image"]))
    >>> points = kp.predict("nose.safetensors", picture, boxes=[predicted[0]["box"]])
    >>> points.shape
    (1, 68, 2)
    """
    loaded = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
    how = resolve_passes(loaded.model, count=passes, flip=flip, shape_prior=shape_prior)
    network = loaded.network(share=True)
    where = runtime.device(device)
    mode = runtime.precision_for(where, precision)
    runtime.set_float32(mode)
    batch = default_batch(where) if batch_size is None else batch_size
    if isinstance(faces, np.ndarray):
        if boxes is None:
            raise UsageError("a picture needs the boxes of its faces")
        return predict_picture(
            network,
            loaded.model,
            faces,
            boxes,
            device=where,
            precision=mode,
            batch=batch,
            decoder=decode,
            passes=how,
            find=find,
        )
    failures = Failures()
    engine = TorchEngine(
        network, loaded.model, device=where, precision=mode, decoder=decode, passes=how
    )
    predictor = Predictor(engine, batch=batch, workers=workers or cpu_count() or 1)
    items = of_scheme(_items(faces), loaded.model.scheme, failures.add, find)
    return [item.record for item in predictor.run(items, failures.add, lambda: True)]


def evaluate(
    records: Iterable[Record],
    *,
    norm: str | None = None,
    threshold: float | None = None,
    points: str | None = None,
    merge: Literal["mean", "median"] | None = None,
    min_score: float | None = None,
    protocol: str | None = None,
    by: Sequence[str] = (),
    oks: str | None = None,
    compare: Iterable[Record] | None = None,
) -> dict[str, Any]:
    """The report that `kp-eval` makes of predictions: NME, AUC and the other metrics
    (docs/metrics.md). `norm` is interocular, interpupil, box or diagonal; `points` names those
    that are scored, as `region:mouth`; `merge` takes consecutive records of one id as one;
    `min_score` leaves out the points of a lower `score`. `protocol`, a name, and `oks` are as
    `--protocol` and `--oks`; `by` are keys of the records. `compare` are a baseline's predictions
    of the same faces, and the report's `compare` says of each figure whether it is `worse`.

    >>> import kptools as kp
    >>> predicted = kp.predict("nose.safetensors", kp.read_records("faces.jsonl"))
    >>> report = kp.evaluate(predicted)
    >>> report["faces"], report["norm"], report["nme"] > 0
    (12, 'interocular', True)
    """
    if merge is not None and merge not in MERGES:
        raise UsageError(f"merge {merge!r}: one of {', '.join(MERGES)}")
    if min_score is not None and not 0 <= min_score <= 1:
        raise UsageError(f"min_score {min_score:g}: from 0 to 1")
    if protocol is not None and protocol not in PROTOCOLS:
        raise UsageError(f"protocol {protocol!r}: one of {', '.join(PROTOCOLS)}")
    if protocol is not None and (norm, threshold, points, min_score) != (None,) * 4:
        raise UsageError(f"protocol {protocol!r} says what is scored, and how; give it alone")
    if compare is not None and min_score is not None:
        raise UsageError("compare is of the same points; leave min_score out")
    chosen = PROTOCOLS[protocol] if protocol is not None else None
    by = [by] if isinstance(by, str) else by
    if threshold is None:
        threshold = (chosen and chosen.threshold) or THRESHOLD
    failures, one_norm = Failures(), OneNorm() if compare is not None else None
    sigmas = Sigmas(oks) if oks is not None else None

    def score(faces: Iterable[Record], outcomes: Outcomes | None) -> Scorer:
        scorer = Scorer(norm, points, one_norm, min_score, chosen, by, sigmas, outcomes)
        items = _items(faces)
        if merge is not None:
            items = merge_copies(items, merge, failures.add)
        scorer.count(items, failures.add)
        return scorer

    if compare is None:
        return score(records, None).report(threshold)
    candidate, baseline = Outcomes("records"), Outcomes("compare")
    report = score(records, candidate).report(threshold)
    score(compare, baseline)
    return report | {"compare": [compare_outcomes(candidate, baseline, threshold)]}


def draw(
    records: Iterable[Record],
    *,
    count: int = 16,
    columns: int | None = None,
    size: Size = (224, 224),
    title: str = "",
) -> Image.Image:
    """A contact sheet of the first faces, as `kp-viz grid` draws it: truth red, prediction blue,
    the error below each. `size` is the largest of a face (width, height).

    >>> import kptools as kp
    >>> sheet = kp.draw(kp.read_records("faces.jsonl"), count=4, size=(96, 96))
    >>> sheet.save("sheet.png")
    """
    pick, failures = Pick(count), Failures()
    for item in _items(records):
        pick.add(item)
    if not pick.items:
        raise UsageError("there is no record to draw")
    return make(pick, View(size), failures.add, columns=columns, title=title)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """A checkpoint of `kp-train`, or `box`: the network in the box. Its `model` says what the
    network is and what it expects, `network()` builds it, `history` has the epochs of its training.

    >>> import kptools as kp
    >>> kp.load_checkpoint("nose.safetensors").model.input.size
    (32, 32)
    """
    return checkpoints.load(box.locate(str(path)))


def load_scheme(path: str | Path) -> Scheme:
    """A scheme of your own, from its JSON (docs/schemes.md) or from a checkpoint of its points. All
    functions know it from then on. KptoolsError where the file is wrong, or another scheme has its
    name.

    >>> import kptools as kp
    >>> text = '{"name": "eyes2", "points": ["right", "left"], "pairs": [["right", "left"]]}'
    >>> with open("eyes2.json", "w") as file:
    ...     _ = file.write(text)
    >>> kp.load_scheme("eyes2.json").swap
    (1, 0)
    """
    return scheme_files.load(str(path))


def _items(records: Iterable[Record]) -> Iterator[Item]:
    """Records as items; the caller's own dicts stay as they are."""
    for number, record in enumerate(records, start=1):
        yield Item(dict(record), "records", number)
