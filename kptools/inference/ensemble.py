"""The mean of several networks' predictions (Hansen and Salamon, 1990)."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from kptools.inference.predictor import Predictor
from kptools.records.failures import Fail
from kptools.records.item import Item


def run(
    predictors: Sequence[Predictor],
    items: Iterable[Item],
    fail: Fail,
    ready: Callable[[], bool],
) -> Iterator[Item]:
    """Each item again, in order, with the mean of the networks' `pred`, and of their `score` where
    all of them give one; `mean` is of the last. A face that one network fails on has failed. Each
    network holds as many items as it does alone."""
    found: dict[int, list[tuple[list[list[float]], list[float] | None]]] = {}

    def remember(predicted: Iterable[Item]) -> Iterator[Item]:
        for item in predicted:
            if item.failed:
                found.pop(id(item), None)
            else:
                one = (item.record["pred"], item.record.get("score"))
                found.setdefault(id(item), []).append(one)
            yield item

    def has_some(predictor: Predictor) -> Callable[[], bool]:
        return lambda: predictor.pending > 0

    stream: Iterable[Item] = items
    for predictor in predictors:
        stream = remember(predictor.run(stream, fail, ready))
        ready = has_some(predictor)  # the next network waits for this one, not for the input
    for item in stream:
        predictions = found.pop(id(item), [])
        if len(predictions) > 1:
            points = np.mean([pred for pred, _ in predictions], axis=0)
            scores = [score for _, score in predictions if score is not None]
            mean = {"pred": points.tolist()}
            if len(scores) == len(predictions):
                mean["score"] = np.mean(scores, axis=0).tolist()
            item.update(mean, without=("score",))
        yield item
