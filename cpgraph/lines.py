"""Reading a run back: its nodes, and the records as of each of its versions.

A *line* is what one run committed, in order. The same rows that the run wrote are read through the same store; no
user code is needed, except where records are to be instances of the user's classes.
"""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import attrs

from cpgraph.commits import derived_id
from cpgraph.digest import resolve
from cpgraph.execute import Value
from cpgraph.journal import Journal
from cpgraph.models import AUTO
from cpgraph.nodes import node_id
from cpgraph.pickles import Unpicklable, loads, loads_plain
from cpgraph.ranks import Rank, settled
from cpgraph.records import Records, Row, State, Write
from cpgraph.results import ENDINGS, Entries, Head, read_head
from cpgraph.views import View

__all__ = ["Change", "Entry", "Line", "ScopeMeta", "StepMeta"]


@attrs.frozen
class StepMeta:
    """What a run's meta says of a step."""

    name: str
    unit: int
    scope: int
    sets: str | None
    fingerprint: str
    inputs: tuple[str, ...]
    where: str
    parts: bytes = b""


@attrs.frozen
class ScopeMeta:
    """What a run's meta says of an `each`: what it ranges over, the scopes around it, and where it starts."""

    index: int
    chain: tuple[int, ...]
    model: str | None
    item: str | None
    position: int


@attrs.frozen
class Entry:
    """How one node ended: the unit, the ids, and the result it has. `version`: its place in the line, from 1."""

    index: int
    unit: int
    key: tuple[Any, ...]
    ended: str
    result: int
    version: int
    writes: bool
    extra: Mapping[str, Any]


@attrs.frozen
class Change:
    """One difference between two versions: "create", "update" or "delete" of one record; fields as (old, new)."""

    action: str
    model: str
    id: Any
    fields: Mapping[str, tuple[Any, Any]]

    def __str__(self) -> str:
        if self.action == "delete":
            return f"delete {self.model} {self.id!r}"
        shown = ", ".join(
            f"{name}: {old!r} → {new!r}" if self.action == "update" else f"{name}={new!r}"
            for name, (old, new) in self.fields.items()
        )
        return f"{self.action} {self.model} {self.id!r} ({shown})"


class _Spot:
    """An instance as far as order is concerned (see `ranks.Spot`)."""

    __slots__ = ("chain", "generation", "place", "position", "row")

    def __init__(self, position: int, rank: Rank, row: Row | None, chain: tuple[Any, ...], generation: int) -> None:
        self.position = position
        self.place = rank
        self.row = row
        self.chain = (*chain, self)
        self.generation = max(generation, self.rank.generation)

    @property
    def rank(self) -> Rank:
        """The rank of its record, which a further creator may lower, or of its item."""
        return self.row.rank if self.row is not None else self.place


class Line:
    """The committed entries of one run, as far as they can be read."""

    def __init__(
        self,
        journal: Journal,
        number: int,
        meta: Mapping[str, Any],
        classes: Mapping[str, type] | None = None,
        plain: bool = False,
    ) -> None:
        self.journal = journal
        self.number = number
        self.meta = meta
        self._given = classes or {}
        self.plain = plain
        self.steps: dict[int, StepMeta] = {unit: StepMeta(**fields) for unit, fields in meta["steps"].items()}
        self.scopes: list[ScopeMeta] = [ScopeMeta(**fields) for fields in meta["scopes"]]
        self.memory: Mapping[int, Value] = {}
        self.damaged_from: float = float("inf")
        self.relabelled: Mapping[int, int] = {}
        self._creators: dict[Row, list[Rank]] = {}

    @classmethod
    def read(
        cls, journal: Journal, number: int, packed: bytes, plain: bool = False, classes: Mapping[str, type] | None = None
    ) -> Line:
        """Read a run's meta; the user's classes are those given, or are imported."""
        return cls(journal, number, loads_plain(packed), classes, plain)

    @cached_property
    def classes(self) -> dict[str, type | None]:
        """Give the models of the records, imported when a record is first asked for; None for what is read plain.

        A class that cannot be found from here, such as one made in a function, is no reason not to show its records.
        """
        named = self.meta["models"].items()
        return {name: None if self.plain else self._given.get(name) or _class(model) for name, model in named}

    def _loaded(self, body: bytes) -> Any:
        """Load what holds values of records: as they were, or where their classes are not to be found, as it can be shown."""
        if not self.plain:
            with contextlib.suppress(Unpicklable):
                return loads(body)
        return loads_plain(body)

    # Entries, as columns

    @cached_property
    def _columns(
        self,
    ) -> tuple[array[int], bytearray, array[int], array[int], list[tuple[Any, ...]], dict[int, dict[str, Any]], bytearray]:
        units, ended, results, versions = array("I"), bytearray(), array("Q"), array("I")
        keys: list[tuple[Any, ...]] = []
        extras: dict[int, dict[str, Any]] = {}
        writes = bytearray()
        count = 0
        numbers: list[int] = []
        times: list[float] = []
        for batch in self.journal.batches(self.number):
            numbers.extend(range(batch.first_version, batch.first_version + batch.versions))
            times.extend([batch.time] * batch.versions)
            if batch.body is None:
                self.damaged_from = min(self.damaged_from, count + 1)
                count += batch.versions
                continue
            entries = Entries.unpack(batch.body, self._loaded)
            extras.update((len(units) + index, extra) for index, extra in entries.extras.items())
            versions.extend(count + number for number in entries.numbers())
            units.extend(entries.units)
            ended.extend(entries.ended)
            results.extend(entries.results)
            writes.extend(entries.versions)
            keys.extend(entries.keys)
            count += batch.versions
        self._numbers, self._times = numbers, times
        for index, place in self.relabelled.items():
            ended[index] = place
        return units, ended, results, versions, keys, extras, writes

    @property
    def numbers(self) -> list[int]:
        """Give the directory's number of each version of the line, the first after its data."""
        _ = self._columns
        return self._numbers

    @property
    def times(self) -> list[float]:
        _ = self._columns
        return self._times

    def __len__(self) -> int:
        return len(self._columns[0])

    def entry(self, index: int) -> Entry:
        units, ended, results, versions, keys, extras, writes = self._columns
        return Entry(
            index,
            units[index],
            keys[index],
            ENDINGS[ended[index]],
            results[index],
            versions[index],
            bool(writes[index]),
            extras.get(index, {}),
        )

    def __iter__(self) -> Iterator[Entry]:
        return (self.entry(index) for index in range(len(self)))

    def failed(self) -> list[Entry]:
        """Give the entries that failed."""
        ended, index, found = self._columns[1], -1, []
        while (index := ended.find(ENDINGS.index("failed"), index + 1)) >= 0:
            found.append(self.entry(index))
        return found

    def done(self, units: Container[int]) -> set[tuple[Any, ...]]:
        """Give the ids of the nodes of these units that have a result."""
        of, ended, _, _, keys, *_ = self._columns
        return {
            key
            for unit, end, key in zip(of, ended, keys, strict=True)
            if unit in units and ENDINGS[end] in ("computed", "cached")
        }

    @property
    def results(self) -> set[int]:
        """Give all results that its nodes have, and what is kept of failures."""
        return set(self._columns[2]) - {0}

    @cached_property
    def by_step(self) -> dict[str, dict[tuple[Any, ...], int]]:
        """Give the index of each node's entry, by step and ids."""
        units, _, _, _, keys, _, _ = self._columns
        names = {unit: step.name for unit, step in self.steps.items()}
        found: dict[str, dict[tuple[Any, ...], int]] = {name: {} for name in names.values()}
        for index, (unit, key) in enumerate(zip(units, keys, strict=True)):
            if unit in names:
                found[names[unit]][key] = index
        return found

    def heads(self, entries: Iterable[Entry]) -> dict[int, Head]:
        """Read the heads of entries' results."""
        ids = sorted({entry.result for entry in entries if entry.result and entry.ended in ("computed", "cached")})
        return {id: self._head(row.head) for id, row in self.journal.rows(ids).items()}

    def _head(self, packed: bytes) -> Head:
        try:
            return read_head(packed, self.plain)
        except Unpicklable:
            return read_head(packed, plain=True)

    def value(self, result: int) -> Any:
        """Load the value of a result; raises `LookupError` if it is not there any more."""
        kept = self.memory.get(result)
        if kept is not None:
            return kept.load()
        blob = self.journal.value(result)
        if blob is None:
            raise LookupError(result)
        return (loads_plain if self.plain else loads)(blob)

    # Records

    def initial(self) -> list[tuple[str, dict[str, Any]]]:
        """Give the records the line began with, as fields."""
        rows: list[tuple[str, dict[str, Any]]] = []
        for address in self.meta["chunks"]:
            body = self.journal.blob(address)
            if body is None:
                self.damaged_from = 0
                return []
            rows.extend(self._loaded(body))
        return rows

    def base_records(self) -> Records:
        """Give the records the line began with."""
        records = Records(self.classes)
        records.begin_plain(self.initial())
        return records

    @cached_property
    def records(self) -> Records:
        """Give all records with all their writes, replayed from what was committed."""
        records = self._replaying = self.base_records()
        writing = [entry for entry in self if entry.writes]
        heads = self.heads(writing)
        spots: dict[tuple[int, tuple[Any, ...]], _Spot] = {}
        for entry in writing:
            head = heads.get(entry.result)
            if head is None:
                self.damaged_from = min(self.damaged_from, entry.version)
                continue
            self._replay(records, entry, head, spots)
        if any(len(ranks) > 1 for ranks in self._creators.values()):
            for row, rank in settled({row: ranks for row, ranks in self._creators.items() if row.base is None}).items():
                row.rank = rank
        return records

    def _replay(self, records: Records, entry: Entry, head: Head, spots: dict[tuple[int, tuple[Any, ...]], _Spot]) -> None:
        step = self.steps[entry.unit]
        own_model, own_id = self.own(step, entry.key)
        changes: Sequence[tuple[Any, ...]] = head.changes
        if step.sets is not None:
            changes = (*changes, ("update", None, None, {step.sets: self.value(entry.result)}))
        node = node_id(step.name, entry.key)
        outcome = entry.extra.get("outcome", {})
        dropped = entry.extra.get("dropped", ())
        for ordinal, change in enumerate(changes):
            if ordinal in dropped:
                continue
            kind, model = change[0], change[1] or own_model
            assert model is not None
            table = records.table(model)
            if kind == "create":
                id = change[2]["id"]
                id = derived_id(node, ordinal) if id is AUTO else id
                self._create(table, {**change[2], "id": id}, entry, ordinal, spots, outcome)
                continue
            id = own_id if change[1] is None else change[2]
            row = table.rows.get(id)
            if row is None:
                continue
            fields = change[3] if kind == "update" else {}
            last = row.last
            state = None
            if (model, id) in outcome:
                after = outcome[model, id]
                state = State(table.make(after)) if after is not None else None
            elif kind == "update" and last is not None:
                state = State(table.evolve(last.record, fields))
            row.writes.append(Write(entry.version, kind, fields, entry.unit, None, ordinal, state))

    def _create(
        self,
        table: Any,
        fields: dict[str, Any],
        entry: Entry,
        ordinal: int,
        spots: dict[tuple[int, tuple[Any, ...]], _Spot],
        outcome: Mapping[Any, Any],
    ) -> None:
        chain, generation = self._chain(entry, spots)
        rank = Rank(ordinal, generation + 1, entry.unit, chain)
        row = table.rows.get(fields["id"])
        if row is None:
            row = table.rows[fields["id"]] = Row(table, fields["id"], None, rank)
        self._creators.setdefault(row, []).append(rank)
        about = table.name, row.id
        if about not in outcome and row.last is not None:
            return
        after = outcome.get(about, fields)
        state = State(table.make(after)) if after is not None else None
        row.writes.append(Write(entry.version, "create", fields, entry.unit, None, ordinal, state))

    def own(self, step: StepMeta, key: tuple[Any, ...]) -> tuple[str | None, Any]:
        """Give the model and id of the innermost record of a node."""
        chain = self.scopes[step.scope].chain
        for level in range(len(chain), 0, -1):
            model = self.scopes[chain[level - 1]].model
            if model is not None:
                return model, key[level - 1]
        return None, None

    def _chain(self, entry: Entry, spots: dict[tuple[int, tuple[Any, ...]], _Spot]) -> tuple[tuple[_Spot, ...], int]:
        items = entry.extra.get("items", ())
        chain: tuple[_Spot, ...] = ()
        generation = 0
        for level, scope in enumerate(self.scopes[self.steps[entry.unit].scope].chain):
            about = scope, entry.key[: level + 1]
            if about not in spots:
                meta = self.scopes[scope]
                rank = Rank(items[level] or 0) if level < len(items) else Rank(0)
                row = self._replaying.table(meta.model).rows.get(entry.key[level]) if meta.model is not None else None
                spots[about] = _Spot(meta.position, rank, row, chain, generation)
            spot = spots[about]
            chain, generation = spot.chain, spot.generation
        return chain, generation

    # Versions

    def view(self, version: int) -> View:
        """Give the records as of a version of the line; 0 is its data."""
        return View(self.records, lambda write: write.commit <= version)

    def changes(self, version: int) -> list[Change]:
        """Give what one version changed."""
        return differences(self.view(version - 1), self.view(version), self.touched.get(version, ()))

    @cached_property
    def touched(self) -> dict[int, list[Row]]:
        """Give the records that each version changed."""
        found: dict[int, dict[int, Row]] = {}
        for table in self.records.tables.values():
            for row in table.rows.values():
                for write in row.writes:
                    found.setdefault(write.commit, {})[id(row)] = row
        return {version: list(rows.values()) for version, rows in found.items()}

    def difference(self, old: int, new: int) -> list[Change]:
        """Give what differs between two versions."""
        rows = [row for table in self.records.tables.values() for row in table.rows.values()]
        return differences(self.view(old), self.view(new), rows)


def _class(name: str) -> type | None:
    try:
        found: type = resolve(*name.split(":", 1))
    except Exception:  # whatever its module raises
        return None
    return found


def differences(before: View, after: View, rows: Iterable[Row]) -> list[Change]:
    """Give what differs between two views of the same rows."""
    found = []
    for row in rows:
        one, other = before.state(row), after.state(row)
        if one is other:
            continue
        old, new = fields_of(one), fields_of(other)
        if one is None:
            found.append(Change("create", row.table.name, row.id, {name: (None, value) for name, value in new.items()}))
        elif other is None:
            found.append(Change("delete", row.table.name, row.id, {}))
        else:
            changed = {
                name: (old.get(name), value)
                for name, value in new.items()
                if old.get(name) != value or type(old.get(name)) is not type(value)
            }
            if changed:
                found.append(Change("update", row.table.name, row.id, changed))
    return found


def fields_of(state: State | None) -> dict[str, Any]:
    """Give a record's fields, whether it is an instance or plain."""
    if state is None:
        return {}
    record = state.record
    if type(record) is dict:
        return record
    return {field.name: getattr(record, field.name) for field in attrs.fields(type(record))}
