"""What failed in a run, and errors made again of their type and text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Final, overload

import attrs

from cpgraph.errors import Retry
from cpgraph.tracebacks import message_of

__all__ = ["Failure", "Failures", "headline", "rebuilt_error"]

OF_ONE_CASE: Final = re.compile(r"""\[[^\]]*\]|'[^']*'|"[^"]*"|\d[\d.,]*""")  # ids, values and numbers in a text


@attrs.frozen
class Failure:
    """One failed node: `error` has its own type in the run that raised it, elsewhere type and text are kept."""

    node: str
    step: str
    error: BaseException
    traceback: str
    attempts: int
    kind: str
    place: str
    _record: Callable[[], Any] = attrs.field(repr=False, eq=False)
    note: str = ""

    @property
    def record(self) -> Any:
        """The record as it came in, or the item; None without."""
        return self._record()

    def __str__(self) -> str:
        return f"{self.node}: {self.kind}: {self.error}" + (f"\n    {self.note}" if self.note else "")


class Failures(Sequence[Failure]):
    """The failures of a run, in graph order; printed, they are grouped by kind and place."""

    def __init__(self, found: Sequence[Failure]) -> None:
        self._found = list(found)

    @overload
    def __getitem__(self, index: int) -> Failure: ...
    @overload
    def __getitem__(self, index: slice) -> list[Failure]: ...
    def __getitem__(self, index: int | slice) -> Failure | list[Failure]:
        return self._found[index]

    def __len__(self) -> int:
        return len(self._found)

    def groups(self) -> list[list[Failure]]:
        """Group by type and deepest line of the user's code, the largest group first.

        What was raised by no line of the user's is grouped by what it says, whatever the ids, values and numbers in it are.
        """
        found: dict[tuple[str, str], list[Failure]] = {}
        for failure in self._found:
            where = failure.place or OF_ONE_CASE.sub("…", _first_line(failure))
            found.setdefault((failure.kind, where), []).append(failure)
        return sorted(found.values(), key=len, reverse=True)

    def __repr__(self) -> str:
        return f"<{len(self)} failures>"

    def __str__(self) -> str:
        return "\n".join(
            f"{len(group)} × {headline(group)} at {group[0].place or group[0].step}: "
            + ", ".join([*(failure.node for failure in group[:5]), *(["…"] if len(group) > 5 else [])])
            for group in self.groups()
        )


def headline(group: Sequence[Failure]) -> str:
    """Say what failures of one group have in common: the type and the text, or the text of the first if they differ."""
    text, kind = _first_line(group[0]), type(group[0].error).__qualname__
    if not text:
        return kind
    return f"{kind}: {text}" if all(_first_line(other) == text for other in group) else f"{kind}, the first: {text}"


def _first_line(failure: Failure) -> str:
    text = message_of(failure.error).partition("\n")[0]
    return f"gave up after {failure.attempts} attempts: {text}" if isinstance(failure.error, Retry) else text


def rebuilt_error(kind: str, text: str) -> BaseException:
    """Make an error that shows type and text of one whose class is not at hand."""
    try:
        return _rebuilt_kind(kind)(text)
    except Exception:  # one that cannot be made of a text, such as UnicodeDecodeError
        made: BaseException = type(kind, (Exception,), {"__module__": "cpgraph.errors"})(text)
        return made


@cache
def _rebuilt_kind(kind: str) -> type[BaseException]:
    import builtins

    found = getattr(builtins, kind, None)
    if not (isinstance(found, type) and issubclass(found, BaseException)):
        return type(kind, (Exception,), {"__module__": "cpgraph.errors"})
    return type(kind, (found,), {"__module__": "builtins", "__str__": lambda self: str(self.args[0])})
