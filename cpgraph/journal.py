"""What is remembered of runs: one SQLite file, and large values as files beside it.

Everything that must outlive the process goes through `Journal`, and every fsync of the library is here. What it stores are opaque
bytes; it adds a checksum to each row and compares it before it hands anything out: what does not agree is reported and left out.

The order of writing is what makes a kill at any moment harmless. A file is written under a passing name, synced, renamed, its
directory synced; only then the transaction that names it is committed (WAL, synchronous FULL). Ids of results are given before
their rows are written: blocks of ids are reserved, so that two processes never give the same one. The journal itself is made under a passing name and linked
into place complete. A run that goes on holds a lock on a file of its own under `live/`, which the system lets go of when the
process dies, however it dies.

    journal.sqlite   counters, results (with an index on key), blobs, runs, batches
    values/ab/<hex>  bodies above `LARGE`, by the digest of their content
    live/<run>       locked as long as the run goes on
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import sys
import threading
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

from cpgraph.errors import StorageError

__all__ = ["Batch", "Freed", "Journal", "Row", "RunRow"]

APPLICATION: Final = 0x63706772  # "cpgr"
FORMAT: Final = 1
INLINE: Final = 4096  # bytes; a longer value has a body of its own, loaded when asked for
LARGE: Final = 256 * 1024  # bytes; a longer body is a file
BLOCK: Final = 8192  # ids reserved at once
CHUNK: Final = 500  # keys per look-up
HOUR: Final = 3600.0
BUSY: Final = 60.0  # seconds to wait for another process's commit
SEQUENCE: Final = 32  # bits of a batch's id that count within its run

SCHEMA: Final = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE counters (name TEXT PRIMARY KEY, next INTEGER, sum BLOB) WITHOUT ROWID;
CREATE TABLE results (id INTEGER PRIMARY KEY, key BLOB, head BLOB, value BLOB, ref BLOB, sum BLOB);
CREATE INDEX results_key ON results (key) WHERE key IS NOT NULL;
CREATE TABLE blobs (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE runs (number INTEGER PRIMARY KEY, graph TEXT, started REAL, meta BLOB, sum BLOB,
                   ended REAL, status TEXT, batches INTEGER, end_meta BLOB, end_sum BLOB);
CREATE TABLE batches (id INTEGER PRIMARY KEY, first INTEGER, versions INTEGER, time REAL, sum BLOB, body BLOB);
"""


class Row(NamedTuple):
    """A result. `value` is None if there is none, or if it is `large`: then ask `Journal.value`."""

    id: int
    head: bytes
    value: bytes | None
    large: bool


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


class Freed(NamedTuple):
    """What `gc` removed; `held` if it stopped because of a run that goes on or began meanwhile."""

    results: int = 0
    blobs: int = 0
    files: int = 0
    bytes: int = 0
    held: bool = False


def _checksum(*parts: object) -> bytes:
    """Sum up a row of any types: what a damaged file gives need not be what was written."""
    state = blake2b(digest_size=8)
    for part in parts:
        raw = part if isinstance(part, bytes) else repr(part).encode("utf-8", "replace")
        state.update(b"%s%d:" % (type(part).__name__.encode(), len(raw)))
        state.update(raw)
    return state.digest()


def _sum_of_result(id: int, key: bytes | None, head: bytes, value: bytes | None, ref: bytes | None) -> bytes:
    # The common row first, in one call: this is paid for each row read or written.
    if ref is None and value is not None and key is not None:
        return blake2b(b"%d " % id + key + head + value, digest_size=8).digest()
    return _checksum(id, key, head, value, ref)


def _ignore(path: str, what: str) -> None:
    pass


class Journal:
    """The only class that touches the disk for a run; with `directory=None` the same over a database in memory.

    One thread writes; any thread may ask for `value` and `blob`. A reader (`writable=False`) writes nothing and creates nothing; where
    nothing has run yet it is `empty`.
    """

    def __init__(
        self, directory: str | os.PathLike[str] | None, *, writable: bool = True, on_damage: Callable[[str, str], None] = _ignore
    ) -> None:
        self.directory = None if directory is None else Path(os.path.abspath(directory))
        self.path = ":memory:" if self.directory is None else str(self.directory / "journal.sqlite")
        self.writable = writable
        self.empty = False
        self.damaged = 0
        self._on_damage = on_damage
        self._lock = threading.RLock()
        self._ids: Iterator[int] = iter(())
        self._left = 0
        self._results: dict[int, tuple[bytes | None, bytes, bytes | None, bytes | None]] = {}
        self._keys: dict[bytes, list[int]] = {}
        self._blobs: dict[bytes, bytes] = {}
        self._files: dict[bytes, Path] = {}
        self._unsynced: dict[Path, None] = {}
        self._batches: list[tuple[int, int, bytes]] = []
        self._sequences: dict[int, int] = {}
        self._next_sequences: dict[int, int] = {}
        self._next_ids = range(0)
        self._live: dict[int, int | None] = {}
        self._still: tuple[int, ...] | None = None  # of a file read without locks: how it was when opened
        self._closed = False
        with self._telling("open"):
            self._db = self._open()
            self._inode = None if self.empty or self.directory is None else _identity(self.path)

    # Opening

    def _open(self) -> sqlite3.Connection:
        if self.directory is None:
            return self._in_memory()
        if not self.directory.is_dir():
            if os.path.lexists(self.directory):
                raise StorageError(
                    "the directory for results is not a directory", self.directory, mend="name another one (dir=, --dir)."
                )
            if not self.writable:
                return self._in_memory(empty=True)
            self._make_directory()
        _refuse_unsafe(self.directory)
        if not os.path.lexists(self.path):
            if not self.writable:
                return self._in_memory(empty=True)
            self._make_database()
        for name in ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm", "values", "live"):
            _refuse_strange(self.directory / name)
        return self._connect()

    def _in_memory(self, empty: bool = False) -> sqlite3.Connection:
        self.empty = empty
        db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        db.executescript(SCHEMA)
        return db

    def _make_directory(self) -> None:
        assert self.directory is not None
        self.directory.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError):
            os.mkdir(self.directory, 0o700)
        _sync_directory(self.directory.parent)

    def _make_database(self) -> None:
        """Make the database under a passing name and link it into place when it is complete."""
        assert self.directory is not None
        if not os.listdir(self.directory):
            _write(self.directory / ".gitignore", b"*\n")
            _write(
                self.directory / "CACHEDIR.TAG",
                b"Signature: 8a477f597d28d172789f06886806bc55\n# This directory holds results of cpgraph; they can be computed again.\n",
            )
        passing = self.directory / f"journal.{os.getpid()}.{threading.get_ident()}.new"
        with contextlib.suppress(FileNotFoundError):
            passing.unlink()
        _write(passing, b"")
        try:
            db = sqlite3.connect(passing, isolation_level=None)
            try:
                db.executescript(f"{SCHEMA} PRAGMA journal_mode = WAL;")
            finally:
                db.close()
            _sync_file(passing)
            try:
                os.link(passing, self.path)
            except FileExistsError:
                pass  # another process was quicker
            except OSError:  # a file system without hard links
                if not os.path.lexists(self.path):
                    os.replace(passing, self.path)
            _sync_directory(self.directory)
        finally:
            with contextlib.suppress(FileNotFoundError):
                passing.unlink()

    def _connect(self) -> sqlite3.Connection:
        # A reader of a database at rest would make the files that go with its locks: it reads without locks instead, and
        # looks afterwards whether the file has stayed what it was (`_rows`).
        self._still = None if self.writable or os.path.lexists(self.path + "-wal") else _identity(self.path)
        mode = "mode=rw" if self.writable else "mode=ro" if self._still is None else "mode=ro&immutable=1"
        uri = f"{Path(self.path).as_uri()}?{mode}"
        db = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY)
        try:
            db.text_factory = lambda raw: raw.decode("utf-8", "replace")
            self._check_format(db)
            if self.writable and db.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                raise StorageError(
                    "the file system cannot hold the journal: it offers no shared memory",
                    self.path,
                    mend="name a directory on a local disk (dir=, --dir).",
                )
            for setting in ("synchronous = FULL", "fullfsync = 1", "checkpoint_fullfsync = 1", "wal_autocheckpoint = 4000"):
                db.execute(f"PRAGMA {setting}")
            for setting in ("cache_size = -65536", "temp_store = MEMORY", "trusted_schema = OFF", "cell_size_check = ON"):
                db.execute(f"PRAGMA {setting}")
        except BaseException:
            db.close()
            raise
        return db

    def _check_format(self, db: sqlite3.Connection) -> None:
        application = db.execute("PRAGMA application_id").fetchone()[0]
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION:
            raise StorageError(
                "the file is not a journal of cpgraph", self.path, mend="name another directory (dir=, --dir), or move the file away."
            )
        if version != FORMAT:
            age, mend = ("a newer", "upgrade cpgraph") if version > FORMAT else ("an older", "use the version that made it")
            raise StorageError(
                f"the journal was made by {age} cpgraph",
                self.path,
                {"its format": version, "known here": FORMAT},
                f"{mend}, or name another directory (dir=, --dir).",
            )

    # Results

    def put(self, key: bytes | None, head: bytes, value: bytes | None) -> int:
        """Add a result and give its id at once; it is on disk after the next `commit`."""
        id = next(self._ids, 0) or self._reserved()
        ref = None
        if value is not None and len(value) > INLINE:
            ref, value = self.put_blob(value), None
        self._results[id] = key, head, value, ref
        if key is not None:
            self._keys.setdefault(key, []).append(id)
        return id

    def find(self, keys: Sequence[bytes]) -> dict[bytes, list[Row]]:
        """Look up the results of many keys, newest first, also those not committed yet; keys without any are left out."""
        found: dict[bytes, list[Row]] = {}
        sql = "SELECT key, id, head, value, ref, sum FROM results WHERE key IN"
        for key, id, head, value, ref, total in self._rows_for(sql, list(dict.fromkeys(keys))):
            if self._agrees(id, key, head, value, ref, total):
                found.setdefault(key, []).append(Row(id, head, value, ref is not None))
        if self._keys:
            for key in self._keys.keys() & set(keys):
                found.setdefault(key, []).extend(map(self._fresh_row, self._keys[key]))
        for rows in found.values():
            if len(rows) > 1:
                rows.sort(reverse=True)
        return found

    def rows(self, ids: Sequence[int]) -> dict[int, Row]:
        """Look up results by id; what is missing or damaged is left out."""
        found = {id: self._fresh_row(id) for id in ids if id in self._results} if self._results else {}
        asked = [id for id in ids if id not in found]
        for key, id, head, value, ref, total in self._rows_for("SELECT key, id, head, value, ref, sum FROM results WHERE id IN", asked):
            if self._agrees(id, key, head, value, ref, total):
                found[id] = Row(id, head, value, ref is not None)
        return found

    def value(self, id: int) -> bytes | None:
        """Load the value of a result, large or not; None if it has none, or if it is missing or damaged, which is reported."""
        fresh = self._results.get(id)
        if fresh is not None:
            value, ref = fresh[2:]
        else:
            rows = self._rows_for("SELECT key, id, head, value, ref, sum FROM results WHERE id IN", [id])
            if not rows:
                self._damage(f"result {id} is missing")
                return None
            key, id, head, value, ref, total = rows[0]
            if not self._agrees(id, key, head, value, ref, total):
                return None
        return value if ref is None else self.blob(ref)

    def _fresh_row(self, id: int) -> Row:
        _, head, value, ref = self._results[id]
        return Row(id, head, value, ref is not None)

    def _agrees(self, id: int, key: Any, head: Any, value: Any, ref: Any, total: Any) -> bool:
        try:
            if _sum_of_result(id, key, head, value, ref) == total:
                return True
        except TypeError:
            pass  # a damaged row may have anything anywhere
        self._damage(f"result {id} does not agree with its checksum")
        return False

    # Bodies by content

    def put_blob(self, body: bytes) -> bytes:
        """Keep bytes under the digest of their content, once."""
        digest = blake2b(body, digest_size=16).digest()
        if digest in self._blobs or digest in self._files:
            return digest
        if self.directory is None or len(body) <= LARGE:
            self._blobs[digest] = body
            return digest
        self._need_writable()
        path = self._value_path(digest)
        with self._telling("write a value", path):
            try:
                os.utime(path)  # it is there: `gc` leaves alone what is young
            except FileNotFoundError:
                for made in (path.parent.parent, path.parent):
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(made, 0o700)
                        self._unsynced[made.parent] = None
                    _refuse_strange(made)
                passing = path.with_name(f"{path.name}.{os.getpid()}.new")
                with contextlib.suppress(FileNotFoundError):
                    passing.unlink()
                _write(passing, body)
                self._files[digest] = passing
        return digest

    def blob(self, digest: bytes) -> bytes | None:
        """Give back what `put_blob` kept; None if it is missing or damaged, which is reported."""
        body: Any = self._blobs.get(digest)
        if body is not None:
            return bytes(body)
        what = f"blob {digest.hex()}"
        rows = self._rows_for("SELECT body FROM blobs WHERE digest IN", [digest])
        if rows:
            body, path = rows[0][0], self.path
        elif self.directory is None:
            self._damage(f"{what} is missing")
            return None
        else:
            path = str(self._value_path(digest))
            body = self._read_value(digest, path)
            if body is None:
                return None
        if not isinstance(body, bytes) or blake2b(body, digest_size=16).digest() != digest:
            self._damage(f"{what} does not agree with its digest", path)
            return None
        return body

    def _read_value(self, digest: bytes, path: str) -> bytes | None:
        passing = self._files.get(digest)
        for name in (passing, path, path) if passing else (path,):  # a commit may be renaming it just now
            try:
                with open(os.open(name, os.O_RDONLY | NOFOLLOW | BINARY), "rb") as file:
                    return file.read()
            except FileNotFoundError:
                continue
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM):
                    raise _told(error, "read a value", path) from error
                self._damage(f"value {digest.hex()} cannot be read: {error.strerror}", path)
                return None
        self._damage(f"value {digest.hex()} is missing", path)
        return None

    def _value_path(self, digest: bytes) -> Path:
        assert self.directory is not None
        name = digest.hex()
        return self.directory / "values" / name[:2] / name

    # Runs

    def begin(self, graph: str, meta: bytes) -> int:
        """Begin a run, committed at once; numbers go on through the directory."""
        self._need_writable()
        with self._telling("begin a run"), self._lock:
            self._write_files()
            with self._transaction() as db:
                number = self._count(db, "run")
                self._live[number] = None if self.directory is None else self._hold(number)
                started = time.time()
                total = _checksum(number, graph, started, meta)
                db.execute("INSERT INTO runs (number, graph, started, meta, sum) VALUES (?, ?, ?, ?, ?)", (number, graph, started, meta, total))
                self._write_rows(db)
            self._next_sequences[number] = 0
            self._written()
        return number

    def append(self, run: int, body: bytes, versions: int) -> None:
        """Add a batch that takes so many version numbers to a run; it is on disk after the next `commit`."""
        self._batches.append((run, versions, body))

    def commit(self) -> list[int]:
        """Put on disk all that was added, in one transaction; gives the first version number of every batch."""
        if not (self._results or self._batches or self._blobs or self._files):
            return []
        self._need_writable()
        with self._telling("commit"), self._lock:
            self._write_files()
            with self._transaction() as db:
                firsts = self._write_rows(db)
            self._written()
        return firsts

    def end(self, run: int, status: str, meta: bytes) -> None:
        """End a run with what was added to it before, committed at once."""
        self._need_writable()
        with self._telling("end a run"), self._lock:
            self._write_files()
            with self._transaction() as db:
                self._write_rows(db)
                ended, batches = time.time(), self._next_sequences[run]
                db.execute(
                    "UPDATE runs SET ended = ?, status = ?, batches = ?, end_meta = ?, end_sum = ? WHERE number = ?",
                    (ended, status, batches, meta, _checksum(run, ended, status, batches, meta), run),
                )
            self._written()
            self._let_go(run)

    def runs(self, graph: str | None = None) -> list[RunRow]:
        """List the runs of the directory, or of one graph, oldest first."""
        sql = "SELECT number, graph, started, meta, sum, ended, status, batches, end_meta, end_sum FROM runs ORDER BY number"
        found = []
        with self._telling("list the runs"):
            rows = self._rows(sql)
        for number, name, started, meta, total, ended, status, batches, end_meta, end_total in rows:
            if _checksum(number, name, started, meta) != total:
                self._damage(f"run {number} does not agree with its checksum")
                name, started, meta = str(name), started if isinstance(started, float) else 0.0, None
            if end_total is not None and _checksum(number, ended, status, batches, end_meta) != end_total:
                self._damage(f"the end of run {number} does not agree with its checksum")
                ended = status = end_meta = None
            alive = end_total is None and self._is_alive(number)
            if graph is None or name == graph:
                found.append(RunRow(number, name, started, meta, ended, status, end_meta, alive))
        return found

    def batches(self, run: int) -> Iterator[Batch]:
        """Read what a run committed, in order; a damaged batch is reported and comes without body."""
        first = run << SEQUENCE
        with self._telling("read a run"):
            last = self._rows("SELECT max(id) FROM batches WHERE id >= ? AND id < ?", (first, first + (1 << SEQUENCE)))[0][0]
            told = self._rows("SELECT batches FROM runs WHERE number = ?", (run,))
        count = max(0 if last is None else last - first + 1, told[0][0] if told and isinstance(told[0][0], int) else 0)
        for id in range(first, first + count):
            rows = self._rows_for("SELECT id, first, versions, time, sum, body FROM batches WHERE id IN", [id])
            if not rows:
                self._damage(f"batch {id - first} of run {run} is missing")
                yield Batch(0, 0, 0.0, None)
                continue
            _, number, versions, when, total, body = rows[0]
            if _checksum(id, number, versions, when, body) == total:
                yield Batch(number, versions, when, body)
                continue
            self._damage(f"batch {id - first} of run {run} does not agree with its checksum")
            whole = isinstance(number, int) and isinstance(versions, int) and isinstance(when, float)
            yield Batch(number, versions, when, None) if whole else Batch(0, 0, 0.0, None)

    @property
    def generation(self) -> int:
        """Give a number that grows with every commit of any process."""
        with self._telling("read"):
            return int(self._rows("SELECT next FROM counters WHERE name = 'generation'")[0][0])

    # Cleaning up

    def delete(self, runs: Iterable[int]) -> list[int]:
        """Delete runs with their batches, and say which; those that still go on are left."""
        self._need_writable()
        with self._telling("delete runs"), self._lock, self._transaction() as db:
            gone = [run for run in runs if not self._is_alive(run)]
            for run in gone:
                db.execute("DELETE FROM batches WHERE id >= ? AND id < ?", (run << SEQUENCE, (run + 1) << SEQUENCE))
                db.execute("DELETE FROM runs WHERE number = ?", (run,))
        return gone

    def gc(self, keep_results: Container[int], keep_blobs: Container[bytes], generation: int) -> Freed:
        """Remove results and blobs that nobody keeps, and files that nobody names.

        `generation` is that of before the caller looked what is to be kept. Nothing is removed while a run goes on, or if anything was
        written since: `held` says so.
        """
        self._need_writable()
        freed = Freed()
        named: set[bytes] = set()
        with self._telling("clean up"):
            last = 0
            while True:  # in slices, so that nobody waits for long
                with self._lock, self._transaction() as db:
                    if self._is_held(db, generation):
                        return freed._replace(held=True)
                    rows = db.execute("SELECT id, ref FROM results WHERE id > ? ORDER BY id LIMIT 20000", (last,)).fetchall()
                    drop = [(id,) for id, ref in rows if id not in keep_results]
                    named.update(ref for id, ref in rows if ref is not None and id in keep_results)
                    db.executemany("DELETE FROM results WHERE id = ?", drop)
                freed = freed._replace(results=freed.results + len(drop))
                if not rows:
                    break
                last = rows[-1][0]
            with self._lock, self._transaction() as db:
                if self._is_held(db, generation):
                    return freed._replace(held=True)
                bodies = db.execute("SELECT id, digest, length(body) FROM blobs").fetchall()
                unnamed = [(id, size) for id, digest, size in bodies if digest not in named and digest not in keep_blobs]
                db.executemany("DELETE FROM blobs WHERE id = ?", [(id,) for id, _ in unnamed])
                files, size = self._remove_files(named, keep_blobs)
            with self._lock:
                before = self.size()
                db.execute("PRAGMA incremental_vacuum").fetchall()
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                size += max(0, before - self.size())
        return freed._replace(blobs=len(unnamed), files=files, bytes=size)

    def _is_held(self, db: sqlite3.Connection, generation: int) -> bool:
        now = self.generation
        open_runs = db.execute("SELECT number FROM runs WHERE end_sum IS NULL").fetchall()
        return now != generation or any(self._is_alive(number) for (number,) in open_runs)

    def _remove_files(self, named: Container[bytes], keep: Container[bytes]) -> tuple[int, int]:
        count = size = 0
        for path in self._value_files():
            name, young = path.name.partition(".")[0], time.time() - HOUR
            with contextlib.suppress(FileNotFoundError):
                facts = path.lstat()
                digest = bytes.fromhex(name) if len(name) == 32 else b""
                whole = "." not in path.name
                if facts.st_mtime < young and not (whole and (digest in named or digest in keep)):
                    path.unlink()
                    count, size = count + 1, size + facts.st_size
        return count, size

    def _value_files(self) -> list[Path]:
        if self.directory is None or self.empty or not (self.directory / "values").is_dir():
            return []
        return sorted((self.directory / "values").glob("*/*"))

    def check(self) -> int:
        """Read everything there is and report what is damaged; gives the count."""
        before = self.damaged
        with self._telling("check"):
            last = 0
            while rows := self._rows("SELECT id FROM results WHERE id > ? ORDER BY id LIMIT 500", (last,)):
                last = rows[-1][0]
                for id, row in self.rows([id for (id,) in rows]).items():
                    if row.large:
                        self.value(id)
            for (digest,) in self._rows("SELECT digest FROM blobs"):
                self.blob(digest)
            for run in self.runs():
                for _ in self.batches(run.number):
                    pass
        return self.damaged - before

    def size(self) -> int:
        """Give the bytes on disk."""
        if self.directory is None or self.empty:
            return 0
        total = 0
        for path in (self.path, self.path + "-wal", *self._value_files()):
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(path).st_size
        return total

    def close(self) -> None:
        """Let go of everything; what was added and not committed is dropped."""
        with self._lock:
            if not self._closed:
                self._closed = True
                for run in list(self._live):
                    self._let_go(run)
                for passing in self._files.values():
                    with contextlib.suppress(OSError):
                        passing.unlink()
                self._db.close()

    # Reading and writing rows

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        with self._lock:
            while True:
                try:
                    rows = self._db.execute(sql, values).fetchall()
                except sqlite3.DatabaseError:
                    if self._still is None or self._still == _identity(self.path):
                        raise
                else:
                    if self._still is None or (self._still == _identity(self.path) and not os.path.lexists(self.path + "-wal")):
                        return rows
                self._db.close()  # somebody has begun to write: read with locks, as they are there now
                self._db = self._connect()

    def _rows_for(self, sql: str, keys: Sequence[Any]) -> list[Any]:
        """Ask for many keys; where the file is damaged, for each by itself, so that one bad page takes no others along."""
        rows: list[Any] = []
        for start in range(0, len(keys), CHUNK):
            some = keys[start : start + CHUNK]
            try:
                with self._telling("read"):
                    rows += self._rows(f"{sql} ({_marks(len(some))})", _padded(some))
            except StorageError as error:
                if not isinstance(error.__cause__, sqlite3.DatabaseError) or not _is_damage(error.__cause__):
                    raise
                lost = 0
                for key in some:
                    try:
                        rows += self._rows(f"{sql} (?)", (key,))
                    except sqlite3.DatabaseError as cause:
                        if not _is_damage(cause):
                            raise _told(cause, "read", self.path) from cause
                        lost += 1
                self._damage(f"{lost} of {len(some)} rows cannot be read: {error.__cause__}")
        return rows

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        if self._inode is not None and self._inode[:2] != _identity(self.path)[:2]:
            raise StorageError("the journal was removed or replaced while it was in use", self.path, mend="run again.")
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield self._db
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise

    def _write_rows(self, db: sqlite3.Connection) -> list[int]:
        rows = [(id, *row, _sum_of_result(id, *row)) for id, row in self._results.items()]
        db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?, ?)", rows)
        db.executemany("INSERT OR IGNORE INTO blobs (digest, body) VALUES (?, ?)", self._blobs.items())
        firsts: list[int] = []
        sequences = self._next_sequences = dict(self._sequences)
        if self._batches:
            now, first = time.time(), self._count(db, "version", sum(versions for _, versions, _ in self._batches))
            for run, versions, body in self._batches:
                id = (run << SEQUENCE) + sequences[run]
                total = _checksum(id, first, versions, now, body)
                db.execute("INSERT INTO batches VALUES (?, ?, ?, ?, ?, ?)", (id, first, versions, now, total, body))
                sequences[run] += 1
                firsts.append(first)
                first += versions
        self._count(db, "generation")
        self._next_ids = range(0)
        if self._left - len(rows) < BLOCK // 2:
            self._next_ids = self._reserve(db)
        return firsts

    def _written(self) -> None:
        """Forget what is on disk now; new dicts, as other threads may be looking at the old."""
        self._left += len(self._next_ids) - len(self._results)
        self._ids = chain(self._ids, self._next_ids) if self._next_ids else self._ids
        self._sequences = self._next_sequences
        self._results, self._keys, self._blobs, self._files, self._batches = {}, {}, {}, {}, []

    def _reserved(self) -> int:
        """Reserve a block of ids at once, as none is left, and give the first."""
        self._need_writable()
        with self._telling("reserve ids"), self._lock, self._transaction() as db:
            ids = self._reserve(db)
        self._left += len(ids)
        self._ids = iter(ids)
        return next(self._ids)

    def _reserve(self, db: sqlite3.Connection) -> range:
        first = self._count(db, "result", BLOCK)
        return range(first, first + BLOCK)

    def _count(self, db: sqlite3.Connection, name: str, count: int = 1) -> int:
        """Take so many numbers of a counter, from 1 on, and give the first."""
        row = db.execute("SELECT next, sum FROM counters WHERE name = ?", (name,)).fetchone()
        if row is not None and _checksum(name, row[0]) == row[1]:
            first = int(row[0])
        else:  # the first of its kind, or damaged: go on behind what there is
            if row is not None:
                self._damage(f"counter {name!r} does not agree with its checksum")
            highest = db.execute(HIGHEST[name]).fetchone()[0] if name in HIGHEST else 0
            first = (highest or 0) + 1
        after = first + count
        db.execute("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", (name, after, _checksum(name, after)))
        return first

    def _write_files(self) -> None:
        """Sync and rename the files of large values, before anything that names them is committed."""
        for digest, passing in self._files.items():
            path = self._value_path(digest)
            if os.path.lexists(passing):  # else renamed already, by a commit that failed later
                _sync_file(passing)
                os.replace(passing, path)
            self._unsynced[path.parent] = None
        for directory in self._unsynced:
            _sync_directory(directory)
        self._unsynced = {}

    def _need_writable(self) -> None:
        if not self.writable:
            raise StorageError("the journal was opened for reading", self.path, mend="open it with writable=True.")

    def _damage(self, what: str, path: str | None = None) -> None:
        self.damaged += 1
        self._on_damage(path or self.path, what)

    @contextlib.contextmanager
    def _telling(self, doing: str, path: object = None) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise _told(error, doing, path or self.path) from error

    # Which runs go on

    def _hold(self, run: int) -> int:
        """Lock the file of a run; called in a transaction, so that no two begin or sweep at once."""
        assert self.directory is not None
        live = self.directory / "live"
        with contextlib.suppress(FileExistsError):
            os.mkdir(live, 0o700)
        _refuse_strange(live)
        for path in live.iterdir():
            if path.name.isdecimal() and not self._is_alive(int(path.name)):
                path.unlink(missing_ok=True)
        handle = os.open(live / str(run), os.O_RDWR | os.O_CREAT | NOFOLLOW | CLOEXEC, 0o600)
        _lock(handle, wait=True)
        return handle

    def _is_alive(self, run: int) -> bool:
        if run in self._live:
            return True
        if self.directory is None or self.empty:
            return False
        try:
            handle = os.open(self.directory / "live" / str(run), os.O_RDONLY | NOFOLLOW | CLOEXEC)
        except OSError:
            return False
        try:
            return not _lock(handle, wait=False)
        finally:
            os.close(handle)

    def _let_go(self, run: int) -> None:
        handle = self._live.pop(run)
        if handle is not None and self.directory is not None:
            if sys.platform != "win32":
                (self.directory / "live" / str(run)).unlink(missing_ok=True)
            os.close(handle)


HIGHEST: Final = {
    "result": "SELECT max(id) FROM results",
    "run": "SELECT max(number) FROM runs",
    "version": "SELECT max(first + versions - 1) FROM batches",
}
NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
CLOEXEC: Final[int] = getattr(os, "O_CLOEXEC", 0)
BINARY: Final[int] = getattr(os, "O_BINARY", 0)


def _marks(count: int) -> str:
    return ",".join("?" * _padded_size(count))


def _padded(keys: Sequence[Any]) -> list[Any]:
    """Fill up to one of a few lengths, so that there are few statements to prepare."""
    return [*keys, *([keys[0]] * (_padded_size(len(keys)) - len(keys)))]


def _padded_size(count: int) -> int:
    return next(size for size in (1, 8, 64, CHUNK) if count <= size)


def _identity(path: str) -> tuple[int, ...]:
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _write(path: Path, body: bytes) -> None:
    """Make a new file, not through a link."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | BINARY, 0o600), "wb") as file:
        file.write(body)


def _sync_file(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | NOFOLLOW)
    try:
        _sync(handle)
    finally:
        os.close(handle)


def _sync_directory(path: Path) -> None:
    if sys.platform != "win32":
        handle = os.open(path, os.O_RDONLY)
        try:
            _sync(handle)
        finally:
            os.close(handle)


def _sync(handle: int) -> None:
    if sys.platform == "darwin":
        import fcntl

        fcntl.fcntl(handle, fcntl.F_FULLFSYNC)
    else:
        os.fsync(handle)


def _lock(handle: int, wait: bool) -> bool:
    """Lock a file until it is closed; without `wait` only try, and share it with others who try."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _refuse_unsafe(directory: Path) -> None:
    """Refuse a directory that others own or may write to: what is read from it is unpickled (rule S2)."""
    if os.environ.get("CPGRAPH_TRUST_DIR") == "1" or sys.platform == "win32":
        return
    facts = directory.stat()
    if facts.st_uid != os.geteuid():
        raise StorageError(
            "the directory for results belongs to somebody else",
            directory,
            {"owner": facts.st_uid, "you": os.geteuid()},
            "name another directory (dir=, --dir), or set CPGRAPH_TRUST_DIR=1 if you trust everybody who can write to it.",
        )
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StorageError(
            "others may write to the directory for results",
            directory,
            {"mode": oct(stat.S_IMODE(facts.st_mode))},
            f"chmod go-w {directory}, or set CPGRAPH_TRUST_DIR=1 if you trust everybody who can write to it.",
        )


def _refuse_strange(path: Path) -> None:
    """Refuse links, and files of others, inside of the directory."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise StorageError("a file of the directory is a link or no plain file", path, mend="remove it, or name another directory (dir=, --dir).")
    _refuse_unsafe(path)


def _is_damage(error: sqlite3.Error) -> bool:
    return (getattr(error, "sqlite_errorcode", 0) & 0xFF) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _told(error: sqlite3.Error | OSError, doing: str, path: object) -> StorageError:
    """Say in the library's words what SQLite or the system said."""
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    number = getattr(error, "errno", None)
    if code == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT):
        what, mend = "the disk is full", "make room, and go on: all that was reported done is there."
    elif code == sqlite3.SQLITE_BUSY or code == sqlite3.SQLITE_LOCKED:
        what, mend = f"another process has kept the journal locked for {BUSY:g} s", "wait for it, or end it, and go on."
    elif code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        what, mend = "the journal is damaged", "move the file away and run again; its results are computed anew."
    elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN) or number in (errno.EACCES, errno.EPERM, errno.EROFS):
        what, mend = "access is denied", "give yourself read and write access to it, or name another directory (dir=, --dir)."
    elif number in (errno.EMFILE, errno.ENFILE):
        what, mend = "too many files are open", "raise the limit (ulimit -n), or lower concurrency=."
    else:
        what, mend = "the system reports an error", "see to the disk, or name another directory (dir=, --dir)."
    return StorageError(f"cannot {doing}: {what}", path, {"reason": str(error)}, mend)
