"""Fewer threads beside other processes, and all again when they have gone."""

import pytest
import torch
from conftest import parse, run

from kptools import runtime, thread_count
from kptools.thread_count import ThreadCount, Usage

CORES = 4


class Machine:
    """Four cores with a run of `threads` and neighbours that want `others` cores, second by
    second."""

    def __init__(self, monkeypatch):
        self.now = self.busy = self.own = self.waited = 0.0
        monkeypatch.setattr(thread_count.time, "monotonic", lambda: self.now)
        self.count = ThreadCount(CORES, self.usage)

    def usage(self):
        return Usage(self.now, CORES, self.busy, self.own, {"1": self.waited})

    def after(self, seconds, others, waiting=None):
        """The count after so many seconds beside others."""
        for _ in range(seconds):
            short = max(0.0, self.count.count + others - CORES)
            self.now += 1
            self.busy += min(CORES, self.count.count + others)
            self.own += self.count.count - short / 2
            self.waited += short if waiting is None else waiting
            self.count.update()
        return self.count.count


@pytest.fixture
def machine(monkeypatch):
    return Machine(monkeypatch)


def test_alone_it_has_all_cores(machine):
    assert machine.after(30, others=0) == CORES


def test_it_gives_way_to_those_that_want_a_core(machine):
    assert machine.after(3, others=1) == CORES - 1
    assert machine.after(20, others=1) == CORES - 1  # and stays there
    assert machine.after(5, others=3) == 1


def test_one_thread_is_the_least(machine):
    assert machine.after(10, others=9) == 1


def test_when_they_have_gone_it_takes_the_cores_again(machine):
    machine.after(5, others=2)
    assert machine.after(2, others=0) < CORES  # a pause of theirs is not their end
    assert machine.after(5, others=0) == CORES


def test_waits_without_neighbours_change_nothing(machine):
    assert machine.after(10, others=0, waiting=2.0) == CORES


def test_others_on_cores_to_spare_change_nothing(machine):
    assert machine.after(10, others=1, waiting=0.0) == CORES


def test_it_looks_no_more_often_than_it_must(machine):
    looks = []
    machine.count._usage = lambda: looks.append(1) or machine.usage()
    machine.now += 10
    for _ in range(1000):
        machine.count.update()
    assert len(looks) == 1


def test_where_the_system_says_nothing_it_is_as_it_was(monkeypatch, tmp_path):
    monkeypatch.setattr(thread_count, "_PROC", tmp_path)
    assert thread_count.usage() is None
    count = ThreadCount(CORES)
    monkeypatch.setattr(thread_count.time, "monotonic", lambda: 1e9)
    assert count.update() == CORES


def test_linux_says_who_is_busy():
    found = thread_count.usage()
    if found is None:
        pytest.skip("needs Linux's /proc")
    assert found.cores >= 1
    assert found.busy > found.own >= 0
    assert found.waited


def test_the_log_says_how_many_threads_the_steps_took(few, tmp_path):
    out = tmp_path / "n.safetensors"
    options = ("--arch", "nose", "--epochs", 1, "--threads", 1, "-o", out)
    done = run("train", *options, stdin=few)
    assert done.returncode == 0, done.stderr
    assert b'"threads":1.0}' in (tmp_path / "n.log.jsonl").read_bytes()
    assert b"other processes" not in done.stderr


class OneAfterTwo:
    """A count that gives way at the third step."""

    def __init__(self, most):
        self.most, self.count, self.asked = most, most, 0

    def update(self):
        self.asked += 1
        self.count = self.most if self.asked <= 2 else 1
        return self.count


def test_a_training_takes_as_many_threads_as_it_says_and_gives_them_back(
    few, tmp_path, monkeypatch, quick
):
    before = torch.get_num_threads()
    monkeypatch.setattr(runtime, "ThreadCount", OneAfterTwo)
    torch.set_num_threads(3)
    try:
        words = ("--arch", "nose", "--epochs", 1, "--input-size", "32x32", "--batch-size", 3)
        done = quick("train", *words, "-o", tmp_path / "n.safetensors", stdin=few)
        assert done.returncode == 0, done.stderr
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    (epoch,) = parse((tmp_path / "n.log.jsonl").read_bytes())
    assert epoch["threads"] == 2.0  # of four steps two had three
    assert b"fewer threads than 3" in done.stderr


def test_a_container_that_numbers_its_cores_anew_says_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(thread_count, "_PROC", tmp_path)
    (tmp_path / "self" / "task").mkdir(parents=True)
    (tmp_path / "stat").write_text("cpu 9 0 9 9 0 0 0 0 0 0\ncpu0 9 0 9 9 0 0 0 0 0 0\n")
    monkeypatch.setattr(thread_count.os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert thread_count.usage().cores == 1
    monkeypatch.setattr(thread_count.os, "sched_getaffinity", lambda pid: {1}, raising=False)
    assert thread_count.usage() is None
