"""Turning declared pipelines into flat arrays: units, edges, and what is before what (see `structure`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from cpgraph.annotations import brief
from cpgraph.errors import CompileError, nearest
from cpgraph.models import Files, is_model, why_no_model
from cpgraph.names import calling, location
from cpgraph.ordering import check_sets, closure, sort_units
from cpgraph.pipelines import Group, Pipeline, Selection
from cpgraph.resolve import Resolver
from cpgraph.steps import Step, check_asked, check_name, parameters_of, read_step, step_name
from cpgraph.structure import END, START, STEP, Binding, Compiled, Edge, Open, Place, Scope, Unit

__all__ = ["compile_graph"]


def compile_graph(
    pipelines: Sequence[Any],
    *,
    name: str | None = None,
    models: Sequence[type] = (),
    params: Sequence[str] | Mapping[str, Any] = (),
) -> Compiled:
    """Check pipelines and make the graph; raises `CompileError` with what is wrong and how to mend it."""
    return _Compiler(pipelines, name, models, params).compile()


def _declared(params: Any) -> dict[str, Any]:
    """Take the run parameters of a graph; those without a default are missing until they are given."""
    facts = {"declared": calling()}
    if isinstance(params, str) or not isinstance(params, Iterable):
        example = f"params=[{params!r}]" if isinstance(params, str) else 'params=["key"]'
        said = f"params={brief(params)} is no list of names"
        raise CompileError(said, facts, f'write {example}, or with defaults params={{"key": 3}}.')
    names = list(params)
    for name in names:
        if not isinstance(name, str):
            raise CompileError(f"params= takes names, not {brief(name)}", facts, "give each name as text.")
    return dict(params) if isinstance(params, Mapping) else dict.fromkeys(names, Resolver.MISSING)


class _Compiler:
    def __init__(
        self, pipelines: Sequence[Any], name: str | None, models: Sequence[type], params: Sequence[str] | Mapping[str, Any]
    ) -> None:
        self.pipelines = pipelines
        self.name = name
        self.extra_models = models
        self.declared = _declared(params)
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
        for scope in self.scopes:
            if scope.item is not None:
                self._bind_source(scope, resolver)
        for unit in self.units:
            if unit.step is not None:
                unit.bindings = resolver.bind_step(unit)
        for place in self.places:
            if place.pipeline is not None:
                self._bind_pipeline(place, resolver)
        resolver.check_names()
        self._link_names()
        order = sort_units(self.units)
        before = closure(self.units, order)
        check_sets(self.units, self.scopes, before)
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
        if isinstance(part, type) or (not callable(part) and not hasattr(part, "function")):
            raise CompileError(
                f"{brief(part)} is no part of a graph",
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
            model = made.source.model if isinstance(made.source, Selection) else made.source
            if is_model(model):
                selected = "Model" if model is made.source else "cp.where(Model, …)"
                raise CompileError(
                    f"each={{{made.item!r}: …}} runs over items, and {model.__name__} is a model",
                    {"pipeline": part.where},
                    f"write each={selected.replace('Model', model.__name__)}: a step gets the record by the name `record`, "
                    f"or annotated with {model.__name__}.",
                )
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
            said = f": {why_no_model(each)}" if isinstance(each, type) else ""
            raise CompileError(
                f"each={each.__name__ if said else brief(each)} is neither a model, a selection nor items{said}",
                {"pipeline": part.where, **({"class": location(each)} if said else {})},
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
        extra: Any = self.extra_models
        if isinstance(extra, type | str) or not isinstance(extra, Iterable):
            said = extra.__name__ if isinstance(extra, type) else brief(extra)
            mend = f"write models=[{said}]." if is_model(extra) else "write models=[Model]."
            raise CompileError(f"models= takes a list of models, not {said}", {"declared": calling()}, mend)
        for candidate in [*extra, *self._named_models()]:
            if not is_model(candidate):
                said = f"models= takes models, and {why_no_model(candidate)}"
                raise CompileError(said, {"declared": calling()}, "mark the class with @cp.model.")
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
        if scope is not None and scope.selection is not None and scope.selection.predicate is not None:
            scope.predicate = resolver.bind_predicate(scope, scope.selection.predicate)
        if part.open is None:
            return
        what = f"open= of pipeline {place.name!r}"
        check_asked(part.open, what, place.where)
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

    def _bind_source(self, scope: Scope, resolver: Resolver) -> None:
        source = scope.source
        where = scope.place.where
        if isinstance(source, str) or callable(source) or hasattr(source, "function"):
            name = source if isinstance(source, str) else step_name(source)
            if name not in self.steps:
                raise CompileError(
                    f"each={{{scope.item!r}: …}}: no step of this graph is called {name!r}.{nearest(name, self.steps)}",
                    {"pipeline": where},
                    "name a step of the graph, a list, or cp.files(…).",
                )
            scope.source = resolver.bind_value(name, scope.parent, scope.item or "")
            if scope.source.kind == "step":
                self.units[scope.source.unit].source_of = True
            resolver.check_source(scope)
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
            shown = name or getattr(part, "__name__", None) or ""
            hint = ""
        facts = {"declared": where}
        if isinstance(part, Pipeline):
            facts["pipeline"] = part.where
        if not found:
            said = repr(shown) if shown else "a pipeline" if isinstance(part, Pipeline) else brief(part)
            raise CompileError(
                f"{what} is to run after {said}, which is not in this graph.{hint}",
                facts,
                "name a step or pipeline of the same graph.",
            )
        if len(found) > 1:
            raise CompileError(
                f"{what} is to run after {shown!r}, of which there are {len(found)}",
                {**facts, **{f"place {n}": place.where or place.name for n, place in enumerate(found, 1)}},
                "pass the pipeline itself, or give it a name of its own.",
            )
        for source in found[0].ends:
            self._edge(source, target)

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
