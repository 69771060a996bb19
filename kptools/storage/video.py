"""Video files, by PyAV (the extra `video`), which brings FFmpeg's libraries along: the frames of
one as they are shown, and a new one of pictures."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from PIL import Image

from kptools.errors import KptoolsError
from kptools.storage import files
from kptools.units import Seconds, Size

TICKS = 90_000  # a second of a written video: times are kept to a hundredth of a millisecond
# How much earlier than it says a video may end, beyond a frame: what its header has is not exact
SHORT: Seconds = 0.5
BT709 = 1  # FFmpeg's number of HDTV's colours, for all three of its tables


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame of a video: its number, from 0; when it is shown, as the file has it; and the picture
    (RGB), turned as the file says."""

    index: int
    time: Seconds
    picture: Image.Image


def require() -> Any:
    """The package. KptoolsError where it is not installed."""
    try:
        import av
        import av.logging
    except ImportError:
        raise KptoolsError("videos need PyAV: pip install 'av>=15'") from None
    av.logging.set_level(None)  # what is wrong is said here, in one line
    return av


def frames(path: str, fps: float | None = None) -> Iterator[Frame]:
    """The frames of a video in the order in which they are shown: all of them, or of each 1/`fps`
    of a second the first. One frame is held. Raises KptoolsError where there is no such video, and
    where it is damaged or ends too early: after the frames until there."""
    av = require()
    try:
        files.require_regular(path)
        with av.open(path) as container:
            if not container.streams.video:
                raise KptoolsError(f"{path} has no video in it; name another file")
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            yield from _frames(path, container, stream, fps)
    except FileNotFoundError:
        raise KptoolsError(f"there is no video {path}") from None
    except av.FFmpegError as error:
        reason = (error.strerror or str(error)).lower()
        raise _broken(path, f"cannot be read as a video: {reason}") from None
    except OSError as error:
        raise KptoolsError(f"{path} cannot be read: {error.strerror or error}") from None


def _frames(path: str, container: Any, stream: Any, fps: float | None) -> Iterator[Frame]:
    time: Seconds | None = None
    end: Seconds | None = None
    due: int | None = None  # which of the turns of `fps` was taken last
    longest = 0.0  # between two frames
    for index, frame in enumerate(container.decode(stream)):
        if frame.is_corrupt:
            raise _broken(path, f"is damaged, after {time or 0.0:.2f} s")
        before, time = time, _time(frame, time, stream)
        if before is not None:
            longest = max(longest, time - before)
        end = time + float((frame.duration or 0) * frame.time_base)
        if fps is not None:
            turn = int(np.floor(time * fps + 1e-6))
            if turn == due:
                continue
            due = turn
        turns = round(frame.rotation / 90) % 4  # counter-clockwise, as numpy's
        pixels = np.rot90(frame.to_ndarray(format="rgb24"), turns)
        yield Frame(index, time, Image.fromarray(np.ascontiguousarray(pixels)))
    should_end = _end(stream)
    if end is None:
        raise KptoolsError(f"{path} has no frames; copy it again")
    if should_end is not None and end + longest + SHORT < should_end:
        raise _broken(path, f"ends at {end:.2f} s, and should at {should_end:.2f} s")


def _broken(path: str, what: str) -> KptoolsError:
    return KptoolsError(f"{path} {what}; copy it again, or repair it: ffmpeg -i {path} whole.mp4")


def _time(frame: Any, before: Seconds | None, stream: Any) -> Seconds:
    """When the frame is shown; where the file does not say, a frame after the one before."""
    if frame.time is not None:
        return float(frame.time)
    rate = float(stream.guessed_rate or stream.average_rate or 25)
    return 0.0 if before is None else before + 1 / rate


def _end(stream: Any) -> Seconds | None:
    """When the last frame of the stream ends, as its header has it; None where it does not say."""
    if stream.duration:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    hours, _, rest = stream.metadata.get("DURATION", "").partition(":")  # Matroska's
    minutes, _, seconds = rest.partition(":")
    try:
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError:
        return None


class VideoFile:
    """A new video (H.264, in what its name ends in: .mp4, .mov or .mkv), whole under its name when
    the block ends, and not there where the block fails or nothing was added. Raises KptoolsError
    where it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._av = require()
        self._path = files.resolve_output(path)
        self._container: Any = None
        self._stream: Any = None
        self.size: Size | None = None  # of the pictures
        self.count = 0

    def __enter__(self) -> "VideoFile":
        if files.is_special(self._path):
            raise KptoolsError(f"{self._path} is no regular file, which a video needs")
        self._call(files.claim, self._path)
        return self

    def add(self, picture: Image.Image, time: Seconds) -> None:
        """One more frame (RGB, all of one size), shown from this time on, later than the one
        before. A side of an odd number of pixels gets one more, at the right or the bottom, as the
        format wants it."""
        if self._container is None:
            self._call(self._open, picture.size)
        self._call(self._add, picture, time)

    def _open(self, size: Size) -> None:
        format = {".mkv": "matroska", ".mov": "mov"}.get(self._path.suffix.lower(), "mp4")
        options = {} if format == "matroska" else {"movflags": "faststart"}
        part = str(files.part_of(self._path))
        self._container = self._av.open(part, "w", format=format, options=options)
        stream = self._container.add_stream("libx264", rate=30)
        stream.width, stream.height = (side + side % 2 for side in size)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"}
        context = stream.codec_context
        context.time_base = Fraction(1, TICKS)
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = 1  # as television has it
        self._stream, self.size = stream, size

    def _add(self, picture: Image.Image, time: Seconds) -> None:
        pixels = np.asarray(picture)
        odd = [(0, side % 2) for side in pixels.shape[:2]]
        pixels = np.pad(pixels, (*odd, (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        frame = frame.reformat(
            format="yuv420p",
            dst_colorspace="ITU709",
            src_color_range="JPEG",
            dst_color_range="MPEG",
        )
        frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
        self._container.mux(self._stream.encode(frame))
        self.count += 1

    def _finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        files.finish(self._path)

    def _call(self, function: Any, *arguments: Any) -> None:
        try:
            function(*arguments)
        except (self._av.FFmpegError, OSError) as error:
            reason = error.strerror or str(error)
            raise KptoolsError(f"cannot write {self._path}: {reason}") from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None and self.count:
                self._call(self._finish)
        finally:
            files.abandon(self._path)
