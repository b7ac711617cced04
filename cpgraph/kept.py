"""What a resume goes on from: the last run, a version, or a saved one (rule R3)."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Final

import attrs

from cpgraph.digest import digest
from cpgraph.errors import CpgraphError
from cpgraph.journal import Journal, Row, RunRow
from cpgraph.lines import Line
from cpgraph.nodes import Kept
from cpgraph.pickles import loads, loads_plain
from cpgraph.records import State
from cpgraph.results import ADOPTED, Head, Taken, maker_of, read_head, write_head
from cpgraph.runs import Run, Version
from cpgraph.saved import read_saved
from cpgraph.structure import Compiled
from cpgraph.tellings import some

__all__ = ["Last", "Resumed", "last_run", "resume_from"]


class Last:
    """A run of this graph that is over, with its line."""

    def __init__(self, journal: Journal, row: RunRow) -> None:
        assert row.meta is not None
        self.journal = journal
        self.row = row
        self.meta: dict[str, Any] = loads_plain(row.meta)
        self.line = Line.read(journal, row.number, row.meta, plain=True)

    def failed(self, compiled: Compiled) -> frozenset[tuple[int, tuple[Any, ...]]]:
        """Give the instances in which a node failed, as (scope now, ids)."""
        names = {unit: step.name for unit, step in self.line.steps.items()}
        found = set()
        for entry in self.line.failed():
            if entry.key and names.get(entry.unit) in compiled.steps:
                unit = compiled.units[compiled.steps[names[entry.unit]]]
                found.add((unit.scope, entry.key))
        return frozenset(found)

    def computed_by_run(self, now: Mapping[str, str], fingerprint_of: Callable[[int, int], str]) -> tuple[int, float]:
        """Count what this run has and `run` will compute, since the code is another now; and about how long that takes.

        What an earlier run made by the code as it is now, of the same inputs, is in the cache.
        """
        if self.meta["kind"] != "resume":  # all it has is of the code that it had: nothing has to be read of what is so still
            was = {step.name: step.fingerprint for step in self.line.steps.values()}
            now = {name: code for name, code in now.items() if name in was and was[name] != code}
            if not now:
                return 0, 0.0
        lines = [self.line, *(Line.read(self.journal, row.number, row.meta, plain=True) for row in self._before())]
        edited = self._entries(self.line, now, lambda maker, code: maker != code, fingerprint_of)
        for line in lines[1:]:
            if not edited:
                break
            for node, (parts, _) in self._entries(line, now, lambda maker, code: maker == code, fingerprint_of, edited).items():
                if edited[node][0] == parts:
                    del edited[node]
        return len(edited), sum(seconds for _, seconds in edited.values())

    def _before(self) -> list[Any]:
        rows = self.journal.runs(self.row.graph)
        return [row for row in reversed(rows) if row.number < self.row.number and row.meta is not None][:RUNS_BEFORE]

    def _entries(
        self,
        line: Line,
        now: Mapping[str, str],
        wanted: Callable[[str, str], bool],
        fingerprint_of: Callable[[int, int], str],
        among: Container[tuple[str, tuple[Any, ...]]] | None = None,
    ) -> dict[tuple[str, tuple[Any, ...]], tuple[bytes, float]]:
        """Give inputs and seconds of the nodes of a line whose results were made by code that is wanted."""
        names = {unit: step.name for unit, step in line.steps.items() if step.name in now}
        nodes = [(names[entry.unit], entry) for entry in line if entry.unit in names and entry.ended in ("computed", "cached")]
        nodes = [(name, entry) for name, entry in nodes if among is None or (name, entry.key) in among]
        heads = line.heads([entry for _, entry in nodes])
        found = {}
        for name, entry in nodes:
            head = heads.get(entry.result)
            if head is not None and wanted(fingerprint_of(head.run, head.unit), now[name]):
                found[name, entry.key] = (head.parts, self.took(head))
        return found

    def took(self, head: Head) -> float:
        """Give about how long a node took among those that its run had side by side."""
        return head.seconds * self._spreads.get(head.run, 1.0)

    @cached_property
    def _spreads(self) -> dict[int, float]:
        """Give for each run how long it took for each second that its nodes took, one after another."""
        ends = {row.number: loads_plain(row.end_meta) for row in self.journal.runs() if row.end_meta is not None}
        return {number: end["spread"] for number, end in ends.items() if "spread" in end}


def last_run(journal: Journal, graph: str) -> Last | None:
    """Find the last run of a graph that is over; one killed before its first commit does not count."""
    for row in reversed(journal.runs(graph)):
        if row.meta is None or row.alive:
            continue
        last = Last(journal, row)
        if row.status is not None or len(last.line):
            return last
    return None


RUNS_BEFORE: Final = 20  # in which results made by the code as it is now are looked for


@attrs.define
class Resumed:
    """What is carried on: results by node, data and parameters if none are given, and what to say.

    `taken` gives the results that were made elsewhere, by the units `adopted`. `lost` are parameters that were given and could
    not be saved. `edited` are records that a node creates and that were edited by hand, or taken out (None), in a saved version.
    `line` is that of the run resumed.
    """

    number: int | None
    text: str
    kept: Kept
    params: Mapping[str, Any]
    source: tuple[str, Any]
    states: Callable[[Mapping[str, type]], list[State]] | None
    steps: Mapping[str, Mapping[str, Any]]
    adopted: Mapping[int, Mapping[str, Any]] = attrs.field(factory=dict)
    taken: Callable[[], Iterable[Taken]] | None = None
    lost: Sequence[str] = ()
    edited: Mapping[tuple[str, Any], Mapping[str, Any] | None] = attrs.field(factory=dict)
    hints: Sequence[tuple[str, str, str]] = ()
    line: Callable[[], Line] | None = None

    def compare(self, states: Iterable[State]) -> None:
        """See which records of the run resumed are others now, or gone, so that it is told (rule R3)."""
        if self.line is None:
            return
        try:
            before = {(model, type(fields["id"]), fields["id"]): fields for model, fields in self.line().initial()}
        except Exception:  # values of classes that are no more
            return
        changed = []
        for state in states:
            record = state.record
            old = before.pop((type(record).__name__, type(record.id), record.id), None)
            new = {field.name: getattr(record, field.name) for field in attrs.fields(type(record))}
            if old is not None and old != new and not _alike(old, new):
                changed.append(f"{type(record).__name__} {record.id!r}")
        gone = [f"{model} {id!r}" for model, _, id in before]
        found = [
            ("data-changed", changed, "not as in the run resumed: what asks for that runs again"),
            ("data-gone", gone, "not in the data any more, and gone with all that was done for it"),
        ]
        self.hints = (*self.hints, *((kind, f"{some(names)}: {text}", "") for kind, names, text in found if names))

    def adopt(self, journal: Journal, number: int) -> Kept:
        """Take results that were made elsewhere over into this journal; where it is only read, they are kept beside it."""
        if self.taken is None:
            return self.kept
        results: dict[tuple[str, tuple[Any, ...]], int] = {}
        rows: dict[int, Row] = {}
        for node, head, value in self.taken():
            packed = write_head(attrs.evolve(head, run=number))
            if journal.writable:
                results[node] = journal.put(None, packed, value)
            else:
                results[node] = id = -1 - len(rows)
                rows[id] = Row(id, packed, value, False)
        return attrs.evolve(self.kept, results=results, rows=rows)

    def tell(self, compiled: Compiled, told: Callable[..., None]) -> None:
        """Tell what changed in the graph's structure, and in a saved version."""
        for kind, text, mend in self.hints:
            told(kind, text, mend)
        new = [name for name in compiled.steps if name not in self.steps]
        gone = [name for name in self.steps if name not in compiled.steps]
        if new and self.steps:
            told("steps-new", f"new since then, and run now: {', '.join(new)}", "", "", "graph")
        if gone:
            told("steps-gone", f"not in the graph any more, and dropped: {', '.join(gone)}", "", "", "graph")


def _alike(old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    try:
        return digest(sorted(old.items())) == digest(sorted(new.items()))
    except Exception:  # a file that is gone
        return False


def resume_from(start: Any, journal: Journal, compiled: Compiled) -> Resumed:
    """Find what to resume: None for the last run, else a version, a run, or the path of a saved version."""
    if isinstance(start, Run):
        start = start.history[-1]
    if isinstance(start, Version):
        return _from_version(start, journal)
    if isinstance(start, str | os.PathLike):
        return _from_saved(os.fspath(start), compiled)
    if start is not None:
        raise CpgraphError(
            f"resume() cannot start from {start!r}", mend="give a version of a history, or the path of a saved one."
        )
    last = last_run(journal, compiled.name)
    if last is None:
        names = {row.graph for row in journal.runs() if row.graph}
        others = sorted(names - {compiled.name})
        facts = {"runs of it": "none came to its first commit"} if compiled.name in names else {}
        raise CpgraphError(
            f"there is no run of {compiled.name!r} in {journal.directory or 'memory'} to resume",
            {**facts, "graphs that have run there" if not facts else "other graphs": ", ".join(others) or "none"},
            "say run first, or name the graph as it was: Graph(…, name=…)." if others else "say run first.",
        )
    return _from_last(last)


def _from_last(last: Last) -> Resumed:
    chain = [last]
    while chain[-1].meta["kind"] == "resume" and chain[-1].row.status in (None, "interrupted") and chain[-1].meta["resumed"]:
        number = chain[-1].meta["resumed"]
        row = next((row for row in last.journal.runs() if row.number == number and row.meta is not None), None)
        if row is None:
            break
        chain.append(Last(last.journal, row))
    results: dict[tuple[str, tuple[Any, ...]], int] = {}
    failed: set[tuple[str, tuple[Any, ...]]] = set()
    for one in reversed(chain):
        _collect(one.line, results, failed, None)
    params = last.meta.get("params")
    body = last.journal.blob(params) if params else None
    done = len(results)
    return Resumed(
        last.row.number,
        f"from run {last.row.number} ({last.row.status or 'killed'}), {done:,} node{'s' if done != 1 else ''} done",
        _kept(results, failed, last.line),
        loads(body) if body is not None else {},
        tuple(last.meta["source"]),
        None if last.meta["source"][0] in ("path", "function") else _states_of(last.journal, last.row),
        {step["name"]: step for step in last.meta["steps"].values()},
        line=lambda: Line.read(last.journal, last.row.number, last.row.meta or b""),
    )


def _states_of(journal: Journal, row: RunRow) -> Callable[[Mapping[str, type]], list[State]]:
    def states(models: Mapping[str, type]) -> list[State]:
        assert row.meta is not None
        line = Line.read(journal, row.number, row.meta, classes=dict(models))
        return [state for state in (table_row.base for table_row in _in_order(line)) if state is not None]

    return states


def _in_order(line: Line) -> list[Any]:
    records = line.base_records()
    return sorted((row for table in records.tables.values() for row in table.rows.values()), key=lambda row: row.rank)


def _collect(
    line: Line,
    results: dict[tuple[str, tuple[Any, ...]], int],
    failed: set[tuple[str, tuple[Any, ...]]],
    upto: int | None,
) -> None:
    """Take which nodes a line completed, and which failed, over what is there."""
    names = {unit: step.name for unit, step in line.steps.items()}
    for entry in line:
        if upto is not None and entry.version > upto:
            break
        name = names.get(entry.unit)
        if name is None:
            continue
        node = name, entry.key
        if entry.ended in ("computed", "cached"):
            results[node] = entry.result
            failed.discard(node)
        elif entry.ended == "failed":
            results.pop(node, None)
            failed.add(node)


def _kept(results: Mapping[tuple[str, tuple[Any, ...]], int], failed: Iterable[tuple[str, tuple[Any, ...]]], line: Line) -> Kept:
    """Say in which instances of a line nodes failed; a step that it does not have any more has not."""
    scopes = {step.name: step.scope for step in line.steps.values()}
    inputs = {step.name: step.inputs for step in line.steps.values()}
    return Kept(results, frozenset((scopes[name], key) for name, key in failed if name in scopes), scopes, inputs)


def _from_version(version: Version, journal: Journal) -> Resumed:
    run = version.run
    line = run.line
    results: dict[tuple[str, tuple[Any, ...]], int] = {}
    failed: set[tuple[str, tuple[Any, ...]]] = set()
    _collect(line, results, failed, version.place)
    same = _is_same(journal, line.journal)
    steps = {step["name"]: step for step in run.meta["steps"].values()}
    adopted, taken = ({}, None) if same else _take(run, results)
    params = run.meta.get("params")
    body = line.journal.blob(params) if params else None

    def states(models: Mapping[str, type]) -> list[State]:
        return [row.base for row in _in_order(line) if row.base is not None]

    return Resumed(
        run.number if same else None,
        f"from version v{version.number} of run {run.number}, {len(results):,} node{'s' if len(results) != 1 else ''} done",
        _kept(results, failed, line),
        loads(body) if body is not None else {},
        ("records", None),
        states,
        steps,
        adopted,
        taken,
        line=lambda: line,
    )


def _is_same(one: Journal, other: Journal) -> bool:
    if one.directory is None or other.directory is None:
        return False
    try:
        return os.path.samefile(one.directory, other.directory)
    except OSError:  # where nothing has run yet there is none
        return False


def _take(
    run: Run, results: Mapping[tuple[str, tuple[Any, ...]], int]
) -> tuple[dict[int, dict[str, Any]], Callable[[], Iterable[Taken]]]:
    """Give the results of another directory for this one, and who made them: whatever ran there, they stay marked with that."""
    journal = run.line.journal
    rows = journal.rows(list(results.values()))
    units: dict[tuple[int, int], int] = {}
    adopted: dict[int, dict[str, Any]] = {}
    for result in results.values():
        row = rows.get(result)
        maker = row and maker_of(row.head)
        made = run.step_meta(*maker) if maker else {}
        if maker and maker not in units and made:
            units[maker] = unit = ADOPTED + len(units)
            adopted[unit] = {**made, "parts": b""}

    def taken() -> Iterator[Taken]:
        for node, result in results.items():
            row = rows.get(result)
            unit = units.get(maker_of(row.head)) if row is not None else None
            if row is None or unit is None:
                continue
            value = row.value if not row.large else journal.value(result)
            if value is not None:
                yield node, attrs.evolve(read_head(row.head), unit=unit), value

    return adopted, taken


def _from_saved(path: str, compiled: Compiled) -> Resumed:
    saved = read_saved(path, compiled)
    return Resumed(
        None,
        saved.text,
        Kept({node: 0 for node, _, _ in saved.taken}, frozenset(), {}),
        saved.params,
        ("records", None),
        lambda models: list(saved.states),
        saved.steps,
        saved.adopted,
        lambda: saved.taken,
        saved.lost,
        saved.edited,
        saved.hints,
    )
