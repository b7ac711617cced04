"""What a run says when it has ended: what failed, what was told, and how to go on, in lines for people.

Pure: it makes texts of what it is given, and prints nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import attrs

from cpgraph.errors import ConflictError
from cpgraph.events import Hint
from cpgraph.failures import Failure, headline
from cpgraph.results import ENDINGS
from cpgraph.runs import Run
from cpgraph.tellings import some
from cpgraph.times import duration
from cpgraph.tracebacks import text_of

__all__ = ["Origin", "Outcomes", "counted", "last_line", "short_path", "summary"]

MOST_GROUPS: Final = 10
MOST_HINTS: Final = 20
MOST_LINES: Final = 40  # of the traceback that is shown
WIDTH: Final = 160  # characters of a text that is shown in one line


@attrs.frozen
class Origin:
    """How a run was asked for, so that the commands it suggests repeat that (rule F4).

    target: what the command takes, such as `orders.py`; empty where it cannot name the graph. call: what stands before
    `resume(…)` in a script, such as `graph`; empty for runs of the command. given: the `--dir` and `--set` of this run, as they
    were given. directory: where results are kept; None in memory.
    """

    target: str = ""
    call: str = ""
    given: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    directory: str | None = ".cpgraph"

    def command(self, verb: str, *more: str) -> str:
        """Write a command line that goes on from this run."""
        return shell_line(["cpgraph", verb, self.target, *more, *self.given])

    def reader(self, verb: str, *more: str) -> str:
        """Write a command line that only reads the directory."""
        where = () if self.directory in (None, ".cpgraph") else ("--dir", self.directory)
        return shell_line(["cpgraph", verb, *more, *(part for part in where if part)])


@attrs.frozen
class Outcomes:
    """How the nodes of a run ended, by step; skipped: how many failures each pipeline with `on_error="skip"` went on without."""

    steps: Mapping[str, Sequence[int]] = attrs.field(factory=dict)
    skipped: Mapping[str, int] = attrs.field(factory=dict)
    hints: Sequence[Hint] = ()
    damaged: int = 0

    @property
    def totals(self) -> dict[str, int]:
        """How many nodes ended how, of all steps together."""
        return dict(zip(ENDINGS, map(sum, zip(*self.steps.values(), strict=True)), strict=True)) if self.steps else {}


def summary(run: Run, outcomes: Outcomes, origin: Origin) -> list[str]:
    """Say what there is to say at the end of a run; the last line is the shortest way to say it."""
    failures = list(run.failures) if run.status != "ok" else []
    lines = [*_failed(run, failures), *_blocked(outcomes), *_skipped(outcomes), *_told(outcomes), *_damaged(outcomes, origin)]
    if not run.ok:
        lines += _how_to_go_on(run, failures, origin)
    return [*lines, last_line(run, outcomes, failures, origin)]


# What failed


def _failed(run: Run, failures: list[Failure]) -> Iterator[str]:
    if not failures:
        return
    groups = run.failures.groups()
    what = counted(len(failures), "failure") + (f", of {len(groups)} kinds" if len(groups) > 1 else "")
    yield f"{what}:"
    for group in groups[:MOST_GROUPS]:
        first = group[0]
        place = f" at {short_path(first.place)}" if first.place else ""
        yield f"  {len(group):,} × {_one_line(headline(group))}"
        yield f"      {place.strip()}{' in ' if place else ''}{some([failure.node for failure in group])}"
    if len(groups) > MOST_GROUPS:
        yield f"  and {len(groups) - MOST_GROUPS} kinds more: see run.failures"
    yield from _in_full(groups[0][0])


def _in_full(failure: Failure) -> Iterator[str]:
    tried = f", after {failure.attempts} attempts" if failure.attempts > 1 else ""
    yield f"{failure.node} in full{tried}:"
    if failure.record is not None:
        yield f"    given: {_one_line(_shown(failure.record))}"
    lines = (failure.traceback or text_of(failure.error)).rstrip().splitlines()
    if len(lines) > MOST_LINES:
        half = MOST_LINES // 2
        lines = [*lines[:half], f"  … {len(lines) - 2 * half} lines left out …", *lines[-half:]]
    yield from (f"    {line}" for line in lines)


def _shown(record: object) -> str:
    try:
        return repr(record)
    except Exception:  # a __repr__ of the user's
        return type(record).__name__


def _blocked(outcomes: Outcomes) -> Iterator[str]:
    blocked = {step: ended[ENDINGS.index("blocked")] for step, ended in outcomes.steps.items()}
    steps = [f"{count:,} of {step}" for step, count in blocked.items() if count]
    if steps:
        yield f"blocked behind what failed: {some(steps)}"


def _skipped(outcomes: Outcomes) -> Iterator[str]:
    for pipeline, count in outcomes.skipped.items():
        yield f'skipped as asked: {count:,} of {pipeline} (on_error="skip")'


# What was told


def _told(outcomes: Outcomes) -> Iterator[str]:
    if not outcomes.hints:
        return
    yield "told:"
    for hint in outcomes.hints[:MOST_HINTS]:
        about = f" ({some(list(hint.nodes))})" if hint.nodes else ""
        yield f"  {hint.text}{about}"
        if hint.mend:
            yield f"      Mend: {hint.mend}"
    if len(outcomes.hints) > MOST_HINTS:
        yield f"  and {len(outcomes.hints) - MOST_HINTS} more: see run.hints"


def _damaged(outcomes: Outcomes, origin: Origin) -> Iterator[str]:
    if outcomes.damaged:
        yield f"damaged: {outcomes.damaged:,} stored things did not agree with their digest and were not used"
        yield f"      Mend: {origin.reader('status')} says which."


# How to go on


def _how_to_go_on(run: Run, failures: list[Failure], origin: Origin) -> Iterator[str]:
    if origin.directory is None:
        yield 'this run was kept in memory: give dir=".cpgraph" to be able to go on from one'
        return
    rows: list[tuple[str, str]] = []
    if origin.target:
        rows.append((origin.command("resume"), "keeps what worked, and does the rest"))
    if origin.call:
        text = "the same, from Python" if rows else "keeps what worked, and does the rest"
        rows.append((f"{origin.call}.resume({', '.join(origin.arguments)})", text))
    if failures:
        groups = run.failures.groups()
        other = groups[1][0] if len(groups) > 1 else groups[0][-1]  # than the one that is shown already
        rows.append((origin.reader("why", other.node), "shows one failure in full"))
    width = max((len(row[0]) for row in rows), default=0)
    yield "mend it, and go on:" if failures else "go on:"
    yield from (f"  {command:<{width}}  {text}" for command, text in rows)


def last_line(run: Run, outcomes: Outcomes, failures: Sequence[Failure] = (), origin: Origin | None = None) -> str:
    """Sum up a run in one line (rule R8)."""
    totals = Counter(outcomes.totals)
    if run.status == "ok" and not totals["computed"]:
        return f"ok: {_counts(totals)}: {_nothing(run, totals, origin)}"
    conflicts = sum(isinstance(failure.error, ConflictError) for failure in failures)
    asked = len(failures) - conflicts - totals["failed"]  # conditions, guards and the like: neither they nor conflicts are nodes
    more = f", {counted(asked, 'failure')} of open= or each=" if asked > 0 else ""
    more += f", {counted(conflicts, 'conflict')}" if conflicts else ""
    return f"{run.status}: {_counts(totals)}{more} in {duration(run.seconds)}"


def _nothing(run: Run, totals: Mapping[str, int], origin: Origin | None) -> str:
    if not totals.get("cached"):
        return "there was nothing to do"
    how = "--redo STEP" if origin is not None and not origin.call else "redo=…"
    return f"{'nothing was left to do' if run.meta.get('kind') == 'resume' else 'nothing had changed'} ({how} computes it anew)"


def _counts(totals: Mapping[str, int]) -> str:
    return ", ".join(f"{totals.get(ended, 0):,} {ended}" for ended in ENDINGS if totals.get(ended) or ended == "computed")


# Words


def counted(count: int, noun: str) -> str:
    """Write a number with its noun.

    >>> counted(1, "failure"), counted(1200, "failure")
    ('1 failure', '1,200 failures')
    """
    return f"{count:,} {noun}" + ("" if count == 1 else "s")


def short_path(place: str) -> str:
    """Write a path (or file:line) as seen from here, if it lies here.

    >>> short_path(os.path.join(os.getcwd(), "orders.py:14"))
    'orders.py:14'
    """
    try:
        here = os.getcwd() + os.sep
    except OSError:
        return place
    return place[len(here) :] if place.startswith(here) else place


def shell_line(parts: Iterable[str]) -> str:
    """Write a command line as it would have to be typed.

    >>> shell_line(["cpgraph", "why", "parse[7]"]) if os.name == "posix" else "cpgraph why 'parse[7]'"
    "cpgraph why 'parse[7]'"
    """
    if os.name == "nt":
        import subprocess

        return subprocess.list2cmdline(parts)
    import shlex

    return shlex.join(parts)


def _one_line(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"
