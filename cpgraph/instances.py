"""What exists while a run goes on: instances of scopes, their fans, and who is before whom.

An `Instance` is one copy of the inside of an `each` (or the one copy of what is outside of all); a `Fan` is an
`each` in one instance of what is around it. `Asker` is the eye of one node: it tells which writes come before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import attrs

from cpgraph.ranks import Rank
from cpgraph.records import Records, Row, Write
from cpgraph.structure import Compiled, Place, Scope
from cpgraph.views import Eyes, Overlay, Snapshot, View

__all__ = ["BLOCKED", "CLOSED", "FAILED", "MISSING", "OK", "PLANNED", "WAITING", "WITHOUT"]
__all__ += ["Asker", "Cause", "Fan", "Instance", "World", "descendants"]

WAITING: Final = 0
OK: Final = 1
WITHOUT: Final = 2  # of a mark alone: a value that it asks for is that of a closed node
MISSING: Final = 3  # of a mark alone: nothing before it failed, but a value that it asks for is not there
CLOSED: Final = 4
BLOCKED: Final = 5
FAILED: Final = 6
PLANNED: Final = 7


@attrs.frozen
class Cause:
    """Why something ended as it did: in words, and the parts in which failures began.

    `quiet`: what would be computed wrote nothing the last time, so what only waits for it can be looked up.
    """

    text: str = ""
    origins: tuple[Place | None, ...] = ()
    quiet: bool = False

    def joined(self, other: Cause) -> Cause:
        """Give both causes as one, with the words of this."""
        origins = tuple(dict.fromkeys((*self.origins, *other.origins)))
        return Cause(self.text or other.text, origins, self.quiet and other.quiet)


class World:
    """One run's graph, records and openings of guards: what `before` is asked of."""

    def __init__(self, compiled: Compiled, records: Records) -> None:
        self.compiled = compiled
        self.records = records
        self.openings: dict[int, dict[Instance, int]] = {}  # by guard: the last opening in each instance
        self.common = [[compiled.common(one.index, other.index) for other in compiled.scopes] for one in compiled.scopes]
        self.extra = self._with_extra()
        self.root = Instance(self, compiled.scopes[0], None, (), Rank(0))

    def _with_extra(self) -> list[bool]:
        """Tell of each unit whether it has ancestors outside of its scope that the scope's opening does not have."""
        compiled = self.compiled
        known = [-1] * len(compiled.scopes)  # what is inside of a scope, or before it opens; outside of all everything is
        for scope in compiled.scopes[1:]:
            start = scope.place.start
            assert start is not None
            known[scope.index] = compiled.before[start] | 1 << start
        for unit in compiled.units:
            for index in compiled.scopes[unit.scope].chain:
                known[index] |= 1 << unit.index
        return [bool(compiled.before[unit.index] & ~known[unit.scope]) for unit in compiled.units]

    def opened(self, guard: int, instance: Instance, commit: int) -> None:
        """Take note of what a guard's first yes brings, to all that is in the same instances (rule G2)."""
        openings = self.openings.setdefault(guard, {})
        for around in (self.root, *instance.chain):
            openings[around] = commit

    def base(self, unit: int, instance: Instance) -> int:
        """Give the last commit that an opening of a guard brought to a node (rule C1)."""
        units, best = self.compiled.units, 0
        for guard in units[unit].guards:
            openings = self.openings.get(guard)
            if openings is not None:
                shared = instance.around(self.common[units[guard].scope][instance.scope.index])
                best = max(best, openings.get(shared, 0))
        return best

    def same(self, one: Instance, other: Instance) -> bool:
        """Tell whether two instances have the same instance of every scope that holds both."""
        level = self.common[one.scope.index][other.scope.index]
        return not level or one.chain[level - 1] is other.chain[level - 1]


class Instance:
    """One copy of a scope: its record or item, how its units stand, and the values its steps gave."""

    __slots__ = (
        "begun", "causes", "chain", "ended", "failed", "fan", "fans", "generation", "handed", "home", "item", "item_code",
        "item_digest", "key", "marks", "parent", "place", "remaining", "row", "scope", "started", "values", "waiting", "world",
        "written",
    )  # fmt: skip

    def __init__(self, world: World, scope: Scope, parent: Instance | None, key: tuple[Any, ...], rank: Rank) -> None:
        self.world = world
        self.scope = scope
        self.parent = parent
        self.chain: tuple[Instance, ...] = (*parent.chain, self) if parent is not None else ()
        self.key = key
        self.place = rank
        self.generation: int = max(rank.generation, parent.generation) if parent is not None else 0
        self.row: Row | None = None
        self.item: Any = None
        self.item_digest = b""
        self.item_code: tuple[str, ...] | None = None
        self.fan: Fan | None = None
        self.home: tuple[Place, Instance] | None = None
        self.remaining = len(scope.units)
        self.waiting: list[int] | None = None
        self.marks: dict[int, tuple[int, Cause]] | None = None
        self.causes: dict[int, Cause] | None = None
        self.ended = bytearray(len(scope.units))
        self.values: list[Any] = [None] * len(scope.units)
        self.fans: dict[int, Fan] | None = None
        self.written: list[Row] | None = None
        self.failed = False
        self.handed = 0
        self.started = False
        self.begun = False

    @property
    def position(self) -> int:
        """Where its `each` starts in graph order (see `ranks.Spot`)."""
        start = self.scope.place.start
        return start if start is not None else -1

    @property
    def rank(self) -> Rank:
        """The rank of its record, which a further creator may lower, or of its item."""
        return self.row.rank if self.row is not None else self.place

    def around(self, level: int) -> Instance:
        """Give the instance at a level that this one is in; level 0 is outside of every `each`."""
        return self.chain[level - 1] if level else self.world.root

    def own_row(self) -> Row | None:
        """Give the row of the innermost record, if it stands on one."""
        return next((inner.row for inner in reversed(self.chain) if inner.row is not None), None)

    def record(self) -> Any:
        """Give the innermost record as it came in, or the item; None without."""
        if self.row is not None:
            state = self.row.base or self.row.writes[0].state
            return state.record if state is not None else None
        return self.item

    def eyes_of(self, unit: int) -> Callable[[Write], bool]:
        """Give what tells which writes come before a node of this instance."""
        return Asker(self.world, unit, self).sees

    def comes_after(self, write: Write, earlier: Write) -> bool:
        """Tell whether a write of this instance comes after another one."""
        asker = Asker(self.world, write.unit, self)
        if asker.sees(earlier):
            return True
        return earlier.kind == "create" and write.kind != "create" and any(earlier in row.writes for row in asker.own_rows())


class Fan:
    """An `each` in one instance of what is around it: its instances so far, and those that have not been started."""

    __slots__ = (
        "by_id",
        "cause",
        "dead",
        "expected",
        "failed",
        "fresh",
        "instance",
        "instances",
        "opened",
        "pending",
        "scope",
        "snapshot",
        "snapshot_base",
        "sorted",
        "stopped",
    )

    def __init__(self, scope: Scope, instance: Instance) -> None:
        self.scope = scope
        self.instance = instance
        self.opened = False
        self.stopped = False
        self.failed = False
        self.cause = Cause(quiet=True)
        self.dead: tuple[int, Cause] | None = None
        self.pending = 0
        self.expected = 0
        self.instances: list[Instance] = []
        self.by_id: dict[Any, Instance] = {}
        self.fresh: deque[Instance] = deque()
        self.snapshot: Snapshot | None = None
        self.snapshot_base = 0
        self.sorted = True

    def ordered(self) -> list[Instance]:
        """Give the instances in record or item order."""
        if not self.sorted or self.shared:
            self.instances.sort(key=lambda instance: instance.rank)
            self.sorted = True
        return self.instances

    @property
    def shared(self) -> bool:
        """Tell whether a record of its model has several creators, so that its rank may move."""
        model = self.scope.model
        return model is not None and self.instance.world.records.shared


class Asker:
    """Who asks: a unit in an instance, and the last commit that guards brought it. Its view never moves."""

    __slots__ = ("base", "bits", "common", "instance", "unit", "world")

    def __init__(self, world: World, unit: int, instance: Instance) -> None:
        self.world = world
        self.unit = unit
        self.instance = instance
        self.bits = world.compiled.before[unit]
        self.common = world.common[instance.scope.index]
        self.base = world.base(unit, instance) if world.openings else 0

    def sees(self, write: Write) -> bool:
        """Tell whether the node that wrote comes before this one (rule C1)."""
        if write.commit <= self.base:
            return True
        if not self.bits >> write.unit & 1:
            return write.unit == self.unit and write.instance is self.instance  # its own, one after another
        theirs = write.instance
        return theirs is self.instance or self.after(theirs)

    def after(self, theirs: Instance) -> bool:
        """Tell whether this node comes after an instance of whose unit it is known to come after."""
        level = self.common[theirs.scope.index]
        if level and self.instance.chain[level - 1] is not theirs.chain[level - 1]:
            return False
        return all(self.joins(inner) for inner in theirs.chain[level:] if inner.home is not None)

    def joins(self, instance: Instance) -> bool:
        """Tell whether this node comes after the part that an instance belongs to (rule E2)."""
        if instance.home is None:
            return True
        place = instance.home[0]
        end = place.end
        return end is not None and bool(self.bits >> end & 1)

    def own_rows(self) -> list[Row]:
        return [inner.row for inner in self.instance.chain if inner.row is not None and inner.row.base is None]

    def view(self) -> View:
        return View(self.world.records, self.sees, self.own_rows())

    def eyes(self) -> Eyes:
        """Give what this node sees: what its `each` saw when it opened, and over it what its own instance wrote."""
        instance = self.instance
        fan = instance.fan
        if fan is None or fan.snapshot is None or self.world.extra[self.unit] or self.base > fan.snapshot_base:
            return Snapshot(self.view())
        rows = {id(row): row for row in self.own_rows()}
        for row in instance.written or ():
            rows[id(row)] = row
        if not rows:
            return fan.snapshot
        return Overlay(fan.snapshot, self.view(), rows.values())


def descendants(instance: Instance, chain: Sequence[int]) -> Iterator[Instance]:
    """Give the instances of a nested scope that lie in this instance; `chain` are the scopes on the way."""
    if not chain:
        yield instance
        return
    if instance.fans is None:
        return
    for fan in instance.fans.values():
        if fan.scope.index == chain[0]:
            for inner in list(fan.instances):
                yield from descendants(inner, chain[1:])
