"""Records in and out: what a run begins with, what a version is saved as.

A saved version is a YAML (or JSON) file that a person edits: the rows of each model, then `digests:`, by which rows that were
edited are known, then `progress:`, which says what had been done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from cpgraph import documents
from cpgraph.annotations import brief
from cpgraph.contents import as_data
from cpgraph.digest import Undigestible, digest
from cpgraph.errors import DataError, nearest
from cpgraph.models import AUTO, Create, Delete, Update, evolved, is_model, model_name, record_misfits, update_misfits
from cpgraph.names import location
from cpgraph.rows import row_reader
from cpgraph.scalars import Misfit, plain_record, plain_value

__all__ = ["Loaded", "is_saved", "load", "plain", "save"]

DIGESTS: Final = "digests"
PROGRESS: Final = "progress"

Key = tuple[str, int | str]


@attrs.frozen
class Loaded:
    """Records as they came in, and what a saved version says beside them.

    `edited` are the records of a saved version that were altered or added by hand, `removed` those that were taken out, both
    as (model, id).
    """

    records: tuple[Any, ...] = ()
    progress: Any = None
    edited: frozenset[Key] = frozenset()
    removed: frozenset[Key] = frozenset()
    path: str | None = None


# In


def load(source: Any, models: Sequence[type]) -> Loaded:
    """Take data in any of the ways they may be given, as records; `DataError` lists every row that does not fit.

    A dict of rows by model or its name, a list of records, changes, the path of a YAML or JSON file or of a saved version, or a
    function that gives any of these.
    """
    where = "data"
    if callable(source) and not isinstance(source, type | Mapping | os.PathLike):
        where = f"data from {getattr(source, '__name__', 'a function')}()"
        source = source()
        if hasattr(source, "__await__"):
            getattr(source, "close", int)()
            raise DataError(f"{where}: an async function cannot give data", mend="make it a plain function.")
    if source is None:
        return Loaded()
    loading = _Loading({model_name(cls): cls for cls in models}, where)
    with documents.gc_paused():
        if isinstance(source, str | os.PathLike):
            return _load_file(os.fspath(source), loading)
        if isinstance(source, Mapping):
            loading.tables(source)
        elif isinstance(source, Iterable) and not isinstance(source, type | bytes):
            loading.entries(source)
        else:
            raise DataError(f"{where}: {brief(source)} holds no records", mend=WAYS)
        return Loaded(loading.done())


WAYS: Final = "give a dict of rows by model, a list of records or changes, the path of a YAML or JSON file, or a function."


def is_saved(source: Any) -> bool:
    """Tell whether data are the path of a saved version, which says what had been done."""
    if not isinstance(source, str | os.PathLike) or not os.path.isfile(source):
        return False
    with contextlib.suppress(OSError):  # which is told by who reads it as data
        if PROGRESS.encode() not in Path(source).read_bytes().replace(b"\0", b""):  # whatever its encoding; most need no parsing
            return False
    found = documents.read(os.fspath(source)).data
    return isinstance(found, dict) and PROGRESS in found


def _load_file(path: str, loading: _Loading) -> Loaded:
    loading.where = path
    loading.document = document = documents.read(path)
    if not isinstance(document.data, dict):
        found = brief(document.data)
        raise DataError(f"{path}: expected rows by model, found {found}", mend="write `Model:` with a list of rows.")
    sections = dict(document.data)
    reserved = {name: sections.pop(name, None) for name in (DIGESTS, PROGRESS) if name not in loading.models}
    loading.tables(sections)
    records = loading.done()
    known = _read_digests(reserved.get(DIGESTS), path)
    if known is None:
        return Loaded(records, reserved.get(PROGRESS), path=path)
    keys = [(model_name(type(record)), record.id) for record in records]
    edited = (key for key, row in zip(keys, loading.rows, strict=True) if known.get(_typed(*key)) != _row_digest(row))
    there = {_typed(*key) for key in keys}
    removed = ((name, id) for name, kind, id in known if (name, kind, id) not in there)
    return Loaded(records, reserved.get(PROGRESS), frozenset(edited), frozenset(removed), path)


def _typed(name: str, id: Any) -> tuple[str, type, Any]:
    return name, type(id), id


def _row_digest(row: Mapping[str, Any]) -> str:
    return digest(sorted(row.items())).hex()[:16]


def _read_digests(section: Any, path: str) -> dict[tuple[str, type, Any], str] | None:
    if section is None:
        return None
    try:
        return {
            _typed(name, id): text for name, of in section.items() for id, text in (of.items() if isinstance(of, dict) else of)
        }
    except (AttributeError, TypeError, ValueError):
        raise DataError(
            f"{path}: the section `{DIGESTS}:` is not as it was saved",
            mend="write `digests: {}`; every row then counts as edited.",
        ) from None


class _Loading:
    """Collects records and everything that is wrong with them."""

    def __init__(self, models: Mapping[str, type], where: str) -> None:
        self.models = models
        self.where = where
        self.document = documents.Document(None)
        self.records: dict[Any, Any] = {}
        self.rows: list[Any] = []
        self.first: dict[Any, int] = {}
        self.problems: list[str] = []
        self.autos = 0

    def tables(self, tables: Mapping[Any, Any]) -> None:
        """Take rows by model."""
        for key, rows in tables.items():
            cls = self.model_of(key)
            if cls is None:
                continue
            name = model_name(cls)
            if rows is None:
                continue
            if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
                self.tell(f"{name}: expected a list of rows, found {brief(rows)}")
                continue
            read = row_reader(cls)
            for number, row in enumerate(rows, 1):
                self.row(cls, name, number, row, read)

    def model_of(self, key: Any) -> type | None:
        name = key.__name__ if isinstance(key, type) else key
        cls = self.models.get(name) if isinstance(name, str) else None
        if cls is None:
            known = f"known are {', '.join(self.models)}" if self.models else "the graph has none"
            guess = nearest(name, self.models) if isinstance(name, str) else ""
            self.tell(f"no model is called {name if isinstance(name, str) else brief(key)} ({known}).{guess}")
        elif isinstance(key, type) and key is not cls:
            self.tell(f"{name}: another class of that name ({location(key)}) than the graph's ({location(cls)})")
            return None
        return cls

    def row(self, cls: type, name: str, number: int, row: Any, read: Callable[[Mapping[Any, Any]], Any]) -> None:
        if isinstance(row, Mapping):
            try:
                self.add(name, read(row), number, row)
            except Misfit as misfit:
                for way, text in misfit.problems:
                    self.tell_row(name, number, row, way, text)
                if type(row.get("id")) in (int, str):
                    self.once(name, row["id"], number, row)
        elif isinstance(row, cls):
            self.record(row, number)
        else:
            self.tell_row(name, number, row, "", f"expected a mapping of fields, found {brief(row)}")

    def record(self, record: Any, number: int) -> None:
        """Take an instance as it is, if its values are what its fields ask for."""
        cls = type(record)
        name = model_name(cls)
        if self.models.get(name) is not cls:
            self.model_of(cls)
            return
        found = record_misfits(record)
        if found:
            for field, text in found:
                self.tell_row(name, number, None, field, text)
        else:
            self.add(name, record, number, None)

    def add(self, name: str, record: Any, number: int, row: Any) -> None:
        key: Any = (name, type(record.id), record.id)
        if record.id is AUTO:
            self.autos += 1
            key = self.autos
        elif not self.once(name, record.id, number, row):
            return
        self.records[key] = record
        self.rows.append(row)

    def once(self, name: str, id: Any, number: int, row: Any) -> bool:
        """Tell whether an id is there for the first time, and if not, say so; that of a bad row counts too."""
        if id is AUTO:
            return True
        key = (name, type(id), id)
        if key in self.first:
            self.tell_row(name, number, row, "id", f"{brief(id)} is there twice, first in row {self.first[key]}")
            return False
        self.first[key] = number
        return True

    def entries(self, entries: Iterable[Any]) -> None:
        """Take records and changes, one after another."""
        kinds: set[type] = set()  # that are known to be models
        for number, entry in enumerate(entries, 1):
            if type(entry) in kinds:
                self.record(entry, number)
            elif isinstance(entry, Create | Update | Delete):
                self.change(entry, number)
            elif is_model(type(entry)):
                kinds.add(type(entry))
                self.record(entry, number)
            else:
                self.tell(f"entry {number}: expected a record or a change, found {brief(entry)}")

    def change(self, change: Create | Update | Delete, number: int) -> None:
        if isinstance(change, Create):
            record = change.record
            if change.if_exists == "error" or (model_name(type(record)), type(record.id), record.id) not in self.records:
                self.record(record, number)
            return
        if change.model is None:
            self.tell(f"entry {number}: update(field=…) is for a step's own record; say which one: update(record, field=…)")
            return
        cls, name = change.model, model_name(change.model)
        if self.model_of(cls) is None:
            return
        key = (name, type(change.id), change.id)
        if key not in self.records:
            self.tell(f"entry {number}: {name} {brief(change.id)} is not there to be {type(change).__name__.lower()}d")
        elif isinstance(change, Delete):
            del self.records[key], self.first[key]
        else:
            found = update_misfits(cls, change.fields)
            if found:
                for field, text in found:
                    self.tell_row(name, number, None, field, text)
            else:
                self.records[key] = evolved(self.records[key], change.fields)

    def tell_row(self, name: str, number: int, row: Any, way: str, text: str) -> None:
        line = self.document.line(row, way.partition(".")[0].partition("[")[0])
        field = f", field {way!r}" if way else ""
        self.problems.append(f"{self.where}{f':{line}' if line else ''}: {name}, row {number}{field}: {text}")

    def tell(self, text: str) -> None:
        said = f"{self.where}: {text}"
        if self.problems[-1:] != [said]:
            self.problems.append(said)

    def done(self) -> tuple[Any, ...]:
        """Give the records, with the ids that are made of content."""
        if self.autos and not self.problems:
            self.give_ids()
        if self.problems:
            count = f"{len(self.problems)} problem{'s'[: len(self.problems) > 1]}"
            raise DataError(f"{self.where}: {count} in the data, nothing has run", self.problems, "correct the rows named above.")
        return tuple(self.records.values())

    def give_ids(self) -> None:
        equal: dict[str, int] = {}
        made: dict[Any, Any] = {}
        for key, record in self.records.items():
            if record.id is not AUTO:
                made[key] = record
                continue
            name = model_name(type(record))
            fields = attrs.asdict(record, recurse=False)
            del fields["id"]
            try:
                content = as_data([name, sorted(fields.items())])
            except Undigestible as error:
                self.tell(f"{name}, row {key}: no id can be made of its content: {error.headline}")
                continue
            text = content.hex()[:16]
            nth = equal[text] = equal.get(text, 0) + 1
            id = text if nth == 1 else f"{text}~{nth}"
            if (name, str, id) in self.records:
                self.tell(f"{name}, row {key}: the id {id!r} that is made of its content is taken")
            made[name, str, id] = evolved(record, {"id": id})
        self.records = made


# Out


def plain(records: Iterable[Any], models: Iterable[type] = ()) -> dict[str, list[dict[str, Any]]]:
    """Give records as plain dicts by model: the models given first, then in the order in which they appear.

    >>> plain([])
    {}
    """
    tables: dict[str, list[dict[str, Any]]] = {model_name(cls): [] for cls in models}
    for record in records:
        tables.setdefault(model_name(type(record)), []).append(plain_record(record))
    return tables


def save(path: str | os.PathLike[str], records: Mapping[Any, Iterable[Any]], progress: Any = None) -> None:
    """Save records by model, and what has been done, as a file that a person can edit and `load` reads.

    Raises `DataError` if a value would not be read back as it is.
    """
    path = os.fspath(path)
    json = documents.is_json(path)
    kept = {key.__name__ if isinstance(key, type) else key: list(of) for key, of in records.items()}
    for name in {DIGESTS, PROGRESS} & set(kept):
        raise DataError(f"{path}: a model cannot be called {name!r} in a saved version", mend="give the class another name.")
    with documents.gc_paused():
        tables = {name: [_row(name, record, path) for record in of] for name, of in kept.items()}
        body, again = _written(tables, path)
        lost = [text for name, of in kept.items() for text in _lost(name, of, again[name])]
        if lost:
            raise DataError(f"{path}: not everything can be saved as plain data", lost, ANNOTATE)
        pairs = {name: [(row["id"], _row_digest(row)) for row in rows] for name, rows in again.items()}
        digests = {DIGESTS: {name: [list(pair) for pair in of] if json else dict(of) for name, of in pairs.items()}}
        done = {} if progress is None else {PROGRESS: plain_value(progress)}
        last, read = _written(done, path, compact=True) if done else ("", done)
        if not _same(read.get(PROGRESS), progress):
            raise DataError(f"{path}: what has been done is not plain data", mend="report this: it is no fault of yours.")
        if json:
            text = documents.dump({**tables, **digests, **done}, json=True)
        else:
            text = f"{HEAD}{body if tables else ''}{_written(digests, path)[0]}{last}"
        documents.write(path, text)


HEAD: Final = """\
# A version saved by cpgraph. Edit, add or take out records: what you change runs again when this file is resumed.
# `digests` show what was changed, `progress` is what had been done: leave both as they are.
"""
ANNOTATE: Final = "annotate these fields with types that can be read back from text."


def _row(name: str, record: Any, path: str) -> dict[str, Any]:
    try:
        return plain_record(record)
    except RecursionError:
        lost = [f"{name} {brief(record.id)}: a value holds itself, or is nested too deep"]
        raise DataError(f"{path}: not everything can be saved as plain data", lost, ANNOTATE) from None


def _written(tables: dict[str, Any], path: str, *, compact: bool = False) -> tuple[str, dict[str, Any]]:
    """Write plain data, and read them again, as nothing is sure before that."""
    json = documents.is_json(path)
    try:
        text = documents.dump(tables, json=json, compact=compact)
        return text, documents.parse(text, path, json=json).data
    except (DataError, RecursionError, TypeError, ValueError) as error:
        headline = getattr(error, "headline", None) or str(error)
        rows = [(name, row) for name, of in tables.items() if isinstance(of, list) for row in of]
        lost = [
            f"{name} {brief(row.get('id'))}, field {field!r}: {brief(value)}"
            for name, row in rows
            for field, value in row.items()
            if not _can_be_written(value, json)
        ]
        raise DataError(f"{path}: not everything can be saved as plain data: {headline}", lost, ANNOTATE) from error


def _can_be_written(value: Any, json: bool) -> bool:
    try:
        documents.parse(documents.dump({"value": value}, json=json), "", json=json)
    except (DataError, RecursionError, TypeError, ValueError):
        return False
    return True


def _lost(name: str, records: Sequence[Any], rows: Sequence[Any]) -> Iterator[str]:
    """Tell which fields of the records are not read back from the rows as they were."""
    for record, row in zip(records, rows, strict=True):
        cls: Any = type(record)
        try:
            again = row_reader(cls)(row)
        except Misfit as misfit:
            yield from (f"{name} {brief(record.id)}, field {way!r}: {text}" for way, text in misfit.problems)
            continue
        if not _same(record, again):
            for field in attrs.fields(cls):
                one, other = getattr(record, field.name), getattr(again, field.name)
                if not _same(one, other):
                    yield f"{name} {brief(record.id)}, field {field.name!r}: {brief(one)} would be read back as {brief(other)}"


def _same(one: Any, other: Any) -> bool:
    try:
        return as_data(one) == as_data(other)
    except Undigestible:
        return bool(one == other)
