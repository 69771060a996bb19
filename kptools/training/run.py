"""A run from records to a checkpoint."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from kptools.console import tell
from kptools.errors import UsageError
from kptools.training.settings import Settings

if TYPE_CHECKING:
    from kptools.models.checkpoint import Checkpoint
    from kptools.pixels.cache import Store
    from kptools.training.training_set import Faces


def finish(stores: "list[Store]") -> None:
    """Wait for all crops, so that each failure is reported."""
    for store in stores:
        store.finish()


def run(
    faces: "Faces",
    val: "Faces | None",
    scheme: str,
    settings: Settings,
    out: Path,
    device: Any,
    resume: bool,
    compile_network: bool,
    talk_of: Any,
) -> "Checkpoint":
    """Train, with a log and a bar; or, where a run was finished, take what it made."""
    from kptools.models import checkpoint
    from kptools.training.loop import train
    from kptools.training.state import fingerprint

    state = out.with_name(out.stem + ".state.safetensors")
    if resume and out.exists() and not state.exists():
        done = checkpoint.load(str(out))
        if done.run.get("fingerprint") != fingerprint(faces, val, settings):
            raise UsageError(
                f"{out} is of another stream or other arguments; give the same, or another -o"
            )
        tell(f"kp-train: {out} is finished")
        return done
    log, goes_on = out.with_name(out.stem + ".log.jsonl"), resume and state.exists()
    with talk_of(log, settings, keep_log=goes_on) as talk:
        result = train(
            faces,
            val,
            scheme,
            settings,
            device=device,
            state_path=state,
            resume=resume,
            compile_network=compile_network,
            progress=talk.progress,
        )
    checkpoint.save(out, result)
    state.unlink(missing_ok=True)
    return result
