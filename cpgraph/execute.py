"""One call of one step: bind what it asks for, run it, pack what it gave.

What happens here is the same wherever it happens: in the scheduler's thread, in another one, on the event loop, in a process.
Nothing leaves or enters a step that another one could alter: what cannot be mutated is shared, anything else is
copied through pickle (rule V3), and context variables (the precision of decimals, say) are each call's own. A call
never raises; whatever the step did is told by its `Outcome`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from contextvars import Context
from time import perf_counter, time
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any, Final, NamedTuple

import attrs

from cpgraph.contents import as_data, content_if_any, files_in, looked_up, met
from cpgraph.copies import ATOMIC, duplicate, immutable, isolated
from cpgraph.digest import Undigestible, Unreadable, digest
from cpgraph.errors import CpgraphError, StorageError
from cpgraph.events import ABSENT, Stream
from cpgraph.fanout import plain_id
from cpgraph.fingerprint import UsersCode, code_in
from cpgraph.models import AUTO, Change, Create, Result, Update, is_model, makes_ids, model_name
from cpgraph.pickles import dumps, loads
from cpgraph.store import Store
from cpgraph.tracebacks import text_of, told

__all__ = ["ATOMIC", "STREAM", "Call", "Joined", "Outcome", "Target", "Value", "immutable", "pack", "perform", "perform_async"]
__all__ += ["ends_run", "failed", "text_of"]

Push = Callable[[int, str, Any], None]

STREAM: Final = type("StreamMarker", (), {"__repr__": lambda self: "STREAM", "__reduce__": lambda self: "STREAM"})()


@attrs.define(eq=False, repr=False, weakref_slot=False)
class Value:
    """A step's value in flight: its digest, and its bytes or the object itself.

    `digest` is None for what has none (`undigestible` says why); `problem` says why it does not pickle, or nothing. `has_files`:
    it is or holds Files, whose content counts in the digest, and is not in the bytes. `code`: the user's classes and functions
    in it, as module:name; what they do is not in the digest (see `fingerprint.CodeOfValues`).
    """

    digest: bytes | None
    blob: bytes | None = None
    plain: Any = ABSENT
    problem: str = ""
    undigestible: str = ""
    has_files: bool = False
    code: tuple[str, ...] = ()
    _fetch: Callable[[], bytes] | None = None

    @classmethod
    def stored(
        cls, digest: bytes | None, fetch: Callable[[], bytes], has_files: bool = False, code: tuple[str, ...] = ()
    ) -> Value:
        """Make a value whose bytes are fetched when they are first asked for, in whatever thread that is."""
        return cls(digest, has_files=has_files, code=code, fetch=fetch)

    def load(self) -> Any:
        """Give the object: a fresh copy each time, if it can be mutated."""
        if self.plain is not ABSENT:
            return duplicate(self.plain) if self.problem else self.plain
        value = loads(self.blob_bytes())
        if type(value) in ATOMIC:
            self.plain = value
        return value

    def blob_bytes(self) -> bytes:
        """Give the bytes; not to be asked of a value with a `problem`."""
        if self.blob is None:
            if self._fetch is None:
                return dumps(self.plain)
            self.blob = self._fetch()
        return self.blob

    def __reduce__(self) -> tuple[Any, ...]:
        if self.plain is ABSENT:
            return Value, (self.digest, self.blob_bytes(), ABSENT, "", "", self.has_files, self.code)
        return Value, (self.digest, self.blob, self.plain, self.problem, self.undigestible, self.has_files, self.code)

    def __repr__(self) -> str:
        kind = "stored" if self.plain is ABSENT else type(self.plain).__name__
        return f"<Value {kind} {self.digest.hex() if self.digest else 'undigestible'}>"


def pack(value: Any) -> Value:
    """Take what a step gave as it is at this moment; what the step does with it later changes nothing.

    Raises `Unreadable` for a file that is not there.
    """
    if type(value) in ATOMIC:
        return Value(digest(value), None, value)
    before = met.count
    walk = UsersCode()
    try:
        address, undigestible = digest(value, walk), ""
    except Unreadable:
        raise
    except Undigestible as error:
        address, undigestible = None, str(error)
    except Exception as error:  # code of the user's, asked what the value is made of
        address, undigestible = None, text_of(error)
    code = walk.names() if address is not None else code_in(value)
    try:
        blob = dumps(value)
    except Exception as error:
        return Value(address, None, value, text_of(error), undigestible, met.count != before, code)
    return Value(address, blob, value if immutable(value) else ABSENT, "", undigestible, met.count != before, code)


class Joined(NamedTuple):
    """The values of a finished `each`: a list, or a dict where `ids` are given; nested once per `each` left."""

    values: Sequence[Any]
    ids: Sequence[Any] | None = None

    def load(self) -> Any:
        """Give the list, or the dict, with its own copy of every value."""
        loaded = [value.load() for value in self.values]
        return loaded if self.ids is None else dict(zip(map(plain_id, self.ids), loaded, strict=True))


# What goes out, what comes back


@attrs.frozen(eq=False)
class Target:
    """A step as it is called: one for all its nodes.

    fingerprint: of its code as the run has it, with the digests of its `parts`; version, track and inputs are what it was
    taken with. Other processes compare it before they call.
    """

    name: str
    function: Callable[..., Any]
    positional: tuple[str, ...] = ()
    keywords: tuple[str, ...] = ()
    is_async: bool = False
    sets: str | None = None
    stream: tuple[int, ...] = ()
    fingerprint: bytes = b""
    where: str = ""
    version: str | None = None
    track: tuple[Any, ...] = ()
    inputs: tuple[type, ...] = ()
    parts: frozenset[bytes] = frozenset()
    timeout: float | None = None


class Call(NamedTuple):
    """A node handed out: one argument per parameter, the positional ones first."""

    token: int
    target: Target
    args: tuple[Any, ...] = ()
    own: Any = None


class Outcome(NamedTuple):
    """How a call ended. Changes are plain tuples, so that they can be kept without the user's classes.

    ("update", model or None, id or None, {field: value}), ("create", model, {field: value}, if_exists),
    ("delete", model, id); None means the step's own record. `shape` says what the step returned: "value", or only a
    "change", or only a list of "changes". `place` is file:line of the deepest frame of the user's own code.
    """

    token: int
    error: BaseException | None = None
    traceback: str = ""
    value: Value | None = None
    changes: tuple[tuple[Any, ...], ...] = ()
    shape: str = "value"
    reads: list[Any] | None = None
    seconds: float = 0.0
    started: float = 0.0
    hints: tuple[tuple[str, str, str], ...] = ()
    pushes: tuple[tuple[str, Any], ...] = ()
    place: str = ""


class NodeStream(Stream):
    """The stream as a step has it: it carries what is pushed, as it was when it was pushed, to whoever owns the run."""

    def __init__(self, token: int, push: Push) -> None:
        super().__init__()
        self._token = token
        self._push = push

    def push(self, kind: str, payload: Any = ABSENT) -> None:
        self._push(self._token, kind, payload if payload is ABSENT else isolated(payload))

    def on(self, kind: str | type) -> Any:
        raise CpgraphError(
            "a step pushes to the stream; it cannot listen to it",
            {"asked for": kind},
            "register the handler where the run is started: stream = cp.Stream(); @stream.on(…); graph.run(stream=stream).",
        )


# The call


NO_KEYWORDS: Final[dict[str, Any]] = {}


def _argument(call: Call, given: Any, push: Push) -> Any:
    """Give the step its own copy of what is not a scalar."""
    kind = type(given)
    try:
        if kind is Value or kind is Joined:
            return given.load()
    except StorageError:
        raise
    except Exception as error:
        names = (*call.target.positional, *call.target.keywords)
        name = next(name for name, arg in zip(names, call.args, strict=True) if arg is given)
        raise CpgraphError(
            f"what step {call.target.name!r} asks for as {name!r} cannot be read back",
            {"step": call.target.where, "error": text_of(error)},
            "see that the classes of the value can be imported and take back what they were pickled as.",
        ) from error
    if given is STREAM:
        return NodeStream(call.token, push)
    return given if kind is Store else isolated(given)


def _bound(call: Call, push: Push) -> tuple[list[Any], dict[str, Any]]:
    target = call.target
    given = list(call.args)
    for place, arg in enumerate(given):
        if type(arg) not in ATOMIC:
            given[place] = _argument(call, arg, push)
    if not target.keywords:
        return given, NO_KEYWORDS
    count = len(target.positional)
    return given[:count], dict(zip(target.keywords, given[count:], strict=True))


def perform(call: Call, push: Push) -> Outcome:
    """Run a call in this thread, and tell how it ended; never raises."""
    started = time()
    begin = perf_counter()
    try:
        given, keywords = _bound(call, push)
        value = Context().run(call.target.function, *given, **keywords)
    except BaseException as error:
        return failed(call, error, perf_counter() - begin, started)
    return _finished(call, value, perf_counter() - begin, started)


async def perform_async(call: Call, push: Push) -> Outcome:
    """Run a call of an `async def` step, and tell how it ended; never raises, except when its task is cancelled from outside."""
    started = time()
    begin = perf_counter()
    try:
        given, keywords = _bound(call, push)
        value = await call.target.function(*given, **keywords)
    except BaseException as error:
        return failed(call, error, perf_counter() - begin, started)
    return _finished(call, value, perf_counter() - begin, started)


def _reads(call: Call) -> list[Any] | None:
    for given in call.args:
        if type(given) is Store:
            return list(given.reads or ())
    return None


def _finished(call: Call, value: Any, seconds: float, started: float) -> Outcome:
    try:
        if type(value) in ATOMIC:
            packed = Value(digest(value), None, value)
            return Outcome(call.token, None, "", packed, (), "value", _reads(call), seconds, started)
        value, changes, shape = _told_apart(call.target, value)
        reads, before = _reads(call), met.count
        encoded = tuple([_encoded(change, call.target) for change in changes])
        if met.count != before:
            reads = [*(reads or ()), *_written_files(encoded)]
        hints = _mistaken(call, value)
        packed = _packed(call.target, value)
        return Outcome(call.token, None, "", packed, encoded, shape, reads, seconds, started, hints)
    except BaseException as error:
        return failed(call, error, seconds, started)


# What a step gave (rule V1)

_UNFINISHED: Final = {
    GeneratorType: ("a generator", "return a list instead."),
    AsyncGeneratorType: ("an async generator", "return a list instead."),
    CoroutineType: ("a coroutine nobody awaited", "write the step as `async def` and await it."),
}
_HOLDERS: Final = frozenset({list, tuple, dict, set, frozenset})


def _is_change(thing: Any) -> bool:
    return isinstance(thing, Change)


def _is_lost(thing: Any) -> bool:
    """Tell whether something would change nothing where it is, inside of a value."""
    return isinstance(thing, Change | Result)


def _fields_of(value: Any) -> list[Any]:
    """Give what is in the fields of an instance of attrs, a dataclass or a named tuple; a record holds data."""
    kind: Any = type(value)
    if is_model(kind):
        return []
    if isinstance(value, tuple):
        return list(value)
    names = [field.name for field in attrs.fields(kind)] if attrs.has(kind) else getattr(kind, "__dataclass_fields__", ())
    found = []
    for name in names:
        with suppress(Exception):  # one that was never set, or a property of the user's
            found.append(getattr(value, name))
    return found


def _wrong(target: Target, what: str, mend: str, **facts: object) -> CpgraphError:
    return CpgraphError(f"step {target.name!r} returned {what}", {"step": target.where, **facts}, mend)


def _told_apart(target: Target, value: Any) -> tuple[Any, Sequence[Any], str]:
    """Tell the value from the changes; without a value of its own it is None, to be made of the ids."""
    if type(value) is Result:
        if _is_lost(value.value) or _holds(value.value, _is_lost):
            raise _wrong(target, "a result whose value is a change", "write cp.result(value, *changes).")
        return _checked(target, value.value), value.changes, "value"
    if _is_change(value):
        changes, shape = [value], "change"
    elif type(value) in (list, tuple) and value and any(map(_is_change, value)):
        changes, shape = list(value), "changes"
        odd = next((item for item in changes if not _is_change(item)), ABSENT)
        if odd is not ABSENT:
            raise _wrong(
                target,
                "a list that mixes changes and values",
                "return a list of changes alone, or cp.result(value, *changes).",
                value=type(odd).__name__,
            )
    else:
        if _holds(value, _is_lost):
            what = f"changes inside of a {type(value).__name__}"
            raise _wrong(target, what, "return a flat list of changes, or cp.result(value, *changes).")
        return _checked(target, value), (), "value"
    if target.sets is not None:
        raise _wrong(
            target,
            f"changes, and has sets={target.sets!r}, which writes its value",
            f"return cp.result(value, *changes), or drop sets= and write cp.update({target.sets}=…).",
        )
    return None, changes, shape


def _holds(value: Any, odd: Callable[[Any], bool], levels: int = 2) -> bool:
    """Look into plain containers, and into the fields of a value, for what would be lost in silence there."""
    if type(value) not in _HOLDERS:
        if levels < 2:  # of the values in a list no field is looked at: there may be many
            return False
        return any(odd(field) or _holds(field, odd, 1) for field in _fields_of(value))
    items = [item for item in (value.values() if type(value) is dict else value) if type(item) not in ATOMIC]
    return any(odd(item) or (levels > 1 and _holds(item, odd, levels - 1)) for item in items)


def _is_auto(thing: Any) -> bool:
    return thing is AUTO


def _checked(target: Target, value: Any) -> Any:
    """Refuse what stands for a value that is not there yet."""
    unfinished = _UNFINISHED.get(type(value))
    if unfinished is not None:
        if type(value) is not AsyncGeneratorType:
            value.close()
        raise _wrong(target, unfinished[0], unfinished[1])
    if value is AUTO or _holds(value, _is_auto):
        raise _wrong(target, "an id that is made when the record is committed", AUTO_MEND)
    return looked_up(value)  # what matches now, not the pattern


def _packed(target: Target, value: Any) -> Value:
    try:
        return pack(value)
    except Unreadable as error:
        mend = "write a file before it is returned; where only its path is meant, return a str."
        raise _wrong(target, f"a File that cannot be kept: {error.headline}", mend) from error


def _written_files(changes: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Note the files that were written to records as if they had been read: gone or altered, the step runs again (rule V4)."""
    found = files_in([change[2] if change[0] == "create" else change[3] for change in changes if change[0] != "delete"])
    return [(("file", path, ()), content_if_any(path)) for path in dict.fromkeys(file.path for file in found)]


AUTO_MEND: Final = 'give the record an id of your own, made in the step: f"{id}-{n}".'


def _encoded(change: Any, target: Target) -> tuple[Any, ...]:
    if not isinstance(change, Create) and change.id is AUTO:
        verb = type(change).__name__.lower()
        raise CpgraphError(f"{verb} of {model_name(change.model)}: its id is made at commit", {"step": target.where}, AUTO_MEND)
    match change:
        case Create(record=record, if_exists=if_exists):
            fields = {field.name: getattr(record, field.name) for field in attrs.fields(type(record))}
            return "create", model_name(type(record)), _isolated_fields(fields, "create", type(record), target), if_exists
        case Update(model=model, id=id, fields=fields):
            return "update", model and model_name(model), id, _isolated_fields(fields, "update", model, target)
        case _:
            return "delete", model_name(change.model), change.id


def _isolated_fields(fields: Any, verb: str, model: type | None, target: Target) -> dict[str, Any]:
    return {
        name: value if type(value) in ATOMIC else _isolated_field(name, value, verb, model, target)
        for name, value in fields.items()
    }


def _isolated_field(name: str, value: Any, verb: str, model: type | None, target: Target) -> Any:
    """Copy a field's value; data must digest and pickle (rule V5)."""
    if value is AUTO and name == "id" and verb == "create" and model is not None and makes_ids(model):
        return value
    field = f"{model_name(model)}.{name}" if model else name
    if value is AUTO:
        raise CpgraphError(f"{verb} of {field}: the id it refers to is made at commit", {"step": target.where}, AUTO_MEND)
    try:
        as_data(value)
        return value if immutable(value) else loads(dumps(value))
    except Exception as error:
        raise CpgraphError(
            f"{verb} of {field}: a {type(value).__name__} cannot be kept as data",
            {"step": target.where, "error": text_of(error)},
            "write what it is made of: numbers, text, lists, dicts, records.",
        ) from error


def _mistaken(call: Call, value: Any) -> tuple[tuple[str, str, str], ...]:
    """Tell of a step that returns records as if that wrote them: its own altered, or such as it has made."""
    own, first = call.own, value[0] if type(value) is list and value else value
    if not is_model(type(first)):
        return ()
    if own is not None and type(value) is type(own) and value.id == own.id:
        try:
            altered = digest(value) != digest(own)
        except Undigestible:
            altered = False
        text = f"step {call.target.name!r} returned its own record altered: that is a value, and writes nothing"
        return (("returned-record", text, "return cp.update(field=…) to write to the record."),) if altered else ()
    if all(type(given) in ATOMIC for given in call.args):  # nobody gave it any
        name = model_name(type(first))
        text = f"step {call.target.name!r} returned {name} records that it made: they are a value, and not in the store"
        return (("returned-record", text, "return a list of cp.create(record), where they are to be records of the run."),)
    return ()


# What a step raised


def ends_run(error: BaseException) -> bool:
    """Tell whether an error is the run's, not of what was asked: an interruption, or a directory that failed."""
    return isinstance(error, KeyboardInterrupt | StorageError)


def timed_out(call: Call) -> Outcome:
    """Make the outcome of a call that took longer than its step's `timeout`."""
    timeout = call.target.timeout or 0.0
    return failed(call, TimeoutError(f"still running after {timeout:g} s"), timeout, time() - timeout)


def failed(call: Call, error: BaseException, seconds: float, started: float) -> Outcome:
    """Make the outcome of a call that raised."""
    text, place = told(error)
    return Outcome(call.token, error, text, None, (), "value", _reads(call), seconds, started, (), (), place)
