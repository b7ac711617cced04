"""The records with their history, as one append-only structure.

Per record there is a list of writes `(commit number, node, fields)`. A *version* is the writes up to a number; a
*view* is the writes whose node comes before the asker. Nothing is ever copied: history, views and the final store
are the same rows, read through different eyes.

A `Store` is what steps and guards get. It notes what is asked of it together with the digest of the answer, so that
a result can be taken from the cache if all answers would be the same again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Protocol, TypeVar, overload

import attrs

from cpgraph.contents import content_if_any, met
from cpgraph.copies import isolated
from cpgraph.digest import digest, list_digest
from cpgraph.errors import CpgraphError, RecordNotFound, nearest
from cpgraph.portable import kept_predicate, predicate_from
from cpgraph.ranks import Rank, node_earlier, node_key, rank_key, settled

__all__ = ["Eyes", "Live", "Query", "Records", "Row", "Snapshot", "State", "Store", "Table", "View", "Write", "ask"]

M = TypeVar("M")
Query = tuple[Any, ...]
NOTHING = b"\0" * 16
MOST_HEADS = 200


class State:
    """A record as of some write, with its digest once that is needed."""

    __slots__ = ("_digest", "record")

    def __init__(self, record: Any, known: bytes | None = None) -> None:
        self.record = record
        self._digest = known

    @property
    def digest(self) -> bytes:
        if self._digest is not None:
            return self._digest
        before = met.count
        found = digest(self.record)
        if met.count == before:  # a file may be another the next time
            self._digest = found
        return found


class Write:
    """One change of one record. `state` is the record after it and all before it; None after a delete."""

    __slots__ = ("commit", "fields", "instance", "kind", "ordinal", "state", "unit")

    def __init__(
        self, commit: int, kind: str, fields: Mapping[str, Any], unit: int, instance: Any, ordinal: int, state: State | None
    ) -> None:
        self.commit = commit
        self.kind = kind
        self.fields = fields
        self.unit = unit
        self.instance = instance
        self.ordinal = ordinal
        self.state = state

    def is_before(self, other: Write) -> bool:
        """Tell whether another write comes after this one: its node does, or stands on the record that this one created."""
        if self.unit == other.unit and self.instance is other.instance:
            return self.commit == other.commit and self.ordinal < other.ordinal
        return bool(other.instance.comes_after(other, self))

    def is_first(self, other: Write) -> bool:
        """Tell whether this write's node is first in graph order."""
        return node_earlier(self.unit, self.instance.chain, other.unit, other.instance.chain)


class Row:
    """One record with all its writes. `conflicted`: unordered writes met, so views must look at each write."""

    __slots__ = ("base", "conflicted", "heads", "id", "rank", "table", "writes")

    def __init__(self, table: Table, id: Any, base: State | None, rank: Rank) -> None:
        self.table = table
        self.id = id
        self.base = base
        self.rank = rank
        self.writes: list[Write] = []
        self.conflicted = False
        self.heads: dict[str, list[Write]] | None = None

    @property
    def last(self) -> State | None:
        return self.writes[-1].state if self.writes else self.base


class Table:
    """All rows of one model. changed: the last commit that wrote to it; shared: a record of it has several creators."""

    __slots__ = ("build", "changed", "created", "deletes", "model", "name", "rows", "shared")

    def __init__(self, name: str, model: type | None) -> None:
        self.name = name
        self.model = model
        self.rows: dict[Any, Row] = {}
        self.created: list[Row] = []
        self.changed = 0
        self.deletes = False
        self.shared = False
        self.build = _builder(model) if model is not None else None

    def make(self, fields: Mapping[str, Any]) -> Any:
        """Make a record of its fields; without the user's class, the plain fields serve."""
        return self.build(fields) if self.build is not None else dict(fields)

    def evolve(self, record: Any, fields: Mapping[str, Any]) -> Any:
        return attrs.evolve(record, **_by_alias(self.model, fields)) if self.model is not None else {**record, **fields}


def _builder(model: type) -> Callable[[Mapping[str, Any]], Any]:
    def build(fields: Mapping[str, Any]) -> Any:
        return model(**_by_alias(model, fields))

    return build


def _by_alias(model: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    known = attrs.fields_dict(model)
    return {known[name].alias or name: value for name, value in fields.items() if name in known and known[name].init}


class Eyes(Protocol):
    """Something to look at the store with."""

    records: Records

    def get(self, table: Table, id: Any) -> State | None: ...
    def table(self, table: Table) -> dict[Any, State]: ...
    def equal(self, table: Table, field: str, value: Any) -> dict[Any, State]: ...
    def remember(self, query: Query, answer: Callable[[], Any]) -> Any: ...


class Records:
    """All tables; only the schedule's loop appends to them."""

    def __init__(self, models: Mapping[str, type | None]) -> None:
        self.tables = {name: Table(name, model) for name, model in models.items()}
        self.commit = 0

    def table(self, model: type | str) -> Table:
        name = model if isinstance(model, str) else model.__name__
        found = self.tables.get(name)
        if found is None:
            raise CpgraphError(
                f"no model called {name!r} belongs to this graph.{nearest(name, self.tables)}",
                {"models": ", ".join(self.tables) or "none"},
                "name it in a step's annotation, in each=, or in Graph(models=[…]).",
            )
        return found

    @property
    def shared(self) -> bool:
        """Tell whether a record has several creators."""
        return any(table.shared for table in self.tables.values())

    def begin(self, states: Iterable[State]) -> None:
        """Take the initial records, in their order."""
        tables: dict[type, Table] = {}
        for index, state in enumerate(states):
            record = state.record
            kind = type(record)
            if kind not in tables:
                tables[kind] = self.table(kind)
            table = tables[kind]
            table.rows[record.id] = Row(table, record.id, state, Rank(index))

    def begin_plain(self, rows: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Take initial records given as fields, as a journal keeps them."""
        for index, (name, fields) in enumerate(rows):
            table = self.tables.setdefault(name, Table(name, None))
            table.rows[fields["id"]] = Row(table, fields["id"], State(table.make(fields)), Rank(index))


# Views


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
        return {id: state for id, state in self.table(table).items() if _field(state.record, field) == value}

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
        return self._merge(table, self.base.equal(table, field, value), lambda state: _field(state.record, field) == value)

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


def _make_index(states: Mapping[Any, State], field: str) -> dict[Any, dict[Any, State]] | None:
    """Index records by a field; None if its values cannot be keys."""
    index: dict[Any, dict[Any, State]] = {}
    try:
        for id, state in states.items():
            index.setdefault(_field(state.record, field), {})[id] = state
    except TypeError:
        return None
    return index


def _field(record: Any, name: str) -> Any:
    return record[name] if type(record) is dict else getattr(record, name)


# Questions: plain tuples, so that they can be kept and asked again


def ask(eyes: Eyes, query: Query) -> bytes:
    """Give the digest of a question's answer, as noted when it was asked first."""
    kind, name = query[0], query[1]
    if kind == "file":
        return content_if_any(name)
    try:
        table = eyes.records.table(name)
    except CpgraphError:
        return NOTHING
    if kind == "get":
        state = eyes.get(table, query[2])
        return state.digest if state is not None else NOTHING
    if len(query) > 3:
        return eyes.remember(query, lambda: _ask_predicate(eyes, table, query))  # type: ignore[no-any-return]
    if kind == "count":
        return digest(len(_matching(eyes, table, query[2])))
    if kind == "where":
        return eyes.remember(query, lambda: _answer(kind, list(_matching(eyes, table, query[2]).values())))  # type: ignore[no-any-return]
    return eyes.remember(query, lambda: digest(_values(eyes, table, query[2])))  # type: ignore[no-any-return]


def _ask_predicate(eyes: Eyes, table: Table, query: Query) -> bytes:
    """Ask a predicate that was kept again; one that raises now has another answer."""
    try:
        predicate = predicate_from(query[3])
        found = [state for state in _matching(eyes, table, query[2]).values() if predicate(isolated(state.record))]
    except Exception:
        return NOTHING
    return _answer(query[0], found)


def _answer(kind: str, found: Sequence[State]) -> bytes:
    return digest(len(found)) if kind == "count" else list_digest([state.digest for state in found])


def _matching(eyes: Eyes, table: Table, equal: Sequence[tuple[str, Any]]) -> dict[Any, State]:
    if not equal:
        return eyes.table(table)
    (field, value), *rest = equal
    found = eyes.equal(table, field, value)
    if not rest:
        return found
    return {id: state for id, state in found.items() if all(_field(state.record, name) == wanted for name, wanted in rest)}


def _values(eyes: Eyes, table: Table, fields: Sequence[str]) -> list[Any]:
    states = eyes.table(table).values()
    if len(fields) == 1:
        (field,) = fields
        return [_field(state.record, field) for state in states]
    return [tuple(_field(state.record, field) for field in fields) for state in states]


class Store:
    """The records as of what is before the asker; steps and guards only read it, and what they ask is noted."""

    def __init__(self, eyes: Eyes, reads: list[tuple[Query, bytes]] | None = None) -> None:
        self._eyes = eyes
        self.reads = reads
        self.read_files = False  # whether there are files in the answers

    def find(self, model: type[M], id: Any) -> M:
        """Give the record with this id; raises `RecordNotFound` with near ids."""
        found = self.get(model, id)
        if found is None:
            table = self._eyes.records.table(model)
            raise not_found(table.name, id, self._eyes.table(table))
        return found

    def get(self, model: type[M], id: Any) -> M | None:
        """Give the record with this id, or None."""
        table = self._eyes.records.table(model)
        state = self._eyes.get(table, id) if isinstance(id, str) or type(id) is int else None  # 1 is not True (rule S6)
        self._note(("get", table.name, id), lambda: state.digest if state is not None else NOTHING)
        found: M | None = self._hand_out(state.record, model) if state is not None else None
        return found

    def all(self, model: type[M]) -> list[M]:
        """Give all records of a model, in order."""
        return self.where(model)

    def where(self, model: type[M], predicate: Callable[[M], Any] | None = None, /, **equal: Any) -> list[M]:
        """Give the records whose fields equal the given ones and for which the predicate says yes, in order."""
        return [record for _, record in self._found("where", model, predicate, equal)]

    def count(self, model: type, predicate: Callable[[Any], Any] | None = None, /, **equal: Any) -> int:
        """Count what `where` would give."""
        if predicate is not None:
            return len(self._found("count", model, predicate, equal))
        table, query = self._query("count", model, equal)
        found = len(_matching(self._eyes, table, query[2]))
        self._note(query, lambda: digest(found))
        return found

    def _found(
        self, kind: str, model: type, predicate: Callable[[Any], Any] | None, equal: Mapping[str, Any]
    ) -> list[tuple[State, Any]]:
        """Find records, and note exactly what was returned; a predicate is kept, so that it can be asked again."""
        table, query = self._query(kind, model, equal)
        states = list(_matching(self._eyes, table, query[2]).values())
        if isinstance(self._eyes, Live) and len(states) > 1:
            states.sort(key=lambda state: rank_key(table.rows[_field(state.record, "id")].rank))
        if predicate is None:
            self._note(query, lambda: ask(self._eyes, query))
            return [(state, self._hand_out(state.record, model)) for state in states]
        found = [(state, record) for state in states if predicate(record := self._hand_out(state.record, model))]
        kept = kept_predicate(predicate) if self.reads is not None and not isinstance(self._eyes, Live) else None
        if kept is not None:
            self._note((*query, kept), lambda: _answer(kind, [state for state, _ in found]))
        else:
            candidates: Query = ("where", *query[1:])
            self._note(candidates, lambda: ask(self._eyes, candidates))
        return found

    @overload
    def values(self, model: type, field: str, /) -> list[Any]: ...
    @overload
    def values(self, model: type, field: str, /, *fields: str) -> list[tuple[Any, ...]]: ...
    def values(self, model: type, field: str, /, *fields: str) -> list[Any]:
        """Give one field of all records as a list, or several as a list of tuples; others are no input."""
        table = self._eyes.records.table(model)
        names = (field, *fields)
        self._check_fields(table, names)
        query: Query = ("values", table.name, names)
        self._note(query, lambda: ask(self._eyes, query))
        return [self._hand_out(value) for value in _values(self._eyes, table, names)]

    def _query(self, kind: str, model: type, equal: Mapping[str, Any]) -> tuple[Table, Query]:
        table = self._eyes.records.table(model)
        self._check_fields(table, equal)
        return table, (kind, table.name, tuple(sorted(equal.items(), key=lambda entry: entry[0])))

    def _check_fields(self, table: Table, names: Iterable[str]) -> None:
        if table.model is None:
            return
        known = {**attrs.fields_dict(table.model)}
        for name in names:
            if name not in known and not hasattr(table.model, name):
                raise CpgraphError(
                    f"{table.name} has no field {name!r}.{nearest(name, known)}",
                    {"fields": ", ".join(known)},
                    "ask for one of its fields.",
                )

    def _hand_out(self, value: Any, model: type | None = None) -> Any:
        """Give a copy; of a record that was read without its class, an instance of the class it is asked for by."""
        if model is not None and type(value) is dict:
            value = _builder(model)(value)
        return isolated(value)

    def _note(self, query: Query, answer: Callable[[], bytes]) -> None:
        if isinstance(self._eyes, Live):  # a guard is asked again when a model it read has changed, whatever the answer was
            if self.reads is not None:
                self.reads.append((query, NOTHING))
        elif self.reads is not None:
            before = met.count
            self.reads.append((query, answer()))
            self.read_files = self.read_files or met.count != before


def not_found(model: str, id: Any, known: Iterable[Any]) -> RecordNotFound:
    """Make the error for a record that is not there, with near ids."""
    ids = [str(other) for other in known]
    near = get_close_matches(str(id), ids, n=3) or ids[:3]
    return RecordNotFound(
        f"there is no {model} with the id {id!r} in what this node sees",
        {"near ids": ", ".join(near) if near else "none: there are no records of this model", "records": len(ids)},
        "a node sees what the nodes before it wrote: check the id, or stand after the step that creates it.",
    )


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
            index.get(_field(before.record, field), {}).pop(id, None)
        if after is not None:
            index.setdefault(_field(after.record, field), {})[id] = after

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
            return {id: state for id, state in self.table(table).items() if _field(state.record, field) == value}
        return index.get(value, {})

    def remember(self, query: Query, answer: Callable[[], Any]) -> Any:
        return answer()
