"""Runs calls in processes of its own, each fed by one thread here.

A worker is started when there is work for it, imports the script as `multiprocessing` does (spawn), and is sent the steps once;
calls then name a step by its number. Steps that were fast so far go several together, as many as make some milliseconds of
work; any other goes alone, so that all workers share the slow ones. If what went together takes longer than it should,
the worker gives back what it has not begun.

A worker that dies (killed, `os._exit`, a crash) is a failure of the node it was running alone. Of several in its hands nobody can
say which it was: they are run again one at a time, so that the one that kills is found and no other pays for it.
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from contextlib import suppress
from queue import Empty
from threading import Lock
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Final

import attrs

from cpgraph.crews import Crew, Returned, Seat
from cpgraph.errors import CpgraphError
from cpgraph.execute import Call, Outcome, Target
from cpgraph.shipments import Cargo, pack_call, unpack_outcome, unpack_payload
from cpgraph.tracebacks import text_of
from cpgraph.workers import serve

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

__all__ = ["Processes"]

TOGETHER: Final = 0.010  # seconds of work in the hands of a worker, where calls are fast
AT_ONCE: Final = 500  # calls in the hands of a worker, at most
SLOW: Final = 0.050  # seconds after which calls that went together are taken apart
ENDING: Final = 5.0  # seconds a worker has to end in


@attrs.define(eq=False)
class _Hands(Seat):
    """A worker as its thread here has it: the process, the line to it, and the calls in its hands."""

    process: SpawnProcess | None = None
    link: Connection[Any, Any] | None = None
    calls: dict[int, Call] = attrs.field(factory=dict)
    killed: bool = False


_starting: Final = Lock()  # multiprocessing keeps its processes in a set that is not made for threads


class Processes(Crew[_Hands]):
    """Runs calls in worker processes."""

    local = False
    hanging = 0  # what times out is killed

    def __init__(self, width: int, returned: Returned, targets: Sequence[Target]) -> None:
        super().__init__(width, returned, _Hands)
        self._cargo = Cargo(targets)
        self._seconds: dict[int, float] = {}  # what a call of a step took of late
        self._broken: CpgraphError | None = None
        self._closing = False
        self._recalled = False
        self._alive: set[SpawnProcess] = set()
        self._at_exit: Any = None

    def started(self, token: int) -> float | None:
        for hands in self._seats:
            if token in hands.calls:
                return hands.since if len(hands.calls) == 1 else None
        return None

    def abandon(self, token: int) -> None:
        self._dropped.add(token)
        for hands in self._seats:
            process = hands.process
            if token in hands.calls and process is not None:
                hands.killed = True
                _kill({process})

    def close(self, wait: bool = True) -> None:
        threads = [hands.thread for hands in self._seats if hands.thread is not None]
        if not wait:
            self._closing = True
            _kill(self._alive)
        super().close(wait)
        for thread in threads:
            thread.join(2 * ENDING)
        if self._at_exit is not None and not self._alive:
            self._at_exit.cancel()

    # One worker's thread

    def _work(self, seat: _Hands) -> None:
        while (call := self._calls.get()) is not None:
            suspects = self._done_with(seat, call, alone=False)
            for suspect in suspects:
                self._done_with(seat, suspect, alone=True)
            if seat.left:
                return
        self._end(seat)

    def _done_with(self, hands: _Hands, call: Call, alone: bool) -> list[Call]:
        """See a call through, and those that go with it; give those that one of them may have killed the worker in."""
        if self._closing or not self._ready(hands, call):
            return []
        try:
            try:
                self._hand_over(hands, [call])
            except OSError:  # it has died of something else, since its last call
                self._bury(hands)
                hands.calls.clear()
                if not self._ready(hands, call):
                    return []
                self._hand_over(hands, [call])
            hurried = False
            while hands.calls:
                if not alone and not hurried:
                    self._top_up(hands)
                    if len(hands.calls) > 1 and not hands.link.poll(SLOW):  # type: ignore[union-attr]
                        self._tell(hands, "hurry")
                        hurried = True
                hurried = self._hear(hands) and hurried
        except (EOFError, OSError):
            return self._died(hands)
        except Exception as error:  # nothing may end this thread but the end
            return self._lost(hands, error)
        return []

    def _top_up(self, hands: _Hands) -> None:
        """Hand over as many more calls as make `TOGETHER` of work, but leave the others their share."""
        load = sum([self._expected(call) for call in hands.calls.values()])
        room = min(AT_ONCE - len(hands.calls), max(1, self._calls.qsize() // max(1, len(self._seats))))
        more: list[Call] = []
        while load < TOGETHER and len(more) < room:
            try:
                call = self._calls.get_nowait()
            except Empty:
                break
            if call is None:
                self._calls.put(None)
                break
            more.append(call)
            load += self._expected(call)
        if more:
            self._hand_over(hands, more)

    def _expected(self, call: Call) -> float:
        return self._seconds.get(id(call.target), TOGETHER)

    def _hand_over(self, hands: _Hands, calls: list[Call]) -> None:
        items = []
        for call in calls:
            if call.token in self._dropped:
                self._put(hands, call, None)
                continue
            try:
                blob = pack_call(call)
            except Exception as error:
                self._put(hands, call, Outcome(call.token, error, text_of(error)))
                continue
            hands.calls[call.token] = call
            items.append((call.token, self._cargo.places[id(call.target)], blob, self._expected(call) >= TOGETHER))
        if items:
            hands.since = monotonic()
            self._tell(hands, "calls", items)

    def _tell(self, hands: _Hands, *message: Any) -> None:
        hands.link.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))  # type: ignore[union-attr]

    def _hear(self, hands: _Hands) -> bool:
        """Take one message; tell whether an answer to "hurry" is still to come."""
        kind: str
        kind, *parts = pickle.loads(hands.link.recv_bytes())  # type: ignore[union-attr]
        if kind == "push":
            token, name, blob = parts
            if token not in self._dropped:
                self._push(token, name, unpack_payload(blob))
        elif kind == "done":
            hands.since = monotonic()
            for token, blob in parts[0]:
                call = hands.calls.pop(token)
                try:
                    outcome = unpack_outcome(blob)
                except Exception as error:
                    outcome = Outcome(token, error, text_of(error))
                before = self._seconds.get(id(call.target), outcome.seconds)
                self._seconds[id(call.target)] = (before + outcome.seconds) / 2 + 20e-6
                self._put(hands, call, outcome)
        elif kind == "back":
            for token in parts[0]:
                self._queue_again(hands.calls.pop(token))
            for call in hands.calls.values():
                self._seconds[id(call.target)] = SLOW
        return kind != "back"

    def _queue_again(self, call: Call) -> None:
        """Leave a call that has not begun to another worker; after `recall` it goes back to who handed it out."""
        if self._recalled:
            self._returned.put(("recalled", call.token))
        else:
            self._calls.put(call)

    def recall(self) -> list[int]:
        self._recalled = True
        return super().recall()

    def _put(self, hands: _Hands, call: Call, outcome: Outcome | None) -> None:
        """Hand back what a call came to, unless it was given up."""
        hands.done += 1
        if call.token in self._dropped:
            self._dropped.discard(call.token)
        else:
            self._returned.put(outcome)

    # Life and death of a worker

    def _ready(self, hands: _Hands, call: Call) -> bool:
        """Have a worker; where none can be had, leave the call to the others, or end it with the error."""
        if hands.process is not None:
            return True
        if self._broken is None:
            try:
                self._start(hands)
                return True
            except Exception as error:
                failure = self._cannot_start(hands, error)
            if any(other.process is not None for other in self._seats if other is not hands):
                self._calls.put(call)
                hands.left = True
                return False
            self._broken = failure
        self._put(hands, call, Outcome(call.token, self._broken, str(self._broken)))
        return False

    def _start(self, hands: _Hands) -> None:
        import multiprocessing
        import signal
        from multiprocessing import util

        context = multiprocessing.get_context("spawn")
        with _starting:
            if self._at_exit is None:  # comes before multiprocessing would wait for them there
                self._at_exit = util.Finalize(None, _kill, (self._alive,), exitpriority=100)
            hands.link, other = context.Pipe()
            hands.process = context.Process(target=serve, args=(other,), name="cpgraph-worker")
            mask = getattr(signal, "pthread_sigmask", None)
            before = mask(signal.SIG_BLOCK, {signal.SIGINT}) if mask else None  # inherited, until the worker has its own way
            try:
                hands.process.start()
                self._alive.add(hands.process)
                if self._closing:
                    _kill({hands.process})
            finally:
                if mask:
                    mask(signal.SIG_SETMASK, before)
                other.close()
        hands.link.send_bytes(self._cargo.blob)
        hands.link.recv_bytes()  # it is ready

    def _cannot_start(self, hands: _Hands, error: Exception) -> CpgraphError:
        started = hands.process is not None and hands.process.pid is not None
        code = self._bury(hands)
        if not started:
            mend = 'let fewer run at once (concurrency=, -j), or use executor="threads".'
            return CpgraphError("no worker process can be started", {"error": text_of(error)}, mend)
        return CpgraphError(
            f"a worker process {_ended(code)} before it was ready, importing the script",
            {"its output": "above, or wherever the output of this process goes"},
            'see that the script can be imported: what starts a run stands under `if __name__ == "__main__":`.',
        )

    def _died(self, hands: _Hands) -> list[Call]:
        """Bury a worker; give the calls that were in its hands, or, of one alone, end it with an error."""
        pid, seconds, killed = hands.process and hands.process.pid, monotonic() - hands.since, hands.killed
        code = self._bury(hands)
        calls = list(hands.calls.values())
        hands.calls.clear()
        if self._closing:
            return []
        if killed:  # by us, for one of these
            for call in calls:
                self._queue_again(call)
            return []
        if len(calls) != 1:
            return calls
        [call] = calls
        error = CpgraphError(
            f"worker died: it {_ended(code)} while it ran step {call.target.name!r}",
            {"step": call.target.where, "process": pid},
            "look for what ends the process: memory that runs out, a library that crashes, os._exit.",
        )
        self._put(hands, call, Outcome(call.token, error, str(error), seconds=seconds, started=time() - seconds))
        return []

    def _lost(self, hands: _Hands, error: Exception) -> list[Call]:
        """End the calls in the hands of a worker that something has come between."""
        if hands.process is not None:
            _kill({hands.process})
        self._bury(hands)
        for call in hands.calls.values():
            self._put(hands, call, Outcome(call.token, error, text_of(error)))
        hands.calls.clear()
        return []

    def _end(self, hands: _Hands) -> None:
        if hands.link is not None:
            with suppress(OSError):
                self._tell(hands, "end")
            self._bury(hands)

    def _bury(self, hands: _Hands) -> int | None:
        """See the end of a worker, by force if need be, and give its exit status."""
        process, hands.process = hands.process, None
        code = None
        if process is not None and process.pid is not None:
            process.join(ENDING)
            if process.is_alive():
                process.kill()
                process.join()
            with _starting:
                code = process.exitcode
            self._alive.discard(process)
        if hands.link is not None:
            hands.link.close()
            hands.link = None
        hands.killed = False
        return code


def _ended(code: int | None) -> str:
    if code is None:
        return "ended"
    if code >= 0:
        return f"ended with exit status {code}"
    import signal

    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    return f"was ended by signal {-code} ({name})" + (", perhaps as memory ran out," if name == "SIGKILL" else "")


def _kill(processes: set[SpawnProcess]) -> None:
    for process in list(processes):
        with suppress(Exception):  # ended already
            process.kill()
