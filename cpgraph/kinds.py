"""The kinds of things that code can reach, and what of each of them counts.

`KINDS` is the one table: for a type, how a thing of it is written into what mentions it. A new kind is a new row. What is in no
row is a value, and counts by its state as `digest` has it (rule V6), with code in it counting as code; what has no
state that can be known (a lock, an open file, a connection) is a *handle*, and counts by its type.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Mapping
from enum import Enum
from types import BuiltinFunctionType, FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, Final

import attrs

from cpgraph.digest import digest
from cpgraph.functions import annotations_of, function
from cpgraph.items import Item
from cpgraph.names import qualified_name
from cpgraph.packages import USER, origin_of_module
from cpgraph.reach import Content, Kind, Walker, handle, name_in_library, origin_of_class, shown

__all__ = ["KINDS"]

# What the classes of these packages are given beside what is written in them: it follows from the fields, which count.
MAKERS: Final = frozenset({"attr", "attrs", "dataclasses", "collections", "enum", "typing"})
MADE_BY_OPTIONS: Final = frozenset({"__setattr__", "__delattr__", "__eq__", "__lt__", "__hash__", "__init__", "__repr__"})
_SETTINGS_OF_FIELDS: Final = """default default_factory validator converter on_setattr init kw_only alias metadata
    eq order compare hash repr"""  # attrs and dataclasses have some of these each
SETTINGS: Final = tuple(_SETTINGS_OF_FIELDS.split())
# What Python itself keeps in a class, or what follows from its other parts.
_KEPT_BY_PYTHON: Final = """__module__ __qualname__ __name__ __doc__ __dict__ __weakref__ __annotations__ __annotate__
    __annotate_func__ __annotations_cache__ __firstlineno__ __static_attributes__ __classdictcell__ __type_params__
    __abstractmethods__ __slotnames__ _abc_impl __parameters__ __orig_bases__ __match_args__ _is_protocol _is_runtime_protocol
    __protocol_attrs__ __non_callable_proto_members__ __attrs_attrs__ __attrs_own_setattr__ __attrs_props__
    __dataclass_fields__ __dataclass_params__"""
NOT_MEMBERS: Final = frozenset(_KEPT_BY_PYTHON.split())
DERIVED: Final = ("__cpgraph", "__pydantic_core", "__pydantic_decorators", "__pydantic_serializer", "__pydantic_validator")
DESCRIPTORS: Final = (MemberDescriptorType, GetSetDescriptorType)
HEAP_TYPE: Final = 1 << 9  # the flag of a class that a class statement made
_FACTORY: Final[Any] = attrs.Factory


def _class(content: Content, cls: type) -> bytes:
    origin = content.walker.origin_of_class(cls)
    name = qualified_name(cls)
    if origin is not USER:
        return content.named(origin, name)
    if not cls.__flags__ & HEAP_TYPE:  # it came from a compiled module
        return content.need(cls, name, "extension", _extension)
    return content.need(cls, name, "class", _user_class)


def _user_class(walker: Walker, item: Item) -> bytes:
    cls: type = item.thing
    content = Content(walker, item)
    item.file = str(getattr(sys.modules.get(cls.__module__), "__file__", ""))
    lines = []
    pieces = [b"class", content.encode(cls.__name__), content.encode(cls.__bases__), content.encode(type(cls))]
    members = {name: value for name, value in vars(cls).items() if name not in NOT_MEMBERS and not name.startswith(DERIVED)}
    if issubclass(cls, Enum):
        members = {name: value for name, value in members.items() if name not in cls.__members__}
        members = {name: value for name, value in members.items() if not name.startswith("_") or _is_method(value)}
        for name, member in cls.__members__.items():
            pieces += [b"member", content.encode(name), content.encode(member._value_)]
            lines.append(f"{name} = {shown(member._value_)}")
    types = Content(walker, item, classes_count=False)
    fields = _fields(cls)
    for name, kind, settings in fields:
        pieces += [b"field", content.encode(name), types.encode(kind), *map(content.encode, settings.items())]
        lines.append(f"{name}: {shown(kind)} = {shown(settings['default'])}")
    if fields:
        members.pop("__slots__", None)
    else:
        for name, annotation in annotations_of(cls).items():
            pieces += [b"annotation", content.encode(name), types.encode(annotation)]
    for name, value in sorted(members.items()):
        if isinstance(value, DESCRIPTORS) or type(value).__name__ == "_tuplegetter":
            continue
        if _is_written(cls, value):
            pieces += [b"attribute", content.encode(name), content.value(value, f"{item.name}.{name}")]
            function = getattr(value, "__func__", value)
            if isinstance(function, FunctionType):
                item.line = item.line or function.__code__.co_firstlineno
            else:
                lines.append(f"{name} = {shown(value)}")
        elif name in MADE_BY_OPTIONS:
            pieces += [b"made", content.encode(name)]
    item.text = "\n".join(lines)
    return b"".join(pieces)


def _is_method(member: Any) -> bool:
    return isinstance(getattr(member, "__func__", member), FunctionType)


def _is_written(cls: type, member: Any) -> bool:
    """Tell a member that was written from a method made from the fields, as attrs, dataclasses, enums and named tuples do."""
    function = getattr(member, "__func__", member)
    if not isinstance(function, FunctionType):
        return not (issubclass(cls, Enum) and isinstance(member, BuiltinFunctionType | staticmethod))
    path = function.__code__.co_filename
    made_here = path.startswith("<attrs generated") or (path == "<string>" and (_fields(cls) or issubclass(cls, tuple)))
    made_there = str(function.__globals__.get("__name__")).partition(".")[0] in MAKERS
    return not made_here and not (made_there and (_fields(cls) or issubclass(cls, tuple | Enum)))


def _fields(cls: type) -> list[tuple[str, Any, dict[str, Any]]]:
    """Give the fields of an attrs or dataclass class: name, type, and what else was said of each."""
    fields = [*vars(cls).get("__attrs_attrs__", ()), *vars(cls).get("__dataclass_fields__", {}).values()]
    settings = [{key: _plain(getattr(field, key)) for key in SETTINGS if hasattr(field, key)} for field in fields]
    return [(field.name, field.type, said) for field, said in zip(fields, settings, strict=True)]


def _plain(value: Any) -> Any:
    """Give the parts of what only stands for a default, without the package it is from."""
    if value is attrs.NOTHING or type(value).__name__ == "_MISSING_TYPE":
        return ("required",)
    if isinstance(value, _FACTORY):
        return ("made by", value.factory, value.takes_self)
    return value


def _method(content: Content, method: MethodType) -> bytes:
    kept = name_in_library(method)
    if kept:
        return content.named(origin_of_class(type(method.__self__)), kept)
    bound = content.value(method.__self__, f"an instance of {qualified_name(type(method.__self__))}")
    return b"method" + content.encode(method.__func__) + bound


def _module(content: Content, module: ModuleType) -> bytes:
    origin = origin_of_module(module.__name__)
    if origin is USER:
        return content.need(module, module.__name__, "module", whole_module)
    return content.named(origin, module.__name__)


def whole_module(walker: Walker, item: Item) -> bytes:
    """Give the shape of a module that is used as a value: all that can be asked of it."""
    module: ModuleType = item.thing
    content = Content(walker, item)
    item.file = str(getattr(module, "__file__", None) or "")
    pieces = [b"module"]
    for name, value in sorted(vars(module).items()):
        foreign = isinstance(value, ModuleType) and not value.__name__.startswith(f"{module.__name__}.")
        if not foreign and not (name.startswith("__") and name.endswith("__")):
            pieces += [content.encode(name), content.value(value, f"{module.__name__}:{name}")]
    return b"".join(pieces)


def _extension(walker: Walker, item: Item) -> bytes:
    """Give the shape of a compiled module of the user's: the bytes of its file."""
    module = sys.modules.get(item.thing.__module__)
    item.file = str(getattr(module, "__file__", None) or "")
    try:
        with open(item.file, "rb") as file:
            return digest((qualified_name(item.thing), file.read()))
    except OSError:
        item.unseen.append(f"{item.name} is compiled, and its file cannot be read")
        return digest(qualified_name(item.thing))


def _builtin(content: Content, function: Any) -> bytes | None:
    """Write a compiled function."""
    if getattr(function, "__self__", None) is not None and not isinstance(function.__self__, ModuleType):
        kept = name_in_library(function)
        return content.named(origin_of_class(type(function.__self__)), kept) if kept else None  # else by what it is bound to
    origin = origin_of_module(function.__module__)
    if origin is USER:
        return content.need(function, qualified_name(function), "extension", _extension)
    return content.named(origin, qualified_name(function))


def _set(content: Content, value: set[Any] | frozenset[Any]) -> bytes | None:
    if all(type(item) in (str, int, float, bytes, bool, type(None)) for item in value):
        return None  # a value like others
    return content.need(value, content.item.name, "constant", _set_of_things)


def _set_of_things(walker: Walker, item: Item) -> bytes:
    """Give the shape of a set in which there may be code: without an order, which would be that of the process."""
    shapes = []
    for thing in item.thing:
        member = Item(item.name, "", thing)
        shapes.append(Content(walker, member).value(thing, item.name))
        item.also.update(member.needs)
    item.text = shown(item.thing)
    return b"set" + Content(walker, item).encode((type(item.thing), *sorted(shapes)))


KINDS: Final[Mapping[type | str, Kind]] = {
    FunctionType: function,
    MethodType: _method,
    BuiltinFunctionType: _builtin,
    type: _class,
    ModuleType: _module,
    staticmethod: lambda content, method: b"static" + content.encode(method.__func__),
    classmethod: lambda content, method: b"class method" + content.encode(method.__func__),
    property: lambda content, value: b"property" + content.encode((value.fget, value.fset, value.fdel)),
    functools.cached_property: lambda content, value: b"cached" + content.encode(value.func),
    functools._lru_cache_wrapper: lambda content, value: b"cached" + content.encode(value.__wrapped__),
    set: _set,
    frozenset: _set,
    type(os.environ): lambda content, value: b"P" + content.encode("environ"),
    "cython:cython_function_or_method": _builtin,
    "logging:Logger": handle,  # by name: its module may not be loaded
}
