"""What happens in a run, as typed values, and the stream that carries them.

`NodeEnded` is sent when the node's result is on disk, never before: whoever has seen it may rely on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, TypeVar

import attrs

__all__ = ["Damaged", "GuardChanged", "Hint", "NodeEnded", "NodeStarted", "RunEnded", "RunStarted", "Stream"]

Handler = TypeVar("Handler", bound=Callable[..., object])

ABSENT: Final = type("Absent", (), {"__repr__": lambda self: "ABSENT", "__reduce__": lambda self: "ABSENT"})()


@attrs.frozen
class RunStarted:
    """A run has begun; `line` is its first line, for people."""

    run: int
    graph: str
    line: str


@attrs.frozen
class NodeStarted:
    """A node has been handed out to be computed; `record` is its innermost record or item."""

    node: str
    step: str
    record: Any = None


@attrs.frozen
class NodeEnded:
    """A node has ended and is on disk: "computed", "cached", "failed", "blocked" or "closed"."""

    node: str
    step: str
    record: Any
    ended: str
    seconds: float = 0.0


@attrs.frozen
class RunEnded:
    """A run has ended: "ok", "failed" or "interrupted"."""

    run: int
    status: str
    seconds: float = 0.0


@attrs.frozen
class GuardChanged:
    """A guard was asked and its answer is another than before; `read` says what it looked at."""

    pipeline: str
    open: bool
    read: tuple[str, ...] = ()


@attrs.frozen
class Damaged:
    """Stored bytes do not agree with their digest; they are not served."""

    path: str
    what: str


@attrs.frozen
class Hint:
    """Something the user is told; `kind` is a word to filter by, `mend` what to do about it."""

    kind: str
    text: str
    mend: str = ""
    nodes: tuple[str, ...] = ()


class Stream:
    """Carries what steps push, and the run's own events, to handlers, while the run goes on.

    >>> stream = Stream()
    >>> @stream.on("progress")
    ... def show(payload):
    ...     print(payload)
    >>> stream.push("progress", {"done": 3})
    {'done': 3}

    A handler that raises is reported to the logger `cpgraph` and ends nothing. Handlers of one stream
    never run at the same time.
    """

    def __init__(self) -> None:
        self._handlers: dict[Any, list[Callable[..., object]]] = {}
        self._lock = threading.RLock()

    def on(self, kind: str | type) -> Callable[[Handler], Handler]:
        """Register a handler for a name that steps push, or for a class of `cpgraph.events`."""

        def register(handler: Handler) -> Handler:
            self._handlers.setdefault(kind, []).append(handler)
            return handler

        return register

    def push(self, kind: str, payload: Any = ABSENT) -> None:
        """Hand a payload to the handlers of `kind`; without a payload they are called without argument."""
        for handler in self._handlers.get(kind, ()):
            self._call(handler, () if payload is ABSENT else (payload,))

    def emit(self, event: object) -> None:
        """Hand an event to the handlers of its class."""
        for handler in self._handlers.get(type(event), ()):
            self._call(handler, (event,))

    def listens(self, kind: str | type) -> bool:
        """Tell whether anybody listens, so that nobody makes events for no one."""
        return kind in self._handlers

    def _call(self, handler: Callable[..., object], args: tuple[Any, ...]) -> None:
        with self._lock:
            try:
                handler(*args)
            except KeyboardInterrupt:
                raise
            except BaseException:
                import logging

                logging.getLogger("cpgraph").exception("a stream handler failed: %r", handler)
