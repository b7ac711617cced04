"""What a directory holds, for people and for scripts: its runs, versions and nodes. Imports no user code and writes nothing."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from cpgraph.errors import CpgraphError, StorageError, nearest
from cpgraph.explain import how_failed
from cpgraph.journal import Journal
from cpgraph.nodes import node_id
from cpgraph.results import ENDINGS
from cpgraph.runs import Run, Version
from cpgraph.summary import counted
from cpgraph.tellings import some
from cpgraph.times import duration
from cpgraph.tracebacks import message_of

__all__ = [
    "find_run",
    "find_version",
    "history_lines",
    "run_facts",
    "runs_of",
    "size_text",
    "status_facts",
    "status_lines",
    "why_lines",
]

CHECKED: Final = 1 << 30  # bytes of a directory that `status` reads through unasked
TRACEBACK: Final = "Traceback (most recent call last):"
MOST_CHANGES: Final = 5  # that are shown of one version in a list of many


def runs_of(directory: str | os.PathLike[str], *, plain: bool = True) -> list[Run]:
    """Give the runs of a directory; plain: their records are shown without the user's classes."""
    with Journal(directory, writable=False) as journal:
        rows = journal.runs()
    return [Run(Path(directory), row, plain=plain) for row in rows if row.graph and row.meta is not None]


def find_run(runs: Sequence[Run], wanted: str | None, directory: object) -> Run:
    """Choose a run by its number; without one, or as 'last', the newest."""
    if wanted in (None, "last"):
        return runs[-1]
    for run in runs:
        if str(run.number) == wanted:
            return run
    known = some([str(run.number) for run in reversed(runs)])
    raise CpgraphError(f"there is no run {wanted} in {directory}", {"newest first": known}, "give the number of a run, or last.")


def find_version(runs: Sequence[Run], wanted: str, directory: object) -> Version:
    """Find a version by its number, `v1041` or `1041`; v0 is the data of the newest of these runs."""
    text = wanted.removeprefix("v")
    if text.isascii() and text.isdigit():
        number = int(text)
        for run in reversed(runs):
            if number == 0:
                return run.history[0]
            numbers = run.line.numbers
            if number in numbers:
                return run.history[numbers.index(number) + 1]
    newest = next((f"v{run.line.numbers[-1]}" for run in reversed(runs) if run.line.numbers), "none")
    raise CpgraphError(
        f"there is no version {wanted!r} in {directory}", {"newest": newest}, "`cpgraph history` lists those of the last run."
    )


# Status


def status_facts(directory: str, *, check: bool | None = None) -> dict[str, Any]:
    """Gather what there is to know of a directory. check: read all of it to find damage; None: if it is not too large."""
    damage: list[str] = []
    with Journal(directory, writable=False, on_damage=lambda path, what: damage.append(f"{path}: {what}")) as journal:
        facts: dict[str, Any] = {"directory": str(directory), "empty": journal.empty, "runs": []}
        size = 0 if journal.empty else journal.size()
        checked = check if check is not None else size <= CHECKED
        rows = journal.runs()
        facts["runs"] = [_run_facts(Run(journal, row, plain=True)) for row in rows if row.graph and row.meta is not None]
        if checked and not journal.empty:
            damage.clear()
            try:
                journal.check()
            except StorageError as error:  # where the file itself is damaged, not all can be looked at
                damage.append(f"{error.path}: {error.facts.get('reason', error.headline)}")
        return {**facts, "bytes": size, "checked": checked, "damaged": len(damage), "damage": damage}


def _run_facts(run: Run) -> dict[str, Any]:
    counts = run.end_meta.get("counts")
    if counts is None:  # killed, or still going on
        ends = [entry.ended for entry in run.line if entry.unit in run.line.steps]
        counts = [ends.count(ended) for ended in ENDINGS]
    return {
        "run": run.number,
        "graph": run.graph,
        "kind": run.meta["kind"],
        "began": time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(run.started)),
        "seconds": round(run.seconds if run.status not in ("running", "killed") else 0.0, 3),
        "status": run.status,
        "process": run.meta["pid"] if run.status == "running" else None,
        "counts": dict(zip(ENDINGS, counts, strict=True)),
    }


def status_lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """Write the status of a directory for people."""
    if facts["empty"] or not facts["runs"]:
        yield f"nothing has run in {facts['directory']} yet"
        return
    yield f"{facts['directory']}: {counted(len(facts['runs']), 'run')}, {size_text(facts['bytes'])}"
    rows = [("run", "graph", "", "began", "took", "status", *ENDINGS)]
    for run in facts["runs"]:
        took = duration(run["seconds"]) if run["seconds"] else ""
        status = f"running (process {run['process']})" if run["process"] else run["status"]
        began = run["began"][:19].replace("T", " ")
        ends = [f"{count:,}" if count else "" for count in run["counts"].values()]
        rows.append((str(run["run"]), run["graph"], run["kind"], began, took, status, *ends))
    yield from _columns(rows)
    if facts["damaged"]:
        yield f"damaged: {facts['damaged']:,} stored things do not agree with their digest; what needs them runs again"
        yield from (f"  {text}" for text in facts["damage"][:10])
    elif facts["checked"]:
        yield "nothing is damaged"
    else:
        yield "not looked through for damage: --check does"


def _columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    used = [place for place in range(len(rows[0])) if any(row[place] for row in rows[1:])]
    widths = {place: max(len(row[place]) for row in rows) for place in used}
    for row in rows:
        cells = [row[place].rjust(widths[place]) if _is_number(place) else row[place].ljust(widths[place]) for place in used]
        yield f"  {'  '.join(cells)}".rstrip()


def _is_number(place: int) -> bool:
    return place in (0, 4) or place > 5


# History


def history_lines(run: Run) -> Iterator[str]:
    """List the versions of a run, each with what it changed."""
    yield f"run {run.number} of {run.graph}, {_moment(run.started)}, {run.status}"
    for version in run.history:
        yield f"v{version.number}  {_about(version)}"
        changes = list(version.diff)
        yield from (f"    {change}" for change in changes[:MOST_CHANGES])
        if len(changes) > MOST_CHANGES:
            yield f"    and {counted(len(changes) - MOST_CHANGES, 'change')} more: cpgraph history v{version.number}"


def version_lines(version: Version) -> Iterator[str]:
    """Show all that one version changed."""
    yield f"v{version.number} of run {version.run.number}  {_about(version)}"
    yield from (f"    {change}" for change in version.diff)


def difference_lines(one: Version, other: Version) -> Iterator[str]:
    """Show what differs between two versions."""
    yield f"from v{one.number} to v{other.number}:"
    yield from (f"    {line}" for line in str(one.run.history.diff(one, other)).splitlines())


def _about(version: Version) -> str:
    if version.damaged:
        return "damaged: what it changed cannot be read"
    if not version.place:
        models = Counter(name for name, _ in version.run.line.initial())
        records = [f"{counted(count, 'record')} of {name}" for name, count in models.items()]
        return f"the data: {', '.join(records) or 'no records'}"
    return f"{_moment(version.time)}  {some(version.nodes)}"


def _moment(when: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(when))


# Nodes


def why_lines(runs: Sequence[Run], node: str, directory: object) -> Iterator[str]:
    """Say why a node of the newest run that has its step ended as it did; of what failed, with the traceback."""
    step, bracket, rest = node.partition("[")
    steps = {name for run in runs for name in run.line.by_step}
    run = next((run for run in reversed(runs) if step in run.line.by_step), None)
    if run is None:
        found = _opening_lines(runs, step, node)
        if found:
            yield from found
            return
    if run is None or (bracket and not rest.endswith("]")):
        said = f"no run in {directory} has a step {step!r}.{nearest(step, steps)}" if run is None else f"{node!r} is not a node"
        raise CpgraphError(said, {"steps": some(sorted(steps))}, "name a node as it is printed, such as parse[7].")
    nodes = run.line.by_step[step]
    if not bracket and () not in nodes:
        yield from _step_lines(run, step)
        return
    key = _find_key(nodes, step, node, rest[:-1], run)
    entry = run.line.entry(nodes[key])
    if entry.ended == "failed":
        yield from _failure_lines(node_id(step, key), run, run.failure_meta(entry))
    else:
        yield run.why(step, key)


def _opening_lines(runs: Sequence[Run], name: str, node: str) -> list[str]:
    """Say how a condition, guard or `each=` failed that is named as it is printed, such as `open of parse[7]`."""
    for run in reversed(runs):
        units = {unit for unit, called in run.meta.get("units", {}).items() if called == name}
        failed = {node_id(name, entry.key): entry for entry in run.line.failed() if entry.unit in units}
        chosen = [known for known in failed if node in (name, known, known.replace('"', ""))]
        if len(chosen) == 1:
            return list(_failure_lines(chosen[0], run, run.failure_meta(failed[chosen[0]])))
        if chosen:
            return [f"{name} failed {len(chosen):,} times in run {run.number}; name one of them, such as {chosen[0]}"]
    return []


def _failure_lines(node: str, run: Run, kept: Mapping[str, Any]) -> Iterator[str]:
    """Show a failure in full; a text that is all there is to show is not shown twice."""
    first, *rest = how_failed(node, run.number, kept).splitlines()
    yield first
    traceback = kept["traceback"].rstrip().splitlines()
    yield from (f"    {line}" for line in (traceback if TRACEBACK in traceback else traceback[1:] or rest))


def _step_lines(run: Run, step: str) -> Iterator[str]:
    ends = run.counts[step]
    if not ends:
        why = "it was cut off before that" if run.status in ("interrupted", "killed") else "nothing was there for it"
        yield f"{step} has no node in run {run.number}, which is {run.status}: {why}."
        return
    yield f"{step} has {counted(sum(ends.values()), 'node')} in run {run.number}; name one of them:"
    for ended in ends:
        found = (key for key, index in run.line.by_step[step].items() if run.line.entry(index).ended == ended)
        yield f"    {ends[ended]:,} {ended}, such as {node_id(step, next(found))}"


def _find_key(nodes: Mapping[tuple[Any, ...], int], step: str, node: str, text: str, run: Run) -> tuple[Any, ...]:
    """Find a node by its id; ids match as text where only one does (rule N3)."""
    alike = []
    for key in nodes:
        if node_id(step, key) == node:
            return key
        if ",".join(map(str, key)) == text:
            alike.append(key)
    if len(alike) == 1:
        return alike[0]
    if alike:
        spelt = ", ".join(node_id(step, key) for key in alike)
        raise CpgraphError(
            f"{node} may be any of several nodes", {"nodes": spelt}, "write it as one of these, in quotes for the shell."
        )
    near = nearest(node, [node_id(step, key) for key in nodes][:10_000])
    raise CpgraphError(f"there is no node {node} in run {run.number}.{near}", mend=f"`cpgraph why {step}` says which there are.")


# One run, for scripts


def run_facts(run: Run) -> dict[str, Any]:
    """Say of a run what a script would want to know, in plain values."""
    return {
        **_run_facts(run),
        "ok": run.ok,
        "steps": run.counts,
        "failures": [
            {
                "node": failure.node,
                "step": failure.step,
                "type": failure.kind,
                "text": message_of(failure.error),
                "place": failure.place,
            }
            for failure in run.failures
        ],
        "hints": [{"kind": hint.kind, "text": hint.text, "mend": hint.mend, "nodes": list(hint.nodes)} for hint in run.hints],
    }


def size_text(size: int) -> str:
    """Write a number of bytes for people.

    >>> size_text(512), size_text(1_500_000)
    ('512 bytes', '1.5 MB')
    """
    if size < 1_000:
        return f"{size} bytes"
    for unit, worth in (("kB", 1e3), ("MB", 1e6)):
        if size < 1_000 * worth:
            return f"{size / worth:.3g} {unit}"
    return f"{size / 1e9:,.3g} GB"
