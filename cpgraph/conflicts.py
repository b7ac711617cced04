"""Conflicts (rule C2): which part they fail, and the failures they become once a run has ended.

There is one failure per field and part; it names the first two nodes, in graph order, that wrote beside each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cpgraph.commits import Conflict
from cpgraph.errors import ConflictError
from cpgraph.instances import Instance, World
from cpgraph.nodes import node_id
from cpgraph.ranks import node_key
from cpgraph.structure import Compiled, Place, Unit

__all__ = ["Conflicts", "part_of"]

About = tuple[int, int, str, str]


def part_of(world: World, conflict: Conflict) -> tuple[Place, Instance, bool]:
    """Give the smallest part that holds both nodes, in which instance, and whether it is one copy of an `each`.

    A late record's nodes are held by its home at the least (rule E2).
    """
    compiled, one, other = world.compiled, conflict.instance, conflict.other_instance
    place = compiled.smallest(compiled.units[conflict.unit].place, compiled.units[conflict.other_unit].place)
    shared = 0
    for mine, theirs in zip(one.chain, other.chain, strict=False):
        if mine is not theirs:
            break
        shared += 1
    common = world.common[one.scope.index][other.scope.index]
    for inner in (*one.chain[shared:], *other.chain[shared:]):
        if inner.scope.level <= common:
            place = _larger(place, inner.scope.place)
        if inner.home is not None:
            place = _larger(place, inner.home[0])
    copy = place.inner is not None and compiled.scopes[place.inner].level <= shared
    scope = place.inner if copy and place.inner is not None else place.scope
    return place, one.around(compiled.scopes[scope].level), copy


def _larger(one: Place, other: Place) -> Place:
    """Give that of two parts, one of which holds the other, which holds it."""
    return one if one.depth <= other.depth else other


class Conflicts:
    """The conflicts of a run, gathered by part, record and field."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._met: list[Conflict] = []

    def add(self, conflict: Conflict) -> None:
        self._met.append(conflict)

    def __bool__(self) -> bool:
        return bool(self._met)

    def _by_part(self) -> dict[About, list[Conflict]]:
        """Group them by part, now that it is known which records came late, and for whom (rule E2)."""
        found: dict[About, list[Conflict]] = {}
        for conflict in self._met:
            place, at, _ = part_of(self._world, conflict)
            found.setdefault((place.index, id(at), conflict.model, conflict.field), []).append(conflict)
        return found

    def failures(self) -> tuple[list[dict[str, Any]], dict[str, BaseException]]:
        """Give the failures as they are kept, and their errors."""
        kept: list[dict[str, Any]] = []
        errors: dict[str, BaseException] = {}
        compiled = self._world.compiled
        found = []
        for about, met in self._by_part().items():
            pairs = [(_pair(conflict), conflict.id) for conflict in met]
            (first, later), id = min(pairs, key=lambda pair: [node_key(node) for node in pair[0]])
            found.append(([node_key(later), node_key(first)], about, first, later, id, pairs))
        for _, (place, _, model, field), first, later, id, pairs in sorted(found, key=lambda one: (one[0], one[1][2:])):
            nodes = {node for pair, _ in pairs for node in pair}
            error = _error(compiled, first, later, model, id, field, compiled.places[place], len(nodes))
            step = compiled.units[later[0]].step
            named = f"{error.facts['later']} {model} {id!r} {field} {len(kept)}"
            errors[named] = error
            kept.append(
                {
                    "node": error.facts["later"],
                    "error_id": named,
                    "step": compiled.units[later[0]].name,
                    "type": "ConflictError",
                    "text": str(error),
                    "traceback": "",
                    "place": step.where if step is not None else "",
                    "attempts": 1,
                    "started": 0.0,
                    "seconds": 0.0,
                }
            )
        return kept, errors


Node = tuple[int, tuple[Instance, ...]]


def _pair(conflict: Conflict) -> tuple[Node, Node]:
    """Give the two nodes in graph order."""
    nodes = [(conflict.unit, conflict.instance.chain), (conflict.other_unit, conflict.other_instance.chain)]
    first, later = sorted(nodes, key=node_key)
    return first, later


def _error(
    compiled: Compiled, first: Node, later: Node, model: str, id: Any, field: str, place: Place, count: int
) -> ConflictError:
    names = [node_id(_unit(compiled, node).name, _key(node)) for node in (first, later)]
    what = "creates or deletes" if field == "id" else f"writes {field!r} of"
    facts: Mapping[str, object] = {
        "first": f"{names[0]} (its write stands)",
        "later": names[1],
        "part": place.name or "the graph",
        "nodes in all": count,
    }
    return ConflictError(
        f"{names[1]} {what} {model} {id!r}, and so does {names[0]}; neither is before the other",
        facts,
        "put one after the other (after=…, or name its step), or let each write a field of its own.",
    )


def _unit(compiled: Compiled, node: Node) -> Unit:
    return compiled.units[node[0]]


def _key(node: Node) -> Iterable[Any]:
    return node[1][-1].key if node[1] else ()
