"""What code a step is: its own, and everything of the user's that it reaches.

One walk over live objects as they are when the run begins (rules K2, K3). Comments, docstrings, formatting, local names, and the
names and places of functions do not count; what they do, and the constants, tables, classes and closures they use, does. A
library counts by its version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import lru_cache
from threading import Lock
from types import FunctionType
from typing import Any, Final, cast
from weakref import WeakValueDictionary

import attrs

from cpgraph.copies import ATOMIC
from cpgraph.digest import Walk, digest, digest_many
from cpgraph.functions import step as as_step
from cpgraph.items import Hint, Item, Part, finish, reached
from cpgraph.kinds import KINDS
from cpgraph.names import qualified_name, resolve
from cpgraph.reach import Content, Walker, is_users
from cpgraph.records import State

__all__ = ["CodeOfValues", "Fingerprint", "Fingerprinter", "Hint", "Part", "UsersCode", "code_in"]

FORM: Final = b"cpgraph fingerprint 1"  # the version of the form: another one makes other keys


@attrs.frozen
class Fingerprint:
    """The code of one step: its digest, what it was made of, and what could not be seen.

    handles: what counts by its type alone (rule V6). hints: kind, text and mend of what is to be told.
    """

    digest: bytes
    parts: tuple[Part, ...] = ()
    unseen: tuple[str, ...] = ()
    handles: tuple[str, ...] = ()
    hints: tuple[Hint, ...] = ()


class Fingerprinter:
    """Takes fingerprints for one run: what it has looked at once, it does not look at again."""

    def __init__(self) -> None:
        self._walker = Walker(KINDS)

    def fingerprint(
        self,
        function: Callable[..., Any],
        *,
        version: str | None = None,
        track: Iterable[Any] = (),
        inputs: Iterable[type] = (),
        name: str | None = None,
    ) -> Fingerprint:
        """Take the fingerprint of a step's function.

        version: stands for all of the code (rule N9). track: whatever else is to count; of a module, all that is in it.
        inputs: the classes of what the function is given, as far as its annotations do not say. name: what the parts call it.
        """
        if version is not None:
            stated = digest((qualified_name(function), version))
            part = Part(name or qualified_name(function), "version", stated, text=str(version))
            return Fingerprint(digest_many([FORM, b"version", stated]), (part,))
        step = Item(name or qualified_name(function), "step", function)
        step.shape = Content(self._walker, step).encode(function)
        root = step
        if step.shape == b"@0;" and isinstance(function, FunctionType):
            root = next(iter(step.needs))  # itself, not as others call it: the names of its parameters are inputs
            root = as_step(self._walker, function, root.name) or root
        extra = Item(step.name, "step", None)
        content = Content(self._walker, extra)
        for place, thing in enumerate(track):
            extra.shape += content.value(thing, f"{step.name} (track {place})")
        classes = Item(step.name, "step", None)
        for kind in filter(is_users, inputs):
            Content(self._walker, classes).encode(kind)
        extra.also |= {*classes.needs, *step.also}
        self._walker.build()
        finish([root, extra])
        found = reached([root, extra]) - {extra, step}
        parts = sorted((item.part() for item in found), key=lambda part: (part.name, part.kind, part.digest))
        return Fingerprint(
            digest_many([FORM, root.digest, extra.digest]),
            tuple(parts),
            tuple(sorted({text for item in (*found, step, extra) for text in item.unseen})),
            tuple(sorted({text for item in (*found, step, extra) for text in item.handles})),
            tuple(sorted({hint for item in found for hint in item.hints})),
        )

    def code_digest(self, thing: Any) -> bytes | None:
        """Give the digest of a class or function of the user's as code; None for any other."""
        if not is_users(thing):
            return None
        mention = Item("", "", None)
        Content(self._walker, mention).encode(thing)
        self._walker.build()
        finish(mention.needs)
        found = next(iter(mention.needs), None)
        return found.digest if found is not None else None


# The code in values. A value's digest says what is in it, and names its classes and functions. What those do is looked at when a
# run first meets them, and counts beside the digests of a node's inputs; so an edit of a method reaches also those who are given
# instances by steps, data or parameters that are as they were.

PLAIN: Final = frozenset({list, dict, tuple, set, frozenset, bytearray, range})


LOCAL: Final[WeakValueDictionary[str, Any]] = WeakValueDictionary()  # what was made inside functions, as it was met last

_is_users: Final = lru_cache(maxsize=4096)(is_users)


class UsersCode(Walk):
    """Digests a value, and notes the user's classes and functions in it: those of its parts, and those that are parts."""

    def __init__(self) -> None:
        super().__init__()
        self._met: dict[int, Any] = {}

    def special(self, value: Any) -> bytes | None:
        kind = type(value)
        if kind not in PLAIN:
            thing = value if kind is FunctionType or issubclass(kind, type) else kind
            self._met[id(thing)] = thing
        return None

    def names(self) -> tuple[str, ...]:
        """Give what was met that is the user's, as module:name."""
        found = {qualified_name(thing): thing for thing in self._met.values() if _is_users(thing)}
        LOCAL.update((name, thing) for name, thing in found.items() if "<locals>" in name)
        return tuple(sorted(found))


class _Lenient(UsersCode):
    """Goes on past what has no digest."""

    def refused(self, value: Any, reason: str) -> bytes:
        return b""


def code_in(value: Any) -> tuple[str, ...]:
    """Give the user's classes and functions in a value, whether it has a digest or not."""
    walk = _Lenient()
    with suppress(Exception):  # code of the user's, asked what the value is made of
        walk.encode(value)
    return walk.names()


@lru_cache(maxsize=1024)
def _fields(model: Any) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(model))


class CodeOfValues:
    """The code of the user's classes and functions in values, as it is when one run first meets them."""

    def __init__(self, fingerprinter: Fingerprinter) -> None:
        self._fingerprinter = fingerprinter
        self._known: dict[str, bytes] = {}
        self._lock = Lock()  # steps that ask the store are in threads

    def names(self, value: Any) -> tuple[str, ...]:
        """Give the user's classes and functions in a value."""
        return code_in(value)

    def of_state(self, state: State) -> tuple[str, ...]:
        """Give the user's classes and functions in the fields of a record; its own class is code of those who ask for it."""
        if state.code is None:
            record, model = state.record, cast(Any, type(state.record))
            fields = record.values() if model is dict else [getattr(record, name) for name in _fields(model)]
            state.code = tuple(sorted({name for value in fields if type(value) not in ATOMIC for name in self.names(value)}))
        return state.code

    def digest_of(self, value: Any) -> tuple[bytes, tuple[str, ...]]:
        """Give the digest of a value, and the user's classes and functions in it."""
        walk = UsersCode()
        return digest(value, walk), walk.names()

    def digest(self, name: str) -> bytes:
        """Give the digest of the code of a class or function, by its name; empty if it cannot be found."""
        with self._lock:
            if name not in self._known:
                thing = LOCAL.get(name)
                if thing is None:
                    with suppress(Exception, SystemExit):  # of a module that cannot be imported: who is given the value will tell
                        thing = resolve(*name.split(":", 1))
                self._known[name] = (self._fingerprinter.code_digest(thing) if thing is not None else None) or b""
            return self._known[name]
