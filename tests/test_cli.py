"""The edge of every tool: its use, and how it ends."""

import os
import pty
import signal
import subprocess
import sys

import pytest
from conftest import TOOLS, lines, module, run, shell, untrained


@pytest.mark.parametrize("name", TOOLS)
def test_help_is_full_disk_safe_and_a_wrong_option_is_one_line_and_exit_2(name, tmp_path):
    assert shell(f"{module(name)} --help > /dev/full", tmp_path).returncode == 3
    wrong = run(name, "--no-such-option", cwd=tmp_path)
    assert wrong.returncode == 2
    assert len(wrong.stderr.splitlines()) == 1
    assert b"--no-such-option" in wrong.stderr


@pytest.mark.parametrize("words", [["augment"], ["eval"], ["train", "--arch", "nose"]])
def test_at_a_terminal_without_input_a_tool_says_how_it_is_used(words, tmp_path):
    main, terminal = pty.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"kptools.cli.{words[0]}", *words[1:]],
            stdin=terminal,
            capture_output=True,
            timeout=60,
        )
    finally:
        os.close(main)
        os.close(terminal)
    assert done.returncode == 2
    assert b"no input" in done.stderr


def test_a_closed_stderr_does_not_stop_the_job(face, tmp_path):
    (tmp_path / "in.jsonl").write_bytes(lines([face(0)]) + b"broken\n" + lines([face(1)]))
    done = shell(f"{module('augment')} --rotate 5 in.jsonl 2>&-", tmp_path)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 3


def test_a_reader_that_goes_away_ends_a_tool_silently_with_141(face, tmp_path):
    (tmp_path / "many.jsonl").write_bytes(lines([face(0)]) * 5000)
    done = shell(f"{module('augment')} --rotate 5 many.jsonl | head -1", tmp_path)
    assert done.returncode == 141
    assert done.stderr == b""
    assert len(done.stdout.splitlines()) == 1


def test_interruptions_have_their_exit_status(face):
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        process = subprocess.Popen(
            [sys.executable, "-m", "kptools.cli.augment", "--rotate", "5"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # a shell that runs the tests with & has them ignore SIGINT
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        process.stdin.write(lines([face(0)]))
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(number)
        assert process.wait(timeout=30) == status
        assert process.stderr.read() == b""
        process.stdin.close()


def test_a_file_system_that_does_not_answer_does_not_keep_a_tool_alive(face, tmp_path):
    """A thread hangs in a read; SIGTERM ends the process all the same."""
    untrained(tmp_path / "m.safetensors")
    code = (
        "import sys, time\n"
        "from kptools.storage import images\n"
        "def read(*a, **k):\n"
        "    print('reading', file=sys.stderr, flush=True)\n"
        "    time.sleep(1000)\n"
        "images.read = read\n"
        "sys.argv = ['kp-predict', 'm.safetensors']\n"
        "from kptools.cli.predict import main\n"
        "main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdin.write(lines([face(0)]))
    process.stdin.close()
    assert process.stderr.readline() == b"reading\n"
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(timeout=60) == 143
    finally:
        process.kill()


def test_an_error_that_nobody_foresaw_is_no_success(face, tmp_path):
    code = (
        "import sys\n"
        "from kptools.records import keys\n"
        "keys.box = lambda record: 1 / 0\n"
        "sys.argv = ['kp-augment', '--rotate', '5', '--copies', '2']\n"
        "from kptools.cli.augment import main\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input=lines([face(0)]), capture_output=True, cwd=tmp_path
    )
    assert done.returncode == 3
    assert b"Traceback" in done.stderr
    assert b"ZeroDivisionError" in done.stderr
    assert b"please report it" in done.stderr.splitlines()[-1]
