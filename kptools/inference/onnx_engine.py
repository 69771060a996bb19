"""ONNX files (`kptools.inference.export`) run by onnxruntime, on a CPU, without torch."""

import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kptools.errors import KptoolsError, RecordError
from kptools.inference.engine import MAX_STREAMS, Crop
from kptools.inference.onnx_names import INPUT, METADATA, POINTS, SCORES
from kptools.models import metadata
from kptools.models.decoded import Decoded
from kptools.pixels.array_warp import warp
from kptools.pixels.threads import closing_pool
from kptools.records.face import Face
from kptools.storage import files

BATCH = 16  # faces at a time
# Of a policy: what is done to the places of pixels. The rest, to their colours, is torch's work
_MOVES = ("seed", "flip", "scale", "rotate", "shift")


class OnnxEngine:
    """The network of an ONNX file: it looks at each face once, and its graph decodes."""

    aligns = False
    ahead = 1

    def __init__(self, path: str, *, threads: int = 0) -> None:
        """`threads`: of the arithmetic; 0: one for each core that this process may use.
        KptoolsError where onnxruntime is not installed, or the file is not there, is damaged or not
        of kptools."""
        self.path = path
        threads = threads or _usable_cores()
        self.streams = min(threads, MAX_STREAMS)
        self.session = _open(path, max(1, threads // self.streams))
        self.model = metadata.model_of(path, _metadata_of(path, self.session))
        names = [output.name for output in self.session.get_outputs()]
        self.outputs = [name for name in (POINTS, SCORES) if name in names]
        width, height = self.model.input.size
        given = [(one.name, one.shape[1:]) for one in self.session.get_inputs()]
        if given != [(INPUT, [self.model.input.channels, height, width])] or POINTS not in names:
            raise KptoolsError(f"{path} is broken: its graph is not as its metadata says")

    def check(self, face: Face) -> None:
        for stage in face.stages:
            for name, value in stage.items():
                if name not in _MOVES and value:
                    raise RecordError(
                        "bad_record",
                        f"`augment`: {name} is not for ONNX files; use the .safetensors checkpoint",
                    )

    def decode(self, crops: Sequence[Crop]) -> Decoded:
        pixels = np.stack([_seen(crop) for crop in crops]).transpose(0, 3, 1, 2)
        try:
            found = self.session.run(self.outputs, {INPUT: np.ascontiguousarray(pixels)})
        except Exception as error:
            if "allocate memory" in str(error).lower():
                raise MemoryError from None
            raise KptoolsError(f"{self.path} cannot be run: {_reason(error)}") from None
        points, *scores = (np.asarray(values, dtype=np.float64) for values in found)
        count = self.model.count
        if points.shape != (len(crops), count, 2) or any(
            s.shape != (len(crops), count) for s in scores
        ):
            raise KptoolsError(f"{self.path} is broken: it does not give {count} points a face")
        return Decoded(points, scores[0] if scores else None)

    @contextmanager
    def threads(self) -> Iterator[ThreadPoolExecutor]:
        with closing_pool(ThreadPoolExecutor(self.streams)) as pool:
            yield pool


def _seen(crop: Crop) -> NDArray[np.float32]:
    """What the network sees of a face, (H, W, C) levels."""
    spec = crop.spec
    if spec.is_input and crop.transform.is_identity:
        return crop.pixels.astype(np.float32)
    matrix = spec.from_input(crop.face.box, crop.transform.matrix)
    return warp(crop.pixels, matrix, spec.input.size)


def _open(path: str, threads: int) -> Any:
    """A session, whose operations share so many threads. Raises KptoolsError."""
    try:
        import onnxruntime
    except ImportError:
        raise KptoolsError(
            f"{path} needs the package onnxruntime; pip install onnxruntime"
        ) from None
    try:
        files.require_regular(path)
        with open(path, "rb"):
            pass
    except OSError as error:
        raise KptoolsError(f"cannot read {path}: {error.strerror}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what is fatal alone: errors are raised, too
    # threads that wait are not to keep a core from who works
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise KptoolsError(f"{path} is no sound ONNX file: {_reason(error)}") from None


def read_metadata(path: str) -> dict[str, Any]:
    """What the file says of its network, as JSON. KptoolsError as for the engine."""
    return _metadata_of(path, _open(path, 1))


def _metadata_of(path: str, session: Any) -> dict[str, Any]:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    try:
        meta = json.loads(text or "")
        if not isinstance(meta, dict):
            raise ValueError
    except ValueError:
        raise KptoolsError(
            f"{path} is an ONNX file, but not of kptools; kp-predict --export makes one"
        ) from None
    return meta


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
