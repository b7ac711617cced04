"""Threads that take calls from one queue, each started when there is something for it to do.

What they do with a call is for a subclass to say: `Threads` calls the step, `Processes` has it called elsewhere. All methods but
`_work` belong to the scheduler's thread. What goes back goes to one queue: outcomes, and what steps push.

The threads are daemons, and nobody joins them at exit: a step that hangs never keeps the interpreter alive (rule F3).
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Thread
from time import monotonic
from typing import Any, Generic, TypeVar

import attrs

from cpgraph.errors import CpgraphError
from cpgraph.execute import Call, Outcome, perform

__all__ = ["Crew", "Returned", "Seat", "Threads", "pusher"]

Returned = SimpleQueue[Any]


def pusher(returned: Returned) -> Callable[[int, str, Any], None]:
    """Make what carries the pushes of steps to the scheduler."""

    def push(token: int, kind: str, payload: Any) -> None:
        returned.put(("push", token, kind, payload))

    return push


@attrs.define(eq=False)
class Seat:
    """One thread of a crew; `done` counts the calls it has ended."""

    thread: Thread | None = None
    done: int = 0
    call: Call | None = None
    since: float = 0.0
    left: bool = False


S = TypeVar("S", bound=Seat)


class Crew(Generic[S]):
    """Members with one queue of calls; see `executors.Executor` for what the methods are for."""

    def __init__(self, width: int, returned: Returned, seat: Callable[[], S]) -> None:
        self.width = width
        self._returned = returned
        self._push = pusher(returned)
        self._calls: SimpleQueue[Call | None] = SimpleQueue()
        self._submitted = 0  # and not left to a thread that hangs
        self._seat = seat
        self._seats: list[S] = []
        self._dropped: set[int] = set()

    def submit(self, call: Call) -> None:
        self._calls.put(call)
        self._submitted += 1
        if len(self._seats) < self.width:
            self._fill()

    def _fill(self) -> None:
        """Start a thread if all there are have something to do."""
        if self._submitted - sum([seat.done for seat in self._seats]) <= len(self._seats):
            return
        seat = self._seat()
        seat.thread = Thread(target=self._work, args=(seat,), name=f"cpgraph-{len(self._seats) + 1}", daemon=True)
        try:
            seat.thread.start()
        except RuntimeError as error:
            if not self._seats:
                raise CpgraphError(
                    "no thread can be started to run steps in",
                    {"error": error},
                    'let fewer things run at once, or use executor="inline".',
                ) from error
            self.width = len(self._seats)  # they will do
        else:
            self._seats.append(seat)

    def _work(self, seat: S) -> None:
        raise NotImplementedError

    def recall(self) -> list[int]:
        tokens = []
        try:
            while (call := self._calls.get_nowait()) is not None:
                tokens.append(call.token)
        except Empty:
            pass
        self._submitted -= len(tokens)
        return tokens

    def close(self, wait: bool = True) -> None:
        self.recall()
        for _ in self._seats:
            self._calls.put(None)
        for seat in self._seats if wait else ():
            if seat.thread is not None:
                seat.thread.join()
        self._seats.clear()


class Threads(Crew[Seat]):
    """Runs calls in threads of this process."""

    local = True

    def __init__(self, width: int, returned: Returned) -> None:
        super().__init__(width, returned, Seat)
        self._left: list[tuple[Seat, Call]] = []

    @property
    def hanging(self) -> int:
        return sum(seat.call is call for seat, call in self._left)

    def _work(self, seat: Seat) -> None:
        get, put, push, dropped = self._calls.get, self._returned.put, self._push, self._dropped
        while (call := get()) is not None:
            if not dropped or call.token not in dropped:
                seat.since = monotonic()
                seat.call = call
                outcome: Outcome | None = perform(call, push)
                seat.call = None
                if not dropped or call.token not in dropped:
                    put(outcome)
                outcome = None  # while it waits for the next call, a thread holds nothing
            seat.done += 1
            if seat.left:
                return

    def started(self, token: int) -> float | None:
        return next((seat.since for seat in self._seats if (call := seat.call) and call.token == token), None)

    def abandon(self, token: int) -> None:
        self._dropped.add(token)
        for seat in self._seats:
            call = seat.call
            if call is not None and call.token == token:
                seat.left = True  # should it be at another call by now, it ends after that one
                self._seats.remove(seat)
                self._left.append((seat, call))
                self._submitted -= seat.done + 1
                self._fill()
                return
