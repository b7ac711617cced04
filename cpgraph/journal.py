"""What is remembered of runs: one SQLite file, and large values as files beside it.

Everything that must outlive the process goes through `Journal`. What it stores are opaque bytes; it adds a checksum to each row
and compares it before it hands anything out: what does not agree is reported and left out.

    journal.sqlite   results, blobs, runs, batches, and counters that number them
    values/ab/<hex>  bodies above `LARGE`, by the digest of their content
    live/<run>       locked as long as the run goes on, by the system, so that a killed run leaves nothing to clean
    generation       how many commits there were, to notice when the last ones have got lost

The order of writing is what makes a kill at any moment harmless: first the files (`disk`), then the transaction that names them.
Rows are written when `commit` is called, ids of results are given before that: they come from blocks that are reserved in the
file, so that two processes never give the same one.

Keys are digests, so each new one would land on another page of a large index. They go into a small table first (`fresh`), which
is merged into the large one (`keys`) when it has grown to a part of it: a thousand new keys then cost nearly the same among ten
thousand and among a million. Both hold a key's first bytes only; the row itself has all of it.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Container, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from typing import Any, Final, NamedTuple

from cpgraph import disk
from cpgraph.database import PREFIX, Database
from cpgraph.directory import Directory
from cpgraph.disk import Bodies, digest_of, telling
from cpgraph.locks import Live
from cpgraph.runlog import Batch, RunLog, RunRow
from cpgraph.upkeep import Freed, collect

__all__ = ["Batch", "Freed", "Journal", "Row", "RunRow"]

INLINE: Final = 4096  # bytes; a longer value has a body of its own, loaded when it is asked for
LARGE: Final = 256 * 1024  # bytes; a longer body is a file
BLOCK: Final = 8192  # ids reserved at once
MERGE: Final = 8192, 16  # fresh keys are merged when there are so many, and a 16th of all

COLUMNS: Final = "SELECT key, id, head, value, ref, sum FROM results WHERE id IN"
BY_ID: Final = f"{COLUMNS} ({{keys}})"
BY_KEY: Final = f"""
WITH asked(it) AS MATERIALIZED ({{keys}}) {COLUMNS}
(SELECT id FROM asked CROSS JOIN fresh ON prefix = it UNION ALL SELECT id FROM asked CROSS JOIN keys ON prefix = it)"""

Result = tuple[bytes | None, bytes, bytes | None, bytes | None]  # key, head, value, digest of its body


class Row(NamedTuple):
    """A result. `value` is None if there is none, or if it is `large`: then ask `Journal.value`."""

    id: int
    head: bytes
    value: bytes | None
    large: bool


def _ignore(path: str, what: str) -> None:
    pass


class Journal:
    """The only class that touches the disk for a run; with `directory=None` the same over a database in memory.

    One thread writes; any thread may ask for `value` and `blob`. A reader (`writable=False`) writes nothing and creates nothing;
    where nothing has run yet it is `empty`. What is damaged is told to `on_damage(path, what)`, in the thread that found it.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None, *, writable: bool = True, on_damage: Callable[[str, str], None] = _ignore
    ) -> None:
        self._closed = True  # until all is open
        self._process = os.getpid()
        self._on_damage = on_damage
        self.writable = writable
        self.damaged = 0
        home = None if directory is None else Directory(directory)
        self.directory = None if home is None else home.path
        self.path = ":memory:" if home is None else str(home.journal)
        self.empty = home is not None and not home.open(writable)
        self._home = None if self.empty else home
        self._bodies = Bodies(self._home.values) if self._home else None
        self._live = Live(self._home.live if self._home else None)
        witnessed = self._home.witnessed() if self._home else 0  # before the journal is looked at, which others may be writing
        self._db = Database(self.path if self._home else None, writable, self._damage)
        self._log = RunLog(self._db, self._live, self._damage)
        self.runs, self.batches = self._log.runs, self._log.batches
        self.delete, self.strip = self._log.delete, self._log.strip
        self._lock = self._db.lock
        # What has been added and not committed, and which ids may be given
        self._results: dict[int, Result] = {}
        self._keys: dict[bytes, tuple[int, ...]] = {}
        self._blobs: dict[bytes, bytes] = {}
        self._doubted: set[bytes] = set()  # of bodies that were found damaged: when they are put again, they are written anew
        self._batches: list[tuple[int, int, bytes]] = []
        self._sequences: dict[int, int] = {}
        self._ids: Iterator[int] = iter(())
        self._left = 0
        self._fresh = -1  # keys not merged yet; not known before the first commit
        self._firsts: list[int] = []
        self._closed = False
        try:
            if witnessed > self.generation:
                self._damage(f"the last {witnessed - self.generation} commits are missing")
        except BaseException:
            self.close()
            raise

    # Results

    def put(self, key: bytes | None, head: bytes, value: bytes | None) -> int:
        """Add a result and give its id at once; it is on disk after the next `commit`."""
        id = next(self._ids, 0) or self._reserved()
        ref = None
        if value is not None and len(value) > INLINE:
            ref, value = self.put_blob(value), None
        self._results[id] = key, head, value, ref
        if key is not None:
            self._keys[key] = (*self._keys[key], id) if key in self._keys else (id,)
        return id

    def find(self, keys: Sequence[bytes]) -> dict[bytes, list[Row]]:
        """Look up the results of many keys, newest first, also those not committed yet; keys without any are left out."""
        asked = set(keys)
        found: dict[bytes, list[Row]] = {}
        several = False
        for key, row in self._sound(self._db.rows_for(BY_KEY, list({int.from_bytes(key[:PREFIX]) for key in asked}))):
            if key in asked:  # else another key that begins alike
                if key in found:
                    found[key].append(row)
                    several = True
                else:
                    found[key] = [row]
        if self._keys:
            for key in asked & self._keys.keys():
                found.setdefault(key, []).extend(self._new_row(id) for id in self._keys[key])
                several = True
        if several:
            for rows in found.values():
                rows.sort(reverse=True)
        return found

    def rows(self, ids: Sequence[int]) -> dict[int, Row]:
        """Look up results by id; what is missing or damaged is left out."""
        found = {id: self._new_row(id) for id in ids if id in self._results} if self._results else {}
        asked = [id for id in ids if id not in found] if found else ids
        found.update((row.id, row) for _, row in self._sound(self._db.rows_for(BY_ID, asked)))
        return found

    def value(self, id: int) -> bytes | None:
        """Load the value of a result, large or not; None if it has none, or if it is missing or damaged, which is reported."""
        row = self._results.get(id)
        if row is None:
            rows = self._db.rows_for(BY_ID, [id])
            if not rows:
                self._damage(f"result {id} is missing")
            if not list(self._sound(rows)):
                return None
            row = rows[0][0], *rows[0][2:5]
        return row[2] if row[3] is None else self.blob(row[3])

    def _new_row(self, id: int) -> Row:
        _, head, value, ref = self._results[id]
        return Row(id, head, value, ref is not None)

    def _sound(self, rows: list[Any]) -> Iterator[tuple[bytes, Row]]:
        """Take those rows that agree with their checksums. This is paid for each row: one call, and no other."""
        make = tuple.__new__
        for key, id, head, value, ref, total in rows:
            try:
                if value is None or key is None or ref is not None:
                    agrees = _sum(id, key, head, value, ref) == total
                else:
                    agrees = blake2b(b"%d 3 " % id + key + head + value, digest_size=8).digest() == total
            except TypeError:  # a damaged row may have anything anywhere
                agrees = False
            if agrees:
                yield key, make(Row, (id, head, value, ref is not None))
            else:
                self._damage(f"result {id} does not agree with its checksum")

    # Bodies by content

    def put_blob(self, body: bytes) -> bytes:
        """Keep bytes under the digest of their content, once."""
        digest = digest_of(body)
        if self._bodies is None or len(body) <= LARGE:
            self._blobs[digest] = body
        else:
            self._db.need_writable()
            with telling("write a value", self._bodies.path(digest)):
                self._bodies.put(digest, body, anew=digest in self._doubted)
        return digest

    def blob(self, digest: bytes) -> bytes | None:
        """Give back what `put_blob` kept; None if it is missing or damaged, which is reported."""
        if (new := self._blobs.get(digest)) is not None:
            return new
        rows = self._db.rows_for("SELECT body FROM blobs WHERE digest IN ({keys})", [digest])
        path = self.path if rows or self._bodies is None else str(self._bodies.path(digest))
        body: Any = rows[0][0] if rows else self._read_body(digest, path)
        if body is None:
            return None
        if isinstance(body, bytes) and digest_of(body) == digest:
            return body
        self._doubted.add(digest)
        self._damage(f"value {digest.hex()} does not agree with its digest", path)
        return None

    def _read_body(self, digest: bytes, path: str) -> bytes | None:
        try:
            if self._bodies is not None:
                return self._bodies.read(digest)
            reason = "it is missing"
        except OSError as error:
            if error.errno not in disk.GONE:
                raise disk.told(error, "read a value", path) from error
            reason = str(error.strerror)
        self._damage(f"value {digest.hex()} cannot be read: {reason}", path)
        return None

    # Runs

    def begin(self, graph: str, meta: bytes) -> int:
        """Begin a run, committed at once; numbers go on through the directory."""
        number = 0
        try:
            with self._writing("begin a run") as db:
                number = self._db.take("run")
                self._live.hold(number)
                self._log.begin(db, number, graph, meta)
        except BaseException:
            self._live.let_go(number)
            raise
        self._sequences[number] = 0
        return number

    def append(self, run: int, body: bytes, versions: int) -> None:
        """Add a batch that takes so many version numbers to a run; it is on disk after the next `commit`."""
        self._batches.append((run, versions, body))

    def commit(self) -> list[int]:
        """Put on disk all that was added, in one transaction; gives the first version number of every batch."""
        if not (self._results or self._batches or self._blobs):
            return []
        with self._writing("commit"):
            pass
        return self._firsts

    def end(self, run: int, status: str, meta: bytes) -> None:
        """End a run with what was added to it before, committed at once."""
        with self._writing("end a run") as db:
            batches = self._sequences[run] + sum(1 for of, _, _ in self._batches if of == run)
            self._log.end(db, run, status, batches, meta)
        self._live.let_go(run)

    @property
    def generation(self) -> int:
        """Give a number that grows with every commit of any process."""
        rows = self._db.rows("SELECT next FROM counters WHERE name = 'generation'")
        return int(rows[0][0]) - 1 if rows else 0

    @property
    def network(self) -> str | None:
        """Give the type of the network's file system the directory is on, where locks cannot be relied on; None: it is local."""
        return None if self.directory is None else disk.network_file_system(self.directory)

    # Cleaning up

    def gc(self, keep_results: Container[int], keep_blobs: Container[bytes], generation: int) -> Freed:
        """Remove results and blobs that are not to be kept, and files that nobody names.

        `generation` is that of before the caller looked what is to be kept. Nothing is removed while a run goes on, or once
        something has been written since: what is `held` then is for the next time.
        """
        return collect(self._db, self._bodies, keep_results, keep_blobs, lambda: self._is_held(generation))

    def _is_held(self, generation: int) -> bool:
        return self.generation != generation or self._log.goes_on()

    def check(self) -> int:
        """Read everything there is and report what is damaged; gives the count."""
        before = self.damaged
        for (line,) in self._db.rows("PRAGMA integrity_check(20)"):
            if line != "ok":
                self._damage(line)
        last = 0
        while ids := [id for (id,) in self._db.rows("SELECT id FROM results WHERE id > ? ORDER BY id LIMIT 500", (last,))]:
            if ids != sorted({*ids}) or ids[0] <= last:
                self._damage("the results are not in order")
                break
            last = ids[-1]
            for row in self.rows(ids).values():
                if row.large:
                    self.value(row.id)
        for (digest,) in self._db.rows("SELECT digest FROM blobs"):
            self.blob(digest)
        for run in self.runs():
            for _ in self.batches(run.number):
                pass
        return self.damaged - before

    def size(self) -> int:
        """Give the bytes on disk."""
        return self._db.size() + (self._bodies.size() if self._bodies is not None else 0)

    # Writing

    @contextlib.contextmanager
    def _writing(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Commit what was added, and what the block writes."""
        if self._bodies is not None:
            with telling(doing, self._bodies.directory):
                self._bodies.sync()
        with self._lock:
            with self._db.transaction(doing) as db:
                yield db
                sequences = dict(self._sequences)
                firsts = self._log.write(db, self._batches, sequences)
                again = [(self._blobs[digest], digest) for digest in self._doubted & self._blobs.keys()]
                db.executemany("UPDATE blobs SET body = ? WHERE digest = ?", again)
                db.executemany("INSERT OR IGNORE INTO blobs (digest, body) VALUES (?, ?)", self._blobs.items())
                fresh = self._write_results(db)
                ids = self._reserve() if self._left - len(self._results) < BLOCK // 2 else range(0)
                generation = self._db.take("generation")
            self._left += len(ids) - len(self._results)
            self._ids = chain(self._ids, ids) if ids else self._ids
            self._sequences, self._firsts, self._fresh = sequences, firsts, fresh
            # New ones, not cleared: other threads may be looking at these
            self._results, self._keys, self._blobs, self._batches = {}, {}, {}, []
            if self._home is not None:
                self._home.testify(generation)

    def _write_results(self, db: sqlite3.Connection) -> int:
        rows = []
        for id, (key, head, value, ref) in self._results.items():
            if key is None or value is None:
                total = _sum(id, key, head, value, ref)
            else:  # as `_sound` does
                total = blake2b(b"%d 3 " % id + key + head + value, digest_size=8).digest()
            rows.append((id, key, head, value, ref, total))
        db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?)", rows)
        prefixes = sorted([(int.from_bytes(key[:PREFIX]), id) for key, ids in self._keys.items() for id in ids])
        db.executemany("INSERT INTO fresh VALUES (?, ?)", prefixes)
        fresh = self._fresh if self._fresh >= 0 else db.execute("SELECT count(*) FROM fresh").fetchone()[0]
        fresh += len(prefixes)
        if fresh >= MERGE[0] and fresh * MERGE[1] >= (db.execute("SELECT max(id) FROM results").fetchone()[0] or 0):
            db.execute("INSERT INTO keys SELECT prefix, id FROM fresh ORDER BY prefix, id")
            db.execute("DELETE FROM fresh")
            fresh = 0
        return fresh

    def _reserved(self) -> int:
        """Reserve a block of ids at once, as none is left, and give the first."""
        with self._db.transaction("reserve ids"):
            ids = self._reserve()
        self._left += len(ids)
        self._ids = iter(ids)
        return next(self._ids)

    def _reserve(self) -> range:
        first = self._db.take("result", BLOCK)
        return range(first, first + BLOCK)

    def _damage(self, what: str, path: str | None = None) -> None:
        self.damaged += 1
        self._on_damage(path or self.path, what)

    # Ending

    def close(self) -> None:
        """Let go of everything; what was added and not committed is dropped."""
        if self._closed or self._process != os.getpid():  # a forked child has all this from its parent, and it is not its own
            return
        self._closed = True
        with self._lock:
            self._live.close()
            if self._bodies is not None:
                self._bodies.drop()
            if self._home is not None:
                self._home.close()
            self._db.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __del__(self) -> None:
        self.close()


def _sum(id: int, key: bytes | None, head: bytes, value: bytes | None, ref: bytes | None) -> bytes:
    """Sum up a result; which parts it has counts."""
    kind = (key is not None) + 2 * (value is not None) + 4 * (ref is not None)
    body = value if value is not None else ref if ref is not None else b""
    return blake2b(b"%d %d " % (id, kind) + (key or b"") + head + body, digest_size=8).digest()
