"""What annotations say: does a value agree with one, and can one be given where another is asked.

What cannot be decided (a name that does not resolve, a type variable, a protocol) agrees with everything: an error
here is an error for sure.
"""

from __future__ import annotations

import collections
import collections.abc as abc
import enum
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Final, Literal, TypeVar, Union

__all__ = ["alternatives", "assignable", "brief", "by_annotation", "checker", "describe", "either", "element_types", "fits"]
__all__ += ["strip", "without_notes"]

Check = Callable[[Any], bool]
T = TypeVar("T")

# A number serves where a wider one is asked, as in Python itself.
WIDER: Final[dict[type, tuple[type, ...]]] = {float: (float, int), complex: (complex, float, int)}

# What can be looked into without using it up.
HOLDERS: Final = (list, tuple, set, frozenset, collections.deque)

BARE: Final = (Any, object, inspect.Parameter.empty, typing.Self, typing.LiteralString)
WRAPPERS: Final = (typing.Annotated, typing.Final, typing.ClassVar, typing.Required, typing.NotRequired)


def strip(annotation: Any) -> Any:
    """Take off what says nothing about values (`Annotated`, `NewType`, …); `Any` stands for all that cannot be told.

    >>> strip(typing.Annotated[int, "metres"])
    <class 'int'>
    """
    while True:
        if annotation is None:
            return type(None)
        if annotation is typing.LiteralString:
            return str
        if any(annotation is bare for bare in BARE):
            return Any
        if isinstance(annotation, str | typing.TypeVar | typing.ForwardRef | typing.ParamSpec):
            return Any
        if isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif typing.get_origin(annotation) in WRAPPERS:
            annotation = typing.get_args(annotation)[0]
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def without_notes(annotation: Any) -> Any:
    """Take off `Annotated` and names of types, and nothing else.

    >>> without_notes(typing.Annotated[int, "metres"])
    <class 'int'>
    """
    while True:
        if typing.get_origin(annotation) is typing.Annotated:
            annotation = typing.get_args(annotation)[0]
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Give the members of a union; anything else is its own only one.

    >>> alternatives(int | None)
    (<class 'int'>, <class 'NoneType'>)
    """
    annotation = strip(annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(member for part in typing.get_args(annotation) for member in alternatives(part))
    return (annotation,)


def element_types(annotation: Any) -> tuple[Any, ...]:
    """Give what a container holds: one type, two for a mapping, none if it does not say.

    >>> element_types(dict[str, int])
    (<class 'str'>, <class 'int'>)
    """
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if not isinstance(origin, type) or not args:
        return ()
    if issubclass(origin, abc.Mapping):
        return (args[0], int) if origin is collections.Counter else args[:2]
    if issubclass(origin, abc.Iterable) and not issubclass(origin, tuple):
        return args[:1]
    return ()


def by_annotation(make: Callable[[Any], T]) -> Callable[[Any], T]:
    """Have what is made of an annotation made once for each."""
    known = functools.lru_cache(maxsize=4096)(make)

    @functools.wraps(make)
    def find(annotation: Any) -> T:
        try:
            return known(annotation)
        except TypeError:  # one that does not hash
            return make(annotation)

    return find


# Values


def fits(value: Any, annotation: Any) -> bool:
    """Tell whether a value agrees with an annotation.

    >>> fits(3, float), fits(None, int | None), fits(["a"], list[int])
    (True, True, False)
    """
    return type(value) is annotation or checker(annotation)(value)


def _anything(value: Any) -> bool:
    return True


@by_annotation
def checker(annotation: Any) -> Check:
    """Give the function that tells whether a value agrees with an annotation."""
    if type(annotation).__name__ == "TypeAliasType":  # may mention itself: looked at when a value comes
        return lambda value: checker(annotation.__value__)(value)
    annotation = strip(annotation)
    if annotation is Any:
        return _anything
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return _any_of([strip(part) for part in args])
    if origin is Literal:
        return lambda value: any(type(value) is type(choice) and value == choice for choice in args)
    if annotation is typing.Never or annotation is typing.NoReturn:
        return lambda value: False
    if origin is tuple:
        return _tuple_checker(args)
    if origin is None:
        return _class_checker(annotation)
    if origin is abc.Callable:
        return callable
    if not isinstance(origin, type):
        return _anything
    held = [checker(part) for part in element_types(annotation)]
    return _holder_checker(_class_checker(origin), held)


def _classes(annotation: Any) -> tuple[type, ...] | None:
    """The classes whose instances agree with a class; None if `isinstance` cannot be asked."""
    if not isinstance(annotation, type):
        return None
    if typing.is_typeddict(annotation):
        return (dict,)
    if getattr(annotation, "_is_protocol", False) and not getattr(annotation, "_is_runtime_protocol", False):
        return None
    return WIDER.get(annotation, (annotation,))


def _class_checker(annotation: Any) -> Check:
    classes = _classes(annotation)
    if classes is None:
        return _anything
    return lambda value: isinstance(value, classes)


def _any_of(parts: list[Any]) -> Check:
    plain = [None if typing.get_origin(part) else _classes(part) for part in parts]
    if all(plain):
        classes = tuple(cls for found in plain for cls in found or ())
        return lambda value: isinstance(value, classes)
    checks = [checker(part) for part in parts]
    return lambda value: any(check(value) for check in checks)


def _tuple_checker(args: tuple[Any, ...]) -> Check:
    if len(args) == 2 and args[1] is Ellipsis:
        return _holder_checker(lambda value: isinstance(value, tuple), [checker(args[0])])
    checks = [checker(part) for part in args]

    def check(value: Any) -> bool:
        return isinstance(value, tuple) and len(value) == len(checks) and all(map(lambda fit, item: fit(item), checks, value))

    return check


def _holder_checker(outer: Check, held: list[Check]) -> Check:
    if not held or all(check is _anything for check in held):
        return outer
    if len(held) == 2:
        key, item = held
        return lambda value: (
            outer(value) and (not isinstance(value, abc.Mapping) or (all(map(key, value)) and all(map(item, value.values()))))
        )
    (inner,) = held
    return lambda value: outer(value) and (not isinstance(value, HOLDERS) or all(map(inner, value)))


# From one annotation to another


def assignable(source: Any, target: Any, *, filled: bool = False) -> bool:
    """Tell whether what is annotated `source` can be given where `target` is asked; False only if that is surely wrong.

    filled: take the source without its None: a field `X | None` that an earlier step fills.

    >>> assignable(int, float), assignable(str, float), assignable(list[int], list)
    (True, False, True)
    >>> assignable(float | None, float), assignable(float | None, float, filled=True)
    (False, True)
    """
    return _assignable(source, target, filled, 0)


def _assignable(source: Any, target: Any, filled: bool, depth: int) -> bool:
    if depth > 50:  # an alias that mentions itself
        return True
    sources, targets = alternatives(source), alternatives(target)
    if Any in sources or Any in targets:
        return True
    empty = type(None)
    if len(sources) > 1 and empty in sources:
        if not filled and not any(_member(empty, part, depth) for part in targets):
            return False
        sources = tuple(part for part in sources if part is not empty)
    return any(_member(part, wanted, depth) for part in sources for wanted in targets)


def _member(source: Any, target: Any, depth: int) -> bool:
    """As `assignable`, where neither is a union."""
    if source == target:
        return True
    if typing.get_origin(source) is Literal:
        return any(fits(choice, target) for choice in typing.get_args(source))
    if typing.get_origin(target) is Literal:
        return any(fits(choice, source) for choice in typing.get_args(target))
    of, to = typing.get_origin(source) or source, typing.get_origin(target) or target
    have, want = _classes(of), _classes(to)
    if have is None or want is None:
        return True
    if typing.is_typeddict(of):
        of = dict
    try:
        related = any(issubclass(of, cls) or issubclass(cls, of) for cls in want)
    except TypeError:  # a protocol with data members, which only an instance can show
        return True
    return related and _elements(source, target, depth + 1)


def _elements(source: Any, target: Any, depth: int) -> bool:
    given, asked = typing.get_args(source), typing.get_args(target)
    if not given or not asked:
        return True
    fixed = [typing.get_origin(side) is tuple and args[-1] is not Ellipsis for side, args in ((source, given), (target, asked))]
    if all(fixed):
        return len(given) == len(asked) and all(_assignable(a, b, False, depth) for a, b in zip(given, asked, strict=True))
    one, other = _held(source), _held(target)
    if len(one) == len(other):
        return all(_assignable(a, b, False, depth) for a, b in zip(one, other, strict=True))
    if fixed[0] and len(other) == 1:
        return all(_assignable(a, other[0], False, depth) for a in given)
    if fixed[1] and len(one) == 1:
        return all(_assignable(one[0], b, False, depth) for b in asked)
    return True


def _held(annotation: Any) -> tuple[Any, ...]:
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        return args[:1] if args[-1] is Ellipsis else ()
    return element_types(annotation)


# For people


def describe(annotation: Any) -> str:
    """Say in words what an annotation asks for.

    >>> describe(float | None), describe(list[int]), describe(Literal["a", "b"])
    ('float or None', 'list[int]', "'a' or 'b'")
    """
    if annotation is None or annotation is type(None):
        return "None"
    if isinstance(annotation, str):
        return annotation
    if isinstance(annotation, typing.ForwardRef):
        return annotation.__forward_arg__
    if annotation is Any or annotation is object or annotation is inspect.Parameter.empty:
        return "anything"
    if typing.get_origin(annotation) in WRAPPERS:
        return describe(typing.get_args(annotation)[0])
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return either([describe(part) for part in args])
    if origin is Literal:
        return either([repr(choice.value if isinstance(choice, enum.Enum) else choice) for choice in args])
    if origin is abc.Callable:
        return "a function"
    name = getattr(origin or annotation, "__name__", None) or str(annotation)
    if not args:
        return str(name)
    return f"{name}[{', '.join('...' if part is Ellipsis else describe(part) for part in args)}]"


def either(words: list[str]) -> str:
    """Join words by commas and an 'or'."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def brief(value: Any, room: int = 60) -> str:
    """Show a value and its type in a few words, whatever it is.

    >>> brief("3.5"), brief(3.5), brief(None)
    ("'3.5' (str)", '3.5 (float)', 'None')
    """
    try:
        text = repr(value[: room * 2] if type(value) in (str, bytes, list, tuple) else value)
    except Exception:  # a number too long to print, a repr that raises
        return f"a value of type {type(value).__name__}"
    text = " ".join(text.split())
    if len(text) > room:
        text = f"{text[: room - 1]}…"
    return text if value is None or isinstance(value, type) else f"{text} ({type(value).__name__})"
