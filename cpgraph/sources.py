"""Finding the source of a function that is loaded, and whether it is what is loaded (rule K2).

People edit while a run goes on: a file is the source of a function only if compiling it gives the function's code.
"""

from __future__ import annotations

import ast
import gc
import linecache
import os
import warnings
from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib.util import decode_source
from textwrap import dedent
from types import CodeType
from typing import Any, Final, Literal

import attrs

from cpgraph.code import Function, identity

__all__ = ["Source", "Sources"]

FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@attrs.frozen
class Source:
    """Where a function was found: its file, line and text, and its tree if that is what is loaded."""

    file: str
    line: int
    text: str = ""
    tree: Function | None = None
    found: Literal["same", "other", "none"] = "none"  # what the file has: the code loaded, other code, or there is no file


class Sources:
    """Finds functions in the files they came from; each file is read and compiled once."""

    def __init__(self) -> None:
        self.files: dict[str, _File | None] = {}

    def find(self, code: CodeType, space: Mapping[str, Any]) -> Source:
        """Find a function by its code and its globals."""
        path = self.path(code, space)
        if path not in self.files:
            self.files[path] = _read(path, dict(space))
        file = self.files[path]
        if file is None:
            return Source(path, code.co_firstlineno)
        tree = file.tree_of(code)
        if tree is None:
            return Source(path, code.co_firstlineno, found="other")
        text = dedent("\n".join(file.lines[tree.lineno - 1 : tree.end_lineno]))
        return Source(path, tree.lineno, text, tree, "same")

    def path(self, code: CodeType, space: Mapping[str, Any]) -> str:
        """Give the full path of a function's file; that of a script is as it was typed, and the directory may have changed."""
        path = code.co_filename
        if path.startswith("<") or os.path.isabs(path):
            return path
        module = space.get("__file__")
        if isinstance(module, str) and os.path.basename(module) == os.path.basename(path):
            return os.path.abspath(module)
        return os.path.abspath(path)


@attrs.define
class _File:
    lines: list[str]
    functions: dict[str, dict[int, list[tuple[CodeType, Function]]]]  # by name and line
    identities: dict[str, dict[bytes, Function]] = attrs.field(factory=dict)

    def tree_of(self, code: CodeType) -> Function | None:
        """Give the tree that compiles to this code."""
        lines = self.functions.get(code.co_qualname, {})
        for known, tree in lines.get(code.co_firstlineno, ()):
            if known == code:  # position and all
                return tree
        if code.co_qualname not in self.identities:
            self.identities[code.co_qualname] = {identity(known): tree for found in lines.values() for known, tree in found}
        return self.identities[code.co_qualname].get(identity(code))


def _read(path: str, space: dict[str, Any]) -> _File | None:
    """Read and compile a file; None if there is none."""
    source: str | bytes
    try:
        with open(path, "rb") as file:
            source = file.read()
    except (OSError, ValueError):
        source = "".join(linecache.getlines(path, space))  # what a notebook or a zip file has
    return _compiled(path, source) if source else None


@lru_cache(maxsize=32)
def _compiled(path: str, source: str | bytes) -> _File:
    collecting = gc.isenabled()
    gc.disable()  # a tree is many objects and no garbage: the collector would take as long as the compiler
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python gave them when it compiled the file itself
            tree = ast.parse(source)
            codes = list(_codes(tree, path))
        lines = decode_source(source) if isinstance(source, bytes) else source
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return _File([], {})
    finally:
        if collecting:
            gc.enable()
    functions: dict[str, dict[int, list[tuple[CodeType, Function]]]] = {}
    for code, node in _pairs(codes, tree):
        functions.setdefault(code.co_qualname, {}).setdefault(code.co_firstlineno, []).append((code, node))
    return _File(lines.split("\n"), functions)


def _codes(tree: ast.Module, path: str) -> Iterator[CodeType]:
    """Compile a module a few hundred statements at a time: Python's compiler takes four times as long for twice as many."""
    future = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    for start in range(0, len(tree.body), 500):
        part = [*future, *(node for node in tree.body[start : start + 500] if node not in future)]
        yield compile(ast.Module(part, []), path, "exec", dont_inherit=True)


def _pairs(codes: list[CodeType], tree: ast.Module) -> Iterator[tuple[CodeType, Function]]:
    """Give each function of a module as code and as tree, found by name, line and, where these are not enough, column."""
    trees: dict[tuple[str, int], list[Function]] = {}
    for node in ast.walk(tree):
        if isinstance(node, FUNCTIONS):
            first = min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
            trees.setdefault((getattr(node, "name", "<lambda>"), first), []).append(node)
    waiting = list(codes)
    while waiting:
        code = waiting.pop()
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        found = trees.get((code.co_name, code.co_firstlineno), [])
        if len(found) > 1:
            found = sorted((node for node in found if _within(code, node)), key=lambda node: (node.lineno, node.col_offset))[-1:]
        if found:
            yield code, found[0]


def _within(code: CodeType, node: Function) -> bool:
    body = node.body if isinstance(node.body, ast.expr) else node.body[0]
    start, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    for line, last, column, stop in code.co_positions():
        if line is not None and last is not None and column is not None and stop:
            return start <= (line, column) and (last, stop) <= end
    return False
