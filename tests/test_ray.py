"""The tools with --ray, against a Ray that does each task at once; tests/cluster has a real one."""

import fcntl
import os
import pickle
import signal
import socket
import sys
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
from conftest import in_process, lines, noise, parse, untrained

from kptools.cli import prep
from kptools.datasets import photos, synth
from kptools.datasets.detectors import Found
from kptools.errors import KptoolsError
from kptools.pixels import copies
from kptools.records import ray_map
from kptools.records.failures import Failures
from kptools.records.item import Item
from kptools.storage import run_file, shared_folder


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

        def remote(self, work, *rest):
            module.sizes.append(len(rest[0]))
            try:
                made = self.function(work, *pickle.loads(pickle.dumps(rest)))
                return pickle.loads(pickle.dumps(made))
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


def one_each(items, fail):
    return [[item] for item in items]


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
        return one_each(items, fail)

    failures = Failures()
    found = list(ray_map.ray_map(work, numbered(6), failures.add, lambda: True, size=2))
    assert [item.record["n"] for item in found] == list(range(6))
    assert [item.record.get("status") for item in found] == [None] * 2 + ["crashed"] * 2 + [
        None
    ] * 2
    assert "died 3 times at the records a.jsonl:3 to a.jsonl:4" in capsys.readouterr().err
    assert failures.count == 2


def test_an_item_may_become_none_or_several(ray):
    def work(items, fail):
        return [[item.derive({"n": n}) for n in range(item.record["n"])] for item in items]

    found = ray_map.ray_map(work, numbered(4), ray_map.mark_failed, size=3)
    made = [(item.line, item.record["n"]) for item in found]
    assert made == [(2, 0), (3, 0), (3, 1), (4, 0), (4, 1), (4, 2)]


def test_what_is_done_is_not_held_back_for_the_next_record(ray):
    taken = []

    def source():
        for item in numbered(9):
            taken.append(item)
            yield item

    found = ray_map.ray_map(one_each, source(), None, lambda: False, size=2)
    assert next(found).record["n"] == 0
    assert len(taken) == 2


def test_a_bounded_number_of_records_is_held(ray):
    taken = []
    source = (taken.append(item) or item for item in numbered(100))
    next(ray_map.ray_map(one_each, source, None, lambda: True, size=2))
    assert len(taken) == 2 * ray_map.AHEAD


def test_a_cluster_without_the_cpus_is_told_of(ray, capsys):
    list(ray_map.ray_map(one_each, numbered(1), None, lambda: True, size=1, cpus=2))
    assert "no node of the cluster has 2 CPUs and 0 GPUs; waiting" in capsys.readouterr().err


def test_a_head_that_is_gone_ends_the_job(ray, monkeypatch):
    def get(result, timeout):
        ray.head.close()
        raise TimeoutError

    monkeypatch.setattr(ray, "get", get)
    with pytest.raises(KptoolsError, match="no Ray cluster answers there"):
        list(ray_map.ray_map(one_each, numbered(1), None, lambda: True, size=2))


def test_a_signal_ends_the_job_as_without_ray(ray, monkeypatch):
    class Stopped(BaseException):
        """What stands for the exception of kptools.cli.edge."""

    def stop(number, frame):
        raise Stopped

    def get(result, timeout):  # Ray's own lets this exception through, and no other one
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise
        except BaseException:
            raise SystemError from None

    def init(*words, **keys):
        raise SystemExit(15)

    before = signal.signal(signal.SIGTERM, stop)
    try:
        with monkeypatch.context() as begins:
            begins.setattr(ray, "init", init)
            with pytest.raises(Stopped), ray_map.cluster("local"):
                pass
        monkeypatch.setattr(ray, "get", get)
        with pytest.raises(Stopped), ray_map.cluster("local"):
            list(ray_map.ray_map(one_each, numbered(1), ray_map.mark_failed, size=1))
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_node_of_another_version_ends_the_job(ray, monkeypatch):
    def elsewhere(work, chunk, places, command):
        return run(work, chunk, places, replace(command, version="0.0.1"))

    run = ray_map._run
    monkeypatch.setattr(ray_map, "_run", elsewhere)
    with pytest.raises(KptoolsError, match=r"and this is 0\.0\.1; install one on all nodes"):
        list(ray_map.ray_map(one_each, numbered(1), None, lambda: True, size=2))


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


def assert_same(mapped, plain):
    """The bytes, the status and the messages are the same, and each failure is reported once; what
    is known when a record is read is reported as it is read, which is earlier."""
    assert mapped.stdout == plain.stdout
    assert sorted(mapped.stderr.splitlines()) == sorted(plain.stderr.splitlines())
    assert mapped.returncode == plain.returncode


def prepare(*words):
    return in_process(prep.tool, *words)


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def holiday(tmp_path, monkeypatch):
    """A folder of photos, some of which fail, and what finds two faces in one of them. `loads` are
    those of the detector, and at the photo `deadly` the process dies."""
    folder = tmp_path / "holiday"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        noise(folder / name)
    if sys.platform == "linux":  # elsewhere names are UTF-8
        noise(folder / os.fsdecode(b"caf\xe9.png"))
    (folder / "broken.png").write_bytes(b"no picture")
    made = SimpleNamespace(folder=folder, loads=0, deadly=None)

    def detect(path):
        name = os.path.basename(path)
        if name == made.deadly:
            raise Crash
        found = [Found((40.5, 5.0, 60.0, 25.0), 0.9), Found((10.0, 5.0, 30.25, 25.0), 0.9, -7.5)]
        return {"a.png": [], "b.png": found}.get(name, found[:1])

    def load():
        made.loads += 1
        return detect

    module = SimpleNamespace(SOURCE="detector:fake", load=load)
    monkeypatch.setattr(photos.detectors, "module", lambda name: module)
    photos._loaded.cache_clear()
    yield made
    photos._loaded.cache_clear()


@pytest.mark.parametrize("how", ["detector", "image", "boxes"])
def test_photos_have_the_records_of_one_process(holiday, tmp_path, ray, how):
    table = tmp_path / "boxes.csv"
    table.write_text("image,x0,y0,x1,y1\nb.png,1,2,30,40\nb.png,1.5,2,30,40\ngone.png,1,2,3,4\n")
    words = ("photos", holiday.folder, *(["--boxes", table] if how == "boxes" else ["--box", how]))
    plain = prepare(*words)
    assert plain.returncode == 1
    assert b'"id":"b#2"' in plain.stdout or how == "image"
    holiday.loads = 0
    mapped = prepare(*words, "--ray", "local")
    assert_same(mapped, plain)
    assert ray.sizes == [1] * len(list(holiday.folder.iterdir()))
    assert holiday.loads == (how == "detector")  # once a process


def test_a_photo_that_kills_its_process_is_a_failed_record(holiday, ray):
    words = ("photos", holiday.folder)
    plain = parse(prepare(*words).stdout)
    holiday.deadly = "b.png"
    mapped = prepare(*words, "--ray", "local")
    made = parse(mapped.stdout)
    (lost,) = [record for record in made if record.get("status") == "crashed"]
    path = f"{holiday.folder}/b.png"
    assert lost == {
        "image": path,
        "id": "b",
        "group": "b",
        "split": "test",
        "dataset": "photos",
        "status": "crashed",
        "error": "its process died 3 times; try it without --ray",
    }
    assert [r for r in made if r is not lost] == [r for r in plain if r.get("image") != path]
    assert mapped.stderr.count(f"{path}:1: its process died 3 times".encode()) == 1
    assert mapped.returncode == 1


def test_faces_are_drawn_as_by_one_process(tmp_path, ray):
    out = tmp_path / "f"
    words = ("synth", "--count", 12, "--seed", 5, "--val-fraction", 0.4, "--out", out)
    plain = prepare(*words, "--shard", "1/2", "--jobs", 1)
    out.rename(tmp_path / "plain")
    mapped = prepare(*words, "--shard", "1/2", "--ray", "local")
    assert_same(mapped, plain)
    assert mapped.returncode == 0
    assert files_of(out) == files_of(tmp_path / "plain")  # and no mark, and no part


def test_drawing_is_resumed_on_a_cluster(tmp_path, ray, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 1)  # so that this process draws
    words = ("synth", "--count", 4, "--out", tmp_path / "f", "-o", tmp_path / "f.jsonl")
    assert prepare(*words).returncode == 0
    whole = (tmp_path / "f.jsonl").read_bytes()
    (tmp_path / "f.jsonl").unlink()
    (tmp_path / "f.jsonl.part").write_bytes(b"".join(whole.splitlines(True)[:2]) + b'{"ima')
    done = prepare(*words, "--resume", "--ray", "local")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "f.jsonl").read_bytes() == whole


def test_faces_that_kill_their_process_are_failed_records(tmp_path, ray, monkeypatch):
    def deadly(seed, index):
        if index == 3:
            raise Crash
        return drawn(seed, index)

    drawn = synth.synthesize
    words = ("synth", "--count", 10, "--out", tmp_path / "f")
    plain = parse(prepare(*words, "--jobs", 1).stdout)
    monkeypatch.setattr(synth, "synthesize", deadly)
    mapped = prepare(*words, "--ray", "local")
    made = parse(mapped.stdout)
    assert [record["id"] for record in made] == [record["id"] for record in plain]
    assert {record.get("status") for record in made[:8]} == {"crashed"}
    assert made[8:] == plain[8:]
    assert mapped.stderr.count(b"died 3 times at the records synth:1 to synth:8") == 8
    assert mapped.returncode == 1


def test_images_are_written_as_by_one_process(quick, face, tmp_path, ray):
    records = [face(number, mine={"long": "*"}) for number in range(5)]
    records[1]["box"] = [0, 0]
    records[2]["id"] = records[0]["id"]  # its file would be that of the first
    records[4]["image"] = "gone.png"
    given = lines(records[:3]).replace(b'"*"', str(2**70).encode()) + b"bad\n" + lines(records[3:])
    for number, options in enumerate(
        (("--copies", 2, "--rotate", 20, "--flip", 0.5), ("--align", "32x32"), ("--shard", "1/2"))
    ):
        out = tmp_path / f"out{number}"
        words = ("augment", *options, "--write", out)
        plain = quick(*words, stdin=given)
        out.rename(tmp_path / f"plain{number}")
        mapped = quick(*words, "--ray", "local", stdin=given)
        assert_same(mapped, plain)
        assert mapped.returncode == 1
        assert files_of(out) == files_of(tmp_path / f"plain{number}")
        assert files_of(out)


def test_an_image_that_kills_its_process_is_a_failed_record(
    quick, face, tmp_path, ray, monkeypatch
):
    def deadly(record, *words):
        if record["id"] == "face1":
            raise Crash
        return write(record, *words)

    write = copies.write_image
    words = ("augment", "--copies", 2, "--rotate", 9, "--write", tmp_path / "w")
    given = [face(number) for number in range(3)]
    plain = parse(quick(*words, stdin=given).stdout)
    monkeypatch.setattr(copies, "write_image", deadly)
    mapped = quick(*words, "--ray", "local", stdin=given)
    made = parse(mapped.stdout)
    error = "its process died 3 times; try it without --ray"
    assert made == [*plain[:2], given[1] | {"status": "crashed", "error": error}, *plain[4:]]
    assert mapped.stderr.count(b"stdin:2: its process died") == 1
    assert mapped.returncode == 1
    strict = quick(*words, "--ray", "local", "--strict", "-o", tmp_path / "o", stdin=given)
    assert strict.returncode == 3
    assert not (tmp_path / "o").exists()


def test_writing_is_resumed_on_a_cluster(quick, face, tmp_path, ray):
    words = ("augment", "--copies", 2, "--rotate", 9, "--write", tmp_path / "w")
    words = (*words, "-o", tmp_path / "w.jsonl")
    given = [face(number) for number in range(3)]
    assert quick(*words, "--ray", "local", stdin=given).returncode == 0
    whole = (tmp_path / "w.jsonl").read_bytes()
    (tmp_path / "w.jsonl").unlink()
    (tmp_path / "w.jsonl.part").write_bytes(b"".join(whole.splitlines(True)[:3]))
    ray.sizes.clear()
    done = quick(*words, "--ray", "local", "--resume", "--expect", 3, stdin=given)
    assert (done.returncode, (tmp_path / "w.jsonl").read_bytes()) == (0, whole)
    assert len(ray.sizes) == 2  # of the second record a copy was not there


@pytest.mark.parametrize("tool", ["augment", "synth"])
def test_a_folder_has_one_command(quick, face, tmp_path, ray, tool):
    out = tmp_path / "w"
    out.mkdir()
    descriptor = os.open(out, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    done = written(tool, quick, face, out)
    os.close(descriptor)
    assert done.returncode == 3
    assert b"is being written by" in done.stderr
    assert not files_of(out)


@pytest.mark.parametrize("tool", ["augment", "synth"])
def test_a_node_with_a_folder_of_its_own_ends_the_job(
    quick, face, tmp_path, ray, monkeypatch, tool
):
    def elsewhere(work, chunk, places, command):
        return run(work, chunk, places, replace(command, folder=str(tmp_path / "node")))

    (tmp_path / "node" / "w").mkdir(parents=True)
    run = ray_map._run
    monkeypatch.setattr(ray_map, "_run", elsewhere)
    monkeypatch.chdir(tmp_path)
    done = written(tool, quick, face, "w")
    assert (done.returncode, done.stdout) == (3, b"")
    assert b"does not share the folder w" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not files_of(tmp_path / "w")
    assert not files_of(tmp_path / "node" / "w")


@pytest.mark.parametrize(("tool", "name"), [("augment", "face0.png"), ("synth", "000000.jpg")])
def test_what_a_machine_that_is_lost_was_writing_is_in_nobodys_way(
    quick, face, tmp_path, ray, tool, name
):
    (tmp_path / "w" / f"{name}.part").mkdir(parents=True)  # which nobody else can write
    done = written(tool, quick, face, tmp_path / "w")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "w").iterdir()) == [name, f"{name}.part"]


def written(tool, quick, face, out):
    if tool == "synth":
        return prepare("synth", "--count", 1, "--out", out, "--ray", "local")
    return quick("augment", "--write", out, "--ray", "local", stdin=[face()])


def test_two_processes_that_write_one_file_leave_one(tmp_path, monkeypatch):
    path = tmp_path / "a.jpg"

    def replaced(part, name):  # when this one has written, another does all of it
        monkeypatch.undo()
        shared_folder.write_output(path, b"whole")
        os.replace(part, name)

    monkeypatch.setattr(shared_folder.os, "replace", replaced)
    shared_folder.write_output(path, b"whole")
    assert files_of(tmp_path) == {"a.jpg": b"whole"}
    with pytest.raises(KptoolsError, match=r"cannot write .*/b.jpg: .*; make room there"):
        shared_folder.write_output(tmp_path / "gone" / "b.jpg", b"")


def test_policies_and_processes_of_this_machine_do_not_go_with_ray(quick, face, tmp_path):
    done = quick("augment", "--rotate", 5, "--ray", "local", stdin=[face()])
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--ray: without --write DIR there is no work to share" in done.stderr
    done = prepare("synth", "--jobs", 2, "--ray", "local", "--out", tmp_path / "f")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"--jobs: with --ray the cores of the cluster work" in done.stderr
    assert not (tmp_path / "f").exists()
