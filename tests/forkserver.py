"""Processes that need not import torch again, which takes a second or more of each call of a tool.

The server has imported what kptools takes from others, and nothing of kptools. For each call it
forks a process, which runs the tool as `python -m` does, on the standard streams, in the folder and
with the environment of the one that asks:

    python -IS forkserver.py SOCKET kptools.cli.predict m.safetensors    in place of python -m ...

What such a process does not show: that a tool imports what it needs and no more, and that nothing
hangs on the seed of Python's hashes, which is the server's. Tests of that start a Python of their
own, and so do those of signals, pipes and full disks.
"""

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

TAKEN = [
    *("numpy", "orjson", "typer", "typer.main", "rich.console", "rich.progress", "cv2"),
    *("torch", "torch._dynamo", "torchvision.models", "safetensors.torch"),
    *("PIL.Image", "PIL.ImageDraw", "PIL.ImageFilter", "PIL.ImageFont", "PIL.ImageOps"),
    *("PIL.JpegImagePlugin", "PIL.PngImagePlugin"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg"),
]


def main(path: str, words: Sequence[str] = ()) -> NoReturn:
    os._exit(_ask(path, words) if words else _serve(path))


# Who asks


def _ask(path: str, words: Sequence[str]) -> int:
    """The exit status of a tool."""
    request = json.dumps([os.getcwd(), dict(os.environ), words]).encode()
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(request)
        for number in (0, 1):  # so that a reader that goes away is missed, and a writer that ends
            os.close(number)
        status = int.from_bytes(_exactly(server, 2), "big", signed=True)
    if status < 0:
        os.kill(os.getpid(), -status)
    return status


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError("the server, or who asked it, is gone")
        data += more
    return data


# The server


def _serve(path: str) -> int:
    import gc
    from importlib import import_module
    from select import select

    for name in TAKEN:
        with suppress(ImportError):
            import_module(name)
    gc.freeze()
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(64)
    print("ready", flush=True)
    while server in select([server, 0], [], [])[0]:  # until nobody holds the other end of stdin
        connection, _ = server.accept()
        if os.fork() == 0:
            server.close()
            _watch(connection)
        connection.close()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:  # those that have watched to the end
                pass
    return 0


def _watch(connection: socket.socket) -> NoReturn:
    """Run what is asked for; if who asked is killed, it is killed too."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = json.loads(_exactly(connection, int.from_bytes(size, "big")))
    child = os.fork()
    if child == 0:
        connection.close()
        _run(streams, *request)
    for stream in streams:
        os.close(stream)

    def follow() -> None:
        connection.recv(1)
        os.kill(child, signal.SIGKILL)

    threading.Thread(target=follow, daemon=True).start()
    _, status = os.waitpid(child, 0)
    with suppress(OSError):
        connection.sendall(os.waitstatus_to_exitcode(status).to_bytes(2, "big", signed=True))
    os._exit(0)


def _run(
    streams: list[int], folder: str, environment: dict[str, str], words: list[str]
) -> NoReturn:
    import runpy

    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[0] = folder
    sys.argv = words
    runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    sys.exit()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
