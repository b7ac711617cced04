"""The loop: ready → found in the cache? → hand out → take back → apply → commit → again.

One thread owns all state and runs this loop; it alone commits. Workers only perform calls: they are handed what does
not move and answer through one queue. A result is applied to the records as soon as it comes back, so that what
follows may start, and written to the journal with its neighbours, every 1,000 nodes or 50 ms; only then is its end
reported (rule S4).

Records go all the way down before many are opened, and what failed last time is opened first, so that the next
edge-case shows in seconds.
"""

from __future__ import annotations

import gc
import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import attrs

from cpgraph.commits import Conflict, Effect, amended, apply, check, value_of_changes
from cpgraph.conflicts import Conflicts, part_of
from cpgraph.contents import met
from cpgraph.decisions import Decisions
from cpgraph.errors import CpgraphError, StorageError
from cpgraph.events import Stream
from cpgraph.execute import Call, Outcome, Target, ends_run, failed, pack
from cpgraph.fanout import items_of
from cpgraph.flow import Flow
from cpgraph.gates import Concurrency
from cpgraph.handout import Handout, Lane, Settings
from cpgraph.inputs import Deleted, Inputs
from cpgraph.instances import CLOSED, FAILED, OK, Fan, Instance, World
from cpgraph.journal import Journal
from cpgraph.ledger import CACHED, COMMIT_NODES, COMPUTED, FAILED_END, Ledger
from cpgraph.nodes import Node, Result, Results, Work, moved_inputs, node_id, stand
from cpgraph.results import ADOPTED, Head
from cpgraph.structure import Binding, Compiled, Unit
from cpgraph.tellings import Tellings

__all__ = ["Schedule", "Settings"]

STOP_SECONDS: Final = 0.05  # how often a `stop=` event is looked at
WINDOW: Final = 512  # instances opened, and keys looked up, at once


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
        self.ledger = Ledger(journal, run, world, stream)
        self.tellings = Tellings(stream, world)
        self.conflicts = Conflicts(world)
        self.concurrency = Concurrency()
        self.decisions = Decisions(world, inputs, self.ledger, self.tellings, stream, self._left)
        self.gates = self.decisions.gates
        self.flow = Flow(world, self.decisions)
        self.flow.first = failed_before
        self.handout = Handout(targets, settings, stream)
        self.has_guards = any(unit.open is not None and unit.open.guard for unit in self.compiled.units)
        self.has_limits = any(
            unit.limited or (unit.step is not None and unit.step.options.limit is not None) for unit in self.compiled.units
        )
        self.joins = {unit.index for unit in self.compiled.units if any(binding.kind == "joined" for binding in unit.bindings)}
        self.unasked = _unasked(self.compiled)
        self.functions = {unit.index: id(unit.step.function) for unit in self.compiled.units if unit.step is not None}
        self.working: dict[Work, Node] = {}
        self.edited: Mapping[tuple[str, Any], Mapping[str, Any] | None] = {}
        self.makers: dict[int, set[tuple[int, int]]] = {}  # of a resume: runs and units that made the results of each unit
        self.fingerprint_of: Callable[[int, int], str] = lambda run, unit: ""
        self.stopping = False
        self.interrupts = 0

    # The loop

    def run(self) -> bool:
        """Run to the end; gives False if it was interrupted. Raises `StorageError` if the directory fails."""
        restore = self._catch_interrupts()
        collected = gc.get_threshold()
        if collected[0]:  # what a run makes stays for the run: looking through it every 700 objects finds nothing
            gc.set_threshold(max(collected[0], 50_000), *collected[1:])
        try:
            self.flow.begin()
            while True:
                try:
                    if not self._turn():
                        break
                except KeyboardInterrupt:
                    self.interrupt()
            if not self.stopping:
                self._check_ended()
            self._tell_hanging()
            self.tellings.conclude(self._instance_counts())
            self.ledger.commit()
            return not self.stopping
        finally:
            gc.set_threshold(*collected)
            restore()
            self.handout.close(wait=self.interrupts < 2)

    def _check_ended(self) -> None:
        """Nothing can run any more: then all has ended, or this library is at fault, and no answer is better than a short one."""
        fans = itertools.chain.from_iterable(self.flow.open_fans.values())
        instances = itertools.chain([self.world.root], *(fan.instances for fan in fans))
        left = next((instance for instance in instances if instance.remaining), None)
        if left is not None:
            units = [self.compiled.units[index] for index in left.scope.units]
            waiting = next(unit for unit in units if not left.ended[unit.slot])
            raise CpgraphError(
                "the run came to a standstill before all had ended",
                {"first that has not": node_id(waiting.name, left.key)},
                "this is a fault of cpgraph, not of your steps: please report it; what is done is kept, and run carries on.",
            )

    def _turn(self) -> bool:
        """Do what can be done now, then wait for what comes next; gives False when nothing can."""
        if self.settings.stop is not None:
            self._look_at_stop()
        if self.settings.at_once:
            self.ledger.commit()
        if not self.stopping:
            if self.flow.ready:
                self._look_up_ready()
            self._open_fresh()
            if self.has_guards and self.decisions.ask_closed(self.flow):
                return True
            self._hand_out()
        if self.ledger.waiting and self.ledger.due:
            self.ledger.commit()
        if self._take_back(block=False) or (self.flow.ready and not self.stopping):
            return True
        if self.handout.in_flight:
            return self._take_back(block=True) or True
        if self.stopping:
            return False
        if self.flow.ready or any(self.flow.fresh) or self.handout.backlog:
            return True
        if self.handout.waited_for:
            return self._take_back(block=True) or True
        return self._settle()

    def _take_back(self, block: bool) -> bool:
        """Take what came back; blocking, until something does or something else is due."""
        took = False
        while True:
            item = self.handout.take(self._patience() if block else 0)
            if item is None:
                if self.handout.timers:
                    took = self.handout.fire() or took
                if self.settings.stop is not None:
                    self._look_at_stop()
                return took
            block = False
            took = True
            if isinstance(item, Outcome):
                self._returned(item)
            elif item[0] == "push":
                self.stream.push(item[2], item[3])
            elif item[0] == "recalled":
                self.handout.forget(item[1])
            else:
                self.interrupt()
            if self.ledger.waiting >= COMMIT_NODES or not (self.handout.in_flight or self.handout.timers):
                return True

    def _patience(self) -> float | None:
        now = time.monotonic()
        waits = [self.handout.timers[0][0] - now] if self.handout.timers else []
        if self.ledger.due_at is not None:
            waits.append(self.ledger.due_at - now)
        if self.settings.stop is not None:
            self._look_at_stop()
            waits.append(STOP_SECONDS)
        return max(0.0, min(waits)) if waits else None

    def _look_at_stop(self) -> None:
        if self.settings.stop is not None and self.settings.stop.is_set() and not self.stopping:
            self.interrupt()

    def _settle(self) -> bool:
        """When nothing else can run: ask guards once more, see who has a place for work, then close a guard for good."""
        return self.decisions.ask_closed(self.flow) or self._pass_work() or self.decisions.settle(self.flow)

    def _pass_work(self) -> bool:
        """Where a node waits for a place, let one with the same work do it: it may be the one that holds the place."""
        for node in self.concurrency.waiting():
            followers = node.followers or []
            other = next((other for other in followers if not other.parked and not other.over), None)
            if other is not None and node.work is not None:
                self.working[node.work] = other
                other.followers, node.followers = [*(one for one in followers if one is not other), node], None
                self.handout.queue(other)
                return True
        return False

    # Interruption

    def _catch_interrupts(self) -> Callable[[], None]:
        """Let the first Ctrl-C end the run cleanly, the second at once. Under "inline" Python's own way is kept."""
        if self.settings.executor == "inline" or threading.current_thread() is not threading.main_thread():
            return lambda: None
        import signal

        try:
            before = signal.signal(signal.SIGINT, lambda number, frame: self.handout.wake())
        except ValueError:
            return lambda: None
        return lambda: void(signal.signal(signal.SIGINT, before))

    def interrupt(self) -> None:
        """Start nothing more; what runs comes back, at the second time it is left behind."""
        self.stopping = True
        self.interrupts += 1
        self.handout.recall(at_once=self.interrupts > 1)

    # Ready nodes: look up, then queue

    def _look_up_ready(self) -> None:
        while self.flow.ready:
            batch, self.flow.ready = self.flow.ready, []
            nodes = [node for unit, instance in batch if (node := self._gather(unit, instance))]
            for start in range(0, len(nodes), COMMIT_NODES):
                self._look_up(nodes[start : start + COMMIT_NODES])

    def _look_up(self, nodes: list[Node]) -> None:
        for node, result in zip(nodes, self.results.find(nodes), strict=True):
            if node.instance.ended[node.unit.slot]:
                continue
            if result is not None:
                self._finish(node, result, CACHED)
            else:
                self._queue(node)
            if self.ledger.waiting >= COMMIT_NODES:
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
        before = met.count
        try:
            for inner in instance.chain:
                row = inner.row
                if row is not None and row.writes and row.table.deletes and (gone := self.inputs.gone(unit, instance)):
                    self.flow.end(unit, instance, CLOSED, gone)
                    return None
            args, parts, kept = self.inputs.gather(unit, instance)
        except Deleted as deleted:
            self.flow.end(unit, instance, CLOSED, str(deleted))
            return None
        except BaseException as error:
            if ends_run(error):
                raise
            self._fail(Node(unit, instance, []), failed(Call(-1, self.targets[unit.index]), error, 0.0, time.time()))
            return None
        assert unit.step is not None
        if unit.index in self.joins:
            self._tell_joins(unit, instance)
        node = Node(unit, instance, args, self.results.key(unit.step.name, parts), kept)
        if met.count != before:
            node.has_files = True
        return node

    def _queue(self, node: Node) -> None:
        step = node.unit.step
        assert step is not None
        if step.options.cache:
            node.work = node.key, self.functions[node.unit.index]
            leader = self.working.setdefault(node.work, node)
            if leader is not node:
                if leader.followers is None:
                    leader.followers = []
                leader.followers.append(node)
                return
        self.handout.queue(node)

    def _open_fresh(self) -> None:
        """Open further records, the deepest first, when there is too little to hand out."""
        for fans in reversed(self.flow.fresh):
            while fans:
                fan = fans[0]
                held = self.has_guards and self._holds(fan)
                if not held and self.handout.backlog >= WINDOW // 2:
                    return
                count = 0
                while fan.fresh and (held or count < WINDOW):
                    instance = fan.fresh.popleft()
                    if instance.remaining and not instance.started:
                        self.flow.begin_instance(instance)
                        count += 1
                if not fan.fresh:
                    fans.popleft()
                self._look_up_ready()

    def _holds(self, fan: Fan) -> bool:
        start = self.compiled.units[fan.scope.place.start or 0]
        return bool(start.holders or (start.open is not None and start.open.guard))

    # Handing out

    def _hand_out(self) -> None:
        for lane in list(self.handout.lanes.values()):
            self._fill(lane)
        while self.has_limits and self._let_start():
            for lane in self.handout.lanes.values():
                self._fill(lane)

    def _fill(self, lane: Lane) -> None:
        while lane.going or lane.first:
            queue = lane.going or lane.first
            node = queue[0]
            if node.instance.ended[node.unit.slot]:
                queue.popleft()
                self._drop(node)
                continue
            held = node.route.held
            if not lane.has_room if held else lane.busy >= lane.ahead:
                break
            queue.popleft()
            if not held or self._may_start(node):
                self.handout.submit(node, lane)

    def _may_start(self, node: Node) -> bool:
        """Ask all that may hold a node back; whoever does keeps it."""
        unit, instance = node.unit, node.instance
        assert unit.step is not None
        if unit.holders:
            for gate in self.gates.around(unit, instance):
                if self.gates.stale(gate):
                    self.decisions.ask_again(gate, self.flow)
                if not gate.answer or node.over:
                    if not gate.settled:
                        gate.held.append((unit, instance))
                    self._drop(node)
                    return False
        for inner in instance.chain:
            if inner.fan is not None and inner.fan.stopped and not inner.begun:
                self.flow.stop(inner)
                self._drop(node)
                return False
        if unit.limited:
            node.parked = not self.concurrency.takes(unit, instance, node)
            if node.parked:
                return False
        return self.handout.within_limit(node)

    def _let_start(self) -> bool:
        """Queue again, of what limits hold back, what they let start now; tells whether there was any."""
        nodes = self.concurrency.next() + self.handout.next()
        for node in nodes:
            node.parked = False
            if node.over:
                self._drop(node)
            elif node.work is None or self.working.get(node.work) is node:  # else another has its work
                self.handout.again(node)
        return bool(nodes)

    def _drop(self, node: Node) -> None:
        """Forget a node that will not be computed now; those that waited for the same work are looked up again."""
        self._leave_work(node)
        self._let_go(node)

    def _let_go(self, node: Node) -> None:
        """Have those that waited for the same work looked up again."""
        followers, node.followers = node.followers or (), None
        self.flow.ready.extend((follower.unit, follower.instance) for follower in followers)

    # Taking back

    def _returned(self, outcome: Outcome) -> None:
        found = self.handout.returned(outcome)
        if found is None:
            return
        node, lane = found
        for kind, payload in outcome.pushes:
            self.stream.push(kind, payload)
        for kind, text, mend in outcome.hints:
            self.tellings.told(kind, text, mend, node.id, node.unit.name)
        if outcome.error is None:
            self._computed(node, outcome)
        elif self.stopping or not self.handout.tries_again(node, lane, outcome):
            self._fail(node, outcome)

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
            own = _own_id(node.instance)
            value = pack(value_of_changes(outcome.changes, outcome.shape, own, node.id))
        head = Head(
            self.run_number, unit.index, outcome.started, outcome.seconds, value.digest, node.kept, outcome.changes,
            outcome.shape, reads, bool(value.problem) or node.uncached, value.has_files, value.code,
        )  # fmt: skip
        if value.digest is None:
            value.digest = os.urandom(len(node.key)) if node.uncached else node.key
            if not value.problem:  # else the next is to be told
                reason = f" ({value.undigestible.splitlines()[0]})" if value.undigestible else ""
                self.tellings.told(
                    "undigestible",
                    f"step {step.name!r} gives a value that has no digest: what follows runs again whenever it does",
                    f"return what it was made of, as plain values{reason}.",
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
        node.uncached = True
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
        given = result
        if self.edited and result.head.changes:
            result = self._as_edited(node, result, ended)
        head, value = result.head, result.value
        effects: Sequence[Effect] = ()
        try:
            if unit.source_of:
                items_of(value.load(), step.name)
            changes = head.changes
            if changes and ended == CACHED and head.shape != "value":
                own = _own_id(instance)
                value = pack(value_of_changes(changes, head.shape, own, node.id))
            if step.options.sets is not None:
                changes = (*changes, ("update", None, None, {step.options.sets: value.load()}))
            if changes:
                effects = check(self.world, node.eyes(), instance.own_row(), changes, node.id)
        except BaseException as error:
            if ends_run(error):
                raise
            self._let_go(node)  # what this node may not write, another with equal work may
            self._fail(node, failed(Call(-1, self.targets[unit.index]), error, head.seconds, head.started))
            return
        row_id = result.row
        if ended == COMPUTED:
            self._leave_work(node)
            try:
                row_id = self.ledger.keep(node.key if step.options.cache and not node.uncached else None, head, value)
            except StorageError as error:
                error.node = node.id
                raise
        instance.values[unit.slot] = value
        if self.results.kept is not None:
            self._note_maker(unit, head)
        extra: dict[str, Any] | None = None
        version = 0
        if effects:
            version = 1 if ended == COMPUTED else 2
            extra = self._apply(node, changes, effects)
        if head.reads:
            self.tellings.asked(node.eyes(), head.reads)
        if (ended == CACHED and head.run == self.run_number and head.unit < ADOPTED) or (ended == COMPUTED and node.followers):
            self.ledger.share(given.row or row_id, unit, instance)
        self.ledger.end(unit, instance, ended, row_id, version, head.seconds, extra)
        for inner in instance.chain:
            inner.begun = True
        self.flow.end(unit, instance, OK)
        if result is not given:
            self._let_go(node)  # what was edited by hand is not what others gave
        elif node.followers:
            result.row = row_id
            self._serve_followers(node, result)

    def _note_maker(self, unit: Unit, head: Head) -> None:
        """Note whose results a resume has of a step, and tell of those that other code has made."""
        makers = self.makers.setdefault(unit.index, set())
        if (head.run, head.unit) in makers:
            return
        makers.add((head.run, head.unit))
        own = head.run == self.run_number and head.unit < ADOPTED
        if not own and self.fingerprint_of(head.run, head.unit) != self.results.fingerprints[unit.name].digest.hex():
            self.tellings.told(
                "kept-other-code",
                f"the code of {unit.name} has changed; what it had completed is kept",
                f"compute it anew with redo={[unit.name]!r} (--redo {unit.name}), or all of them with run.",
                "",
                unit.name,
            )

    def _as_edited(self, node: Node, result: Result, ended: int) -> Result:
        """Let what was edited by hand in a saved version stand, whoever creates it; such a result is for this line alone."""
        head, value = result.head, result.value
        changes = amended(head.changes, self.edited, node.id)
        if changes is head.changes:
            return result
        node.uncached = True
        if head.shape != "value":
            own = _own_id(node.instance)
            empty: Any = None if head.shape == "change" else []
            value = pack(value_of_changes(changes, head.shape, own, node.id) if changes else empty)
        head = attrs.evolve(head, changes=changes, shape=head.shape if changes else "value", digest=value.digest)
        return Result(self.ledger.keep(None, head, value) if ended == CACHED else 0, head, value)

    def _leave_work(self, node: Node) -> None:
        work = node.work
        if work in self.working and self.working[work] is node:
            del self.working[work]

    def _serve_followers(self, node: Node, result: Result) -> None:
        followers, node.followers = node.followers or (), None
        for follower in followers:
            if follower.over:
                continue
            if result.head.reads is None:
                self._finish(follower, result, CACHED)
            else:
                self.flow.ready.append((follower.unit, follower.instance))

    def _apply(self, node: Node, changes: Sequence[Any], effects: Sequence[Effect]) -> dict[str, Any] | None:
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
        if len(effects) < len(changes):  # created where it was already: nothing was written, and it has no further creator
            done = {effect.ordinal for effect in effects}
            extra["dropped"] = tuple(ordinal for ordinal in range(len(changes)) if ordinal not in done)
        if any(effect.kind == "create" for effect in effects):
            extra["items"] = tuple(inner.rank.ordinal if inner.row is None else None for inner in node.instance.chain)
        return extra or None

    def _conflict(self, conflict: Conflict) -> None:
        place, at, copy = part_of(self.world, conflict)
        if copy:
            at.failed = True
        else:
            self.flow.force(place, at)
        self.conflicts.add(conflict)

    def _fail(self, node: Node, outcome: Outcome) -> None:
        unit, instance = node.unit, node.instance
        if instance.ended[unit.slot]:
            return
        self._leave_work(node)
        if outcome.reads:
            self.tellings.asked(node.eyes(), outcome.reads, node.id)
        row = self.ledger.keep_failure(node.id, unit.name, outcome, max(node.attempts, 1), instance)
        self.ledger.end(unit, instance, FAILED_END, row, seconds=outcome.seconds)
        self.flow.end(unit, instance, FAILED, node.id)
        reads = outcome.reads if outcome.reads is not None else node.reads
        followers, node.followers = node.followers or (), None
        for follower in followers:
            if reads and not stand(follower, reads):  # the store tells it something else
                self.flow.ready.append((follower.unit, follower.instance))
            else:
                follower.attempts = node.attempts
                self._fail(follower, outcome)

    def _left(self, instance: Instance) -> None:
        self.concurrency.release(instance)
        for slot in self.unasked[instance.scope.index]:
            instance.values[slot] = None

    # For those who read the run

    def _tell_joins(self, unit: Unit, instance: Instance) -> None:
        for binding in unit.bindings:
            if binding.kind == "joined":
                missing, expected = self.inputs.missing(unit, instance, binding)
                name, node = self.compiled.units[binding.unit].name, node_id(unit.name, instance.key)
                if missing:
                    text = ""
                    if not self.tellings.was_told("joined-fewer", unit.name):
                        joined = len(self.inputs.joined(unit, instance, binding, None)[0].values)
                        text = f"{unit.name} joins {joined:,} of {expected:,} of {name}"
                        if joined + missing < expected:  # closed by a condition, say, or deleted
                            text += f": {missing:,} failed, {expected - missing - joined:,} have no value for it"
                    self.tellings.told("joined-fewer", text, "see run.failures for those that are missing.", node, unit.name)
                codes = {self.fingerprint_of(*maker) for maker in self.makers.get(binding.unit, ())}
                if len(codes) > 1:
                    text = f"{unit.name} joins results of {name} that {len(codes)} states of its code have made"
                    mend = f"say run, or redo={[name]!r}, to have all of them by the code as it is now."
                    self.tellings.told("joined-mixed", text, mend, node, unit.name)

    def _tell_hanging(self) -> None:
        count = self.handout.hanging
        if count:
            text = f"{count} call{'s' if count > 1 else ''} of steps that timed out still hang in a thread"
            mend = 'give what they wait for a time-out of its own, or use executor="processes", where they are ended.'
            self.tellings.told("hanging", text, mend)

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


def _unasked(compiled: Compiled) -> list[list[int]]:
    """Give for each scope the slots whose values nobody asks for any more once an instance has ended."""
    bindings = [binding for unit in compiled.units for binding in (*unit.bindings, *(unit.open.bindings if unit.open else ()))]
    for scope in compiled.scopes:
        bindings += [*scope.predicate, *(scope.condition.bindings if scope.condition else ())]
        bindings += [scope.source] if isinstance(scope.source, Binding) else []
    joined = {binding.unit for binding in bindings if binding.kind == "joined"}
    outer = {scope.parent for scope in compiled.scopes}  # what lies in such a one may still come, and ask
    return [
        [compiled.units[index].slot for index in scope.units if scope.index not in outer and index not in joined]
        for scope in compiled.scopes
    ]


def _own_id(instance: Instance) -> Any:
    row = instance.own_row()
    return row.id if row is not None else None


def void(*args: object) -> None:
    """Do nothing."""
