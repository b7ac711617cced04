"""Reaching from a piece of code to what it uses: one walk over live objects, each looked at once.

A `Walker` holds what was found; `Content` writes what one item is made of. The kinds of things, and what of each counts, are
rows of a table that the walker is given.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from types import CellType, FunctionType, MethodType
from typing import Any, Final

from cpgraph.digest import Walk, digest
from cpgraph.items import Item
from cpgraph.names import main_name, qualified_name
from cpgraph.packages import SELF, USER, Origin, origin_of_file, origin_of_module
from cpgraph.sources import Sources

__all__ = ["UNBOUND", "Build", "Content", "Kind", "Walker", "cells_of", "handle", "is_users", "name_in_library"]
__all__ += ["name_of", "origin_of_class", "origin_of_function", "shown"]

Build = Callable[["Walker", Item], bytes]  # gives an item's shape
Kind = Callable[["Content", Any], "bytes | None"]  # writes a thing into what mentions it; None: as a value

# What runs or fetches code by a name that the walk cannot know.
HIDES_CODE: Final = frozenset({"eval", "exec", "globals", "__import__", "importlib:import_module"})


class Walker:
    """Looks at live objects, each once; `build` does what is waiting, so that no chain of calls is too long."""

    def __init__(self, kinds: Mapping[type | str, Kind]) -> None:
        self.table = kinds
        self.sources = Sources()
        self.items: dict[tuple[int, str, str], Item] = {}
        self.waiting: list[tuple[Item, Build]] = []
        self.origins: dict[type, Origin] = {}
        self.kinds: dict[type, Kind | None] = {}
        self.process = {id(getattr(sys, name)): name for name in ("argv", "path", "modules", "stdin", "stdout", "stderr")}

    def item(self, thing: Any, name: str, kind: str, build: Build) -> Item:
        """Give the item of a thing, a new one if this is where it is first reached."""
        key = (id(thing), name, kind)
        if key not in self.items:
            self.items[key] = Item(name, kind, thing)
            self.waiting.append((self.items[key], build))
        return self.items[key]

    def build(self) -> None:
        while self.waiting:
            item, build = self.waiting.pop()
            try:
                item.shape = build(self, item)
            except Exception as error:  # what the user's objects may raise when they are looked at
                item.unseen.append(f"{item.name} cannot be looked at: {type(error).__name__}: {error}")
                item.shape = digest(qualified_name(type(item.thing)))

    def package(self, origin: Origin) -> Item:
        """Give the item of a library: its version stands for its code."""
        key = (0, f"package {origin.package}", "package")
        if key not in self.items:
            shape = digest((origin.package, origin.version))
            self.items[key] = Item(key[1], "package", origin, shape, text=f"{origin.package} {origin.version}")
        return self.items[key]

    def origin_of_class(self, kind: type) -> Origin:
        if kind not in self.origins:
            self.origins[kind] = origin_of_class(kind)
        return self.origins[kind]

    def kind_of(self, cls: type) -> Kind | None:
        if cls not in self.kinds:
            rows = (self.table.get(base) or self.table.get(_general_name(base)) for base in cls.__mro__)
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
        if origin is SELF and cls.__module__ != "cpgraph.models":
            return b"S" + self.encode(qualified_name(cls))
        mark = b""
        if self.classes_count and origin is USER:
            mark = b"c" + self.encode(cls)
        elif self.classes_count and origin.version:
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
        written = kind(self, value) if kind and kind is not handle else None
        return written if written is not None else self.item.mention(self.walker.item(value, name, "constant", _constant))

    def need(self, thing: Any, name: str, kind: str, build: Build) -> bytes:
        return self.item.mention(self.walker.item(thing, name, kind, build))

    def named(self, origin: Origin, name: str) -> bytes:
        """Write what counts by its name, and if it is a library's, by the version of that."""
        if name in HIDES_CODE:
            self.item.unseen.append(f"{self.item.name} uses {name.replace(':', '.')}")
        unversioned = name.startswith("copyreg:") or (origin.package == "python" and not self.classes_count)
        if origin.version and not unversioned:
            return b"L" + self.encode(name) + self.item.mention(self.walker.package(origin))
        return b"B" + self.encode(name)


def origin_of_function(function: FunctionType) -> Origin:
    """Tell whose code a function is, by its file: its `__module__` may be copied from what it wraps."""
    path = function.__code__.co_filename
    if path.startswith("<"):
        module = function.__globals__.get("__name__")
        if module is None and path == "<string>":  # made by `exec` in a bare dict
            module = "__main__"
        return origin_of_module(module)
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
            if origin_of_function(thing) is USER:
                return True
            waiting += [value for _, value in cells_of(thing)]
            waiting.append(getattr(thing, "__wrapped__", None))
        elif isinstance(thing, MethodType):
            waiting.append(thing.__func__)
        elif isinstance(thing, functools.partial):
            waiting.append(thing.func)
        else:
            cls = thing if isinstance(thing, type) else type(thing)
            if origin_of_class(cls) is USER:
                return True
    return False


def origin_of_class(cls: type) -> Origin:
    module: Any = cls.__module__  # anything at all, where a class says so
    return origin_of_module(module if isinstance(module, str) else None)


def _general_name(cls: type) -> str:
    return f"cython:{cls.__qualname__}" if str(cls.__module__).startswith("_cython_") else qualified_name(cls)


def name_of(function: FunctionType) -> str:
    """Name a function by its code: its own name may be copied from what it wraps."""
    module = function.__globals__.get("__name__")
    return f"{main_name() if module in ('__main__', '__mp_main__', None) else module}:{function.__code__.co_qualname}"


def cells_of(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, _contents(cell)


def _contents(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not bound yet
        return UNBOUND


UNBOUND: Final = object()


def _constant(walker: Walker, item: Item) -> bytes:
    """Give the shape of a value."""
    item.text = shown(item.thing)
    content = Content(walker, item)
    try:
        return b"value" + content.encode(item.thing)
    except Exception as error:  # RecursionError, or whatever the user's objects raise when they are looked at
        item.unseen.append(f"{item.name} cannot be looked into: {type(error).__name__}")
        return b"value" + content.refused(item.thing, "")


def name_in_library(method: Any) -> str | None:
    """Name a method of an object that a library keeps for the whole process, handed out like a function: `random.choice`."""
    cls = type(getattr(method, "__self__", None))
    name = getattr(method, "__name__", "")
    if origin_of_class(cls).version and getattr(sys.modules.get(cls.__module__), name, None) == method:
        return f"{cls.__module__}:{name}"
    return None


def handle(content: Content, value: Any) -> bytes:
    """Write what counts by its type though it has a state."""
    return content.refused(value, "")


def shown(value: Any) -> str:
    """Show a value to a person. (Nothing is decided by this text.)"""
    import reprlib

    if isinstance(value, FunctionType | type):
        return qualified_name(value)
    try:
        return reprlib.repr(value)
    except Exception:
        return f"a {type(value).__name__}"
