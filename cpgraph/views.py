"""Eyes on the records: what one node sees (`View`), many of the same place (`Snapshot`, `Overlay`), and guards (`Live`)."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from cpgraph.contents import met
from cpgraph.ranks import Rank, node_key, rank_key, settled
from cpgraph.records import Records, Row, State, Table, Write

__all__ = ["Eyes", "Live", "Overlay", "Query", "Snapshot", "View", "add_head", "field_of", "fold", "standing"]

Query = tuple[Any, ...]
MOST_HEADS = 200


class Eyes(Protocol):
    """Something to look at the store with."""

    records: Records

    def get(self, table: Table, id: Any) -> State | None: ...
    def table(self, table: Table) -> dict[Any, State]: ...
    def equal(self, table: Table, field: str, value: Any) -> dict[Any, State]: ...
    def remember(self, query: Query, answer: Callable[[], Any]) -> Any: ...


class View:
    """Who sees what: `sees(write)` decides; `own` are rows that the asker sees at least as they were created."""

    def __init__(self, records: Records, sees: Callable[[Write], bool], own: Sequence[Row] = ()) -> None:
        self.records = records
        self.sees = sees
        self.own = own
        self._ranks: dict[Row, Rank] | None = None

    def state(self, row: Row) -> State | None:
        writes = row.writes[:]  # what does not move: the loop appends while threads read
        if not writes:
            return row.base
        sees = self.sees
        if not row.conflicted:
            seen = 0
            for write in writes:
                if not sees(write):
                    break
                seen += 1
            else:
                return writes[-1].state
            if not any(sees(write) for write in writes[seen + 1 :]):
                if seen:
                    return writes[seen - 1].state
                return row.base if row.base is not None or row not in self.own else self._as_created(row)
        visible = [write for write in writes if sees(write)]
        if row.base is None and row in self.own and not any(write.kind == "create" for write in visible):
            visible.insert(0, next(write for write in writes if write.kind == "create"))
        return fold(row, visible)

    def _as_created(self, row: Row) -> State:
        write = next(write for write in row.writes if write.kind == "create")
        return State(row.table.make(write.fields))

    def get(self, table: Table, id: Any) -> State | None:
        row = table.rows.get(id)
        return self.state(row) if row is not None else None

    def rows(self, table: Table) -> Iterator[tuple[Row, State]]:
        """Give what is seen of a table, in order."""
        created: list[tuple[Rank, Row, State]] = []
        for row in list(table.rows.values()):
            state = self.state(row)
            if state is None:
                continue
            if row.base is not None:
                yield row, state
            else:
                created.append((self.rank(row), row, state))
        created.sort(key=lambda entry: rank_key(entry[0]))
        for _, row, state in created:
            yield row, state

    def rank(self, row: Row) -> Rank:
        """Give the rank of a record: of several creators those that are seen count (rule C6)."""
        rank = row.rank  # before it is asked whether there are several: the loop lowers it while threads read
        if row.base is not None or not self.records.shared:
            return rank
        if self._ranks is None:
            self._ranks = settled(self._creators())
        return self._ranks.get(row, rank)

    def _creators(self) -> dict[Row, list[Rank]]:
        """Give what each created record could be ranked by: the creators that are seen, or all where none is."""
        found = {}
        for row in [row for table in self.records.tables.values() for row in list(table.created)]:
            creates = [write for write in list(row.writes) if write.kind == "create" and write.instance is not None]
            seen = [write for write in creates if self.sees(write)] or creates
            found[row] = [Rank(write.ordinal, 0, write.unit, write.instance.chain) for write in seen]
        return found


def fold(row: Row, writes: Sequence[Write]) -> State | None:
    """Put writes together where some are unordered: of those to a field, that of the node first in graph order stands."""

    def clash(one: Write, other: Write) -> bool:
        return one is not other and not (one.is_before(other) or other.is_before(one))

    deletes = [write for write in writes if write.kind == "delete"]
    deletes = [
        one
        for one in deletes
        if not any(other.kind != "delete" and clash(one, other) and other.is_first(one) for other in writes)
    ]
    live = [
        one for one in writes if one.kind != "delete" and not any(one.is_before(gone) or clash(one, gone) for gone in deletes)
    ]
    creates = [write for write in live if write.kind == "create"]
    if creates:
        record = row.table.make(creates[0].fields)
    elif row.base is not None and not deletes:
        record = row.base.record
    else:
        return None
    heads: dict[str, list[Write]] = {}
    for write in live:
        for name in write.fields if write.kind == "update" else ():
            heads[name] = add_head(heads.get(name, []), write)
    fields = {name: standing(found).fields[name] for name, found in heads.items()}
    return State(row.table.evolve(record, fields) if fields else record)


def add_head(heads: Sequence[Write], write: Write) -> list[Write]:
    """Add a write to those of one field that no other one comes after; beyond a number of them the last in graph order goes."""
    sees = write.instance.eyes_of(write.unit)
    found = [*(head for head in heads if not sees(head)), write]
    if len(found) > MOST_HEADS:
        found.remove(max(found, key=lambda head: node_key((head.unit, head.instance.chain))))
    return found


def standing(heads: Sequence[Write]) -> Write:
    """Give the write that stands among unordered ones."""
    first = heads[0]
    for write in heads[1:]:
        if write.is_first(first):
            first = write
    return first


class Snapshot:
    """A view made fast for many askers: tables and indexes are made once, when first asked for."""

    def __init__(self, view: View) -> None:
        self.view = view
        self.records = view.records
        self._lock = threading.Lock()
        self._tables: dict[str, dict[Any, State]] = {}
        self._indexes: dict[tuple[str, str], dict[Any, dict[Any, State]] | None] = {}
        self._answers: dict[Any, Any] = {}

    def get(self, table: Table, id: Any) -> State | None:
        made = self._tables.get(table.name)
        return made.get(id) if made is not None else self.view.get(table, id)

    def table(self, table: Table) -> dict[Any, State]:
        made = self._tables.get(table.name)
        if made is None:
            with self._lock:
                made = self._tables.get(table.name)
                if made is None:
                    made = {row.id: state for row, state in self.view.rows(table)}
                    self._tables[table.name] = made
        return made

    def equal(self, table: Table, field: str, value: Any) -> dict[Any, State]:
        """Give the records whose field equals a value, from an index made on demand."""
        index = self._index(table, field)
        if index is not None:
            try:
                return index.get(value, {})
            except TypeError:
                pass
        return {id: state for id, state in self.table(table).items() if field_of(state.record, field) == value}

    def _index(self, table: Table, field: str) -> dict[Any, dict[Any, State]] | None:
        key = (table.name, field)
        if key not in self._indexes:
            self._indexes[key] = _make_index(self.table(table), field)
        return self._indexes[key]

    def remember(self, query: Query, answer: Callable[[], Any]) -> Any:
        """Keep what a query found, for the next who asks the same."""
        try:
            if query in self._answers:
                return self._answers[query]
            before = met.count
            found = answer()
            if met.count == before:
                self._answers[query] = found
            return found
        except TypeError:
            return answer()


class Overlay:
    """A snapshot, and over it the few rows that one node sees otherwise."""

    def __init__(self, base: Snapshot, view: View, rows: Iterable[Row]) -> None:
        self.base = base
        self.records = base.records
        self.view = view
        self.other: dict[str, dict[Any, State | None]] = {}
        for row in rows:
            self.other.setdefault(row.table.name, {})[row.id] = view.state(row)

    def get(self, table: Table, id: Any) -> State | None:
        other = self.other.get(table.name)
        return other[id] if other is not None and id in other else self.base.get(table, id)

    def table(self, table: Table) -> dict[Any, State]:
        return self._merge(table, self.base.table(table), lambda state: True)

    def equal(self, table: Table, field: str, value: Any) -> dict[Any, State]:
        return self._merge(table, self.base.equal(table, field, value), lambda state: field_of(state.record, field) == value)

    def _merge(self, table: Table, found: dict[Any, State], fits: Callable[[State], bool]) -> dict[Any, State]:
        other = self.other.get(table.name)
        if not other:
            return found
        merged = {id: state for id, state in found.items() if id not in other}
        extra = {id: state for id, state in other.items() if state is not None and fits(state)}
        if not extra:
            return merged
        merged.update(extra)
        rows = table.rows
        return dict(sorted(merged.items(), key=lambda entry: rank_key(self.view.rank(rows[entry[0]]))))

    def remember(self, query: Query, answer: Callable[[], Any]) -> Any:
        return answer() if self.other.get(query[1]) else self.base.remember(query, answer)


class Live:
    """The store as it is at this moment, kept up with each commit: what guards read."""

    def __init__(self, records: Records) -> None:
        self.records = records
        self._tables: dict[str, dict[Any, State]] = {}
        self._indexes: dict[tuple[str, str], dict[Any, dict[Any, State]] | None] = {}
        self._unsorted: set[str] = set()

    def update(self, rows: Iterable[Row]) -> None:
        """Take note of rows that a commit wrote."""
        for row in rows:
            table = self._tables.get(row.table.name)
            if table is None:
                continue
            before, after = table.get(row.id), row.last
            for (name, field), index in self._indexes.items():
                if name == row.table.name and index is not None:
                    self._move(index, row.id, field, before, after)
            if before is None:
                self._unsorted.add(row.table.name)
            if after is None:
                table.pop(row.id, None)
            else:
                table[row.id] = after

    def _move(self, index: dict[Any, dict[Any, State]], id: Any, field: str, before: State | None, after: State | None) -> None:
        if before is not None:
            index.get(field_of(before.record, field), {}).pop(id, None)
        if after is not None:
            index.setdefault(field_of(after.record, field), {})[id] = after

    def get(self, table: Table, id: Any) -> State | None:
        row = table.rows.get(id)
        return row.last if row is not None else None

    def table(self, table: Table) -> dict[Any, State]:
        made = self._tables.get(table.name)
        if made is None or table.name in self._unsorted:
            rows = sorted(table.rows.values(), key=lambda row: rank_key(row.rank))
            made = {row.id: row.last for row in rows if row.last is not None}
            self._tables[table.name] = made
            self._unsorted.discard(table.name)
        return made

    def equal(self, table: Table, field: str, value: Any) -> dict[Any, State]:
        """Give the records whose field equals a value, in no order: `_matching` sorts what is handed out."""
        key = (table.name, field)
        if key not in self._indexes:
            self._indexes[key] = _make_index(self.table(table), field)
        index = self._indexes[key]
        if index is None:
            return {id: state for id, state in self.table(table).items() if field_of(state.record, field) == value}
        return index.get(value, {})

    def remember(self, query: Query, answer: Callable[[], Any]) -> Any:
        return answer()


def _make_index(states: Mapping[Any, State], field: str) -> dict[Any, dict[Any, State]] | None:
    """Index records by a field; None if its values cannot be keys."""
    index: dict[Any, dict[Any, State]] = {}
    try:
        for id, state in states.items():
            index.setdefault(field_of(state.record, field), {})[id] = state
    except TypeError:
        return None
    return index


def field_of(record: Any, name: str) -> Any:
    return record[name] if type(record) is dict else getattr(record, name)
