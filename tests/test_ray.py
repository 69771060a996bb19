"""kp-predict --ray, against a Ray that does each task at once; tests/cluster has a real one."""

import socket
import sys
from types import ModuleType, SimpleNamespace

import pytest
from conftest import lines, parse, untrained

from kptools.errors import KptoolsError
from kptools.inference import ray_map
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.storage import run_file


class Crash(Exception):
    """What stands for a process that is lost."""


class Raised(Exception):
    """What stands for an error of a task."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class Refused(Exception):
    """What stands for a node that cannot begin a task."""


@pytest.fixture
def ray(monkeypatch):
    """As much of Ray as is used. `sizes` are those of the chunks; `head` is where it listens."""
    head = socket.create_server(("127.0.0.1", 0))
    module, exceptions = ModuleType("ray"), ModuleType("ray.exceptions")
    module.sizes, module.head, port = [], head, head.getsockname()[1]

    class Task:
        def __init__(self, function):
            self.function = function

        def remote(self, work, chunk, *rest):
            module.sizes.append(len(chunk))
            try:
                return self.function(work, chunk, *rest)
            except Exception as error:
                return error if isinstance(error, Crash) else Raised(error)

    def get(result, timeout):
        if isinstance(result, Exception):
            raise result
        return result

    module.init = lambda *words, **keys: None
    module.shutdown = lambda: None
    module.nodes = lambda: [{"Alive": True, "Resources": {"CPU": 1.0}}, {"Alive": False}]
    module.get_runtime_context = lambda: SimpleNamespace(gcs_address=f"127.0.0.1:{port}")
    module.remote = lambda **keys: Task
    module.get = get
    module.exceptions = exceptions
    exceptions.RayTaskError = Raised
    exceptions.RayError = Crash
    exceptions.RaySystemError = Refused
    exceptions.GetTimeoutError = TimeoutError
    for name in ("WorkerCrashedError", "NodeDiedError", "OutOfMemoryError", "ObjectLostError"):
        setattr(exceptions, name, Crash)
    monkeypatch.setitem(sys.modules, "ray", module)
    monkeypatch.setitem(sys.modules, "ray.exceptions", exceptions)
    yield module
    head.close()


def numbered(count):
    return [Item({"n": n}, "a.jsonl", n + 1, b'{"n":%d}' % n) for n in range(count)]


def test_the_records_are_those_without_ray(quick, face, tmp_path, ray):
    checkpoint = untrained(tmp_path / "n.safetensors")
    records = [face(number, mine={"long": "*"}) for number in range(5)]
    records[1]["box"] = [0, 0]
    records[3]["status"], records[3]["error"] = "no_face", "none"
    given = lines(records[:2]) + b"no record\n" + lines(records[2:])
    given = given.replace(b'"*"', str(2**70).encode())
    words = ("predict", "--threads", 1, "--batch-size", 2, checkpoint)
    plain = quick(*words, stdin=given)
    mapped = quick(*words, "--ray", "local", stdin=given)
    assert ray.sizes == [2, 2, 2]
    assert mapped.stdout == plain.stdout
    # a line that is no record is reported as it is read, which is earlier
    assert sorted(mapped.stderr.splitlines()) == sorted(plain.stderr.splitlines())
    assert mapped.returncode == plain.returncode == 1


def test_a_chunk_that_kills_its_process_is_failed_records(ray, capsys):
    def work(items, fail):
        if any(item.record["n"] == 3 for item in items):
            raise Crash
        return items

    failures = Failures()
    found = list(ray_map.ray_map(work, numbered(6), failures.add, lambda: True, size=2))
    assert [item.record["n"] for item in found] == list(range(6))
    assert [item.record.get("status") for item in found] == [None] * 2 + ["crashed"] * 2 + [
        None
    ] * 2
    assert "died 3 times at the records a.jsonl:3 to a.jsonl:4" in capsys.readouterr().err
    assert failures.count == 2


def test_what_is_done_is_not_held_back_for_the_next_record(ray):
    taken = []

    def source():
        for item in numbered(9):
            taken.append(item)
            yield item

    found = ray_map.ray_map(lambda items, fail: items, source(), None, lambda: False, size=2)
    assert next(found).record["n"] == 0
    assert len(taken) == 2


def test_a_bounded_number_of_records_is_held(ray):
    taken = []
    source = (taken.append(item) or item for item in numbered(100))
    next(ray_map.ray_map(lambda items, fail: items, source, None, lambda: True, size=2))
    assert len(taken) == 2 * ray_map.AHEAD


def test_a_cluster_without_the_cpus_is_told_of(ray, capsys):
    list(
        ray_map.ray_map(lambda items, fail: items, numbered(1), None, lambda: True, size=1, cpus=2)
    )
    assert "no node of the cluster has 2 CPUs and 0 GPUs; waiting" in capsys.readouterr().err


def test_a_head_that_is_gone_ends_the_job(ray, monkeypatch):
    def get(result, timeout):
        ray.head.close()
        raise TimeoutError

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(KptoolsError, match="no Ray cluster answers there"):
        list(ray_map.ray_map(lambda items, fail: items, numbered(1), None, lambda: True, size=2))


def test_a_node_of_another_version_ends_the_job(ray, monkeypatch):
    def elsewhere(work, chunk, places, folder, version):
        return run(work, chunk, places, folder, "0.0.1")

    run = ray_map._run
    monkeypatch.setattr(ray_map, "_run", elsewhere)
    with pytest.raises(KptoolsError, match=r"and this is 0\.0\.1; install one on all nodes"):
        list(ray_map.ray_map(lambda items, fail: items, numbered(1), None, lambda: True, size=2))


def test_a_node_with_another_checkpoint_ends_the_job(quick, face, tmp_path, ray, monkeypatch):
    checkpoint = untrained(tmp_path / "n.safetensors")
    hashes = iter(("here", "there"))
    monkeypatch.setattr(run_file, "hash_of_file", lambda path: next(hashes))
    done = quick("predict", "--ray", "local", checkpoint, stdin=[face()])
    assert done.returncode == 3
    assert b"copy the same to all nodes" in done.stderr


def test_without_ray_it_says_what_to_install(quick, face, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    checkpoint = untrained(tmp_path / "n.safetensors")
    done = quick("predict", "--ray", "local", checkpoint, stdin=[face()])
    assert done.returncode == 3
    assert done.stderr == b"--ray needs the package ray; pip install ray\n"
    assert not parse(done.stdout)


def test_without_a_cluster_at_the_address_it_says_so(quick, face, tmp_path, ray):
    checkpoint = untrained(tmp_path / "n.safetensors")
    done = quick("predict", "--ray", "127.0.0.1:1", checkpoint, stdin=[face()])
    assert done.returncode == 3
    assert b"--ray 127.0.0.1:1: no Ray cluster answers there" in done.stderr


def test_maps_are_not_written_by_many_machines(quick, face, tmp_path):
    done = quick("predict", "--ray", "local", "--heatmaps", tmp_path / "maps", stdin=[face()])
    assert done.returncode == 2
    assert b"--heatmaps: --ray works on many machines" in done.stderr
