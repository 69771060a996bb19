"""Files that are compressed by name: read and written as plain ones are, and never cut off in
silence."""

import bz2
import gzip
import os
import subprocess
import sys
import threading

import orjson
import pytest
from conftest import lines, module, parse, run, shell, start, untrained, wait_for

import kptools as kp
from kptools.errors import KptoolsError

zstandard = pytest.importorskip("zstandard", reason="needs zstandard: pip install zstandard")
AUGMENT = ("augment", "--rotate", 5)


def zstd(data):
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


def unzstd(data):
    return zstandard.ZstdDecompressor().decompressobj().decompress(data)


PACK = {"gz": gzip.compress, "zst": zstd}
UNPACK = {"gz": gzip.decompress, "zst": unzstd}


@pytest.fixture(params=PACK)
def suffix(request):
    return request.param


def many(face, count=40):
    """Records that do not compress to nothing."""
    one = face(0)
    return [one | {"id": f"f{i}", "noise": os.urandom(100).hex()} for i in range(count)]


def test_a_compressed_file_is_read_as_what_it_holds(face, tmp_path, suffix, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records = [face(i) | {"pred": face(i)["points"]} for i in range(4)]
    data = lines(records) + b"broken\n"
    (tmp_path / "p.jsonl").write_bytes(data)
    packed = tmp_path / f"p.jsonl.{suffix}"
    packed.write_bytes(PACK[suffix](data))
    untrained(tmp_path / "m.safetensors")
    for words in (AUGMENT, ("predict", "m.safetensors"), ("eval",)):
        plain = quick(*words, "p.jsonl")
        done = quick(*words, packed.name)
        assert done.returncode == plain.returncode == 1
        expected = plain.stdout.replace(b"p.jsonl:5", packed.name.encode() + b":5")
        assert done.stdout == expected
        assert f"{packed.name}:5: ".encode() in done.stderr


def test_training_and_pictures_read_compressed_files(face, tmp_path):
    records = [face(i) | {"pred": face(i)["points"]} for i in range(4)]
    (tmp_path / "p.jsonl.gz").write_bytes(gzip.compress(lines(records)))
    train = ("train", "--arch", "nose", "--epochs", 1, "--val", "p.jsonl.gz", "-o", "t.safetensors")
    for words in (train, ("viz", "ced", "-o", "c.png")):
        done = run(*words, "p.jsonl.gz", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(parse(done.stdout)) == 4


def test_several_members_are_read_as_one_file(face, tmp_path, suffix):
    records = many(face)
    packed = b"".join(PACK[suffix](lines([record])) for record in records[:20])
    packed += PACK[suffix](b"") + PACK[suffix](lines(records[20:]))
    (tmp_path / f"p.{suffix}").write_bytes(packed)
    assert list(kp.read_records(tmp_path / f"p.{suffix}")) == records


def test_a_file_that_was_cut_off_anywhere_is_an_error_that_names_it(
    face, tmp_path, suffix, quick, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    whole = PACK[suffix](lines(many(face)))
    name = f"p.jsonl.{suffix}"
    for size in (0, 1, 3, 12, len(whole) // 2, len(whole) - 9, len(whole) - 1):
        (tmp_path / name).write_bytes(whole[:size])
        done = quick(*AUGMENT, "-o", "o.jsonl", name)
        assert done.returncode == 3, size
        assert f"{name} was cut off".encode() in done.stderr
        assert not (tmp_path / "o.jsonl").exists()


def test_a_damaged_file_is_an_error_that_names_it(face, tmp_path, suffix, quick, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = lines(many(face))
    whole = PACK[suffix](data)
    name = f"p.jsonl.{suffix}"
    wrong = {place: bytearray(whole) for place in (0, len(whole) // 3, len(whole) - 2)}
    for place, copy in wrong.items():
        copy[place] ^= 0x55
    for damaged in (*wrong.values(), whole + b"more", data, bz2.compress(data)):
        (tmp_path / name).write_bytes(damaged)
        done = quick(*AUGMENT, name)
        assert done.returncode == 3
        assert f"{name} is damaged, or not".encode() in done.stderr or b"cut off" in done.stderr
        assert b"Traceback" not in done.stderr


def test_an_output_is_compressed_where_its_name_says_so(face, tmp_path, suffix):
    records = many(face)
    name = f"o.jsonl.{suffix}"
    done = run(*AUGMENT, "-o", name, stdin=records, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    packed = (tmp_path / name).read_bytes()
    assert UNPACK[suffix](packed) == run(*AUGMENT, stdin=records).stdout
    assert not (tmp_path / f"{name}.part").exists()
    again = run(*AUGMENT, "-o", name, stdin=records, cwd=tmp_path)
    assert again.returncode == 0
    assert (tmp_path / name).read_bytes() == packed  # the same bytes


def test_no_records_make_a_compressed_file_that_holds_none(tmp_path, suffix):
    name = f"o.jsonl.{suffix}"
    assert run(*AUGMENT, "-o", name, cwd=tmp_path).returncode == 0
    assert UNPACK[suffix]((tmp_path / name).read_bytes()) == b""
    done = run(*AUGMENT, name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, b"")
    assert b"the input is empty" in done.stderr


@pytest.mark.parametrize("copies", [1, 3])
def test_resume_goes_on_with_a_compressed_part_wherever_it_ends(
    face, tmp_path, quick, monkeypatch, suffix, copies
):
    monkeypatch.chdir(tmp_path)
    data = lines(many(face, 3)) + b"broken\n" + lines(many(face, 5))
    name = f"o.jsonl.{suffix}"
    words = [*AUGMENT, "--copies", copies, "-o", name]
    quick(*words, stdin=data)
    whole = (tmp_path / name).read_bytes()
    plain = UNPACK[suffix](whole)
    for cut in (1, 5, len(whole) // 3, len(whole) // 2, len(whole) - 1, len(whole)):
        (tmp_path / name).unlink()
        (tmp_path / f"{name}.part").write_bytes(whole[:cut])
        done = quick(*words, "--resume", stdin=data)
        assert done.returncode == 1, done.stderr
        assert UNPACK[suffix]((tmp_path / name).read_bytes()) == plain
    done = quick(*words, "--resume", stdin=data + lines(many(face, 1)))  # a finished one
    assert done.returncode == 1, done.stderr
    assert b"9 records were there" in done.stderr
    added = UNPACK[suffix]((tmp_path / name).read_bytes())
    assert added.startswith(plain)
    assert added.count(b"\n") == plain.count(b"\n") + copies


def kill_after_two(face, folder, name):
    """Kill a kp-augment that has written two records and waits for the next; its part."""
    process = start(*AUGMENT, "-o", name, cwd=folder)
    process.stdin.write(lines([face(0), face(1)]))
    process.stdin.flush()
    part = folder / f"{name}.part"
    wait_for(part, process)
    while part.stat().st_size < 50:  # flushed before the wait for the next record
        assert process.poll() is None
    process.kill()
    process.communicate()
    return part


def test_what_a_killed_process_compressed_is_not_lost(face, tmp_path, suffix):
    name = f"w.jsonl.{suffix}"
    kill_after_two(face, tmp_path, name)
    done = run(*AUGMENT, "-o", name, "--resume", stdin=[face(i) for i in range(4)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert b"2 records were there" in done.stderr
    assert len(parse(UNPACK[suffix]((tmp_path / name).read_bytes()))) == 4


def test_a_resume_that_was_killed_itself_keeps_what_was_there(face, tmp_path, suffix):
    """Killed between the moment at which the part is empty and that at which it is whole again."""
    name = f"w.jsonl.{suffix}"
    part = kill_after_two(face, tmp_path, name)
    kept = tmp_path / f"{name}.part.kept"
    kept.write_bytes(lines([{**face(i), "mine": i} for i in range(2)]))
    part.write_bytes(b"")
    done = run(*AUGMENT, "-o", name, "--resume", stdin=[face(i) for i in range(3)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = parse(UNPACK[suffix]((tmp_path / name).read_bytes()))
    assert [r.get("mine") for r in found] == [0, 1, None]
    assert not kept.exists()


def test_zeros_behind_the_data_are_no_damage(face, tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(PACK[suffix](lines([face(0)])) + bytes(512))
    done = run(*AUGMENT, f"a.{suffix}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(parse(done.stdout)) == 1


def test_a_record_comes_from_a_compressed_pipe_and_leaves_before_the_next(face, tmp_path, suffix):
    os.mkfifo(tmp_path / f"in.{suffix}")
    process = subprocess.Popen(
        [sys.executable, "-m", "kptools.cli.augment", "--rotate", "5", f"in.{suffix}"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
    )
    late = threading.Timer(60, process.kill)
    late.start()
    with open(tmp_path / f"in.{suffix}", "wb", buffering=0) as handle:
        for i in range(3):
            handle.write(PACK[suffix](lines([face(i)])))
            assert orjson.loads(process.stdout.readline())["id"] == f"face{i}"
    assert process.wait(timeout=30) == 0
    late.cancel()


def test_a_compressed_output_to_a_pipe_leaves_record_by_record(face, tmp_path):
    os.mkfifo(tmp_path / "out.gz")
    process = start(*AUGMENT, "-o", "out.gz", cwd=tmp_path)
    late = threading.Timer(60, process.kill)
    late.start()
    pipe = open(tmp_path / "out.gz", "rb", buffering=0)  # noqa: SIM115
    with pipe, gzip.GzipFile(fileobj=pipe) as handle:
        for i in range(3):
            process.stdin.write(lines([face(i)]))
            process.stdin.flush()
            assert orjson.loads(handle.readline())["id"] == f"face{i}"
        process.stdin.close()
        assert handle.readline() == b""
    assert process.wait(timeout=30) == 0
    late.cancel()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_and_a_reader_that_goes_away_have_their_status(face, tmp_path, suffix):
    (tmp_path / f"full.{suffix}").symlink_to("/dev/full")
    done = run(*AUGMENT, "-o", f"full.{suffix}", stdin=[face(0)], cwd=tmp_path)
    assert done.returncode == 3
    assert b"No space left" in done.stderr.splitlines()[-1]
    (tmp_path / f"in.{suffix}").write_bytes(PACK[suffix](lines(many(face, 5000))))
    done = shell(f"{module('augment')} --rotate 5 in.{suffix} | head -1", tmp_path)
    assert done.returncode == 141
    assert done.stderr == b""


def test_what_is_compressed_by_no_name_is_called_so(face, tmp_path, suffix):
    done = run(*AUGMENT, stdin=PACK[suffix](lines([face(0)])))
    assert done.returncode == 3
    assert f"only a FILE that ends in .{suffix} is read as such".encode() in done.stderr


def test_zst_without_its_package_says_what_to_install(face, tmp_path):
    code = (
        "import sys; sys.modules['zstandard'] = None; sys.argv = ['kp-augment', *sys.argv[1:]]\n"
        "from kptools.cli.augment import main; main()\n"
    )
    (tmp_path / "in.zst").write_bytes(zstd(lines([face(0)])))
    for words in (["in.zst"], ["-o", "out.zst"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *words], input=b"", capture_output=True, cwd=tmp_path
        )
        assert done.returncode == 3
        assert b"pip install zstandard" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_python_reads_and_writes_them(face, tmp_path, suffix):
    path = tmp_path / f"r.jsonl.{suffix}"
    records = many(face)
    kp.write_records(records, path)
    assert UNPACK[suffix](path.read_bytes()) == lines(records)
    assert list(kp.read_records(path)) == records
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(KptoolsError, match="cut off"):
        list(kp.read_records(path))
