"""The editor of points: a page, and a server of it for this machine's own browser alone.

It listens on 127.0.0.1. Its address holds a token that no other page can guess, and a request needs
that, the server's own name (against DNS rebinding) and, to change something, the page's origin.
"""

import io
import math
import os
import secrets
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson

from kptools import geometry as g
from kptools.console import report
from kptools.errors import KptoolsError, RecordError
from kptools.records import keys
from kptools.records.keys import Record
from kptools.schemes import catalog
from kptools.viz import faces, views
from kptools.viz.corrections import Corrections
from kptools.viz.views import Shown, View

_WEB = Path(__file__).with_name("web")
_FILES = {
    "": ("edit.html", "text/html; charset=utf-8"),
    "edit.js": ("edit.js", "text/javascript; charset=utf-8"),
    "edit.css": ("edit.css", "text/css; charset=utf-8"),
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_MAX_BODY = 1 << 20
_MARGIN = 0.5  # about the box, of its side
_SIDE = 1024  # of a picture, at most


class Editor:
    """The faces in `order`, as the page asks for them. `ended` is set when the page is done."""

    def __init__(self, corrections: Corrections, order: Sequence[int]) -> None:
        self.corrections = corrections
        self.order = list(order)
        self.token = secrets.token_urlsafe(24)
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._closed = False
        self._held: tuple[Record, Shown] | None = None  # the face that was shown last

    def overview(self) -> dict[str, Any]:
        """All faces, in order: their names, what is known of them, and whether they are saved."""
        found = []
        for number in self.order:
            record = self.corrections.record(number)
            score = _mean_score(record)
            found.append(
                {
                    "name": faces.name(record),
                    "score": None if math.isnan(score) else round(score, 3),
                    "flags": keys.flags(record),
                    "saved": number in self.corrections.saved,
                }
            )
        output = os.fsencode(self.corrections.path).decode(errors="replace")
        return {"faces": found, "output": output}

    def face(self, place: int) -> dict[str, Any]:
        """A face: its points in the file frame, and the map from there to the picture, continuous.
        Raises RecordError."""
        record, shown = self._show(place)
        matrix = g.compose(shown.matrix, shown.transform.matrix)  # a turned face is shown upright
        matrix[:, 2] += matrix[:, :2].sum(axis=1) / 2  # from centres at whole numbers
        start = record.get("points")
        if record.get("pred") is not None and not faces.annotated(record):
            start = record["pred"]
        count = len(start or ())
        name = record.get("scheme")
        scheme = catalog.get(name) if isinstance(name, str) and catalog.count(name) else None
        return {
            "name": faces.name(record),
            "points": start,
            "pred": record.get("pred"),
            "visible": keys.per_point(record, "visible", count),
            "box": list(keys.box(record)),
            "matrix": matrix.tolist(),
            "size": shown.picture.size,
            "names": scheme.names if scheme else [f"{i}" for i in range(count)],
            "edges": scheme.edges if scheme else [],
            "regions": {k: list(v) for k, v in scheme.regions.items()} if scheme else {},
        }

    def picture(self, place: int) -> bytes:
        """The picture of a face, as JPEG. Raises RecordError."""
        _, shown = self._show(place)
        data = io.BytesIO()
        shown.picture.save(data, "JPEG", quality=92)
        return data.getvalue()

    def _show(self, place: int) -> tuple[Record, Shown]:
        """A face and its picture, which the page asks for twice: its points, then its pixels."""
        record = self.corrections.record(self.order[place])
        held = self._held
        if held is None or held[0] is not record:
            held = self._held = record, views.show(views.parse(record, _VIEW), _VIEW)
        return held

    def save(self, place: int, body: bytes) -> dict[str, Any]:
        """Save a face as the page has it: how many are saved. Raises RecordError, KptoolsError."""
        try:
            values = orjson.loads(body)
        except ValueError:
            values = None
        if not isinstance(values, dict):
            raise RecordError("bad_record", "an object with points is needed")
        with self._lock:
            if self._closed:
                raise RecordError("bad_record", "the editor has ended; start it again")
            self.corrections.save(self.order[place], values)
            return {"saved": len(self.corrections.saved)}

    def close(self) -> int:
        """Give the file its name; how many faces it holds. Nothing is saved from then on."""
        with self._lock:
            self._closed = True
            return self.corrections.close()


_VIEW = View((_SIDE, _SIDE), margin=_MARGIN, policy=False)


def _mean_score(record: Record) -> float:
    """The mean of the scores; NaN where there are none."""
    scores = record.get("score")
    if not isinstance(scores, list) or not scores:
        return math.nan
    known = [s for s in scores if isinstance(s, int | float)]
    return sum(known) / len(known) if known else math.nan


def order_of(records: Sequence[Record], by: str) -> list[int]:
    """The numbers of the records: `unsure`, those of the lowest mean score first, or `given`."""
    numbers = range(len(records))
    if by == "given":
        return list(numbers)
    scores = [_mean_score(record) for record in records]
    return sorted(numbers, key=lambda n: math.inf if math.isnan(scores[n]) else scores[n])


class Server(ThreadingHTTPServer):
    """Serves an editor at `address`. Raises OSError where the port is taken."""

    daemon_threads = True

    def __init__(self, editor: Editor, port: int) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.editor = editor

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line, unless the browser has just lost interest."""
        error = sys.exc_info()[1]
        if not isinstance(error, ConnectionError):
            report(f"kp-viz: a request failed: {type(error).__name__}: {error}")

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/{self.editor.token}/"


class _Handler(BaseHTTPRequestHandler):
    """GET of the page, of `faces`, `face/N` and `picture/N`; POST of `save/N` and `end`."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        path = self._path()
        if path is None:
            return
        editor = self.server.editor
        if path in _FILES:
            name, kind = _FILES[path]
            self._answer(HTTPStatus.OK, (_WEB / name).read_bytes(), kind)
        elif path == "faces":
            self._answer_json(editor.overview)
        elif (face := self._place(path, "face")) is not None:
            self._answer_json(partial(editor.face, face))
        elif (picture := self._place(path, "picture")) is not None:
            self._answer_made(partial(editor.picture, picture), "image/jpeg")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    def do_POST(self) -> None:
        path = self._path()
        if path is None:
            return
        if self.headers.get("Origin") not in self._origins():
            self._refuse(HTTPStatus.FORBIDDEN, "another site cannot change anything here")
            return
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > _MAX_BODY:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too much, or of no known length")
            return
        body = self.rfile.read(int(length))
        if path == "end":
            self._answer(HTTPStatus.OK, b"{}", "application/json")
            self.server.editor.ended.set()
        elif (place := self._place(path, "save")) is not None:
            self._answer_json(partial(self.server.editor.save, place, body))
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page")

    def _origins(self) -> tuple[str, ...]:
        port = self.server.server_port
        return (f"http://127.0.0.1:{port}", f"http://localhost:{port}")

    def _path(self) -> str | None:
        """What is asked for, without the token; None where that, or the name, is wrong."""
        hosts = [origin.removeprefix("http://") for origin in self._origins()]
        token, slash, path = self.path.removeprefix("/").partition("/")
        right = secrets.compare_digest(token.encode(), self.server.editor.token.encode())
        if self.headers.get("Host") not in hosts or not right or not slash:
            self._refuse(HTTPStatus.FORBIDDEN, "open the address that kp-viz edit printed")
            return None
        return path.partition("?")[0]

    def _place(self, path: str, name: str) -> int | None:
        """N of `name/N`, where there is such a face."""
        first, _, number = path.partition("/")
        if first != name or not (number.isascii() and number.isdecimal() and len(number) < 9):
            return None
        return int(number) if int(number) < len(self.server.editor.order) else None

    def _answer_json(self, make: Callable[[], Any]) -> None:
        self._answer_made(lambda: orjson.dumps(make()), "application/json")

    def _answer_made(self, make: Callable[[], bytes], kind: str) -> None:
        try:
            data = make()
        except RecordError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except KptoolsError as error:
            self._refuse(HTTPStatus.INSUFFICIENT_STORAGE, str(error))
        else:
            self._answer(HTTPStatus.OK, data, kind)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self.close_connection = True  # what of a body was not read is no next request
        self._answer(status, why.encode(), "text/plain; charset=utf-8")

    def _answer(self, status: HTTPStatus, data: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: a line for each picture helps nobody."""
