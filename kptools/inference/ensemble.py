"""The mean of several networks' predictions (Hansen and Salamon, 1990)."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from kptools.inference.predictor import Predictor
from kptools.records.failures import Fail
from kptools.records.item import Item

AVERAGED = ("pred", "score", "pred_visible")


def run(
    predictors: Sequence[Predictor],
    items: Iterable[Item],
    fail: Fail,
    ready: Callable[[], bool],
) -> Iterator[Item]:
    """Each item again, in order, with the mean of the networks' `pred`, and of their `score` and
    `pred_visible` where all of them give one; `mean` is of the last. A face that one network fails
    on has failed. Each network holds as many items as it does alone."""
    found: dict[int, list[dict[str, Any]]] = {}

    def remember(predicted: Iterable[Item]) -> Iterator[Item]:
        for item in predicted:
            if item.failed:
                found.pop(id(item), None)
            else:
                one = {key: item.record[key] for key in AVERAGED if key in item.record}
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
            mean = {
                key: np.mean([one[key] for one in predictions], axis=0).tolist()
                for key in AVERAGED
                if all(key in one for one in predictions)
            }
            item.update(mean, without=AVERAGED[1:])
        yield item
