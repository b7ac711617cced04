"""How results and lines of runs are laid out in the journal: packed rows, with the parts of each key.

A *head* says who made a result, when, from which inputs (8 bytes for each), what it read and changed; the value
lies beside it. An *entry* says how one node of a run ended and which result it has. Changes and records are kept as
plain fields, so that history can be shown without the user's code.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import attrs

from cpgraph.pickles import dumps, loads, loads_plain

__all__ = ["ADOPTED", "ENDINGS", "Entries", "Head", "Taken", "maker_of", "read_head", "write_head"]

ENDINGS: Final = ("computed", "cached", "failed", "blocked", "closed")

FIXED: Final = struct.Struct("<IIdfBB")
HAS_DIGEST: Final = 1
HAS_MORE: Final = 2
FOR_ONE_RUN: Final = 4
HAS_FILES: Final = 8
PART: Final = 8
DEFAULT_PART: Final = b"\0" * PART
ADOPTED: Final = 1_000_000  # from here on, a run's meta numbers the units of others whose results it took over


@attrs.define
class Head:
    """What is kept of a result beside its value.

    `run`, `unit`: the run and unit that made it, whose meta names its step, fingerprint and inputs. `parts`: the
    first 8 bytes of each input's digest. `reads`: (question, digest of the answer). `for_one_run`: it serves
    no other, since its value does not pickle, or a file moved. `has_files`: the value holds Files.
    `code`: the user's classes and functions in the value, as module:name.
    """

    run: int
    unit: int
    started: float
    seconds: float
    digest: bytes | None
    parts: bytes
    changes: tuple[tuple[Any, ...], ...] = ()
    shape: str = "value"
    reads: tuple[tuple[Any, bytes], ...] | None = None
    for_one_run: bool = False
    has_files: bool = False
    code: tuple[str, ...] = ()


def write_head(head: Head) -> bytes:
    """Pack a head.

    >>> head = Head(1, 2, 0.0, 0.5, b"0123456789abcdef", b"\\0" * 8)
    >>> read_head(write_head(head)) == head
    True
    """
    more = bool(head.changes or head.reads is not None or head.shape != "value" or head.code)
    flags = (HAS_DIGEST if head.digest is not None else 0) | (HAS_MORE if more else 0) | (FOR_ONE_RUN if head.for_one_run else 0)
    flags |= HAS_FILES if head.has_files else 0
    fixed = FIXED.pack(head.run, head.unit, head.started, head.seconds, flags, len(head.parts) // PART)
    tail = dumps((head.changes, head.shape, head.reads, head.code)) if more else b""
    return fixed + (head.digest or b"") + head.parts + tail


def read_head(packed: bytes, plain: bool = False) -> Head:
    """Unpack a head; `plain` imports nothing of the user's."""
    run, unit, started, seconds, flags, count = FIXED.unpack_from(packed)
    at = FIXED.size
    if flags == HAS_DIGEST:  # as most are
        return Head(run, unit, started, seconds, packed[at : at + 16], packed[at + 16 : at + 16 + count * PART])
    digest = None
    if flags & HAS_DIGEST:
        digest = packed[at : at + 16]
        at += 16
    parts = packed[at : at + count * PART]
    at += count * PART
    for_one_run, has_files = bool(flags & FOR_ONE_RUN), bool(flags & HAS_FILES)
    if not flags & HAS_MORE:
        return Head(run, unit, started, seconds, digest, parts, for_one_run=for_one_run, has_files=has_files)
    changes, shape, reads, code = (loads_plain if plain else loads)(packed[at:])
    return Head(run, unit, started, seconds, digest, parts, changes, shape, reads, for_one_run, has_files, code)


Taken = tuple[tuple[str, tuple[Any, ...]], Head, bytes]  # a result made elsewhere: its node, head and value


def maker_of(packed: bytes) -> tuple[int, int]:
    """Give the run and unit that made a result."""
    run, unit = FIXED.unpack_from(packed)[:2]
    return run, unit


class Entries:
    """How the nodes of one commit ended, as columns."""

    def __init__(
        self,
        units: array[int],
        ended: bytearray,
        versions: bytearray,
        results: array[int],
        keys: list[tuple[Any, ...]],
        extras: dict[int, dict[str, Any]],
    ) -> None:
        self.units = units
        self.ended = ended
        self.versions = versions
        self.results = results
        self.keys = keys
        self.extras = extras

    @classmethod
    def of(
        cls,
        units: Iterable[int],
        keys: Iterable[tuple[Any, ...]],
        ended: Iterable[int],
        results: Iterable[int],
        versions: Iterable[int],
        extras: dict[int, dict[str, Any]],
    ) -> Entries:
        """Take the columns. versions: 0 none, 1 one of its own, 2 one shared with the others of this commit."""
        return cls(array("I", units), bytearray(ended), bytearray(versions), array("Q", results), list(keys), extras)

    def numbers(self) -> list[int]:
        """Give for each entry which version of this commit it belongs to, from 1; 0 is the one before.

        Nodes whose results were taken from the cache share a version as long as they follow each other.
        """
        if not any(self.versions):
            return [0] * len(self.versions)
        found, count, sharing = [], 0, False
        for version in self.versions:
            if version == 1 or (version == 2 and not sharing):
                count += 1
            if version:
                sharing = version == 2
            found.append(count)
        return found

    def pack(self) -> bytes:
        keys: Sequence[Any] = self.keys
        if set(map(len, keys)) == {1}:
            keys = [key for (key,) in keys]
        return dumps((self.units.tobytes(), bytes(self.ended), bytes(self.versions), self.results.tobytes(), keys, self.extras))

    @classmethod
    def unpack(cls, body: bytes, load: Callable[[bytes], Any] = loads) -> Entries:
        units, ended, versions, results, keys, extras = load(body)
        ids = [key if type(key) is tuple else (key,) for key in keys]
        return cls(array("I", units), bytearray(ended), bytearray(versions), array("Q", results), ids, extras)
