"""Locks that end with their process, however it ends: they tell which runs go on, and leave nothing to clean by hand."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform == "win32":  # at once, not on use: in a shortage of files nothing can be imported
    import msvcrt
else:
    import fcntl

from cpgraph.disk import NOFOLLOW, make_directory

if sys.platform == "win32":  # at the top: to find them when they are needed takes a file more, and there may be none
    import msvcrt
else:
    import fcntl

__all__ = ["Live", "exclusive"]


@contextlib.contextmanager
def exclusive(directory: Path) -> Iterator[None]:
    """Let one process at a time in, on systems where a directory can be locked."""
    if sys.platform == "win32":
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        _lock(handle, wait=True)
        yield
    finally:
        os.close(handle)


class Live:
    """The runs that go on in a directory, each with a locked file of its own; without a directory those of this process."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._mine: dict[int, int | None] = {}

    def hold(self, run: int) -> None:
        """Say that a run goes on, and forget those that were killed; no two processes may do so at once."""
        self._mine[run] = None
        if self._directory is not None:
            make_directory(self._directory)
            for path in self._directory.iterdir():
                if not _is_held(path):
                    path.unlink(missing_ok=True)
            self._mine[run] = _hold(self._directory / str(run))

    def __contains__(self, run: int) -> bool:
        return run in self._mine or (self._directory is not None and _is_held(self._directory / str(run)))

    def let_go(self, run: int) -> None:
        """Say that a run does not go on any more."""
        handle = self._mine.pop(run, None)
        if handle is not None and self._directory is not None:
            _let_go(handle, self._directory / str(run))

    def close(self) -> None:
        """Let go of all that are this process's."""
        for run in list(self._mine):
            self.let_go(run)


_held: set[int] = set()


def _forget_in_child() -> None:
    for handle in _held:
        with contextlib.suppress(OSError):
            os.close(handle)
    _held.clear()


if hasattr(os, "register_at_fork"):  # a lock is its process's own: a forked worker that lives on must not keep it
    os.register_at_fork(after_in_child=_forget_in_child)


def _hold(path: Path) -> int:
    """Lock a file, made if need be, until `_let_go` or the end of the process, however it ends."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | NOFOLLOW, 0o600)
    _lock(handle, wait=True)
    _held.add(handle)
    return handle


def _is_held(path: Path) -> bool:
    """Tell whether any process holds the file; this writes nothing."""
    try:
        handle = os.open(path, os.O_RDONLY | NOFOLLOW)
    except OSError:
        return False
    try:
        return not _lock(handle, wait=False)
    finally:
        os.close(handle)


def _let_go(handle: int, path: Path) -> None:
    """Let go of a file and remove it."""
    if handle not in _held:  # in a forked child: it was never this process's
        return
    _held.discard(handle)
    if sys.platform == "win32":  # where an open file cannot be removed
        os.close(handle)
        path.unlink(missing_ok=True)
    else:
        path.unlink(missing_ok=True)
        os.close(handle)


def _lock(handle: int, wait: bool) -> bool:
    """Lock a file until it is closed; without `wait` only try, beside others who try."""
    if sys.platform == "win32":
        try:
            msvcrt.locking(handle, msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
