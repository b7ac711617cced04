"""The content address of any value: 16 bytes, the same in every process and Python version.

Two values have one digest only if a step could not tell them apart. So types count (`1`, `1.0`, `True` and
`"1"` are four values), `-0.0` is not `0.0`, the order of a dict counts, since one can iterate over it, and
that of a set does not. All NaNs are one value. The bytes hashed are canonical: every piece begins with a tag for
its type and says its own length, so that no two values can share an encoding; nothing comes from `repr`, `id()`,
pickles or string hashes. What a value is made of is found in this order:

1. the rule given to `register` for its class, or for a base of it;
2. the rule for its exact type, in the tables below;
3. for attrs and dataclass instances: the class by name, and the fields;
4. for anything else what `__reduce_ex__` says it can be built from, walked by the same rules.

What can do none of these (a lock, an open file, a generator) is `Undigestible`.

A list's digest is made of its items' digests, and a dict's of its keys and its values' digests, so that both can
be had without loading a value: `list_digest`, `dict_digest`.
"""

from __future__ import annotations

import copyreg
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from hashlib import blake2b
from operator import attrgetter
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Final, TypeVar

from cpgraph.arrays import array_stand_in
from cpgraph.errors import CpgraphError
from cpgraph.names import main_name, qualified_name, resolve

__all__ = ["Undigestible", "Unreadable", "Walk", "dict_digest", "digest", "digest_many", "list_digest", "register"]
__all__ += ["main_name", "qualified_name", "resolve"]

T = TypeVar("T")

DEEPEST: Final = 200  # levels; a value nested deeper does not pickle either


class Undigestible(CpgraphError):
    """A value has no digest; `.path` says which part of it and `.type` of what type that is."""

    def __init__(self, path: str, kind: str, reason: str) -> None:
        self.path = path
        self.type = kind
        super().__init__(
            f"{path} cannot be digested",
            {"type": kind, "why": reason},
            "leave it out of the value, or tell what it is made of: cpgraph.digest.register(type, function).",
        )


class Unreadable(Undigestible):
    """What a value stands for, a file, is not there or cannot be read; `.file` names it."""

    def __init__(self, file: str, said: str, mend: str, directory: str | None = None) -> None:
        self.file = file
        self.path, self.type = "value", "cpgraph.models.File"
        CpgraphError.__init__(self, f"the file {file!r} {said}", {"looked for in": directory} if directory else None, mend)


class _Refused(Exception):
    """Carries the way to what could not be digested out of the walk, innermost part first."""

    def __init__(self, value: object, reason: str) -> None:
        self.kind = qualified_name(type(value)).replace(":", ".")
        self.reason = reason
        self.parts: list[str] = []

    def inside(self, part: str) -> _Refused:
        self.parts.append(part)
        return self


# Scalars: encoded without a look at anything else


def _hash(data: bytes) -> bytes:
    return blake2b(data, digest_size=16).digest()


_small_int: Final = struct.Struct(">cq").pack
_double: Final = struct.Struct(">cd").pack
_sized: Final = struct.Struct(">cQ").pack
NAN: Final = b"f\x7f\xf8\0\0\0\0\0\0"


def _int(value: int) -> bytes:
    try:
        return _small_int(b"i", value)
    except struct.error:
        raw = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
        return _sized(b"I", len(raw)) + raw


def _float(value: float) -> bytes:
    return _double(b"f", value) if value == value else NAN


def _str(value: str) -> bytes:
    try:
        raw = value.encode()
    except UnicodeEncodeError:  # lone surrogates, as in names of files that are not text
        raw = value.encode("utf-8", "surrogatepass")
    return _sized(b"s", len(raw)) + raw


_SCALARS: Final[dict[type, Callable[[Any], bytes]]] = {
    type(None): lambda value: b"N",
    type(...): lambda value: b"E",
    bool: lambda value: b"T" if value else b"F",
    int: _int,
    float: _float,
    complex: lambda value: b"c" + _float(value.real) + _float(value.imag),
    str: _str,
    bytes: lambda value: _sized(b"b", len(value)) + value,
    bytearray: lambda value: _sized(b"B", len(value)) + bytes(value),
}


# The walk


class Walk:
    """One walk over one value. A subclass may see every part that is not a scalar before the rules do."""

    def __init__(self) -> None:
        self.open: dict[int, int] = {}  # what is being encoded now, id -> level: a cycle is written as the way up

    def special(self, value: Any) -> bytes | None:
        """Give an encoding of one's own for a part of the value, or None to leave it to the rules."""
        return None

    def refused(self, value: Any, reason: str) -> bytes:
        """Give an encoding for what has none, or raise."""
        raise _Refused(value, reason)

    def encode(self, value: Any) -> bytes:
        scalar = _SCALARS.get(type(value))
        return scalar(value) if scalar else self.part(value)

    def part(self, value: Any) -> bytes:
        """Encode what is not a scalar."""
        special = self.special(value)
        if special is not None:
            return special
        kind = type(value)
        rule = _RULES.get(kind) or _rule(kind)
        level = len(self.open)
        if id(value) in self.open:
            return _sized(b"^", level - self.open[id(value)])
        if level >= DEEPEST:
            return self.refused(value, f"it is nested deeper than {DEEPEST} levels")
        self.open[id(value)] = level
        try:
            return rule(value, self)
        finally:
            del self.open[id(value)]


Rule = Callable[[Any, Walk], bytes]


def _list(value: list[Any], walk: Walk) -> bytes:
    pieces = [_sized(b"l", len(value))]
    try:
        for item in value:
            scalar = _SCALARS.get(type(item))
            pieces.append(_hash(scalar(item) if scalar else walk.part(item)))
    except _Refused as refused:
        raise refused.inside(f"[{len(pieces) - 1}]")  # noqa: B904 - the same error, one part longer
    return b"".join(pieces)


def _each(header: bytes, items: Sequence[Any], walk: Walk, label: Callable[[int], str]) -> bytes:
    pieces = [header]
    try:
        for item in items:
            scalar = _SCALARS.get(type(item))
            pieces.append(scalar(item) if scalar else walk.part(item))
    except _Refused as refused:
        raise refused.inside(label(len(pieces) - 1))  # noqa: B904
    return b"".join(pieces)


def _tuple(value: Iterable[Any], walk: Walk) -> bytes:
    items = tuple(value)
    return _each(_sized(b"t", len(items)), items, walk, "[{}]".format)


def _items(pairs: Iterable[tuple[Any, Any]], walk: Walk, label: Callable[[Any], str]) -> bytes:
    pairs = list(pairs)  # at once: another thread may be adding to the dict
    pieces, key = [_sized(b"d", len(pairs))], None
    try:
        for key, item in pairs:
            scalar = _SCALARS.get(type(item))
            pieces.append(walk.encode(key))
            pieces.append(_hash(scalar(item) if scalar else walk.part(item)))
    except _Refused as refused:
        raise refused.inside(label(key))  # noqa: B904
    return b"".join(pieces)


def _in_brackets(key: Any) -> str:
    return f"[{key!r}]" if type(key) in (str, int) else f"[{type(key).__name__}]"


def _set(tag: bytes) -> Rule:
    def encode(value: Iterable[Any], walk: Walk) -> bytes:
        try:
            digests = sorted(_hash(walk.encode(item)) for item in list(value))
        except _Refused as refused:
            raise refused.inside("{…}")  # noqa: B904
        return _sized(tag, len(digests)) + b"".join(digests)

    return encode


def _named(value: Any, walk: Walk) -> bytes:
    """Encode a class by name, or a function that can be found by its name again."""
    name = qualified_name(value)
    if "<lambda>" in name or ("<locals>" in name and not isinstance(value, type)):
        kind = "a lambda" if "<lambda>" in name else "a function made inside another"
        return walk.refused(value, f"{kind} has no name to be known by")
    return b"n" + _str(name)


def _builtin(value: Any, walk: Walk) -> bytes:
    bound = value.__self__
    return _named(value, walk) if bound is None or isinstance(bound, ModuleType) else _reduced(value, walk)


def _enum(value: Enum, walk: Walk) -> bytes:
    return b"e" + _str(qualified_name(type(value))) + walk.encode(value._name_) + walk.encode(value._value_)


def _reduced(value: Any, walk: Walk) -> bytes:
    """Encode by what pickle would be told (rule V5)."""
    kind = type(value)
    try:
        special: Any = copyreg.dispatch_table.get(kind)
        made: Any = special(value) if special else value.__reduce_ex__(4)
        if isinstance(made, str):  # the name of a global: a singleton
            return b"g" + _str(qualified_name(kind)) + _str(qualified_name(value)) + _str(made)
        parts: list[Any] = [*made, None, None, None, None]
        function, arguments, state, items, pairs, setter = parts[:6]
        items, pairs = items and list(items), pairs and list(pairs)
    except Exception as error:
        return walk.refused(value, f"{type(error).__name__}: {error}")
    if isinstance(value, set | frozenset):  # reduced to a list, in the order of this process
        pieces = [b"O", walk.encode(kind), _CORE[frozenset](value, walk)]
    else:
        pieces = [b"o", walk.encode(function), walk.encode(arguments)]
    slots: Any = None
    if type(state) is tuple and len(state) == 2 and type(state[1]) is dict:
        state, slots = state
    for part in (state, slots):
        pieces.append(_items(part.items(), walk, lambda name: f".{name}") if type(part) is dict else walk.encode(part))
    pieces.append(walk.encode(items))
    pieces.append(b"N" if pairs is None else _items(pairs, walk, _in_brackets))
    pieces.append(walk.encode(setter))
    return b"".join(pieces)


def _record(kind: type, names: Sequence[str]) -> Rule:
    """Make the rule for the instances of one attrs or dataclass class: what does not depend on the instance is done here."""
    header = _sized(b"r", len(names)) + _str(qualified_name(kind)) + b"".join(_str(name) for name in names)
    take: Callable[[Any], tuple[Any, ...]] = attrgetter(*names) if len(names) > 1 else lambda value: (getattr(value, names[0]),)
    if not names:
        return lambda value, walk: header

    def encode(value: Any, walk: Walk) -> bytes:
        try:
            values = take(value)
        except AttributeError as error:
            return walk.refused(value, f"a field has no value: {error}")
        return _each(header, values, walk, lambda place: f".{names[place]}")

    return encode


def _stand_in(kind: type, function: Callable[[Any], Any]) -> Rule:
    """Make the rule of a type that is digested by another value, under its own name."""
    header = b"v" + _str(qualified_name(kind))

    def encode(value: Any, walk: Walk) -> bytes:
        try:
            other = function(value)
        except Exception as error:
            return walk.refused(value, f"{type(error).__name__}: {error}")
        return header + walk.encode(other)

    return encode


_CORE: Final[dict[type, Rule]] = {
    list: _list,
    tuple: _tuple,
    dict: lambda value, walk: _items(value.items(), walk, _in_brackets),
    set: _set(b"S"),
    frozenset: _set(b"Z"),
    FunctionType: _named,
    BuiltinFunctionType: _builtin,
}
_RULES: Final[dict[type, Rule]] = dict(_CORE)
_REGISTERED: Final[dict[type, Callable[[Any], Any]]] = {}


def _zone_key(zone: Any) -> str:
    if zone.key is None:
        raise ValueError("a time zone made from a file has no key")
    return str(zone.key)


# By name, so that nothing has to be imported for it. (The pure name of a type, not of its subclasses.)
_STAND_INS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "builtins:mappingproxy": dict,
    "builtins:range": lambda value: (value.start, value.stop, value.step),
    "builtins:slice": lambda value: (value.start, value.stop, value.step),
    "datetime:date": lambda value: value.isoformat(),
    "datetime:datetime": lambda value: (value.replace(tzinfo=None).isoformat(), value.fold, value.tzinfo),
    "datetime:time": lambda value: (value.replace(tzinfo=None).isoformat(), value.fold, value.tzinfo),
    "datetime:timedelta": lambda value: (value.days, value.seconds, value.microseconds),
    "datetime:timezone": lambda value: value.__getinitargs__(),
    "decimal:Decimal": str,
    "fractions:Fraction": lambda value: (value.numerator, value.denominator),
    "re:Pattern": lambda value: (value.pattern, value.flags),
    "uuid:UUID": lambda value: value.int,
    "zoneinfo:ZoneInfo": _zone_key,
    **{f"pathlib:{kind}": str for kind in ("PosixPath", "PurePosixPath", "WindowsPath", "PureWindowsPath")},
}


def _fields(kind: type) -> list[str] | None:
    """Give the names of the fields of an attrs or dataclass class, if the fields are all there is to its instances."""
    own: list[Any] = [getattr(kind, name) for name in ("__reduce_ex__", "__reduce__", "__getstate__")]
    usual: list[Any] = [object.__reduce_ex__, object.__reduce__, object.__getstate__]
    for method, default in zip(own, usual, strict=True):  # slotted classes are given a __getstate__ of the fields
        if method is not default and getattr(method, "__module__", "").partition(".")[0] not in ("attr", "attrs", "dataclasses"):
            return None
    if issubclass(kind, dict | list | tuple | set | frozenset | str | int | float | bytes):
        return None
    if "__attrs_attrs__" in kind.__dict__:
        return [field.name for field in kind.__dict__["__attrs_attrs__"]]
    if "__dataclass_fields__" in kind.__dict__:
        return [name for name, field in kind.__dict__["__dataclass_fields__"].items() if field._field_type.name == "_FIELD"]
    return None


def _rule(kind: type) -> Rule:
    """Choose the rule for a class, once."""
    registered = next((base for base in kind.__mro__ if base in _REGISTERED), None)
    stand_in = _STAND_INS.get(qualified_name(kind)) or array_stand_in(kind)
    rule: Rule
    if registered is not None:
        rule = _stand_in(kind, _REGISTERED[registered])
    elif kind in _CORE:
        rule = _CORE[kind]
    elif issubclass(kind, type):
        rule = _named
    elif issubclass(kind, Enum):
        rule = _enum
    elif stand_in is not None:
        rule = _stand_in(kind, stand_in)
    else:
        names = _fields(kind)
        rule = _reduced if names is None else _record(kind, names)
    _RULES[kind] = rule
    return rule


# What others call


def digest(value: Any, walk: Walk | None = None) -> bytes:
    """Give the digest of a value; a walk of one's own may see the parts of it.

    >>> digest([1, "a"]) == list_digest([digest(1), digest("a")])
    True
    >>> digest({"a": 1}) == dict_digest([("a", digest(1))])
    True

    Raises `Undigestible` for what has no content that can be known, `Unreadable` for a file that cannot be read.
    """
    scalar = _SCALARS.get(type(value))
    if scalar:
        return _hash(scalar(value))
    try:
        return _hash((walk or Walk()).part(value))
    except _Refused as refused:
        if isinstance(refused.__context__, Unreadable):  # what it was refused for says more than where that was met
            raise refused.__context__ from None
        path = "value" + "".join(reversed(refused.parts))
        raise Undigestible(path, refused.kind, refused.reason) from None
    except RecursionError:
        kind = qualified_name(type(value)).replace(":", ".")
        raise Undigestible("value", kind, "it is nested too deep for the stack of its thread") from None


def list_digest(item_digests: Sequence[bytes]) -> bytes:
    """Give the digest of a list from those of its items."""
    return _hash(_sized(b"l", len(item_digests)) + b"".join(item_digests))


def dict_digest(pairs: Sequence[tuple[Any, bytes]]) -> bytes:
    """Give the digest of a dict from its keys and the digests of its values, in its order."""
    encode = Walk().encode
    return _hash(b"".join([_sized(b"d", len(pairs)), *(piece for key, item in pairs for piece in (encode(key), item))]))


def digest_many(parts: Sequence[bytes]) -> bytes:
    """Give one digest of several pieces of bytes, of any length each, in order."""
    return _hash(b"".join([_sized(b"m", len(parts)), *(piece for part in parts for piece in (_sized(b"p", len(part)), part))]))


def register(kind: type[T], function: Callable[[T], Any]) -> None:
    """Have instances of a class (and its subclasses) digested by what the function gives for them, under their own class's name.

    >>> class Model:
    ...     def __init__(self, path): self.path, self.handle = path, object()
    >>> register(Model, lambda model: model.path)
    >>> digest(Model("a")) == digest(Model("a"))
    True
    """
    if kind in _SCALARS or kind in _CORE:
        raise CpgraphError(f"{kind.__name__} has a rule of its own", mend="register a class of yours, or a subclass of it.")
    _REGISTERED[kind] = function
    _RULES.clear()
    _RULES.update(_CORE)
