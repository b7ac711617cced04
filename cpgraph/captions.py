"""The words in a picture: what a step, a pipeline and a run say of themselves, as plain rows of text.

Text of the user's (names, docstrings, values, lambdas) is made one line of printable characters and cut to a length that
reads; escaping is up to who writes a language. Nothing here shows an address in memory: pictures are equal for equal graphs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from typing import Any, Final

import attrs

from cpgraph.models import Files
from cpgraph.results import ENDINGS
from cpgraph.runs import Run
from cpgraph.sources import Sources
from cpgraph.steps import Step
from cpgraph.structure import Binding, Compiled, Place, Scope

__all__ = ["Row", "Tally", "counted", "duration", "in_rows", "pipeline_rows", "shorten", "step_rows", "tallies", "tally_rows"]
__all__ += ["total"]

PLAIN: Final = (bool, int, float, str, bytes, type(None))
WIDEST: Final = 56  # letters of a row of counts
LEAST: Final = 0.001  # seconds that are worth telling
WORST_FIRST: Final = ("failed", "blocked", "computed", "cached", "closed")


@attrs.frozen
class Row:
    """One line of text. kind: "text", "doc", "option", "count" or "failed"."""

    kind: str
    text: str


def shorten(text: str, length: int = 44) -> str:
    """Make one line of printable characters, with an ellipsis if it is longer than that.

    >>> shorten("one\\n  two\\x00 three", 9)
    'one two…'
    """
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= length else line[: length - 1].rstrip() + "…"


# What is declared


def step_rows(step: Step) -> list[Row]:
    """Say what a step is for and what options it has that matter."""
    rows = []
    said = shorten(_first_line(step.function))
    if said:
        rows.append(Row("doc", said))
    options = step.options
    shown = []
    if options.sets:
        shown.append(f"sets {options.sets}")
    if options.retries:
        shown.append(f"retries {options.retries}")
    if options.timeout is not None:
        shown.append(f"timeout {options.timeout:g} s")
    if options.limit is not None:
        limit = options.limit
        calls = [f"limit {limit.calls}"] if limit.calls is not None else []
        shown.append(", ".join([*calls, *([f"at most {limit.per_second:g}/s"] if limit.per_second is not None else [])]))
    if options.version is not None:
        shown.append(f"version {shorten(str(options.version), 12)}")
    if not options.cache:
        shown.append("not cached")
    shown = [one for one in shown if one]
    return [*rows, *(Row("option", " · ".join(shown[at : at + 3])) for at in range(0, len(shown), 3))]


def _first_line(function: Any) -> str:
    said = getattr(function, "__doc__", None)
    if not isinstance(said, str) or said == getattr(type(function), "__doc__", None):
        return ""
    return next((line for line in said.splitlines() if line.strip()), "")


def pipeline_rows(place: Place, compiled: Compiled, sources: Sources) -> list[Row]:
    """Say what a pipeline runs over, when it is open, and what options it has."""
    part = place.pipeline
    if part is None:
        return []
    rows = []
    scope = compiled.scopes[place.inner] if place.inner is not None else None
    if scope is not None:
        rows.append(Row("text", _each(scope, compiled, sources)))
    start = compiled.units[place.start] if place.start is not None else None
    for opened in (start.open if start else None, scope.condition if scope else None):
        if opened is not None:
            rows.append(Row("text", f"{'guard' if opened.guard else 'condition'}: {_called(opened.function, sources)}"))
    shown = []
    if part.concurrency is not None:
        shown.append(f"concurrency {part.concurrency}")
    if part.on_error != "isolate":
        shown.append(f"on_error {part.on_error}")
    return [*rows, *([Row("option", " · ".join(shown))] if shown else [])]


def _each(scope: Scope, compiled: Compiled, sources: Sources) -> str:
    if scope.model is None:
        return f"each {shorten(scope.item or '')} in {_source(scope.source, compiled)}"
    said = f"each {shorten(scope.model.__name__)}"
    if scope.selection is None:
        return said
    asked = [f"{name} = {_value(value)}" for name, value in scope.selection.equal.items()]
    if scope.selection.predicate is not None:
        asked.append(_called(scope.selection.predicate, sources))
    return f"{said} where {' and '.join(asked)}" if asked else said


def _source(source: Any, compiled: Compiled) -> str:
    if isinstance(source, Binding):
        return shorten(compiled.units[source.unit].name) if source.unit >= 0 else shorten(source.name)
    if isinstance(source, Files):
        return f"files({_value(source.pattern)})"
    if isinstance(source, Sequence) and not isinstance(source, str):
        shown = ", ".join(_value(item) for item in source)
        if len(source) <= 5 and len(shown) <= 30:
            return f"[{shown}]"
    return f"{len(source):,} items"


def _value(value: Any) -> str:
    """Show a value if what it shows is sure to be the same next time."""
    if isinstance(value, Enum):
        return shorten(str(value.name), 24)
    if type(value) in PLAIN:
        return shorten(repr(value), 24)
    return f"a {shorten(type(value).__name__, 24)}"


def _called(function: Callable[..., Any], sources: Sources) -> str:
    """Give the name of a predicate; of a lambda what it says, if its source is at hand."""
    name = getattr(function, "__name__", None) or type(function).__name__
    if name != "<lambda>":
        return shorten(name)
    import ast

    tree = sources.find(function.__code__, function.__globals__).tree
    return shorten(ast.unparse(tree.body)) if isinstance(tree, ast.Lambda) else "a lambda"


# What a run did


@attrs.define
class Tally:
    """What a run did with the nodes of one or more steps. `other`: results kept that other code made."""

    counts: Counter[str] = attrs.field(factory=Counter)
    kinds: Counter[str] = attrs.field(factory=Counter)
    seconds: float = 0.0
    other: int = 0

    def add(self, more: Tally) -> None:
        self.counts += more.counts
        self.kinds += more.kinds
        self.seconds += more.seconds
        self.other += more.other

    @property
    def ending(self) -> str:
        """How it ended at worst; "" if there is nothing of it in the run."""
        if self.kinds:
            return "failed"
        return next((ended for ended in WORST_FIRST if self.counts[ended]), "")


def tallies(run: Run) -> dict[str, Tally]:
    """Count what a run did, by step; conditions, guards and sources that failed are there by the name of their unit."""
    found = {step: Tally(Counter(counts)) for step, counts in run.counts.items()}
    current = {step.name: step.fingerprint for step in run.line.steps.values()}
    for node in run.nodes:
        tally = found[node.step]
        if node.ended in ("computed", "failed"):
            tally.seconds += node.seconds
        elif node.ended == "cached" and node.fingerprint != current[node.step]:
            tally.other += 1
    for failure in run.failures:
        found.setdefault(failure.step, Tally()).kinds[failure.kind] += 1
    return found


def tally_rows(tally: Tally) -> list[Row]:
    """Say what a run did: counts, how long it took in all, and what failed."""
    shown = [counted(tally.counts)]
    if tally.seconds >= LEAST:
        shown.append(duration(tally.seconds))
    if tally.other:
        shown.append(f"{tally.other:,} kept from other code")
    rows = [Row("count", text) for text in in_rows(" · ".join(one for one in shown if one))]
    if tally.kinds:
        common = sorted(tally.kinds.items(), key=lambda pair: (-pair[1], pair[0]))[:2]
        said = [shorten(kind) if len(tally.kinds) == 1 else f"{shorten(kind, 18)} {count:,}" for kind, count in common]
        rows.append(Row("failed", "× " + ", ".join(said) + (", …" if len(tally.kinds) > 2 else "")))
    return rows or [Row("count", "no node in this run")]


def counted(counts: Mapping[str, int]) -> str:
    """Say how many ended how.

    >>> counted({"computed": 990, "cached": 9, "failed": 1})
    '990 computed · 9 cached · × 1 failed'
    """
    return " · ".join(f"{'× ' if ended == 'failed' else ''}{counts[ended]:,} {ended}" for ended in ENDINGS if counts.get(ended))


def in_rows(text: str) -> list[str]:
    """Divide a long row between its parts, so that none of them is cut.

    >>> in_rows("13 failed · 92 blocked · 4,207 closed · 1,204 computed · 3 min 2 s")
    ['13 failed · 92 blocked · 4,207 closed · 1,204 computed', '3 min 2 s']
    """
    rows: list[str] = []
    for part in text.split(" · ") if text else ():
        if rows and len(rows[-1]) + len(part) + 3 <= WIDEST:
            rows[-1] += f" · {part}"
        else:
            rows.append(part)
    return rows


def total(found: Iterable[Tally]) -> Tally:
    made = Tally()
    for tally in found:
        made.add(tally)
    return made


def duration(seconds: float) -> str:
    """Say how long something took.

    >>> [duration(seconds) for seconds in (0.0002, 0.25, 3.14159, 75, 3723)]
    ['under 1 ms', '250 ms', '3.1 s', '1 min 15 s', '1 h 2 min']
    """
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms" if seconds >= LEAST else "under 1 ms"
    if seconds < 60:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
