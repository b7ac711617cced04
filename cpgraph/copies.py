"""Keeping what one step has from another: what cannot be altered is shared, anything else is copied (rule V3)."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import attrs

from cpgraph.models import File, is_model
from cpgraph.pickles import dumps, loads

__all__ = ["ATOMIC", "duplicate", "immutable", "isolated"]

ATOMIC: Final = frozenset({type(None), bool, int, float, str, bytes, complex})


@cache
def _record_fields(kind: type) -> tuple[str, ...] | None:
    """Give the fields of a class whose instances are their fields and nothing else, None for all other classes."""
    if kind is File:
        return ()
    if not is_model(kind):
        return None
    names = tuple(field.name for field in attrs.fields(kind))
    slots = {name for base in kind.__mro__[:-1] for name in base.__dict__.get("__slots__", ("__dict__",))}
    return names if slots <= {*names, "__weakref__"} else None  # a __dict__, a cached property: something more to mutate


def immutable(value: Any) -> bool:
    """Tell whether steps may share a value because nothing in it can be altered.

    >>> immutable((1, "a")), immutable(([],))
    (True, False)
    """
    kind: Any = type(value)
    if kind in ATOMIC:
        return True
    if kind is tuple or kind is frozenset:
        return all(type(item) in ATOMIC or immutable(item) for item in value)
    names = _record_fields(kind)
    return names is not None and all(immutable(getattr(value, name)) for name in names)


def duplicate(value: Any) -> Any:
    """Copy by other means what does not pickle; what cannot be copied at all (a lock, a connection) is shared."""
    import copy

    try:
        return copy.deepcopy(value)
    except Exception:
        return value


def isolated(value: Any) -> Any:
    """Give a value that shares nothing with this one that could be altered."""
    if immutable(value):
        return value
    try:
        return loads(dumps(value))
    except Exception:
        return duplicate(value)
