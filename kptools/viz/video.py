"""A video of frames with their faces drawn on them."""

from pathlib import Path
from types import TracebackType

from PIL import Image

from kptools.errors import RecordError
from kptools.records import keys
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.storage import images
from kptools.storage.video import VideoFile
from kptools.units import Seconds
from kptools.viz import photos


class Film:
    """Writes the frames of a stream to a video; it holds one at a time.

    Faces that follow each other and name the same `image` share a frame, which is written when the
    next one comes, or by `finish`. It is shown from its `time` on, less that of the first frame; or
    with `fps`, so many are shown a second. All frames are of the size of the first. Points of a
    `score` below `min_score` are left out.
    """

    def __init__(
        self,
        path: Path,
        fail: Fail,
        *,
        fps: float | None = None,
        points: bool = True,
        min_score: float | None = None,
    ) -> None:
        self._file = VideoFile(path)
        self._fail, self._fps = fail, fps
        self._points, self._min_score = points, min_score
        self._image = ""  # of the frame that is held
        self._picture: Image.Image | None = None
        self._problem: RecordError | None = None  # why there is no frame
        self._first: Seconds | None = None
        self._time: Seconds = 0.0  # of the frame that is held, and of the last one

    @property
    def count(self) -> int:
        """How many frames were written."""
        return self._file.count

    def __enter__(self) -> "Film":
        self._file.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)

    def add(self, item: Item) -> None:
        """Draw a face on its frame. A face that cannot be drawn is a failure; a record that had
        failed before leaves its frame as it is. Raises KptoolsError where the video cannot be
        written."""
        try:
            self._begin(item)
            if item.failed:
                return
            if self._problem is not None:
                raise self._problem
            assert self._picture is not None
            photos.draw(self._picture, item.record, points=self._points, min_score=self._min_score)
        except RecordError as error:
            if not item.failed:
                self._fail(item, error)

    def finish(self) -> None:
        """Write the frame that is held. Raises KptoolsError where it cannot be."""
        if self._picture is not None:
            self._file.add(self._picture, self._time)
        self._image, self._picture, self._problem = "", None, None

    def _begin(self, item: Item) -> None:
        """Make the frame of this face the one that is held. Raises RecordError."""
        image = keys.image(item.record)
        if image == self._image:
            return
        self.finish()
        self._image = image
        try:
            time = self._shown_at(item)
            picture, _ = images.read(image)
            if self._file.size not in (None, picture.size):
                width, height = self._file.size or (0, 0)
                raise RecordError(
                    "bad_record",
                    f"{image} is not of the size of the first frame, {width}x{height}; make "
                    "another video of it",
                )
        except RecordError as error:
            self._problem = error
            return
        self._picture, self._time = picture, time

    def _shown_at(self, item: Item) -> Seconds:
        """From when on a new frame is shown. Raises RecordError."""
        if self._fps is not None:
            return self.count / self._fps
        time = keys.time(item.record)
        if self._first is None:
            self._first = time
        elif time - self._first <= self._time:
            raise RecordError(
                "bad_record",
                f"its time {time:g} s is not after that of the frame before it; make a video of "
                "one `group` at a time, or give --fps",
            )
        return time - self._first
