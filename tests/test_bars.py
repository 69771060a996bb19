"""The bar of a job: at a terminal, and in nobody's way."""

import os
import pty
import select
import subprocess
import sys
import time

import pytest
from conftest import lines, parse

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")


def on_terminal(face, stdout):
    """kp-augment, with a terminal for stderr, of faces that take some seconds to come. What the
    terminal got, and the process."""
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "kptools.cli.augment", "--rotate", "5"]
    pipes = {"stdin": subprocess.PIPE, "stdout": stdout, "stderr": terminal}
    with subprocess.Popen(command, **pipes) as process:
        os.close(terminal)
        process.stdin.write(lines([face(0)]))
        process.stdin.flush()
        out = process.stdout.readline() if process.stdout else b""
        while not process.stdout and not os.fstat(stdout.fileno()).st_size:
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(2)
        process.stdin.write(lines([face(1)]) + b"broken\n" + lines([face(2)]))
        process.stdin.flush()
        shown = b""
        end = time.monotonic() + (1 if process.stdout else 60)  # where there is a bar it shows them
        while b" 4 records  " not in shown and time.monotonic() < end:
            if select.select([screen], [], [], 0.1)[0]:
                shown += os.read(screen, 1 << 16)
        process.stdin.close()
        out += process.stdout.read() if process.stdout else b""
        while True:
            try:
                piece = os.read(screen, 1 << 16)
            except OSError:  # the terminal is closed
                break
            if not piece:
                break
            shown += piece
    os.close(screen)
    return shown, out, process.returncode


def test_at_a_terminal_a_bar_counts_records_and_failures_and_is_gone_at_the_end(face, tmp_path):
    with open(tmp_path / "out.jsonl", "wb") as out:
        shown, _, status = on_terminal(face, out)
    assert status == 1
    assert b" 4 records  " in shown
    assert b"1 failed" in shown
    assert b"stdin:3: " in shown  # above the bar
    assert b"\x1b[2K" in shown.rsplit(b" records  ", 1)[1]  # its line is cleared
    assert len(parse((tmp_path / "out.jsonl").read_bytes())) == 4


def test_a_tool_that_writes_to_the_next_one_in_a_pipe_shows_no_bar(face):
    shown, out, status = on_terminal(face, subprocess.PIPE)
    assert status == 1
    assert b"records  " not in shown
    assert b"stdin:3: " in shown
    assert len(parse(out)) == 4
