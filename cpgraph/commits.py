"""Applying what a node changes: checked against its view first, then written all together (rules C2–C4, C7).

Conflicts do not undo anything: the write of the node first in graph order stands, and the caller is told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from cpgraph.digest import digest
from cpgraph.errors import CpgraphError
from cpgraph.instances import Asker, Instance, World
from cpgraph.models import AUTO, check_update, wrong_id
from cpgraph.ranks import Rank
from cpgraph.records import Row, State, Table, Write
from cpgraph.store import not_found
from cpgraph.views import add_head, fold, standing

ENOUGH = 2_000  # conflicts of one write that are followed up

__all__ = ["Applied", "Conflict", "Effect", "amended", "apply", "check", "derived_id", "value_of_changes"]


@attrs.frozen
class Effect:
    """One checked change of one record; `keep`: an equal id that turns up elsewhere is no conflict."""

    table: Table
    kind: str
    id: Any
    fields: Mapping[str, Any]
    ordinal: int
    keep: bool = False


@attrs.frozen
class Conflict:
    """Two nodes, neither before the other, and what both wrote."""

    model: str
    id: Any
    field: str
    unit: int
    instance: Instance
    other_unit: int
    other_instance: Instance


@attrs.define
class Applied:
    """What a commit did: the records it created, the conflicts it met, and fields whose written value did not stand."""

    touched: list[Row] = attrs.field(factory=list)
    created: list[Row] = attrs.field(factory=list)
    conflicts: list[Conflict] = attrs.field(factory=list)
    outcome: dict[tuple[str, Any], dict[str, Any] | None] = attrs.field(factory=dict)
    kept: list[tuple[str, Any]] = attrs.field(factory=list)


def derived_id(node: str, ordinal: int) -> str:
    """Make the id of a record from its creating node and the ordinal in it (rule C7).

    >>> derived_id("make", 0) == derived_id("make", 0) != derived_id("make", 1)
    True
    """
    return digest((node, ordinal)).hex()[:16]


def value_of_changes(changes: Sequence[tuple[Any, ...]], shape: str, own: Any, node: str) -> Any:
    """Give the value of a step that returned only changes: their ids (rule V1)."""
    ids = []
    for ordinal, change in enumerate(changes):
        if change[0] == "create":
            id = change[2]["id"]
            ids.append(derived_id(node, ordinal) if id is AUTO else id)
        else:
            id = change[2]
            ids.append(own if change[1] is None else id)
    return ids[0] if shape == "change" else ids


def amended(
    changes: tuple[tuple[Any, ...], ...], edited: Mapping[tuple[str, Any], Mapping[str, Any] | None], node: str
) -> tuple[tuple[Any, ...], ...]:
    """Give a node's changes with what was edited by hand in a saved version, whoever creates it (rule R7).

    A record is created as it was edited, and one that was taken out (None) is not.
    """
    found, same = [], True
    for ordinal, change in enumerate(changes):
        if change[0] == "create":
            id = derived_id(node, ordinal) if change[2]["id"] is AUTO else change[2]["id"]
            fields = edited.get((change[1], id), change[2])
            same = same and fields is change[2]
            if fields is None:
                continue
            change = change[0], change[1], {**fields, "id": id}, change[3]  # ids do not move up when one is left out
        found.append(change)
    return changes if same else tuple(found)


def check(world: World, asker: Asker, own: Row | None, changes: Iterable[tuple[Any, ...]], node: str) -> list[Effect]:
    """Check changes in order, each on the result of those before; raises before anything is written."""
    view = asker.view()
    after: dict[tuple[str, Any], Any] = {}
    effects: list[Effect] = []
    for ordinal, change in enumerate(changes):
        kind, model = change[0], change[1]
        if model is None:
            if own is None:
                raise CpgraphError(
                    "update(field=…) writes to the step's own record, and this step has none",
                    {"fields": ", ".join(change[3])},
                    "write cp.update(record, field=…), or run its pipeline each= record.",
                )
            table, id = own.table, own.id
        else:
            table = world.records.table(model)
            id = change[2]["id"] if kind == "create" else change[2]
        if kind == "create" and id is AUTO:
            id = derived_id(node, ordinal)
        if kind == "create" and wrong_id(id):
            raise CpgraphError(f"{table.name} cannot have the id {id!r}: {wrong_id(id)}", mend="make it an int or a str.")
        key = (table.name, id)
        state = after[key] if key in after else view.get(table, id)
        if kind == "create":
            if state is not None and change[3] == "keep":
                continue
            if state is not None:
                raise CpgraphError(
                    f"{table.name} {id!r} exists already",
                    {"change": "create"},
                    'give another id, update it, or say create(…, if_exists="keep").',
                )
            fields = {**change[2], "id": id}
            _check_created(table, fields)
            after[key] = State(table.make(fields))
            effects.append(Effect(table, "create", id, fields, ordinal, change[3] == "keep"))
            continue
        if state is None:
            raise not_found(table.name, id, [row.id for row, _ in view.rows(table)])
        if kind == "delete":
            after[key] = None
            effects.append(Effect(table, "delete", id, {}, ordinal))
        else:
            fields = change[3]
            if type(fields.get("id")) is type(id) and fields["id"] == id:  # it is no other than it was
                fields = {name: value for name, value in fields.items() if name != "id"}
            if table.model is not None:
                check_update(table.model, fields)
            if fields:
                after[key] = State(table.evolve(state.record, fields))
                effects.append(Effect(table, "update", id, fields, ordinal))
    return effects


def _check_created(table: Table, fields: Mapping[str, Any]) -> None:
    if table.model is not None:
        check_update(table.model, {name: value for name, value in fields.items() if name != "id"})


def apply(world: World, asker: Asker, effects: Sequence[Effect], commit: int) -> Applied:
    """Write checked changes under one commit number."""
    applied = Applied()
    for effect in effects:
        table = effect.table
        row = table.rows.get(effect.id)
        if effect.kind == "create":
            _create(world, asker, effect, row, commit, applied)
        else:
            assert row is not None
            _alter(asker, effect, row, commit, applied)
        table.changed = commit
    return applied


def _create(world: World, asker: Asker, effect: Effect, row: Row | None, commit: int, applied: Applied) -> None:
    table, instance = effect.table, asker.instance
    write = Write(commit, "create", effect.fields, asker.unit, instance, effect.ordinal, None)
    if effect.keep:
        write.fields = _Kept(write.fields)
    rank = Rank(effect.ordinal, instance.generation + 1, asker.unit, instance.chain)
    if row is None:
        row = Row(table, effect.id, None, rank)
        write.state = State(table.make(effect.fields))
        table.created.append(row)
        table.rows[effect.id] = row
        applied.created.append(row)
    else:
        gone = False
        for other in [other for other in row.writes if other.kind != "update" and not asker.sees(other)]:
            if other.kind == "delete":
                if any(inner.row is row for inner in other.instance.chain):  # its own node, which comes after all creators
                    gone = True
                else:
                    _meet(applied, row, "id", asker, other)
            elif digest(dict(other.fields)) != digest(dict(effect.fields)):
                row.conflicted = True
                if effect.keep or isinstance(other.fields, _Kept):
                    applied.kept.append((table.name, effect.id))
                else:
                    _meet(applied, row, "id", asker, other)
        table.shared = True
        row.rank = min(row.rank, rank) if row.base is None else row.rank
        applied.created.append(row)
        if gone:
            applied.outcome[table.name, effect.id] = None
        write.state = row.last if gone or row.last is not None else State(table.make(effect.fields))
    row.writes.append(write)
    _settle(row, write, applied)
    applied.touched.append(row)


class _Kept(dict[str, Any]):
    """The fields of a record created with if_exists="keep"."""


def _meet(applied: Applied, row: Row, field: str, asker: Asker, other: Write) -> None:
    row.conflicted = True
    applied.conflicts.append(Conflict(row.table.name, row.id, field, asker.unit, asker.instance, other.unit, other.instance))


def _settle(row: Row, write: Write, applied: Applied) -> None:
    """Find what a record is after unordered writes; those who read the line are told, and need not find out again."""
    if not row.conflicted:
        return
    if row.heads is None and all(other.kind != "delete" for other in row.writes):
        row.heads = {}
        for other in row.writes[:-1]:
            _add_heads(row.heads, other)
    if row.heads is None or write.kind == "delete":
        row.heads = None
        write.state = fold(row, row.writes)
    else:
        _add_heads(row.heads, write)
        last = row.writes[-2].state if len(row.writes) > 1 else row.base
        if write.kind == "update" and last is not None:
            fields = {name: standing(row.heads[name]).fields[name] for name in write.fields}
            write.state = State(row.table.evolve(last.record, fields))
    record = write.state.record if write.state is not None else None
    names = [field.name for field in attrs.fields(row.table.model)] if row.table.model is not None else []
    applied.outcome[row.table.name, row.id] = {name: getattr(record, name) for name in names} if record is not None else None


def _add_heads(heads: dict[str, list[Write]], write: Write) -> None:
    for name in write.fields if write.kind == "update" else ():
        heads[name] = add_head(heads.get(name, []), write)


def _alter(asker: Asker, effect: Effect, row: Row, commit: int, applied: Applied) -> None:
    write = Write(commit, effect.kind, effect.fields, asker.unit, asker.instance, effect.ordinal, None)
    for field, other in _unordered(asker, row, effect):
        _meet(applied, row, field, asker, other)
    last = row.last
    if effect.kind == "update" and last is not None:
        write.state = State(row.table.evolve(last.record, effect.fields))
    elif effect.kind == "delete":
        row.table.deletes = True
    row.writes.append(write)
    _settle(row, write, applied)
    applied.touched.append(row)


def _unordered(asker: Asker, row: Row, effect: Effect) -> list[tuple[str, Write]]:
    """Find the writes this one conflicts with, latest first; what is before a write that is seen is settled."""
    met: list[tuple[str, Write]] = []
    deletes = effect.kind == "delete"
    pending = fields_met(row) if deletes else set(effect.fields)
    own = row.base is None and row in asker.own_rows()
    for write in reversed(row.writes):
        if write.kind == "create":
            if deletes and not own and not asker.sees(write):
                met.append(("id", write))
            continue
        if write.kind == effect.kind == "delete":
            continue
        shared = pending if deletes or write.kind == "delete" else pending & write.fields.keys()
        if not shared:
            continue
        if asker.sees(write):
            pending = pending if deletes or row.conflicted else pending - shared  # after a conflict nothing is settled
        else:
            met.extend((field, write) for field in sorted(write.fields if deletes else shared))
        if len(met) > ENOUGH or (not deletes and not pending):
            break
    return met


def fields_met(row: Row) -> set[str]:
    """Give the fields of a record that were written."""
    return {name for write in row.writes if write.kind == "update" for name in write.fields}
