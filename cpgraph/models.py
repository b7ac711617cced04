"""What a record is, how it is changed, and files as values.

A model is a frozen attrs class with an `id`; a record is one instance. Records are never altered: a step
returns changes, and the run applies them when the step has succeeded.
"""

from __future__ import annotations

import functools
import inspect
import os
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeVar, dataclass_transform, overload

import attrs

from cpgraph.annotations import Check, alternatives, brief, checker, describe
from cpgraph.errors import CpgraphError, ModelError, nearest
from cpgraph.names import calling, location

__all__ = ["AUTO", "Change", "Create", "Delete", "File", "Files", "Result", "Update"]
__all__ += ["auto_id", "check_record", "check_update", "create", "delete", "evolved", "field_types", "files"]
__all__ += ["is_model", "makes_ids", "misfits", "model", "model_name", "record_misfits", "result", "update"]
__all__ += ["update_misfits", "why_no_model", "wrong_id"]

M = TypeVar("M")


class _Auto:
    """Stands for an id that is given when the record is committed."""

    def __repr__(self) -> str:
        return "AUTO"

    def __reduce__(self) -> str:
        return "AUTO"


AUTO: Final = _Auto()


def auto_id() -> Any:
    """Declare an id that is derived at commit from the creating node and the ordinal, never random.

    >>> @model
    ... class Page:
    ...     id: str = auto_id()
    ...     url: str
    >>> Page(url="/").id
    AUTO
    """
    return attrs.field(default=AUTO)


@overload
def model(cls: type[M]) -> type[M]: ...
@overload
def model() -> Callable[[type[M]], type[M]]: ...
@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(attrs.field,))
def model(cls: Any = None) -> Any:
    """Make a class of records: frozen, keyword-only, with an `id`.

    >>> @model
    ... class Order:
    ...     id: int
    ...     amount: str = "0"
    >>> Order(id=1)
    Order(id=1, amount='0')

    Raises `ModelError` if there is no field `id`, or if records would share a default that can be altered.
    """
    if cls is None:  # @model()
        return model
    if not isinstance(cls, type):
        raise ModelError(
            f"@model makes a model of a class, not of {brief(cls)}", {"declared": calling()}, "mark a class with it."
        )
    made: Any = attrs.frozen(kw_only=True)(cls)
    field = attrs.fields_dict(made).get("id")
    if field is None:
        raise ModelError(
            f"model {cls.__name__!r} has no field 'id'",
            {"declared": location(cls)},
            "add `id: int` (or str), or `id: str = cp.auto_id()` to have it made.",
        )
    annotation = _resolved(made, field)
    kinds = {Any if typing.get_origin(kind) is Literal else kind for kind in alternatives(annotation)}
    if not kinds & ({Any, str} if field.default is AUTO else {Any, str, int}):
        raise ModelError(
            f"model {cls.__name__!r}: an id cannot be {describe(annotation)}",
            {"declared": location(cls)},
            "an id is an int or a str; one that is made (`cp.auto_id()`) is a str.",
        )
    for name, other in attrs.fields_dict(made).items():
        if isinstance(other.default, list | dict | set | bytearray):
            raise ModelError(
                f"model {cls.__name__!r}: the default of {name!r} would be one {type(other.default).__name__} for all records",
                {"declared": location(cls)},
                f"write attrs.field(factory={type(other.default).__name__}), or take a tuple.",
            )
    return made


def is_model(thing: object) -> bool:
    """Tell whether a class can serve as a model: a frozen attrs class with an `id`."""
    if not (isinstance(thing, type) and attrs.has(thing) and "id" in attrs.fields_dict(thing)):
        return False
    return thing.__setattr__ is _FROZEN_SETATTR


def why_no_model(thing: object) -> str:
    """Say why something cannot serve as a model."""
    if not isinstance(thing, type):
        return f"{brief(thing)} is no class"
    if not attrs.has(thing):
        return f"{thing.__name__} is no model"
    if "id" not in attrs.fields_dict(thing):
        return f"{thing.__name__} is no model: it has no field 'id'"
    return f"{thing.__name__} is no model: it is not frozen"


@attrs.frozen
class _Probe:
    id: int = 0


_FROZEN_SETATTR: Final = _Probe.__setattr__


def model_name(cls: type) -> str:
    """Give the name by which data and messages call a model."""
    return cls.__name__


def field_types(cls: type) -> dict[str, Any]:
    """Give the annotation of every field of a model; one that cannot be resolved stays a string, without one it is Any."""
    try:
        hints = typing.get_type_hints(cls)
    except Exception:  # a name that cannot be seen from here: resolve those that can
        hints = {}
    return {field.name: hints[field.name] if field.name in hints else _resolved(cls, field) for field in attrs.fields(cls)}


def _resolved(cls: type, field: attrs.Attribute[Any]) -> Any:
    annotation: Any = field.type
    if annotation is None:
        return Any
    if isinstance(annotation, str):
        owner = next((owner for owner in cls.__mro__ if field.name in inspect.get_annotations(owner)), cls)
        names = vars(sys.modules.get(owner.__module__, typing))
        try:
            return eval(annotation, dict(names), {owner.__name__: owner, cls.__name__: cls})
        except Exception:
            return annotation
    return annotation


# Values of fields


@functools.lru_cache(maxsize=1024)
def _checks(cls: Any) -> dict[str, Check]:
    return {name: checker(annotation) for name, annotation in field_types(cls).items()}


@functools.lru_cache(maxsize=1024)
def _plain(cls: Any) -> dict[str, type | None]:
    """Give for each field the class whose instances fit without a further look, if there is one."""
    found = {name: next((kind for kind in SIMPLE if annotation is kind), None) for name, annotation in field_types(cls).items()}
    return {name: kind if name != "id" or kind in (int, str) else None for name, kind in found.items()}


def misfits(cls: type, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give what is wrong with values for fields of a model: the field, and a sentence."""
    checks, found = _checks(cls), []
    for name, value in values.items():
        check = checks.get(name)
        if check is None:
            found.append((name, f"{cls.__name__} has no such field.{nearest(name, checks)}"))
        elif not check(value) or (type(value) not in SIMPLE and _has_auto(value)):
            if _has_auto(value):
                found.append((name, "AUTO stands for an id that is not given yet, and can be no other value"))
            else:
                found.append((name, f"expected {describe(field_types(cls)[name])}, found {brief(value)}"))
    return found


def evolved(record: Any, fields: Mapping[str, Any]) -> Any:
    """Give the record with other values in these fields; a field is called as its attribute, also if it is private."""
    cls: Any = type(record)
    aliases = {field.name: field.alias or field.name for field in attrs.fields(cls)}
    return attrs.evolve(record, **{aliases[name]: value for name, value in fields.items()})


SIMPLE: Final = frozenset({str, int, float, bool, type(None)})


def _has_auto(value: Any) -> bool:
    """Tell whether AUTO is in a value: itself, or in a list, dict or the like in it."""
    waiting, seen = [value], set()
    while waiting:
        part = waiting.pop()
        if part is AUTO:
            return True
        if isinstance(part, list | tuple | set | frozenset | dict) and id(part) not in seen:
            seen.add(id(part))
            waiting += [*part, *part.values()] if isinstance(part, dict) else part
    return False


def check_update(cls: type, fields: Mapping[str, Any]) -> None:
    """Refuse an update of a field that is not there, that is the id, or with a value of the wrong type.

    >>> @model
    ... class Order:
    ...     id: int
    ...     total: float | None = None
    >>> check_update(Order, {"total": 3})
    >>> check_update(Order, {"totl": 3})
    Traceback (most recent call last):
    cpgraph.errors.CpgraphError: an update does not fit Order
        totl  Order has no such field. Did you mean 'total'?
    Mend: write fields that Order has, with values of their types.
    """
    if "id" in fields:
        raise CpgraphError(
            f"an update would change the id of {cls.__name__}",
            {"id": brief(fields["id"])},
            "leave `id` out; another id is another record: delete(record) and create(…).",
        )
    _refuse(f"an update does not fit {cls.__name__}", update_misfits(cls, fields), cls)


def update_misfits(cls: type, fields: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Give what is wrong with an update: the field, and a sentence."""
    fixed = _fixed(cls) & fields.keys()
    if not fixed:
        return misfits(cls, fields)
    said = dict.fromkeys(fixed, f"{cls.__name__} makes this field itself") | {"id": "an update cannot change the id"}
    wrong = [(name, said[name]) for name in fields if name in fixed]
    return wrong + misfits(cls, {name: value for name, value in fields.items() if name not in fixed})


@functools.lru_cache(maxsize=1024)
def _fixed(cls: Any) -> frozenset[str]:
    """The fields that nobody can write: the id, and what the class makes itself."""
    return frozenset(field.name for field in attrs.fields(cls) if not field.init or field.name == "id")


def check_record(record: Any) -> None:
    """Refuse a record of which a field has a value of the wrong type, or an id that cannot be one."""
    cls: Any = type(record)
    _refuse(f"a record does not fit {cls.__name__}", record_misfits(record), cls)


def record_misfits(record: Any) -> list[tuple[str, str]]:
    """Give what is wrong with a record: the field, and a sentence."""
    cls: Any = type(record)
    values = {name: value for name, kind in _plain(cls).items() if type(value := getattr(record, name)) is not kind}
    if not values:
        return []
    if "id" in values and type(values["id"]) not in (int, str):
        id = values.pop("id")
        if id is not AUTO:
            return [("id", wrong_id(id)), *misfits(cls, values)]
        if not makes_ids(cls):
            return [("id", f"AUTO is an id of models with auto_id(), and {cls.__name__} has none"), *misfits(cls, values)]
    return misfits(cls, values)


@functools.lru_cache(maxsize=1024)
def makes_ids(cls: Any) -> bool:
    """Tell whether a model's records get their ids when they are committed (`auto_id`)."""
    return attrs.fields_dict(cls)["id"].default is AUTO


def wrong_id(value: Any) -> str:
    """Say what is wrong with an id; nothing if it is an int, a str, or still to be given."""
    if type(value) is int or type(value) is str or value is AUTO:
        return ""
    return f"an id is an int or a str, found {brief(value)}"


def _refuse(headline: str, wrong: list[tuple[str, str]], cls: type) -> None:
    if wrong:
        mend = f"write fields that {cls.__name__} has, with values of their types."
        if any(text.startswith("AUTO") for _, text in wrong):
            mend = 'give records that refer to each other their ids in the step, as in f"{id}-{n}".'
        raise CpgraphError(headline, dict(wrong), mend)


# Changes


@attrs.frozen
class Create:
    """A record that is to be."""

    record: Any
    if_exists: Literal["error", "keep"] = "error"


@attrs.frozen
class Update:
    """Fields of one record that are to be other; without `model` it is the node's own record."""

    model: type | None
    id: Any
    fields: Mapping[str, Any]


@attrs.frozen
class Delete:
    """A record that is to be no more."""

    model: type
    id: Any


Change = Create | Update | Delete


@attrs.frozen
class Result:
    """A value together with changes."""

    value: Any
    changes: tuple[Change, ...]


def create(record: Any, *, if_exists: Literal["error", "keep"] = "error") -> Create:
    """Ask for a record to be created when the step has succeeded.

    `if_exists="keep"` leaves a record of that id as it is; the default makes it an error.
    """
    if not is_model(type(record)):
        raise ModelError(
            f"create() takes a record, not {type(record).__name__}", mend="pass an instance of a class marked with @model."
        )
    if if_exists not in ("error", "keep"):
        raise CpgraphError(f"create(if_exists={if_exists!r}) is not known", mend='say "error" or "keep".')
    return Create(record, if_exists)


def update(*target: Any, **fields: Any) -> Update:
    """Ask for fields to be written: `update(field=…)` of the step's own record, `update(record, field=…)`
    of another, or `update(Model, id, field=…)`.

    >>> class_less = update(total=3.5)
    >>> class_less.fields
    {'total': 3.5}
    """
    if not target:
        return Update(None, None, fields)
    if len(target) == 1 and is_model(type(target[0])):
        return Update(type(target[0]), target[0].id, fields)
    if len(target) == 2 and is_model(target[0]):
        return Update(target[0], target[1], fields)
    raise CpgraphError(
        f"update() cannot tell what to update from {', '.join(type(part).__name__ for part in target)}",
        mend="write update(field=…), update(record, field=…) or update(Model, id, field=…).",
    )


def delete(*target: Any) -> Delete:
    """Ask for a record to be deleted: `delete(record)` or `delete(Model, id)`."""
    if len(target) == 1 and is_model(type(target[0])):
        return Delete(type(target[0]), target[0].id)
    if len(target) == 2 and is_model(target[0]):
        return Delete(target[0], target[1])
    raise CpgraphError("delete() takes a record, or a model and an id", mend="write delete(record) or delete(Model, id).")


def result(value: Any, *changes: Change) -> Result:
    """Give a value and changes from one step."""
    if isinstance(value, Result):
        raise CpgraphError(
            "result() takes a value, and was given another result", mend="write cp.result(value, *changes) with all changes."
        )
    for change in changes:
        if not isinstance(change, Create | Update | Delete):
            raise CpgraphError(
                f"result() takes changes after the value, not {type(change).__name__}",
                mend="make them with create(), update() or delete().",
            )
    return Result(value, changes)


# Files


def _path(path: str | os.PathLike[str]) -> str:
    return os.fspath(path)


@attrs.frozen(order=True)
class File(os.PathLike[str]):
    """A file that is an input, or an output, by its path as written and its content.

    >>> File("a/b.txt").path
    'a/b.txt'

    Making one does not touch the disk. Relative paths are from the working directory.
    """

    path: str = attrs.field(converter=_path)

    def __fspath__(self) -> str:
        return self.path

    def __str__(self) -> str:
        return self.path


@attrs.frozen
class Files(Sequence[File]):
    """A pattern for files, looked up at each run; as a list it has those that match when it is asked."""

    pattern: str

    def expand(self) -> list[File]:
        """Give the files that match now, sorted by path."""
        import glob

        return [File(path) for path in sorted(glob.glob(self.pattern, recursive=True)) if os.path.isfile(path)]

    def __iter__(self) -> Iterator[File]:
        return iter(self.expand())

    def __len__(self) -> int:
        return len(self.expand())

    @overload
    def __getitem__(self, index: int) -> File: ...
    @overload
    def __getitem__(self, index: slice) -> list[File]: ...
    def __getitem__(self, index: int | slice) -> File | list[File]:
        return self.expand()[index]


def files(pattern: str) -> Files:
    """Name the files that match a pattern such as `texts/*.rst`; `**` goes into folders."""
    return Files(pattern)
