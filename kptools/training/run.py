"""A run, from records to a checkpoint: its state and its log beside it, and how it is resumed."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kptools import console, runtime
from kptools.errors import UsageError
from kptools.models import build, checkpoint
from kptools.models.checkpoint import Checkpoint
from kptools.pixels.cache import decoding_threads, wait_for_all
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.training.gather import Report, gather, training_sets
from kptools.training.log import TrainingLog
from kptools.training.loop import Epoch, train
from kptools.training.settings import Settings
from kptools.training.start import normalization
from kptools.training.state import fingerprint
from kptools.training.training_set import TrainingSet
from kptools.training.validate import predict


@dataclass
class Observer:
    """Whom a run calls: after each batch (done, of at most, loss), and after each epoch with what
    the log has of it, and how many epochs the log has."""

    batch: Callable[[int, int, float], None] = lambda done, total, loss: None
    epoch: Callable[[dict[str, Any], int], None] = lambda entry, done: None


def prepare(settings: Settings, device: torch.device, precision: str) -> Settings:
    """The settings, with what depends on the device and on the weights: precision (`auto`: the
    faster one), threads, normalisation of the pixels. Raises UsageError where the network cannot
    take such batches, KptoolsError where a checkpoint cannot be read."""
    shapes = build.check_batch(settings.arch, settings.input, settings.batch, settings.options)
    mode = runtime.precision_for(device, precision, bf16=not build.is_depthwise(shapes))
    runtime.set_float32(mode)
    return replace(
        settings,
        input=replace(settings.input, normalization=normalization(settings)),
        precision=mode,
        threads=torch.get_num_threads(),
    )


def train_records(
    items: Iterable[Item],
    failures: Failures,
    settings: Settings,
    out: Path,
    *,
    device: torch.device,
    workers: int,
    cache_memory: int,
    val_items: Iterable[Item] | None = None,
    val_name: str = "",
    val_fraction: float | None = None,
    resume: bool = False,
    compile_network: bool = False,
    observer: Observer | None = None,
    report: Report = lambda line: None,
) -> tuple[Checkpoint, Iterator[Item]]:
    """Train on records, and predict those of val: the checkpoint, which is written to `out`, and
    the items of val with their predictions. `cache_memory`: how many bytes the crops may take.
    The other arguments are those of `gather` and `run`."""
    found = gather(
        items,
        failures,
        val_items=val_items,
        val_name=val_name,
        val_fraction=val_fraction,
        report=report,
    )
    with decoding_threads(workers) as pool, runtime.report_out_of_memory(settings.batch):
        faces, val = training_sets(found, settings, pool, cache_memory, failures, report)
        caches = [some.crops for some in (faces, val) if some is not None]
        if failures.strict:  # stop before the work
            wait_for_all(caches)
        result = run(
            faces,
            val,
            found.scheme,
            settings,
            out,
            device=device,
            resume=resume,
            compile_network=compile_network,
            observer=observer,
        )
        wait_for_all(caches)  # a run that was finished before reports the same failures
        predictions: list[Record] = []
        if val is not None:
            predictions = predict(result.network(), val, settings, result.model, device)
    return result, found.output(predictions)


def run(
    faces: TrainingSet,
    val: TrainingSet | None,
    scheme: str,
    settings: Settings,
    out: Path,
    *,
    device: torch.device,
    resume: bool = False,
    compile_network: bool = False,
    observer: Observer | None = None,
) -> Checkpoint:
    """Train, and write the checkpoint to `out` and the log to STEM.log.jsonl beside it; or, where a
    run was finished, take what it made. Raises UsageError where that is of another run, and
    KptoolsError."""
    observer = observer or Observer()
    state_path = out.with_name(out.stem + ".state.safetensors")
    if resume and out.exists() and not state_path.exists():
        done = checkpoint.load(str(out))
        if done.run.get("fingerprint") != fingerprint(faces, val, settings):
            raise UsageError(
                f"{out} is of another stream or other arguments; give the same, or another -o"
            )
        console.report(f"kp-train: {out} is finished")
        return done
    keep = resume and state_path.exists()
    with TrainingLog(out.with_name(out.stem + ".log.jsonl"), keep=keep) as log:

        def on_epoch(epoch: Epoch) -> None:
            observer.epoch(epoch.log, log.append(epoch.log))

        result = train(
            faces,
            val,
            scheme,
            settings,
            device=device,
            state_path=state_path,
            resume=resume,
            compile_network=compile_network,
            on_batch=observer.batch,
            on_epoch=on_epoch,
        )
    checkpoint.save(out, result)
    state_path.unlink(missing_ok=True)
    return result
