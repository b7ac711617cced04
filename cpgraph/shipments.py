"""How a call gets into another process, and what it came to back, as bytes.

Values travel by pickle, and by value together with their code where that fails. An error that does not pickle is rebuilt from
its type, text and attributes (rule F2).

Code travels by reference where the other side finds the same code by it, the script included (rule K1), and is then compared
there before it is first called: people edit while a run goes on (rule K2). What has no name to be found by (functions
made inside others, lambdas, what a notebook defines) travels by value.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from types import ModuleType
from typing import Any, Final, NamedTuple

import attrs

from cpgraph.errors import CpgraphError
from cpgraph.events import ABSENT
from cpgraph.execute import Call, Outcome, Push, Target, perform
from cpgraph.fingerprint import Fingerprinter, Part
from cpgraph.names import main_name, qualified_name, resolve
from cpgraph.pickles import PROTOCOL, dumps, loads
from cpgraph.portable import by_value, reference
from cpgraph.tracebacks import text_of

__all__ = ["Cargo", "Opened", "Shipment", "pack_call", "pack_outcome", "pack_payload", "refuse_while_importing", "run_shipment"]
__all__ += ["unpack_outcome", "unpack_payload"]


# As bytes


def _either(thing: Any) -> bytes:
    try:
        return dumps(thing)
    except Exception:
        return by_value(thing)


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


# Where code is found


class Home(NamedTuple):
    """The name and file of the script, the path that modules are searched on, and the classes that a notebook has defined."""

    name: str
    path: str | None
    search: tuple[str, ...]
    classes: Mapping[str, bytes]


def _home() -> Home:
    main, name = sys.modules["__main__"], main_name()
    file = getattr(main, "__file__", None) or ""
    a_script = file.endswith(".py") and main.__spec__ is None and name != "cpgraph"
    classes = {}
    for label, thing in list(vars(main).items()) if name == "__main__" else []:
        if isinstance(thing, type) and thing.__module__ == "__main__":
            try:
                classes[label] = by_value(thing)
            except Exception:  # found missing by whoever needs it
                continue
    search = tuple(os.path.abspath(entry) for entry in sys.path)
    return Home(name, os.path.abspath(file) if a_script else None, search, classes)


_former: Final[list[ModuleType]] = []
_importing: Final[list[str]] = []


def _move_in(home: Home) -> None:
    """Have the modules and classes of the run found in this process."""
    sys.path += [entry for entry in home.search if entry not in sys.path]
    if home.name == "__main__" != main_name():  # an executor's own program: as multiprocessing does, let ours be the main module
        _former.append(sys.modules["__main__"])
        sys.modules["__main__"] = ModuleType("__main__")
    for label, blob in home.classes.items():
        setattr(sys.modules["__main__"], label, pickle.loads(blob))
    if home.path and home.name != main_name() and getattr(sys.modules.get(home.name), "__file__", None) != home.path:
        _import_script(home.name, home.path)


def _import_script(name: str, path: str) -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not os.path.exists(path):
        raise CpgraphError("the script is not where the executor runs", {"script": path}, "put it there, at the same place.")
    if name in sys.modules:
        raise CpgraphError(f"another module is called {name!r}, as the script is", {"script": path}, "rename the script.")
    sys.modules[name] = module = module_from_spec(spec)
    _importing.append(name)
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    finally:
        _importing.remove(name)


def refuse_while_importing() -> None:
    """Raise if this process is a worker that imports the script just now: nothing may be run meanwhile."""
    processes = sys.modules.get("multiprocessing.process")
    if _importing or (processes is not None and getattr(processes.current_process(), "_inheriting", False)):
        raise CpgraphError(
            "a worker process that imports the script comes upon a run in it",
            mend='put what starts the run under `if __name__ == "__main__":`.',
        )


# Steps


class Crate(NamedTuple):
    """A step on its way: `where` its function is found, or its `code`; `state` is what its fingerprint is taken of beside it."""

    target: Target
    where: tuple[str, str] | None
    code: bytes = b""
    state: bytes = b""
    problem: str = ""


def _nothing() -> None:
    """Stands for a function on its way."""


def _crate(target: Target) -> Crate:
    bare = attrs.evolve(target, function=_nothing, track=(), inputs=())
    where = reference(target.function)
    try:
        if where is None:
            return Crate(bare, None, by_value(target.function))
        return Crate(bare, where, state=by_value((target.track, target.inputs)))
    except Exception as error:
        return Crate(bare, where, problem=text_of(error))


class Cargo:
    """The steps of a run as they go to other processes.

    They go together, so that each is compared there before any of them is called and alters the state of its module.
    """

    def __init__(self, targets: Sequence[Target]) -> None:
        self._targets = targets
        self.places = {id(target): place for place, target in enumerate(targets)}

    @cached_property
    def blob(self) -> bytes:
        return pickle.dumps((_home(), [_crate(target) for target in self._targets]), PROTOCOL)


class Opened:
    """The steps of a run as they have arrived in another process."""

    def __init__(self, blob: bytes) -> None:
        home, crates = pickle.loads(blob)
        self._fingerprinter = Fingerprinter()
        problem: str = ""
        try:
            _move_in(home)
        except BaseException as error:  # of importing the script: told by each call
            problem = text_of(error)
        self._steps = [self._unpacked(crate._replace(problem=crate.problem or problem)) for crate in crates]

    def _unpacked(self, crate: Crate) -> Target | CpgraphError:
        name, facts = crate.target.name, {"step": crate.target.where}
        if crate.problem:
            return CpgraphError(
                f"step {name!r} cannot be sent to another process",
                {**facts, "error": crate.problem},
                'define it in a module, with all it uses, or use executor="threads".',
            )
        try:
            function = resolve(*crate.where) if crate.where else pickle.loads(crate.code)
            target = attrs.evolve(crate.target, function=function)
            if not target.fingerprint:
                return target
            return (self._differs(target, *loads(crate.state)) if crate.where else self._helper_differs(target)) or target
        except BaseException as error:
            return CpgraphError(
                f"step {name!r} is not found in the process that was to run it",
                {**facts, "looked for": ":".join(crate.where or ("its code",)), "error": text_of(error)},
                "if its file was edited while the run went on, go on with `resume`; else see that it can be imported there.",
            )

    def _differs(self, target: Target, track: tuple[Any, ...], inputs: tuple[type, ...]) -> CpgraphError | None:
        """Compare the code that was found with the code that the run is about (rule K2)."""
        found = self._fingerprinter.fingerprint(target.function, version=target.version, track=track, inputs=inputs)
        if found.digest == target.fingerprint:
            return None
        others = [part for part in found.parts if part.digest not in target.parts]
        if not others or any(part.kind in CODE for part in others):
            return _edited(target, others)
        return CpgraphError(
            f"step {target.name!r} found other module state in the process that was to run it",
            {"step": target.where, "differs": ", ".join(part.name for part in others[:5])},
            "module state set outside of the import does not travel: make it a parameter (Graph(params=…)).",
        )

    def _helper_differs(self, target: Target) -> CpgraphError | None:
        """Compare what a function that came by value finds here by name; the rest of it is as it was sent."""
        found = self._fingerprinter.fingerprint(target.function, version=target.version)
        sent = {main_name(), "__main__", qualified_name(target.function).partition(":")[0]}
        helpers = [part for part in found.parts if part.kind in CODE and part.name.partition(":")[0] not in sent]
        others = [part for part in helpers if part.digest not in target.parts]
        return _edited(target, others) if others else None

    def perform(self, token: int, place: int, blob: bytes, push: Push) -> Outcome:
        """Run a call that has arrived, and tell how it ended; never raises."""
        target = self._steps[place]
        if isinstance(target, CpgraphError):
            return _refused(token, target)
        try:
            args, own = loads(blob)
        except BaseException as error:
            said = f"what step {target.name!r} asks for cannot be read in the process that was to run it"
            mend = "see that the classes of its inputs can be imported there, and take back what they were pickled as."
            return _refused(token, CpgraphError(said, {"step": target.where, "error": text_of(error)}, mend))
        return perform(Call(token, target, args, own), push)


CODE: Final = frozenset({"step", "function", "class"})


def _edited(target: Target, parts: Sequence[Part]) -> CpgraphError:
    return CpgraphError(
        f"step {target.name!r} was edited while the run went on",
        {"step": target.where, "differs": ", ".join(part.name for part in parts[:5]) or "what it reaches"},
        "go on with `resume`. (If nothing was edited, it is module state set outside of the import: make it a parameter.)",
    )


def _refused(token: int, error: CpgraphError) -> Outcome:
    return Outcome(token, error, str(error))


# For executors that take anything


@attrs.frozen
class Shipment:
    """A call for any executor: one that runs it in this process calls the function as it is, one that pickles it sends it."""

    call: Call
    cargo: Cargo
    push: Push

    def __reduce__(self) -> tuple[Any, ...]:
        return Arrived, (self.call.token, self.cargo.blob, self.cargo.places[id(self.call.target)], pack_call(self.call))

    def run(self) -> Outcome | bytes:
        return perform(self.call, self.push)


@attrs.frozen
class Arrived:
    """A shipment in another process."""

    token: int
    cargo: bytes
    place: int
    blob: bytes

    def run(self) -> Outcome | bytes:
        pushes: list[tuple[str, bytes]] = []
        opened = _opened(self.cargo)
        outcome = opened.perform(
            self.token, self.place, self.blob, lambda token, kind, payload: pushes.append((kind, pack_payload(payload)))
        )
        return pack_outcome(outcome._replace(pushes=tuple(pushes)))


@lru_cache(maxsize=16)
def _opened(cargo: bytes) -> Opened:
    return Opened(cargo)


def run_shipment(shipment: Shipment | Arrived) -> Outcome | bytes:
    """Run a shipment where it is; bytes are for `unpack_outcome`."""
    return shipment.run()
