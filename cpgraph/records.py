"""The records with their history, as one append-only structure.

Per record there is a list of writes `(commit number, node, fields)`. A *version* is the writes up to a number; a
*view* is the writes whose node comes before the asker. Nothing is ever copied: history, views and the final store
are the same rows, read through different eyes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import attrs

from cpgraph.contents import met
from cpgraph.digest import digest
from cpgraph.errors import CpgraphError, nearest
from cpgraph.ranks import Rank, node_earlier

__all__ = ["Code", "Records", "Row", "State", "Table", "Write", "builder"]


class State:
    """A record as of some write, with its digest once that is needed."""

    __slots__ = ("_digest", "code", "record")

    def __init__(self, record: Any, known: bytes | None = None) -> None:
        self.record = record
        self.code: tuple[str, ...] | None = None  # the user's classes and functions in its fields, once they are asked for
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
        self.build = builder(model) if model is not None else None

    def make(self, fields: Mapping[str, Any]) -> Any:
        """Make a record of its fields; without the user's class, the plain fields serve."""
        return self.build(fields) if self.build is not None else dict(fields)

    def evolve(self, record: Any, fields: Mapping[str, Any]) -> Any:
        return attrs.evolve(record, **_by_alias(self.model, fields)) if self.model is not None else {**record, **fields}


def builder(model: type) -> Callable[[Mapping[str, Any]], Any]:
    """Give what makes an instance of a model of its fields by name; fields that the model does not have are left out."""

    def build(fields: Mapping[str, Any]) -> Any:
        return model(**_by_alias(model, fields))

    return build


def _by_alias(model: type, fields: Mapping[str, Any]) -> dict[str, Any]:
    known = attrs.fields_dict(model)
    return {known[name].alias or name: value for name, value in fields.items() if name in known and known[name].init}


class Code(Protocol):
    """Knows the user's classes and functions in records, and what they do (see `fingerprint.CodeOfValues`)."""

    def of_state(self, state: State) -> tuple[str, ...]: ...
    def names(self, value: Any) -> tuple[str, ...]: ...
    def digest(self, name: str) -> bytes: ...


class Records:
    """All tables; only the schedule's loop appends to them."""

    def __init__(self, models: Mapping[str, type | None]) -> None:
        self.tables = {name: Table(name, model) for name, model in models.items()}
        self.commit = 0
        self.code: Code | None = None

    def table(self, model: type | str) -> Table:
        name = model if isinstance(model, str) else getattr(model, "__name__", None) or repr(model)
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
