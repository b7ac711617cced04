"""The kinds of things that code can reach, and what of each of them counts.

`KINDS` is the one table: for a type, how a thing of it is written into what mentions it. A new kind is a new row. What is in no
row is a value, and counts by its state as `digest` has it (rule V6), with code in it counting as code; what has no
state that can be known (a lock, an open file, a connection) is a *handle*, and counts by its type.
"""

from __future__ import annotations

import ast
import builtins
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from importlib import import_module
from importlib.util import find_spec, resolve_name
from types import BuiltinFunctionType, CellType, FunctionType, GetSetDescriptorType, MemberDescriptorType, MethodType, ModuleType
from typing import Any, Final

import attrs

from cpgraph.code import Sources, code_form, names_in, tree_form
from cpgraph.digest import Undigestible, Walk, digest
from cpgraph.items import Item
from cpgraph.names import main_name, qualified_name
from cpgraph.packages import Origin, Owner, origin_of_file, origin_of_module

__all__ = ["Content", "Walker", "is_users", "whole_module"]

_FACTORY: Final[Any] = attrs.Factory
Build = Callable[["Walker", Item], bytes]

# Library functions that run or fetch code by a name the walk cannot know.
HIDES_CODE: Final = frozenset({"eval", "exec", "globals", "__import__", "importlib:import_module"})
# What the classes of these packages are given beside what is written in them: it follows from the fields, which count.
MAKERS: Final = frozenset({"attr", "attrs", "dataclasses", "collections", "enum", "typing"})
MADE_BY_OPTIONS: Final = frozenset({"__setattr__", "__delattr__", "__eq__", "__lt__", "__hash__", "__init__", "__repr__"})
_SETTINGS_OF_FIELDS: Final = """default default_factory validator converter on_setattr init kw_only alias metadata
    eq order compare hash repr"""  # attrs and dataclasses have some of these each
SETTINGS: Final = tuple(_SETTINGS_OF_FIELDS.split())
# What Python itself keeps in a class, or what follows from its other parts.
_KEPT_BY_PYTHON: Final = """__module__ __qualname__ __name__ __doc__ __dict__ __weakref__ __annotations__ __annotate__
    __annotate_func__ __annotations_cache__ __firstlineno__ __static_attributes__ __classdictcell__ __type_params__
    __abstractmethods__ _abc_impl __parameters__ __orig_bases__ __match_args__ _is_protocol _is_runtime_protocol
    __protocol_attrs__ __non_callable_proto_members__ __attrs_attrs__ __attrs_own_setattr__ __attrs_props__
    __dataclass_fields__ __dataclass_params__"""
NOT_MEMBERS: Final = frozenset(_KEPT_BY_PYTHON.split())
DESCRIPTORS: Final = (MemberDescriptorType, GetSetDescriptorType)
HEAP_TYPE: Final = 1 << 9  # the flag of a class that a class statement made


class Walker:
    """Looks at live objects, each once; `build` does what is waiting, so that no chain of calls is too long."""

    def __init__(self) -> None:
        self.sources = Sources()
        self.items: dict[tuple[int, str], Item] = {}
        self.waiting: list[tuple[Item, Build]] = []
        self.origins: dict[type, Origin] = {}
        self.kinds: dict[type, Kind | None] = {}
        self.process = {id(getattr(sys, name)): name for name in ("argv", "path", "modules", "stdin", "stdout", "stderr")}

    def item(self, thing: Any, name: str, kind: str, build: Build) -> Item:
        """Give the item of a thing, a new one if this is where it is first reached."""
        key = (id(thing), name)
        if key not in self.items:
            self.items[key] = Item(name, kind, thing)
            self.waiting.append((self.items[key], build))
        return self.items[key]

    def build(self) -> None:
        while self.waiting:
            item, build = self.waiting.pop()
            item.shape = build(self, item)

    def package(self, origin: Origin) -> Item:
        """Give the item of a library: its version stands for its code."""
        key = (0, f"package {origin.package}")
        if key not in self.items:
            shape = digest((origin.package, origin.version))
            self.items[key] = Item(key[1], "package", origin, shape, text=f"{origin.package} {origin.version}")
        return self.items[key]

    def origin_of_class(self, kind: type) -> Origin:
        if kind not in self.origins:
            self.origins[kind] = _class_origin(kind)
        return self.origins[kind]

    def kind_of(self, cls: type) -> Kind | None:
        if cls not in self.kinds:
            rows = (KINDS.get(base) or BY_NAME.get(qualified_name(base)) for base in cls.__mro__)
            self.kinds[cls] = next(filter(None, rows), None)
        return self.kinds[cls]


class Content(Walk):
    """Writes what one item is made of."""

    def __init__(self, walker: Walker, item: Item, classes_count: bool = True) -> None:
        super().__init__()
        self.walker = walker
        self.item = item
        self.classes_count = classes_count  # whether that a value is of a class brings the class's code along

    def part(self, value: Any) -> bytes:
        cls = type(value)
        kind = self.walker.kind_of(cls)
        written = kind(self, value) if kind else None
        if written is not None:
            return written
        if id(value) in self.walker.process:  # what the process was started with is in no key (rule N10)
            return b"P" + self.encode(self.walker.process[id(value)])
        origin = self.walker.origin_of_class(cls)
        if origin.owner is Owner.SELF and cls.__module__ != "cpgraph.models":
            return b"S" + self.encode(qualified_name(cls))
        mark = b""
        if self.classes_count and origin.owner is Owner.USER:
            mark = b"c" + self.encode(cls)
        elif self.classes_count and origin.owner is Owner.LIBRARY:
            mark = b"c" + self.item.mention(self.walker.package(origin))
        return mark + super().part(value)

    def refused(self, value: Any, reason: str) -> bytes:
        """Write a handle, by its type."""
        name = qualified_name(type(value)).replace(":", ".")
        self.item.handles.append(f"{self.item.name} ({name})")
        return b"H" + self.encode(name)

    def value(self, value: Any, name: str) -> bytes:
        """Write a thing that has a name of its own, a value as an item of its own."""
        kind = self.walker.kind_of(type(value))
        written = kind(self, value) if kind else None
        return written if written is not None else self.item.mention(self.walker.item(value, name, "constant", _constant))

    def need(self, thing: Any, name: str, kind: str, build: Build) -> bytes:
        return self.item.mention(self.walker.item(thing, name, kind, build))

    def named(self, origin: Origin, name: str) -> bytes:
        """Write what counts by its name, and if it is a library's, by the version of that."""
        if name in HIDES_CODE:
            self.item.unseen.append(f"{self.item.name} uses {name.replace(':', '.')}")
        unversioned = name.startswith("copyreg:") or (origin.package == "python" and not self.classes_count)
        if origin.owner is Owner.LIBRARY and not unversioned:
            return b"L" + self.encode(name) + self.item.mention(self.walker.package(origin))
        return b"B" + self.encode(name)


# Whose is it?


def _origin(function: FunctionType) -> Origin:
    """Tell whose code a function is, by its file: its `__module__` may be copied from what it wraps."""
    path = function.__code__.co_filename
    if path.startswith("<"):
        return origin_of_module(function.__globals__.get("__name__"))
    return origin_of_file(os.path.abspath(path))


def is_users(thing: Any) -> bool:
    """Tell whether a thing is code of the user's, or holds such code in its closure."""
    waiting, seen = [thing], set()
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, FunctionType):
            if _origin(thing).owner is Owner.USER:
                return True
            waiting += [value for _, value in _cells(thing)]
            waiting.append(getattr(thing, "__wrapped__", None))
        elif isinstance(thing, MethodType):
            waiting.append(thing.__func__)
        elif isinstance(thing, functools.partial):
            waiting.append(thing.func)
        else:
            cls = thing if isinstance(thing, type) else type(thing)
            if _class_origin(cls).owner is Owner.USER:
                return True
    return False


def _class_origin(cls: type) -> Origin:
    module: Any = cls.__module__  # anything at all, where a class says so
    return origin_of_module(module if isinstance(module, str) else None)


def _name(function: FunctionType) -> str:
    """Name a function by its code: its own name may be copied from what it wraps."""
    module = function.__globals__.get("__name__")
    return f"{main_name() if module in ('__main__', '__mp_main__') else module}:{function.__code__.co_qualname}"


def _cells(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, _contents(cell)


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return _UNBOUND


_UNBOUND: Final = object()


# Functions


def _function(content: Content, function: FunctionType) -> bytes:
    origin = _origin(function)
    if origin.owner is Owner.USER:
        return content.need(function, _name(function), "function", _user_function)
    if origin.owner is not Owner.SELF and is_users(function):
        return content.need(function, _name(function), "function", _wrapper)
    return content.named(origin, qualified_name(function))


def _user_function(walker: Walker, item: Item) -> bytes:
    function: FunctionType = item.thing
    code = function.__code__
    content = Content(walker, item)
    lookup = _Globals(content, function)
    source = walker.sources.find(code, function.__globals__)
    item.file, item.line, item.text = source.file, source.line, source.text
    form = None
    if source.tree is not None:
        try:
            form = tree_form(source.tree, names_in(code), lookup)
        except RecursionError:
            item.needs.clear()
    elif source.found == "other":
        text = f"{item.name}: what is loaded is not what {source.file} has; what is loaded counts"
        item.hints.append(("source", text, "start again, so that the code that runs is the code in the file."))
    else:
        text = f"{item.name} has no source: its instructions count, so that it runs again under another Python"
        item.hints.append(("source", text, "put it in a file, or state its version=."))
    if form is None:
        form = code_form(code, lookup)
    pieces = [b"function", form]
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    item.signature = digest(names[code.co_posonlyargcount :])
    defaults = function.__defaults__ or ()
    for parameter, default in zip(names[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True):
        pieces.append(b"default" + content.value(default, f"{item.name} (default {parameter})"))
    by_keyword = function.__kwdefaults__ or {}
    for parameter in names[code.co_argcount :]:
        if parameter in by_keyword:
            default = by_keyword[parameter]
            pieces.append(b"default" + content.value(default, f"{item.name} (default {parameter})"))
        else:
            pieces.append(b"required")
    if "super" in code.co_names and "__class__" in code.co_freevars:
        pieces.append(lookup.name("__class__", ())[0])
    _beside(walker, item, function.__dict__.get("__wrapped__"))
    for parameter, annotation in _annotations(function).items():
        if parameter != "return":
            for cls in _classes_in(annotation, function.__globals__):
                _beside(walker, item, cls)
    return b"".join(pieces)


def _beside(walker: Walker, item: Item, thing: Any) -> None:
    """Have a function or class of the user's count without a place of its own."""
    if isinstance(thing, FunctionType | type) and is_users(thing):
        side = Item("", "", None)
        Content(walker, side).encode(thing)
        item.also.update(side.needs)


def _annotations(thing: Any) -> Mapping[str, Any]:
    try:
        return dict(thing.__annotations__)
    except Exception:  # as of Python 3.14 they are code, run when they are asked for
        return {}


def _classes_in(annotation: Any, space: Mapping[str, Any]) -> Iterator[type]:
    """Give the user's classes that an annotation names, also in quotes."""
    waiting, seen = [annotation], set[int]()
    while waiting:
        thing = waiting.pop()
        if thing is None or id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, str):
            waiting += _named_in(thing, space)
        elif isinstance(thing, type) and not hasattr(thing, "__origin__"):
            if _class_origin(thing).owner is Owner.USER:
                yield thing
        else:
            arguments = getattr(thing, "__args__", ())
            waiting += arguments if isinstance(arguments, tuple) else ()
            waiting.append(getattr(thing, "__origin__", None))


def _named_in(text: str, space: Mapping[str, Any]) -> list[Any]:
    """Give what an annotation in quotes names."""
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError):
        return []
    nodes = list(ast.walk(tree))
    names = [space.get(node.id) for node in nodes if isinstance(node, ast.Name)]
    chains = [node for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)]
    names += [getattr(space.get(node.value.id), node.attr, None) for node in chains if isinstance(node.value, ast.Name)]
    return [thing for thing in names if not isinstance(thing, str | ModuleType)]


def _wrapper(walker: Walker, item: Item) -> bytes:
    """Give the shape of a library's function that was made round one of the user's, as decorators make them."""
    function: FunctionType = item.thing
    content = Content(walker, item)
    code = function.__code__
    item.file, item.line = code.co_filename, code.co_firstlineno
    pieces = [b"wrapper", content.named(_origin(function), item.name)]
    if item.name == "functools:singledispatch.<locals>.wrapper":  # its cells also hold a cache, which its use fills
        registry = sorted(function.registry.items(), key=lambda entry: qualified_name(entry[0]))  # type: ignore[attr-defined]
        return b"".join([*pieces, content.encode(registry)])
    for variable, value in _cells(function):
        pieces.append(content.value(value, f"{item.name} (closure {variable})"))
    pieces.append(content.encode((function.__defaults__, function.__kwdefaults__)))
    _beside(walker, item, function.__dict__.get("__wrapped__"))
    return b"".join(pieces)


class _Globals:
    """Tells what the names in a function's code stand for, as things are now (rule K3)."""

    def __init__(self, content: Content, function: FunctionType) -> None:
        self.content = content
        self.function = function
        self.cells = dict(_cells(function))
        self.module = _name(function).partition(":")[0]

    def name(self, name: str, attributes: tuple[str, ...]) -> tuple[bytes, int]:
        space = self.function.__globals__
        if name in self.cells:
            return self.follow(self.cells[name], attributes, f"{self.content.item.name} (closure {name})")
        if name == "__name__" and name in space:
            return b"M" + self.content.encode(main_name() if space[name] in ("__main__", "__mp_main__") else space[name]), 0
        if name in space and name not in ("__builtins__", "__spec__", "__loader__"):
            return self.follow(space[name], attributes, f"{self.module}:{name}")
        builtin = getattr(builtins, name, _UNBOUND)
        if builtin is _UNBOUND:
            return b"?" + self.content.encode(name), 0
        if isinstance(builtin, FunctionType) and is_users(builtin):  # a monkeypatch
            return self.content.encode(builtin), 0
        return self.content.named(origin_of_module("builtins"), name), 0

    def imported(self, module: str, level: int, name: str | None, attributes: tuple[str, ...]) -> tuple[bytes, int]:
        full = module
        if level:
            try:
                full = resolve_name("." * level + module, self.function.__globals__.get("__package__") or "")
            except ImportError:
                return self.missing(module)
        origin = _origin_unloaded(full)
        if origin.owner is not Owner.USER:
            asked = name or "".join(attributes[:1])  # `import m` and `m.n` as `from m import n`
            return self.content.named(origin, f"{full}:{asked}"), 0 if name else len(attributes[:1])
        found: Any = _import(full)
        if found is not None and name is not None:
            found = getattr(found, name, None) if hasattr(found, name) else _import(f"{full}.{name}")
        if found is None:
            return self.missing(f"{full}:{name or ''}")
        return self.follow(found, attributes, f"{full}:{name or ''}", imports=True)

    def missing(self, name: str) -> tuple[bytes, int]:
        item = self.content.item
        item.unseen.append(f"{item.name} imports {name.rstrip(':').replace(':', '.')}, which cannot be imported")
        return b"?" + self.content.encode(name), 0

    def follow(self, thing: Any, attributes: tuple[str, ...], name: str, imports: bool = False) -> tuple[bytes, int]:
        """Go along attributes as far as they lead through modules; what is then found is what counts."""
        given = 0
        for attribute in attributes:
            if isinstance(thing, ModuleType):
                module = thing
                name = f"{module.__name__}:{attribute}"
                try:
                    thing = getattr(module, attribute)
                except AttributeError:
                    thing = _import(f"{module.__name__}.{attribute}") if imports else None
                    if thing is None:
                        return b"?" + self.content.encode(name), given + 1
                given += 1
                origin = origin_of_module(module.__name__)
                if origin.owner is not Owner.USER and not isinstance(thing, ModuleType) and not is_users(thing):
                    if isinstance(thing, FunctionType | BuiltinFunctionType | type):
                        return self.content.encode(thing), given
                    return self.content.named(origin, name), given
            elif isinstance(thing, FunctionType) and attribute in thing.__dict__ and not attribute.startswith("__"):
                thing, name = thing.__dict__[attribute], f"{qualified_name(thing)}.{attribute}"
                given += 1
            else:
                break
        return self.content.value(thing, name), given


def _origin_unloaded(name: str) -> Origin:
    """Tell whose a module is without importing it."""
    top = name.partition(".")[0]
    if top == main_name() or top in sys.modules:
        return origin_of_module("__main__" if top == main_name() else name)
    try:
        spec = find_spec(top)
    except (ImportError, ValueError):
        spec = None
    place = spec and (spec.origin if spec.has_location else next(iter(spec.submodule_search_locations or ()), None))
    return origin_of_file(os.path.abspath(place)) if place else origin_of_module(name)


def _import(name: str) -> ModuleType | None:
    if name == main_name() and "__main__" in sys.modules:
        return sys.modules["__main__"]
    try:
        return import_module(name)
    except (Exception, SystemExit):
        return None


# Classes


def _class(content: Content, cls: type) -> bytes:
    origin = content.walker.origin_of_class(cls)
    name = qualified_name(cls)
    if origin.owner is not Owner.USER:
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
    members = {name: value for name, value in vars(cls).items() if name not in NOT_MEMBERS and not name.startswith("__cpgraph")}
    if issubclass(cls, Enum):
        members = {name: value for name, value in members.items() if name not in cls.__members__}
        members = {name: value for name, value in members.items() if not name.startswith("_") or _is_method(value)}
        for name, member in cls.__members__.items():
            pieces += [b"member", content.encode(name), content.encode(member._value_)]
            lines.append(f"{name} = {_shown(member._value_)}")
    types = Content(walker, item, classes_count=False)
    fields = _fields(cls)
    for name, kind, settings in fields:
        pieces += [b"field", content.encode(name), types.encode(kind), *map(content.encode, settings.items())]
        lines.append(f"{name}: {_shown(kind)} = {_shown(settings['default'])}")
    if fields:
        members.pop("__slots__", None)
    else:
        for name, annotation in _annotations(cls).items():
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
                lines.append(f"{name} = {_shown(value)}")
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


# Everything else


def _method(content: Content, method: MethodType) -> bytes:
    return b"method" + content.encode(method.__func__) + content.value(method.__self__, f"{content.item.name} (self of a method)")


def _module(content: Content, module: ModuleType) -> bytes:
    origin = origin_of_module(module.__name__)
    if origin.owner is Owner.USER:
        return content.need(module, module.__name__, "module", whole_module)
    return content.named(origin, module.__name__)


def whole_module(walker: Walker, item: Item) -> bytes:
    """Give the shape of a module that is used as a value: all that can be asked of it."""
    module: ModuleType = item.thing
    content = Content(walker, item)
    item.file = str(getattr(module, "__file__", None) or "")
    pieces = [b"module"]
    for name, value in sorted(vars(module).items()):
        inside = isinstance(value, ModuleType) and not value.__name__.startswith(f"{module.__name__}.")
        if not inside and not (name.startswith("__") and name.endswith("__")):
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
    if function.__self__ is not None and not isinstance(function.__self__, ModuleType):
        return None  # a method: by what it is bound to
    origin = origin_of_module(function.__module__)
    if origin.owner is Owner.USER:
        return content.need(function, qualified_name(function), "extension", _extension)
    return content.named(origin, qualified_name(function))


def _set(content: Content, value: set[Any] | frozenset[Any]) -> bytes | None:
    """Write a set that holds code in an order that does not depend on the process."""

    def place(thing: Any) -> tuple[str, int, bytes]:
        if isinstance(thing, FunctionType | type):
            return qualified_name(thing), getattr(getattr(thing, "__code__", None), "co_firstlineno", 0), b""
        try:
            return "", 0, digest(thing)
        except Undigestible:
            return qualified_name(type(thing)), 0, b""

    if all(type(item) in (str, int, float, bytes, bool, type(None)) for item in value):
        return None
    return b"set" + content.encode((type(value), [*sorted(value, key=place)]))


def _constant(walker: Walker, item: Item) -> bytes:
    """Give the shape of a value."""
    item.text = _shown(item.thing)
    try:
        return b"value" + Content(walker, item).encode(item.thing)
    except RecursionError:
        return b"value" + Content(walker, item).refused(item.thing, "it is nested too deep")


def _shown(value: Any) -> str:
    """Show a value to a person. (Nothing is decided by this text.)"""
    import reprlib

    if isinstance(value, FunctionType | type):
        return qualified_name(value)
    try:
        return reprlib.repr(value)
    except Exception:
        return f"a {type(value).__name__}"


def _handle(content: Content, value: Any) -> bytes:
    return content.refused(value, "it is the same for the whole process")


Kind = Callable[[Content, Any], bytes | None]

KINDS: Final[dict[type, Kind]] = {
    FunctionType: _function,
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
}
BY_NAME: Final[Mapping[str, Kind]] = {"logging:Logger": _handle}  # of modules that may not be loaded
