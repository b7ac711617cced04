"""Reading saved versions back: what stands of what had been done, and what is to run again (rule R7; see `saves` for the format).

A record edited by hand begins as the run began with it, with what was edited, and nothing that was done for it is kept. If
it was created in the run, whoever creates it creates it so. One that was taken out is gone with what was done for it; what
its nodes had created stands, and begins as it was created. All else begins and is kept as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import attrs

from cpgraph import data
from cpgraph.contents import as_data, met
from cpgraph.digest import digest
from cpgraph.errors import CpgraphError, DataError
from cpgraph.fingerprint import code_in
from cpgraph.models import File, Files, evolved, field_types
from cpgraph.pickles import dumps
from cpgraph.records import State
from cpgraph.results import ADOPTED, Head, Taken
from cpgraph.rows import convert, field_readers, row_reader
from cpgraph.saves import FORMAT, field_digest
from cpgraph.scalars import Misfit
from cpgraph.steps import EMPTY
from cpgraph.structure import Compiled
from cpgraph.tellings import some

__all__ = ["Saved", "read_saved"]


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
        self.rewritten: set[tuple[tuple[str, Any], str]] = set()  # fields edited by hand that steps had written

    def saved(self) -> Saved:
        if self.each and not self.each.keys() & self.compiled.steps.keys():
            said = f"this was saved by another graph, {self.progress['graph']!r}: no step of it is in {self.compiled.name!r}"
            raise DataError(
                f"{self.path}: {said}",
                mend="resume it with that graph, or run the file as data: graph.run(path).",
            )
        adopted: dict[int, dict[str, Any]] = {}
        taken: list[Taken] = []
        for made in self.progress["done"]:
            unit = ADOPTED + len(adopted)
            name = made["step"]
            adopted[unit] = {
                "name": name,
                "unit": unit,
                "scope": 0,
                "sets": None,
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
            ("edited", self.loaded.edited, "edited or added by hand: what was done for it is not kept"),
            ("removed", self.loaded.removed, "taken out by hand, and gone with all but the records that it made"),
        ):
            if keys:
                yield kind, f"{some([f'{model} {id!r}' for model, id in sorted(keys, key=str)], 5)}: {said}", ""
        if self.rewritten:
            fields = [f"{name} of {model} {id!r}" for (model, id), name in sorted(self.rewritten, key=str)]
            said = f"{some(fields, 5)}: edited by hand, and written by steps, which write it again when they run"
            yield "edited-written", said, "edit what the steps work from; or take `progress:` out, and run the file as data."

    # Records

    def records(self) -> tuple[list[State], dict[tuple[str, Any], Mapping[str, Any] | None]]:
        """Give the records to begin with, and what a node creates that was edited by hand (None: taken out)."""
        origin = {name: self.progress["origin"].get(name, {}) for name in self.compiled.models}
        created = {(name, id) for name, of in origin.items() for id in of.get("created", ())}
        base: dict[tuple[str, Any], Any] = {}
        for name, of in origin.items():
            base.update(((name, record.id), record) for record in map(self.reader(name), of.get("changed", ())))
        written = {(name, id): fields for name, of in origin.items() for id, fields in of.get("written", ())}
        made = self.creations()
        orphans = self.orphans(created)
        edited: dict[tuple[str, Any], Mapping[str, Any] | None] = {}
        tables: dict[str, list[Any]] = {name: [] for name in self.compiled.models}
        there = set()
        for record in self.loaded.records:
            key = name, _ = type(record).__name__, record.id
            there.add(key)
            if key in created and key not in orphans:
                if key in self.loaded.edited:
                    record = self.as_edited(record, made.get(key), written.get(key, {}))
                    edited[key] = {field.name: getattr(record, field.name) for field in attrs.fields(type(record)) if field.init}
                if key in base:
                    tables[name].append(base[key])
            elif key in self.loaded.edited:
                tables[name].append(self.as_edited(record, orphans.get(key) or base.get(key), written.get(key, {})))
            else:
                tables[name].append(orphans.get(key) or base.get(key) or record)
        edited.update(dict.fromkeys(self.loaded.removed & created))
        for name, of in origin.items():
            for place, row in of.get("deleted", ()):
                record = self.reader(name)(row)
                if (name, record.id) not in there:
                    tables[name].insert(place, record)
        return [State(record) for records in tables.values() for record in records], edited

    def as_edited(self, record: Any, before: Any, written: Mapping[str, str]) -> Any:
        """Give a record as it was before steps wrote to it, but for what was edited by hand."""
        if before is None:
            return record
        by_steps = [name for name, known in written.items() if field_digest(record, name) == known]
        key = type(record).__name__, record.id
        self.rewritten.update((key, name) for name in written if name not in by_steps)
        return evolved(record, {name: getattr(before, name) for name in by_steps})

    def creations(self) -> dict[tuple[str, Any], Any]:
        """Give the records that were created and then edited by hand, as they were created."""
        found: dict[tuple[str, Any], Any] = {}
        for node in (node for made in self.progress["done"] for node in made["nodes"]):
            for model, id, fields in _creations(node):
                if (model, id) in self.loaded.edited and fields is not None and model in self.compiled.models:
                    found.setdefault((model, id), self.reader(model)(fields))
        return found

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
        return any((model, id) in keys for model, id in zip(self.each.get(step, ()), _key(node), strict=False))

    # Results

    def results(self, made: Mapping[str, Any], unit: int) -> Iterator[Taken]:
        name = made["step"]
        if name not in self.compiled.steps:
            return
        step = self.compiled.units[self.compiled.steps[name]].step
        assert step is not None
        own = next((model for model in reversed(self.each[name]) if model is not None), None)
        annotations = [step.returns]
        if step.options.sets is not None and own is not None and own in self.compiled.models:
            annotations.append(field_types(self.compiled.models[own]).get(step.options.sets, EMPTY))
        for node in made["nodes"]:
            if self.is_of(name, node, self.touched):
                continue
            found = None if node.get("again") else self.head(node, unit, own, annotations)
            if found is None:
                self.again += 1
            else:
                yield (name, _key(node)), *found

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
        parts = bytes.fromhex(node.get("inputs", ""))
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
            code_in(value),
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
        fields = change["fields"] if "fields" in change else change["update"]
        model = None if "fields" not in change else change["create"] if "create" in change else change["update"]
        readers = field_readers(self.compiled.models[model or own or ""])
        fields = {name: readers[name](value, None) for name, value in fields.items()}
        if "create" in change:
            return "create", model, fields, change.get("if_exists", "error")
        return "update", model, change.get("id"), fields

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


def _key(node: Mapping[str, Any]) -> tuple[Any, ...]:
    return (node["id"],) if "id" in node else tuple(node.get("ids", ()))


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
