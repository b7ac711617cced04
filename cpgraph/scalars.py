"""What a scalar is: unquoted in a YAML file, under the type of a field, and written as plain data again.

Unquoted, a scalar is read as YAML 1.2 has it where 1.1 surprises: `1e3` is a number, `012` and `12:30:00` are texts. Under a
type nothing is guessed: a `str` is a text in the file too, a `date` may be a YAML date or an ISO text, an enum is its value.
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
import re
from collections.abc import Callable, Iterable
from typing import Any, Final

import attrs

from cpgraph.annotations import brief

__all__ = ["FLOAT", "INT", "SCALARS", "TAG", "TAGGED", "Hook", "Misfit", "choice", "enumerated", "guess", "is_textual"]
__all__ += ["QUOTABLE", "QUOTE", "misfit", "path", "plain_record", "plain_value", "read_float", "read_int", "textual"]

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


def _read_bool(text: str) -> bool:
    return TRUTH[text]


def _read_null(text: str) -> None:
    return None


TAGGED: Final[dict[str, Callable[[str], Any]]] = {
    "!": str,
    f"{TAG}str": str,
    f"{TAG}int": read_int,
    f"{TAG}float": read_float,
    f"{TAG}bool": _read_bool,
    f"{TAG}null": _read_null,
    f"{TAG}timestamp": _read_time,
    f"{TAG}binary": _read_binary,
}


def guess(text: str) -> Callable[[str], Any]:
    """Give what reads an unquoted scalar.

    >>> [guess(text)(text) for text in ("7", "1e3", "012", "no", "~")]
    [7, 1000.0, '012', False, None]
    """
    if not text:
        return _read_null
    if text[0] not in PLAIN_START:
        return str
    if text in TRUTH:
        return _read_bool
    for pattern, reader in ((INT, read_int), (FLOAT, read_float), (TIME, _read_time), (NULL, _read_null)):
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


QUOTE: Final = ": quote it"
QUOTABLE: Final = (bool, int, float, datetime.date)


def _str(value: Any, _: Any) -> str:
    if isinstance(value, str):
        return value
    raise misfit("str", value, QUOTE if isinstance(value, QUOTABLE) else "")


def _int(value: Any, _: Any) -> int:
    if type(value) is int:
        return value
    if not isinstance(value, bool):
        try:
            return operator.index(value)  # those of numpy too
        except TypeError:
            pass
    raise misfit("int", value)


def _float(value: Any, _: Any) -> float:
    if isinstance(value, float | int) and not isinstance(value, bool):
        return value
    raise misfit("float", value)


def _bool(value: Any, _: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise misfit("bool (true or false)", value)


def _none(value: Any, _: Any) -> None:
    if value is not None:
        raise misfit("None", value)


def _bytes(value: Any, _: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        import base64

        try:
            return base64.b64decode(value, validate=True)
        except ValueError:
            pass
    raise misfit("bytes (as text: base64)", value)


def _complex(value: Any, _: Any) -> complex:
    if isinstance(value, complex):
        return value
    try:
        return complex(_str(value, _)) if isinstance(value, str) else _float(value, _)
    except (Misfit, ValueError):
        raise misfit("complex", value) from None


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
    raise misfit(expected, value)


def _timedelta(value: Any, _: Any) -> datetime.timedelta:
    if isinstance(value, datetime.timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return datetime.timedelta(seconds=value)
        except (ArithmeticError, ValueError):
            pass
    raise misfit("timedelta (in seconds)", value)


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


def is_textual(kind: type) -> bool:
    """Tell whether a class is one of those that are made of a text, and written as one."""
    return f"{kind.__module__}.{kind.__qualname__}" in TEXTUAL


def textual(kind: Any) -> Hook:
    numeric = kind.__name__ in ("Decimal", "Fraction")

    def read(value: Any, _: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, str) or (numeric and type(value) is int):
            try:
                return kind(value)
            except (ArithmeticError, LookupError, ValueError):
                pass
        raise misfit(f"{kind.__name__} (as text)", value, QUOTE if isinstance(value, float) else "")

    return read


def path(kind: Any) -> Hook:
    make = pathlib.Path if kind is os.PathLike else kind

    def read(value: Any, _: Any) -> Any:
        if isinstance(value, kind):
            return value
        if isinstance(value, str | os.PathLike):
            return make(os.fspath(value))
        raise misfit(f"{kind.__name__} (a path)", value)

    return read


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
