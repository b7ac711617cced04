"""The code of the classes of values: a step that calls a method of what it is given depends on that method.

A value's digest says what is in it, and its classes by name. What those classes do is taken as it is when a run begins,
and counts beside the digest where the value is an input; so an edit of a method reaches also those who are given
instances by steps that need not run again.
"""

from __future__ import annotations

from typing import Any

from cpgraph.digest import Walk, digest_many
from cpgraph.fingerprint import Fingerprinter
from cpgraph.names import qualified_name, resolve
from cpgraph.reach import is_users

__all__ = ["Classes", "UsersClasses"]

PLAIN = frozenset({list, dict, tuple, set, frozenset, bytearray, range})

_users: dict[type, bool] = {}


class UsersClasses(Walk):
    """Digests a value, and notes the user's classes of what is in it."""

    def __init__(self) -> None:
        super().__init__()
        self._kinds: set[type] = set()

    def special(self, value: Any) -> bytes | None:
        kind = type(value)
        if kind not in PLAIN:
            self._kinds.add(kind)
        return None

    def names(self) -> tuple[str, ...]:
        """Give the classes met that are the user's, as module:name."""
        return tuple(sorted(qualified_name(kind) for kind in self._kinds if _is_users(kind)))


def _is_users(kind: type) -> bool:
    known = _users.get(kind)
    if known is None:
        known = _users[kind] = is_users(kind)
    return known


class Classes:
    """The code of the user's classes, as of the beginning of one run."""

    def __init__(self, fingerprinter: Fingerprinter) -> None:
        self._fingerprinter = fingerprinter
        self._known: dict[str, bytes] = {}

    def with_code(self, address: bytes, names: tuple[str, ...]) -> bytes:
        """Give the digest of a value together with the code of the classes in it."""
        return digest_many([address, *map(self._code, names)]) if names else address

    def of(self, item: Any) -> tuple[str, ...]:
        """Give the user's classes of what is in a value."""
        walk = UsersClasses()
        try:
            walk.encode(item)
        except Exception:  # what cannot be digested is told elsewhere
            return ()
        return walk.names()

    def _code(self, name: str) -> bytes:
        known = self._known.get(name)
        if known is None:
            try:
                known = self._fingerprinter.class_digest(resolve(*name.split(":", 1))) or b""
            except (ImportError, AttributeError):  # made inside a function: then its maker's code counts
                known = b""
            self._known[name] = known
        return known
