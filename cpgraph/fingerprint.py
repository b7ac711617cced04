"""What code a step is: its own, and everything of the user's that it reaches.

One walk over live objects as they are when the run begins (rules K2, K3). Comments, docstrings, formatting, local names, and the
names and places of functions do not count; what they do, and the constants, tables, classes and closures they use, does. A
library counts by its version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import FunctionType
from typing import Any, Final

import attrs

from cpgraph.digest import digest, digest_many
from cpgraph.items import Hint, Item, Part, finish, reached
from cpgraph.kinds import KINDS
from cpgraph.names import qualified_name
from cpgraph.reach import Content, Walker, is_users

__all__ = ["Fingerprint", "Fingerprinter", "Hint", "Part"]

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

    def class_digest(self, kind: type) -> bytes | None:
        """Give the digest of a class of the user's as code; None for any other."""
        if not is_users(kind):
            return None
        mention = Item("", "", None)
        Content(self._walker, mention).encode(kind)
        self._walker.build()
        finish(mention.needs)
        return next(iter(mention.needs)).digest
