"""Processes that need not import torch again, which takes a second or more of each call of a tool.

The server has imported what kptools takes from others, and nothing of kptools. For each call it
forks a process, which runs the tool as `python -m` does, on the standard streams, in the folder and
with the environment of the one that asks:

    python -IS forkserver.py SOCKET kptools.cli.predict m.safetensors    in place of python -m ...

What such a process does not show: that a tool imports what it needs and no more, and that nothing
hangs on the seed of Python's hashes, which is the server's. Tests of that start a Python of their
own, and so do most of those of signals, pipes and full disks. Nor does it wait for the disk: its
fsync checks the descriptor alone.
"""

import marshal
import os
import signal
import socket
import sys

TAKEN = [
    *("numpy", "orjson", "typer", "typer.main", "typer._adapters", "pydantic.json_schema"),
    *("rich.console", "rich.progress", "cv2", "multiprocessing.queues", "zoneinfo"),
    *("torch", "torch._dynamo", "torchvision.models", "safetensors.torch"),
    *("PIL.Image", "PIL.ImageDraw", "PIL.ImageFilter", "PIL.ImageFont", "PIL.ImageOps"),
    *(f"PIL.{name}ImagePlugin" for name in ("Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP")),
    *("matplotlib.figure", "matplotlib.backends.backend_agg"),
]


def main(path: str, words: list[str]) -> None:
    os._exit(_ask(path, words) if words else _serve(path))


# Who asks: it imports little, as it is what each call waits for


def _ask(path: str, words: list[str]) -> int:
    """The exit status of a tool."""
    request = marshal.dumps((os.getcwd(), dict(os.environ), words))
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(path)
        socket.send_fds(server, [len(request).to_bytes(8, "big")], [0, 1, 2])
        server.sendall(request)
        signal.signal(signal.SIGTERM, lambda *_: server.sendall(b"T"))
        for number in (0, 1):  # so that a reader that goes away is missed, and a writer that ends
            os.close(number)
        status = int.from_bytes(_exactly(server, 2), "big", signed=True)
    if status < 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
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


class Call:
    """A tool that runs, for the one at the other end of the connection."""

    def __init__(self, connection: socket.socket, pid: int) -> None:
        self.connection = connection
        self.pid = pid
        self.ended = os.pidfd_open(pid)  # can be read from where the process has ended

    def is_wanted(self) -> bool:
        """Whether who asked is still there, where the connection can be read: then it was asked to
        end, and so is the tool."""
        asked = bool(self.connection.recv(1))
        if asked:
            os.kill(self.pid, signal.SIGTERM)
        return asked

    def end(self) -> None:
        """Say how it ended; kill it first where it runs on."""
        os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        try:
            code = os.waitstatus_to_exitcode(status)
            self.connection.sendall(code.to_bytes(2, "big", signed=True))
        except OSError:  # who asked is gone
            pass
        self.close()

    def close(self) -> None:
        self.connection.close()
        os.close(self.ended)


def _serve(path: str) -> int:
    import gc
    from contextlib import suppress
    from importlib import import_module
    from select import select

    for name in TAKEN:
        with suppress(ImportError):
            import_module(name)
    os.fsync = os.fstat  # no test cuts the power
    gc.freeze()
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(64)
    print("ready", flush=True)
    calls: list[Call] = []
    while True:
        waited = [fd for call in calls for fd in (call.connection, call.ended)]
        ready = select([server, 0, *waited], [], [])[0]
        for call in list(calls):
            if call.ended in ready or (call.connection in ready and not call.is_wanted()):
                call.end()
                calls.remove(call)
        if server in ready:
            calls.append(_start(server, calls))
        if 0 in ready:  # nobody holds the other end of stdin any more
            for call in calls:
                call.end()
            return 0


def _start(server: socket.socket, others: list[Call]) -> Call:
    connection, _ = server.accept()
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    request = marshal.loads(_exactly(connection, int.from_bytes(size, "big")))
    child = os.fork()
    if child == 0:
        server.close()
        connection.close()
        for call in others:
            call.close()
        _run(streams, *request)
    for stream in streams:
        os.close(stream)
    return Call(connection, child)


def _run(streams: list[int], folder: str, environment: dict[str, str], words: list[str]) -> None:
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
