"""From a row to a record, and back: a row is a dict of plain values, as a file has it.

The types of its fields say how each value is read (`scalars`); cattrs builds the classes that are nested in it. What is wrong is
said in our words, with the way to it: `lines[2].sku`.
"""

from __future__ import annotations

import collections
import collections.abc as abc
import enum
import functools
import os
import typing
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import attrs

from cpgraph import documents
from cpgraph.annotations import alternatives, brief, by_annotation, describe, either, element_types, fits, strip
from cpgraph.errors import CpgraphError, DataError, nearest
from cpgraph.models import field_types, wrong_id
from cpgraph.scalars import QUOTE, SCALARS, Hook, Misfit, choice, enumerated, guess, is_textual, misfit, path, scalar, textual

__all__ = ["convert", "field_readers", "row_reader"]


# Rows


@functools.lru_cache(maxsize=1024)
def row_reader(cls: Any) -> Callable[[Mapping[Any, Any]], Any]:
    """Give the function that makes a record of a row, or raises `Misfit` with everything that is wrong with the row."""
    types = field_types(cls)
    plan = [
        (field.name, field.alias or field.name, _hook(types[field.name], field), field.default is attrs.NOTHING)
        for field in attrs.fields(cls)
        if field.init
    ]
    known = {name for name, *_ in plan}

    def read(row: Mapping[Any, Any]) -> Any:
        values, problems, found = {}, [], 0
        for name, alias, hook, required in plan:
            if name in row:
                found += 1
                try:
                    values[alias] = hook(row[name], None)
                except Misfit as error:
                    problems += [(f"{name}{inner}", text) for inner, text in error.problems]
            elif required:
                problems.append((name, f"is missing, expected {describe(types[name])}"))
        if found < len(row):
            problems += [(str(name), _unknown(cls, name, known)) for name in row if name not in known]
        if not problems:
            try:
                record = cls(**values)
            except Exception as error:
                raise Misfit([("", _said(error))]) from error
            wrong = wrong_id(record.id)
            if not wrong:
                return record
            problems = [("id", wrong)]
        raise Misfit(problems)

    return read


@functools.lru_cache(maxsize=1024)
def field_readers(cls: Any) -> dict[str, Hook]:
    """Give for each field what reads its value, or raises `Misfit`."""
    types = field_types(cls)
    return {field.name: _hook(types[field.name], field) for field in attrs.fields(cls) if field.init}


def _unknown(cls: type, name: Any, known: set[str]) -> str:
    if isinstance(name, str):
        return f"{cls.__name__} has no such field.{nearest(name, known)}"
    return f"{cls.__name__} has no such field: the name is read as {brief(name)}: quote it"


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _hook(annotation: Any, field: attrs.Attribute[Any]) -> Hook:
    if field.converter is not None:  # the class itself says what it takes
        return _as_is
    return _find(annotation)


# Values, by annotation


@functools.cache
def _converter() -> Any:
    """Give the converter that builds nested classes, and asks us for everything else."""
    import cattrs

    converter = cattrs.Converter(prefer_attrib_converters=True)
    converter.register_structure_hook_factory(lambda annotation: True, _find)
    for kind in (str, bytes, int, float, Path):  # cattrs knows these, and what is derived from them, before it asks
        converter.register_structure_hook(kind, lambda value, annotation: _find(annotation)(value, annotation))
    return converter


def _as_is(value: Any, _: Any) -> Any:
    return value


@by_annotation
def _find(annotation: Any) -> Hook:
    """Give what reads values for an annotation."""
    if type(annotation).__name__ == "TypeAliasType":  # may mention itself
        return lambda value, _: _find(annotation.__value__)(value, _)
    annotation = strip(annotation)
    if annotation is Any:
        return _as_is
    parts = alternatives(annotation)
    if len(parts) > 1:
        return _union(annotation, parts)
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return choice(args, describe(annotation))
    kind = origin or annotation
    if not isinstance(kind, type):
        return _as_is
    if kind in SCALARS:
        return SCALARS[kind]
    if issubclass(kind, enum.Enum):
        return enumerated(kind)
    if is_textual(kind):
        return textual(kind)
    if issubclass(kind, os.PathLike):
        return path(kind)
    if typing.is_typeddict(kind):
        from cattrs.gen.typeddicts import make_dict_structure_fn as of_typed_dict

        return _built(annotation, dict, lambda: of_typed_dict(annotation, _converter(), _cattrs_forbid_extra_keys=True))
    if attrs.has(kind) or hasattr(kind, "__dataclass_fields__"):
        from cattrs.gen import make_dict_structure_fn as of_class

        return _built(annotation, kind, lambda: of_class(annotation, _converter(), _cattrs_forbid_extra_keys=True))
    if issubclass(kind, tuple):
        return _tuple(annotation, kind, args)
    if issubclass(kind, abc.Mapping):
        return _mapping(annotation, kind)
    if issubclass(kind, abc.Iterable) and kind.__module__ in ("builtins", "collections", "collections.abc"):
        return _many(annotation, kind, args[0] if args else Any)
    return scalar(kind, describe(kind), hint=(object, ", which cannot be written in data"))


def _late(annotation: Any) -> Hook:
    """Give the hook of a part; of a class that is just being looked at, when a value comes."""
    try:
        return _find(annotation)
    except RecursionError:
        return lambda value, _: _find(annotation)(value, _)


def _union(annotation: Any, parts: tuple[Any, ...]) -> Hook:
    hooks = [(typing.get_origin(part) or part, _late(part)) for part in parts]
    exact = dict(reversed(hooks))
    others = [hook for kind, hook in hooks if kind is not type(None)]

    def read(value: Any, _: Any) -> Any:
        if value is None and len(others) < len(hooks):
            return None
        first = exact.get(type(value))
        for hook in [first, *others] if first else others:
            try:
                return hook(value, None)
            except Misfit as error:
                if len(others) == 1 and any(inner for inner, _ in error.problems):
                    raise  # it knows better which part is wrong
        raise misfit(describe(annotation), value, QUOTE[1] if str in exact and isinstance(value, QUOTE[0]) else "")

    return read


# What holds values


def _part(hook: Hook, value: Any, way: str, problems: list[tuple[str, str]]) -> Any:
    try:
        return hook(value, None)
    except Misfit as error:
        problems += [(f"{way}{inner}", text) for inner, text in error.problems]


def _items(value: Any, expected: str) -> list[Any]:
    if isinstance(value, list | tuple | set | frozenset | collections.deque | range):
        return list(value)
    raise misfit(f"{expected} (a list)", value)


def _many(annotation: Any, kind: Any, inner: Any) -> Hook:
    hook = _late(inner)
    make: Any = kind
    if issubclass(kind, abc.MutableSet | set):
        make = set if kind is abc.MutableSet else kind
    elif kind is abc.Set:
        make = frozenset
    elif kind is abc.MutableSequence:
        make = list
    elif kind.__module__ == "collections.abc":
        make = tuple

    def read(value: Any, _: Any) -> Any:
        problems: list[tuple[str, str]] = []
        made = [_part(hook, item, f"[{place}]", problems) for place, item in enumerate(_items(value, describe(annotation)))]
        if problems:
            raise Misfit(problems)
        try:
            return make(made)
        except TypeError:  # a list in a set
            raise misfit(describe(annotation), value) from None

    return read


def _tuple(annotation: Any, kind: Any, args: tuple[Any, ...]) -> Hook:
    named = hasattr(kind, "_fields")
    if named:
        hints = typing.get_type_hints(kind)
        args = tuple(hints.get(name, Any) for name in kind._fields)
    elif not args or args[-1] is Ellipsis:
        return _many(annotation, kind, args[0] if args else Any)
    hooks = [_late(part) for part in args]

    def read(value: Any, _: Any) -> Any:
        items, problems = _items(value, describe(annotation)), []
        if len(items) != len(hooks):
            problems = [("", f"expected {describe(annotation)} ({len(hooks)} items), found {len(items)}")]
        made = [_part(hook, item, f"[{place}]", problems) for place, (hook, item) in enumerate(zip(hooks, items, strict=False))]
        if problems:
            raise Misfit(problems)
        return kind(*made) if named else kind(made)

    return read


def _mapping(annotation: Any, kind: Any) -> Hook:
    key_type, value_type = (*element_types(annotation), Any, Any)[:2]
    keys, values = _late(key_type), _late(value_type)

    def read_key(key: Any) -> Any:
        try:
            return keys(key, None)
        except Misfit:
            if not isinstance(key, str):
                raise
        try:
            return keys(guess(key)(key), None)  # in JSON every key is a text
        except (Misfit, ValueError):
            raise misfit(describe(key_type), key) from None

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, abc.Mapping):
            raise misfit(f"{describe(annotation)} (a mapping)", value)
        made: dict[Any, Any] = {}
        problems: list[tuple[str, str]] = []
        for key, item in value.items():
            way = f"[{brief(key).partition(' (')[0]}]"
            problems_before = len(problems)
            read_as = _part(lambda key, _: read_key(key), key, way, problems)
            item = _part(values, item, way, problems)
            if len(problems) == problems_before:
                made[read_as] = item
        if problems:
            raise Misfit(problems)
        if kind is collections.defaultdict:
            return collections.defaultdict(None, made)
        return made if kind.__module__ == "collections.abc" else kind(made)

    return read


def _built(annotation: Any, kind: Any, make: Callable[[], Hook]) -> Hook:
    """Have cattrs build a nested class, and say in our words what is wrong."""
    build = make()

    def read(value: Any, _: Any) -> Any:
        if kind is not dict and isinstance(value, kind):
            return value
        if not isinstance(value, abc.Mapping):
            raise misfit(f"{describe(annotation)} (a mapping)", value)
        try:
            return build(value, annotation)
        except Exception as error:
            raise Misfit(list(_told(error, ""))) from error

    return read


def _told(error: Any, way: str) -> Iterator[tuple[str, str]]:
    if isinstance(error, Misfit):
        yield from ((f"{way}{inner}", text) for inner, text in error.problems)
    elif isinstance(error, BaseExceptionGroup):  # cattrs notes which field each is about
        for inner in error.exceptions:
            name = next((note.name for note in getattr(inner, "__notes__", ()) if hasattr(note, "name")), None)
            yield from _told(inner, f"{way}.{name}" if name else way)
    elif hasattr(error, "extra_fields"):
        for name in sorted(error.extra_fields, key=str):
            yield f"{way}.{name}", f"{error.cl.__name__} has no such field.{nearest(str(name), typing.get_type_hints(error.cl))}"
    elif isinstance(error, KeyError) and way:
        yield way, "is missing"
    else:
        yield way, _said(error)


# Run parameters


def convert(value: Any, annotation: Any, what: str) -> Any:
    """Take a value for what is annotated: one that fits is left, a text is read as a YAML file would have it under that type.

    `what` names it in the error: "parameter 'n'".

    >>> convert("3", int, "parameter 'n'"), convert("[1, 2]", list[float], "parameter 'l'"), convert("3", str, "parameter 's'")
    (3, [1, 2], '3')
    """
    for part in alternatives(annotation):
        if fits(value, part) and not (isinstance(value, str) and element_types(part)):  # a str would do for a Sequence[str]
            return value
    for given in [*_read(value), value]:
        try:
            return _find(annotation)(given, None)
        except Misfit:
            continue
    raise CpgraphError(
        f"{what} does not fit",
        {"given": brief(value), "expected": describe(annotation)},
        f"give {describe(annotation)}{_example(annotation)}.",
    )


def _read(value: Any) -> list[Any]:
    if not isinstance(value, str):
        return []
    try:
        return [documents.parse(value, "text").data]
    except DataError:
        return []


def _example(annotation: Any) -> str:
    kinds = [typing.get_origin(part) or part for part in alternatives(annotation)]
    for kind in kinds:
        if not isinstance(kind, type) or kind in (str, bytes):
            continue
        if kind is bool:
            return " (as text: true or false)"
        if issubclass(kind, enum.Enum):
            return f" ({either([str(member.value) for member in kind])})"
        if issubclass(kind, abc.Mapping):
            return " (as text: {a: 1, b: 2})"
        if issubclass(kind, abc.Iterable):
            return " (as text: [1, 2])"
    return ""
