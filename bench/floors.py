"""What the same could cost at the least with the standard library: measured beside each figure, in the same round."""

from __future__ import annotations

import pickle
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path

THREADS = 16
VALUE = {"a": 1, "b": "two", "c": 3.0}


def pool(tasks: int) -> dict[str, float]:
    """Hand tasks that do nothing to a pool of threads, one by one, and take all results."""
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(int, range(THREADS)))  # all of them are started
        wall, cpu = time.perf_counter(), time.process_time()
        found = [future.result() for future in [threads.submit(abs, task) for task in range(tasks)]]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    assert found == list(range(tasks))
    return {"wall": wall / tasks, "cpu": cpu / tasks}


def warm(directory: Path, nodes: int) -> dict[str, float]:
    """Find stored values by the digest of their pickled inputs: one statement for all, then load each."""

    def key(node: int) -> bytes:
        return blake2b(pickle.dumps(("step", node, "code")), digest_size=16).digest()

    directory.mkdir(parents=True)
    path = directory / "floor.sqlite"
    blob = pickle.dumps(VALUE)
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("CREATE TABLE results (key BLOB PRIMARY KEY, value BLOB) WITHOUT ROWID")
    connection.executemany("INSERT INTO results VALUES (?, ?)", ((key(node), blob) for node in range(nodes)))
    connection.commit()
    connection.close()

    wall, cpu = time.perf_counter(), time.process_time()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TEMP TABLE asked (key BLOB PRIMARY KEY) WITHOUT ROWID")
    connection.executemany("INSERT INTO asked VALUES (?)", ((key(node),) for node in range(nodes)))
    found = [pickle.loads(value) for (value,) in connection.execute("SELECT value FROM asked JOIN results USING (key)")]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    connection.close()
    assert len(found) == nodes
    assert found[0] == VALUE
    return {"wall": wall / nodes, "cpu": cpu / nodes}
