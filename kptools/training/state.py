"""A training run's state: in memory, and in one file that is whole or not there.

The file holds the last, the averaged and the best weights, the optimizer's moments and the history;
all else is derived, so that a run that was killed at any moment goes on to the same bits, with as
many threads.
"""

from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeAlias

import orjson
import torch
from torch import Tensor

from kptools.errors import KptoolsError, UsageError
from kptools.models.network import Network
from kptools.storage import files, scheme_files
from kptools.storage.tensors import load_weights, read_tensors, write_tensors
from kptools.training.ema import EMA
from kptools.training.settings import Settings
from kptools.training.training_set import TrainingSet

Saved: TypeAlias = tuple[dict[str, Tensor], dict[str, Any]]  # a state's tensors and metadata


@dataclass
class State:
    """`run` is what tells this run from another; `history` has an entry an epoch."""

    run: str
    network: Network
    ema: EMA
    optimizer: torch.optim.Optimizer
    history: list[dict[str, Any]]
    best: dict[str, Tensor] = field(default_factory=dict)

    def require_space(self, path: Path, keep: str) -> None:
        """Raise KptoolsError where the disk cannot hold this file, which is there twice while it
        is replaced. The checkpoint is smaller, and comes when one of them is gone."""
        weights = sum(t.nbytes for t in self.network.state_dict().values())
        trained = sum(p.nbytes for p in self.network.parameters())
        copies = 1 + (self.ema.network is not self.network) + (keep == "best")
        size = copies * weights + 2 * trained  # and Adam's moments
        there = sum(p.stat().st_size for p in (path, files.part_of(path)) if p.exists())
        files.require_space(path.parent, 2 * size - there, "the run's state")

    def save(self, path: Path) -> None:
        """Raises KptoolsError where the disk says no."""
        tensors = {f"last/{name}": t for name, t in self.network.state_dict().items()}
        if self.ema.network is not self.network:
            averaged = self.ema.network.state_dict()
            tensors |= {f"average/{name}": t for name, t in averaged.items()}
        tensors |= {f"best/{name}": t for name, t in self.best.items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam/{index}/{name}": t for name, t in moments.items()}
        meta = {"run": self.run, "history": self.history, "steps": self.ema.steps}
        write_tensors(path, tensors, meta)

    def read(self, path: Path) -> Saved | None:
        """What `save` wrote; None where nothing was saved. Raises UsageError where it is of another
        run, KptoolsError where it is broken."""
        if not path.exists():
            return None
        tensors, meta = read_tensors(str(path))
        if meta.get("run") != self.run:
            raise UsageError(
                f"{path} is of another stream, other arguments, or another version of kptools; "
                "give the same, or leave --resume out"
            )
        return tensors, meta

    def take(self, saved: Saved | None) -> None:
        """Go on from there. Raises KptoolsError where it does not fit."""
        if saved is None:
            return
        tensors, meta = saved
        parts: dict[str, dict[str, Tensor]] = {"last": {}, "average": {}, "best": {}, "adam": {}}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition("/")
            parts[kind][rest] = tensor
        try:
            load_weights(self.network, parts["last"], "the network")
            if self.ema.network is not self.network:
                load_weights(self.ema.network, parts["average"], "the network")
        except KptoolsError:
            raise KptoolsError(
                "--resume: the state holds other weights than the network has, as where another "
                "version of kptools began the run; go on with that one, or leave --resume out"
            ) from None
        self.ema.steps = meta["steps"]
        self.history, self.best = meta["history"], parts["best"]
        moments: dict[int, dict[str, Tensor]] = {}
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        for name, tensor in parts["adam"].items():
            index, _, key = name.partition("/")
            of = parameters[int(index)]
            if tensor.shape == of.shape:  # laid out as the weights are, for the fused step
                tensor = torch.empty_like(of, requires_grad=False).copy_(tensor)
            moments.setdefault(int(index), {})[key] = tensor
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})


def fingerprint(faces: TrainingSet, val: TrainingSet | None, settings: Settings) -> str:
    """What tells one run from another: its settings, the weights it starts from, its records; not
    the pixels of their images, which must stay as they are."""
    digest = blake2b(orjson.dumps(settings.described()), digest_size=16)
    scheme = faces.faces[0].union or faces.faces[0].scheme  # that of all
    if scheme is not None:
        digest.update(scheme_files.digest_of(scheme.name).encode())
    for path in (settings.init, settings.weights):
        if path not in ("", "none", "default"):
            digest.update(blake2b(Path(path).read_bytes()).digest())
    for face in [*faces.faces, *(val.faces if val else ())]:
        digest.update(orjson.dumps(face.record) + b"\n")
    return digest.hexdigest()
