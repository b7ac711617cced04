"""The directory of results: what is in it, made when missing, and refused when it is not ours."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from cpgraph import database, disk
from cpgraph.errors import StorageError
from cpgraph.locks import exclusive

__all__ = ["Directory"]

OURS: Final = {
    ".gitignore": b"*\n",
    "CACHEDIR.TAG": b"Signature: 8a477f597d28d172789f06886806bc55\n# Results of cpgraph; they can be computed again.\n",
}


class Directory:
    """Where things are in the directory; making one does not touch the disk."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(os.path.abspath(path))
        self.journal = self.path / "journal.sqlite"
        self.values = self.path / "values"
        self.live = self.path / "live"
        self.witness = self.path / "generation"
        self._handle: int | None = None

    def open(self, writable: bool) -> bool:
        """Check it and tell whether there is a journal; a writer makes what is missing."""
        with disk.telling("open the directory for results", self.path):
            if not os.path.lexists(self.path):
                if not writable:
                    return False
                self.path.parent.mkdir(parents=True, exist_ok=True)
                with contextlib.suppress(FileExistsError):
                    os.mkdir(self.path, 0o700)
                disk.sync_directory(self.path.parent)
            if not self.path.is_dir():
                raise StorageError("the directory for results is not a directory", self.path, mend=f"{disk.ELSEWHERE}.")
            disk.refuse_unsafe(self.path)
            for inside in (self.values, self.live, self.witness):
                disk.refuse_strange(inside)
            if writable and not os.path.lexists(self.journal):
                with exclusive(self.path):  # two runs may begin at once
                    if not os.path.lexists(self.journal):
                        self._furnish()
            return os.path.lexists(self.journal)

    def _furnish(self) -> None:
        if not os.listdir(self.path):  # else it holds more than ours
            for name, text in OURS.items():
                disk.write_new(self.path / name, text)
        self.witness.unlink(missing_ok=True)
        database.make(self.journal)

    def witnessed(self) -> int:
        """Read how many commits the journal has had at least, to notice when the last ones have got lost."""
        try:
            return int(self.witness.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return 0

    def testify(self, generation: int) -> None:
        """Note how many commits there are; written after each and not synced, so that the journal never has less by itself."""
        with disk.telling("commit", self.witness):
            if self._handle is None:
                self._handle = os.open(self.witness, os.O_WRONLY | os.O_CREAT | disk.NOFOLLOW, 0o600)
            os.lseek(self._handle, 0, os.SEEK_SET)
            os.write(self._handle, b"%020d\n" % generation)

    def close(self) -> None:
        """Let go of what is open."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
