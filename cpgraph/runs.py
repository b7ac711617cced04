"""What a run was: its nodes, values, records, versions and failures, read from what was committed.

The same `Run` is given by `graph.run`, which has just made it, and by `runs(dir)`, which finds it.
"""

from __future__ import annotations

import os
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Final, TypeVar, overload

import attrs

from cpgraph import data as records_data
from cpgraph.commits import value_of_changes
from cpgraph.errors import CpgraphError, NoValue, nearest
from cpgraph.events import Hint
from cpgraph.execute import Value
from cpgraph.explain import why
from cpgraph.failures import Failure, Failures, rebuilt_error
from cpgraph.fanout import plain_id
from cpgraph.journal import Journal, Row, RunRow
from cpgraph.lines import Change, Entry, Line, StepMeta, differences
from cpgraph.nodes import node_id
from cpgraph.pickles import loads, loads_plain
from cpgraph.results import ENDINGS, read_head
from cpgraph.saves import save_version
from cpgraph.steps import step_name
from cpgraph.store import Store
from cpgraph.tellings import BESIDE
from cpgraph.views import Snapshot, View

__all__ = ["History", "Memory", "NodeReport", "Nodes", "Run", "Version", "runs"]

T = TypeVar("T")
RAISE: Final = object()


@attrs.frozen
class Memory:
    """What only the process that ran knows: values and items that do not pickle, and errors with their own types."""

    values: Mapping[int, Value] = attrs.field(factory=dict)
    errors: Mapping[str, BaseException] = attrs.field(factory=dict)
    items: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen
class NodeReport:
    """How one node ended. `run` and `fingerprint` are those that made its result."""

    id: str
    step: str
    key: tuple[Any, ...]
    ended: str
    reason: str
    seconds: float
    started: float
    run: int
    fingerprint: str
    _record: Callable[[], Any] = attrs.field(repr=False, eq=False)

    @property
    def record(self) -> Any:
        """The innermost record as it came in; the id where it was an item."""
        return self._record()


class Nodes(Sequence[NodeReport]):
    """All nodes of a run; each is made when it is asked for."""

    def __init__(self, run: Run) -> None:
        self._run = run
        line = run.line
        units = line._columns[0]
        self._indexes = [index for index in range(len(line)) if units[index] in line.steps]

    def __len__(self) -> int:
        return len(self._indexes)

    @overload
    def __getitem__(self, index: int) -> NodeReport: ...
    @overload
    def __getitem__(self, index: slice) -> list[NodeReport]: ...
    def __getitem__(self, index: int | slice) -> NodeReport | list[NodeReport]:
        if isinstance(index, slice):
            return self._make(self._indexes[index])
        return self._make([self._indexes[index]])[0]

    def __iter__(self) -> Iterator[NodeReport]:
        for start in range(0, len(self._indexes), 1_000):
            yield from self._make(self._indexes[start : start + 1_000])

    def _make(self, indexes: Sequence[int]) -> list[NodeReport]:
        line = self._run.line
        entries = [line.entry(index) for index in indexes]
        heads = line.heads(entries)
        found = []
        for entry in entries:
            step = line.steps[entry.unit]
            head = heads.get(entry.result)
            failure = self._run.failure_meta(entry) if entry.ended == "failed" else None
            found.append(
                NodeReport(
                    node_id(step.name, entry.key),
                    step.name,
                    entry.key,
                    entry.ended,
                    entry.extra.get("reason", "") or (f"{failure['type']}: {failure['text']}" if failure else ""),
                    head.seconds if head else failure["seconds"] if failure else 0.0,
                    head.started if head else failure["started"] if failure else 0.0,
                    head.run if head else self._run.number,
                    self._run.fingerprint_of(head.run, head.unit) if head else step.fingerprint,
                    partial(self._run.record_of, entry),
                )
            )
        return found


class Version:
    """The store after one commit, with what it changed. Version 0 of a line is its data."""

    def __init__(self, run: Run, place: int) -> None:
        self.run = run
        self.place = place

    @property
    def number(self) -> int:
        """Its number in the directory; numbers go on from run to run. 0 for the data of a line."""
        return self.run.line.numbers[self.place - 1] if self.place else 0

    @property
    def time(self) -> float:
        """When it was committed, in seconds since 1970."""
        return self.run.line.times[self.place - 1] if self.place else self.run.started

    @property
    def nodes(self) -> list[str]:
        """The nodes whose changes it holds."""
        line = self.run.line
        return [node_id(line.steps[entry.unit].name, entry.key) for entry in self.run.writing.get(self.place, ())]

    @property
    def node(self) -> str | None:
        """The node whose changes it holds, if it is one."""
        nodes = self.nodes
        return nodes[0] if len(nodes) == 1 else None

    @property
    def damaged(self) -> bool:
        """Tell whether bytes that it needs do not agree with their digest any more."""
        _ = self.run.line.records
        return self.place >= self.run.line.damaged_from

    @property
    def diff(self) -> Diff:
        """What it changed: a list with an entry for each record."""
        return Diff(self.run.line.changes(self.place) if self.place else [])

    @property
    def view(self) -> View:
        """The records as of this version, as the rest of the library reads them; raises if it is damaged."""
        if self.damaged:
            raise CpgraphError(
                f"version v{self.number} is damaged", {"run": self.run.number}, "go back to an earlier one, or run again."
            )
        return self.run.line.view(self.place)

    @property
    def store(self) -> Store:
        """The records as of this version."""
        return Store(Snapshot(self.view))

    @property
    def data(self) -> dict[str, list[dict[str, Any]]]:
        """All records as plain dicts, by model."""
        return plain_store(self.view)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Save the records and what has been done as a YAML (or JSON) file that a person can edit; `resume` takes it."""
        save_version(self, path)

    def __repr__(self) -> str:
        return f"<Version v{self.number} of run {self.run.number}: {', '.join(self.nodes[:3]) or 'data'}>"


class Diff(list[Change]):
    """Changes, one per record."""

    def __str__(self) -> str:
        return "\n".join(map(str, self)) or "no changes"


class History(Sequence[Version]):
    """The versions of one run's line; `[0]` is its data."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def __len__(self) -> int:
        return len(self._run.line.numbers) + 1

    @overload
    def __getitem__(self, index: int) -> Version: ...
    @overload
    def __getitem__(self, index: slice) -> list[Version]: ...
    def __getitem__(self, index: int | slice) -> Version | list[Version]:
        if isinstance(index, slice):
            return [Version(self._run, place) for place in range(len(self))[index]]
        return Version(self._run, range(len(self))[index])

    def diff(self, a: int | Version, b: int | Version) -> Diff:
        """Give what differs between two versions, named by place in this sequence or themselves."""
        one, other = (self[version] if isinstance(version, int) else version for version in (a, b))
        if one.run is other.run:
            return Diff(self._run.line.difference(one.place, other.place))
        return Diff(between(one, other))


def between(one: Version, other: Version) -> list[Change]:
    """Give what differs between versions of two lines."""
    before, after = one.view, other.view
    found = []
    names = dict.fromkeys([*before.records.tables, *after.records.tables])
    for name in names:
        old = (
            {row.id: (row, state) for row, state in before.rows(before.records.tables[name])}
            if name in before.records.tables
            else {}
        )
        new = (
            {row.id: (row, state) for row, state in after.rows(after.records.tables[name])}
            if name in after.records.tables
            else {}
        )
        for id in dict.fromkeys([*old, *new]):
            row = (new.get(id) or old[id])[0]
            found.extend(differences(_Fixed(old.get(id)), _Fixed(new.get(id)), [row]))  # type: ignore[arg-type]
    return found


class _Fixed:
    def __init__(self, pair: Any) -> None:
        self._state = pair[1] if pair else None

    def state(self, row: Any) -> Any:
        return self._state


def plain_store(view: View) -> dict[str, list[dict[str, Any]]]:
    """Give all records of a view as plain dicts, by model; models without records are left out."""
    found = {}
    for name, table in view.records.tables.items():
        records = [state.record for _, state in view.rows(table)]
        if records:
            plain = records if type(records[0]) is dict else records_data.plain(records)[name]
            found[name] = [dict(record) for record in plain]
    return found


class Run:
    """One run: how it ended, and everything it left."""

    def __init__(
        self,
        journal: Journal | Path,
        row: RunRow,
        classes: Mapping[str, type] | None = None,
        memory: Memory | None = None,
        plain: bool = False,
        drawn: Callable[[Run, Any], str] | None = None,
    ) -> None:
        self._source = journal
        self._row = row
        self._classes = classes
        self._memory = memory or Memory()
        self._plain = plain
        self._drawn = drawn
        self.number = row.number
        self.graph = row.graph
        self.started = row.started

    # Reading

    @cached_property
    def _journal(self) -> Journal:
        if isinstance(self._source, Journal):
            return self._source
        journal = Journal(self._source, writable=False)
        weakref.finalize(self, journal.close)
        return journal

    @cached_property
    def meta(self) -> dict[str, Any]:
        found: dict[str, Any] = loads_plain(self._row.meta) if self._row.meta is not None else {}
        return found

    @cached_property
    def end_meta(self) -> dict[str, Any]:
        found: dict[str, Any] = loads_plain(self._row.end_meta) if self._row.end_meta is not None else {}
        return found

    @cached_property
    def line(self) -> Line:
        assert self._row.meta is not None
        line = Line.read(self._journal, self.number, self._row.meta, self._plain, self._classes)
        line.memory = self._memory.values
        line.relabelled = dict(self.end_meta.get("relabelled", ()))
        return line

    @cached_property
    def writing(self) -> dict[int, list[Entry]]:
        """The entries with changes, by version."""
        found: dict[int, list[Entry]] = {}
        for entry in self.line:
            if entry.writes:
                found.setdefault(entry.version, []).append(entry)
        return found

    @cached_property
    def _metas(self) -> dict[int, dict[str, Any]]:
        return {row.number: loads_plain(row.meta) for row in self._journal.runs() if row.meta is not None}

    def step_meta(self, run: int, unit: int) -> Mapping[str, Any]:
        """Give what was noted of the step that made a result; nothing if that run is gone."""
        meta = self._metas.get(run, {})
        found: Mapping[str, Any] = meta.get("steps", {}).get(unit) or meta.get("adopted", {}).get(unit) or {}
        return found

    def fingerprint_of(self, run: int, unit: int) -> str:
        """Give the fingerprint of the code that made a result."""
        return str(self.step_meta(run, unit).get("fingerprint", ""))

    def inputs_of(self, run: int, unit: int, step: StepMeta) -> tuple[str, ...] | None:
        """Give the names of the inputs of what made a result; where that was another step's equal work, those of `step`."""
        maker = self.step_meta(run, unit)
        return maker.get("inputs") if maker.get("name", step.name) == step.name else step.inputs

    def parts_of(self, run: int, unit: int) -> bytes:
        """Give where the parts of the code that made a result are kept."""
        return bytes(self.step_meta(run, unit).get("parts", b""))

    def blob(self, address: bytes) -> bytes | None:
        return self._journal.blob(address)

    def earlier(self) -> list[Run]:
        """Give the runs of this graph before this one."""
        rows = self._journal.runs(self.graph)
        return [
            Run(self._source, row, self._classes, plain=True) for row in rows if row.number < self.number and row.meta is not None
        ]

    def failure_meta(self, entry: Entry) -> dict[str, Any]:
        return self.failure_metas([entry])[0]

    def failure_metas(self, entries: Sequence[Entry]) -> list[dict[str, Any]]:
        """Give what is kept of failures."""
        rows = self._journal.rows([entry.result for entry in entries])
        return [self._failure_meta(entry, rows.get(entry.result)) for entry in entries]

    def _failure_meta(self, entry: Entry, row: Row | None) -> dict[str, Any]:
        if row is not None:
            found: dict[str, Any] = loads_plain(row.head)
        else:
            step = self.line.steps.get(entry.unit)
            node = node_id(step.name, entry.key) if step is not None else ""
            found = {"node": node, "type": "?", "text": "what is kept of it is damaged", "traceback": "", "place": ""}
            found |= {"attempts": 0, "started": 0.0, "seconds": 0.0}
        hint = self._beside.get(found["node"])
        return (
            {**found, "note": hint.text, "traceback": f"{found['traceback']}{hint.text}\nMend: {hint.mend}\n"} if hint else found
        )

    @cached_property
    def _beside(self) -> dict[str, Hint]:
        """What was told of nodes that failed after a query over what others wrote beside them (rule C1)."""
        return {node: hint for hint in self.hints if hint.kind == BESIDE for node in hint.nodes}

    def record_of(self, entry: Entry) -> Any:
        """Give the innermost record of a node as it came in; of an item its id, or if it failed the item itself."""
        if not entry.key:
            return None
        step = self.line.steps.get(entry.unit)
        if entry.ended == "failed":
            kept = self.failure_meta(entry)
            model = kept.get("model")
            if model is None and kept["node"] in self._memory.items:
                return self._memory.items[kept["node"]]
            if "item" in kept:
                return (loads_plain if self._plain else loads)(kept["item"])
        else:
            model = self.line.scopes[self.line.scopes[step.scope].chain[-1]].model if step is not None else None
        if model is None:
            return plain_id(entry.key[-1])
        row = self.line.records.table(model).rows.get(entry.key[-1])
        if row is None:
            return None
        state = row.base or row.writes[0].state
        return state.record if state is not None else None

    # How it ended

    @property
    def status(self) -> str:
        """ "ok", "failed" or "interrupted"; "running" while another process is at it, "killed" if that was ended."""
        return self._row.status or ("running" if self._row.alive else "killed")

    @property
    def ok(self) -> bool:
        """True if nothing failed or was blocked, and it came to its end."""
        return self.status == "ok"

    def __bool__(self) -> bool:
        return self.ok

    @property
    def seconds(self) -> float:
        """How long it took; 0 if it has not ended."""
        return (self._row.ended or self.started) - self.started

    @cached_property
    def nodes(self) -> Nodes:
        """Every node, with how it ended, when, and whose result it has."""
        return Nodes(self)

    @cached_property
    def counts(self) -> dict[str, dict[str, int]]:
        """How many nodes of each step ended how."""
        units, ended, *_ = self.line._columns
        found: dict[str, dict[str, int]] = {step.name: {} for step in self.line.steps.values()}
        for (unit, end), count in sorted(Counter(zip(units, ended, strict=True)).items()):
            if unit in self.line.steps:
                found[self.line.steps[unit].name][ENDINGS[end]] = count
        return found

    @cached_property
    def failures(self) -> Failures:
        """What failed: nodes, conditions and guards that raised, and conflicts; in graph order, of a killed run by time."""
        found = []
        names = self.meta.get("units", {})
        order = {index: place for place, index in enumerate(self.end_meta.get("failure_order", ()))}
        failed = [entry for entry in self.line if entry.ended == "failed"]
        failed.sort(key=lambda entry: order.get(entry.index, len(order)))
        for entry, kept in zip(failed, self.failure_metas(failed), strict=True):
            step = self.line.steps.get(entry.unit)
            found.append(self._failure(kept, step.name if step else names.get(entry.unit, ""), partial(self.record_of, entry)))
        found.extend(self._failure(kept, kept["step"], lambda: None) for kept in self.end_meta.get("conflicts", ()))
        return Failures(found)

    def _failure(self, kept: Mapping[str, Any], step: str, record: Callable[[], Any]) -> Failure:
        node = kept["node"]
        error = self._memory.errors.get(kept.get("error_id", node)) or rebuilt_error(kept["type"], kept["text"])
        return Failure(
            node, step, error, kept["traceback"], kept["attempts"], kept["type"], kept["place"], record, kept.get("note", "")
        )

    def raise_for_failures(self) -> None:
        """Raise an `ExceptionGroup` of all failures' errors, if there are any; a run cut off before its end is an error too."""
        errors = [
            error if isinstance(error, Exception) else CpgraphError(f"{type(error).__name__}: {error}")
            for error in (f.error for f in self.failures)
        ]
        if errors:
            count = f"{len(errors)} failure{'s' if len(errors) > 1 else ''}"
            raise ExceptionGroup(f"{count} in run {self.number} of {self.graph}", errors)
        if not self.ok:
            raise CpgraphError(f"run {self.number} of {self.graph} did not come to its end: {self.status}", mend="resume it.")

    @cached_property
    def hints(self) -> list[Hint]:
        """What was told."""
        return [Hint(*fields) for fields in self.end_meta.get("hints", ())]

    # Values

    @overload
    def value(self, step: Callable[..., Coroutine[Any, Any, T]], id: Any = ..., *, default: Any = ...) -> T: ...
    @overload
    def value(self, step: Callable[..., T], id: Any = ..., *, default: Any = ...) -> T: ...
    @overload
    def value(self, step: str, id: Any = ..., *, default: Any = ...) -> Any: ...
    def value(self, step: Any, id: Any = RAISE, *, default: Any = RAISE) -> Any:
        """Give a step's value, by step or name; with an id (a tuple for nested ones) for one inside an `each`.

        Raises `NoValue`, which says how the node ended, unless a default is given.
        """
        name = self._name(step)
        key = () if id is RAISE else id if isinstance(id, tuple) else (id,)
        index = self.line.by_step[name].get(key)
        if index is not None:
            entry = self.line.entry(index)
            if entry.ended in ("computed", "cached"):
                return self._value(entry)
        if default is not RAISE:
            return default
        raise self._no_value(name, key, index)

    def values(self, step: Any) -> dict[Any, Any]:
        """Give a step's values by id (tuples for nested ids), of all nodes that have one, in the order of their records."""
        name = self._name(step)
        found = {}
        for key, index in self._ordered(name):
            entry = self.line.entry(index)
            if entry.ended in ("computed", "cached"):
                found[plain_id(key[0]) if len(key) == 1 else tuple(map(plain_id, key))] = self._value(entry)
        return found

    def _ordered(self, name: str) -> list[tuple[tuple[Any, ...], int]]:
        """Give a step's nodes in record order; items come in the order in which they were given."""
        line = self.line
        nodes = list(line.by_step[name].items())
        step = next(step for step in line.steps.values() if step.name == name)
        places = self._places(step.scope)
        return sorted(nodes, key=lambda node: [place.get(id, len(place)) for place, id in zip(places, node[0], strict=False)])

    def _places(self, scope: int) -> list[dict[Any, int]]:
        found = []
        items = self.end_meta.get("items", {})
        for index in self.line.scopes[scope].chain:
            meta = self.line.scopes[index]
            if meta.model is None:
                found.append({id: place for place, id in enumerate(items.get(index, ()))})
            else:
                rows = sorted(self.line.records.table(meta.model).rows.values(), key=lambda row: row.rank)
                found.append({row.id: place for place, row in enumerate(rows)})
        return found

    def _value(self, entry: Entry) -> Any:
        row = self._journal.rows([entry.result]).get(entry.result)
        if row is not None:
            head = read_head(row.head, self._plain)
            if head.changes and head.shape != "value":
                step = self.line.steps[entry.unit]
                return value_of_changes(
                    head.changes, head.shape, self.line.own(step, entry.key)[1], node_id(step.name, entry.key)
                )
        try:
            return self.line.value(entry.result)
        except LookupError:
            step = self.line.steps[entry.unit]
            raise NoValue(
                f"the value of {node_id(step.name, entry.key)} is not there any more",
                {"run": self.number},
                "it did not pickle, or was damaged: run again to have it.",
            ) from None

    def _name(self, step: Any) -> str:
        name = step if isinstance(step, str) else step_name(step)
        if name not in self.line.by_step:
            raise NoValue(
                f"no step of {self.graph!r} is called {name!r}.{nearest(name, self.line.by_step)}",
                {"steps": ", ".join(list(self.line.by_step)[:20])},
                "name a step of the graph.",
            )
        return name

    def _no_value(self, name: str, key: tuple[Any, ...], index: int | None) -> NoValue:
        node = node_id(name, key)
        if index is not None:
            entry = self.line.entry(index)
            report = self.nodes._make([index])[0]
            return NoValue(
                f"{node} has no value: it ended as {entry.ended}",
                {"reason": report.reason} if report.reason else None,
                "ask for it with default=…: what is closed has no value." if entry.ended == "closed" else "see run.failures.",
            )
        known = [node_id(name, other) for other in list(self.line.by_step[name])[:3]]
        if known and not key:
            return NoValue(
                f"{name} has a value for each record or item", {"nodes": ", ".join(known)}, "give an id, or ask run.values()."
            )
        return NoValue(
            f"there is no node {node} in this run",
            {"nodes": ", ".join(known)} if known else None,
            "give the id of one that there is.",
        )

    # Records

    @property
    def store(self) -> Store:
        """The records at the end."""
        return self.history[-1].store

    @property
    def data(self) -> dict[str, list[dict[str, Any]]]:
        """All records at the end as plain dicts, by model."""
        return self.history[-1].data

    @cached_property
    def history(self) -> History:
        """The versions of this run's line, its data first."""
        return History(self)

    # Saying

    def why(self, step: Any, *ids: Any) -> str:
        """Say why a node ran, or did not, with the facts that were recorded."""
        name = self._name(step)
        key = ids[0] if len(ids) == 1 and isinstance(ids[0], tuple) else ids
        return why(self, name, key)

    def render(self, path: str | os.PathLike[str] | None = None) -> str:
        """Draw the graph with this run's counts and colours; the suffix says how, without a path it is SVG text."""
        if self._drawn is None:
            raise CpgraphError(
                "this run does not know its graph", mend="render it through the graph: graph.render(path, run=run)."
            )
        return self._drawn(self, path)

    def __repr__(self) -> str:
        return f"<Run {self.number} of {self.graph!r}: {self.status}>"


def runs(dir: str | os.PathLike[str] = ".cpgraph") -> list[Run]:
    """Give the runs of a directory, newest last; none where nothing has run."""
    path = Path(dir)
    journal = Journal(path, writable=False)
    try:
        return [Run(path, row) for row in journal.runs() if row.graph and row.meta is not None]
    finally:
        journal.close()
