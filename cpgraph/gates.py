"""What holds nodes back: guards, `concurrency=` of pipelines, and `Limit`s of calls."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from cpgraph.compile import Unit
from cpgraph.instances import Instance, World
from cpgraph.steps import Limit
from cpgraph.store import Live, Query, Store

__all__ = ["Concurrency", "Gate", "Gates", "Rate", "said"]


def said(query: Query) -> str:
    """Show a question as it would be written.

    >>> said(("count", "Order", (("valid", True),)))
    'count(Order, valid=True)'
    """
    kind, model, rest = query[0], query[1], query[2]
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
        self._ask = ask
        self._changed = changed

    def opens(self, unit: Unit, instance: Instance) -> bool:
        """Ask a guard for the first time."""
        gate = self.gates[unit.index, id(instance)] = Gate(unit, instance)
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
            self._changed(gate)
        if answer and not gate.opened:
            gate.opened = True
            self.world.openings.setdefault(gate.unit.index, []).append((gate.instance, gate.asked_at))
        return answer


class Concurrency:
    """Counts a pipeline's instances over the whole run (rule E6)."""

    def __init__(self) -> None:
        self._held: dict[tuple[int, int], int] = {}
        self._counts: dict[int, int] = {}
        self._by_instance: dict[int, list[int]] = {}
        self.waiting: dict[int, deque[Any]] = {}

    def takes(self, unit: Unit, instance: Instance, node: Any) -> bool:
        """Take a place in every limited pipeline around a node, or leave the node waiting for the first that is full."""
        wanted = []
        for place in unit.limited:
            assert place.pipeline is not None and place.pipeline.concurrency is not None
            inside = instance.world.compiled.scopes[place.inner if place.inner is not None else place.scope]
            at = instance.around(inside.level)
            if (place.index, id(at)) in self._held:
                continue
            if self._counts.get(place.index, 0) >= place.pipeline.concurrency:
                self.waiting.setdefault(place.index, deque()).append(node)
                return False
            wanted.append((place.index, at))
        for index, at in wanted:
            self._held[index, id(at)] = 1
            self._counts[index] = self._counts.get(index, 0) + 1
            self._by_instance.setdefault(id(at), []).append(index)
        return True

    def release(self, instance: Instance) -> list[Any]:
        """Give back the places of an instance that has ended, and for each the next node that waited for one."""
        freed: list[Any] = []
        for index in self._by_instance.pop(id(instance), ()):
            del self._held[index, id(instance)]
            self._counts[index] -= 1
            waiting = self.waiting.get(index)
            while waiting:
                node = waiting.popleft()
                if not node.over:
                    freed.append(node)
                    break
        return freed

    def stuck(self) -> list[Any]:
        """Give all nodes that wait for a place."""
        nodes = [node for waiting in self.waiting.values() for node in waiting]
        self.waiting.clear()
        return nodes


class Rate:
    """How many calls of one `Limit` are under way, and when the next may begin."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.active = 0
        self.next_at = 0.0
        self.waiting: deque[Any] = deque()

    def delay(self, now: float) -> float | None:
        """Give 0 if a call may begin now, the seconds until it may, or None if another one has to end first."""
        if self.limit.calls is not None and self.active >= self.limit.calls:
            return None
        return max(0.0, self.next_at - now)

    def take(self, now: float) -> None:
        self.active += 1
        if self.limit.per_second is not None:
            self.next_at = max(now, self.next_at) + 1 / self.limit.per_second
