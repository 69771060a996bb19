"""Contact sheets of faces: what training sees, with truth and prediction."""

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from PIL import Image, ImageDraw

from kptools import geometry as g
from kptools.errors import RecordError
from kptools.evaluation import score
from kptools.evaluation.score import Score
from kptools.records import keys
from kptools.records.face import Face
from kptools.records.failures import Fail
from kptools.records.item import Item
from kptools.records.keys import Record
from kptools.records.points import points_array
from kptools.units import Size
from kptools.viz import colours, marks, sheet, views
from kptools.viz.marks import Layer
from kptools.viz.sheet import Cell, Sheet
from kptools.viz.text import elide, font, text_width
from kptools.viz.views import Shown, View

FEW = 5  # up to so many points, a line from the truth to the prediction shows the error


@dataclass(order=True)
class _Ranked:
    rank: tuple[float, int]
    item: Item = field(compare=False)


class Pick:
    """Which faces a sheet shows, of a stream of any length: it holds `count` of them.

    Without sorting these are the first ones, failures included; sorted, those whose errors are
    the largest or the smallest; `by` is what these are called.
    """

    def __init__(self, count: int, sort: str = "none", by: str = "errors") -> None:
        self.count, self.sort, self.by = count, sort, by
        self.seen = self.failed = self.unscored = 0
        self._held: list[_Ranked] = []

    @property
    def wants_more(self) -> bool:
        """Whether the next record is looked at: by its error, or because there is room."""
        return self.sort != "none" or len(self._held) < self.count

    def add(self, item: Item, error: float = math.nan) -> None:
        """Offer a face and its error (NaN: not known)."""
        self.seen += 1
        self.failed += item.failed
        if self.sort == "none":
            if len(self._held) < self.count:
                self._held.append(_Ranked((0.0, self.seen), _kept(item)))
            return
        if item.failed:
            return
        if math.isnan(error):
            self.unscored += 1
            return
        # the heap's root is the one that goes first; of equals the later one
        one = _Ranked((error if self.sort == "worst" else -error, -self.seen), item)
        if len(self._held) < self.count:
            one.item = _kept(item)
            heapq.heappush(self._held, one)
        elif one > self._held[0]:
            one.item = _kept(item)
            heapq.heapreplace(self._held, one)

    @property
    def items(self) -> list[Item]:
        """In the order of the sheet."""
        ranked = sorted(self._held, reverse=self.sort != "none")
        return [one.item for one in ranked]

    @property
    def note(self) -> str:
        first = {"none": "", "worst": "largest", "best": "smallest"}[self.sort]
        faces = "face" if self.seen == 1 else "faces"
        text = f"{len(self._held)} of {self.seen} {faces}"
        text += f", {first} {self.by} first" if first else ""
        if self.failed:
            text += f"; {self.failed} failed"
        if self.unscored:
            text += f"; {self.unscored} without an error"
        return text


def _kept(item: Item) -> Item:
    """The item without its line, which has been passed on."""
    return replace(item, raw=None)


def check(record: Record, view: View, norm: str | None) -> Score | None:
    """Whether a face can be shown, as far as its record says; its score, None where it has no
    truth or no prediction. Raises RecordError."""
    views.parse(record, view)
    _keypoints(record)
    if not annotated(record) or record.get("pred") is None:
        return None
    return score.score(record, norm)


@dataclass(frozen=True)
class Keypoints:
    """What of a record is drawn: (K, 2), file frame; and which points of either are seen, the rest
    being rings."""

    truth: g.Points | None
    visible: Sequence[float] | None
    predicted: g.Points | None
    pred_visible: Sequence[bool] | None
    edges: tuple[tuple[int, int], ...]


def _keypoints(record: Record) -> Keypoints:
    """Raises RecordError."""
    truth = predicted = visible = pred_visible = None
    if record.get("points") is not None:
        truth = points_array(record)
        visible = keys.per_point(record, "visible", len(truth))
    if record.get("pred") is not None:
        predicted = points_array(record, "pred")
        seen = keys.per_point(record, "pred_visible", len(predicted))
        pred_visible = None if seen is None else [value >= 0.5 for value in seen]
    if truth is not None and predicted is not None and len(truth) != len(predicted):
        raise RecordError(
            "bad_points", f"{len(predicted)} pred, but {len(truth)} points; make them one"
        )
    known = truth if truth is not None else predicted
    scheme = None if known is None else keys.known_scheme(record, len(known))
    edges = scheme.edges if scheme else ()
    return Keypoints(truth, visible, predicted, pred_visible, edges)


def layers(record: Record, shown: Shown, lines: bool = True) -> list[Layer]:
    """Truth, then prediction, where they lie in the picture."""
    p = _keypoints(record)
    edges = p.edges if lines else ()
    found = []
    if p.truth is not None:
        visible = None if p.visible is None else shown.transform.rename(p.visible)
        found.append(Layer(shown.place(p.truth), colours.TRUTH, visible, edges))
    if p.predicted is not None:
        seen = None if p.pred_visible is None else shown.transform.rename(p.pred_visible)
        found.append(Layer(shown.place(p.predicted), colours.PREDICTION, seen, edges))
    return found


def marked(face: Face, shown: Shown, view: View, points: bool = True) -> Image.Image:
    """The picture of a face with its points, and its box where the whole image is shown."""
    found = layers(face.record, shown) if points else []
    box = shown.corners(face.box) if view.whole and face.record.get("box") else None
    few = bool(found) and len(found[0].points) <= FEW
    return marks.mark(shown.picture, found, joined=few, box=box)


def name(record: Record) -> str:
    """The face's id, and which copy it is."""
    identity = str(record.get("id", record.get("image", "?")))
    return f"{identity} (copy {record['copy']})" if "copy" in record else identity


def caption(record: Record, norm: str | None) -> tuple[str, str]:
    """The id, and the error or why there is none."""
    if keys.failed(record):
        return name(record), str(record["status"])
    if record.get("pred") is None:
        return name(record), "no prediction"
    if not annotated(record):
        return name(record), "no truth"
    return name(record), score.score(record, norm).text


def annotated(record: Record) -> bool:
    """Whether there is a point to score by."""
    points = record.get("points")
    return isinstance(points, list) and any(point is not None for point in points)


def blank(size: Size, text: str) -> Image.Image:
    """In place of a picture that cannot be made."""
    picture = Image.new("RGB", size, colours.EMPTY)
    letters = font(max(11, round(size[0] / 15)))
    short = elide(text, letters, 0.9 * size[0])
    left = (size[0] - text_width(short, letters)) / 2
    ImageDraw.Draw(picture).text((left, 0.45 * size[1]), short, colours.PALE, letters)
    return picture


def cells(
    items: Iterable[Item],
    view: View,
    fail: Fail,
    *,
    norm: str | None = None,
    points: bool = True,
    sources: Mapping[str, str] | None = None,
) -> list[Cell]:
    """A cell for each item; those that cannot be shown are failures, and have a blank. `sources`
    are names of the items' files, for the captions, which also have the records' `flags`."""
    items = list(items)
    faces = [_parse(item, view, norm, fail) for item in items]
    spec = views.crops_of([face for face in faces if face is not None], view)
    pictures: list[Image.Image | None] = []
    for item, face in zip(items, faces, strict=True):
        picture = None
        if face is not None:
            try:
                picture = marked(face, views.show(face, view, spec), view, points)
            except RecordError as error:
                fail(item, error)
        pictures.append(picture)
    sizes = [picture.size for picture in pictures if picture is not None]
    size = (max(w for w, _ in sizes), max(h for _, h in sizes)) if sizes else view.cell
    # where nothing was predicted, that need not stand below each face
    bare = all(item.record.get("pred") is None for item in items)
    return [
        Cell(
            picture or blank(size, str(item.record.get("status"))),
            (
                *caption(item.record, norm)[: 1 if bare else 2],
                *([sources[item.file]] if sources else []),
                *_flags(item.record),
            ),
        )
        for item, picture in zip(items, pictures, strict=True)
    ]


def _flags(record: Record) -> tuple[str, ...]:
    """A line with what `kp-prep check` or `kp-track` found suspicious; none where that is none."""
    found = keys.flags(record)
    return (", ".join(found),) if found else ()


def _parse(item: Item, view: View, norm: str | None, fail: Fail) -> Face | None:
    """The face of an item; None where it failed, here or before."""
    if item.failed:
        return None
    try:
        check(item.record, view, norm)
        return views.parse(item.record, view)
    except RecordError as error:
        fail(item, error)
        return None


def legend(items: Iterable[Item], view: View, points: bool = True) -> list[tuple[str, colours.Rgb]]:
    """What the colours are, of those that are there."""
    good = [item.record for item in items if not item.failed]
    entries = []
    if points and any(record.get("points") is not None for record in good):
        entries.append(("truth", colours.TRUTH))
    if points and any(record.get("pred") is not None for record in good):
        entries.append(("prediction", colours.PREDICTION))
    if view.whole and any(record.get("box") is not None for record in good):
        entries.append(("box", colours.BOX))
    return entries


def make(
    pick: Pick,
    view: View,
    fail: Fail,
    *,
    norm: str | None = None,
    points: bool = True,
    columns: int | None = None,
    title: str = "",
    sources: Mapping[str, str] | None = None,
) -> Image.Image:
    """The sheet of the faces that were picked; at least one was."""
    items = pick.items
    made = cells(items, view, fail, norm=norm, points=points, sources=sources)
    across = columns or columns_for(len(made), sheet.layout_size(made))
    entries = legend(items, view, points)
    return sheet.sheet(made, Sheet(across, title, pick.note, entries))


def columns_for(count: int, size: Size) -> int:
    """So many that the sheet is about 4:3, captions included, and its last row is full where
    that costs little."""
    wanted = math.sqrt(count * 4 / 3 * 1.2 * size[1] / size[0])
    near = range(max(1, math.floor(0.75 * wanted)), math.ceil(1.35 * wanted) + 1)
    return min(near, key=lambda n: (-count % n / count + 0.6 * abs(math.log(n / wanted)), n))
