"""The runs of a directory and what each committed, in numbered batches.

A batch's id is made of its run and its place in it. So a run's batches stand together in the file without an index, and one that
is missing leaves a gap that shows.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from cpgraph.database import Database, checksum
from cpgraph.locks import Live

__all__ = ["Batch", "RunLog", "RunRow"]

SEQUENCE: Final = 32  # bits of a batch's id that count within its run


class RunRow(NamedTuple):
    """A run; `ended`, `status` and `end_meta` are None if it was killed or still goes on, and `alive` tells which."""

    number: int
    graph: str
    started: float
    meta: bytes | None
    ended: float | None
    status: str | None
    end_meta: bytes | None
    alive: bool


class Batch(NamedTuple):
    """What was committed together; `body` is None if it is damaged."""

    first_version: int
    versions: int
    time: float
    body: bytes | None


class RunLog:
    """Reads and writes the rows of runs and batches."""

    def __init__(self, db: Database, live: Live, on_damage: Callable[[str], None]) -> None:
        self._db = db
        self._live = live
        self._on_damage = on_damage

    def begin(self, db: sqlite3.Connection, number: int, graph: str, meta: bytes) -> None:
        """Note in a transaction that a run has begun."""
        row = number, graph, time.time(), meta
        db.execute("INSERT INTO runs (number, graph, started, meta, sum) VALUES (?, ?, ?, ?, ?)", (*row, checksum(*row)))

    def end(self, db: sqlite3.Connection, run: int, status: str, batches: int, meta: bytes) -> None:
        """Note in a transaction that a run has ended."""
        row = time.time(), status, batches, meta
        sql = "UPDATE runs SET ended = ?, status = ?, batches = ?, end_meta = ?, end_sum = ? WHERE number = ?"
        db.execute(sql, (*row, checksum(run, *row), run))

    def goes_on(self) -> bool:
        """Tell whether any run goes on."""
        return any(number in self._live for (number,) in self._db.rows("SELECT number FROM runs WHERE end_sum IS NULL"))

    def write(self, db: sqlite3.Connection, batches: Sequence[tuple[int, int, bytes]], sequences: dict[int, int]) -> list[int]:
        """Write batches (run, versions, body) in a transaction; counts on in `sequences`, and gives each its first version."""
        firsts: list[int] = []
        if batches:
            now, first = time.time(), self._db.take("version", sum(versions for _, versions, _ in batches))
            for run, versions, body in batches:
                id = (run << SEQUENCE) + sequences[run]
                total = checksum(id, first, versions, now, body)
                db.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)", (id, first, versions, now, total, body))
                sequences[run] += 1
                firsts.append(first)
                first += versions
        return firsts

    def runs(self, graph: str | None = None) -> list[RunRow]:
        """List the runs of the directory, or of one graph, oldest first."""
        sql = "SELECT number, graph, started, meta, sum, ended, status, batches, end_meta, end_sum FROM runs ORDER BY number"
        found = []
        rows = self._db.rows(sql)
        for number, name, started, meta, total, ended, status, batches, end_meta, end_total in rows:
            if checksum(number, name, started, meta) != total:
                self._on_damage(f"run {number} does not agree with its checksum")
                name, started, meta = str(name), started if isinstance(started, float) else 0.0, None
            alive = end_total is None and number in self._live
            if end_total is None or checksum(number, ended, status, batches, end_meta) != end_total:
                if end_total is not None:
                    self._on_damage(f"the end of run {number} does not agree with its checksum")
                ended = status = end_meta = None
            if graph is None or name == graph:
                found.append(RunRow(number, name, started, meta, ended, status, end_meta, alive))
        return found

    def batches(self, run: int) -> Iterator[Batch]:
        """Read what a run committed, in order; a batch that is damaged or missing is reported and comes without body."""
        first = run << SEQUENCE
        last = self._db.rows("SELECT max(id) FROM batches WHERE id >= ? AND id < ?", (first, first + (1 << SEQUENCE)))[0][0]
        said = self._db.rows("SELECT batches FROM runs WHERE number = ?", (run,))
        count = max(0 if last is None else last - first + 1, said[0][0] if said and isinstance(said[0][0], int) else 0)
        for id in range(first, first + count):
            rows = self._db.rows_for("SELECT first, versions, time, body, sum FROM batches WHERE id IN ({keys})", [id])
            number, versions, when, body, total = rows[0] if rows else (0, 0, 0.0, None, None)
            if checksum(id, number, versions, when, body) == total:
                yield Batch(number, versions, when, body)
                continue
            self._on_damage(f"batch {id - first} of run {run} " + ("does not agree with its checksum" if rows else "is missing"))
            whole = isinstance(number, int) and isinstance(versions, int) and isinstance(when, float)
            yield Batch(number, versions, when, None) if whole else Batch(0, 0, 0.0, None)

    def delete(self, runs: Iterable[int]) -> list[int]:
        """Delete runs with their batches, and say which; those that still go on are left."""
        with self._db.transaction("delete runs") as db:
            gone = [run for run in runs if run not in self._live]
            for run in gone:
                db.execute("DELETE FROM batches WHERE id >= ? AND id < ?", (run << SEQUENCE, (run + 1) << SEQUENCE))
                db.execute("DELETE FROM runs WHERE number = ?", (run,))
        return gone

    def strip(self, run: int, meta: bytes) -> None:
        """Delete what a run committed, and leave its meta to those whose results it made: a run of no graph."""
        with self._db.transaction("clean up") as db:
            sql = "SELECT started, ended, status, batches, end_meta, end_sum FROM runs WHERE number = ?"
            row = db.execute(sql, (run,)).fetchone()
            if row is None:
                return
            started, ended, status, batches, end_meta, total = row
            if total is not None and checksum(run, ended, status, batches, end_meta) == total:  # else it stays damaged
                total = checksum(run, ended, status, 0, end_meta)
            db.execute("DELETE FROM batches WHERE id >= ? AND id < ?", (run << SEQUENCE, (run + 1) << SEQUENCE))
            sql = "UPDATE runs SET graph = '', meta = ?, sum = ?, batches = 0, end_sum = ? WHERE number = ?"
            db.execute(sql, (meta, checksum(run, "", started, meta), total, run))
