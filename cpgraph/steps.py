"""Marking plain functions as steps, and reading what they ask for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from numbers import Integral, Real
from typing import Any, Final, TypeVar, overload

import attrs

from cpgraph.annotations import brief, without_notes
from cpgraph.errors import CompileError, nearest
from cpgraph.models import is_model
from cpgraph.names import called, calling, location

__all__ = ["Alias", "Limit", "Options", "Parameter", "Step", "alias", "check_asked", "parameters_of", "read_step", "step"]

F = TypeVar("F", bound=Callable[..., Any])

MARK: Final = "__cpgraph_step__"
EMPTY: Final = inspect.Parameter.empty
FORBIDDEN: Final = frozenset("/[],'\"")


@attrs.frozen(eq=False)
class Limit:
    """How many calls may be under way at once, and how many may begin per second; shared by all steps that name it."""

    calls: int | None = None
    per_second: float | None = None

    def __attrs_post_init__(self) -> None:
        where = {"declared": calling()}
        if self.calls is None and self.per_second is None:
            raise CompileError("Limit() limits nothing", where, "say how many: cp.Limit(8), cp.Limit(per_second=2).")
        if self.calls is not None and not (_is_whole(self.calls) and self.calls > 0):
            said = f"Limit(…) takes a whole number of calls above 0, not {brief(self.calls)}"
            raise CompileError(said, where, "give 1 or more.")
        if self.per_second is not None and not (_is_number(self.per_second) and self.per_second > 0):
            said = f"Limit(per_second=…) takes a number above 0, not {brief(self.per_second)}"
            raise CompileError(said, where, "give how many calls may begin in a second.")


def _is_whole(value: Any) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


@attrs.frozen
class Options:
    """What `@step(…)` says of a step; the names are those of its keywords."""

    name: str | None = None
    version: str | None = None
    sets: str | None = None
    after: tuple[Any, ...] = ()
    retries: int = 0
    backoff: float = 0.0
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    timeout: float | None = None
    limit: Limit | None = None
    cache: bool = True
    track: tuple[Any, ...] = ()


def as_tuple(value: Any) -> tuple[Any, ...]:
    """Take one thing or several as a tuple."""
    if value is None:
        return ()
    return tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,)


def _is_error(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


# What the value of an option has to be, beside None where that is its default: a test, and how it is said.
FOREVER: Final = 1e8  # seconds; what is longer no clock of the system waits for

WANTED: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "version": (lambda value: isinstance(value, str | int) and not isinstance(value, bool), 'text, such as version="2"'),
    "sets": (lambda value: isinstance(value, str), 'the name of one field, such as sets="total"'),
    "retries": (lambda value: _is_whole(value) and value >= 0, "a whole number, 0 or more"),
    "backoff": (lambda value: _is_number(value) and 0 <= value < FOREVER, "seconds, 0 or more"),
    "retry_on": (lambda value: all(map(_is_error, value)), "classes of exceptions, such as retry_on=OSError"),
    "timeout": (lambda value: _is_number(value) and 0 < value < FOREVER, "seconds, above 0; None for no end"),
    "limit": (lambda value: isinstance(value, Limit), "a cp.Limit, such as limit=cp.Limit(3)"),
    "cache": (lambda value: isinstance(value, bool), "True or False"),
}


def _options(given: Mapping[str, Any], where: str) -> Options:
    known = {field.name: field.default for field in attrs.fields(Options)}
    for name in given:
        if name not in known:
            said = f"a step has no option {name!r}.{nearest(name, known)}"
            raise CompileError(said, {"step": where}, f"the options are {', '.join(known)}.")
    made: dict[str, Any] = {
        name: as_tuple(value) if name in ("after", "retry_on", "track") else value for name, value in given.items()
    }
    for name, (fits, wanted) in WANTED.items():
        if name in given and not (made[name] is None is known[name] or fits(made[name])):
            raise CompileError(f"a step cannot have {name}={brief(given[name])}", {"step": where}, f"give {wanted}.")
    return Options(**made)


@overload
def step(function: F, /) -> F: ...
@overload
def step(
    *,
    name: str | None = None,
    version: str | None = None,
    sets: str | None = None,
    after: Any = (),
    retries: int = 0,
    backoff: float = 0.0,
    retry_on: type[BaseException] | Iterable[type[BaseException]] = (Exception,),
    timeout: float | None = None,
    limit: Limit | None = None,
    cache: bool = True,
    track: Iterable[Any] = (),
) -> Callable[[F], F]: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Mark a function as a step; it stays the function it was.

    >>> @step(retries=2)
    ... def parse(amount: str) -> float:
    ...     return float(amount)
    >>> parse("3.5")
    3.5

    name: its name in the graph, if not the function's. version: replaces the automatic fingerprint. sets: the
    field of the record that gets the result. after: steps, pipelines or names to wait for. retries, backoff (s),
    retry_on, timeout (s per attempt). limit: a `Limit` shared with other steps. cache=False: run in every run.
    track: code that cannot be seen from the source.
    """

    def mark(function: Any) -> Any:
        if isinstance(function, type) or not callable(function):
            said = f"the class {function.__name__}" if isinstance(function, type) else brief(function)
            raise CompileError(f"@step marks functions, not {said}", {"declared": calling()}, "write a function and mark that.")
        made = _options(options, location(function))
        try:
            setattr(function, MARK, made)
        except (AttributeError, TypeError):  # a builtin, a method of an object, an object with slots
            raise CompileError(
                f"@step cannot mark {location(function)}: it takes no attributes",
                {"declared": calling()},
                'give its options in an alias: cp.alias(function, "name", …), or write a function that calls it.',
            ) from None
        return function

    return mark if function is None else mark(function)


@attrs.frozen(eq=False)
class Alias:
    """A second use of a step's function under another name."""

    function: Callable[..., Any]
    name: str
    inputs: Mapping[str, str]
    options: Options


def alias(function: Callable[..., Any], name: str, *, inputs: Mapping[str, Any] | None = None, **options: Any) -> Alias:
    """Use a function a second time under another name, with other inputs or options.

    >>> def fetch(url: str) -> str: ...
    >>> alias(fetch, "fetch_fast", inputs={"url": "mirror"}, retries=2).name
    'fetch_fast'

    `inputs` says for a parameter which step's value it gets.
    """
    _check_function(function, name)
    marked: Options | None = getattr(function, MARK, None)
    base = attrs.asdict(marked, recurse=False) if marked else {}
    given = _options({**base, **options, "name": name}, location(function))
    return Alias(function, name, _inputs(name, {} if inputs is None else inputs), given)


def _check_function(function: Any, name: str) -> None:
    if isinstance(function, Alias):
        raise CompileError(
            f"{brief(name)} would be the alias of an alias, {function.name!r}",
            {"declared": calling(), "function": location(function.function)},
            "make both aliases of the function itself.",
        )
    if not callable(function) or is_model(function):
        said = f"the model {function.__name__}" if is_model(function) else brief(function)
        raise CompileError(f"alias() takes a function, not {said}", {"declared": calling()}, 'write cp.alias(function, "name").')


def _inputs(name: str, inputs: Any) -> dict[str, str]:
    facts, mend = {"alias": name, "declared": calling()}, 'give a dict of parameters and steps: inputs={"text": "clean_text"}.'
    if not isinstance(inputs, Mapping) or not all(isinstance(parameter, str) for parameter in inputs):
        raise CompileError(f"inputs={brief(inputs)} does not say which parameter gets which step's value", facts, mend)
    for parameter, source in inputs.items():
        if not isinstance(source, str | Alias) and not callable(source):
            raise CompileError(f"inputs={{{parameter!r}: …}} names no step, but {brief(source)}", facts, mend)
    return {parameter: source if isinstance(source, str) else step_name(source) for parameter, source in inputs.items()}


@attrs.frozen
class Parameter:
    """One parameter of a step, condition, guard or predicate."""

    name: str
    annotation: Any = EMPTY
    default: Any = EMPTY
    keyword: bool = False

    @property
    def annotated(self) -> bool:
        return self.annotation is not EMPTY

    @property
    def optional(self) -> bool:
        return self.default is not EMPTY


@attrs.frozen(eq=False)
class Step:
    """A function as a part of a graph: its name, options, parameters and what it returns."""

    name: str
    function: Callable[..., Any]
    options: Options
    inputs: Mapping[str, str]
    parameters: tuple[Parameter, ...]
    returns: Any
    is_async: bool
    where: str


def parameters_of(function: Callable[..., Any], what: str) -> tuple[tuple[Parameter, ...], Any]:
    """Read a signature: its parameters, and the annotation of what it returns (`EMPTY` without).

    Annotations in quotes are resolved where their names can be seen, and stay strings elsewhere.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:
        raise CompileError(
            f"the signature of {what} cannot be read", {"function": location(function)}, "wrap it in a function of your own."
        ) from error
    found = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise CompileError(
                f"{what} takes {stars}{parameter.name}: a step names each of its inputs",
                {"function": location(function)},
                "write its parameters out.",
            )
        keyword = parameter.kind is parameter.KEYWORD_ONLY
        found.append(Parameter(parameter.name, _resolved(function, parameter.annotation), parameter.default, keyword))
    return tuple(found), _resolved(function, signature.return_annotation)


def _resolved(function: Any, annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return without_notes(annotation)
    plain = called(function)
    names: dict[str, Any] = dict(getattr(plain, "__globals__", {}))
    code, cells = getattr(plain, "__code__", None), getattr(plain, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue
    try:
        return without_notes(eval(annotation, names))
    except Exception:
        return annotation


def step_name(part: Any) -> str:
    """Give the name a step has in its graph."""
    if isinstance(part, Alias):
        return part.name
    options: Options | None = getattr(part, MARK, None)
    if options is not None and options.name is not None:
        return options.name
    return str(getattr(part, "__name__", type(part).__name__))


def read_step(part: Any) -> Step:
    """Take a function, marked or not, or an alias, as a step."""
    function = part.function if isinstance(part, Alias) else part
    options: Options = part.options if isinstance(part, Alias) else getattr(function, MARK, None) or Options()
    name = step_name(part)
    where = location(function)
    if name == "<lambda>":
        raise CompileError("a lambda has no name to be called by", {"lambda": where}, 'name it: cp.alias(…, "name").')
    check_name(name, "step", where)
    plain = called(function)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise CompileError(f"step {name!r} is a generator", {"step": where}, "return a list instead of yielding.")
    parameters, returns = parameters_of(function, f"step {name!r}")
    inputs = part.inputs if isinstance(part, Alias) else {}
    taken = [parameter.name for parameter in parameters]
    unknown = sorted(set(inputs) - set(taken))
    if unknown:
        raise CompileError(
            f"alias {name!r} gives an input to {unknown[0]!r}, which its function does not take.{nearest(unknown[0], taken)}",
            {"function": where, "takes": ", ".join(taken) or "nothing"},
            "name one of its parameters in inputs=.",
        )
    return Step(name, function, options, inputs, parameters, returns, inspect.iscoroutinefunction(plain), where)


def check_asked(function: Callable[..., Any], what: str, where: str) -> None:
    """Refuse what is asked for a yes or no, and would be a yes whatever it says: its coroutine, its generator."""
    plain: Any = function  # as it is called: a wrapper may well await what it wraps
    if callable(plain) and not inspect.isroutine(plain) and not isinstance(plain, type | partial):
        plain = type(plain).__call__
    for found, said, mend in (
        (inspect.iscoroutinefunction, "an async function", "write it as a plain function; await in a step before it."),
        (inspect.isgeneratorfunction, "a generator", "return True or False instead of yielding."),
        (inspect.isasyncgenfunction, "an async generator", "write it as a plain function; await in a step before it."),
    ):
        if found(plain):
            raise CompileError(f"{what} is {said}, which answers nothing", {"declared": where, "function": location(plain)}, mend)


def check_name(name: Any, what: str, where: str) -> None:
    """Refuse a name that could not be read back from an id (rule N2)."""
    if not isinstance(name, str) or not name or not name.isprintable() or FORBIDDEN & set(name):
        raise CompileError(
            f"{what} name {name!r} cannot serve", {what: where}, "a name is printable text without / [ ] , or quotes."
        )
