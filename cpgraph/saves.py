"""Saved versions: the records, and beside them under `progress:` what had been done, as data that a person may edit (rule R7).

A resume begins at the records the run began with, and makes what was done again out of its results, as from a journal. So
`progress` has, beside the results, whatever of the records at the beginning cannot be seen in those of the version:

    origin     records that were other when the run began (`changed`), that it deleted, and the ids of those it created
    steps      the steps of the graph, their fingerprints, and the models each of them runs over
    done       results, by who made them: the parts of their inputs, what they read and changed, and the value

A value is kept as plain data, with its digest. It is read back as it stands, or as the step's annotation says, whichever has
that digest; where none has, or the value is not plain at all (`again`), its node runs again. So nothing depends on trust.
"""

from __future__ import annotations

import datetime
import os
from functools import partial
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from cpgraph import data, documents
from cpgraph.annotations import brief
from cpgraph.commits import derived_id
from cpgraph.compile import Compiled
from cpgraph.contents import as_data, met
from cpgraph.digest import Undigestible, digest
from cpgraph.errors import CpgraphError, DataError
from cpgraph.lines import Entry, Line
from cpgraph.models import AUTO, File, Files
from cpgraph.nodes import node_id
from cpgraph.pickles import dumps, loads
from cpgraph.results import ADOPTED, PART, Head, Taken
from cpgraph.rows import convert, field_readers, row_reader
from cpgraph.scalars import Misfit, plain_record, plain_value
from cpgraph.steps import EMPTY
from cpgraph.store import Records, State, Table, View

__all__ = ["Saved", "read_saved", "save_version"]

FORMAT: Final = 1
DEEPEST: Final = 100  # levels of a value; what nests deeper is made again
LARGEST: Final = 10**4_000  # a number with more digits would not be read
EXACT: Final = (type(None), bool, int, float, str)
NO_CLASSES: Final = "import the script that defines its models, and take the version from a run that it made."

Node = tuple[str, tuple[Any, ...]]


class _NotPlain(Exception):
    """A value cannot be written as plain data."""


# As plain data


def _plain(value: Any, json: bool, level: int = 0) -> Any:
    """Give a value as data that YAML, or JSON, gives back as it is."""
    if level == 0:
        value = plain_value(value)
    kind = type(value)
    if kind is str:
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _NotPlain from None
        return value
    if kind is int:
        if abs(value) >= LARGEST:
            raise _NotPlain
        return value
    if kind in EXACT:
        return value
    if level > DEEPEST:
        raise _NotPlain
    if kind is list:
        return [_plain(item, json, level + 1) for item in value]
    if kind is dict:
        made = {_key(key, json): _plain(item, json, level + 1) for key, item in value.items()}
        if len(made) == len(value):
            return made
    if kind is bytes:
        import base64

        return base64.b64encode(value).decode()
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    raise _NotPlain


def _key(key: Any, json: bool) -> Any:
    if type(key) is int and not json:
        return key
    if type(key) in (str, int):
        return _plain(str(key), json, 1)
    raise _NotPlain


def _exact(value: Any) -> Any:
    """Give a value that is plain already, and cannot be mistaken for another."""
    if type(value) not in EXACT:
        raise _NotPlain
    return _plain(value, False, 1)


def _fields(cls: Any, fields: Mapping[str, Any], json: bool) -> dict[str, Any]:
    """Give fields of a model as plain data, if they can be read back as they are."""
    readers = field_readers(cls)
    made = {}
    for name, value in fields.items():
        if name not in readers:
            continue
        made[name] = written = _plain(value, json)
        try:
            again = readers[name](written, None)
        except Misfit:
            raise _NotPlain from None
        if as_data(again) != as_data(value):
            raise _NotPlain
    return made


# Saving


class _Run(Protocol):
    number: int
    graph: str

    @property
    def line(self) -> Line: ...
    @property
    def meta(self) -> dict[str, Any]: ...
    def fingerprint_of(self, run: int, unit: int) -> str: ...
    def inputs_of(self, run: int, unit: int) -> tuple[str, ...] | None: ...


class _Version(Protocol):
    place: int

    @property
    def run(self) -> Any: ...
    @property
    def number(self) -> int: ...
    @property
    def store(self) -> Any: ...


def save_version(version: _Version, path: str | os.PathLike[str]) -> None:
    """Save the records as of a version, and what had been done by then, as a YAML or JSON file."""
    version.store  # which says so if the version is damaged
    _Saving(version, os.fspath(path)).save()


class _Saving:
    def __init__(self, version: _Version, path: str) -> None:
        self.version = version
        self.run: _Run = version.run
        self.line = self.run.line
        self.path = path
        self.json = documents.is_json(path)
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
        return {name: self.value(value, as_data) for name, value in (loads(body) if body is not None else {}).items()}

    def step(self, unit: int) -> dict[str, Any]:
        step = self.line.steps[unit]
        models = [self.line.scopes[scope].model for scope in self.line.scopes[step.scope].chain]
        return {"fingerprint": step.fingerprint, **({"each": models} if models else {})}

    # Records as they were when the run began

    def origin(self, view: View, table: Table) -> dict[str, Any]:
        changed: list[Any] = []
        deleted: list[Any] = []
        created: list[Any] = []
        place = 0
        for row in table.rows.values():
            state = view.state(row)
            if row.base is not None:
                if state is None:
                    deleted.append([place, self.row(row.base)])
                elif state is not row.base and as_data(state.record) != as_data(row.base.record):
                    changed.append(self.row(row.base))
                place += 1
            if state is not None and any(write.kind == "create" and view.sees(write) for write in row.writes):
                created.append(row.id)
        found = {"changed": changed, "deleted": deleted, "created": created}
        return {name: rows for name, rows in found.items() if rows}

    def row(self, state: State) -> dict[str, Any]:
        record = state.record
        try:
            return _fields(
                type(record), {field.name: getattr(record, field.name) for field in attrs.fields(type(record))}, self.json
            )
        except _NotPlain:
            raise DataError(
                f"{self.path}: {type(record).__name__} {brief(record.id)}, as the run began with it, cannot be saved as plain data",
                [str(plain_record(record))[:200]],
                data.ANNOTATE,
            ) from None

    # Results

    def done(self) -> list[dict[str, Any]]:
        """Give what was completed, by who made it; not of a record at which something failed, which is run from its top anyway."""
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
            names = self.run.inputs_of(head.run, head.unit) if head is not None else None
            if head is None or names is None:
                continue
            step = self.line.steps[entry.unit]
            maker = step.name, self.run.fingerprint_of(head.run, head.unit), names
            if maker not in made:
                sets = {"sets": step.sets} if step.sets else {}
                made[maker] = {"step": step.name, "fingerprint": maker[1], "inputs": list(names), **sets, "nodes": []}
            made[maker]["nodes"].append(self.node(entry, head))
        return list(made.values())

    def node(self, entry: Entry, head: Head) -> dict[str, Any]:
        found: dict[str, Any] = {"ids": [str(id) if isinstance(id, str) else id for id in entry.key]} if entry.key else {}
        changes = [self.with_id(change, entry, ordinal) for ordinal, change in enumerate(head.changes)]
        try:
            if head.for_one_run:
                raise _NotPlain
            parts = [head.parts[at : at + PART].hex() for at in range(0, len(head.parts), PART)]
            found |= {"inputs": parts} if parts else {}
            found |= {"reads": [self.read(query, answer) for query, answer in head.reads]} if head.reads is not None else {}
            found |= {"changes": [self.change(change, entry) for change in changes]} if changes else {}
            found |= {"gives": head.shape} if head.shape != "value" else self.value_of(entry, head)
            return {**found, "started": head.started, "seconds": head.seconds}
        except (_NotPlain, Undigestible, LookupError):
            created = [[change[1], change[2]["id"]] for change in changes if change[0] == "create"]
            ids = {"ids": found["ids"]} if entry.key else {}
            return {**ids, "again": True, **({"created": created} if created else {})}

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
            return {"create": model, **keep, "fields": _fields(table.model, change[2], self.json)}
        if kind == "delete":
            return {"delete": model, "id": change[2]}
        return {"update": model, "id": change[2], "fields": _fields(table.model, change[3], self.json)}

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
        found = self.value(value, None)
        if not found:
            raise _NotPlain
        return {**found, "digest": head.digest.hex()}

    def value(self, value: Any, address: Callable[[Any], bytes] | None) -> dict[str, Any]:
        """Give a value as plain data under the way it is to be read, and its digest; nothing if it is not plain."""
        try:
            if isinstance(value, Files):
                found = {"files": _plain(value.pattern, self.json)}
            elif isinstance(value, File):
                found = {"file": _plain(value.path, self.json)}
            else:
                found = {"value": _plain(value, self.json)}
        except (_NotPlain, RecursionError):
            return {}
        return {**found, "digest": address(value).hex()} if address is not None else found


# Reading


@attrs.frozen
class Saved:
    """What a saved version says, as far as it stands: see `kept.Resumed`."""

    text: str
    params: Mapping[str, Any]
    lost: tuple[str, ...]
    states: Sequence[State]
    steps: Mapping[str, Mapping[str, Any]]
    adopted: Mapping[int, Mapping[str, Any]]
    taken: Sequence[Taken]
    edited: Mapping[tuple[str, Any], Mapping[str, Any] | None]
    hints: Sequence[tuple[str, str, str]]


def read_saved(path: str, compiled: Compiled) -> Saved:
    """Read a saved version. What was edited by hand runs again from its first step; the rest is as it was saved."""
    loaded = data.load(path, list(compiled.models.values()))
    progress = loaded.progress
    if progress is None:
        raise DataError(f"{path}: there is no section `progress:`: this is no saved version", mend="run it: graph.run(path).")
    if isinstance(progress, dict) and isinstance(progress.get("format"), int) and progress["format"] > FORMAT:
        mend = "use that version, or take `progress:` out and run the file as data: graph.run(path)."
        raise DataError(f"{path}: a later version of cpgraph saved this (format {progress['format']})", mend=mend)
    try:
        return _Reading(path, compiled, loaded, progress).saved()
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        mend = "take it out, and run the file as data: graph.run(path)."
        raise DataError(
            f"{path}: the section `progress:` is not as it was saved", [f"{type(error).__name__}: {error}"], mend
        ) from error


class _Reading:
    def __init__(self, path: str, compiled: Compiled, loaded: data.Loaded, progress: dict[str, Any]) -> None:
        self.path = path
        self.compiled = compiled
        self.loaded = loaded
        self.progress = progress
        self.touched = loaded.edited | loaded.removed
        self.each = {name: step.get("each", []) for name, step in progress["steps"].items()}
        self.again = 0

    def saved(self) -> Saved:
        adopted: dict[int, dict[str, Any]] = {}
        taken: list[Taken] = []
        for made in self.progress["done"]:
            unit = ADOPTED + len(adopted)
            name = made["step"]
            adopted[unit] = {
                "name": name,
                "unit": unit,
                "scope": 0,
                "sets": made.get("sets"),
                "fingerprint": made["fingerprint"],
                "inputs": tuple(made["inputs"]),
                "where": "",
                "parts": b"",
            }
            taken.extend(self.results(made, unit))
        params, lost = self.params()
        states, edited = self.records()
        done = f"{len(taken):,} nodes done" + (f", {self.again:,} to be made again" if self.again else "")
        return Saved(
            f"from {self.path} (version v{self.progress['version']} of run {self.progress['run']}), {done}",
            params,
            lost,
            states,
            {name: {"name": name, "fingerprint": step["fingerprint"]} for name, step in self.progress["steps"].items()},
            adopted,
            taken,
            edited,
            list(self.hints()),
        )

    def hints(self) -> Iterator[tuple[str, str, str]]:
        for kind, keys, said in (
            ("edited", self.loaded.edited, "edited or added by hand, and run from the first step"),
            ("removed", self.loaded.removed, "taken out by hand, and gone with what was done for it"),
        ):
            if keys:
                shown = [f"{model} {id!r}" for model, id in sorted(keys, key=str)]
                more = f" and {len(shown) - 5:,} more" if len(shown) > 5 else ""
                yield kind, f"{', '.join(shown[:5])}{more}: {said}", ""

    # Records

    def records(self) -> tuple[list[State], dict[tuple[str, Any], Mapping[str, Any] | None]]:
        """Give the records to begin with, and what a node creates that was edited by hand (None: taken out)."""
        origin = {name: self.progress["origin"].get(name, {}) for name in self.compiled.models}
        created = {(name, id) for name, of in origin.items() for id in of.get("created", ())}
        base: dict[tuple[str, Any], Any] = {}
        for name, of in origin.items():
            base.update(((name, record.id), record) for record in map(self.reader(name), of.get("changed", ())))
        orphans = self.orphans(created)
        edited: dict[tuple[str, Any], Mapping[str, Any] | None] = {}
        tables: dict[str, list[Any]] = {name: [] for name in self.compiled.models}
        there = set()
        for record in self.loaded.records:
            key = name, _ = type(record).__name__, record.id
            there.add(key)
            if key in created and key not in orphans:
                if key in self.loaded.edited:
                    edited[key] = {field.name: getattr(record, field.name) for field in attrs.fields(type(record)) if field.init}
                if key in base:
                    tables[name].append(base[key])
            elif key in self.loaded.edited:
                tables[name].append(record)
            else:
                tables[name].append(orphans.get(key) or base.get(key) or record)
        edited.update({key: None for key in self.loaded.removed & created})
        for name, of in origin.items():
            for place, row in of.get("deleted", ()):
                record = self.reader(name)(row)
                if (name, record.id) not in there:
                    tables[name].insert(place, record)
        return [State(record) for records in tables.values() for record in records], edited

    def reader(self, name: str) -> Callable[[Mapping[str, Any]], Any]:
        read = row_reader(self.compiled.models[name])

        def record(row: Mapping[str, Any]) -> Any:
            try:
                return read(row)
            except Misfit as misfit:
                rows = [f"{name} {row.get('id')!r}, field {way!r}: {text}" for way, text in misfit.problems]
                mend = "run the file as data: graph.run(path)."
                raise DataError(f"{self.path}: what the run began with does not fit the models any more", rows, mend) from None

        return record

    def orphans(self, created: set[tuple[str, Any]]) -> dict[tuple[str, Any], Any]:
        """Give the records whose creators were taken out by hand, as they were created: they stand, and begin with the others."""
        found: dict[tuple[str, Any], Any] = {}
        living = set()
        for made in self.progress["done"]:
            for node in made["nodes"]:
                gone = self.is_of(made["step"], node, self.loaded.removed)
                for model, id, fields in _creations(node):
                    if not gone:
                        living.add((model, id))
                    elif (model, id) in created and fields is not None:
                        found.setdefault((model, id), self.reader(model)(fields))
        return {key: record for key, record in found.items() if key not in living}

    def is_of(self, step: str, node: Mapping[str, Any], keys: Iterable[tuple[str, Any]]) -> bool:
        """Tell whether a node is of one of these records, or inside of one."""
        return any((model, id) in keys for model, id in zip(self.each.get(step, ()), node.get("ids", ()), strict=False))

    # Results

    def results(self, made: Mapping[str, Any], unit: int) -> Iterator[Taken]:
        name = made["step"]
        if name not in self.compiled.steps:
            return
        step = self.compiled.units[self.compiled.steps[name]].step
        assert step is not None
        own = next((model for model in reversed(self.each[name]) if model is not None), None)
        annotations = [step.returns]
        for node in made["nodes"]:
            if self.is_of(name, node, self.touched):
                continue
            found = None if node.get("again") else self.head(node, unit, own, annotations)
            if found is None:
                self.again += 1
            else:
                yield (name, tuple(node.get("ids", ()))), *found

    def head(self, node: Mapping[str, Any], unit: int, own: str | None, annotations: list[Any]) -> tuple[Head, bytes] | None:
        reads = tuple(self.read(*read) for read in node["reads"]) if "reads" in node else None
        try:
            changes = tuple(self.change(change, own) for change in node.get("changes", ()))
        except (Misfit, KeyError):  # of a model that is not what it was
            return None
        address: bytes | None = None
        value, has_files = None, False
        if "gives" not in node:
            address = bytes.fromhex(node["digest"])
            before = met.count
            found = _read_value(node, annotations, digest, address)
            if not found:
                return None
            value, has_files = found[0], met.count != before
        parts = bytes.fromhex("".join(node.get("inputs", ())))
        head = Head(
            0,
            unit,
            node["started"],
            node["seconds"],
            address,
            parts,
            changes,
            node.get("gives", "value"),
            reads,
            False,
            has_files,
        )
        return head, dumps(value)

    def read(self, kind: str, model: str, rest: Any, answer: str) -> tuple[Any, bytes]:
        if kind in ("count", "where"):
            rest = tuple((name, value) for name, value in rest)
        elif kind != "get":
            rest = tuple(rest)
        return (kind, model, rest), bytes.fromhex(answer)

    def change(self, change: Mapping[str, Any], own: str | None) -> tuple[Any, ...]:
        if "delete" in change:
            return "delete", change["delete"], change["id"]
        model = change["create"] if "create" in change else change["update"]
        readers = field_readers(self.compiled.models[model or own or ""])
        fields = {name: readers[name](value, None) for name, value in change["fields"].items()}
        if "create" in change:
            return "create", model, fields, change.get("if_exists", "error")
        return "update", model, change["id"], fields

    def params(self) -> tuple[dict[str, Any], tuple[str, ...]]:
        """Give the parameters the run was given, and the names of those that could not be saved."""
        params, lost = {}, []
        for name, saved in self.progress["params"].items():
            if name not in self.compiled.parameters:
                continue
            annotation = self.compiled.annotations.get(name, EMPTY)
            found = _read_value(saved, [annotation], as_data, bytes.fromhex(saved["digest"])) if saved else None
            if found:
                params[name] = found[0]
            else:
                lost.append(name)
        return params, tuple(lost)


def _creations(node: Mapping[str, Any]) -> Iterator[tuple[str, Any, Mapping[str, Any] | None]]:
    """Give what a node created: model, id, and fields if they are known."""
    for model, id in node.get("created", ()):
        yield model, id, None
    for change in node.get("changes", ()):
        if "create" in change:
            yield change["create"], change["fields"]["id"], change["fields"]


def _read_value(
    saved: Mapping[str, Any], annotations: Iterable[Any], address: Callable[[Any], bytes], known: bytes
) -> tuple[Any] | None:
    """Read a value in the way that gives it the digest it had."""
    for candidate in _candidates(saved, annotations):
        try:
            value = candidate()
            if address(value) == known:
                return (value,)
        except CpgraphError:
            continue
    return None


def _candidates(saved: Mapping[str, Any], annotations: Iterable[Any]) -> Iterator[Callable[[], Any]]:
    if "files" in saved:
        yield lambda: Files(saved["files"])
    elif "file" in saved:
        yield lambda: File(saved["file"])
    else:
        yield lambda: saved["value"]
        yield from (
            partial(convert, saved["value"], annotation, "a value") for annotation in annotations if annotation is not EMPTY
        )
