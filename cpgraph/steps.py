"""Marking plain functions as steps, and reading what they ask for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeVar, overload

import attrs

from cpgraph.errors import CompileError
from cpgraph.models import location

__all__ = ["Alias", "Limit", "Options", "Parameter", "Step", "alias", "parameters_of", "read_step", "step"]

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
        if (self.calls is not None and self.calls < 1) or (self.per_second is not None and self.per_second <= 0):
            raise CompileError(
                f"Limit({self.calls}, per_second={self.per_second}) lets nothing start", mend="give numbers above 0."
            )


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


def _options(given: Mapping[str, Any], where: str) -> Options:
    given = dict(given)
    for name in ("after", "retry_on", "track"):
        if name in given:
            given[name] = as_tuple(given[name])
    try:
        options = Options(**given)
    except TypeError:
        known = [field.name for field in attrs.fields(Options)]
        unknown = sorted(set(given) - set(known))
        raise CompileError(
            f"a step has no option {unknown[0]!r}", {"step": where}, f"the options are {', '.join(known)}."
        ) from None
    if options.retries < 0 or options.backoff < 0 or (options.timeout is not None and options.timeout <= 0):
        raise CompileError(
            "retries and backoff cannot be below 0, a timeout must be above 0",
            {"step": where},
            "correct the options of the step.",
        )
    return options


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

    def mark(function: F) -> F:
        if not callable(function):
            raise CompileError(f"@step marks functions, not {type(function).__name__}")
        setattr(function, MARK, _options(options, location(function)))
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
    marked: Options | None = getattr(function, MARK, None)
    base = attrs.asdict(marked, recurse=False) if marked else {}
    named = {parameter: source if isinstance(source, str) else step_name(source) for parameter, source in (inputs or {}).items()}
    return Alias(function, name, named, _options({**base, **options, "name": name}, location(function)))


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
            f"the signature of {what} cannot be read", {"function": repr(function)}, "wrap it in a function of your own."
        ) from error
    found = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise CompileError(
                f"{what} takes *{parameter.name}: a step names each of its inputs",
                {"function": location(inspect.unwrap(function))},
                "write its parameters out.",
            )
        keyword = parameter.kind is parameter.KEYWORD_ONLY
        found.append(Parameter(parameter.name, _resolved(function, parameter.annotation), parameter.default, keyword))
    return tuple(found), _resolved(function, signature.return_annotation)


def _resolved(function: Any, annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    plain = inspect.unwrap(function)
    names: dict[str, Any] = dict(getattr(plain, "__globals__", {}))
    code, cells = getattr(plain, "__code__", None), getattr(plain, "__closure__", None) or ()
    for name, cell in zip(code.co_freevars if code else (), cells, strict=False):
        try:
            names[name] = cell.cell_contents
        except ValueError:
            continue
    try:
        return eval(annotation, names)
    except Exception:
        return annotation


def step_name(part: Any) -> str:
    """Give the name a step has in its graph."""
    if isinstance(part, Alias):
        return part.name
    options: Options | None = getattr(part, MARK, None)
    return (options.name if options else None) or str(getattr(part, "__name__", type(part).__name__))


def read_step(part: Any) -> Step:
    """Take a function, marked or not, or an alias, as a step."""
    function = part.function if isinstance(part, Alias) else part
    options: Options = part.options if isinstance(part, Alias) else getattr(function, MARK, None) or Options()
    name = step_name(part)
    where = (
        location(inspect.unwrap(function))
        if hasattr(function, "__code__") or hasattr(function, "__wrapped__")
        else repr(function)
    )
    if name == "<lambda>":
        raise CompileError("a lambda has no name to be called by", {"lambda": where}, 'name it: cp.alias(…, "name").')
    check_name(name, "step", where)
    plain = inspect.unwrap(function)
    if inspect.isgeneratorfunction(plain) or inspect.isasyncgenfunction(plain):
        raise CompileError(f"step {name!r} is a generator", {"step": where}, "return a list instead of yielding.")
    parameters, returns = parameters_of(function, f"step {name!r}")
    inputs = part.inputs if isinstance(part, Alias) else {}
    unknown = sorted(set(inputs) - {parameter.name for parameter in parameters})
    if unknown:
        raise CompileError(
            f"alias {name!r} gives an input to {unknown[0]!r}, which its function does not take",
            {"function": where, "takes": ", ".join(parameter.name for parameter in parameters) or "nothing"},
            "name one of its parameters in inputs=.",
        )
    return Step(name, function, options, inputs, parameters, returns, inspect.iscoroutinefunction(plain), where)


def check_name(name: Any, what: str, where: str) -> None:
    """Refuse a name that could not be read back from an id (rule N2)."""
    if not isinstance(name, str) or not name or not name.isprintable() or FORBIDDEN & set(name):
        raise CompileError(
            f"{what} name {name!r} cannot serve", {what: where}, "a name is printable text without / [ ] , or quotes."
        )
