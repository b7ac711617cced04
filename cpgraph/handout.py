"""Handing nodes to executors, and taking back what comes of them: lanes, limits, time-outs and retries.

Nodes go to a lane one by one, a few more than there are workers, so that none waits for the loop; nodes that something
may hold back go only to a free worker. Everything that comes back comes through one queue.
"""

from __future__ import annotations

import heapq
import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final

import attrs

from cpgraph.errors import CpgraphError, Retry
from cpgraph.events import NodeStarted, Stream
from cpgraph.execute import Call, Outcome, Target, timed_out
from cpgraph.executors import Executor, check_executor, open_executor
from cpgraph.gates import Rate
from cpgraph.instances import Instance
from cpgraph.nodes import Node
from cpgraph.steps import Limit
from cpgraph.store import Store
from cpgraph.structure import Unit

__all__ = ["Handout", "Lane", "Route", "Settings"]

UNASKED_RETRIES: Final = 10  # how often Retry is honoured where retries= says nothing
AHEAD: Final = 0.05  # seconds of work for each worker elsewhere
INTERRUPT: Final = ("interrupt",)


@attrs.frozen
class Settings:
    """How a run is to be driven. at_once: commit whatever ended before anything else is done."""

    executor: Any = "threads"
    concurrency: int | None = None
    stop: threading.Event | None = None
    at_once: bool = False

    def __attrs_post_init__(self) -> None:
        check_executor(self.executor)
        if self.concurrency is not None and (type(self.concurrency) is not int or self.concurrency < 1):
            raise CpgraphError(f"concurrency={self.concurrency!r} is not a whole number above 0", mend="give 1 or more.")
        if self.stop is not None and not callable(getattr(self.stop, "is_set", None)):
            raise CpgraphError(f"stop={self.stop!r} is not an event", mend="give a threading.Event, and set it to stop the run.")


class Lane:
    """An executor with the nodes that are to go to it: those of records that have begun, and the others.

    ahead: how many calls it is given, those under way among them. What it has been given goes first, so elsewhere
    than in threads it is no more than some 50 ms of work for each worker: else records would be opened one by one, and
    none go all the way down.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.going: deque[Node] = deque()
        self.first: deque[Node] = deque()
        self.busy = 0
        self.ahead = executor.width if executor.width == 1 else executor.width * (3 if executor.local else 2)
        self._seconds = 0.0

    def took(self, seconds: float) -> None:
        """Take note of how long a call took."""
        if not self.executor.local:
            self._seconds = 0.8 * self._seconds + 0.2 * seconds
            self.ahead = self.executor.width * max(2, min(64, int(AHEAD / (self._seconds + 1e-6))))

    @property
    def has_room(self) -> bool:
        """Tell whether a worker is free."""
        return self.busy < self.executor.width


class Route:
    """How the nodes of one step are handed out: what need not be found out for each.

    own: which argument is the step's own record; stores: which are the store; stated: whether its version is stated; held:
    something may hold a node back.
    """

    __slots__ = ("held", "lane", "own", "rate", "stated", "stores", "target", "timeout")

    def __init__(self, unit: Unit, instance: Instance, lane: Lane, target: Target, rate: Rate | None) -> None:
        assert unit.step is not None
        options, level = unit.step.options, instance.scope.level
        self.lane = lane
        self.target = target
        self.rate = rate
        self.timeout = target.timeout
        self.stated = options.version is not None
        self.stores = [index for index, binding in enumerate(unit.bindings) if binding.kind == "store"]
        records = [index for index, binding in enumerate(unit.bindings) if binding.kind == "record" and binding.level == level]
        self.own = records[0] if records else None
        self.held = bool(unit.holders or unit.limited or options.limit or options.timeout or _stops(instance))


class Handout:
    """The lanes of one run, what is in flight on them, and what is to happen at a later time."""

    def __init__(self, targets: Mapping[int, Target], settings: Settings, stream: Stream) -> None:
        self.targets = targets
        self.settings = settings
        self.stream = stream
        self.lanes: dict[str, Lane] = {}
        self.routes: dict[int, Route] = {}
        self.in_flight: dict[int, tuple[Node, Lane]] = {}
        self.timers: list[tuple[float, int, Callable[[], None], bool]] = []
        self.waited_for = 0
        self._returned: SimpleQueue[Any] = SimpleQueue()
        self._rates: dict[Limit, Rate] = {}
        self._tokens = itertools.count()

    # Lanes

    def lane(self, unit: Unit) -> Lane:
        """Give the lane for a step: async ones have an event loop, those that ask for the store a thread of this process."""
        assert unit.step is not None
        spec = self.settings.executor
        if spec == "inline":
            name = "inline"
        elif unit.step.is_async:
            name = "loop"
        elif any(binding.kind == "store" for binding in unit.bindings) and (not isinstance(spec, str) or spec == "processes"):
            name = "threads"
        else:
            name = spec if isinstance(spec, str) else "given"
        lane = self.lanes.get(name)
        if lane is None:
            asked = spec if name == "given" else name
            targets = [self.targets[index] for index in sorted(self.targets)]
            executor = open_executor(asked, self.settings.concurrency, self._returned, targets, self._pushed)
            lane = self.lanes[name] = Lane(executor)
        return lane

    def _pushed(self, token: int, kind: str, payload: Any) -> None:
        self.stream.push(kind, payload)

    @property
    def backlog(self) -> int:
        count = 0
        for lane in self.lanes.values():
            count += len(lane.going) + len(lane.first)
        return count

    def queue(self, node: Node) -> None:
        """Take a node that is to be computed; those of records that have begun come first."""
        unit, instance = node.unit, node.instance
        if unit.index not in self.routes:
            limit = unit.step.options.limit if unit.step is not None else None
            rate = self._rates.setdefault(limit, Rate(limit)) if limit is not None else None
            self.routes[unit.index] = Route(unit, instance, self.lane(unit), self.targets[unit.index], rate)
        node.route = route = self.routes[unit.index]
        (route.lane.going if instance.begun or not instance.key else route.lane.first).append(node)

    def again(self, node: Node) -> None:
        """Take back a node that was held."""
        node.route.lane.going.appendleft(node)

    # Out

    def submit(self, node: Node, lane: Lane) -> None:
        instance = node.instance
        route: Route = node.route
        for inner in instance.chain:
            inner.begun = True
        args = node.args
        own = None if route.own is None else args[route.own]
        for index in route.stores:
            node.reads = []
            node.store = Store(node.eyes().eyes(), node.reads, counts_code=not route.stated)
            args = [*args[:index], node.store, *args[index + 1 :]]
        node.token = token = next(self._tokens)
        node.attempts += 1
        self.in_flight[token] = (node, lane)
        instance.handed |= 1 << node.unit.slot
        lane.busy += 1
        if self.stream.listens(NodeStarted):
            self.stream.emit(NodeStarted(node.id, node.unit.name, instance.record()))
        if route.timeout is not None:
            self._watch(token, route.timeout)
        lane.executor.submit(Call(token, route.target, tuple(args), own))

    def _watch(self, token: int, timeout: float) -> None:
        def look() -> None:
            found = self.in_flight.get(token)
            if found is None:
                return
            node, lane = found
            started = lane.executor.started(token)
            now = time.monotonic()
            if started is None or now - started < timeout:
                self.at((started or now) + timeout, look, waited_for=False)
                return
            lane.executor.abandon(token)
            self._returned.put(timed_out(Call(token, self.targets[node.unit.index])))

        self.at(time.monotonic() + timeout, look, waited_for=False)

    # Limits of calls

    def within_limit(self, node: Node) -> bool:
        """Take a place in the step's `Limit`, or have the node wait for one."""
        rate: Rate | None = node.route.rate
        if rate is None:
            return True
        now = time.monotonic()
        if rate.delay(now) == 0:
            rate.take(now)
            return True
        rate.waiting.append(node)
        return False

    def next(self) -> list[Node]:
        """Give the next node of each `Limit` that lets a call begin now; where one will later, a timer is set."""
        found = []
        for rate in self._rates.values():
            if not rate.waiting or not rate.waiting[0].has_room:
                continue
            now = time.monotonic()
            delay = rate.delay(now)
            if delay == 0:
                found.append(rate.waiting.popleft())
            elif delay and not rate.timed:
                rate.timed = True
                self.at(now + delay, partial(setattr, rate, "timed", False))
        return found

    # Back

    def take(self, timeout: float | None) -> Any:
        """Take what comes back next: an outcome, a push, or an interruption; None if nothing does in time."""
        try:
            return self._returned.get_nowait() if timeout == 0 else self._returned.get(timeout=timeout)
        except Empty:
            return None

    def returned(self, outcome: Outcome) -> tuple[Node, Lane] | None:
        """Give the node an outcome is of; None if it was given up."""
        found = self.in_flight.pop(outcome.token, None)
        if found is not None:
            node, lane = found
            node.instance.handed &= ~(1 << node.unit.slot)
            lane.busy -= 1
            lane.took(outcome.seconds)
            if node.route.rate is not None:
                node.route.rate.active -= 1
        return found

    def tries_again(self, node: Node, lane: Lane, outcome: Outcome) -> bool:
        """Queue a failed call again if its step says so (rule F3)."""
        step = node.unit.step
        assert step is not None and outcome.error is not None
        options, error = step.options, outcome.error
        if isinstance(error, Retry):
            if node.attempts > (options.retries or UNASKED_RETRIES):
                return False
            delay = error.after
        else:
            wanted = isinstance(error, options.retry_on) and not (
                isinstance(error, AssertionError) and AssertionError not in options.retry_on
            )
            if node.attempts > options.retries or not wanted:
                return False
            delay = options.backoff * 2 ** (node.attempts - 1) * random.uniform(0.5, 1.0)
        if delay:
            self.at(time.monotonic() + delay, lambda: lane.going.append(node))
        else:
            lane.going.append(node)
        return True

    # Time

    def at(self, when: float, what: Callable[[], None], waited_for: bool = True) -> None:
        """Have something done at a later time, by the loop; the run goes on for what is `waited_for`."""
        self.waited_for += waited_for
        heapq.heappush(self.timers, (when, next(self._tokens), what, waited_for))

    def fire(self) -> bool:
        """Do what is due; tells whether anything was."""
        now, fired = time.monotonic(), False
        while self.timers and self.timers[0][0] <= now:
            _, _, what, waited_for = heapq.heappop(self.timers)
            self.waited_for -= waited_for
            what()
            fired = True
        return fired

    # The end

    def wake(self) -> None:
        """Have the loop see an interruption; safe from any thread and from a signal handler."""
        self._returned.put(INTERRUPT)

    def forget(self, token: int) -> None:
        """Take back a node that was handed out and has not begun."""
        found = self.in_flight.pop(token, None)
        if found is not None:
            found[1].busy -= 1

    def recall(self, at_once: bool) -> None:
        """Take back what has not begun; `at_once` leaves behind what has."""
        for lane in self.lanes.values():
            for token in lane.executor.recall():
                self.forget(token)
        if at_once or "inline" in self.lanes:  # what runs inline was interrupted itself
            self.in_flight.clear()

    @property
    def hanging(self) -> int:
        """How many calls that timed out have not come back."""
        return sum(lane.executor.hanging for lane in self.lanes.values())

    def close(self, wait: bool) -> None:
        for lane in self.lanes.values():
            lane.executor.recall()
            lane.executor.close(wait=wait and not lane.executor.hanging)


def _stops(instance: Instance) -> bool:
    return any(
        inner.scope.place.pipeline is not None and inner.scope.place.pipeline.on_error == "stop" for inner in instance.chain
    )
