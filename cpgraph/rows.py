"""From a row to a record, and back: a row is a dict of plain values, as a file has it.

What a value means is decided by the type of its field, never guessed: a `str` is a text in the file too, a `date` may be
a YAML date or an ISO text, an enum is its value. cattrs builds what is nested (attrs classes, dataclasses, typed dicts).
"""

from __future__ import annotations

import collections
import collections.abc as abc
import datetime
import enum
import functools
import operator
import os
import pathlib
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, Literal

import attrs

from cpgraph.annotations import alternatives, brief, convert, describe, element_types, strip
from cpgraph.errors import CpgraphError, nearest
from cpgraph.models import field_types, wrong_id

__all__ = ["Misfit", "plain_record", "plain_value", "row_reader"]

Hook = Callable[[Any, Any], Any]


class Misfit(Exception):
    """A value is not what is asked for; `.problems` has the way to each bad part and what is wrong with it."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(text for _, text in problems))


def _misfit(expected: str, value: Any, more: str = "") -> Misfit:
    return Misfit([("", f"expected {expected}, found {'nothing (null)' if value is None else brief(value)}{more}")])


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
                except Misfit as misfit:
                    problems += [(f"{name}{inner}", text) for inner, text in misfit.problems]
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


def _find(annotation: Any) -> Hook:
    hook: Hook = _converter().get_structure_hook(annotation)
    return hook


# Values, by annotation


@functools.cache
def _converter() -> Any:
    import cattrs

    converter = cattrs.Converter(forbid_extra_keys=True, prefer_attrib_converters=True)
    converter.register_structure_hook_factory(lambda annotation: True, lambda annotation: _make(annotation, converter))
    for kind, hook in SCALARS.items():
        converter.register_structure_hook(kind, hook)
    return converter


def _as_is(value: Any, _: Any) -> Any:
    return value


def _make(annotation: Any, converter: Any) -> Hook:
    """Choose how values for an annotation are read."""
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
        return _choice({describe(Literal[choice]): choice for choice in args}, describe(annotation))
    kind = origin or annotation
    if not isinstance(kind, type):
        return _as_is
    if kind in SCALARS:
        return SCALARS[kind]
    if issubclass(kind, enum.Enum):
        return _enumerated(kind)
    if f"{kind.__module__}.{kind.__qualname__}" in TEXTUAL:
        return _textual(kind)
    if issubclass(kind, os.PathLike):
        return _path(kind)
    if typing.is_typeddict(kind):
        from cattrs.gen.typeddicts import make_dict_structure_fn as of_typed_dict

        return _built(annotation, dict, lambda: of_typed_dict(annotation, converter, _cattrs_forbid_extra_keys=True))
    if attrs.has(kind) or hasattr(kind, "__dataclass_fields__"):
        from cattrs.gen import make_dict_structure_fn as of_class

        return _built(annotation, kind, lambda: of_class(annotation, converter, _cattrs_forbid_extra_keys=True))
    if issubclass(kind, tuple):
        return _tuple(annotation, kind, args)
    if issubclass(kind, abc.Mapping):
        return _mapping(annotation, kind)
    if issubclass(kind, abc.Iterable) and kind.__module__ in ("builtins", "collections", "collections.abc"):
        return _many(annotation, kind)
    return _instance(kind)


def _late(annotation: Any) -> Hook:
    """Give the hook of a part; of a class that is just being looked at, when a value comes."""
    try:
        return _find(annotation)
    except RecursionError:
        return lambda value, _: _find(annotation)(value, _)


def _instance(kind: type) -> Hook:
    def read(value: Any, _: Any) -> Any:
        if isinstance(value, kind):
            return value
        raise _misfit(describe(kind), value, ", which cannot be written in data")

    return read


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
            except Misfit as misfit:
                if len(others) == 1 and any(inner for inner, _ in misfit.problems):
                    raise  # it knows better which part is wrong
        raise _misfit(describe(annotation), value, QUOTE if str in exact and isinstance(value, QUOTABLE) else "")

    return read


QUOTE: Final = ": quote it"
QUOTABLE: Final = (bool, int, float, datetime.date)


def _str(value: Any, _: Any) -> str:
    if isinstance(value, str):
        return value
    raise _misfit("str", value, QUOTE if isinstance(value, QUOTABLE) else "")


def _int(value: Any, _: Any) -> int:
    if type(value) is int:
        return value
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # those of numpy too
        except TypeError:
            pass
    raise _misfit("int", value)


def _float(value: Any, _: Any) -> float:
    if isinstance(value, float | int) and not isinstance(value, bool):
        return value
    raise _misfit("float", value)


def _bool(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise _misfit("bool (true or false)", value)


def _none(value: Any, _: Any) -> None:
    if value is not None:
        raise _misfit("None", value)


def _bytes(value: Any, _: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        import base64

        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            pass
    raise _misfit("bytes (as text: base64)", value)


def _complex(value: Any, _: Any) -> complex:
    if isinstance(value, complex):
        return value
    try:
        return complex(_str(value, _)) if isinstance(value, str) else _float(value, _)
    except (Misfit, ValueError):
        raise _misfit("complex", value) from None


def _date(value: Any, _: Any) -> Any:
    if type(value) is datetime.date:
        return value
    return _from_iso(datetime.date, value, "date (as 2024-12-31)")


def _datetime(value: Any, _: Any) -> Any:
    if isinstance(value, datetime.datetime):
        return value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    return _from_iso(datetime.datetime, value, "datetime (as 2024-12-31 23:59:59)")


def _time(value: Any, _: Any) -> Any:
    if isinstance(value, datetime.time):
        return value
    return _from_iso(datetime.time, value, "time (as 23:59:59)")


def _from_iso(kind: Any, value: Any, expected: str) -> Any:
    if isinstance(value, str):
        try:
            return kind.fromisoformat(value)
        except ValueError:
            pass
    raise _misfit(expected, value)


def _timedelta(value: Any, _: Any) -> datetime.timedelta:
    if isinstance(value, datetime.timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.timedelta(seconds=value)
        except (ArithmeticError, ValueError):
            pass
    raise _misfit("timedelta (in seconds)", value)


SCALARS: Final[dict[type, Hook]] = {
    str: _str,
    int: _int,
    float: _float,
    bool: _bool,
    bytes: _bytes,
    complex: _complex,
    type(None): _none,
    datetime.date: _date,
    datetime.datetime: _datetime,
    datetime.time: _time,
    datetime.timedelta: _timedelta,
}

# Classes that are made of, and written as, a text.
TEXTUAL: Final = {"decimal.Decimal", "fractions.Fraction", "uuid.UUID", "zoneinfo.ZoneInfo"} | {
    f"ipaddress.IPv{version}{what}" for version in "46" for what in ("Address", "Network", "Interface")
}


def _textual(kind: Any) -> Hook:
    numeric = kind.__name__ in ("Decimal", "Fraction")

    def read(value: Any, _: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, str) or (numeric and type(value) is int):
            try:
                return kind(value)
            except (ArithmeticError, LookupError, ValueError):
                pass
        raise _misfit(f"{kind.__name__} (as text)", value, QUOTE if isinstance(value, float) else "")

    return read


def _path(kind: Any) -> Hook:
    make = pathlib.Path if kind is os.PathLike else kind

    def read(value: Any, _: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, str | os.PathLike):
            return make(os.fspath(value))
        raise _misfit(f"{kind.__name__} (a path)", value)

    return read


def _choice(choices: Mapping[str, Any], expected: str) -> Hook:
    """Read one of several values; an enum member among them is written as its value."""
    written = [(plain_value(choice), choice) for choice in choices.values()]

    def read(value: Any, _: Any) -> Any:
        for text, choice in written:
            if value is choice or (type(value) is type(text) and value == text):
                return choice
        raise _misfit(expected, value)

    return read


def _enumerated(kind: Any) -> Hook:
    shown = [brief(plain_value(member)) for member in kind]
    chosen = _choice({member.name: member for member in kind}, f"{kind.__name__}, one of {', '.join(shown)}")
    if not issubclass(kind, enum.Flag):
        return chosen

    def read(value: Any, _: Any) -> Any:
        try:
            return value if isinstance(value, kind) else kind(_int(value, None))
        except (Misfit, ValueError):
            return chosen(value, None)

    return read


# What holds values


def _part(hook: Hook, value: Any, way: str, problems: list[tuple[str, str]]) -> Any:
    try:
        return hook(value, None)
    except Misfit as misfit:
        problems += [(f"{way}{inner}", text) for inner, text in misfit.problems]


def _items(value: Any, expected: str) -> list[Any]:
    if isinstance(value, list | tuple | set | frozenset | collections.deque | range):
        return list(value)
    raise _misfit(f"{expected} (a list)", value)


def _many(annotation: Any, kind: Any) -> Hook:
    hook = _late(next(iter(element_types(annotation)), Any))
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
            raise _misfit(describe(annotation), value) from None

    return read


def _tuple(annotation: Any, kind: Any, args: tuple[Any, ...]) -> Hook:
    named = hasattr(kind, "_fields")
    if named:
        hints = typing.get_type_hints(kind)
        args = tuple(hints.get(name, Any) for name in kind._fields)
    elif not args or args[-1] is Ellipsis:
        return _many(tuple[(args[0] if args else Any, ...)], kind)  # type: ignore[misc]
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
            if isinstance(key, str):  # JSON has no others
                try:
                    return convert(key, key_type, "key")
                except CpgraphError:
                    pass
            raise

    def read(value: Any, _: Any) -> Any:
        if not isinstance(value, abc.Mapping):
            raise _misfit(f"{describe(annotation)} (a mapping)", value)
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
            raise _misfit(f"{describe(annotation)} (a mapping)", value)
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


# And back


def plain_value(value: Any) -> Any:
    """Give a value as dicts, lists and scalars that YAML knows; what cannot be written so is left as it is.

    >>> plain_value((1, {"b", "a"}))
    [1, ['a', 'b']]
    """
    kind: Any = type(value)
    if kind in PLAIN:
        return value
    if kind is list or kind is tuple:
        return [plain_value(item) for item in value]
    if kind is dict:
        return {_plain_key(key): plain_value(item) for key, item in value.items()}
    return _plain_by(kind)(value)


PLAIN: Final = frozenset({str, int, float, bool, type(None), bytes, datetime.date, datetime.datetime})


def _plain_key(key: Any) -> Any:
    key = plain_value(key)
    return tuple(key) if isinstance(key, list) else key


@functools.lru_cache(maxsize=1024)
def _plain_by(kind: Any) -> Callable[[Any], Any]:
    if issubclass(kind, enum.Enum):
        return lambda value: plain_value(value.value)
    if f"{kind.__module__}.{kind.__qualname__}" in TEXTUAL or kind is complex:
        return str
    if issubclass(kind, os.PathLike):
        return lambda value: os.fspath(value)
    if issubclass(kind, datetime.time):
        return lambda value: value.isoformat()
    if issubclass(kind, datetime.timedelta):
        return lambda value: value // datetime.timedelta(seconds=1) if not value.microseconds else value.total_seconds()
    for base in (bool, int, float, str, bytes):
        if issubclass(kind, base):
            return base
    if attrs.has(kind):
        return plain_record
    if hasattr(kind, "__dataclass_fields__"):
        names = [name for name, field in kind.__dataclass_fields__.items() if field.init]
        return lambda value: {name: plain_value(getattr(value, name)) for name in names}
    if issubclass(kind, abc.Mapping):
        return lambda value: {_plain_key(key): plain_value(item) for key, item in value.items()}
    if issubclass(kind, abc.Set):
        return lambda value: sorted(map(plain_value, value), key=_place)
    if issubclass(kind, tuple | list | collections.deque | range):
        return lambda value: [plain_value(item) for item in value]
    return lambda value: value


def _place(value: Any) -> tuple[str, Any]:
    """Order the items of a set the same in every process."""
    return type(value).__name__, value if isinstance(value, str | int | float | bytes | datetime.date) else repr(value)


def plain_record(record: Any) -> dict[str, Any]:
    """Give a record, or an instance of any attrs class, as a row."""
    cls: Any = type(record)
    return {name: plain_value(getattr(record, name)) for name in _names(cls)}


@functools.lru_cache(maxsize=1024)
def _names(cls: Any) -> list[str]:
    return [field.name for field in attrs.fields(cls) if field.init]
