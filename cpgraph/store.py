"""What steps and guards get to read the records with.

A `Store` notes what is asked of it together with the digest of the answer, so that a result can be taken from the
cache if all answers would be the same again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeVar, overload

import attrs

from cpgraph.contents import content_if_any, met
from cpgraph.copies import ATOMIC, isolated
from cpgraph.digest import digest, list_digest
from cpgraph.errors import CpgraphError, RecordNotFound, nearest
from cpgraph.portable import kept_predicate, predicate_from
from cpgraph.ranks import rank_key
from cpgraph.records import Code, State, Table, builder
from cpgraph.views import Eyes, Live, Query, field_of

__all__ = ["Store", "ask", "not_found"]

M = TypeVar("M")
NOTHING = b"\0" * 16


# Questions: plain tuples, so that they can be kept and asked again


def ask(eyes: Eyes, query: Query) -> bytes:
    """Give the digest of a question's answer, as noted when it was asked first."""
    kind, name = query[0], query[1]
    if kind == "file":
        return content_if_any(name)
    if kind == "code":
        return eyes.records.code.digest(name) if eyes.records.code is not None else NOTHING
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
    return {id: state for id, state in found.items() if all(field_of(state.record, name) == wanted for name, wanted in rest)}


def _values(eyes: Eyes, table: Table, fields: Sequence[str]) -> list[Any]:
    states = eyes.table(table).values()
    if len(fields) == 1:
        (field,) = fields
        return [field_of(state.record, field) for state in states]
    return [tuple(field_of(state.record, field) for field in fields) for state in states]


class Store:
    """The records as of what is before the asker; steps and guards only read it, and what they ask is noted."""

    def __init__(self, eyes: Eyes, reads: list[tuple[Query, bytes]] | None = None, counts_code: bool = True) -> None:
        self._eyes = eyes
        self._counts_code = counts_code  # not for a step with a stated version
        self.reads = reads
        self.read_files = False  # whether there are files in the answers
        self._code: set[str] = set()  # the user's classes and functions in them

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
        found: M | None = self._hand_out(state, model) if state is not None else None
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
            states.sort(key=lambda state: rank_key(table.rows[field_of(state.record, "id")].rank))
        if predicate is None:
            self._note(query, lambda: ask(self._eyes, query))
            return [(state, self._hand_out(state, model)) for state in states]
        found = [(state, record) for state in states if predicate(record := self._hand_out(state, model))]
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
        values = _values(self._eyes, table, names)
        self._note_code(lambda code: (name for value in values if type(value) not in ATOMIC for name in code.names(value)))
        return [isolated(value) for value in values]

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

    def _note_code(self, names: Callable[[Code], Iterable[str]]) -> None:
        """Note what the user's classes and functions do that are in an answer: an edit of them is another answer."""
        code = self._eyes.records.code
        if code is None or self.reads is None or not self._counts_code or isinstance(self._eyes, Live):
            return
        for name in names(code):
            if name not in self._code:
                self._code.add(name)
                self.reads.append((("code", name, ()), code.digest(name)))

    def _hand_out(self, state: State, model: type) -> Any:
        """Give a copy; of a record that was read without its class, an instance of the class it is asked for by."""
        self._note_code(lambda code: code.of_state(state))
        record = state.record
        return isolated(builder(model)(record) if type(record) is dict else record)

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
    known = list(known)
    ids = [str(other) for other in known]
    near = get_close_matches(str(id), ids, n=3) or ids[:3]
    if type(id) is int and all(type(other) is int for other in known):
        near = [str(other) for other in sorted(known, key=lambda other: abs(other - id))[:3]]
    return RecordNotFound(
        f"there is no {model} with the id {id!r} in what this node sees",
        {"near ids": ", ".join(near) if near else "none: there are no records of this model", "records": len(ids)},
        "a node sees what the nodes before it wrote: check the id, or stand after the step that creates it.",
    )
