"""Promises 8 and 9: what was reported is on disk, and two runs may share a directory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

import cpgraph as cp
from cpgraph.executors import open_executor
from cpgraph.handout import Lane

SCRIPT = """
import os, sys
import cpgraph as cp

@cp.model
class Row:
    id: int
    twice: int | None = None

@cp.step(sets="twice")
def double(id: int) -> int:
    with open("calls", "a") as calls:
        print(id, file=calls)
    return id * 2

stream = cp.Stream()

@stream.on(cp.events.NodeEnded)
def reported(event):
    with open("reported", "a") as reported:
        print(event.record.id, event.ended, file=reported, flush=True)
    if os.path.exists("kill") and event.record.id == int(open("kill").read()):
        os.kill(os.getpid(), {signal})

graph = cp.Graph(cp.pipeline(double, each=Row))

if __name__ == "__main__":
    run = graph.run([Row(id=n) for n in range(400)], dir="kept", executor="inline", stream=stream)
    print(run.counts, sum(row["twice"] for row in run.data["Row"]))
"""


def lines(path: Path) -> list[str]:
    return path.read_text().split("\n")[:-1] if path.exists() else []


@pytest.mark.parametrize("at", [0, 150, 399])
def test_promise_8_what_was_reported_done_is_on_disk_after_a_kill(tmp_path: Path, at: int) -> None:
    """kill -9 when a node has just been reported: the next run repeats nothing that was, and needs no cleaning."""
    (tmp_path / "rows.py").write_text(SCRIPT.replace("{signal}", str(int(signal.SIGKILL))))
    (tmp_path / "kill").write_text(str(at))

    def go() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "rows.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120)

    assert go().returncode == -signal.SIGKILL
    reported = {line.split()[0] for line in lines(tmp_path / "reported")}
    assert str(at) in reported
    os.remove(tmp_path / "kill")
    os.remove(tmp_path / "calls")
    second = go()
    assert second.returncode == 0, second.stderr
    assert second.stdout.endswith(f"{sum(2 * n for n in range(400))}\n")
    assert not reported & set(lines(tmp_path / "calls"))


@cp.model
class Row:
    id: int
    state: str = "new"


def test_promise_9_two_runs_share_a_directory(tmp_path: Path) -> None:
    """Two runs of one graph at the same time: neither waits for the other's steps, and each has its own records."""
    meet = threading.Barrier(2, timeout=60)

    def work(record: Row) -> Any:
        if record.id in (0, 100):
            meet.wait()
        return cp.update(state=f"done {record.id}")

    graph = cp.Graph(cp.pipeline(work, each=Row), name="shared")
    found: dict[int, cp.Run] = {}

    def go(first: int) -> None:
        found[first] = graph.run([Row(id=n) for n in range(first, first + 50)], dir=tmp_path)

    threads = [threading.Thread(target=go, args=(first,)) for first in (0, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for first, run in found.items():
        assert run.counts == {"work": {"computed": 50}}
        assert run.data == {"Row": [{"id": n, "state": f"done {n}"} for n in range(first, first + 50)]}
    numbers = [version.number for run in found.values() for version in run.history[1:]]
    assert sorted(numbers) == list(range(1, 101))
    assert [run.status for run in cp.runs(tmp_path)] == ["ok", "ok"]


def test_promise_15_little_is_handed_ahead_to_executors_of_others() -> None:
    """They take calls in order: what they are given goes before a record that could go on. Only quick calls go many together."""
    with ThreadPoolExecutor(4) as pool:
        lane = Lane(open_executor(pool, 4, SimpleQueue()))
        assert lane.ahead == 8
        for _ in range(200):
            lane.took(1e-6)
        assert lane.ahead == 256
        lane.took(60.0)
        assert lane.ahead == 8
