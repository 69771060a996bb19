"""kp-predict on a real Ray cluster of two nodes, each with one CPU, on this machine. By hand, for
it takes minutes, and needs the extra ray:

    KPTOOLS_CLUSTER=1 python -m pytest -s tests/cluster

KPTOOLS_FACES=640 takes fewer faces than 5,000.
"""

import os
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
    return timed(faces)


def command(faces, *words):
    return [sys.executable, "-m", "kptools.cli.predict", *map(str, words), str(faces)]


def timed(faces, *words):
    """The output and the messages of kp-predict. How fast it was is printed: from its first record
    to its last, by the clock and by the CPU time of all processes, those of the cluster too."""
    begun = time.monotonic()
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(
            command(faces, "--threads", 1, *words), stdout=subprocess.PIPE, stderr=messages
        )
        output = [process.stdout.readline()]
        first, cpu = time.monotonic(), cpu_seconds()
        output.append(process.stdout.read1(1 << 20))  # what came with it
        left = COUNT - sum(part.count(b"\n") for part in output)
        reading = threading.Thread(target=lambda: output.append(process.stdout.read()))
        reading.start()
        most = cpu
        while reading.is_alive():  # that of Ray's processes is lost with them
            most = max(most, cpu_seconds())
            reading.join(0.2)
        seconds, cpu = time.monotonic() - first, most - cpu
        assert process.wait() == 1
        messages.seek(0)
        told = messages.read()
    print(
        f"\nkp-predict {' '.join(map(str, words))}: the first record after {first - begun:.1f} s, "
        f"then {left} in {seconds:.1f} s: {left / seconds:.1f} a second; "
        f"{cpu:.1f} s of CPU: {left / cpu:.1f} a second of CPU"
    )
    return b"".join(output), told


def cpu_seconds():
    """Of this process and all that come from it, also of those that have ended."""
    parents, ticks = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            pid = int(stat.parent.name)
            parents[pid], ticks[pid] = int(fields[1]), sum(map(int, fields[11:15]))
    ours = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return sum(ticks.get(pid, 0) for pid in ours) / os.sysconf("SC_CLK_TCK")


def test_the_bytes_are_those_of_one_process(nodes, faces, plain):
    assert len(plain[0].splitlines()) == COUNT
    assert timed(faces, "--ray", nodes.address) == plain


def test_the_bytes_are_the_same_when_a_node_is_killed_midway(nodes, faces, plain, tmp_path):
    out = tmp_path / "out.jsonl"
    process = subprocess.Popen(
        command(faces, "--threads", 1, "--ray", nodes.address, "-o", out), stderr=subprocess.PIPE
    )
    part = out.with_name("out.jsonl.part")
    while not part.exists() or part.stat().st_size < len(plain[0]) // 3:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    (node,) = nodes.worker_nodes
    nodes.remove_node(node, allow_graceful=False)
    print(f"\na node was killed when {part.stat().st_size} of {len(plain[0])} bytes were there")
    _, messages = process.communicate()
    nodes.add_node(**NODE)
    assert process.returncode == 1, messages
    assert out.read_bytes() == plain[0]
    assert messages == plain[1]


def test_a_chunk_that_kills_its_process_is_failed_records(nodes):
    def deadly(items, fail):
        if any(item.record["n"] == 5 for item in items):
            os.kill(os.getpid(), signal.SIGKILL)
        return items

    items = [Item({"n": n}, "a.jsonl", n + 1, b'{"n":%d}' % n) for n in range(12)]
    failures = Failures()
    with ray_map.cluster(nodes.address):
        found = list(ray_map.ray_map(deadly, items, failures.add, lambda: True, size=3))
    assert [item.record["n"] for item in found] == list(range(12))
    assert [item.record["n"] for item in found if item.failed] == [3, 4, 5]
    assert failures.count == 3


def test_a_run_that_is_killed_is_resumed(nodes, faces, plain, tmp_path):
    out = tmp_path / "out.jsonl"
    words = command(faces, "--threads", 1, "--ray", nodes.address, "-o", out)
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    part = out.with_name("out.jsonl.part")
    while not part.exists() or part.stat().st_size < len(plain[0]) // 2:
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait() == 143
    done = subprocess.run([*words, "--resume"], capture_output=True)
    assert b"records were there" in done.stderr
    assert out.read_bytes() == plain[0]
