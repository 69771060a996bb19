"""Fewer threads beside other processes, and all again when they have gone."""

import pytest
from conftest import run

from kptools import neighbours
from kptools.neighbours import ThreadCount, Usage

CORES = 4


class Machine:
    """Four cores with a run of `threads` and neighbours that want `others` cores, second by
    second."""

    def __init__(self, monkeypatch):
        self.now = self.busy = self.own = self.waited = 0.0
        monkeypatch.setattr(neighbours.time, "monotonic", lambda: self.now)
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
    monkeypatch.setattr(neighbours, "_PROC", tmp_path)
    assert neighbours.usage() is None
    count = ThreadCount(CORES)
    monkeypatch.setattr(neighbours.time, "monotonic", lambda: 1e9)
    assert count.update() == CORES


def test_linux_says_who_is_busy():
    found = neighbours.usage()
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
