"""Finding the graph that the command is to run: `orders.py`, `orders.py:graph`, `package.module:graph`.

A file is imported by its stem, with its directory first on the path, as `python orders.py` would run it. So its functions and
classes have the names they have there, and both share results (rule K1).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import CodeType, ModuleType

from cpgraph.errors import CpgraphError, nearest
from cpgraph.graph import Graph
from cpgraph.launch import importing
from cpgraph.tracebacks import text_of, told

__all__ = ["TargetError", "find_graph"]


class TargetError(CpgraphError):
    """There is no graph where the command was told to look; `traceback` is of what the import raised."""

    traceback = ""


def find_graph(target: str) -> Graph:
    """Import what a target names and give its graph; raises `TargetError` if there is none, or more than one."""
    source, name = _split(target)
    module = _load_file(Path(source)) if _is_file(source) else _load_module(source)
    graphs: dict[int, list[str]] = {}
    for attribute, value in vars(module).items():
        if isinstance(value, Graph):
            graphs.setdefault(id(value), []).append(attribute)
    names = [several[0] for several in graphs.values()]
    if name:
        return _named(module, source, name, names)
    if not names:
        raise TargetError(f"there is no Graph in {source}", mend="make one at module level: graph = cp.Graph(…).")
    if len(names) > 1:
        facts = {"graphs": ", ".join(names)}
        raise TargetError(f"there are {len(names)} Graphs in {source}", facts, f"name one, such as {source}:{names[0]}.")
    found: Graph = getattr(module, names[0])
    return found


def _split(target: str) -> tuple[str, str]:
    """Divide what stands before the last colon from the name after it.

    >>> _split("orders.py:graph"), _split("shop.orders"), _split("C:/shop/orders.py")
    (('orders.py', 'graph'), ('shop.orders', ''), ('C:/shop/orders.py', ''))
    """
    source, colon, name = target.rpartition(":")
    if colon and all(part.isidentifier() for part in name.split(".")):
        return source, name
    return target, ""


def _is_file(source: str) -> bool:
    return source.endswith(".py") or "/" in source or os.sep in source or os.path.exists(source)


def _named(module: ModuleType, source: str, name: str, names: list[str]) -> Graph:
    value: object = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if isinstance(value, Graph):
        return value
    said = f"{name!r} is not a Graph, but of type {type(value).__name__}" if value is not None else f"there is no {name!r}"
    mend = f"name one of these, such as {source}:{names[0]}." if names else "make one at module level: graph = cp.Graph(…)."
    raise TargetError(f"in {source}, {said}.{nearest(name, names)}", {"graphs": ", ".join(names) or "none"}, mend)


def _load_file(path: Path) -> ModuleType:
    name = path.stem
    if path.is_dir() or not path.exists():
        what = "is a directory" if path.is_dir() else "does not exist"
        raise TargetError(f"{path} {what}", mend="name a Python file, such as orders.py, or a module, such as shop.orders:graph.")
    path = path.resolve()
    known = sys.modules.get(name)
    if name in sys.stdlib_module_names or (known is not None and getattr(known, "__file__", None) != str(path)):
        taken = getattr(known, "__file__", None) or "of the standard library"
        raise TargetError(f"{path.name} has the name of a module that is loaded already", {"module": taken}, "rename the file.")
    loader = _Script(name, str(path))
    spec = spec_from_loader(name, loader)
    assert spec is not None
    sys.path.insert(0, str(path.parent))
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        with _importing(str(path), path.name):
            loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


class _Script(SourceFileLoader):
    """Compiles a script each time it is run, as Python does: an edit within the second counts, and nothing is left beside it."""

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = self.source_to_code(self.get_data(self.path), self.path)
        return code


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, os.getcwd())
    with _importing(name, name):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise
            mend = "name a file, such as orders.py, or a module that can be imported from here, such as shop.orders."
            raise TargetError(f"there is no file and no module called {name!r}", mend=mend) from error


@contextlib.contextmanager
def _importing(path: str, shown: str) -> Iterator[None]:
    """Have runs refused while the block imports, and whatever it raises told as what it is."""
    argv = sys.argv
    sys.argv = [path]
    importing.append(shown)
    try:
        yield
    except (CpgraphError, KeyboardInterrupt):
        raise
    except SystemExit as error:
        mend = 'put what runs under `if __name__ == "__main__":`.'
        raise TargetError(f"{shown} ends the program while it is imported", {"raised": text_of(error)}, mend) from error
    except Exception as error:
        raise _refused(shown, error) from error
    finally:
        importing.remove(shown)
        sys.argv = argv


def _refused(shown: str, error: Exception) -> TargetError:
    text, place = told(error)
    if isinstance(error, SyntaxError) and error.filename:
        place = f"{error.filename}:{error.lineno}"
    refused = TargetError(f"{shown} cannot be imported: {text_of(error)}", {"at": place} if place else None)
    refused.traceback = text
    return refused
