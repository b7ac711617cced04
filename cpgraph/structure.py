"""What a compiled graph is made of: places, units, scopes, and what each parameter gets.

A *unit* is what the schedule counts: a step, the start of a part that has to be opened (an `each`, a condition,
a guard, an `after=`), or the end of a part that something may have to wait for. A *scope* is the inside of one
`each` (scope 0 is outside of all); units of one scope are instantiated together, once per record or item.

Units are numbered as they stand in the graph, so that comparing numbers is comparing places. `before[v]` is the
set, as bits, of the units with a path to `v`; two nodes are ordered if their units are and if they have the same
instance of every scope that holds both. The end of an `each` is a unit outside of it, and every path out goes
through it, so this one bit is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from cpgraph.pipelines import Pipeline, Selection
from cpgraph.steps import EMPTY, Step

__all__ = ["END", "START", "STEP", "Binding", "Compiled", "Edge", "Open", "Place", "Scope", "Unit"]

STEP: Final = "step"
START: Final = "start"
END: Final = "end"


@attrs.frozen
class Binding:
    """What a parameter gets. kind: "record", "field", "item", "step", "joined", "store", "stream" or "param".

    level: of the `each` whose record or item it is. unit: the step named. levels: how many lists of a joined
    value lie in each other. as_dict: `{id: value}` instead of lists.
    """

    kind: str
    name: str
    level: int = 0
    field: str = ""
    unit: int = -1
    levels: int = 0
    as_dict: bool = False
    default: Any = EMPTY


@attrs.frozen(eq=False)
class Open:
    """An `open=`: a guard reads the live store, a condition does not ask for it."""

    function: Callable[..., Any]
    bindings: tuple[Binding, ...]
    guard: bool


@attrs.define(eq=False)
class Place:
    """A part where it stands: the graph, a pipeline, a group, or a step."""

    index: int
    kind: str
    parent: Place | None
    scope: int
    depth: int
    name: str = ""
    pipeline: Pipeline | None = None
    children: list[Place] = attrs.field(factory=list, repr=False)
    unit: int | None = None
    start: int | None = None
    end: int | None = None
    inner: int | None = None
    starts: list[int] = attrs.field(factory=list, repr=False)
    ends: list[int] = attrs.field(factory=list, repr=False)
    loops: bool = False

    @property
    def where(self) -> str:
        return self.pipeline.where if self.pipeline else ""

    @property
    def skips(self) -> bool:
        return self.pipeline is not None and self.pipeline.on_error == "skip"

    def around(self) -> Iterator[Place]:
        """Give this part and all that hold it, innermost first."""
        place: Place | None = self
        while place is not None:
            yield place
            place = place.parent

    def units(self) -> Iterator[int]:
        """Give the units of this part and of all inside of it, those of inner scopes too, in graph order."""
        stack = [self]
        while stack:
            place = stack.pop()
            for unit in (place.unit, place.start, place.end):
                if unit is not None:
                    yield unit
            stack.extend(reversed(place.children))


@attrs.frozen(eq=False)
class Edge:
    """`target` waits for `source`; `value`: it takes a single value of it."""

    source: int
    target: int
    value: bool = False


@attrs.define(eq=False)
class Unit:
    """What the schedule counts; see the module's text."""

    index: int
    kind: str
    place: Place
    scope: int
    step: Step | None = None
    bindings: tuple[Binding, ...] = ()
    open: Open | None = None
    into: list[Edge] = attrs.field(factory=list, repr=False)
    out: list[Edge] = attrs.field(factory=list, repr=False)
    slot: int = 0
    waits: int = 0
    outer: tuple[Edge, ...] = ()
    crossing: tuple[Edge, ...] = ()
    guards: tuple[int, ...] = ()
    holders: tuple[int, ...] = ()
    limited: tuple[Place, ...] = ()
    source_of: bool = False

    @property
    def name(self) -> str:
        if self.step is not None:
            return self.step.name
        pipeline = self.place.pipeline
        what = "end" if self.kind == END else "open" if pipeline is not None and pipeline.open is not None else "each"
        return f"{what} of {self.place.name}"


@attrs.define(eq=False)
class Scope:
    """The inside of one `each`: what it ranges over, and its units."""

    index: int
    parent: int
    level: int
    place: Place
    model: type | None = None
    selection: Selection | None = None
    predicate: tuple[Binding, ...] = ()
    item: str | None = None
    source: Any = None
    condition: Open | None = None
    units: list[int] = attrs.field(factory=list, repr=False)
    waits: list[int] = attrs.field(factory=list, repr=False)
    first: list[int] = attrs.field(factory=list, repr=False)
    crossed: list[int] = attrs.field(factory=list, repr=False)
    chain: tuple[int, ...] = ()


@attrs.frozen(eq=False)
class Compiled:
    """The checked graph as arrays; nothing in it moves while runs go on."""

    name: str
    root: Place
    places: tuple[Place, ...]
    units: tuple[Unit, ...]
    scopes: tuple[Scope, ...]
    before: tuple[int, ...]
    order: tuple[int, ...]
    edges_into: tuple[tuple[int, ...], ...]
    steps: Mapping[str, int]
    models: Mapping[str, type]
    parameters: Mapping[str, Any]
    declared: frozenset[str]
    required: frozenset[str]
    annotations: Mapping[str, Any]

    def innermost_model(self, scope: int) -> type | None:
        """Give the model of the innermost record around: that of which `sets=` writes a field."""
        models = [self.scopes[index].model for index in reversed(self.scopes[scope].chain)]
        return next((model for model in models if model is not None), None)

    def is_before(self, source: int, target: int) -> bool:
        """Tell whether there is a path from one unit to another."""
        return bool(self.before[target] >> source & 1)

    def step_edges(self) -> list[tuple[str, str, bool]]:
        """Give which step waits for which, as (source, target, takes its value), with parts' starts and ends left out."""
        found: dict[tuple[str, str], bool] = {}
        behind: dict[int, set[int]] = {}
        for index in self.order:
            sources: set[int] = set()
            for edge in self.edges_into[index]:
                sources |= {edge} if self.units[edge].step is not None else behind[edge]
            behind[index] = sources
        for unit in self.units:
            if unit.step is not None:
                for source in behind[unit.index]:
                    found[self.units[source].name, unit.name] = False
                for binding in unit.bindings:
                    if binding.unit >= 0:
                        found[self.units[binding.unit].name, unit.name] = True
        return [(source, target, value) for (source, target), value in found.items()]

    def common(self, one: int, other: int) -> int:
        """Give how many levels of `each` hold both scopes."""
        count = 0
        for mine, theirs in zip(self.scopes[one].chain, self.scopes[other].chain, strict=False):
            if mine != theirs:
                break
            count += 1
        return count

    def smallest(self, one: Place, other: Place) -> Place:
        """Give the smallest part that holds both."""
        mine = {place.index for place in one.around()}
        return next(place for place in other.around() if place.index in mine)
