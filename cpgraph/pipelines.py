"""Composing steps: order means one after another, a list means side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import attrs

from cpgraph.annotations import brief
from cpgraph.errors import CompileError, nearest
from cpgraph.models import is_model, why_no_model
from cpgraph.names import calling
from cpgraph.steps import Alias, as_tuple, check_name

__all__ = ["Group", "Part", "Pipeline", "Selection", "pipeline", "where"]

OnError = Literal["isolate", "skip", "stop"]


@attrs.frozen(eq=False)
class Selection:
    """Those records of a model that match a predicate and equal fields when they come in."""

    model: type
    predicate: Callable[..., Any] | None
    equal: Mapping[str, Any]


@attrs.frozen(eq=False)
class Group:
    """Parts that may run side by side."""

    parts: tuple[Part, ...]


@attrs.frozen(eq=False)
class Pipeline:
    """Parts one after another, perhaps once per record or item, perhaps under a condition or guard."""

    parts: tuple[Part, ...]
    name: str | None = None
    each: Any = None
    open: Callable[..., Any] | None = None
    concurrency: int | None = None
    after: tuple[Any, ...] = ()
    on_error: OnError = "isolate"
    max_generations: int = 10_000
    where: str = ""


Part = Callable[..., Any] | Alias | Group | Pipeline


def where(model: type, predicate: Callable[..., Any] | None = None, /, **equal: Any) -> Selection:
    """Select records for `each=`: those whose fields equal the given ones and for which the predicate says yes.

    The predicate's first parameter is the record asked about; others are resolved like a condition's.
    """
    where = {"declared": calling()}
    if not is_model(model):
        said = f"where() selects records of a model, and {why_no_model(model)}"
        raise CompileError(said, where, "pass a class marked with @model.")
    fields = [field.name for field in attrs.fields(model)]
    for name in equal:
        if name not in fields:
            raise CompileError(
                f"where(): {model.__name__} has no field {name!r}.{nearest(name, fields)}",
                {**where, "fields": ", ".join(fields)},
                "name one of its fields.",
            )
    if predicate is not None and (isinstance(predicate, type) or not callable(predicate)):
        raise CompileError(
            f"where() asks a function for each record, not {brief(predicate)}",
            where,
            f"write cp.where({model.__name__}, lambda record: …), or field=value.",
        )
    return Selection(model, predicate, equal)


def pipeline(
    *parts: Any,
    name: str | None = None,
    each: Any = None,
    open: Callable[..., Any] | None = None,
    concurrency: int | None = None,
    after: Any = (),
    on_error: OnError = "isolate",
    max_generations: int = 10_000,
) -> Pipeline:
    """Compose steps, pipelines and lists of them; a list runs side by side.

    >>> def fetch(url): ...
    >>> def parse(fetch): ...
    >>> def words(parse): ...
    >>> len(pipeline(fetch, parse, [words], name="pages").parts)
    3

    each: a model, `where(Model, …)` or `{"name": source}`: a copy per record or item. open: a condition or, with
    `store` among its parameters, a guard. concurrency: how many copies may be under way. after: what to wait for.
    on_error: "isolate" (a failed record stops alone), "skip" (what joins goes on without it) or "stop" (no further
    record is started). max_generations: how long a chain of created records may get.
    """
    spot = calling()
    if name is not None:
        check_name(name, "pipeline", spot)
    if not parts:
        raise CompileError("a pipeline without parts does nothing", {"pipeline": spot}, "give it at least one step.")
    if on_error not in ("isolate", "skip", "stop"):
        raise CompileError(f"on_error={on_error!r} is not known", {"pipeline": spot}, 'say "isolate", "skip" or "stop".')
    numbers: dict[str, Any] = {"concurrency": concurrency, "max_generations": max_generations}
    for option, number in numbers.items():
        if not (number is None and option == "concurrency") and (
            not isinstance(number, int) or isinstance(number, bool) or number < 1
        ):
            raise CompileError(f"{option}={number!r} is not a whole number above 0", {"pipeline": spot}, "give 1 or more.")
    if open is not None and (isinstance(open, type) or not callable(open)):
        raise CompileError(
            f"open= takes a function that says yes or no, not {brief(open)}",
            {"pipeline": spot},
            "write open=lambda …: …, or leave it out for a pipeline that is always open.",
        )
    taken = tuple(_part(part, spot) for part in parts)
    return Pipeline(taken, name, each, open, concurrency, as_tuple(after), on_error, max_generations, spot)


def _part(part: Any, spot: str) -> Part:
    if isinstance(part, list):
        if not part:
            raise CompileError("an empty list runs nothing", {"pipeline": spot}, "give it at least one part, or leave it out.")
        return Group(tuple(_part(inner, spot) for inner in part))
    if isinstance(part, Pipeline | Alias):
        return part
    if type(part) is tuple:
        raise CompileError(
            "a tuple is no part of a pipeline", {"pipeline": spot}, "write a list for parts that run side by side."
        )
    if isinstance(part, type) or not callable(part):
        raise CompileError(
            f"{part!r} is no part of a pipeline",
            {"pipeline": spot},
            "a part is a step (a function), a pipeline, or a list of parts.",
        )
    result: Part = part
    return result
