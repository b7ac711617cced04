"""Removing what nobody keeps, beside whoever else uses the directory."""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Final, NamedTuple

from cpgraph.database import Database, prefix_of
from cpgraph.disk import ANEW, Bodies
from cpgraph.errors import StorageError

__all__ = ["Freed", "collect"]

SLICE: Final = 20_000  # rows looked at in one transaction: nobody waits for long
PAGES: Final = 5_000  # given back to the system in one


class Freed(NamedTuple):
    """What `gc` removed; `held` if it stopped because a run goes on or something was written meanwhile."""

    results: int = 0
    blobs: int = 0
    files: int = 0
    bytes: int = 0
    held: bool = False


def collect(
    db: Database, bodies: Bodies | None, keep_results: Container[int], keep_blobs: Container[bytes], held: Callable[[], bool]
) -> Freed:
    """Remove results and blobs that are not to be kept, and files that nobody names; asks in each transaction whether it may."""
    before = db.size() + (bodies.size() if bodies is not None else 0)
    removed = last = 0
    named: set[bytes] = set()
    while True:
        with db.transaction("clean up") as connection:
            if held():
                return Freed(results=removed, held=True)
            sql = "SELECT id, key, ref FROM results WHERE id > ? ORDER BY id LIMIT ?"
            rows = connection.execute(sql, (last, SLICE)).fetchall()
            if rows and rows[-1][0] <= last:
                raise StorageError("the journal is damaged: its results are not in order", db.path, mend=ANEW)
            drop = [(id, key) for id, key, _ in rows if id not in keep_results]
            named.update(ref for id, _, ref in rows if ref is not None and id in keep_results)
            connection.executemany("DELETE FROM results WHERE id = ?", [(id,) for id, _ in drop])
            prefixes = [(prefix_of(key), id) for id, key in drop if isinstance(key, bytes)]
            for table in ("fresh", "keys"):
                connection.executemany(f"DELETE FROM {table} WHERE prefix = ? AND id = ?", prefixes)
        removed += len(drop)
        if not rows:
            break
        last = rows[-1][0]
    with db.transaction("clean up") as connection:
        if held():
            return Freed(results=removed, held=True)
        digests = connection.execute("SELECT id, digest FROM blobs").fetchall()
        unnamed = [(id,) for id, digest in digests if digest not in named and digest not in keep_blobs]
        connection.executemany("DELETE FROM blobs WHERE id = ?", unnamed)
        files = bodies.sweep(named, keep_blobs) if bodies is not None else 0
    _shrink(db)
    after = db.size() + (bodies.size() if bodies is not None else 0)
    return Freed(removed, len(unnamed), files, max(0, before - after))


def _shrink(db: Database) -> None:
    """Give pages that are not used any more back to the system."""
    free = -1
    while (now := db.rows("PRAGMA freelist_count")[0][0]) and now != free:
        free = now
        db.rows(f"PRAGMA incremental_vacuum({PAGES})")
    db.rows("PRAGMA wal_checkpoint(TRUNCATE)")
