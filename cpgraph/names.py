"""One name for every class and function, however the program was started (rule K1); and where they are written.

A script has three names: `__main__` when it is run, its own when it is imported, `__mp_main__` in a worker. Digests, pickles
and ids use the one it can be imported by, and read it back to whichever is loaded.
"""

from __future__ import annotations

import inspect
import sys
from functools import partial, reduce
from importlib import import_module
from pathlib import PurePath
from typing import Any

__all__ = ["called", "calling", "is_redefined", "location", "main_name", "qualified_name", "resolve"]


def main_name() -> str:
    """Give the name by which the module that runs as a script would be imported: `orders` for `orders.py` (rule K1)."""
    main = sys.modules.get("__main__")
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name not in ("__main__", "__mp_main__"):
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return PurePath(file).stem if file else "__main__"


def qualified_name(thing: Any) -> str:
    """Name a class or function as `module:qualname`, with one name for `__main__` however it was started (rule K1).

    >>> import json
    >>> qualified_name(json.JSONDecoder.decode)
    'json.decoder:JSONDecoder.decode'
    """
    module = getattr(thing, "__module__", None)
    if module is None:
        module = getattr(getattr(thing, "__objclass__", None) or type(thing), "__module__", "builtins")
    if module in ("__main__", "__mp_main__"):
        module = main_name()
    elif module == "pathlib._local":  # as of Python 3.13; its classes are still those of pathlib
        module = "pathlib"
    return f"{module}:{getattr(thing, '__qualname__', None) or getattr(thing, '__name__', None) or type(thing).__qualname__}"


def is_redefined(function: Any) -> bool:
    """Tell whether a function's name stands for another function by now, as when a notebook's cell was run again (rule K3)."""
    found: Any = sys.modules.get(getattr(function, "__module__", None) or "")
    for part in getattr(function, "__qualname__", "<unknown>").split("."):
        found = getattr(found, part, None)
    if found is None or qualified_name(found) != qualified_name(function):
        return False
    wrapped = [found]
    while (inner := getattr(wrapped[-1], "__wrapped__", None)) is not None and inner not in wrapped:
        wrapped.append(inner)
    plain = getattr(function, "__func__", function)  # of a method
    return all(getattr(one, "__func__", one) is not plain for one in wrapped)


def resolve(module: str, qualname: str) -> Any:
    """Find what `qualified_name` named, in the script if that is what runs, else in the module, imported if it has to be.

    Raises `ImportError` or `AttributeError` as an import statement would.
    """
    path, main = qualname.split("."), sys.modules.get("__main__")
    if main is not None and module in ("__main__", "__mp_main__", main_name()):
        try:
            return reduce(getattr, path, main)
        except AttributeError:
            if sys.modules.get(module, main) is main:  # to import a script by its other name would run it once more
                raise
    return reduce(getattr, path, sys.modules.get(module) or import_module(module))


# Places, for messages


def location(thing: Any) -> str:
    """Say where a class or function was written, as file:line, as far as that is known."""
    thing = called(thing)
    code = getattr(thing, "__code__", None)
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    name = getattr(thing, "__qualname__", None) or type(thing).__qualname__
    module = getattr(thing, "__module__", None) or "builtins"  # methods of builtins name none
    return f"{getattr(sys.modules.get(module), '__file__', None) or module} ({name})"


def called(thing: Any) -> Any:
    """Give the function that a call ends in: of a partial, of what is wrapped, of an object with `__call__`."""
    while True:
        thing = inspect.unwrap(thing)
        if isinstance(thing, partial):
            thing = thing.func
        elif not isinstance(thing, type) and not hasattr(thing, "__code__") and hasattr(type(thing).__call__, "__code__"):
            thing = type(thing).__call__
        else:
            return thing


def calling() -> str:
    """Say where the user's code is from which the library is called, as file:line."""
    frame = sys._getframe(1)
    while frame.f_back is not None and (
        frame.f_globals.get("__name__", "").startswith("cpgraph.") or frame.f_code.co_filename.startswith("<attrs ")
    ):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
