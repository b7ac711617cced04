"""The loop: ready → found in the cache? → hand out → take back → apply → commit → again.

One thread owns all state and runs this loop; it alone commits. Workers only perform calls: they are handed what does
not move and answer through one queue. A result is applied to the records as soon as it comes back, so that what
follows may start, and written to the journal with its neighbours, every 1,000 nodes or 50 ms; only then is its end
reported (rule S4).

Records go all the way down before many are opened, and what failed last time is opened first, so that the next
edge-case shows in seconds.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final

import attrs

from cpgraph.commits import Conflict, apply, check, value_of_changes
from cpgraph.compile import Scope, Unit
from cpgraph.conflicts import Conflicts, part_of
from cpgraph.contents import met
from cpgraph.copies import isolated
from cpgraph.errors import Retry
from cpgraph.events import GuardChanged, NodeStarted, Stream
from cpgraph.execute import Call, Outcome, Target, failed, pack
from cpgraph.executors import Executor, open_executor
from cpgraph.fanout import items_of
from cpgraph.flow import Flow
from cpgraph.gates import Concurrency, Gate, Gates, Rate
from cpgraph.inputs import Deleted, Inputs
from cpgraph.instances import CLOSED, FAILED, OK, Asker, Fan, Instance, World
from cpgraph.journal import Journal
from cpgraph.ledger import BLOCKED_END, CACHED, CLOSED_END, COMMIT_NODES, COMPUTED, FAILED_END, Ledger
from cpgraph.nodes import Node, Result, Results, moved_inputs, node_id
from cpgraph.results import Head
from cpgraph.steps import Limit
from cpgraph.store import State, Store
from cpgraph.tellings import Tellings

__all__ = ["Lane", "Schedule", "Settings"]

STOP_SECONDS: Final = 0.05  # how often a `stop=` event is looked at
WINDOW: Final = 512  # instances opened, and keys looked up, at once
UNASKED_RETRIES: Final = 10  # how often Retry is honoured where retries= says nothing


@attrs.frozen
class Settings:
    """How a run is to be driven. at_once: commit and report each node before the next is handed out, so that tests can tell."""

    executor: Any = "threads"
    concurrency: int | None = None
    stop: threading.Event | None = None
    at_once: bool = False


class Lane:
    """An executor with the nodes that are to go to it: those of records that have begun, and the others."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.going: deque[Node] = deque()
        self.first: deque[Node] = deque()
        self.busy = 0
        self.ahead = executor.width if executor.width == 1 else executor.width * (3 if executor.local else 64)

    @property
    def backlog(self) -> int:
        return len(self.going) + len(self.first)


class Schedule:
    """Drives one run from its first record to its last commit."""

    def __init__(
        self,
        world: World,
        inputs: Inputs,
        results: Results,
        journal: Journal,
        run: int,
        targets: Mapping[int, Target],
        stream: Stream,
        settings: Settings,
        failed_before: frozenset[tuple[int, tuple[Any, ...]]] = frozenset(),
    ) -> None:
        self.world = world
        self.compiled = world.compiled
        self.inputs = inputs
        self.results = results
        self.journal = journal
        self.run_number = run
        self.targets = targets
        self.stream = stream
        self.settings = settings
        self.flow = Flow(world, self)
        self.flow.first = failed_before
        self.gates = Gates(world, self._ask_guard, self._guard_changed)
        self.concurrency = Concurrency()
        self.rates: dict[Limit, Rate] = {}
        self.has_guards = any(unit.open is not None and unit.open.guard for unit in self.compiled.units)
        self.returned: SimpleQueue[Any] = SimpleQueue()
        self.lanes: dict[str, Lane] = {}
        self.in_flight: dict[int, tuple[Node, Lane]] = {}
        self.working: dict[tuple[bytes, int], Node] = {}
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.tokens = itertools.count()
        self.ledger = Ledger(journal, run, world, stream)
        self.tellings = Tellings(stream, world)
        self.conflicts = Conflicts(world)
        self.stopping = False
        self.interrupts = 0

    # The loop

    def run(self) -> bool:
        """Run to the end; gives False if it was interrupted. Raises `StorageError` if the directory fails."""
        restore = self._catch_interrupts()
        try:
            self.flow.begin()
            while True:
                try:
                    if not self._turn():
                        break
                except KeyboardInterrupt:
                    self.interrupt()
            self.tellings.conclude(self._instance_counts())
            self.ledger.commit()
            return not self.stopping
        finally:
            restore()
            for lane in self.lanes.values():
                lane.executor.recall()
                lane.executor.close(wait=self.interrupts < 2 and not lane.executor.hanging)

    def _turn(self) -> bool:
        if self.settings.at_once:
            self.ledger.commit()
        if not self.stopping:
            self._look_up_ready()
            self._open_fresh()
            self._hand_out()
        if self.ledger.due:
            self.ledger.commit()
        if self._take_back(block=False):
            return True
        if self.in_flight:
            self._take_back(block=True)
            return True
        if self.stopping:
            return False
        if self.flow.ready or any(self.flow.fresh) or any(lane.backlog for lane in self.lanes.values()):
            return True
        if self.timers:
            self._take_back(block=True)
            return True
        return self._settle()

    def _take_back(self, block: bool) -> bool:
        """Take what came back; blocking, until something does or something else is due."""
        took = False
        while True:
            try:
                item = self.returned.get(timeout=self._patience()) if block else self.returned.get_nowait()
            except Empty:
                self._fire_timers()
                return took
            block = False
            took = True
            if isinstance(item, Outcome):
                self._returned(item)
            elif item[0] == "push":
                self.stream.push(item[2], item[3])
            else:
                self.interrupt()
            if self.ledger.full:
                return True

    def _patience(self) -> float | None:
        now = time.monotonic()
        waits = [self.timers[0][0] - now] if self.timers else []
        if self.ledger.due_at is not None:
            waits.append(self.ledger.due_at - now)
        if self.settings.stop is not None:
            if self.settings.stop.is_set() and not self.stopping:
                self.interrupt()
            waits.append(STOP_SECONDS)
        return max(0.0, min(waits)) if waits else None

    def _fire_timers(self) -> None:
        now = time.monotonic()
        while self.timers and self.timers[0][0] <= now:
            heapq.heappop(self.timers)[2]()
        if self.settings.stop is not None and self.settings.stop.is_set() and not self.stopping:
            self.interrupt()

    def _at(self, when: float, what: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (when, next(self.tokens), what))

    # Interruption

    def _catch_interrupts(self) -> Callable[[], None]:
        """Let the first Ctrl-C end the run cleanly, the second at once. Under "inline" Python's own way is kept."""
        if self.settings.executor == "inline" or threading.current_thread() is not threading.main_thread():
            return lambda: None
        import signal

        try:
            before = signal.signal(signal.SIGINT, lambda number, frame: self.returned.put(("interrupt",)))
        except ValueError:
            return lambda: None
        return lambda: void(signal.signal(signal.SIGINT, before))

    def interrupt(self) -> None:
        """Start nothing more; what runs comes back, at the second time it is left behind."""
        self.stopping = True
        self.interrupts += 1
        for lane in self.lanes.values():
            for token in lane.executor.recall():
                found = self.in_flight.pop(token, None)
                if found is not None:
                    lane.busy -= 1
        if self.interrupts > 1:
            self.in_flight.clear()

    # Ready nodes: look up, then queue

    def _look_up_ready(self) -> None:
        while self.flow.ready:
            batch, self.flow.ready = self.flow.ready, []
            nodes = [node for unit, instance in batch if (node := self._gather(unit, instance)) is not None]
            for start in range(0, len(nodes), COMMIT_NODES):
                self._look_up(nodes[start : start + COMMIT_NODES])

    def _look_up(self, nodes: list[Node]) -> None:
        for node, result in zip(nodes, self.results.find(nodes), strict=True):
            if node.over:
                continue
            if result is not None:
                self._finish(node, result, CACHED)
            else:
                self._queue(node)
            if self.ledger.full:
                self.ledger.commit()

    def _gather(self, unit: Unit, instance: Instance) -> Node | None:
        """Find out what a node gets; None if it ends here or is held back."""
        if instance.ended[unit.slot]:
            return None
        if unit.holders:
            for gate in self.gates.around(unit, instance):
                if not gate.answer:
                    gate.held.append((unit, instance))
                    return None
        asker: Asker | None = None
        try:
            for inner in instance.chain:
                if inner.row is not None and inner.row.writes and inner.row.table.deletes:
                    asker = asker or Asker(self.world, unit.index, instance)
                    if asker.view().state(inner.row) is None:
                        raise Deleted
            before = met.count
            args, parts, kept = self.inputs.gather(unit, instance, asker)
        except Deleted:
            self.flow.end(unit, instance, CLOSED, self._deleted_by(unit, instance))
            return None
        except Exception as error:
            self._fail(
                Node(unit, instance, [], b"", b"", asker), failed(Call(-1, self.targets[unit.index]), error, 0.0, time.time())
            )
            return None
        assert unit.step is not None
        self._tell_joins(unit, instance)
        node = Node(unit, instance, args, self.results.key(unit.step.name, parts), b"".join(kept), asker)
        node.has_files = met.count != before
        return node

    def _deleted_by(self, unit: Unit, instance: Instance) -> str:
        for inner in instance.chain:
            row = inner.row
            if row is not None and row.last is None:
                write = next(write for write in reversed(row.writes) if write.kind == "delete")
                step = self.compiled.units[write.unit].step
                assert step is not None
                return f"{row.table.name} {row.id!r} was deleted by {node_id(step.name, write.instance.key)}"
        return "its record was deleted"

    def _queue(self, node: Node) -> None:
        step = node.unit.step
        assert step is not None
        if step.options.cache:
            leader = self.working.setdefault(node.work, node)
            if leader is not node:
                leader.followers.append(node)
                return
        lane = self._lane(node.unit)
        (lane.going if node.instance.begun or not node.instance.key else lane.first).append(node)

    def _lane(self, unit: Unit) -> Lane:
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
            width = self.settings.concurrency
            lane = self.lanes[name] = Lane(open_executor(asked, width, self.returned, targets, self._pushed_inline))
        return lane

    def _pushed_inline(self, token: int, kind: str, payload: Any) -> None:
        self.stream.push(kind, payload)

    def _open_fresh(self) -> None:
        """Open further records, the deepest first, when there is too little to hand out."""
        for fans in reversed(self.flow.fresh):
            while fans:
                fan = fans[-1]
                held = self.has_guards and self._holds(fan)
                if not held and self._backlog() >= WINDOW // 2:
                    return
                count = 0
                while fan.fresh and (held or count < WINDOW):
                    instance = fan.fresh.popleft()
                    if instance.remaining and not instance.started:
                        self.flow.begin_instance(instance)
                        count += 1
                if not fan.fresh and fan in fans:
                    fans.remove(fan)
                self._look_up_ready()

    def _holds(self, fan: Fan) -> bool:
        start = self.compiled.units[fan.scope.place.start or 0]
        return bool(start.holders or (start.open is not None and start.open.guard))

    def _backlog(self) -> int:
        return sum(lane.backlog for lane in self.lanes.values())

    # Handing out

    def _hand_out(self) -> None:
        for lane in list(self.lanes.values()):
            while lane.going or lane.first:
                queue = lane.going or lane.first
                node = queue[0]
                if node.over:
                    queue.popleft()
                    self._drop(node)
                    continue
                if lane.busy >= (lane.executor.width if self._may_hold(node) else lane.ahead):
                    break
                queue.popleft()
                if self._may_start(node, lane):
                    self._submit(node, lane)

    def _may_hold(self, node: Node) -> bool:
        unit = node.unit
        assert unit.step is not None
        return bool(
            unit.holders or unit.limited or unit.step.options.limit or unit.step.options.timeout or self._stops(node.instance)
        )

    def _stops(self, instance: Instance) -> bool:
        return any(
            inner.scope.place.pipeline is not None and inner.scope.place.pipeline.on_error == "stop" for inner in instance.chain
        )

    def _may_start(self, node: Node, lane: Lane) -> bool:
        """Ask all that may hold a node back; whoever does keeps it."""
        unit, instance = node.unit, node.instance
        assert unit.step is not None
        if unit.holders:
            for gate in self.gates.around(unit, instance):
                if self.gates.stale(gate):
                    self._reask(gate)
                if not gate.answer or node.over:
                    gate.held.append((unit, instance))
                    self._drop(node)
                    return False
        for inner in instance.chain:
            if inner.fan is not None and inner.fan.stopped and not inner.begun:
                self.flow.stop(inner)
                self._drop(node)
                return False
        if unit.limited and not self.concurrency.takes(unit, instance, node):
            return False
        limit = unit.step.options.limit
        if limit is not None:
            rate = self.rates.setdefault(limit, Rate(limit))
            now = time.monotonic()
            delay = rate.delay(now)
            if delay is None:
                rate.waiting.append(node)
                return False
            if delay:
                self._at(now + delay, lambda: lane.going.appendleft(node))
                return False
            rate.take(now)
        return True

    def _drop(self, node: Node) -> None:
        """Forget a node that will not be computed now; those that waited for the same work are looked up again."""
        self._leave_work(node)
        for follower in node.followers:
            self.flow.ready.append((follower.unit, follower.instance))
        node.followers = []

    def _submit(self, node: Node, lane: Lane) -> None:
        unit, instance = node.unit, node.instance
        step = unit.step
        assert step is not None
        for inner in instance.chain:
            inner.begun = True
        args = node.args
        own = None
        for index, binding in enumerate(unit.bindings):
            if binding.kind == "store":
                node.reads = []
                node.store = Store(node.eyes().eyes(), node.reads)
                args = [*args[:index], node.store, *args[index + 1 :]]
            elif binding.kind == "record" and binding.level == instance.scope.level:
                own = args[index]
        node.token = token = next(self.tokens)
        node.attempts += 1
        self.in_flight[token] = (node, lane)
        lane.busy += 1
        if self.stream.listens(NodeStarted):
            self.stream.emit(NodeStarted(node.id, step.name, instance.record()))
        if step.options.timeout is not None:
            self._watch(token, step.options.timeout)
        lane.executor.submit(Call(token, self.targets[unit.index], tuple(args), own))

    def _watch(self, token: int, timeout: float) -> None:
        def look() -> None:
            found = self.in_flight.get(token)
            if found is None:
                return
            node, lane = found
            started = lane.executor.started(token)
            now = time.monotonic()
            if started is None or now - started < timeout:
                self._at((started or now) + timeout, look)
                return
            lane.executor.abandon(token)
            error = TimeoutError(f"still running after {timeout:g} s")
            self._returned(failed(Call(token, self.targets[node.unit.index]), error, timeout, time.time() - timeout))

        self._at(time.monotonic() + timeout, look)

    # Taking back

    def _returned(self, outcome: Outcome) -> None:
        found = self.in_flight.pop(outcome.token, None)
        if found is None:
            return
        node, lane = found
        lane.busy -= 1
        step = node.unit.step
        assert step is not None
        for kind, payload in outcome.pushes:
            self.stream.push(kind, payload)
        limit = step.options.limit
        if limit is not None:
            rate = self.rates[limit]
            rate.active -= 1
            while rate.waiting:
                waiting = rate.waiting.popleft()
                if not waiting.over:
                    self._lane(waiting.unit).going.appendleft(waiting)
                    break
        for kind, text, mend in outcome.hints:
            self.tellings.told(kind, text, mend, node.id, step.name)
        if outcome.error is not None:
            if not self._try_again(node, lane, outcome):
                self._fail(node, outcome)
            return
        self._computed(node, outcome)

    def _try_again(self, node: Node, lane: Lane, outcome: Outcome) -> bool:
        step = node.unit.step
        assert step is not None and outcome.error is not None
        options, error = step.options, outcome.error
        if self.stopping:
            return False
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
            self._at(time.monotonic() + delay, lambda: lane.going.append(node))
        else:
            lane.going.append(node)
        return True

    def _computed(self, node: Node, outcome: Outcome) -> None:
        step = node.unit.step
        value = outcome.value
        assert step is not None and value is not None
        unit = node.unit
        if node.has_files or (node.store is not None and node.store.read_files):
            self._check_files(node)
        noted = outcome.reads if outcome.reads is not None else node.reads
        reads = tuple(noted) if noted is not None else None
        if outcome.changes and outcome.shape != "value":
            own = node.instance.key[-1] if node.instance.key else None
            value = pack(value_of_changes(outcome.changes, outcome.shape, own, node.id))
        head = Head(
            self.run_number, unit.index, outcome.started, outcome.seconds, value.digest, node.kept, outcome.changes, outcome.shape, reads,
            bool(value.problem) or node.moved, value.has_files,
        )  # fmt: skip
        if value.digest is None:
            value.digest = os.urandom(len(node.key)) if node.moved else node.key
            self.tellings.told(
                "undigestible",
                f"step {step.name!r} gives a value that has no digest: what follows runs again whenever it does",
                value.undigestible.splitlines()[0] if value.undigestible else "return plain values.",
                node.id,
                step.name,
            )
        if value.problem and step.options.cache:
            self.tellings.told(
                "not-cached",
                f"step {step.name!r} gives a value that does not pickle: it is not cached",
                f"return what it was made of ({value.problem.splitlines()[0]}).",
                node.id,
                step.name,
            )
        self._finish(node, Result(0, head, value), COMPUTED)

    def _check_files(self, node: Node) -> None:
        """See that no file has moved since the node's key was made; if one has, the result is not what the key says."""
        moved = moved_inputs(node)
        if not moved:
            return
        node.moved = True
        self.tellings.told(
            "file-moved",
            f"a file that {node.unit.name} asks for ({', '.join(moved)}) changed while it was at work: what it gave is not kept",
            "run again, or resume, when nobody writes to the file.",
            node.id,
            node.unit.name,
        )

    def _finish(self, node: Node, result: Result, ended: int) -> None:
        """Apply and keep a result: computed, or taken from the cache; both by the same rules (C8)."""
        unit, instance = node.unit, node.instance
        step = unit.step
        assert step is not None
        head, value = result.head, result.value
        try:
            if unit.source_of:
                items_of(value.load(), step.name)
            if ended == CACHED and head.changes and head.shape != "value":
                own = instance.key[-1] if instance.key else None
                value = pack(value_of_changes(head.changes, head.shape, own, node.id))
            changes = head.changes
            if step.options.sets is not None:
                changes = (*changes, ("update", None, None, {step.options.sets: value.load()}))
            row = instance.row or next((inner.row for inner in reversed(instance.chain) if inner.row is not None), None)
            effects = check(self.world, node.eyes(), row, changes, node.id) if changes else ()
        except Exception as error:
            self._fail(node, failed(Call(-1, self.targets[unit.index]), error, head.seconds, head.started))
            return
        row_id = result.row
        if ended == COMPUTED:
            self._leave_work(node)
            row_id = self.ledger.keep(node.key if step.options.cache and not node.moved else None, head, value)
        instance.values[unit.slot] = value
        extra: dict[str, Any] | None = None
        version = 0
        if effects:
            version = 1 if ended == COMPUTED else 2
            extra = self._apply(node, effects)
        if head.reads:
            self.tellings.asked(unit.index, head.reads)
        if (ended == CACHED and head.run == self.run_number) or (ended == COMPUTED and node.followers):
            self.ledger.share(row_id, unit, instance)
        self.ledger.end(unit, instance, ended, row_id, version, head.seconds, extra)
        for inner in instance.chain:
            inner.begun = True
        self.flow.end(unit, instance, OK)
        if ended == COMPUTED:
            self._serve_followers(node, attrs.evolve(result, row=row_id))

    def _leave_work(self, node: Node) -> None:
        if self.working.get(node.work) is node:
            del self.working[node.work]

    def _serve_followers(self, node: Node, result: Result) -> None:
        followers, node.followers = node.followers, []
        for follower in followers:
            if follower.over:
                continue
            if result.head.reads is None:
                self._finish(follower, result, CACHED)
            else:
                self.flow.ready.append((follower.unit, follower.instance))

    def _apply(self, node: Node, effects: Sequence[Any]) -> dict[str, Any] | None:
        records = self.world.records
        records.commit += 1
        applied = apply(self.world, node.eyes(), effects, records.commit)
        for inner in node.instance.chain:
            if inner.written is None:
                inner.written = []
            inner.written.extend(applied.touched)
        if self.has_guards:
            self.gates.live.update(applied.touched)
        for row in applied.created:
            self.flow.created(row)
        for model, id in applied.kept:
            self.tellings.told(
                "created-twice",
                f"{model} {id!r} was created by unordered nodes with different content; the one committed first stands",
                "put one creator after the other, or derive the content from the id alone.",
                node.id,
            )
        for conflict in applied.conflicts:
            self._conflict(conflict)
        extra: dict[str, Any] = {}
        if applied.outcome:
            extra["outcome"] = applied.outcome
        if any(effect.kind == "create" for effect in effects):
            extra["items"] = tuple(inner.rank.ordinal if inner.row is None else None for inner in node.instance.chain)
        return extra or None

    def _conflict(self, conflict: Conflict) -> None:
        place, at, copy = part_of(self.world, conflict)
        if copy:
            at.failed = True
        else:
            self.flow.force(place, at)
        self.conflicts.add(conflict, place, at)

    def _fail(self, node: Node, outcome: Outcome) -> None:
        unit, instance = node.unit, node.instance
        if instance.ended[unit.slot]:
            return
        self._leave_work(node)
        row = self.ledger.keep_failure(node.id, unit.name, outcome, max(node.attempts, 1))
        self.ledger.end(unit, instance, FAILED_END, row, seconds=outcome.seconds)
        self.flow.end(unit, instance, FAILED, node.id)
        followers, node.followers = node.followers, []
        for follower in followers:
            follower.attempts = node.attempts
            self._fail(follower, outcome)

    # What the flow asks (see flow.Decide)

    def opens(self, unit: Unit, instance: Instance) -> bool | None:
        opened = unit.open
        assert opened is not None
        if opened.guard:
            return self.gates.opens(unit, instance) or None
        try:
            return bool(self.inputs.ask(opened.function, opened.bindings, unit, instance, stream=self.stream))
        except Deleted:
            return False

    def lets_in(self, scope: Scope, instance: Instance) -> bool:
        condition = scope.condition
        assert condition is not None and scope.place.start is not None
        first = self.compiled.units[scope.place.start]
        try:
            return bool(self.inputs.ask(condition.function, condition.bindings, first, instance, stream=self.stream))
        except Deleted:
            return False

    def selects(self, fan: Fan, state: State) -> bool:
        selection = fan.scope.selection
        if selection is None:
            return True
        if any(getattr(state.record, name) != value for name, value in selection.equal.items()):
            return False
        if selection.predicate is None:
            return True
        start = self.compiled.units[fan.scope.place.start or 0]
        record = isolated(state.record)
        return bool(self.inputs.ask(selection.predicate, fan.scope.predicate, start, fan.instance, (record,), stream=self.stream))

    def items(self, fan: Fan) -> Sequence[tuple[Any, Any, bytes]] | None:
        return self.inputs.items(fan)

    def ended(self, unit: Unit, instance: Instance, how: int, reason: str) -> None:
        ended = CLOSED_END if how == CLOSED else BLOCKED_END
        self.ledger.end(unit, instance, ended, extra={"reason": reason} if reason else None)

    def failed(self, unit: Unit, instance: Instance, error: BaseException) -> None:
        target = Target(unit.name, void, where=unit.place.where)
        outcome = failed(Call(-1, target), error, 0.0, time.time())
        row = self.ledger.keep_failure(node_id(unit.name, instance.key), unit.name, outcome, 1)
        self.ledger.end(unit, instance, FAILED_END, row)

    def left(self, instance: Instance) -> None:
        for node in self.concurrency.release(instance):
            self._lane(node.unit).going.appendleft(node)

    # Guards

    def _ask_guard(self, unit: Unit, instance: Instance, store: Store) -> Any:
        opened = unit.open
        assert opened is not None
        return self.inputs.ask(opened.function, opened.bindings, unit, instance, store=store, stream=self.stream)

    def _guard_changed(self, gate: Gate) -> None:
        if self.stream.listens(GuardChanged):
            self.stream.emit(GuardChanged(gate.unit.place.name, gate.answer, gate.read))

    def _reask(self, gate: Gate) -> bool:
        """Ask a guard again; one that raises fails its pipeline."""
        try:
            answer = self.gates.ask(gate)
        except Exception as error:
            gate.settled = True
            self.failed(gate.unit, gate.instance, error)
            if gate.instance.ended[gate.unit.slot]:
                self.flow.close_part(gate.unit.place, gate.instance, "its guard raised")
            else:
                self.flow.end(gate.unit, gate.instance, FAILED, gate.unit.name)
            return False
        if answer:
            self.flow.ready.extend(gate.held)
            gate.held.clear()
        return answer

    def _reask_closed(self) -> bool:
        """Ask closed guards again whose models have changed; tells whether one opened."""
        opened = False
        for gate in list(self.gates.gates.values()):
            if gate.settled or gate.answer or not self.gates.stale(gate):
                continue
            never = not gate.opened
            if self._reask(gate):
                opened = True
                if never:
                    self.flow.open_asked(gate.unit, gate.instance)
        return opened

    def _settle(self) -> bool:
        """When nothing else can run: ask closed guards once more, then close the first in graph order for good (G3)."""
        if self._reask_closed() or self.flow.ready:
            return True
        stuck = self.concurrency.stuck()
        if stuck:
            for node in stuck:
                self._lane(node.unit).going.append(node)
            return True
        closed = [gate for gate in self.gates.gates.values() if not gate.settled and (not gate.opened or gate.held)]
        if not closed:
            return False
        gate = min(closed, key=lambda gate: (gate.unit.index, gate.instance.rank))
        gate.settled = True
        reason = (
            f"the guard of {gate.unit.place.name} never opened"
            if not gate.opened
            else f"the guard of {gate.unit.place.name} closed"
        )
        reason += f"; it read {', '.join(gate.read)}" if gate.read else ""
        gate.held.clear()
        if gate.opened:
            self.flow.close_part(gate.unit.place, gate.instance, reason)
        else:
            self.flow.end(gate.unit, gate.instance, CLOSED, reason)
        return True

    # For those who read the run

    def _tell_joins(self, unit: Unit, instance: Instance) -> None:
        for binding in unit.bindings:
            if binding.kind == "joined":
                missing, expected = self.inputs.missing(unit, instance, binding)
                if missing:
                    self.tellings.told(
                        "joined-fewer",
                        f"{unit.name} joins {expected - missing} of {expected} of {self.compiled.units[binding.unit].name}",
                        "see run.failures for those that are missing.",
                        node_id(unit.name, instance.key),
                        unit.name,
                    )
                    return

    def told(self, kind: str, text: str, mend: str, node: str = "") -> None:
        self.tellings.told(kind, text, mend, node)

    def _instance_counts(self) -> dict[int, int]:
        return {scope: sum(len(fan.instances) for fan in fans) for scope, fans in self.flow.open_fans.items()}

    def item_orders(self) -> dict[int, list[Any]]:
        """Give the order of items of each `each` over items, for those who read the run."""
        found: dict[int, list[Any]] = {}
        for scope, fans in self.flow.open_fans.items():
            if self.compiled.scopes[scope].model is None and fans:
                seen: dict[Any, None] = {}
                for fan in fans:
                    seen.update((instance.key[-1], None) for instance in fan.ordered())
                found[scope] = list(seen)
        return found


def void(*args: object) -> None:
    """Do nothing."""
