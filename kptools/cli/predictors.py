"""What `kp-predict` predicts with: checkpoints in torch, or ONNX files without it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kptools.cli.options import choice, cores, refuse
from kptools.console import report
from kptools.errors import UsageError
from kptools.inference.onnx_names import SUFFIX
from kptools.models.codecs import DECODER
from kptools.units import DEVICES, PRECISIONS

if TYPE_CHECKING:
    from kptools.inference.predictor import Predictor
    from kptools.specs import ModelSpec


@dataclass(frozen=True)
class Asked:
    """The options of kp-predict that say how; None: as each network says."""

    batch_size: int | None
    decode: str | None
    passes: int | None
    flip: bool | None
    shape_prior: bool | None
    heatmaps: Path | None
    workers: int
    threads: int
    device: str
    precision: str
    find: str | None = None


def is_onnx(name: str) -> bool:
    return name.endswith(SUFFIX)


def by_onnxruntime(names: list[str], asked: Asked) -> tuple[list["Predictor"], dict[str, Any]]:
    """A predictor for each ONNX file, and what a run's file says of how they predict. UsageError
    for an option that they cannot follow, KptoolsError."""
    other = next((name for name in names if not is_onnx(name)), None)
    if other is not None:
        raise UsageError(f"{other} is no ONNX file; a mean is of ONNX files alone, or of none")
    choice("--device", asked.device, DEVICES)
    choice("--precision", asked.precision, PRECISIONS)
    refuse(
        {
            "--decode": asked.decode,
            "--heatmaps": asked.heatmaps,
            "--passes 2": asked.passes == 2 or None,
            "--flip": asked.flip or None,
            "--shape-prior": asked.shape_prior or None,
            f"--precision {asked.precision}": asked.precision not in ("auto", "fp32") or None,
            f"--device {asked.device}": asked.device not in ("auto", "cpu") or None,
        },
        f"an ONNX file looks at a face once, in fp32, on a CPU; leave it out, or use the "
        f".safetensors checkpoint of {names[0]}",
    )
    from kptools.inference.onnx_engine import BATCH, OnnxEngine
    from kptools.inference.predictor import Predictor

    engines = [OnnxEngine(name, threads=asked.threads) for name in names]
    require_one_scheme(names, [engine.model for engine in engines])
    batch = asked.batch_size or BATCH
    return [Predictor(one, batch=batch, workers=cores(asked.workers)) for one in engines], {}


def by_torch(checkpoints: list[str], asked: Asked) -> tuple[list["Predictor"], dict[str, Any]]:
    """A predictor for each checkpoint, and what a run's file says of how they predict. UsageError
    for an option that one of them cannot follow, KptoolsError."""
    from kptools import runtime
    from kptools.inference.heatmap_files import MapFolder
    from kptools.inference.passes import resolve
    from kptools.inference.predictor import Predictor
    from kptools.inference.torch_engine import TorchEngine, default_batch
    from kptools.models.checkpoint import load

    where = runtime.device(asked.device)
    runtime.set_threads(asked.threads, where)
    loaded = [load(name) for name in checkpoints]
    models = [one.model for one in loaded]
    networks = [one.network(share=True) for one in loaded]
    runtime.tune_process()  # all that the networks need is imported now
    require_one_scheme(checkpoints, models)
    heatmaps = asked.heatmaps
    for name, model, network in zip(checkpoints, models, networks, strict=True):
        if not network.head.decoders and (heatmaps is not None or asked.decode is not None):
            raise UsageError(f"{name} ({model.arch}) makes no heatmaps; leave the option out")
    passes, flip, shape_prior = asked.passes, asked.flip, asked.shape_prior
    if heatmaps is not None:  # maps are of a face in its box, and `pred` is what is read from them
        if passes == 2 or flip or shape_prior:
            raise UsageError(
                "--heatmaps saves the maps of one pass, and `pred` is read from them alone; leave "
                "--passes, --flip and --shape-prior out"
            )
        if len(models) > 1:
            raise UsageError("--heatmaps saves the maps of one network; name one")
        left_out = beyond_one_pass(models[0])
        if left_out and passes is None:
            report(f"kp-predict: --heatmaps: `pred` is without {left_out}")
        passes, flip, shape_prior = 1, False, False
    how = [resolve(model, count=passes, flip=flip, shape_prior=shape_prior) for model in models]
    mode = runtime.precision_for(where, asked.precision)
    runtime.set_float32(mode)
    batch = asked.batch_size or default_batch(where)
    with runtime.report_out_of_memory(batch):
        engines = [
            TorchEngine(
                network, model, device=where, precision=mode, decoder=asked.decode, passes=one
            )
            for network, model, one in zip(networks, models, how, strict=True)
        ]
    maps = None if heatmaps is None else MapFolder(heatmaps, models[0])
    workers = cores(asked.workers)
    return [Predictor(one, batch=batch, workers=workers, maps=maps) for one in engines], {
        "decode": asked.decode or DECODER,
        "precision": mode,
        "passes": _one_or_all([one.count for one in how]),
        "flip": _one_or_all([one.swap is not None for one in how]),
        "shape_prior": _one_or_all([one.shape_prior for one in how]),
        "heatmaps": str(heatmaps.resolve()) if heatmaps is not None else None,
    }


def require_one_scheme(names: list[str], models: list["ModelSpec"]) -> None:
    """UsageError where these networks find points of several schemes, which have no mean."""
    for name, model in zip(names, models, strict=True):
        if model.scheme != models[0].scheme:
            raise UsageError(
                f"{name} finds points of {model.scheme}, {names[0]} of {models[0].scheme}; "
                "a mean is of one scheme"
            )


def beyond_one_pass(model: "ModelSpec") -> str:
    """What a prediction by this network has by default beside one look at each face."""
    from kptools.inference.passes import resolve

    how = resolve(model)
    parts = {
        "the second pass": how.count == 2,
        "the mirror image": how.swap is not None,
        "the shape prior": how.shape_prior,
    }
    return ", ".join(name for name, there in parts.items() if there)


def _one_or_all(values: list[Any]) -> Any:
    """What a run's file says of its networks: of one network its value alone."""
    return values[0] if len(values) == 1 else values
