"""What runs the calls: this thread, other threads, an event loop, processes, or any `concurrent.futures.Executor`.

All have one small protocol (`Executor`), and are used by one thread, the scheduler's. Outcomes come back through one queue,
and so does what steps push: `("push", token, kind, payload)`, in order per node. A token is a call's alone; what comes back
under one that nobody waits for any more (it timed out) is to be ignored.

Threads are daemons and are joined by nobody at exit: a step that hangs never keeps the interpreter alive (rule F3).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from queue import Empty, SimpleQueue
from threading import Event, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from cpgraph.crews import Returned, Threads, pusher
from cpgraph.errors import CpgraphError
from cpgraph.execute import Call, Outcome, Target, perform, perform_async, timed_out
from cpgraph.processes import Processes
from cpgraph.shipments import Cargo, Shipment, refuse_while_importing, run_shipment, unpack_outcome
from cpgraph.tracebacks import text_of

if TYPE_CHECKING:
    import asyncio
    import concurrent.futures

__all__ = ["Executor", "Foreign", "Inline", "Loop", "Processes", "Threads", "check_executor", "open_executor"]

THREADS: Final = 32
TASKS: Final = 1_000
UNKNOWN: Final = 64  # calls at once for an executor that does not say
PATIENCE: Final = 1.0  # seconds that an event loop has to answer in, before it counts as held up
TOGETHER: Final = 64  # steps that go to a foreign executor together; of more, each goes with its calls alone


class Executor(Protocol):
    """Runs calls, and puts what they came to on the queue it was made with.

    width: how many calls at once make sense. local: whether they run in this process's memory. hanging: how many
    calls timed out and still run.
    """

    width: int
    local: bool

    @property
    def hanging(self) -> int: ...

    def submit(self, call: Call) -> None:
        """Take a call and return at once."""

    def started(self, token: int) -> float | None:
        """Say when (`time.monotonic`) a call began, None while it waits; a timeout counts from there."""

    def abandon(self, token: int) -> None:
        """Give up a call that timed out: its outcome will not come back, its place goes to another."""

    def recall(self) -> list[int]:
        """Take back what has not begun, so that it never will, and give its tokens."""

    def close(self, wait: bool = True) -> None:
        """End, after `recall`. wait: let what runs come back; else leave it behind, or end it where that can be done."""


class Inline:
    """Runs each call at once, in the thread that submits it."""

    local = True
    width = 1

    def __init__(self, returned: Returned, push: Callable[[int, str, Any], None] | None = None) -> None:
        self._returned = returned
        self._push = push or pusher(returned)
        self._loop: Loop | None = None

    @property
    def hanging(self) -> int:
        return self._loop.hanging if self._loop is not None else 0

    def submit(self, call: Call) -> None:
        outcome = self._awaited(call) if call.target.is_async else perform(call, self._push)
        if outcome.error is not None and isinstance(outcome.error, KeyboardInterrupt):
            raise outcome.error  # nobody can tell it from the user's Ctrl-C (rule F2)
        self._returned.put(outcome)

    def _awaited(self, call: Call) -> Outcome:
        """Run an async call on a loop of its own thread, as one may be running here (a notebook), and wait for it."""
        back: Returned = SimpleQueue()
        begun, timeout = monotonic(), call.target.timeout
        if self._loop is None:
            self._loop = Loop(1, back)
        self._loop.returned = back
        self._loop.submit(call)
        while True:
            try:
                item = back.get(timeout=None if timeout is None else max(0.0, begun + timeout - monotonic()))
            except Empty:
                self._loop.abandon(call.token)
                return timed_out(call)
            if not isinstance(item, Outcome):
                self._push(*item[1:])
            elif item.token == call.token:  # else it is of a call that timed out
                return item

    def started(self, token: int) -> float | None:
        return None

    def abandon(self, token: int) -> None:
        """Nothing is left to give up: a call has ended when `submit` returns."""

    def recall(self) -> list[int]:
        return []

    def close(self, wait: bool = True) -> None:
        if self._loop is not None:
            self._loop.close(wait)


class _Turning:
    """One thread in which an event loop turns, and the calls it has."""

    def __init__(self, width: int, put: Callable[[Any], None]) -> None:
        import asyncio

        self.waiting: deque[Call] = deque()
        self.tasks: dict[int, tuple[Call, asyncio.Task[None], float]] = {}
        self.dropped: set[int] = set()
        self.left = False
        self._width = width
        self._put = put
        self._woken = False
        self._ending = False
        self._loop = asyncio.new_event_loop()
        self.thread = Thread(target=self._turn, name="cpgraph-loop", daemon=True)
        self.thread.start()

    def submit(self, call: Call) -> None:
        self.waiting.append(call)
        if not self._woken:  # one wake-up serves all that is put here before the loop looks
            self._woken = True
            self._loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._woken = False
        while self.waiting and len(self.tasks) < self._width:
            try:
                call = self.waiting.popleft()
            except IndexError:  # recalled just now
                return
            if call.token not in self.dropped:
                self.tasks[call.token] = call, self._loop.create_task(self._run(call), context=Context()), monotonic()

    async def _run(self, call: Call) -> None:
        outcome = await perform_async(call, self._push)
        del self.tasks[call.token]
        if not self.left and call.token not in self.dropped:
            self._put(outcome)
        if self.waiting:
            self._take()
        elif self._ending and not self.tasks and not self.left:
            self._loop.stop()

    def _push(self, token: int, kind: str, payload: Any) -> None:
        if not self.left:
            self._put(("push", token, kind, payload))

    def cancel(self, token: int) -> bool:
        """Cancel a call; tell whether the loop has heard of it in time, or is held up by what it runs."""
        self.dropped.add(token)
        heard = Event()

        def cancel() -> None:
            if token in self.tasks:  # a turn later: a task that is cancelled before it has begun would not even run its end
                self._loop.call_soon(self.tasks[token][1].cancel)
            heard.set()

        self._loop.call_soon_threadsafe(cancel)
        return heard.wait(PATIENCE)

    def end(self, wait: bool) -> None:
        def end() -> None:
            self._ending = True
            if not (wait and self.tasks):
                self._loop.stop()

        self._loop.call_soon_threadsafe(end)
        if not self.left:
            self.thread.join(None if wait else PATIENCE)  # cancelled tasks end soon, or not at all

    def _turn(self) -> None:
        import asyncio

        loop, stopped = self._loop, False
        while not stopped:
            try:
                loop.run_forever()
                stopped = True
            except BaseException:  # a SystemExit in a task that a step has started ends neither the loop nor the other steps
                continue
        self.left = True
        with suppress(BaseException):  # of what steps have left behind
            if rest := asyncio.all_tasks(loop):
                for task in rest:
                    task.cancel()
                loop.run_until_complete(asyncio.wait(rest))
            loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


class Loop:
    """Runs the calls of `async def` steps on one event loop, in a thread of its own: a loop may be running in this one.

    A step that blocks the loop holds up all others. If it times out, the loop is left to it, and they begin again on a new one.
    """

    local = True

    def __init__(self, width: int, returned: Returned) -> None:
        self.width = width
        self.returned = returned
        self._turning: _Turning | None = None
        self._left: list[tuple[_Turning, int]] = []

    @property
    def hanging(self) -> int:
        return sum(token in turning.tasks for turning, token in self._left)

    def submit(self, call: Call) -> None:
        if self._turning is None:
            self._turning = _Turning(self.width, lambda item: self.returned.put(item))
        self._turning.submit(call)

    def started(self, token: int) -> float | None:
        found = self._turning and self._turning.tasks.get(token)
        return found[2] if found else None

    def abandon(self, token: int) -> None:
        turning = self._turning
        if turning is None:
            return
        heard = turning.cancel(token)
        self._left.append((turning, token))
        if not heard:
            turning.left = True
            self._turning = None
            calls = [*(call for call, _, _ in tuple(turning.tasks.values())), *turning.waiting]
            turning.waiting.clear()
            turning.end(wait=False)
            for call in calls:
                if call.token not in turning.dropped:
                    self.submit(call)

    def recall(self) -> list[int]:
        tokens = []
        while self._turning and self._turning.waiting:
            tokens.append(self._turning.waiting.pop().token)
        return tokens

    def close(self, wait: bool = True) -> None:
        if self._turning is not None:
            self.recall()
            self._turning.end(wait)
            self._turning = None


class Foreign:
    """Runs calls in a `concurrent.futures.Executor` that the user has made, and that stays the user's."""

    local = False  # nobody knows

    def __init__(self, pool: Any, width: int, returned: Returned, targets: Sequence[Target]) -> None:
        self.width = width
        self._pool = pool
        self._returned = returned
        self._push = pusher(returned)
        self._together = Cargo(targets if len(targets) <= TOGETHER else ())
        self._alone: dict[int, Cargo] = {}
        self._futures: dict[int, tuple[concurrent.futures.Future[Any], float]] = {}
        self._left: list[concurrent.futures.Future[Any]] = []
        self._dropped: set[int] = set()
        self._recalled: set[int] = set()

    @property
    def hanging(self) -> int:
        return sum(not future.done() for future in self._left)

    def submit(self, call: Call) -> None:
        try:
            future = self._pool.submit(run_shipment, Shipment(call, self._cargo(call.target), self._push))
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            self._returned.put(self._refused(call, error))
            return
        self._futures[call.token] = future, monotonic()
        future.add_done_callback(lambda future: self._back(call, future))

    def _cargo(self, target: Target) -> Cargo:
        if id(target) in self._together.places:
            return self._together
        return self._alone.setdefault(id(target), Cargo([target]))

    def _back(self, call: Call, future: concurrent.futures.Future[Any]) -> None:
        """Take a future that is done; in whatever thread that happens, nothing may be raised here."""
        self._futures.pop(call.token, None)
        if call.token in self._dropped or (future.cancelled() and call.token in self._recalled):
            return
        try:
            outcome = future.result()
            if isinstance(outcome, bytes):
                outcome = unpack_outcome(outcome)
            for kind, payload in outcome.pushes:
                self._push(call.token, kind, payload)
        except BaseException as error:
            outcome = self._refused(call, error)
        self._returned.put(outcome)

    def _refused(self, call: Call, error: BaseException) -> Outcome:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, CpgraphError):  # what could not be pickled is told by us, deep inside
            cause = cause.__cause__
        if cause is None:
            cause = CpgraphError(
                f"{type(self._pool).__qualname__} did not run step {call.target.name!r}",
                {"step": call.target.where, "error": text_of(error)},
                "see what is wrong with the executor; one that is broken has to be made anew.",
            )
            cause.__cause__ = error
        return Outcome(call.token, cause, str(cause))

    def started(self, token: int) -> float | None:
        future, since = self._futures.get(token, (None, 0.0))
        return since if future is not None and future.running() else None

    def abandon(self, token: int) -> None:
        self._dropped.add(token)
        future, _ = self._futures.pop(token, (None, 0.0))
        if future is not None and not future.cancel():
            self._left.append(future)

    def recall(self) -> list[int]:
        tokens = []
        for token, (future, _) in list(self._futures.items()):
            self._recalled.add(token)
            if future.cancel():
                tokens.append(token)
        return tokens

    def close(self, wait: bool = True) -> None:
        self.recall()
        for token, (future, _) in list(self._futures.items()):
            if wait:
                with suppress(BaseException):  # it has been told
                    future.exception()
            else:
                self._dropped.add(token)


def open_executor(
    spec: str | concurrent.futures.Executor,
    width: int | None,
    returned: Returned,
    targets: Sequence[Target] = (),
    push: Callable[[int, str, Any], None] | None = None,
) -> Executor:
    """Open what runs the calls: "inline", "threads", "loop" (for `async def`), "processes", or any `concurrent.futures.Executor`.

    width: how many at once, if not the default of the kind. push: where "inline" hands on what steps push, at once.
    """
    refuse_while_importing()
    check_executor(spec)
    match spec:
        case "inline":
            return Inline(returned, push)
        case "threads":
            return Threads(width or THREADS, returned)
        case "loop":
            return Loop(width or TASKS, returned)
        case "processes":
            return Processes(width or _cpus(), returned, targets)
        case _:
            return Foreign(spec, width or getattr(spec, "_max_workers", None) or UNKNOWN, returned, targets)


def check_executor(spec: Any) -> None:
    """Raise if what is asked for is no executor."""
    if spec not in ("inline", "threads", "loop", "processes") and not callable(getattr(spec, "submit", None)):
        raise CpgraphError(
            f"executor={spec!r} is not known",
            {"known": '"threads", "processes", "inline", or any concurrent.futures.Executor'},
            "name one of these, or pass an object with submit().",
        )


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
