"""Files that survive a power cut, in a directory nobody else can write to.

Every fsync that is not SQLite's own is here. A file that must be there as a whole is written under a passing name, synced and
renamed, then its directory is synced: whoever finds the name finds all of the content, after a kill or a power cut at any moment.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import stat
import sys
import time
from collections.abc import Container, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Final

from cpgraph.errors import StorageError

__all__ = ["Bodies", "digest_of", "is_damage", "make_directory", "network_file_system", "refuse_strange", "refuse_unsafe"]
__all__ += ["sync_directory", "sync_file", "telling", "told", "write_new"]

HOUR: Final = 3600.0
BUSY: Final = 60.0  # seconds to wait for another process's commit
PASSING: Final = ".new"  # ends the name of a file that is not complete yet
NETWORK: Final = frozenset(["9p", "afs", "ceph", "cifs", "fuse.sshfs", "lustre", "nfs", "nfs4", "smb3", "smbfs"])
ANEW: Final = "move it away and run again; its results are computed anew."
ELSEWHERE: Final = "name another directory (dir=, --dir)"

NOFOLLOW: Final[int] = getattr(os, "O_NOFOLLOW", 0)
BINARY: Final[int] = getattr(os, "O_BINARY", 0)


# What can go wrong


def told(error: Exception, doing: str, path: object) -> StorageError:
    """Say in the library's words what SQLite or the system said."""
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    number = getattr(error, "errno", None)
    if isinstance(error, sqlite3.ProgrammingError):
        what, mend = "the journal has been closed", "ask before it is closed, or open it anew."
    elif code == sqlite3.SQLITE_FULL or number in (errno.ENOSPC, errno.EDQUOT):
        what, mend = "the disk is full", "make room and go on: all that was reported done is there."
    elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        what, mend = f"another process has kept it locked for {BUSY:g} s", "wait for that process or end it, and go on."
    elif is_damage(error):
        what, mend = "the file is damaged", ANEW
    elif code in REFUSED or number in DENIED:
        what, mend = "access is denied", f"see that you may read and write it, or {ELSEWHERE}."
    elif number in (errno.EMFILE, errno.ENFILE):
        what, mend = "too many files are open", "raise the limit (ulimit -n), or lower concurrency=."
    else:
        what, mend = "the system reports an error", f"see to the disk, or {ELSEWHERE}."
    return StorageError(f"cannot {doing}: {what}", path, {"reason": str(error)}, mend)


REFUSED: Final = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN)
DENIED: Final = (errno.EACCES, errno.EPERM, errno.EROFS)
GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EIO, errno.EISDIR)  # a body that is not what was written


def is_damage(error: BaseException | None) -> bool:
    """Tell whether SQLite found a file other than it writes them."""
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    return code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


@contextlib.contextmanager
def telling(doing: str, path: object) -> Iterator[None]:
    """Raise what SQLite and the system raise as `StorageError` (rule S1)."""
    try:
        yield
    except (sqlite3.Error, OSError, ValueError) as error:  # ValueError: a path with a NUL in it
        raise told(error, doing, path) from error


# Files and directories


def write_new(path: Path, body: bytes) -> None:
    """Make a new file, not through a link and not over another."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | NOFOLLOW | BINARY, 0o600), "wb") as file:
        file.write(body)


def make_directory(path: Path) -> bool:
    """Make a directory for ourselves alone, if it is not there; tell whether it was made. Its parent is not synced."""
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        refuse_strange(path)
        return False
    return True


def sync_file(path: Path) -> None:
    """Put a file's content on disk."""
    handle = os.open(path, os.O_RDWR | NOFOLLOW)
    try:
        _sync(handle)
    finally:
        os.close(handle)


def sync_directory(path: Path) -> None:
    """Put on disk which names a directory has."""
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


def refuse_unsafe(directory: Path) -> None:
    """Refuse what others own or may write to, unread: values are unpickled, which runs what they say (rule S2)."""
    if os.environ.get("CPGRAPH_TRUST_DIR") == "1" or sys.platform == "win32":
        return
    facts = directory.stat()
    trust = "set CPGRAPH_TRUST_DIR=1 if you trust everybody who can write to it."
    if facts.st_uid != os.geteuid():
        owner = {"owner": facts.st_uid, "you are": os.geteuid()}
        raise StorageError("the directory for results belongs to somebody else", directory, owner, f"{ELSEWHERE}, or {trust}")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        what, mode = "others may write to the directory for results", {"mode": oct(stat.S_IMODE(facts.st_mode))}
        raise StorageError(what, directory, mode, f"chmod go-w {directory}, or {trust}")


def refuse_strange(path: Path) -> None:
    """Refuse what stands in the directory and is a link, a device, or somebody else's."""
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
        raise StorageError("what stands here is a link, or no plain file", path, mend=f"remove it, or {ELSEWHERE}.")
    refuse_unsafe(path)


def network_file_system(path: Path) -> str | None:
    """Give the type of file system that holds the path if it is one of the network, where locks are not to be relied on."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    inside = os.path.realpath(path) + "/"
    found = ("", "")
    for line in mounts:
        _, place, kind, *_ = line.split(" ")
        place = place.replace("\\040", " ").rstrip("/") + "/"
        if inside.startswith(place) and len(place) >= len(found[0]):
            found = place, kind
    return found[1] if found[1] in NETWORK else None


# Large bodies, each a file that is named by its content


def digest_of(body: bytes) -> bytes:
    """Give the digest by which a body is named and checked."""
    return blake2b(body, digest_size=16).digest()


class Bodies:
    """The files `ab/<digest>` under one directory. One thread puts and syncs, any thread reads."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._passing: dict[bytes, Path] = {}
        self._unsynced: dict[Path, None] = {}

    def path(self, digest: bytes) -> Path:
        """Say where a body is kept."""
        name = digest.hex()
        return self.directory / name[:2] / name

    def put(self, digest: bytes, body: bytes, anew: bool = False) -> None:
        """Write a body; it has its name, and is sure to stay, after the next `sync`. anew: though there is one."""
        if digest in self._passing:
            return
        path = self.path(digest)
        try:
            os.utime(path)  # it is there; `sweep` leaves alone what is young
            if not anew:
                return
        except FileNotFoundError:
            pass
        for made in (self.directory, path.parent):
            if make_directory(made):
                self._unsynced[made.parent] = None
        passing = path.with_name(f"{path.name}.{os.getpid()}{PASSING}")
        passing.unlink(missing_ok=True)
        try:
            write_new(passing, body)
        except BaseException:
            passing.unlink(missing_ok=True)
            raise
        self._passing[digest] = passing

    def sync(self) -> None:
        """Give every body that was put its name, once its content is on disk; must end before what names them is committed."""
        for digest, passing in list(self._passing.items()):
            path = self.path(digest)
            sync_file(passing)
            self._unsynced[path.parent] = None
            os.replace(passing, path)
            del self._passing[digest]
        for directory in list(self._unsynced):
            sync_directory(directory)
            del self._unsynced[directory]

    def read(self, digest: bytes) -> bytes:
        """Read a body; raises `OSError`. What it gives has not been compared with the digest."""
        path = self.path(digest)
        passing = self._passing.get(digest)
        if passing is not None:
            with contextlib.suppress(FileNotFoundError), open(os.open(passing, os.O_RDONLY | NOFOLLOW | BINARY), "rb") as file:
                return file.read()  # unless it has been renamed just now
        with open(os.open(path, os.O_RDONLY | NOFOLLOW | BINARY), "rb") as file:
            return file.read()

    def drop(self) -> None:
        """Remove what was put and not synced."""
        for passing in self._passing.values():
            with contextlib.suppress(OSError):
                passing.unlink()
        self._passing = {}

    def size(self) -> int:
        """Give the bytes on disk."""
        return sum(facts.st_size for _, facts in self._files())

    def sweep(self, *keep: Container[bytes]) -> int:
        """Remove the files older than an hour that none of these names; gives their number."""
        count = 0
        for path, _ in self._files():
            try:
                digest = bytes.fromhex(path.name)
            except ValueError:
                digest = b""  # left by a process that was killed
            with contextlib.suppress(FileNotFoundError):
                if not any(digest in names for names in keep) and path.lstat().st_mtime < time.time() - HOUR:
                    path.unlink()
                    count += 1
        return count

    def _files(self) -> Iterator[tuple[Path, os.stat_result]]:
        for path in sorted(self.directory.glob("*/*")):
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat()
