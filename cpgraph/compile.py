"""Turning declared pipelines into flat arrays: units, edges, and what is before what.

A *unit* is what the schedule counts: a step, the start of a part that has to be opened (an `each`, a condition,
a guard, an `after=`), or the end of a part that something may have to wait for. A *scope* is the inside of one
`each` (scope 0 is outside of all); units of one scope are instantiated together, once per record or item.

Units are numbered as they stand in the graph, so that comparing numbers is comparing places. `before[v]` is the
set, as bits, of the units with a path to `v`; two nodes are ordered if their units are and if they have the same
instance of every scope that holds both. The end of an `each` is a unit outside of it, and every path out goes
through it, so this one bit is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import attrs

from cpgraph.errors import CompileError, nearest
from cpgraph.models import Files, is_model
from cpgraph.pipelines import Group, Pipeline, Selection
from cpgraph.resolve import Binding, Resolver
from cpgraph.steps import Step, check_name, parameters_of, read_step, step_name

__all__ = ["END", "START", "STEP", "Compiled", "Edge", "Open", "Place", "Scope", "Unit", "compile_graph"]

STEP: Final = "step"
START: Final = "start"
END: Final = "end"


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


def compile_graph(
    pipelines: Sequence[Any],
    *,
    name: str | None = None,
    models: Sequence[type] = (),
    params: Sequence[str] | Mapping[str, Any] = (),
) -> Compiled:
    """Check pipelines and make the graph; raises `CompileError` with what is wrong and how to mend it."""
    return _Compiler(pipelines, name, models, params).compile()


class _Compiler:
    def __init__(
        self, pipelines: Sequence[Any], name: str | None, models: Sequence[type], params: Sequence[str] | Mapping[str, Any]
    ) -> None:
        self.pipelines = pipelines
        self.name = name
        self.extra_models = models
        self.declared = dict(params) if isinstance(params, Mapping) else dict.fromkeys(params, Resolver.MISSING)
        self.places: list[Place] = []
        self.units: list[Unit] = []
        self.scopes: list[Scope] = []
        self.steps: dict[str, int] = {}
        self.by_part: dict[int, list[Place]] = {}
        self.by_name: dict[str, list[Place]] = {}
        self.keep: list[Any] = []

    def compile(self) -> Compiled:
        if not self.pipelines:
            raise CompileError("a graph without pipelines runs nothing", mend="give Graph(...) at least one pipeline or step.")
        if self.name is not None:
            check_name(self.name, "graph", "Graph(name=…)")
        root = self._place("graph", None, 0)
        root.name = self.name or ""
        self.scopes.append(Scope(0, -1, 0, root))
        self._lay_out(root)
        models = self._models()
        self._link_order()
        resolver = Resolver(self.units, self.scopes, self.steps, models, self.declared)
        for unit in self.units:
            if unit.step is not None:
                unit.bindings = resolver.bind_step(unit)
        for place in self.places:
            if place.pipeline is not None:
                self._bind_pipeline(place, resolver)
        resolver.check_names()
        self._link_names()
        order = self._sort()
        before = self._closure(order)
        self._check_sets(before)
        self._finish(before)
        resolver.check_annotations()
        resolver.check_parameters()
        name = self.name or next(unit.step.name for unit in self.units if unit.step)
        return Compiled(
            name,
            root,
            tuple(self.places),
            tuple(self.units),
            tuple(self.scopes),
            tuple(before),
            tuple(order),
            tuple(tuple(edge.source for edge in unit.into) for unit in self.units),
            dict(self.steps),
            models,
            dict(self.declared),
            frozenset(name for name, default in resolver.given.items() if default is not Resolver.MISSING),
            resolver.required,
            resolver.annotations,
        )

    # Places, units and scopes, in the order they are written

    def _place(self, kind: str, parent: Place | None, scope: int, **rest: Any) -> Place:
        place = Place(len(self.places), kind, parent, scope, parent.depth + 1 if parent else 0, **rest)
        self.places.append(place)
        if parent is not None:
            parent.children.append(place)
        return place

    def _unit(self, kind: str, place: Place, scope: int, step: Step | None = None) -> int:
        unit = Unit(len(self.units), kind, place, scope, step)
        self.units.append(unit)
        self.scopes[scope].units.append(unit.index)
        return unit.index

    def _lay_out(self, root: Place) -> None:
        """Walk the declared parts without recursion; a place gets its end when all in it are laid out."""
        todo: list[tuple[Any, Place, int] | Place] = [(part, root, 0) for part in reversed(self.pipelines)]
        while todo:
            entry = todo.pop()
            if isinstance(entry, Place):
                self._close(entry)
                continue
            part, parent, scope = entry
            if isinstance(part, list):
                part = Group(tuple(part))
            if isinstance(part, Pipeline):
                place = self._open_pipeline(part, parent, scope)
                inside = place.inner if place.inner is not None else scope
            elif isinstance(part, Group):
                place, inside = self._place("group", parent, scope), scope
            else:
                self._add_step(part, parent, scope)
                continue
            todo.append(place)
            todo.extend((child, place, inside) for child in reversed(part.parts))

    def _add_step(self, part: Any, parent: Place, scope: int) -> None:
        if not callable(part) and not hasattr(part, "function"):
            raise CompileError(
                f"{part!r} is no part of a graph",
                mend="give Graph(...) pipelines; a part is a step, a pipeline or a list of parts.",
            )
        step = read_step(part)
        if step.name in self.steps:
            first = self.units[self.steps[step.name]].step
            assert first is not None
            raise CompileError(
                f"step {step.name!r} was given twice",
                {"first": first.where, "second": step.where},
                f'step names are unique in a graph; name the second use: cp.alias({step.name}, "{step.name}_again").',
            )
        place = self._place("step", parent, scope, name=step.name)
        place.unit = self._unit(STEP, place, scope, step)
        place.starts = place.ends = [place.unit]
        self.steps[step.name] = place.unit
        self._name(part, place, step.name)

    def _open_pipeline(self, part: Pipeline, parent: Place, scope: int) -> Place:
        place = self._place("pipeline", parent, scope, name=part.name or "", pipeline=part)
        self._name(part, place, part.name)
        if part.each is not None or part.open is not None or part.after:
            place.start = self._unit(START, place, scope)
        if part.each is not None:
            place.inner = self._scope(part, place, scope)
            if self.scopes[place.inner].model is not None:
                for outer in place.around():
                    outer.loops = True
        return place

    def _name(self, part: Any, place: Place, name: str | None) -> None:
        self.keep.append(part)
        self.by_part.setdefault(id(getattr(part, "function", part)), []).append(place)
        if name:
            self.by_name.setdefault(name, []).append(place)

    def _scope(self, part: Pipeline, place: Place, scope: int) -> int:
        index = len(self.scopes)
        outer = self.scopes[scope]
        made = Scope(index, scope, outer.level + 1, place)
        made.chain = (*outer.chain, index)
        each = part.each
        if is_model(each):
            made.model = each
        elif isinstance(each, Selection):
            made.model, made.selection = each.model, each
        elif isinstance(each, Mapping) and len(each) == 1 and isinstance(next(iter(each)), str):
            made.item, made.source = next(iter(each.items()))
            if not (
                isinstance(made.source, list | tuple | range | dict | Files | str)
                or callable(made.source)
                or hasattr(made.source, "function")
            ):
                raise CompileError(
                    f"each={{{made.item!r}: …}} cannot run over {type(made.source).__name__}",
                    {"pipeline": part.where},
                    "the source is a step, a list, or cp.files(…).",
                )
        else:
            raise CompileError(
                f"each={each!r} is neither a model, a selection nor items",
                {"pipeline": part.where},
                'give a model, cp.where(Model, …) or {"name": source}.',
            )
        self.scopes.append(made)
        return index

    def _close(self, place: Place) -> None:
        part = place.pipeline
        if not place.name and part is not None:
            first = next(self.units[unit].step for unit in self._steps_of(place))
            place.name = first.name if first else ""
        if place.kind == "group":
            place.name = place.name or "[" + ", ".join(child.name for child in place.children) + "]"
        needs_end = place.kind == "group" or place.loops or place.skips or place.inner is not None
        if needs_end:
            place.end = self._unit(END, place, place.scope)

    def _steps_of(self, place: Place) -> Iterator[int]:
        stack = [place]
        while stack:
            current = stack.pop()
            if current.unit is not None:
                yield current.unit
            stack.extend(reversed(current.children))

    def _models(self) -> dict[str, type]:
        found: dict[str, type] = {}
        for candidate in [*self.extra_models, *self._named_models()]:
            if not is_model(candidate):
                raise CompileError(f"models= takes models, not {candidate!r}", mend="mark the class with @cp.model.")
            other = found.setdefault(candidate.__name__, candidate)
            if other is not candidate:
                raise CompileError(
                    f"two models are called {candidate.__name__!r}",
                    {
                        "first": f"{other.__module__}.{other.__qualname__}",
                        "second": f"{candidate.__module__}.{candidate.__qualname__}",
                    },
                    "rename one: data and messages know models by name.",
                )
        return found

    def _named_models(self) -> Iterator[type]:
        for scope in self.scopes[1:]:
            if scope.model is not None:
                yield scope.model
        for unit in self.units:
            if unit.step is not None:
                for annotation in [*(parameter.annotation for parameter in unit.step.parameters), unit.step.returns]:
                    if is_model(annotation):
                        yield annotation

    # Edges: first those of the order in which parts are written, then those of names

    def _edge(self, source: int, target: int, value: bool = False) -> None:
        """Make `target` wait for `source`, or for the end of the outermost each that holds only `source`."""
        lifted = self._lift(source, target)
        self._join(lifted, target, value and lifted == source)
        outer = len(self.scopes[self.units[lifted].scope].chain)
        for scope in self.scopes[self.units[target].scope].chain[outer:]:  # an each may have no instance that waits
            end = self.scopes[scope].place.end
            assert end is not None
            self._join(lifted, end)

    def _join(self, source: int, target: int, value: bool = False) -> None:
        edge = Edge(source, target, value)
        self.units[source].out.append(edge)
        self.units[target].into.append(edge)

    def _lift(self, source: int, target: int) -> int:
        mine, theirs = self.scopes[self.units[source].scope].chain, self.scopes[self.units[target].scope].chain
        for level, scope in enumerate(mine):
            if level >= len(theirs) or theirs[level] != scope:
                end = self.scopes[scope].place.end
                assert end is not None
                return end
        return source

    def _link_order(self) -> None:
        for place in reversed(self.places):
            if place.kind == "step":
                continue
            children = place.children
            if place.kind == "pipeline":
                for one, other in pairwise(children):
                    self._link(one.ends, other.starts)
                starts, ends = list(children[0].starts), list(children[-1].ends)
            else:
                starts = [unit for child in children for unit in child.starts]
                ends = [unit for child in children for unit in child.ends]
            if place.start is not None:
                for unit in starts:
                    self._join(place.start, unit)
                starts = [place.start]
            if place.end is not None:
                for unit in ends:
                    self._join(unit, place.end)
                ends = [place.end]
            place.starts, place.ends = starts, ends

    def _link(self, sources: Sequence[int], targets: Sequence[int]) -> None:
        for source in sources:
            for target in targets:
                self._join(source, target)

    def _bind_pipeline(self, place: Place, resolver: Resolver) -> None:
        part = place.pipeline
        assert part is not None
        scope = self.scopes[place.inner] if place.inner is not None else None
        if scope is not None and scope.item is not None:
            self._bind_source(scope, place, resolver)
        if scope is not None and scope.selection is not None and scope.selection.predicate is not None:
            scope.predicate = resolver.bind_predicate(scope, scope.selection.predicate)
        if part.open is None:
            return
        what = f"open= of pipeline {place.name!r}"
        parameters, _ = parameters_of(part.open, what)
        start = self.units[place.start] if place.start is not None else None
        assert start is not None
        guard = resolver.is_guard(parameters)
        inner = place.inner if place.inner is not None else place.scope
        bindings = resolver.bind(parameters, inner, what, place.where, {}, own=None)
        own_level = self.scopes[inner].level if scope is not None else 0
        asks_own = (
            any(binding.level == own_level and binding.kind in ("record", "field", "item") for binding in bindings) and scope
        )
        if guard and any(binding.kind in ("record", "field", "item") for binding in bindings):
            name = next(binding.name for binding in bindings if binding.kind in ("record", "field", "item"))
            raise CompileError(
                f"{what} asks for the store and for {name!r} of a record or item: a guard is asked once for the whole pipeline",
                {"pipeline": place.where},
                "make it a condition (without the store), or select the records: each=cp.where(…).",
            )
        if guard and scope is not None:
            for binding in bindings:
                if binding.kind == "step" and scope.index in self.scopes[self.units[binding.unit].scope].chain:
                    raise CompileError(
                        f"{what} asks for step {binding.name!r} inside its own each",
                        {"pipeline": place.where},
                        "a guard may ask for the store and steps outside of its each; a condition, without the store, for all.",
                    )
        opened = Open(part.open, bindings, guard)
        if asks_own and scope is not None:
            scope.condition = opened
        else:
            start.open = opened

    def _bind_source(self, scope: Scope, place: Place, resolver: Resolver) -> None:
        source = scope.source
        if isinstance(source, str) or callable(source) or hasattr(source, "function"):
            name = source if isinstance(source, str) else step_name(source)
            if name not in self.steps:
                raise CompileError(
                    f"each={{{scope.item!r}: …}}: no step of this graph is called {name!r}.{nearest(name, self.steps)}",
                    {"pipeline": place.where},
                    "name a step of the graph, a list, or cp.files(…).",
                )
            scope.source = resolver.bind_value(name, scope.parent, scope.item or "")
            if scope.source.kind == "step":
                self.units[scope.source.unit].source_of = True
        elif isinstance(source, dict):
            scope.source = dict(source)
        elif isinstance(source, range | tuple):
            scope.source = list(source)

    def _link_names(self) -> None:
        for unit in list(self.units):
            if unit.step is not None:
                self._link_bindings(unit.bindings, unit.index)
                for target in unit.step.options.after:
                    self._link_after(target, unit.index, f"step {unit.step.name!r}", unit.step.where)
        for place in self.places:
            part = place.pipeline
            if part is None or place.start is None:
                continue
            scope = self.scopes[place.inner] if place.inner is not None else None
            opened = self.units[place.start].open
            asked = [opened.bindings if opened else ()]
            if scope is not None:
                asked.append(scope.predicate)
                asked.append(scope.condition.bindings if scope.condition else ())
                asked.append((scope.source,) if isinstance(scope.source, Binding) else ())
            for bindings in asked:
                self._link_bindings(bindings, place.start)
            for target in part.after:
                self._link_after(target, place.start, f"pipeline {place.name!r}", place.where)

    def _link_bindings(self, bindings: Sequence[Binding], target: int) -> None:
        for binding in bindings:
            if binding.unit >= 0 and binding.unit != target:
                self._edge(binding.unit, target, value=binding.kind == "step")

    def _link_after(self, part: Any, target: int, what: str, where: str) -> None:
        if isinstance(part, str):
            found = self.by_name.get(part, [])
            shown = part
            hint = nearest(part, self.by_name)
        else:
            found = self.by_part.get(id(getattr(part, "function", part)), [])
            name = getattr(part, "name", None)
            if name and hasattr(part, "function"):
                found = [place for place in found if place.name == name]
            elif not isinstance(part, Pipeline) and len(found) > 1:
                found = [place for place in found if place.name == step_name(part)]
            shown = name or getattr(part, "__name__", None) or repr(part)
            hint = ""
        if not found:
            raise CompileError(
                f"{what} is to run after {shown!r}, which is not in this graph.{hint}",
                {"declared": where},
                "name a step or pipeline of the same graph.",
            )
        if len(found) > 1:
            raise CompileError(
                f"{what} is to run after {shown!r}, of which there are {len(found)}",
                {"declared": where, **{f"place {n}": place.where or place.name for n, place in enumerate(found, 1)}},
                "pass the pipeline itself, or give it a name of its own.",
            )
        for source in found[0].ends:
            self._edge(source, target)

    # Order and what is before what

    def _sort(self) -> list[int]:
        waiting = [len(unit.into) for unit in self.units]
        ready = [unit.index for unit in self.units if not waiting[unit.index]]
        order: list[int] = []
        while ready:
            unit = ready.pop()
            order.append(unit)
            for edge in self.units[unit].out:
                waiting[edge.target] -= 1
                if not waiting[edge.target]:
                    ready.append(edge.target)
        if len(order) < len(self.units):
            self._raise_cycle({unit for unit, count in enumerate(waiting) if count})
        return order

    def _raise_cycle(self, stuck: set[int]) -> None:
        from graphlib import CycleError, TopologicalSorter

        graph = {unit: [edge.source for edge in self.units[unit].into if edge.source in stuck] for unit in sorted(stuck)}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            cycle = [self.units[unit] for unit in error.args[1][:-1]]  # the last is the first
            names = [unit.name for unit in cycle if unit.kind == STEP] or [unit.name for unit in cycle]
            facts = {unit.name: unit.step.where if unit.step else unit.place.where for unit in cycle if unit.kind == STEP}
            raise CompileError(
                f"steps wait for each other: {' → '.join([*names, names[0]])}"
                if len(set(names)) > 1
                else f"step {names[0]!r} waits for itself",
                facts,
                "naming a step is waiting for it, and a pipeline runs its parts in order: take one of these waits away.",
            ) from None

    def _closure(self, order: Sequence[int]) -> list[int]:
        before = [0] * len(self.units)
        for unit in order:
            bits = 0
            for edge in self.units[unit].into:
                bits |= before[edge.source] | 1 << edge.source
            before[unit] = bits
        return before

    def _check_sets(self, before: Sequence[int]) -> None:
        """Refuse two steps side by side that set one field of one record, neither before the other (rule C2).

        Where one of them stands under an `open=` of its own, they may be the two branches of an if: then the run tells.
        """
        setters: dict[tuple[int, str], list[Unit]] = {}
        for unit in self.units:
            if unit.step is not None and unit.step.options.sets:
                level = next((s for s in reversed(self.scopes[unit.scope].chain) if self.scopes[s].model is not None), 0)
                setters.setdefault((level, unit.step.options.sets), []).append(unit)
        for (_, field), units in setters.items():
            for n, one in enumerate(units):
                for other in units[n + 1 :]:
                    if before[other.index] >> one.index & 1 or before[one.index] >> other.index & 1:
                        continue
                    if not (self._opened_apart(one, other) or self._opened_apart(other, one)):
                        assert one.step is not None and other.step is not None
                        both = f"steps {one.step.name!r} and {other.step.name!r}"
                        raise CompileError(
                            f"{both} both set {field!r}, and neither is before the other",
                            {one.step.name: one.step.where, other.step.name: other.step.where},
                            "put one after the other, or let each set a field of its own.",
                        )

    @staticmethod
    def _opened_apart(one: Unit, other: Unit) -> bool:
        """Tell whether a unit stands under an `open=` that does not hold the other one as well."""
        around = {place.index for place in other.place.around()}
        return any(
            place.pipeline is not None and place.pipeline.open is not None and place.index not in around
            for place in one.place.around()
        )

    def _finish(self, before: Sequence[int]) -> None:
        guards = [unit.index for unit in self.units if unit.open is not None and unit.open.guard]
        for scope in self.scopes:
            for slot, index in enumerate(scope.units):
                self.units[index].slot = slot
        for unit in self.units:
            here = unit.scope
            outer, local = [], 0
            for edge in unit.into:
                source = self.units[edge.source]
                if source.scope == here:
                    local += 1
                elif self._opens(source, unit):
                    continue
                elif self.scopes[source.scope].level < self.scopes[here].level:
                    outer.append(edge)
            unit.outer = tuple(outer)
            unit.waits = local + (unit.kind == END and unit.place.inner is not None)
            unit.guards = tuple(guard for guard in guards if before[unit.index] >> guard & 1 or guard == unit.index)
            unit.holders = tuple(
                place.start for place in unit.place.around() if place.start in guards and place.start not in (None, unit.index)
            )
            unit.limited = tuple(
                place for place in unit.place.around() if place.pipeline is not None and place.pipeline.concurrency
            )
            unit.crossing = tuple(
                edge
                for edge in unit.out
                if self.scopes[self.units[edge.target].scope].level > self.scopes[here].level
                and not self._opens(unit, self.units[edge.target])
            )
            unit.out = [edge for edge in unit.out if self.units[edge.target].scope == here]
        for scope in self.scopes:
            scope.waits = [self.units[index].waits for index in scope.units]
            scope.crossed = [index for index in scope.units if self.units[index].outer]
            scope.first = [index for index in scope.units if not self.units[index].waits]

    def _opens(self, source: Unit, target: Unit) -> bool:
        """Tell whether this edge is that from an each's start into its inside."""
        return source.kind == START and source.place.inner is not None and source.place.inner in self.scopes[target.scope].chain
