"""What can go wrong, in words for the person who reads it.

::

    CpgraphError
    ├── ModelError        a class cannot serve as a model
    ├── DataError         rows of the data do not fit their models (lists every bad row)
    ├── CompileError      pipelines do not make a graph
    ├── ConflictError     two unordered nodes wrote the same thing
    ├── RecordNotFound    a record was asked for that the view does not have
    ├── NoValue           a step's value was asked for that does not exist
    └── StorageError      the directory, or a file in it

Every text has one shape: a headline, the facts, and how to mend it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

__all__ = [
    "CompileError",
    "ConflictError",
    "CpgraphError",
    "DataError",
    "ModelError",
    "NoValue",
    "RecordNotFound",
    "Retry",
    "StorageError",
    "nearest",
]


def nearest(name: str, known: Iterable[str]) -> str:
    """Ask ' Did you mean …?' for the closest of the known names, or say nothing.

    >>> nearest("prase", ["parse", "save"])
    " Did you mean 'parse'?"
    >>> nearest("zzz", ["parse"])
    ''
    """
    close = get_close_matches(name, [other for other in known if other != name], n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


class CpgraphError(Exception):
    """The root of all errors of this library: a headline, facts, and a mend."""

    def __init__(self, headline: str, facts: Mapping[str, object] | None = None, mend: str = "") -> None:
        self.headline = headline
        self.facts = dict(facts or {})
        self.mend = mend
        width = max((len(name) for name in self.facts), default=0)
        rows = [f"    {name:<{width}}  {value}" for name, value in self.facts.items()]
        super().__init__("\n".join([headline, *rows, *([f"Mend: {mend}"] if mend else [])]))

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__)


def _rebuild(kind: type[CpgraphError], args: tuple[Any, ...], state: dict[str, Any]) -> CpgraphError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


class ModelError(CpgraphError):
    """A class cannot serve as a model."""


class DataError(CpgraphError):
    """Data do not fit their models; `.rows` has one line for every bad row."""

    def __init__(self, headline: str, rows: Iterable[str] = (), mend: str = "") -> None:
        self.rows = tuple(rows)
        super().__init__("\n".join([headline, *(f"    {row}" for row in self.rows)]), mend=mend)


class CompileError(CpgraphError):
    """Pipelines do not make a graph."""


class ConflictError(CpgraphError):
    """Two nodes, neither before the other, wrote the same thing."""


class RecordNotFound(CpgraphError):
    """A record was asked for that the view does not have."""


class NoValue(CpgraphError):
    """A step has no value; the text says how its node ended and why."""


class StorageError(CpgraphError):
    """Something is wrong with the directory; `.path` says where.

    If it happens in the middle of a run, `.run` is the run so far and `.node` the node it happened at.
    """

    run: Any = None
    node: str | None = None

    def __init__(self, headline: str, path: object, facts: Mapping[str, object] | None = None, mend: str = "") -> None:
        self.path = str(path)
        super().__init__(headline, {"path": self.path, **(facts or {})}, mend)


class Retry(Exception):
    """Raise it in a step to have the step called again, `after` so many seconds."""

    def __init__(self, after: float = 0.0) -> None:
        self.after = after
        super().__init__(f"retry after {after:g} s")
