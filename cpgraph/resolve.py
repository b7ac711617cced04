"""Deciding what each parameter gets: once, when the graph compiles (design §3.3, rules N4–N9).

A parameter must fit exactly one row of the table; two that fit, or none, is a `CompileError` with the nearest name.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import attrs

from cpgraph.annotations import alternatives, assignable, describe, element_types
from cpgraph.errors import CompileError, nearest
from cpgraph.events import Stream
from cpgraph.models import File, Files, field_types, is_model
from cpgraph.steps import EMPTY, Parameter, Step, check_asked, parameters_of
from cpgraph.store import Store
from cpgraph.structure import Binding, Scope, Unit

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Resolver"]


class Resolver:
    """Knows a graph's names; gives bindings."""

    MISSING: Final = type("Missing", (), {"__repr__": lambda self: "(required)"})()

    def __init__(
        self,
        units: Sequence[Unit],
        scopes: Sequence[Scope],
        steps: Mapping[str, int],
        models: Mapping[str, type],
        declared: dict[str, Any],
    ) -> None:
        self.units = units
        self.scopes = scopes
        self.steps = steps
        self.models = models
        self.declared = declared
        self.given = dict(declared)
        self.asked: set[str] = set()
        self.needed: set[str] = set()
        self.unknown: list[tuple[Parameter, int, str, str]] = []
        self.annotations: dict[str, Any] = {}
        self.fields: dict[type, dict[str, Any]] = {}
        self.checks: list[tuple[str, str, str, Any, Any, bool]] = []

    def fields_of(self, model: type) -> dict[str, Any]:
        if model not in self.fields:
            self.fields[model] = field_types(model)
        return self.fields[model]

    def _step(self, unit: int) -> Step:
        step = self.units[unit].step
        assert step is not None
        return step

    def bind_step(self, unit: Unit) -> tuple[Binding, ...]:
        step = self._step(unit.index)
        what = f"step {step.name!r}"
        bindings = self.bind(step.parameters, unit.scope, what, step.where, step.inputs, own=unit)
        if step.options.sets is not None:
            self._check_sets(unit)
        return bindings

    def bind(
        self, parameters: Iterable[Parameter], scope: int, what: str, where: str, inputs: Mapping[str, str], own: Unit | None
    ) -> tuple[Binding, ...]:
        bindings = []
        for parameter in parameters:
            if parameter.name in inputs:
                source = inputs[parameter.name]
                if source not in self.steps:
                    raise CompileError(
                        f"{what} is to get {parameter.name!r} from {source!r}: no step of this graph is called that."
                        f"{nearest(source, self.steps)}",
                        {"declared": where},
                        "name a step of the same graph in inputs=.",
                    )
                binding = self.bind_value(source, scope, parameter.name, parameter.annotation)
                self._check_value(binding, parameter, what, where)
            else:
                binding = self._bind_one(parameter, scope, what, where, own)
            bindings.append(binding)
        return tuple(bindings)

    def bind_predicate(self, scope: Scope, predicate: Callable[..., Any]) -> tuple[Binding, ...]:
        """Bind what the predicate of a `where` asks for beside the record it is asked about."""
        assert scope.model is not None
        what = f"the predicate of each=cp.where({scope.model.__name__}, …)"
        where = scope.place.where
        check_asked(predicate, what, where)
        parameters, _ = parameters_of(predicate, what)
        if not parameters:
            raise CompileError(
                f"{what} takes no parameter", {"pipeline": where}, "its first parameter is the record asked about."
            )
        bindings = self.bind(parameters[1:], scope.parent, what, where, {}, own=None)
        if any(binding.kind == "store" for binding in bindings):
            raise CompileError(
                f"{what} asks for the store", {"pipeline": where}, "ask for the record and for what stands around it."
            )
        return bindings

    def bind_value(self, name: str, scope: int, parameter: str, annotation: Any = EMPTY) -> Binding:
        """Bind a parameter to a step's value, or to those of all its instances (rule V2)."""
        unit = self.steps[name]
        mine, theirs = self.scopes[scope].chain, self.scopes[self.units[unit].scope].chain
        shared = 0
        for one, other in zip(mine, theirs, strict=False):
            if one != other:
                break
            shared += 1
        levels = len(theirs) - shared
        if not levels:
            return Binding("step", parameter, unit=unit)
        return Binding("joined", parameter, unit=unit, levels=levels, as_dict=_is_mapping(annotation))

    def is_guard(self, parameters: Iterable[Parameter]) -> bool:
        return any(_asks(Store, "store", parameter) for parameter in parameters)

    def _bind_one(self, parameter: Parameter, scope: int, what: str, where: str, own: Unit | None) -> Binding:
        name = parameter.name
        own_name = own.step.name if own is not None and own.step is not None else None
        rows = self._rows(parameter, scope, own_name)
        if all(row.kind == "param" for row, _ in rows):
            self._refuse_union(parameter, scope, what, where)
        if parameter.optional:
            return self._bind_default(parameter, rows, what, where)
        if len(rows) > 1 and {row.kind for row, _ in rows} == {"field", "step"}:
            rows = self._set_field(rows)
        if len(rows) == 1:
            binding = rows[0][0]
            self._check_row(binding, parameter, scope, what, where)
            return binding
        if rows:
            raise CompileError(
                f"{what} asks for {name!r}, which can be two things",
                {"declared": where, **{f"it is {n}": said for n, (_, said) in enumerate(rows, 1)}},
                "rename one of them, or say which with cp.alias(…, inputs={…}).",
            )
        self.unknown.append((parameter, scope, what, where))
        self._ask(parameter)
        return Binding("param", name)

    def _rows(self, parameter: Parameter, scope: int, own_name: str | None) -> list[tuple[Binding, str]]:
        name, annotation = parameter.name, parameter.annotation
        chain = [self.scopes[index] for index in self.scopes[scope].chain]
        rows: list[tuple[Binding, str]] = []
        if _asks(Store, "store", parameter):
            rows.append((Binding("store", name), "the store"))
        elif _asks(Stream, "stream", parameter):
            rows.append((Binding("stream", name), "the stream"))
        else:
            for each in reversed(chain):
                if each.model is not None and (
                    annotation is each.model
                    or annotation == each.model.__name__
                    or (name == "record" and not parameter.annotated)
                ):
                    rows.append((Binding("record", name, level=each.level), f"the record, {each.model.__name__}"))
                    break
        for each in reversed(chain):
            if each.model is not None and name in self.fields_of(each.model):
                rows.append((Binding("field", name, level=each.level, field=name), f"the field of {each.model.__name__}"))
                break
        for each in reversed(chain):
            if each.item == name:
                rows.append((Binding("item", name, level=each.level), f"the item of each={{{name!r}: …}}"))
                break
        if name in self.steps and name != own_name:
            rows.append((self.bind_value(name, scope, name, annotation), f"the step at {self._step(self.steps[name]).where}"))
        if name in self.given:
            rows.append((Binding("param", name), "the parameter declared in Graph(params=…)"))
            self._ask(parameter)
        return rows

    def _set_field(self, rows: list[tuple[Binding, str]]) -> list[tuple[Binding, str]]:
        """A step that sets the field of its own name is that field afterwards: no clash (rule N4)."""
        step = next(row for row, _ in rows if row.kind == "step")
        if self._step(step.unit).options.sets != step.name:
            return rows
        return [(attrs.evolve(row, unit=step.unit), said) for row, said in rows if row.kind == "field"]

    def _bind_default(self, parameter: Parameter, rows: list[tuple[Binding, str]], what: str, where: str) -> Binding:
        name = parameter.name
        clash = [said for row, said in rows if row.kind != "param"]
        if clash:
            ways = "rename it, or say what it gets with cp.alias(…, inputs={…})."
            if rows[0][0].kind in ("store", "stream"):
                ways = f"or annotate it as what it is meant to be: {name}: str = …."
            raise CompileError(
                f"{what} gives {name!r} a default, and {name!r} is also {clash[0]}",
                {"declared": where},
                f"a parameter with a default is a run parameter and nothing else: take the default away, {ways}",
            )
        self._ask(parameter)
        if self.given.get(name, self.MISSING) is self.MISSING:
            self.declared[name] = parameter.default
        return Binding("param", name, default=parameter.default)

    def _refuse_union(self, parameter: Parameter, scope: int, what: str, where: str) -> None:
        """Refuse `Store | None`, `Model | None` and the like: what is asked for is always there, or an error."""
        annotation, known = parameter.annotation, {**self.models, **NAMED}
        if isinstance(annotation, str):
            parts = tuple(known.get(part.strip(), Any) for part in annotation.split("|"))
        else:
            parts = alternatives(annotation)
        around = [self.scopes[index].model for index in self.scopes[scope].chain]
        kind = next((part for part in parts if part is Store or part is Stream or (is_model(part) and part in around)), None)
        if len(parts) == 1 or kind is None:
            return
        raise CompileError(
            f"{what} takes {parameter.name!r} as {describe(annotation)}, which does not say that it is to get the "
            f"{'record' if is_model(kind) else kind.__name__.lower()}",
            {"declared": where},
            f"annotate it with {kind.__name__} alone, without a default: it is always given.",
        )

    def _ask(self, parameter: Parameter) -> None:
        """Note who asks for a run parameter: without a default it has to be given."""
        self.asked.add(parameter.name)
        if not parameter.optional:
            self.needed.add(parameter.name)
        if parameter.annotated:
            self.annotations.setdefault(parameter.name, parameter.annotation)

    # Annotations, from step to step and against fields

    def _check_row(self, binding: Binding, parameter: Parameter, scope: int, what: str, where: str) -> None:
        if binding.kind == "field" and parameter.annotated:
            model = self.scopes[self.scopes[scope].chain[binding.level - 1]].model
            assert model is not None
            self.checks.append((what, where, parameter.name, self.fields_of(model)[binding.field], parameter.annotation, True))
        elif binding.kind == "item" and parameter.annotated:
            source = self.scopes[self.scopes[scope].chain[binding.level - 1]].source
            self.checks.append((what, where, parameter.name, self._item_type(source), parameter.annotation, False))
        elif binding.kind in ("step", "joined"):
            self._check_value(binding, parameter, what, where)

    def _check_value(self, binding: Binding, parameter: Parameter, what: str, where: str) -> None:
        if parameter.annotated:
            self.checks.append((what, where, parameter.name, self._value_type(binding), parameter.annotation, False))

    def _value_type(self, binding: Binding) -> Any:
        """Give the annotation of a step's value, or of all its values; Any for what is not known."""
        kind: Any = self._step(binding.unit).returns
        if kind is EMPTY or _is_change(kind):
            kind = Any
        elif kind is Files:  # kept as what it matched
            kind = list[File]
        for _ in range(binding.levels):
            kind = types.GenericAlias(dict, (Any, kind)) if binding.as_dict else types.GenericAlias(list, (kind,))
        return kind

    def _item_type(self, source: Any) -> Any:
        """Give the annotation of the items of an `each`; Any for what is not known."""
        if isinstance(source, Files):
            return File
        if not isinstance(source, Binding):
            return Any
        found: list[Any] = []
        for kind in alternatives(self._value_type(source)):
            held = typing.get_args(kind) if typing.get_origin(kind) is tuple else element_types(kind)
            if kind is range:
                found.append(int)
            elif kind is not type(None):
                found += [part for part in held if part is not Ellipsis] if not _is_mapping(kind) else held[1:]
                if not held:
                    return Any
        return typing.Union[tuple(found)] if found else Any  # noqa: UP007

    def check_source(self, scope: Scope) -> None:
        """Refuse an each over the value of a step that cannot have items, as it is annotated."""
        kind = self._value_type(scope.source)
        if not any(assignable(kind, holder, filled=True) for holder in (list, tuple, range, dict)):
            step = self._step(scope.source.unit)
            raise CompileError(
                f"each={{{scope.item!r}: …}} cannot run over the value of step {step.name!r}, which is {describe(kind)}",
                {"pipeline": scope.place.where, step.name: step.where},
                "have the step return a list, tuple, range or dict of the items.",
            )

    def check_annotations(self) -> None:
        for what, where, name, source, target, is_field in self.checks:
            if _is_change(source):
                continue
            if not assignable(source, target, filled=is_field):
                raise CompileError(
                    f"{what} takes {name!r} as {describe(target)}, and gets {describe(source)}",
                    {"declared": where},
                    "make the two annotations agree.",
                )

    def _check_sets(self, unit: Unit) -> None:
        step = self._step(unit.index)
        name = step.options.sets or ""
        model = next(
            (self.scopes[s].model for s in reversed(self.scopes[unit.scope].chain) if self.scopes[s].model is not None), None
        )
        if model is None:
            raise CompileError(
                f"step {step.name!r} sets {name!r}, but stands in no pipeline that runs each= record",
                {"declared": step.where},
                "run its pipeline each= model, or return the value without sets=.",
            )
        fields = self.fields_of(model)
        if name not in fields or name == "id":
            writable = [other for other in fields if other != "id"]
            raise CompileError(
                f"step {step.name!r} sets {name!r}, which is no field of {model.__name__} that can be written."
                f"{nearest(name, writable) if name != 'id' else ''}",
                {"declared": step.where, "fields": ", ".join(writable)},
                "name a field of the record.",
            )
        if step.returns is not EMPTY:
            self.checks.append(
                (
                    f"step {step.name!r} sets the field {name!r} and",
                    step.where,
                    name,
                    step.returns,
                    fields[name],
                    False,
                )
            )

    def check_names(self) -> None:
        """Refuse what nothing is called; a default in any signature declares its parameter for the graph (rule N7)."""
        for parameter, scope, what, where in self.unknown:
            name = parameter.name
            if name in self.declared:
                continue
            chain = [self.scopes[index] for index in self.scopes[scope].chain]
            known = [*self.steps, *self.declared, *(each.item for each in chain if each.item)]
            fields = [field for each in chain if each.model for field in self.fields_of(each.model)]
            of = f"field of {' or '.join(each.model.__name__ for each in chain if each.model)}, " if fields else ""
            hint = nearest(name, [*known, *fields])
            mend = "name a field, a step, an item or a declared parameter, or give the parameter a default."
            if what == f"step {name!r}":
                hint, mend = " A step cannot ask for its own value.", "name another step, or an item or parameter."
            model = self._model_of(parameter.annotation)
            if model is not None:
                of = f"no each= of {model.__name__} is around it, and no {of}"
            else:
                of = f"no {of}"
            if name == "record" or model is not None:
                mend = f"run the pipeline each={model.__name__ if model else 'Model'}, or name a step that gives the record."
            raise CompileError(
                f"{what} asks for {name!r}: {of}earlier step or parameter is called that.{hint}", {"declared": where}, mend
            )

    def _model_of(self, annotation: Any) -> type | None:
        """Give the model that an annotation, or its text, names."""
        if isinstance(annotation, str):
            return self.models.get(annotation)
        return next((part for part in alternatives(annotation) if is_model(part)), None)

    @property
    def required(self) -> frozenset[str]:
        """Give the names that somebody asks for without a default and that Graph(params=…) gives none."""
        return frozenset(name for name in self.needed if self.given.get(name, self.MISSING) is self.MISSING)

    def check_parameters(self) -> None:
        """Refuse a declared parameter that nobody asks for (rule N7)."""
        for name in sorted(self.given.keys() - self.asked):
            hint = nearest(name, self.asked)
            raise CompileError(
                f"parameter {name!r} is declared, and no step, condition, guard or predicate asks for it.{hint}",
                {"declared": "Graph(params=…)"},
                "name it as a parameter of a step, or do not declare it.",
            )


# What is always there, by its name in an annotation that is text
NAMED: Final[Mapping[str, type]] = {"Store": Store, "cp.Store": Store, "Stream": Stream, "cp.Stream": Stream}


def _asks(kind: type, name: str, parameter: Parameter) -> bool:
    """Tell whether a parameter asks for the store, or the stream: by its annotation, or by name without one."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        annotation = NAMED.get(annotation)
    return annotation is kind or (parameter.name == name and not parameter.annotated)


def _is_mapping(annotation: Any) -> bool:
    origin = typing.get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _is_change(annotation: Any) -> bool:
    """Tell whether a step is annotated as returning changes: what its value is, the annotation then does not say."""
    from_change = {"Create", "Update", "Delete", "Result"}
    if isinstance(annotation, type):
        return annotation.__module__ == "cpgraph.models" and annotation.__name__ in from_change
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        return any(_is_change(argument) for argument in typing.get_args(annotation))
    return False
