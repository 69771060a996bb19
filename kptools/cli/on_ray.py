"""`kp-predict --ray`: the records of `kp-predict`, from the machines of a Ray cluster."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from kptools.cli.options import refuse
from kptools.cli.predictors import Asked, by_onnxruntime, by_torch, is_onnx
from kptools.errors import KptoolsError
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.ray_map import LOST, ray_map
from kptools.records.stream import Stream

if TYPE_CHECKING:
    from kptools.inference.predictor import Predictor

BATCHES = {"cuda": 16}  # in a task, where not 1: for a GPU faces are decoded while it works


def for_tasks(asked: Asked) -> Asked:
    """What is asked of each task: one thread where nothing else is said. UsageError."""
    maps = {"--heatmaps": asked.heatmaps}
    refuse(maps, "--ray works on many machines, and a folder has one writer; leave it out")
    return replace(asked, threads=asked.threads or 1, workers=asked.workers or 1)


def predicted(
    stream: Stream,
    predictor: "Predictor",
    checkpoints: list[str],
    asked: Asked,
    how: dict[str, Any],
) -> Iterator[Item]:
    """The items of the stream, in order, as the checkpoints predict them on the cluster that is
    used. `predictor` is one of them as it is here, and `how` what the run's file says."""
    from kptools.inference.prediction import give_mean

    names = list(checkpoints)
    if not any(map(is_onnx, checkpoints)):
        from kptools import runtime
        from kptools.models import box

        names = [box.NAME if name == box.path() else name for name in checkpoints]
        device = runtime.device(asked.device).type  # on all nodes what was chosen here
        asked = replace(asked, device=device, precision=how["precision"])
    for item in ray_map(
        partial(_work, tuple(names), hash_of(checkpoints), asked),
        stream,
        stream.fail,
        stream.ready,
        size=BATCHES.get(asked.device, 1) * predictor.batch,
        cpus=max(asked.threads, asked.workers),
        gpus=int(asked.device == "cuda"),
    ):
        if item.record.get("status") == LOST:
            give_mean(item, predictor.model)
        yield item


def hash_of(checkpoints: Iterable[str]) -> str:
    from kptools.storage.run_file import hash_of_file

    return " ".join(map(hash_of_file, checkpoints))


def _work(
    names: tuple[str, ...],
    digest: str,
    asked: Asked,
    items: list[Item],
    fail: Fail,
) -> Iterator[list[Item]]:
    """On a node: the items with their predictions."""
    from kptools.inference import ensemble
    from kptools.inference.prediction import of_scheme

    predictors = _loaded(names, digest, asked)
    known = of_scheme(items, predictors[0].model.scheme, fail, asked.find)
    for item in ensemble.run(predictors, known, fail, lambda: True):
        yield [item]


@lru_cache(maxsize=1)
def _loaded(names: tuple[str, ...], digest: str, asked: Asked) -> list["Predictor"]:
    """The predictors of a process. KptoolsError where the node has other checkpoints."""
    checkpoints = list(names)
    is_torch = not any(map(is_onnx, checkpoints))
    if is_torch:
        from kptools.models import box

        checkpoints = list(map(box.locate, names))
    if hash_of(checkpoints) != digest:
        raise KptoolsError(f"a node has another file {checkpoints[0]}; copy the same to all nodes")
    return (by_torch if is_torch else by_onnxruntime)(checkpoints, asked)[0]
