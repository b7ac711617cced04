"""What holds nodes back: guards, `concurrency=` of pipelines, and `Limit`s of calls."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Callable
from typing import Any

from cpgraph.instances import Instance, World
from cpgraph.ranks import node_key
from cpgraph.steps import Limit
from cpgraph.store import Store
from cpgraph.structure import Unit
from cpgraph.views import Live, Query

__all__ = ["Concurrency", "Gate", "Gates", "Rate", "said"]


def said(query: Query) -> str:
    """Show a question as it would be written.

    >>> said(("count", "Order", (("valid", True),)))
    'count(Order, valid=True)'
    """
    kind, model, rest = query[0], query[1], query[2]
    if kind == "code":
        return f"the code of {model}"
    if kind == "get":
        return f"find({model}, {rest!r})"
    if kind == "values":
        return f"values({', '.join([model, *map(repr, rest)])})"
    if kind == "where" and not rest and len(query) == 3:
        return f"all({model})"
    predicate = ["…"] if len(query) > 3 else []
    return f"{kind}({', '.join([model, *predicate, *(f'{name}={value!r}' for name, value in rest)])})"


class Gate:
    """A guard of one pipeline in one instance: its last answer, what it read for it, and the nodes it holds back."""

    def __init__(self, unit: Unit, instance: Instance) -> None:
        self.unit = unit
        self.instance = instance
        self.opened = False
        self.answer = False
        self.settled = False
        self.asked_at = -1
        self.read: tuple[str, ...] = ()
        self.models: frozenset[str] = frozenset()
        self.held: deque[Any] = deque()


class Gates:
    """All guards of a run. They read the live store, and are asked again only when a model they read has changed."""

    def __init__(self, world: World, ask: Callable[[Unit, Instance, Store], Any], changed: Callable[[Gate], None]) -> None:
        self.world = world
        self.live = Live(world.records)
        self.gates: dict[tuple[int, int], Gate] = {}
        self.closed: list[Gate] = []  # those that may open yet, in graph order
        self._ask = ask
        self._changed = changed

    def opens(self, unit: Unit, instance: Instance) -> bool:
        """Ask a guard for the first time."""
        gate = self.gates[unit.index, id(instance)] = Gate(unit, instance)
        insort(self.closed, gate, key=_place)
        return self.ask(gate)

    def around(self, unit: Unit, instance: Instance) -> list[Gate]:
        """Give the gates that hold a node."""
        compiled = self.world.compiled
        found = []
        for holder in unit.holders:
            level = compiled.scopes[compiled.units[holder].scope].level
            found.append(self.gates[holder, id(instance.around(level))])
        return found

    def stale(self, gate: Gate) -> bool:
        """Tell whether a model has changed that the guard read for its last answer."""
        tables = self.world.records.tables
        return any(tables[name].changed > gate.asked_at for name in gate.models if name in tables)

    def ask(self, gate: Gate) -> bool:
        """Ask a guard of the live store; its first yes is the base of all views under it (rule G2)."""
        reads: list[Any] = []
        answer = bool(self._ask(gate.unit, gate.instance, Store(self.live, reads)))
        gate.asked_at = self.world.records.commit
        gate.models = frozenset(query[1] for query, _ in reads)
        gate.read = tuple(dict.fromkeys(said(query) for query, _ in reads))
        if answer != gate.answer:
            gate.answer = answer
            if answer:
                self.closed.remove(gate)
            else:
                insort(self.closed, gate, key=_place)
            self._changed(gate)
        if answer and not gate.opened:
            gate.opened = True
            self.world.opened(gate.unit.index, gate.instance, gate.asked_at)
        return answer

    def settle(self, gate: Gate) -> None:
        """Close a gate for good."""
        if not gate.answer:
            self.closed.remove(gate)
        gate.settled, gate.answer = True, False
        gate.held.clear()


def _place(gate: Gate) -> Any:
    return node_key((gate.unit.index, gate.instance.chain))


class Concurrency:
    """Counts a pipeline's instances over the whole run (rule E6)."""

    def __init__(self) -> None:
        self._held: set[tuple[int, int]] = set()
        self._free: dict[int, int] = {}
        self._by_instance: dict[int, list[int]] = {}
        self._waiting: dict[int, dict[int, list[Any]]] = {}  # by pipeline, and by the instance for which a place is wanted
        self._let_in: list[Any] = []  # whose instance has got its place by another of its nodes

    def takes(self, unit: Unit, instance: Instance, node: Any) -> bool:
        """Take a place in every limited pipeline around a node, or have the node wait at the first that is full."""
        wanted = []
        for place in unit.limited:
            assert place.pipeline is not None and place.pipeline.concurrency is not None
            inside = instance.world.compiled.scopes[place.inner if place.inner is not None else place.scope]
            at = instance.around(inside.level)
            if (place.index, id(at)) in self._held:
                continue
            if not self._free.setdefault(place.index, place.pipeline.concurrency):
                self._waiting.setdefault(place.index, {}).setdefault(id(at), []).append(node)
                return False
            wanted.append((place.index, at))
        for index, at in wanted:
            self._held.add((index, id(at)))
            self._free[index] -= 1
            self._by_instance.setdefault(id(at), []).append(index)
            self._let_in += self._waiting.get(index, {}).pop(id(at), ())
        return True

    def release(self, instance: Instance) -> None:
        """Give back the places of an instance that has ended."""
        for index in self._by_instance.pop(id(instance), ()):
            self._held.remove((index, id(instance)))
            self._free[index] += 1

    def next(self) -> list[Any]:
        """Give the nodes of those that were let in, and of the next instance of each pipeline that has a free place."""
        found, self._let_in = self._let_in, []
        for index, instances in self._waiting.items():
            if instances and self._free[index] and next(iter(instances.values()))[0].has_room:
                found += instances.pop(next(iter(instances)))
        return found

    def waiting(self) -> list[Any]:
        """Give all nodes that wait for a place."""
        return [node for instances in self._waiting.values() for nodes in instances.values() for node in nodes]


class Rate:
    """How many calls of one `Limit` are under way, and when the next may begin."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.active = 0
        self.next_at = 0.0
        self.waiting: deque[Any] = deque()
        self.timed = False  # whether a timer is set for those that wait

    def delay(self, now: float) -> float | None:
        """Give 0 if a call may begin now, the seconds until it may, or None if another one has to end first."""
        if self.limit.calls is not None and self.active >= self.limit.calls:
            return None
        return max(0.0, self.next_at - now)

    def take(self, now: float) -> None:
        self.active += 1
        if self.limit.per_second is not None:
            self.next_at = max(now, self.next_at) + 1 / self.limit.per_second
