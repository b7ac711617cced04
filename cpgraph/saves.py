"""Saved versions: the records, and beside them under `progress:` what had been done, as data that a person may edit (rule R7).

A resume begins at the records the run began with, and makes what was done again out of its results, as from a journal. So
`progress` has, beside the results, whatever of the records at the beginning cannot be seen in those of the version:

    origin     records that were other when the run began (`changed`), that it deleted, and the ids of those it created; of the
               fields that steps have written since then a digest each, so that a person's edits can be told from that (`written`)
    steps      the steps of the graph, their fingerprints, and the models each of them runs over
    done       results, by who made them: the parts of their inputs, what they read and changed, and the value

A value is kept as plain data, with its digest. It is read back as it stands, or as the step's annotation says, whichever has
that digest; where none has, or the value is not plain at all (`again`), its node runs again. So nothing depends on trust.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, Protocol

import attrs

from cpgraph import data, documents
from cpgraph.annotations import brief
from cpgraph.commits import derived_id
from cpgraph.contents import as_data
from cpgraph.digest import Undigestible
from cpgraph.errors import CpgraphError, DataError
from cpgraph.lines import Entry, Line, StepMeta
from cpgraph.models import AUTO, File, Files
from cpgraph.nodes import node_id
from cpgraph.pickles import loads
from cpgraph.records import State, Table
from cpgraph.results import PART, Head
from cpgraph.rows import field_readers
from cpgraph.scalars import Misfit, plain_record, plain_value
from cpgraph.store import Store
from cpgraph.views import View

__all__ = ["FORMAT", "field_digest", "save_version"]

FORMAT: Final = 1
DEEPEST: Final = 100  # levels of a value; what nests deeper is made again
EXACT: Final = (type(None), bool, int, float, str)
NO_CLASSES: Final = "import the script that defines its models, and take the version from a run that it made."

Node = tuple[str, tuple[Any, ...]]


# As plain data


class _NotPlain(Exception):
    """A value cannot be written as plain data."""


def _plain(value: Any) -> Any:
    """Give a value as data that YAML and JSON both give back as it is."""
    try:
        text = documents.dump(plain_value(value), json=True)
        text.encode()
        return documents.parse(text, "", json=True, deepest=DEEPEST).data
    except (DataError, RecursionError, TypeError, ValueError):
        raise _NotPlain from None


def _exact(value: Any) -> Any:
    """Give a value that is plain already, and cannot be mistaken for another."""
    if type(value) not in EXACT:
        raise _NotPlain
    return value


def _fields(cls: Any, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Give fields of a model as plain data, if they are read back as they are."""
    readers = field_readers(cls)
    made: dict[str, Any] = _plain({name: value for name, value in fields.items() if name in readers})
    try:
        if all(as_data(readers[name](value, None)) == as_data(fields[name]) for name, value in made.items()):
            return made
    except Misfit:
        pass
    raise _NotPlain


# Saving


class _Run(Protocol):
    number: int
    graph: str

    @property
    def line(self) -> Line: ...
    @property
    def meta(self) -> dict[str, Any]: ...
    def fingerprint_of(self, run: int, unit: int) -> str: ...
    def inputs_of(self, run: int, unit: int, step: StepMeta) -> tuple[str, ...] | None: ...


class _Version(Protocol):
    place: int

    @property
    def run(self) -> Any: ...
    @property
    def number(self) -> int: ...
    @property
    def store(self) -> Store: ...


def save_version(version: _Version, path: str | os.PathLike[str]) -> None:
    """Save the records as of a version, and what had been done by then, as a YAML or JSON file."""
    assert version.store is not None  # which says so if the version is damaged
    _Saving(version, os.fspath(path)).save()


def _differing(before: State | None, after: State) -> dict[str, str]:
    """Give a digest of each field that is another than before."""
    if before is None:
        return {}
    cls: Any = type(after.record)
    names = [field.name for field in attrs.fields(cls) if field.init]
    digests = [(name, *(field_digest(state.record, name) for state in (before, after))) for name in names]
    return {name: now for name, then, now in digests if now != then}


def field_digest(record: Any, name: str) -> str:
    """Give a digest of a field's value; of one that has none, such as a file that is gone, it is empty."""
    try:
        return as_data(getattr(record, name)).hex()[:16]
    except CpgraphError:
        return ""


class _Saving:
    def __init__(self, version: _Version, path: str) -> None:
        self.version = version
        self.run: _Run = version.run
        self.line = self.run.line
        self.path = path
        missing = [name for name, table in self.line.records.tables.items() if table.model is None and table.rows]
        if missing:
            raise CpgraphError(f"{path}: {', '.join(missing)} cannot be saved without their classes", mend=NO_CLASSES)

    def save(self) -> None:
        view = self.line.view(self.version.place)
        records = {name: [state.record for _, state in view.rows(table)] for name, table in view.records.tables.items()}
        progress = {
            "format": FORMAT,
            "graph": self.run.graph,
            "run": self.run.number,
            "version": self.version.number,
            "params": self.params(),
            "steps": {step.name: self.step(step.unit) for step in self.line.steps.values()},
            "origin": {name: found for name, table in view.records.tables.items() if (found := self.origin(view, table))},
            "done": self.done(),
        }
        data.save(self.path, {name: of for name, of in records.items() if of}, progress)

    def params(self) -> dict[str, Any]:
        address = self.run.meta.get("params")
        body = self.line.journal.blob(address) if address else None
        found = {}
        for name, value in (loads(body) if body is not None else {}).items():
            try:
                found[name] = _plain({**_written(value), "digest": as_data(value).hex()})
            except _NotPlain:
                found[name] = {}
        return found

    def step(self, unit: int) -> dict[str, Any]:
        step = self.line.steps[unit]
        models = [self.line.scopes[scope].model for scope in self.line.scopes[step.scope].chain]
        return {"fingerprint": step.fingerprint, **({"each": models} if models else {})}

    # Records as they were when the run began

    def origin(self, view: View, table: Table) -> dict[str, Any]:
        changed: list[Any] = []
        deleted: list[Any] = []
        created: list[Any] = []
        written: list[Any] = []
        place = 0
        for row in table.rows.values():
            state, before = view.state(row), row.base
            if row.base is not None:
                if state is None:
                    deleted.append([place, self.row(row.base)])
                elif state is not row.base and as_data(state.record) != as_data(row.base.record):
                    changed.append(self.row(row.base))
                place += 1
            creates = [write for write in row.writes if write.kind == "create" and view.sees(write)]
            if state is not None and creates:
                created.append(row.id)
                before = creates[0].state
            if state is not None and state is not before and (fields := _differing(before, state)):
                written.append([row.id, fields])
        found = {"changed": changed, "deleted": deleted, "created": created, "written": written}
        return {name: rows for name, rows in found.items() if rows}

    def row(self, state: State) -> dict[str, Any]:
        record = state.record
        cls: Any = type(record)
        try:
            return _fields(cls, {field.name: getattr(record, field.name) for field in attrs.fields(cls)})
        except _NotPlain:
            said = f"{self.path}: a record, as the run began with it, cannot be saved as plain data"
            raise DataError(said, [f"{cls.__name__} {brief(record.id)}: {brief(plain_record(record))}"], data.ANNOTATE) from None

    # Results

    def done(self) -> list[dict[str, Any]]:
        """Give what was completed, by who made it; not where something failed: that is run from the record's top anyway."""
        entries: dict[Node, Entry] = {}
        failed = set()
        for entry in self.line:
            if entry.version > self.version.place:
                break
            step = self.line.steps.get(entry.unit)
            if step is not None and entry.ended in ("computed", "cached"):
                entries[step.name, entry.key] = entry
            elif step is not None and entry.ended == "failed":
                failed.add((step.scope, entry.key))
        kept = [
            entry for entry in entries.values() if not entry.key or (self.line.steps[entry.unit].scope, entry.key) not in failed
        ]
        heads = self.line.heads(kept)
        made: dict[tuple[str, str, tuple[str, ...]], dict[str, Any]] = {}
        for entry in kept:
            head = heads.get(entry.result)
            step = self.line.steps[entry.unit]
            names = self.run.inputs_of(head.run, head.unit, step) if head is not None else None
            if head is None or names is None:
                continue
            maker = step.name, self.run.fingerprint_of(head.run, head.unit), names
            if maker not in made:
                made[maker] = {"step": step.name, "fingerprint": maker[1], "inputs": list(names), "nodes": []}
            made[maker]["nodes"].append(self.node(entry, head))
        return list(made.values())

    def node(self, entry: Entry, head: Head) -> dict[str, Any]:
        ids = [str(id) if isinstance(id, str) else id for id in entry.key]
        where: dict[str, Any] = {"id": ids[0]} if len(ids) == 1 else {"ids": ids} if ids else {}
        found = dict(where)
        changes = [self.with_id(change, entry, ordinal) for ordinal, change in enumerate(head.changes)]
        try:
            if head.for_one_run:
                raise _NotPlain
            parts = [head.parts[at : at + PART].hex() for at in range(0, len(head.parts), PART)]
            found |= {"inputs": " ".join(parts)} if parts else {}
            found |= {"reads": [self.read(query, answer) for query, answer in head.reads]} if head.reads is not None else {}
            found |= {"changes": [self.change(change, entry) for change in changes]} if changes else {}
            found |= {"gives": head.shape} if head.shape != "value" else self.value_of(entry, head)
            return {**_plain(found), "started": round(head.started, 3), "seconds": round(head.seconds, 6)}
        except (_NotPlain, Undigestible, LookupError):
            created = [[change[1], change[2]["id"]] for change in changes if change[0] == "create"]
            return {**where, "again": True, **({"created": created} if created else {})}

    def with_id(self, change: tuple[Any, ...], entry: Entry, ordinal: int) -> tuple[Any, ...]:
        if change[0] != "create" or change[2]["id"] is not AUTO:
            return change
        made = derived_id(node_id(self.line.steps[entry.unit].name, entry.key), ordinal)
        return change[0], change[1], {**change[2], "id": made}, change[3]

    def change(self, change: tuple[Any, ...], entry: Entry) -> dict[str, Any]:
        kind, model = change[0], change[1]
        table = self.line.records.tables.get(model or self.line.own(self.line.steps[entry.unit], entry.key)[0] or "")
        if table is None or table.model is None:
            raise _NotPlain
        if kind == "create":
            keep = {"if_exists": "keep"} if change[3] == "keep" else {}
            return {"create": model, **keep, "fields": _fields(table.model, change[2])}
        if kind == "delete":
            return {"delete": model, "id": change[2]}
        fields = _fields(table.model, change[3])
        return {"update": model, "id": change[2], "fields": fields} if model is not None else {"update": fields}

    def read(self, query: tuple[Any, ...], answer: bytes) -> list[Any]:
        kind, model, rest = query
        if kind in ("count", "where"):
            rest = [[name, _exact(value)] for name, value in rest]
        elif kind == "get":
            rest = _exact(rest)
        return [kind, _exact(model), list(rest) if isinstance(rest, tuple) else rest, answer.hex()]

    def value_of(self, entry: Entry, head: Head) -> Any:
        if head.digest is None:
            raise _NotPlain
        try:
            value = self.line.value(entry.result)
        except CpgraphError:  # its class is gone
            raise _NotPlain from None
        return {**_written(value), "digest": head.digest.hex()}


def _written(value: Any) -> dict[str, Any]:
    """Give a value under the way it is to be read."""
    if isinstance(value, Files):
        return {"files": value.pattern}
    return {"file": value.path} if isinstance(value, File) else {"value": value}
