"""Whose code something is, told by the place of its file.

The user's own code is followed; a library's counts by the version of its distribution, the standard library's by that
of Python. A package installed in editable mode lies outside of site-packages, so it is the user's own. What is built into
the interpreter, and cpgraph itself, count by name alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import attrs

__all__ = ["SELF", "USER", "Origin", "origin_of_file", "origin_of_module"]

HERE: Final = os.path.normcase(os.path.dirname(os.path.realpath(__file__)))
SITES: Final = frozenset({"site-packages", "dist-packages"})


@attrs.frozen(eq=False)
class Origin:
    """Whose code it is: one of those below, or of a library, which package in what version."""

    package: str = ""
    version: str = ""


USER: Final = Origin()
BUILTIN: Final = Origin()
SELF: Final = Origin()


def _python() -> Origin:
    return Origin("python", f"{sys.version_info[0]}.{sys.version_info[1]}")


@cache
def origin_of_file(path: str) -> Origin:
    """Tell whose code a file is; `path` is absolute."""
    path, real = os.path.normcase(path), os.path.normcase(os.path.realpath(path))
    if real.startswith(HERE + os.sep):
        return SELF
    for name in dict.fromkeys((path, real)):
        parts = name.split(os.sep)
        inside = next((place for place in reversed(range(len(parts))) if parts[place] in SITES), None)
        if inside is not None and inside + 1 < len(parts):
            return _distribution(parts[inside + 1].partition(".")[0])
        if any(name.startswith(folder + os.sep) for folder in _standard_folders()):
            return _python()
    return USER


def origin_of_module(name: str | None) -> Origin:
    """Tell whose code a module is, by its file if it is loaded."""
    name = name or "builtins"
    top = name.partition(".")[0]
    if name in ("__main__", "__mp_main__"):
        return USER
    if name == "builtins" or name == "types":
        return BUILTIN
    if top == "cpgraph":
        return SELF
    for module in (sys.modules.get(name), sys.modules.get(top)):
        file = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
        if isinstance(file, str):
            return origin_of_file(os.path.abspath(file))
    if top in sys.stdlib_module_names or name in sys.builtin_module_names:
        return _python()
    return USER


@cache
def _standard_folders() -> tuple[str, ...]:
    import sysconfig

    found = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib")} | {os.path.dirname(os.__file__)}
    return tuple({os.path.normcase(folder) for path in found if path for folder in (path, os.path.realpath(path))})


@cache
def _distribution(top: str) -> Origin:
    """Find the distribution that an installed package came in."""
    from importlib import metadata

    try:
        return Origin(top, metadata.version(top))
    except metadata.PackageNotFoundError:
        pass
    names = sorted(set(_distributions().get(top, ())))
    versions = [metadata.version(name) for name in names]
    if not versions:
        versions = [str(getattr(sys.modules.get(top), "__version__", "unknown"))]
    return Origin(top, "+".join(versions))


@cache
def _distributions() -> Mapping[str, Any]:
    from importlib import metadata

    return metadata.packages_distributions()
