"""Values as bytes and back, wherever the script that defines their classes runs.

A script is `__main__` when it is started, `__mp_main__` in a worker and `orders` when the command imports it. What it defines is
written under the last of these (rule K1) and read back to whichever is loaded, so that a value outlives the way it was made.
`loads_plain` is for those who only show values: it imports no user code.
"""

from __future__ import annotations

import contextlib
import copyreg
import io
import pickle
from reprlib import recursive_repr
from types import FunctionType
from typing import Any, Final

from cpgraph.errors import CpgraphError
from cpgraph.names import main_name, qualified_name, resolve

__all__ = ["Unpicklable", "dumps", "loads", "loads_plain", "named"]

PROTOCOL: Final = 5
MAINS: Final = ("__main__", "__mp_main__")


class Unpicklable(CpgraphError):
    """A value cannot be written, or not be read back; `.type` names its type, as far as it is known."""

    def __init__(self, headline: str, kind: str, reason: BaseException, mend: str) -> None:
        self.type = kind
        super().__init__(headline, {"type": kind, "why": f"{type(reason).__name__}: {_text(reason)}"}, mend)


def _text(error: BaseException) -> str:
    try:
        return str(error).partition("\n")[0][:300]
    except Exception:
        return "(no text)"


def dumps(value: Any) -> bytes:
    """Write a value; raises `Unpicklable` if it cannot be.

    >>> loads(dumps({"total": 3.5}))
    {'total': 3.5}
    """
    try:
        blob = pickle.dumps(value, PROTOCOL)
        if b"__main__" in blob or b"__mp_main__" in blob:
            out = io.BytesIO()
            _Pickler(out, PROTOCOL).dump(value)
            blob = out.getvalue()
        return blob
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a user's __reduce__ raises
        kind = qualified_name(type(value)).replace(":", ".").removeprefix("builtins.")
        raise Unpicklable(
            f"a value of type {kind} does not pickle", kind, error, "return what it was made of, or give its class __reduce__."
        ) from error


def loads(blob: bytes) -> Any:
    """Read a value back; raises `Unpicklable` if its classes are not what they were."""
    try:
        return _Unpickler(io.BytesIO(blob)).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        mend = "bring back the class it is of, or compute it again (redo=)."
        raise Unpicklable("a stored value cannot be read back", _first_class(blob), error, mend) from error


def named(module: str, qualname: str) -> Any:
    """Find a class or function of a script. Stored values name this function: it stays where it is."""
    return resolve(module, qualname)


class _Pickler(pickle.Pickler):
    """Writes classes and functions of the script under the name the script is imported by."""

    def reducer_override(self, value: Any) -> Any:
        if getattr(value, "__module__", None) not in MAINS:
            return NotImplemented
        if isinstance(value, type | FunctionType):
            return named, (main_name(), value.__qualname__)
        if type(value) in copyreg.dispatch_table:
            return NotImplemented
        made = value.__reduce_ex__(PROTOCOL)
        return (named, (main_name(), made)) if isinstance(made, str) else made  # a str: something global, by its name


class _Unpickler(pickle.Unpickler):
    """Reads what was written where the script was imported by its name, while it is `__main__` here."""

    def find_class(self, module: str, name: str) -> Any:
        if module in MAINS or module == main_name():
            return resolve(module, name)
        return super().find_class(module, name)


# Without user code

PLAIN: Final[dict[str, frozenset[str]]] = {
    "builtins": frozenset(["bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object"])
    | frozenset(["range", "set", "slice", "str", "tuple", "Ellipsis", "NotImplemented"]),
    "collections": frozenset(["Counter", "OrderedDict", "defaultdict", "deque"]),
    "cpgraph.fanout": frozenset(["Again"]),
    "cpgraph.models": frozenset(["AUTO", "Create", "Delete", "File", "Files", "Result", "Update"]),
    "datetime": frozenset(["date", "datetime", "time", "timedelta", "timezone"]),
    "decimal": frozenset(["Decimal"]),
    "fractions": frozenset(["Fraction"]),
    "uuid": frozenset(["SafeUUID", "UUID"]),
}
PATHS: Final = {"PosixPath": "PurePosixPath", "WindowsPath": "PureWindowsPath"}  # those of another system cannot be made here


class _Kind(type):
    """The class of stand-ins; shown as the class or function it stands for."""

    def __repr__(cls) -> str:
        return f"{cls.__module__}.{cls.__qualname__}"


class StandIn(metaclass=_Kind):
    """Stands for an instance of a class that was not imported; shows its name and state."""

    def __new__(cls, *args: Any, **kwargs: Any) -> StandIn:
        made = super().__new__(cls)
        made.__dict__.update(_args=args, _kwargs=kwargs, _state=None, _items=[])
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.__dict__["_state"] = state

    def __call__(self, *args: Any, **kwargs: Any) -> StandIn:
        return type(self)(self, *args, **kwargs)

    def append(self, item: Any) -> None:
        self.__dict__["_items"].append(item)

    def extend(self, items: Any) -> None:
        self.__dict__["_items"].extend(items)

    add = append

    def __setitem__(self, key: Any, value: Any) -> None:
        self.__dict__["_items"].append((key, value))

    @recursive_repr("…")
    def __repr__(self) -> str:
        inner = self.__dict__
        shown = [repr(arg) for arg in inner["_args"]]
        shown += [f"{name}={value!r}" for name, value in inner["_kwargs"].items()]
        state, slots = inner["_state"], None
        if isinstance(state, tuple) and len(state) == 2 and isinstance(state[1], dict):
            state, slots = state  # the state of an object with __slots__
        for part in (state, slots):
            if isinstance(part, dict):
                shown += [f"{name}={value!r}" for name, value in part.items()]
            elif part is not None:
                shown.append(repr(part))
        shown += [repr(item) for item in inner["_items"]]
        return f"{type(self).__qualname__}({', '.join(shown)})"


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self.made: dict[tuple[str, str], Any] = {}

    def find_class(self, module: str, name: str) -> Any:
        if name in PLAIN.get(module, ()):
            return super().find_class(module, name)
        if module.partition(".")[0] == "pathlib":
            name = PATHS.get(name, name)
            if name in ("PurePath", "PurePosixPath", "PureWindowsPath"):
                return super().find_class("pathlib", name)
        if module == "builtins" and _is_exception(name):
            return super().find_class(module, name)
        if (module, name) == (__name__, "named"):
            return self._stand_in
        if (module, name) == ("builtins", "getattr"):
            return self._attribute
        return self._stand_in(module, name)

    def _attribute(self, thing: Any, name: str) -> Any:
        if isinstance(thing, _Kind):  # a member of an enum, a method of a class
            return self._stand_in(thing.__module__, f"{thing.__qualname__}.{name}")
        return self._stand_in("builtins", "getattr")(thing, name)

    def _stand_in(self, module: str, qualname: str) -> Any:
        key = module, qualname
        if key not in self.made:
            name = qualname.rpartition(".")[2]
            self.made[key] = _Kind(name, (StandIn,), {"__module__": module, "__qualname__": qualname})
        return self.made[key]


def _is_exception(name: str) -> bool:
    import builtins

    thing = getattr(builtins, name, None)
    return isinstance(thing, type) and issubclass(thing, BaseException)


def loads_plain(blob: bytes) -> Any:
    """Read a value without importing user code: what is not of a few plain types is shown by a stand-in.

    >>> loads_plain(dumps([1, {"a": None}]))
    [1, {'a': None}]
    """
    try:
        return _PlainUnpickler(io.BytesIO(blob)).load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        mend = "compute it again (redo=)."
        raise Unpicklable("a stored value cannot be shown", _first_class(blob), error, mend) from error


def _first_class(blob: bytes) -> str:
    """Name the first class a pickle mentions, which is mostly that of the value."""
    unpickler = _PlainUnpickler(io.BytesIO(blob))
    with contextlib.suppress(Exception):
        unpickler.load()
    return next((f"{module}.{name}" for module, name in unpickler.made), "unknown")
