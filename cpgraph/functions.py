"""What of a function counts: its code in normal form, what the names in it stand for, its defaults and closure."""

from __future__ import annotations

import ast
import builtins
import os
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from importlib.util import find_spec, resolve_name
from types import FunctionType, ModuleType
from typing import Any

from cpgraph.code import ITERABLE_COROUTINE, code_form, names_in, tree_form
from cpgraph.contents import as_data, files_in
from cpgraph.digest import digest
from cpgraph.errors import CpgraphError
from cpgraph.items import Item
from cpgraph.names import main_name, qualified_name
from cpgraph.packages import SELF, USER, Origin, origin_of_file, origin_of_module
from cpgraph.reach import (
    UNBOUND,
    Content,
    Walker,
    cells_of,
    is_users,
    name_in_library,
    name_of,
    origin_of_class,
    origin_of_function,
)

__all__ = ["annotations_of", "function", "step"]


def function(content: Content, thing: FunctionType) -> bytes:
    """Write a function: the user's, and a library's that was made round one of the user's, as an item; others by name."""
    origin = origin_of_function(thing)
    if origin is USER:
        item = content.walker.item(thing, name_of(thing), "function", _user_function)
        if item.inputs is None:
            item.inputs = set()
            for parameter, annotation in annotations_of(thing).items():
                if parameter != "return":
                    for cls in _classes_in(annotation, thing.__globals__):
                        item.inputs |= _mentioned(content.walker, cls)
        content.item.also |= item.inputs
        return content.item.mention(item)
    if origin is not SELF and is_users(thing):
        return content.need(thing, name_of(thing), "function", _wrapper)
    return content.named(origin, qualified_name(thing))


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
            text = f"{item.name} is nested too deep: its instructions count, so that it runs again under another Python"
            item.hints.append(("source", text, "take it apart into several functions, or state its version=."))
    elif type(function.__globals__.get("__loader__")).__name__ == "AssertionRewritingHook":
        pass  # pytest loads asserts as something else, and that is no edit
    elif source.found == "other":
        text = f"{item.name}: what is loaded is not what {source.file} has; what is loaded counts"
        item.hints.append(("source", text, "start again, so that the code that runs is the code in the file."))
    else:
        text = f"{item.name} has no source: its instructions count, so that it runs again under another Python"
        item.hints.append(("source", text, "put it in a file, or state its version=."))
    if form is None:
        form = code_form(code, lookup)
    pieces = [b"coroutine" if code.co_flags & ITERABLE_COROUTINE else b"function", form]
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    item.signature = digest(names[code.co_posonlyargcount :])
    defaults = function.__defaults__ or ()
    for parameter, default in zip(names[code.co_argcount - len(defaults) : code.co_argcount], defaults, strict=True):
        pieces.append(b"default" + _default(content, default, parameter))
    by_keyword = function.__kwdefaults__ or {}
    for parameter in names[code.co_argcount :]:
        pieces.append(
            b"default" + _default(content, by_keyword[parameter], parameter) if parameter in by_keyword else b"required"
        )
    if "super" in code.co_names and "__class__" in code.co_freevars:
        pieces.append(lookup.name("__class__", ())[0])
    item.also |= _wrapped(walker, function)
    return b"".join(pieces)


def step(walker: Walker, function: FunctionType, name: str) -> Item | None:
    """Give the item of a function as a step, if it is another than as a helper: what is in its default Files is an input."""
    defaults = (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values())
    if any(map(_holds_files, defaults)):
        return walker.item(function, name, "step", _user_function)
    return None


def _holds_files(default: Any) -> bool:
    try:
        return bool(files_in(default))
    except CpgraphError:
        return False


def _default(content: Content, default: Any, parameter: str) -> bytes:
    if content.item.kind == "step" and _holds_files(default):
        return as_data(default)
    return content.value(default, f"{content.item.name} (default {parameter})")


def _wrapped(walker: Walker, function: FunctionType) -> set[Item]:
    wrapped = function.__dict__.get("__wrapped__")
    return _mentioned(walker, wrapped) if isinstance(wrapped, FunctionType) and is_users(wrapped) else set()


def _mentioned(walker: Walker, thing: FunctionType | type) -> set[Item]:
    """Give the items of a function or class, to count without a place of their own."""
    side = Item("", "", None)
    Content(walker, side).encode(thing)
    return {*side.needs, *side.also}


def annotations_of(thing: Any) -> Mapping[str, Any]:
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
            if origin_of_class(thing) is USER:
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
    pieces = [b"wrapper", content.named(origin_of_function(function), item.name)]
    if item.name == "functools:singledispatch.<locals>.wrapper":  # its cells also hold a cache, which its use fills
        registry = sorted(function.registry.items(), key=lambda entry: qualified_name(entry[0]))  # type: ignore[attr-defined]
        return b"".join([*pieces, content.encode(registry)])
    for variable, value in cells_of(function):
        pieces.append(content.value(value, f"{item.name} (closure {variable})"))
    pieces.append(content.encode((function.__defaults__, function.__kwdefaults__)))
    item.also |= _wrapped(walker, function)
    return b"".join(pieces)


class _Globals:
    """Tells what the names in a function's code stand for, as things are now (rule K3)."""

    def __init__(self, content: Content, function: FunctionType) -> None:
        self.content = content
        self.function = function
        self.cells = dict(cells_of(function))
        self.module = name_of(function).partition(":")[0]

    def name(self, name: str, attributes: tuple[str, ...]) -> tuple[bytes, int]:
        space = self.function.__globals__
        if name in self.cells:
            return self.follow(self.cells[name], attributes, f"{self.content.item.name} (closure {name})")
        if name == "__name__" and name in space:
            return b"M" + self.content.encode(main_name() if space[name] in ("__main__", "__mp_main__") else space[name]), 0
        if name in space and name not in ("__builtins__", "__spec__", "__loader__"):
            return self.follow(space[name], attributes, f"{self.module}:{name}")
        builtin = getattr(builtins, name, UNBOUND)
        if builtin is UNBOUND:
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
        if origin is not USER:
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
                if origin is not USER and not isinstance(thing, ModuleType) and not is_users(thing):
                    if isinstance(thing, FunctionType | type) or isinstance(getattr(thing, "__self__", None), ModuleType):
                        return self.content.encode(thing), given
                    return self.content.named(origin, name_in_library(thing) or name), given
            elif isinstance(thing, FunctionType) and attribute in thing.__dict__ and not attribute.startswith("__"):
                thing, name = thing.__dict__[attribute], f"{qualified_name(thing)}.{attribute}"
                given += 1
            else:
                if attribute == "__subclasses__":  # whoever is defined anywhere
                    self.content.item.unseen.append(f"{self.content.item.name} uses {name}.__subclasses__")
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
