"""The SQLite file under the journal: made whole or not at all, opened with care, read with doubt.

Anything may be in a damaged file. SQLite notices what its own structure shows, and each row's checksum the rest; where one page
is bad, the rows of the others are still read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

from cpgraph.disk import (
    ANEW,
    BUSY,
    ELSEWHERE,
    PASSING,
    is_damage,
    refuse_strange,
    sync_directory,
    sync_file,
    telling,
    told,
    write_new,
)
from cpgraph.errors import StorageError

__all__ = ["FORMAT", "Database", "checksum", "make", "prefix_of"]

APPLICATION: Final = 0x63706772  # "cpgr"
FORMAT: Final = 1
PREFIX: Final = 6  # bytes of a key that are indexed
LENGTHS: Final = (1, 8, 64, 500)  # of lists of keys in statements: few, so that each is prepared once

SCHEMA: Final = f"""
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {FORMAT};
CREATE TABLE counters (name TEXT PRIMARY KEY, next INTEGER, sum BLOB) WITHOUT ROWID;
CREATE TABLE results (id INTEGER PRIMARY KEY, key BLOB, head BLOB, value BLOB, ref BLOB, sum BLOB);
CREATE TABLE fresh (prefix INTEGER, id INTEGER, PRIMARY KEY (prefix, id)) WITHOUT ROWID;
CREATE TABLE keys (prefix INTEGER, id INTEGER, PRIMARY KEY (prefix, id)) WITHOUT ROWID;
CREATE TABLE blobs (id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, body BLOB NOT NULL);
CREATE TABLE runs (number INTEGER PRIMARY KEY, graph TEXT, started REAL, meta BLOB, sum BLOB,
                   ended REAL, status TEXT, batches INTEGER, end_meta BLOB, end_sum BLOB);
CREATE TABLE batches (id INTEGER PRIMARY KEY, first INTEGER, versions INTEGER, time REAL, sum BLOB, body BLOB);
"""
TABLES: Final = [statement.strip() for statement in SCHEMA.split(";") if "CREATE" in statement]
HIGHEST: Final = {
    "result": "SELECT max(id) FROM results",
    "run": "SELECT max(number) FROM runs",
    "version": "SELECT max(first + versions - 1) FROM batches",
}
SETTINGS: Final = (
    "synchronous = FULL",
    "fullfsync = 1",
    "checkpoint_fullfsync = 1",
    "wal_autocheckpoint = 4000",
    "journal_size_limit = 67108864",
    "cache_size = -65536",
    "temp_store = MEMORY",
    "trusted_schema = OFF",
    "cell_size_check = ON",
)


def checksum(*parts: object) -> bytes:
    """Sum up values of any types: what a damaged file gives need not be what was written."""
    state = blake2b(digest_size=8)
    for part in parts:
        raw = part if isinstance(part, bytes) else repr(part).encode("utf-8", "replace")
        state.update(b"%s%d:" % (type(part).__name__.encode(), len(raw)))
        state.update(raw)
    return state.digest()


def prefix_of(key: bytes) -> int:
    """Give the part of a key that is indexed."""
    return int.from_bytes(key[:PREFIX])


def identity(path: str) -> tuple[int, ...]:
    """Tell one state of a file from another, without opening it: closing it again would let go of SQLite's locks."""
    facts = os.stat(path)
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


class Database:
    """One connection, shared by threads; without a path a database in memory."""

    def __init__(self, path: str | None, writable: bool, on_damage: Callable[[str], None]) -> None:
        self.path = path or ":memory:"
        self.writable = writable
        self.lock = threading.RLock()
        self._on_damage = on_damage
        self._still: tuple[int, ...] | None = None  # of a file read without locks: how it was when it was opened
        self._file: tuple[int, ...] | None = None
        with telling("open the journal", self.path):
            if path is None:
                self.connection = self._owned(sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False))
                self.connection.executescript(SCHEMA)
            else:
                for suffix in ("", "-wal", "-shm"):
                    refuse_strange(Path(path + suffix))
                self.connection = self._connect()
                self._file = identity(path)[:2]

    def _owned(self, connection: sqlite3.Connection) -> sqlite3.Connection:
        """Let it be closed with this object, which nobody closes where a run was in memory."""
        weakref.finalize(self, connection.close).atexit = False
        return connection

    def _connect(self) -> sqlite3.Connection:
        # A reader of a database at rest would make the files that go with its locks. So it reads without locks, and looks
        # afterwards whether the file is still what it was (`rows`).
        uri = f"{Path(self.path).as_uri()}?mode="
        with contextlib.closing(sqlite3.connect(f"{uri}ro&immutable=1", uri=True)) as connection:
            connection.text_factory = _text
            self._check_format(connection)  # before anything is touched
        self._still = None if self.writable or os.path.lexists(self.path + "-wal") else identity(self.path)
        uri += "rw" if self.writable else "ro" if self._still is None else "ro&immutable=1"
        connection = self._owned(sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=BUSY))
        try:
            connection.text_factory = _text
            self._check_format(connection)
            if self.writable and connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
                what = "the file system cannot hold the journal: it offers no shared memory"
                raise StorageError(what, self.path, mend="name a directory on a local disk (dir=, --dir).")
            for setting in SETTINGS:
                connection.execute(f"PRAGMA {setting}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _check_format(self, connection: sqlite3.Connection) -> None:
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if application != APPLICATION:
            raise StorageError("the file is not a journal of cpgraph", self.path, mend=f"{ELSEWHERE}, or move the file away.")
        if version != FORMAT:
            age, mend = ("a newer", "upgrade cpgraph") if version > FORMAT else ("an older", "use the version that made it")
            formats = {"its format": version, "known here": FORMAT}
            raise StorageError(f"the journal was made by {age} cpgraph", self.path, formats, f"{mend}, or {ELSEWHERE}.")
        tables = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid").fetchall()
        if [text for (text,) in tables] != TABLES:
            raise StorageError("the journal is damaged: its tables are not as they were made", self.path, mend=ANEW)

    def close(self) -> None:
        """Close the file; the last of its users puts all of it into one file."""
        with self.lock:
            self.connection.close()

    def size(self) -> int:
        """Give the bytes on disk."""
        total = 0
        if self._file is not None:
            for path in (self.path, self.path + "-wal"):
                with contextlib.suppress(FileNotFoundError):
                    total += os.lstat(path).st_size
        return total

    # Reading

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[Any]:
        """Fetch all rows a statement gives."""
        with telling("read", self.path):
            return self._fetch(sql, values)

    def rows_for(self, sql: str, keys: Sequence[Any]) -> list[Any]:
        """Ask for many keys, which stand as a table in place of `{keys}`.

        Where the file is damaged each is asked for by itself, so that a bad page takes no other along.
        """
        rows: list[Any] = []
        try:  # for one key, this is paid by every node: so not `telling`
            for start in range(0, len(keys), LENGTHS[-1]):
                some = keys[start : start + LENGTHS[-1]]
                count = len(some)
                length = 1 if count == 1 else next(length for length in LENGTHS if count <= length)
                filled = some if count == length else [*some, *([some[0]] * (length - count))]
                try:
                    rows += self._fetch(sql.replace("{keys}", MARKS[length]), filled)
                except sqlite3.DatabaseError as error:
                    if not is_damage(error):
                        raise
                    rows += self._one_by_one(sql.replace("{keys}", MARKS[1]), some, error)
        except (sqlite3.Error, OSError, ValueError) as error:
            raise told(error, "read", self.path) from error
        return rows

    def _one_by_one(self, sql: str, keys: Sequence[Any], error: sqlite3.DatabaseError) -> list[Any]:
        rows: list[Any] = []
        lost = 0
        for key in keys:
            try:
                rows += self._fetch(sql, [key])
            except sqlite3.DatabaseError as again:
                if not is_damage(again):
                    raise
                lost += 1
        self._on_damage(f"{lost} of {len(keys)} rows cannot be read: {error}")
        return rows

    def _fetch(self, sql: str, values: Sequence[Any]) -> list[Any]:
        with self.lock:
            while True:
                try:
                    rows = self.connection.execute(sql, values).fetchall()
                except sqlite3.DatabaseError:
                    if self._still is None or self._still == identity(self.path):
                        raise
                else:
                    if self._still is None or (self._still == identity(self.path) and not os.path.lexists(self.path + "-wal")):
                        return rows
                self.connection.close()  # somebody has begun to write: ask again, with locks
                self.connection = self._connect()

    # Writing

    def need_writable(self) -> None:
        """Refuse to write where only to read was asked for."""
        if not self.writable:
            raise StorageError("the journal was opened for reading", self.path, mend="open it with writable=True.")

    @contextlib.contextmanager
    def transaction(self, doing: str) -> Iterator[sqlite3.Connection]:
        """Write what the block writes, all or nothing; when it has been left, it is on disk."""
        self.need_writable()
        with self.lock, telling(doing, self.path):
            if self._file is not None and self._file != identity(self.path)[:2]:
                raise StorageError(f"cannot {doing}: the journal was removed or replaced meanwhile", self.path, mend="run again.")
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self.connection.execute("ROLLBACK")
                raise

    def take(self, name: str, count: int = 1) -> int:
        """Take so many numbers of a counter, from 1 on, and give the first; in a transaction."""
        row = self.connection.execute("SELECT next, sum FROM counters WHERE name = ?", (name,)).fetchone()
        if row is not None and checksum(name, row[0]) == row[1]:
            first = int(row[0])
        else:  # the first of its kind, or damaged: go on behind what there is
            if row is not None:
                self._on_damage(f"the counter {name!r} does not agree with its checksum")
            highest = self.connection.execute(HIGHEST[name]).fetchone()[0] if name in HIGHEST else 0
            first = (highest or 0) + 1
        after = first + count
        self.connection.execute("INSERT OR REPLACE INTO counters VALUES (?, ?, ?)", (name, after, checksum(name, after)))
        return first


MARKS: Final = {length: "VALUES " + ",".join(["(?)"] * length) for length in LENGTHS}


def make(path: Path) -> None:
    """Make a database that is either not there or complete; nobody else may do so at the same time."""
    passing = path.with_name(path.name + PASSING)
    for left in (passing, Path(f"{path}-wal"), Path(f"{path}-shm")):
        left.unlink(missing_ok=True)  # of a process killed right here; of a journal that somebody has removed
    write_new(passing, b"")  # for its mode: what SQLite makes beside it takes that over
    with contextlib.closing(sqlite3.connect(passing, isolation_level=None)) as connection:
        # Synced once, at the end: until it has its name nobody looks at it.
        connection.executescript(f"PRAGMA synchronous = OFF; PRAGMA journal_mode = MEMORY; {SCHEMA} PRAGMA journal_mode = WAL;")
    sync_file(passing)
    os.replace(passing, path)
    sync_directory(path.parent)
