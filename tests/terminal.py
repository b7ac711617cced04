"""A terminal for tests: a pseudo-terminal, and a small emulator that knows what is to be seen on it."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import termios
import threading
from typing import TextIO

__all__ = ["Terminal"]

CONTROLS = re.compile(r"\x1b\[([\d;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


class Terminal:
    """Open a terminal; `stream()` writes to it, `lines` is what is seen once all streams are closed."""

    def __init__(self, columns: int = 100, rows: int = 30) -> None:
        self._master, self._slave = os.openpty()
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self._raw = b""
        self._arrived = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._streams: list[TextIO] = []

    @property
    def descriptor(self) -> int:
        """What a process is given as its stdout or stderr."""
        return self._slave

    def stream(self) -> TextIO:
        stream = open(os.dup(self._slave), "w", encoding="utf-8", buffering=1)  # noqa: SIM115 - closed by close()
        self._streams.append(stream)
        return stream

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:  # nobody writes any more
                data = b""
            with self._arrived:
                self._raw += data
                self._arrived.notify_all()
            if not data:
                return

    def await_text(self, text: str) -> None:
        """Wait until something has been written."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: text in self._raw.decode("utf-8", "replace"), timeout=60), self._raw

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        os.close(self._slave)
        self._reader.join(60)
        os.close(self._master)

    @property
    def raw(self) -> str:
        return self._raw.decode("utf-8")

    @property
    def lines(self) -> list[str]:
        """What is seen, without empty lines at the end."""
        lines, row, column = [""], 0, 0
        for found in CONTROLS.finditer(self.raw):
            text, count, command = found.group(0), found.group(1), found.group(2)
            if text == "\r":
                column = 0
            elif text == "\n":
                row += 1
                lines.extend([""] * (row + 1 - len(lines)))
            elif command == "A":
                row = max(0, row - int(count or 1))
            elif command == "J":
                lines[row] = lines[row][:column]
                del lines[row + 1 :]
            elif command is None:
                lines[row] = lines[row].ljust(column)[:column] + text + lines[row][column + len(text) :]
                column += len(text)
        while lines and not lines[-1]:
            lines.pop()
        return [line.rstrip() for line in lines]
