"""What goes to other processes and comes back, as bytes: what a call asks for, what a step pushes, what a call came to.

Values travel by pickle, and by value together with their code where that fails. An error that does not pickle is rebuilt from
its type, text and attributes (rule F2).
"""

from __future__ import annotations

from typing import Any

from cpgraph.errors import CpgraphError
from cpgraph.events import ABSENT
from cpgraph.execute import Call, Outcome
from cpgraph.names import resolve
from cpgraph.pickles import dumps, loads
from cpgraph.portable import by_value, reference
from cpgraph.tracebacks import text_of

__all__ = ["by_value", "pack_call", "pack_outcome", "pack_payload", "reference", "unpack_outcome", "unpack_payload"]

def _either(thing: Any) -> bytes:
    try:
        return dumps(thing)
    except Exception:
        return by_value(thing)


# Calls and outcomes


def pack_call(call: Call) -> bytes:
    """Give what a call asks for as bytes; raises a `CpgraphError` that names the input that cannot be sent."""
    try:
        return _either((call.args, call.own))
    except Exception as error:
        target = call.target
        for name, given in zip((*target.positional, *target.keywords), call.args, strict=False):
            try:
                by_value(given)
            except Exception as reason:
                raise CpgraphError(
                    f"what step {target.name!r} asks for as {name!r} cannot be sent to another process",
                    {"step": target.where, "error": text_of(reason)},
                    'give it something that pickles, or use executor="threads".',
                ) from reason
        raise CpgraphError(
            f"the record of step {target.name!r} cannot be sent to another process",
            {"step": target.where, "error": text_of(error)},
            'use executor="threads".',
        ) from error


def pack_payload(payload: Any) -> bytes:
    """Give what a step pushes as bytes; raises, in the step, if it cannot be sent."""
    try:
        return b"" if payload is ABSENT else _either(payload)
    except Exception as error:
        raise CpgraphError(
            f"a {type(payload).__name__} cannot be pushed from another process",
            {"error": text_of(error)},
            "push what it is made of: numbers, text, lists, dicts.",
        ) from error


def unpack_payload(blob: bytes) -> Any:
    return loads(blob) if blob else ABSENT


def pack_outcome(outcome: Outcome) -> bytes:
    """Give an outcome as bytes; what cannot be sent makes it a failure."""
    error = outcome.error and _pack_error(outcome.error)
    try:
        return _either((error, *outcome._replace(error=None)))
    except Exception as reason:
        problem = CpgraphError(
            "what the step returned cannot be sent back from its process",
            {"error": text_of(reason)},
            'return what it was made of, or use executor="threads".',
        )
        failure = outcome._replace(value=None, changes=(), hints=(), pushes=(), reads=None, traceback=str(problem), shape="value")
        return dumps((_pack_error(problem), *failure._replace(error=None)))


def unpack_outcome(blob: bytes) -> Outcome:
    """Take an outcome from bytes; what cannot be read here makes it a failure, of a token that is below 0."""
    error, *rest = loads(blob)
    outcome = Outcome(*rest)
    pushes = tuple((kind, unpack_payload(payload)) for kind, payload in outcome.pushes)
    return outcome._replace(error=error and _unpack_error(error), pushes=pushes)


def _pack_error(error: BaseException) -> tuple[Any, ...]:
    try:
        blob = dumps(error)
        back = loads(blob)
        if type(back) is type(error) and text_of(back) == text_of(error):
            return (blob,)
    except BaseException:  # its own code may do anything
        pass
    kind = type(error)
    base = next(where for other in kind.__mro__ if (where := reference(other)))
    state = {}
    for name, value in getattr(error, "__dict__", {}).items():
        try:
            state[name] = dumps(value)
        except Exception:
            continue
    try:
        text = str(error)
    except BaseException:
        text = ""
    return base, base == reference(kind), (kind.__name__, kind.__qualname__, kind.__module__), text, state


def _unpack_error(packed: tuple[Any, ...]) -> BaseException:
    if len(packed) == 1:
        error: BaseException = loads(packed[0])
        return error
    base, exact, (name, qualname, module), text, state = packed
    body = {"__module__": module, "__qualname__": qualname, "__str__": lambda self: text}
    parent = resolve(*base)
    for other in ([parent] if exact else []) + [None, Exception]:
        try:
            kind: Any = other if other is parent else type(name, (other or parent,), body)
            error = kind.__new__(kind)
            error.args = (text,)
            error.__dict__.update({key: loads(blob) for key, blob in state.items()})
            if str(error) == text:
                return error
        except Exception:  # it cannot be made without what it was made of
            continue
    return Exception(f"{name}: {text}")
