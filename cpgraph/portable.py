"""Code that another process can read: by the name it is found by, or by value where it has none."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache, lru_cache
from types import CodeType, FunctionType
from typing import Any, Final

from cpgraph.names import qualified_name, resolve
from cpgraph.pickles import MAINS, PROTOCOL, named

__all__ = ["by_value", "kept_predicate", "predicate_from", "reference"]

NOWHERE: Final = "<code>"


def reference(thing: Any) -> tuple[str, str] | None:
    """Give module and qualified name by which another process finds this class or function, or None."""
    module, _, qualname = qualified_name(thing).partition(":")
    if module == "__main__" or "<" in qualname:  # a main module without a file, or what is made inside a function
        return None
    try:
        return (module, qualname) if resolve(module, qualname) is thing else None
    except (ImportError, AttributeError):
        return None


@cache
def _value_pickler() -> Any:
    import cloudpickle

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        """Pickles by value, but what the script defines under the name the other side has it by."""

        def reducer_override(self, value: Any) -> Any:
            if isinstance(value, type | FunctionType) and value.__module__ in MAINS:
                where = reference(value)
                if where is not None:
                    return named, where
            if isinstance(value, CodeType) and value.co_filename != NOWHERE:  # cloudpickle would leave out where it is from
                return _code_from, (value.replace(co_filename=NOWHERE), value.co_filename)
            return super().reducer_override(value)

    return Pickler


def _code_from(code: CodeType, file: str) -> CodeType:
    return code.replace(co_filename=file)


def by_value(thing: Any) -> bytes:
    """Pickle together with the code of whatever has no name to be found by."""
    out = io.BytesIO()
    _value_pickler()(out, PROTOCOL).dump(thing)
    return out.getvalue()


# Predicates, kept so that a question can be asked again


_kept: dict[CodeType, bytes] = {}


def kept_predicate(predicate: Callable[[Any], Any]) -> bytes | None:
    """Give a predicate as bytes, with what it closes over; None for one that cannot be kept."""
    code = getattr(predicate, "__code__", None)
    plain = code is not None and not (getattr(predicate, "__closure__", None) or getattr(predicate, "__defaults__", None))
    if plain and code in _kept:
        return _kept[code]
    try:
        blob = by_value(predicate)
    except Exception:
        return None
    if plain and code is not None:
        _kept[code] = blob
    return blob


@lru_cache(maxsize=256)
def predicate_from(blob: bytes) -> Callable[[Any], Any]:
    """Read a kept predicate."""
    import pickle

    found: Callable[[Any], Any] = pickle.loads(blob)
    return found
