"""What is measured, each in a process of its own: a job runs a graph, checks what came of it, and gives what it cost.

A job is given plain arguments and gives plain numbers (seconds for one node, bytes, counts).
"""

from __future__ import annotations

import contextlib
import cProfile
import gc
import io
import pstats
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cpgraph as cp
from bench import floors, programs
from bench.programs import Item

Numbers = dict[str, float]


def timed(graph: cp.Graph, data: Any, directory: str | None, **options: Any) -> tuple[cp.Run, float, float]:
    """Run a graph with its lines kept from the terminal; gives the run, and the seconds of wall and CPU that it took."""
    gc.collect()
    with contextlib.redirect_stderr(io.StringIO()):
        wall, cpu = time.perf_counter(), time.process_time()
        run = graph.run(data, dir=directory, **options)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert run.ok, run.failures
    return run, wall, cpu


def counted(run: cp.Run, ended: str) -> int:
    return sum(ends.get(ended, 0) for ends in run.counts.values())


# Cold, warm, one of many


def trivial(dir: str, records: int, computed: int, changed: int | None = None, executor: str = "threads") -> Numbers:
    """Run three steps over records. computed: how many nodes are to be computed, all others are cached."""
    data = programs.items(records, changed)
    nodes = 3 * records
    run, wall, cpu = timed(programs.trivial, data, dir, executor=executor)
    assert (counted(run, "computed"), counted(run, "cached")) == (computed, nodes - computed), run.counts
    for item in {0, records // 2, records - 1} | ({changed} if changed is not None else set()):
        assert run.value(programs.three, item) == programs.said(data[item].n)
    return {"wall": wall / nodes, "cpu": cpu / nodes, "computed": computed}


def warm_with_floor(dir: str, records: int) -> Numbers:
    """Run again what has run, beside its floor."""
    found = trivial(dir, records, 0)
    floor = floors.warm(Path(dir, "floor"), 3 * records)
    return {**found, "floor wall": floor["wall"], "floor cpu": floor["cpu"]}


def cold_with_floor(dir: str, records: int) -> Numbers:
    floor = floors.pool(3 * records)
    return {**trivial(dir, records, 3 * records), "floor wall": floor["wall"], "floor cpu": floor["cpu"]}


def queries(dir: str, records: int) -> Numbers:
    """Run three steps that ask the store, each once, beside three that do not."""
    nodes = 3 * records
    data = programs.items(records)
    run, wall, cpu = timed(programs.asking, data, f"{dir}/asking")
    assert counted(run, "computed") == nodes
    assert run.value(programs.three_asking, records - 1) == programs.said(records - 1)
    plain = trivial(f"{dir}/plain", records, nodes)
    return {"wall": wall / nodes, "cpu": cpu / nodes, "floor wall": plain["wall"], "floor cpu": plain["cpu"]}


# Calls that wait


def fan_out(dir: str, calls: int, width: int, kind: str) -> Numbers:
    graph, step = {
        "threads": (programs.waiting, programs.wait),
        "async": (programs.waiting_async, programs.wait_async),
    }[kind]
    run, wall, cpu = timed(graph, programs.items(calls), dir, concurrency=width)
    assert counted(run, "computed") == calls
    assert run.value(step, calls - 1) == calls - 1
    return {"wall": wall, "cpu": cpu, "floor wall": -(-calls // width) * programs.SLEEP}


# Sizes


def calls(dir: str, records: int, computed: int) -> Numbers:
    """Count the calls that Python makes for a node, built-in functions too, with everything in one thread."""
    data = programs.items(records)
    profile = cProfile.Profile()
    with contextlib.redirect_stderr(io.StringIO()):
        profile.enable()
        run = programs.trivial.run(data, dir=dir, executor="inline")
        profile.disable()
    assert counted(run, "computed") == computed
    stats: Any = pstats.Stats(profile)
    return {"calls": stats.total_calls / (3 * records)}


def disk(dir: str, records: int) -> Numbers:
    """Say what a run leaves on disk, and in how many transactions it was written."""
    run, _, _ = timed(programs.trivial, programs.items(records), dir)
    assert counted(run, "computed") == 3 * records
    files = [path for path in Path(dir).rglob("*") if path.is_file()]
    nodes = 3 * records
    commits = journal_commits(dir)
    return {"bytes": sum(path.stat().st_size for path in files) / nodes, "files": len(files), "commits": 1_000 * commits / nodes}


def journal_commits(dir: str) -> int:
    """How many transactions there were in a directory: it counts them itself."""
    from cpgraph.journal import Journal

    with Journal(dir, writable=False) as journal:
        return journal.generation


def memory(dir: str, records: int) -> Numbers:
    """Give the most memory that this process has taken so far."""
    trivial(dir, records, 3 * records)
    return {"bytes": peak()}


def peak() -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    import resource
    import sys

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


# Shapes


def guard(dir: str, records: int) -> Numbers:
    """Run records under a guard that counts those done, and closes when half of them are."""
    half = records // 2
    run, wall, cpu = timed(programs.guarded(half), programs.items(records), dir)
    done = run.store.count(Item, done=True)
    computed, closed = counted(run, "computed"), counted(run, "closed")
    assert (done, computed + closed) == (computed, records)
    assert half <= computed < half + 100, computed  # what was running when it closed came to its end
    return {"wall": wall / records, "cpu": cpu / records}


def loop(dir: str, records: int) -> Numbers:
    """Run a chain of records, each created by the one before."""
    run, wall, cpu = timed(programs.loop(records), programs.items(1), dir, params={"longest": records})
    assert counted(run, "computed") == run.store.count(Item) == records
    assert run.store.find(Item, records - 1).before == records - 2
    return {"wall": wall / records, "cpu": cpu / records}


def steps(dir: str, count: int, shape: str) -> Numbers:
    """Compile a graph of so many steps, and run it."""
    wall, cpu = time.perf_counter(), time.process_time()
    graph = programs.chain(count) if shape == "chain" else programs.wide(count)
    compiled, compiling = time.perf_counter() - wall, time.process_time() - cpu
    edges = sum(len(unit.bindings) for unit in graph.compiled.units)
    run, wall, cpu = timed(graph, None, dir)
    assert counted(run, "computed") == count
    assert run.value(f"s{count - 1}") == count - 1
    return {
        "wall": (wall + compiled) / count,
        "cpu": (cpu + compiling) / count,
        "compile": compiled,
        "edges": edges,
        "total": wall + compiled,
    }


JOBS: dict[str, Callable[..., Numbers]] = {
    job.__name__: job
    for job in (trivial, cold_with_floor, warm_with_floor, queries, fan_out, calls, disk, memory, guard, loop, steps)
}
