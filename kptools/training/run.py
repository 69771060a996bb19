"""A run, from records to a checkpoint: with its state and its log, and how it is resumed."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kptools import runtime
from kptools.errors import UsageError
from kptools.models import build, checkpoint
from kptools.models.checkpoint import Checkpoint
from kptools.pixels.cache import wait_for_all
from kptools.pixels.crop_folder import CropFolder
from kptools.pixels.threads import decoding_threads
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.thread_count import ThreadCount
from kptools.training import provenance
from kptools.training.distributed import ALONE, Ranks
from kptools.training.gather import Gathered, Report, focus, gather, training_sets
from kptools.training.log import TrainingLog
from kptools.training.loop import Epoch, train
from kptools.training.settings import LATER, Settings
from kptools.training.start import normalization
from kptools.training.state import fingerprint
from kptools.training.training_set import TrainingSet
from kptools.training.validate import predict


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out: what has no say in what it computes. The checkpoint goes to `out`;
    `workers` threads decode; the crops take at most `cache_memory` bytes of memory, or are kept in
    a `crop_folder` for other runs. `threads` says
    how many the steps take beside other processes; None: those that torch has. Of several `ranks`
    the first one reads the records, and writes and reports; the others need none."""

    out: Path
    device: torch.device
    workers: int = 1
    cache_memory: int = 8 << 30
    crop_folder: CropFolder | None = None
    resume: bool = False
    compile_network: bool = False
    threads: ThreadCount | None = None
    ranks: Ranks = ALONE
    restart: int = 0  # how often this run was started again


@dataclass(frozen=True)
class Observer:
    """Whom a run calls: after each batch (done, of at most, loss), after each epoch with what the
    log has of it and how many epochs the log has, and with a line about what it found."""

    batch: Callable[[int, int, float], None] = lambda done, total, loss: None
    epoch: Callable[[dict[str, Any], int], None] = lambda entry, done: None
    report: Report = lambda line: None


def prepare(
    settings: Settings, device: torch.device, precision: str, ranks: Ranks = ALONE
) -> Settings:
    """The settings, with what depends on the device and on the weights: precision (`auto`: the
    faster one), threads, normalisation of the pixels. Raises UsageError where the network cannot
    take such batches, KptoolsError where a checkpoint cannot be read."""
    parts, least = settings.accumulate * ranks.count, ranks.least_faces
    if settings.batch < parts * min(least, settings.batch):
        raise UsageError(
            f"--batch-size {settings.batch} is too small for {ranks.count} processes with "
            f"--accumulate {settings.accumulate}; at least {parts * least}"
        )
    size = max(settings.batch // parts, min(2, settings.batch))
    build.check_batch(
        settings.arch,
        settings.input,
        size,
        settings.options,
        head=settings.head,
        visibility=settings.visibility,
    )
    mode = runtime.precision_for(device, precision)
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
    options: RunOptions,
    observer: Observer,
    *,
    val_items: Iterable[Item] | None = None,
    val_name: str = "",
    val_fraction: float | None = None,
) -> tuple[Checkpoint, Iterator[Item]]:
    """Train on records, and predict those of val: the checkpoint, which is written, and the items
    of val with their predictions. The other arguments are those of `gather`."""
    ranks = options.ranks
    found = Gathered()
    if ranks.is_first:
        found = gather(
            items,
            failures,
            val_items=val_items,
            val_name=val_name,
            val_fraction=val_fraction,
            several_schemes=settings.several_schemes,
            visibility=settings.visibility,
            report=observer.report,
        )
    if ranks.count > 1:
        faces_of_all = ranks.broadcast(found.faces)
        found = found if ranks.is_first else faces_of_all
    if settings.init or settings.align:
        model = checkpoint.load_model(settings.init) if settings.init else None
        looks_at = focus(found) if model is None else model.input.focus
        settings = replace(settings, input=replace(settings.input, focus=looks_at))
    with (
        decoding_threads(options.workers) as pool,
        runtime.report_out_of_memory(settings.batch),
    ):
        faces, val = training_sets(
            found,
            settings,
            pool,
            options.cache_memory,
            failures,
            observer.report,
            ranks,
            options.crop_folder,
        )
        caches = [some.crops for some in (faces, val) if some is not None]
        if failures.strict:  # stop before the work
            wait_for_all(caches)
        given = {
            "val": val_items is not None,
            "val_fraction": val_fraction,
            "compile": options.compile_network,
        }
        begun = provenance.of_start(settings, given, options.device, ranks.count)
        result = run(
            faces,
            val,
            found.scheme,
            settings,
            options,
            observer,
            lambda: begun | provenance.of_data(found),
        )
        wait_for_all(caches)  # a run that was finished before reports the same failures
        predictions: list[Record] = []
        if val is not None:
            predictions = predict(
                result.network(share=True), val, settings, result.model, options.device, ranks
            )
    return result, found.output(predictions)


def run(
    faces: TrainingSet,
    val: TrainingSet | None,
    scheme: str,
    settings: Settings,
    options: RunOptions,
    observer: Observer,
    describe: Callable[[], dict[str, Any]],
) -> Checkpoint:
    """Train, and write the checkpoint, with the log next to it (STEM.log.jsonl); or, if a run was
    finished, take what it made. `describe` gives its provenance at the end, when all images were
    read. UsageError where that is of another run, KptoolsError."""
    out, ranks = options.out, options.ranks
    state_path = out.with_name(out.stem + ".state.safetensors")
    done: Checkpoint | None = None
    if ranks.is_first:
        if ranks.count > 1 and not (options.resume or options.restart):
            state_path.unlink(missing_ok=True)  # of another run, or a restart would go on with it
        if (options.resume or options.restart) and out.exists() and not state_path.exists():
            done = _finished(out, settings, fingerprint(faces, val, settings), options.resume)
        if done is not None:
            observer.report(f"{out} is finished")
    done = ranks.broadcast(done)
    if done is not None:
        return done
    keep = (options.resume or options.restart > 0) and state_path.exists()
    log_path = out.with_name(out.stem + ".log.jsonl")
    with TrainingLog(log_path, keep=keep) if ranks.is_first else nullcontext() as log:
        gave_way = False

        def on_epoch(epoch: Epoch) -> None:
            nonlocal gave_way
            if epoch.threads < settings.threads and not gave_way:
                gave_way = True
                observer.report(
                    f"the cores are busy with other work, so the steps take fewer threads than "
                    f"{settings.threads} while they are (`threads` in the log); the last "
                    "digits depend on it; a number that --threads names is kept"
                )
            if log is not None:
                observer.epoch(epoch.log, log.append(epoch.log))

        try:
            result = train(
                faces,
                val,
                scheme,
                settings,
                device=options.device,
                state_path=state_path,
                resume=options.resume or options.restart > 0,
                compile_network=options.compile_network,
                threads=options.threads,
                ranks=ranks,
                on_batch=observer.batch,
                on_epoch=on_epoch,
            )
        finally:
            if options.threads is not None:
                torch.set_num_threads(options.threads.most)
    if ranks.is_first:
        wait_for_all([some.crops for some in (faces, val) if some is not None])
        result.run["provenance"] = describe()
        checkpoint.save(out, result)
        state_path.unlink(missing_ok=True)
    return result


def _finished(out: Path, settings: Settings, wanted: str, resume: bool) -> Checkpoint | None:
    """The checkpoint of a run that was finished. Where that was another run: UsageError, or None
    where nobody said that it was not."""
    done = checkpoint.load(str(out))
    if not resume and done.run.get("fingerprint") != wanted:
        return None
    trained = done.run.get("settings")
    if not isinstance(trained, dict) or trained.keys() | LATER.keys() != asdict(settings).keys():
        raise UsageError(
            f"{out} was finished by another version of kptools; choose another -o, or leave "
            "--resume out"
        )
    if done.run.get("fingerprint") != wanted:
        raise UsageError(
            f"{out} is of another stream, other arguments, or another version of kptools; give the "
            "same, or another -o"
        )
    return done
