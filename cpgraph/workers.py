"""The worker process at the other end of the line from `processes`.

One thread listens, the main thread runs the calls. What is done is sent when nothing is left to do, or every few milliseconds.
When the run's process is gone, the line breaks, and the worker ends, whatever it is at (rule S5).
"""

from __future__ import annotations

import os
import pickle
import sys
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Lock, RLock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, TextIO

from cpgraph.shipments import Opened, pack_outcome, pack_payload

if TYPE_CHECKING:
    from collections.abc import Iterable
    from multiprocessing.connection import Connection

__all__ = ["OverRows", "serve"]

REPORT: Final = 0.005  # seconds after which a worker sends what it has


class OverRows:
    """Stands for a worker's stream to the terminal on which the run may draw its progress, below the cursor.

    What is drawn there is taken away with each line, so that none is mixed with it; the run draws it anew. Lines are written as a
    whole, also for the sake of other workers.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._begun = ""
        self._lock = RLock()

    def write(self, text: str) -> int:
        with self._lock:
            whole, newline, self._begun = "".join((self._begun, text)).rpartition("\n")  # which says so if it is no text
            if newline:
                self._hand_on(f"{whole}\n")
        return len(text)

    def flush(self) -> None:
        with self._lock:
            text, self._begun = self._begun, ""
            self._hand_on(text)

    def _hand_on(self, text: str) -> None:
        if text:
            self._stream.write(f"\x1b[J{text}")
        self._stream.flush()

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _write_over_rows() -> None:
    """Let what is printed here take progress away, if that is drawn on the terminal to which stderr goes."""
    if os.name != "posix" or os.environ.get("TERM") == "dumb" or not _is_terminal(sys.stderr):
        return
    for name in ("stdout", "stderr"):
        if _is_terminal(getattr(sys, name)):
            setattr(sys, name, OverRows(getattr(sys, name)))


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except (OSError, ValueError):  # closed
        return False


class Worker:
    """The other end of the line: one thread listens, the main thread runs the calls."""

    def __init__(self, link: Connection[Any, Any]) -> None:
        self._link = link
        self._waiting: SimpleQueue[Any] = SimpleQueue()
        self._done: list[tuple[int, bytes]] = []
        self._reported = 0.0
        self._lock = Lock()  # of what is sent, and of what is done but not sent

    def run(self, cargo: bytes) -> None:
        _write_over_rows()
        Thread(target=self._listen, daemon=True).start()
        self._send("ready")
        opened = Opened(cargo)
        while (item := self._waiting.get()) is not None:
            token, place, blob, slow = item
            if slow or monotonic() - self._reported > REPORT:
                with self._lock:
                    self._report()
            done = token, pack_outcome(opened.perform(token, place, blob, self._push))
            with self._lock:
                self._done.append(done)
                if self._waiting.empty():
                    self._report()

    def _listen(self) -> None:
        try:
            while (message := pickle.loads(self._link.recv_bytes()))[0] != "end":
                if message[0] == "hurry":
                    self._give_back()
                else:
                    for item in message[1]:
                        self._waiting.put(item)
            self._waiting.put(None)
        except BaseException as error:  # the run's process is gone: nobody waits for what runs here (rule S5)
            if not isinstance(error, EOFError | OSError):
                sys.excepthook(type(error), error, error.__traceback__)
            os._exit(1)

    def _give_back(self) -> None:
        """Send what is done and the tokens of what has not begun; what is neither is running."""
        back: list[int] = []
        with suppress(Empty):
            while True:
                back.append(self._waiting.get_nowait()[0])
        with self._lock:
            self._report()
            self._send("back", back)

    def _push(self, token: int, kind: str, payload: Any) -> None:
        blob = pack_payload(payload)
        with self._lock:
            self._send("push", token, kind, blob)

    def _report(self) -> None:
        self._reported = monotonic()
        if self._done:
            for stream in (sys.stdout, sys.stderr):
                with suppress(Exception):  # closed, or none at all
                    stream.flush()
            self._send("done", self._done)
            self._done = []

    def _send(self, *message: Any) -> None:
        with suppress(OSError):  # the run's process is gone: the listener ends this one
            self._link.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))


def serve(link: Connection[Any, Any]) -> None:
    """Be a worker, until told to end or the run's process is gone."""
    import signal

    signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is for the run to see; what a step has started still gets it
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _end_with_the_parent()
    try:
        cargo = link.recv_bytes()
    except (EOFError, OSError):  # the run's process is gone already
        return
    Worker(link).run(cargo)


def _end_with_the_parent() -> None:
    """Have the kernel end this process with its parent, even while a step holds the interpreter (a long `re.match`, say).

    Where this cannot be had, the thread that listens does it as soon as it gets to run.
    """
    import multiprocessing

    parent = multiprocessing.parent_process()
    if sys.platform != "linux" or parent is None:
        return
    import fcntl

    pipe = parent.sentinel  # on it, nothing ever happens but the end; then a SIGIO comes, which ends who does not handle it
    fcntl.fcntl(pipe, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
