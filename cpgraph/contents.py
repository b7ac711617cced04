"""Files as inputs and outputs: known by their path as written, and by their content (rule V4).

Content is the truth. Size, times, inode and device only spare the hashing: a file is hashed again when one of them has changed,
and as long as it was younger than two seconds when it was looked at: it may have been written to once more in the same tick of
its clock. Where a file is data and nobody has asked what is in it, it is its path: `as_data`.
"""

from __future__ import annotations

import os
import stat
import threading
from hashlib import blake2b, file_digest
from io import FileIO
from time import time_ns
from typing import Any, Final

from cpgraph.digest import Unreadable, Walk, digest, register
from cpgraph.models import File, Files

__all__ = ["as_data", "content", "content_if_any", "files_in", "looked_up", "met"]

SETTLED: Final = 2_000_000_000  # nanoseconds; a file that is younger may be altered and look the same
ATTEMPTS: Final = 5
NOTHING: Final = b"\0" * 16

Mark = tuple[int, int, int, int, int]

_known: Final[dict[str, tuple[Mark, bytes]]] = {}


class _Met(threading.local):
    """How many Files this thread has met while it digested: compared before and after, it tells whether a value holds any."""

    count = 0


met: Final = _Met()


def _mark(found: os.stat_result) -> Mark:
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_dev


def content(path: str) -> bytes:
    """Give the digest of what is in a file now; raises `Unreadable`, which names it."""
    try:
        for _ in range(ATTEMPTS):
            now = time_ns()
            found = os.stat(path)
            mark = _mark(found)
            known = _known.get(path)
            if known is not None and known[0] == mark:
                return known[1]
            if not stat.S_ISREG(found.st_mode):
                what = "a directory" if stat.S_ISDIR(found.st_mode) else "a device, pipe or socket"
                raise Unreadable(path, f"is {what}, not a file", "name a file, or all in a directory: cp.files('…/*').")
            with open(path, "rb", buffering=0) as file:
                address = _hashed(file)
                if _mark(os.fstat(file.fileno())) != mark or _mark(os.stat(path)) != mark:
                    continue
            if now - max(found.st_mtime_ns, found.st_ctime_ns) >= SETTLED:
                _known[path] = mark, address
            return address
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        raise _unreadable(path, error) from error
    raise Unreadable(path, "keeps being written to while it is read", "run again when that has ended.")


def content_if_any(path: str) -> bytes:
    """Give the digest of what is in a file now, and zeros if it cannot be read."""
    try:
        return content(path)
    except Unreadable:
        return NOTHING


def _hashed(file: FileIO) -> bytes:
    return file_digest(file, lambda: blake2b(digest_size=16)).digest()


def _unreadable(path: str, error: Exception) -> Unreadable:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        mend = "make it before it is asked for, or correct the path."
        return Unreadable(path, "is not there", mend, None if os.path.isabs(path) else os.getcwd())
    reason = getattr(error, "strerror", None) or str(error)
    return Unreadable(path, f"cannot be read: {reason}", "see that it can be read.")


def _by_content(file: File) -> tuple[str, bytes]:
    met.count += 1
    return file.path, content(file.path)


register(File, _by_content)


class _AsData(Walk):
    def __init__(self) -> None:
        super().__init__()
        self.files: list[File] = []

    def special(self, value: Any) -> bytes | None:
        if not isinstance(value, File):
            return None
        met.count += 1
        self.files.append(value)
        return b"~" + self.encode(value.path)


def as_data(value: Any) -> bytes:
    """Give the digest of a value in which a File is no more than its path: the disk is not touched.

    >>> as_data([1, File("there/is/none")]) == as_data([1, File("there/is/none")])
    True
    >>> as_data([1, "a"]) == digest([1, "a"])
    True
    """
    return digest(value, _AsData())


def files_in(value: Any) -> list[File]:
    """Give the Files that a value holds, in whatever of it can be digested.

    >>> files_in({"a": [File("x")], "b": (File("y"), 3)})
    [File(path='x'), File(path='y')]
    """
    walk = _AsData()
    digest(value, walk)
    return walk.files


def looked_up(value: Any) -> Any:
    """Give the files that match now for `cp.files(…)`, and any other value as it is."""
    return value.expand() if isinstance(value, Files) else value
