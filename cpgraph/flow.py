"""What may start: counts what each unit of each instance still waits for, and passes endings on.

A pure little machine in the manner of `graphlib`: it is told how units ended and says which steps are ready. It runs
nothing and stores nothing; conditions, guards and sources are asked through the `Decide` it is given. One explicit
stack stands for recursion, so that a chain of any length can be walked.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from cpgraph.errors import CpgraphError
from cpgraph.execute import ends_run
from cpgraph.instances import (
    BLOCKED,
    CLOSED,
    FAILED,
    MISSING,
    OK,
    PLANNED,
    WITHOUT,
    Asker,
    Cause,
    Fan,
    Instance,
    World,
    descendants,
)
from cpgraph.nodes import node_id
from cpgraph.ranks import Rank
from cpgraph.records import Row, State, Write
from cpgraph.structure import END, START, STEP, Binding, Compiled, Edge, Place, Scope, Unit
from cpgraph.views import Snapshot

__all__ = ["Decide", "Flow"]

PLANNING = "would be computed"
NO_CAUSE = Cause()


class Decide(Protocol):
    """What the flow asks of whoever drives it."""

    def opens(self, unit: Unit, instance: Instance) -> bool | None:
        """Ask a condition or guard: None means that a guard says no for now, and will be asked again."""

    def lets_in(self, scope: Scope, instance: Instance) -> bool:
        """Ask the condition of one record or item."""

    def selects(self, fan: Fan, state: State) -> bool:
        """Ask the predicate of a selection."""

    def items(self, fan: Fan) -> Sequence[tuple[Any, Any, bytes]] | None:
        """Give the items of an `each`, as (id, item, digest); None if they cannot be known."""

    def ended(self, unit: Unit, instance: Instance, how: int, reason: str) -> None:
        """Take note that a step ended without a call: blocked or closed."""

    def failed(self, unit: Unit, instance: Instance, error: BaseException) -> None:
        """Take note that a condition, guard or predicate raised."""

    def gone(self, unit: Unit, instance: Instance) -> str:
        """Say which node deleted a record that a node stands on; nothing if none did."""

    def left(self, instance: Instance) -> None:
        """Take note that an instance has ended."""

    def told(self, kind: str, text: str, mend: str, node: str = "", step: str = "") -> None:
        """Tell the user something."""


class Flow:
    """The state of one run's units: `ready` has the steps that wait for nothing any more."""

    def __init__(self, world: World, decide: Decide, planning: bool = False) -> None:
        self.world = world
        self.compiled: Compiled = world.compiled
        self.units = self.compiled.units
        self.scopes = self.compiled.scopes
        self.decide = decide
        self.ready: list[tuple[Unit, Instance]] = []
        self.fresh: list[deque[Fan]] = [deque() for _ in range(max(scope.level for scope in self.scopes) + 1)]
        self.open_fans: dict[int, list[Fan]] = {scope.index: [] for scope in self.scopes}
        self.by_model: dict[str, list[Scope]] = {}
        for scope in self.scopes:
            if scope.model is not None:
                self.by_model.setdefault(scope.model.__name__, []).append(scope)
        self.first: frozenset[tuple[int, tuple[Any, ...]]] = frozenset()
        self.bad = PLANNED if planning else BLOCKED
        self.forced: set[tuple[int, int]] = set()
        self._stack: list[tuple[Unit, Instance, int, Cause]] = []
        self._contained: dict[tuple[int, int], bool] = {}
        self._busy = False

    def begin(self) -> None:
        self.arm(self.world.root)

    # Counting

    def arm(self, instance: Instance) -> None:
        """Begin an instance: what waits for nothing is ready."""
        scope = instance.scope
        instance.started = True
        instance.waiting = list(scope.waits)
        for index in scope.crossed:
            unit = self.units[index]
            for edge in unit.outer:
                source = self.units[edge.source]
                outer = instance.around(self.scopes[source.scope].level)
                ended = outer.ended[source.slot]
                if not ended:
                    instance.waiting[unit.slot] += 1
                elif ended != OK:
                    cause = outer.causes.get(source.slot) if outer.causes is not None else None
                    self._mark(edge, unit, instance, ended, cause or Cause())
        for index in scope.first:
            unit = self.units[index]
            if not instance.waiting[unit.slot] and not instance.ended[unit.slot]:
                self._start(unit, instance)
        self._run()

    def end(self, unit: Unit, instance: Instance, how: int, reason: str = "", quiet: bool = False) -> None:
        """Say how a unit ended; what waited for it is started or ends too."""
        cause = Cause(reason, (), quiet) if reason else NO_CAUSE
        if self._busy:
            self._stack.append((unit, instance, how, cause))
            return
        self._busy = True
        try:
            self._pass_on(unit, instance, how, cause)
            while self._stack:
                self._pass_on(*self._stack.pop())
        finally:
            self._busy = False

    def _run(self) -> None:
        if self._busy:
            return
        self._busy = True
        try:
            while self._stack:
                self._pass_on(*self._stack.pop())
        finally:
            self._busy = False

    def _pass_on(self, unit: Unit, instance: Instance, how: int, cause: Cause) -> None:
        if instance.ended[unit.slot]:
            return
        instance.ended[unit.slot] = how
        planned = cause.text == PLANNING
        if planned:
            cause = Cause(unit.name, (), cause.quiet)
        elif how == PLANNED and unit.kind == STEP:  # whether it runs, and writes, is not known
            cause = Cause(cause.text)
        if how >= BLOCKED:
            cause = self._note_failure(unit, instance, how, cause)
        if unit.kind == STEP and (how in (BLOCKED, CLOSED) or (how == PLANNED and not planned)):
            self.decide.ended(unit, instance, how, cause.text)
        elif unit.kind == START and how != OK:
            self._dead_start(unit, instance, how, cause)
        waiting = instance.waiting
        if how == OK and instance.marks is None and waiting is not None:  # the same as below, for most nodes
            for edge in unit.out:
                target = self.units[edge.target]
                slot = target.slot
                waiting[slot] -= 1
                if waiting[slot] or instance.ended[slot]:
                    continue
                if target.kind == STEP:
                    self.ready.append((target, instance))
                else:
                    self._start(target, instance)
        else:
            for edge in unit.out:
                self._arrive(edge, instance, how, cause)
        for edge in unit.crossing:
            chain = self.scopes[self.units[edge.target].scope].chain
            for inner in descendants(instance, chain[self.scopes[unit.scope].level :]):
                if inner.waiting is not None:
                    self._arrive(edge, inner, how, cause)
        instance.remaining -= 1
        if not instance.remaining:
            self._done(instance)

    def _note_failure(self, unit: Unit, instance: Instance, how: int, cause: Cause) -> Cause:
        """A failure fails its instance, unless a skip contains it (rule F1); gives it with the part where it began."""
        if how == FAILED:
            cause = Cause(cause.text, (unit.place,))
        if instance.causes is None:
            instance.causes = {}
        instance.causes[unit.slot] = cause
        end = instance.scope.place.end
        if how == PLANNED or end is None or any(not self._contains(origin, self.units[end]) for origin in cause.origins):
            instance.failed = True
        return cause

    def _contains(self, origin: Place | None, target: Unit) -> bool:
        """Tell whether a skip holds the part where a failure began, and not the unit that comes after it."""
        if origin is None:
            return False
        about = origin.index, target.index
        known = self._contained.get(about)
        if known is None:
            around = {place.index for place in target.place.around()}
            known = any(place.skips and place.index not in around for place in origin.around())
            self._contained[about] = known
        return known

    def _arrive(self, edge: Edge, instance: Instance, how: int, cause: Cause) -> None:
        unit = self.units[edge.target]
        slot = unit.slot
        if how != OK:
            self._mark(edge, unit, instance, how, cause)
        waiting = instance.waiting
        if waiting is None:
            return
        waiting[slot] -= 1
        if not waiting[slot] and not instance.ended[slot]:
            self._start(unit, instance)

    def _mark(self, edge: Edge, unit: Unit, instance: Instance, how: int, cause: Cause) -> None:
        if how == CLOSED:
            if not edge.value:
                return
            mark = WITHOUT
        elif how == PLANNED:
            if cause.quiet and unit.kind != END and not edge.value and not self._takes(unit, edge.source):
                return
            mark = PLANNED
        else:
            left = tuple(origin for origin in cause.origins if not self._contains(origin, unit))
            if not left and not edge.value:
                return
            mark = BLOCKED if left else MISSING
            cause = Cause(cause.text, left or (unit.place,))
        if instance.marks is None:
            instance.marks = {}
        known = instance.marks.get(unit.slot)
        if known is None or mark > known[0]:
            instance.marks[unit.slot] = (mark, cause)
        elif mark == known[0]:
            instance.marks[unit.slot] = (mark, known[1].joined(cause))

    def _takes(self, unit: Unit, end: int) -> bool:
        """Tell whether a unit takes values of what is inside of the part that ends here."""
        place = self.units[end].place
        asked = [*unit.bindings, *(unit.open.bindings if unit.open is not None else ())]
        if unit.kind == START and unit.place.inner is not None:
            scope = self.scopes[unit.place.inner]
            asked += [*scope.predicate, *([scope.source] if isinstance(scope.source, Binding) else [])]
        return any(binding.kind == "joined" and place in self.units[binding.unit].place.around() for binding in asked)

    def _start(self, unit: Unit, instance: Instance) -> None:
        mark = instance.marks.get(unit.slot) if instance.marks is not None else None
        if unit.kind == END:
            how, cause = mark or (OK, NO_CAUSE)
            if (unit.index, id(instance)) in self.forced:
                how, cause = BLOCKED, Cause(f"a conflict in {unit.place.name}", (*cause.origins, unit.place.parent))
            self._stack.append((unit, instance, how, cause))
        elif mark is not None:
            how, cause = mark
            if how == MISSING:
                gone = self.decide.gone(unit, instance)
                how, cause = (CLOSED, Cause(gone)) if gone else (BLOCKED, cause)
            elif how == WITHOUT:
                how = CLOSED
            self._stack.append((unit, instance, how, cause))
        elif unit.kind == STEP:
            self.ready.append((unit, instance))
        else:
            self.open(unit, instance)

    # Opening parts

    def open(self, unit: Unit, instance: Instance) -> None:
        """Open a part if its condition or guard says yes; a guard that says no leaves it as it is."""
        if unit.open is not None:
            try:
                answer = self.decide.opens(unit, instance)
            except BaseException as error:
                if ends_run(error):
                    raise
                self.decide.failed(unit, instance, error)
                self.end(unit, instance, FAILED, f"open= of {unit.place.name}")
                return
            if answer is None:
                return
            if not answer:
                self.end(
                    unit, instance, CLOSED, self.decide.gone(unit, instance) or f"the condition of {unit.place.name} said no"
                )
                return
        self.open_asked(unit, instance)

    def open_asked(self, unit: Unit, instance: Instance) -> None:
        """Open a part whose condition or guard has said yes."""
        if unit.place.inner is not None:
            try:
                self._open_fan(unit, instance)
            except BaseException as error:
                if ends_run(error):
                    raise
                self.decide.failed(unit, instance, error)
                self.end(unit, instance, FAILED, f"each= of {unit.place.name}")
                return
        self.end(unit, instance, OK)

    def _fan(self, unit: Unit, instance: Instance) -> Fan:
        assert unit.place.inner is not None
        fan = Fan(self.scopes[unit.place.inner], instance)
        asker = Asker(self.world, unit.index, instance)
        fan.snapshot = Snapshot(asker.view())
        fan.snapshot_base = asker.base
        if instance.fans is None:
            instance.fans = {}
        instance.fans[unit.index] = fan
        return fan

    def _open_fan(self, unit: Unit, instance: Instance, dead: tuple[int, Cause] | None = None) -> None:
        """Give an `each` its instances; in one that never opens they exist, and end at once (`dead`: how)."""
        fan = self._fan(unit, instance)
        fan.dead = dead
        if dead is not None:
            fan.failed, fan.cause = dead[0] != CLOSED, dead[1]
        scope = fan.scope
        found = self._fill(fan)
        fan.opened = True
        fan.expected = len(found)
        self.open_fans[scope.index].append(fan)
        if dead is None:
            fan.fresh.extend(self._failed_first(found))
        if scope.model is not None:
            for row in list(self.world.records.table(scope.model).created):
                self.created(row, [fan])
        if dead is not None:
            for inner in found:
                self.kill(inner, *dead)
        elif fan.fresh:
            self.fresh[scope.level].append(fan)
        if not found and not fan.pending:
            self._close_fan(fan)

    def _fill(self, fan: Fan) -> list[Instance]:
        """Find the records or items that an `each` has when it opens."""
        if fan.scope.model is None:
            items = self.decide.items(fan) or ()
            return [self._add(fan, key, Rank(index), item=item, digest=digest) for index, (key, item, digest) in enumerate(items)]
        assert fan.snapshot is not None
        rows = list(fan.snapshot.view.rows(self.world.records.table(fan.scope.model)))
        chosen = [row for row, state in rows if self.decide.selects(fan, state)]
        return [self._add(fan, row.id, row.rank, row=row) for row in chosen]

    def _failed_first(self, instances: list[Instance]) -> list[Instance]:
        if not self.first:
            return instances
        return sorted(instances, key=lambda instance: (instance.scope.index, instance.key) not in self.first)

    def _add(
        self, fan: Fan, id: Any, rank: Rank, row: Row | None = None, item: Any = None, digest: bytes = b"", home: Any = None
    ) -> Instance:
        instance = Instance(self.world, fan.scope, fan.instance, (*fan.instance.key, id), rank)
        instance.fan, instance.row, instance.item, instance.item_digest, instance.home = fan, row, item, digest, home
        fan.by_id[id] = instance
        fan.instances.append(instance)
        fan.sorted = len(fan.instances) == 1 or (fan.sorted and not rank < fan.instances[-2].rank)
        if home is None:
            fan.pending += 1
        else:
            self._wait_at_home(home, 1)
        return instance

    def begin_instance(self, instance: Instance) -> None:
        """Start one record or item of an `each`, if its condition lets it in."""
        scope = instance.scope
        assert instance.fan is not None
        if instance.fan.stopped:
            self.stop(instance)
            return
        limit = scope.place.pipeline.max_generations if scope.place.pipeline else 0
        if scope.model is not None and instance.rank.generation > limit:
            instance.failed = True
            first = self._first_step(scope)
            cause = Cause("the chain of creations is too long", (first.place,))
            self.decide.failed(first, instance, self._too_long(instance, limit))
            instance.marks = {first.slot: (FAILED, cause)}
            self.kill(instance, BLOCKED, cause)
            return
        if scope.condition is not None:
            try:
                let_in = self.decide.lets_in(scope, instance)
            except BaseException as error:
                if ends_run(error):
                    raise
                instance.failed = True
                start = scope.place.start
                assert start is not None
                self.decide.failed(self.units[start], instance, error)
                self.kill(instance, BLOCKED, Cause(f"open= of {scope.place.name} raised", (scope.place,)))
                return
            if not let_in:
                gone = self.decide.gone(self._first_step(scope), instance)
                self.kill(instance, CLOSED, Cause(gone or f"the condition of {scope.place.name} said no"))
                return
        self.arm(instance)

    def stop(self, instance: Instance) -> None:
        """End an instance of which nothing has begun, after a failure in a pipeline that is to stop then."""
        assert instance.fan is not None
        self.kill(instance, BLOCKED, Cause("its pipeline was stopped after a failure", instance.fan.cause.origins))

    def _first_step(self, scope: Scope) -> Unit:
        units = [self.units[index] for index in scope.units]
        return next((unit for unit in units if unit.kind == STEP), units[0])

    def _too_long(self, instance: Instance, limit: int) -> Exception:
        chain = [str(instance.key[-1])]
        rank = instance.rank
        while len(chain) < 3 and rank.chain:
            before = rank.chain[-1]
            chain.append(str(before.key[-1]))
            rank = before.rank
        return CpgraphError(
            f"a chain of creations grew longer than {limit}",
            {"last of it": " → ".join(reversed(chain))},
            "end it with a condition in the step that creates, or give the pipeline a larger max_generations=.",
        )

    # Records created while the run goes on (rules E1, E2)

    def created(self, row: Row, fans: Sequence[Fan] | None = None) -> None:
        """Give a created record its instances in every open `each` that its creators do not come before."""
        for scope in self.by_model.get(row.table.name, ()):
            for fan in self.open_fans[scope.index] if fans is None else fans:
                if fan.scope is scope:
                    self._take_in(fan, row)

    def _take_in(self, fan: Fan, row: Row) -> None:
        assert fan.snapshot is not None
        if row.base is not None or (row.id in fan.by_id and fan.by_id[row.id].home is None):
            return
        for write in row.writes:
            if write.kind != "create" or fan.snapshot.view.sees(write):
                continue
            relation = self._relation(fan, write)
            if relation is None:
                continue
            if relation == "after":
                name = fan.scope.place.name
                self.decide.told(
                    "not-picked-up",
                    f"{row.table.name} {row.id!r} was created after pipeline {name!r} had its turn: it gets no copy there",
                    "create it in a step that does not come after that pipeline, or run another pipeline over it.",
                    node_id(self.units[write.unit].name, write.instance.key),
                    name,
                )
                continue
            home = self._home(fan, write)
            known = fan.by_id.get(row.id)
            if known is not None:
                self._move_home(known, home)
                continue
            made = State(row.table.make(write.fields))
            try:
                if not self.decide.selects(fan, made):
                    return
            except BaseException as error:
                if ends_run(error):
                    raise
                self._add_failed(fan, self._add(fan, row.id, row.rank, row=row, home=home), error)
                return
            instance = self._add(fan, row.id, row.rank, row=row, home=home)
            if home is None:
                fan.expected += 1
            else:
                self._tell_not_joined(fan, home, row)
            if fan.dead is not None:
                self.kill(instance, *fan.dead)
                continue
            if not fan.fresh:
                self.fresh[fan.scope.level].append(fan)
            fan.fresh.append(instance)

    def _add_failed(self, fan: Fan, instance: Instance, error: BaseException) -> None:
        """Fail a created record of which cannot be said whether it belongs to a selection."""
        place = fan.scope.place
        assert place.start is not None
        instance.failed = True
        self.decide.failed(self.units[place.start], instance, error)
        self.kill(instance, BLOCKED, Cause(f"each= of {place.name} raised", (place,)))

    def _relation(self, fan: Fan, write: Write) -> str | None:
        """Tell how a creator stands to an `each`: None (before it, or in another copy), "after", or "beside"."""
        end = fan.scope.place.end
        assert end is not None
        if not self.world.same(write.instance, fan.instance):
            return None
        if self.compiled.is_before(end, write.unit):
            return "after"
        return "beside"

    def _home(self, fan: Fan, write: Write) -> tuple[Place, Instance] | None:
        """Give the smallest part that holds both the `each` and the creator; None for the `each` itself.

        A creator that came late itself is held by its own home.
        """
        place = self.compiled.smallest(fan.scope.place, self.units[write.unit].place)
        around = {id(inner) for inner in fan.instance.chain}
        for inner in write.instance.chain:
            if inner.home is not None and id(inner) not in around and inner.home[0].depth < place.depth:
                place = inner.home[0]
        if place is fan.scope.place:
            return None
        if place.inner is not None:
            return place, fan.instance.around(self.scopes[place.inner].level)
        return place, fan.instance.around(self.scopes[place.scope].level)

    def _wait_at_home(self, home: tuple[Place, Instance], count: int) -> None:
        place, instance = home
        if place.inner is not None:
            instance.remaining += count
        elif place.end is not None:
            assert instance.waiting is not None
            instance.waiting[self.units[place.end].slot] += count

    def _move_home(self, instance: Instance, home: tuple[Place, Instance] | None) -> None:
        """Move an instance to a smaller home, when another creator of its record turns up."""
        old = instance.home
        if old is None or (home is not None and home[0].depth <= old[0].depth):
            return
        instance.home = home
        if instance.remaining:
            fan = instance.fan
            assert fan is not None
            if home is None:
                fan.pending += 1
            else:
                self._wait_at_home(home, 1)
            self._leave_home(old, None)

    def _tell_not_joined(self, fan: Fan, home: tuple[Place, Instance], row: Row) -> None:
        end = fan.scope.place.end
        assert end is not None
        names = self._followers(end, home[0])
        if names:
            name, pipeline = fan.scope.place.name, home[0].pipeline
            called = repr(pipeline.name) if pipeline is not None and pipeline.name else "… the name"
            mend = f"where it is to be waited for, say after={called} of a pipeline that holds both it and what creates in it."
            if home[0].parent is None:  # two pipelines of the graph: nothing that can be named holds both
                creator = self.units[next(write.unit for write in row.writes if write.kind == "create")].name
                mend = f"say after={creator!r} on pipeline {name!r}, which then begins when that has created all."
            self.decide.told(
                "not-joined",
                f"{row.table.name} {row.id!r} was created beside pipeline {name!r}: {', '.join(names)} goes on without it",
                mend,
                node_id(self._first_step(fan.scope).name, (*fan.instance.key, row.id)),
                name,
            )

    def _followers(self, end: int, home: Place) -> list[str]:
        """Name what comes right after an `each`, and not after the part that a late record belongs to."""
        found: dict[str, None] = {}
        around, waiting = list(home.around()), [end]
        while waiting:
            source = self.units[waiting.pop()]
            for edge in (*source.out, *source.crossing):
                unit = self.units[edge.target]
                if unit.place in around or (home.end is not None and self.compiled.is_before(home.end, unit.index)):
                    continue
                if unit.kind == END:
                    waiting.append(unit.index)
                else:
                    found[unit.name if unit.kind == STEP else unit.place.name] = None
        return list(found)

    # Ending instances and parts

    def _done(self, instance: Instance) -> None:
        self.decide.left(instance)
        fan = instance.fan
        if fan is None:
            return
        pipeline = fan.scope.place.pipeline
        if instance.failed and pipeline is not None and pipeline.on_error == "stop" and not fan.stopped:
            fan.stopped = True
        cause = Cause(quiet=True)
        if instance.failed:
            for other in (instance.causes or {}).values():
                cause = cause.joined(other)
            fan.cause = fan.cause.joined(cause)
        if instance.home is None:
            fan.pending -= 1
            fan.failed = fan.failed or instance.failed
            if not fan.pending and fan.opened:
                self._close_fan(fan)
        else:
            self._leave_home(instance.home, cause if instance.failed else None)

    def _leave_home(self, home: tuple[Place, Instance], cause: Cause | None) -> None:
        """Let a part go on that waited for a record created late."""
        place, instance = home
        if place.inner is not None:
            instance.failed = instance.failed or cause is not None
            instance.remaining -= 1
            if not instance.remaining:
                self._done(instance)
        elif place.end is not None:
            edge = Edge(place.end, place.end)
            self._arrive(edge, instance, self.bad if cause is not None else OK, cause or Cause())

    def _close_fan(self, fan: Fan) -> None:
        end = fan.scope.place.end
        start = fan.scope.place.start
        assert end is not None and start is not None
        self._arrive(Edge(start, end), fan.instance, self.bad if fan.failed else OK, fan.cause)
        self._run()

    def force(self, place: Place, instance: Instance) -> None:
        """Fail a part because of a conflict in it: what comes after it is blocked, whatever `on_error` says."""
        for outer in place.around():
            if outer.end is not None:
                at = instance.around(self.scopes[outer.scope].level)
                self.forced.add((outer.end, id(at)))
                return

    def kill(self, instance: Instance, how: int, cause: Cause) -> None:
        """Let all of an instance that has not started end as it is said, and what is inside of it."""
        self._doom(instance.scope.units, instance, how, cause)
        for fan in list((instance.fans or {}).values()):
            for inner in list(fan.instances):
                if inner.remaining:
                    self.kill(inner, how, cause)
        if instance.waiting is None:
            self.arm(instance)

    def _doom(self, units: Iterable[int], instance: Instance, how: int, cause: Cause) -> None:
        """Let units end as it is said, once what they wait for has ended; a failure among that blocks them still."""
        if instance.marks is None:
            instance.marks = {}
        for index in units:
            slot = self.units[index].slot
            known = instance.marks.get(slot)
            if not instance.ended[slot] and (known is None or how > known[0]):
                instance.marks[slot] = (how, cause)
        if instance.waiting is not None:
            for index in units:
                slot = self.units[index].slot
                if not instance.waiting[slot] and not instance.ended[slot] and not instance.handed >> slot & 1:
                    self._stack.append((self.units[index], instance, *instance.marks[slot]))
        self._run()

    def _dead_start(self, unit: Unit, instance: Instance, how: int, cause: Cause) -> None:
        """End what is inside of a part that never opens; records that are there exist, as blocked or closed."""
        place = unit.place
        how = BLOCKED if how == FAILED else how
        if place.inner is not None:
            try:
                self._open_fan(unit, instance, (how, cause))
            except BaseException as error:  # a predicate that raises, or a source that has no items: then none is known
                if ends_run(error):
                    raise
                fan = self._fan(unit, instance)
                fan.failed, fan.cause = how != CLOSED, cause
                self._close_fan(fan)
        elif how == CLOSED:
            self.close_part(place, instance, how, cause)

    def close_part(self, place: Place, instance: Instance, how: int, cause: Cause) -> None:
        """End what has not started in a part, and in the instances inside of it."""
        units = [index for index in place.units() if self.units[index].scope == instance.scope.index]
        for index in units:
            fan = (instance.fans or {}).get(index)
            for inner in list(fan.instances) if fan is not None else ():
                if inner.remaining:
                    self.kill(inner, how, cause)
        self._doom(units, instance, how, cause)
