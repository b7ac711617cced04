"""What a scalar is: unquoted in a YAML file, under the type of a field, and written as plain data again.

Unquoted, a scalar is read as YAML 1.2 has it where 1.1 surprises: `1e3` is a number, `012` and `12:30:00` are texts. Under a
type nothing is guessed: a `str` is a text in the file too, a `date` may be a YAML date or an ISO text, an enum is its value.
"""

from __future__ import annotations

import collections
import collections.abc as abc
import contextlib
import datetime
import enum
import functools
import operator
import os
import pathlib
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from cpgraph.annotations import brief

__all__ = ["FLOAT", "INT", "SCALARS", "TAG", "TAGGED", "Hook", "Misfit", "choice", "enumerated", "guess", "is_textual"]
__all__ += ["QUOTE", "misfit", "path", "plain_record", "plain_value", "read_float", "read_int", "scalar", "textual"]

Hook = Callable[[Any, Any], Any]


# In a file

NULL: Final = re.compile(r"~|null|Null|NULL|")
TRUTH: Final = {
    word: truth
    for truth, words in ((True, ("yes", "true", "on")), (False, ("no", "false", "off")))
    for low in words
    for word in (low, low.title(), low.upper())
}
INT: Final = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+)")
FLOAT: Final = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+]?[0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+)"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(?:[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}.*)?")
PLAIN_START: Final = frozenset("0123456789+-.~nNyYtTfFoO")
TAG: Final = "tag:yaml.org,2002:"


def read_int(text: str) -> int:
    return int(text.replace("_", ""), 0)


def read_float(text: str) -> float:
    return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))


def _read_time(text: str) -> Any:
    kind: Any = datetime.date if len(text) <= 10 else datetime.datetime
    try:
        return kind.fromisoformat(text)
    except ValueError:  # looks like a date and is none: the field says what was asked for
        return text


def _read_binary(text: str) -> bytes:
    import base64

    return base64.b64decode("".join(text.split()), validate=True)


def _nothing(text: str) -> None:
    return None


TAGGED: Final[dict[str, Callable[[str], Any]]] = {
    "!": str,
    f"{TAG}str": str,
    f"{TAG}int": read_int,
    f"{TAG}float": read_float,
    f"{TAG}bool": TRUTH.__getitem__,
    f"{TAG}null": _nothing,
    f"{TAG}timestamp": _read_time,
    f"{TAG}binary": _read_binary,
}


def guess(text: str) -> Callable[[str], Any]:
    """Give what reads an unquoted scalar.

    >>> [guess(text)(text) for text in ("7", "1e3", "012", "no", "~")]
    [7, 1000.0, '012', False, None]
    """
    if not text:
        return _nothing
    if text[0] not in PLAIN_START:
        return str
    if text in TRUTH:
        return TRUTH.__getitem__
    for pattern, reader in ((INT, read_int), (FLOAT, read_float), (TIME, _read_time), (NULL, _nothing)):
        if pattern.fullmatch(text):
            return reader
    return str


# Under a type


class Misfit(Exception):
    """A value is not what is asked for; `.problems` has the way to each bad part and what is wrong with it."""

    def __init__(self, problems: list[tuple[str, str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(text for _, text in problems))


def misfit(expected: str, value: Any, more: str = "") -> Misfit:
    return Misfit([("", f"expected {expected}, found {'nothing (null)' if value is None else brief(value)}{more}")])


QUOTE: Final = (bool, int, float, datetime.date), ": quote it"


def scalar(kind: Any, expected: str, *ways: tuple[Any, Callable[[Any], Any]], hint: tuple[Any, str] = ((), "")) -> Hook:
    """Give what leaves a value of its kind as it is, makes one of what the ways are for, and refuses all else.

    `hint`: what to say more where a value of such types is refused.
    """
    exact = kind in (int, datetime.date)  # a bool is no int, and a datetime no date

    def read(value: Any, _: Any) -> Any:
        if type(value) is kind or (not exact and isinstance(value, kind)):
            return value
        for given, make in ways:
            if isinstance(value, given) and not isinstance(value, bool):
                with contextlib.suppress(ArithmeticError, LookupError, TypeError, ValueError):
                    return make(value)
        raise misfit(expected, value, hint[1] if isinstance(value, hint[0]) else "")

    return read


def _as_it_is(value: Any) -> Any:
    return value


def _midnight(day: datetime.date) -> datetime.datetime:
    return datetime.datetime(day.year, day.month, day.day)


SCALARS: Final[dict[type, Hook]] = {
    str: scalar(str, "str", hint=QUOTE),
    int: scalar(int, "int", (object, operator.index)),  # those of numpy too
    float: scalar(float, "float", (int, _as_it_is)),
    bool: scalar(bool, "bool (true or false)"),
    bytes: scalar(bytes, "bytes (as text: base64)", (str, _read_binary)),
    complex: scalar(complex, "complex", (str, complex), (float | int, _as_it_is)),
    type(None): scalar(type(None), "None"),
    datetime.date: scalar(datetime.date, "date (as 2024-12-31)", (str, datetime.date.fromisoformat)),
    datetime.datetime: scalar(
        datetime.datetime,
        "datetime (as 2024-12-31 23:59:59)",
        (datetime.date, _midnight),
        (str, datetime.datetime.fromisoformat),
    ),
    datetime.time: scalar(datetime.time, "time (as 23:59:59)", (str, datetime.time.fromisoformat)),
    datetime.timedelta: scalar(
        datetime.timedelta, "timedelta (in seconds)", (int | float, lambda seconds: datetime.timedelta(seconds=seconds))
    ),
}

# Classes that are made of, and written as, a text.
TEXTUAL: Final = {"decimal.Decimal", "fractions.Fraction", "uuid.UUID", "zoneinfo.ZoneInfo"} | {
    f"ipaddress.IPv{version}{what}" for version in "46" for what in ("Address", "Network", "Interface")
}


def is_textual(kind: type) -> bool:
    """Tell whether a class is one of those that are made of a text, and written as one."""
    return f"{kind.__module__}.{kind.__qualname__}" in TEXTUAL


def textual(kind: Any) -> Hook:
    made_of = str | int if kind.__name__ in ("Decimal", "Fraction") else str
    return scalar(kind, f"{kind.__name__} (as text)", (made_of, kind), hint=(float, QUOTE[1]))


def path(kind: Any) -> Hook:
    make = pathlib.Path if kind is os.PathLike else kind
    return scalar(kind, f"{kind.__name__} (a path)", (str | os.PathLike, lambda value: make(os.fspath(value))))


def choice(choices: Iterable[Any], expected: str) -> Hook:
    """Read one of several values; an enum member among them is written as its value."""
    written = [(plain_value(one), one) for one in choices]

    def read(value: Any, _: Any) -> Any:
        for text, one in written:
            if value is one or (type(value) is type(text) and value == text):
                return one
        raise misfit(expected, value)

    return read


def enumerated(kind: Any) -> Hook:
    shown = [brief(plain_value(member)) for member in kind]
    chosen = choice(list(kind), f"{kind.__name__}, one of {', '.join(shown)}")
    if not issubclass(kind, enum.Flag):
        return chosen

    def read(value: Any, _: Any) -> Any:
        if type(value) is int:
            try:
                made = kind(value)
                if made.value == value:  # some Pythons drop the bits they do not know
                    return made
            except ValueError:
                pass
        return value if isinstance(value, kind) else chosen(value, None)

    return read


# As plain data


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
    if is_textual(kind) or kind is complex:
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
