"""Does a value agree with an annotation, and can one annotation stand where another is asked (rules C3, N8)."""

# ruff: noqa: UP007, UP045 (both spellings of a union are tested)

import collections
import collections.abc as abc
import datetime
import enum
import inspect
import os
import typing
from pathlib import Path
from typing import Annotated, Any, Literal, NewType, Optional, Protocol, TypedDict, TypeVar, Union

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpgraph.annotations import alternatives, assignable, brief, checker, describe, element_types, fits, strip
from cpgraph.models import File

T = TypeVar("T")
Metres = NewType("Metres", float)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Animal: ...


class Dog(Animal): ...


class Box(typing.Generic[T]): ...


class Named(Protocol):
    name: str


class Place(TypedDict):
    name: str


@attrs.frozen
class Line:
    sku: str


GOOD: list[tuple[Any, Any]] = [
    (3, int),
    (True, int),  # as in Python
    (3, float),
    (3, complex),
    (3.5, float),
    ("a", str),
    (None, None),
    (None, type(None)),
    (None, int | None),
    (3, int | None),
    (3, Optional[int]),
    ("a", Union[int, str]),
    ([1], list),
    ([1, 2], list[int]),
    ([], list[int]),
    ([1, None], list[int | None]),
    ([1, 2], list[float]),
    ([[1]], list[list[int]]),
    ((1, "a"), tuple[int, str]),
    ((1, 2, 3), tuple[int, ...]),
    ((), tuple[int, ...]),
    ((), tuple[()]),
    ({"a": 1}, dict[str, int]),
    ({"a": 1}, abc.Mapping[str, int]),
    (collections.defaultdict(int, {"a": 1}), dict[str, int]),
    ({1, 2}, set[int]),
    (frozenset({1}), frozenset[int]),
    ({1}, abc.Set[int]),
    ([1], abc.Sequence[int]),
    ((1,), abc.Sequence[int]),
    ("abc", abc.Sequence[str]),
    (iter([1]), abc.Iterable[str]),  # cannot be looked into without using it up
    (range(3), abc.Iterable[int]),
    ("red", Literal["red", "blue"]),
    (Colour.RED, Colour),
    (Colour.RED, Literal[Colour.RED]),
    (3.5, Annotated[float, "metres"]),
    (3.5, Metres),
    (Dog(), Animal),
    (Dog, type[Animal]),
    (len, abc.Callable),
    (len, abc.Callable[[list[int]], int]),
    (Box(), Box[int]),
    (Line("a"), Line),
    ({"name": "a"}, Place),
    (Path("x"), os.PathLike),
    (File("x"), os.PathLike[str]),
    (datetime.datetime(2024, 1, 1), datetime.date),
]
ANYTHING = [Any, object, "Unknown", "int", T, Named, inspect.Parameter.empty, typing.ForwardRef("Nowhere")]
BAD: list[tuple[Any, Any]] = [
    ("3", int),
    (3.0, int),
    (None, int),
    (3, str),
    (3, bool),
    (3, None),
    ("a", int | None),
    ("a", float | bool),
    ((1,), list),
    (["a"], list[int]),
    ([1, None], list[int]),
    ([[1], ["a"]], list[list[int]]),
    ((1,), tuple[int, str]),
    ((1, 2), tuple[int, str]),
    ((1, "a"), tuple[int, ...]),
    ([1, 2], tuple[int, int]),
    ((1,), tuple[()]),
    ({"a": "b"}, dict[str, int]),
    ({1: 1}, dict[str, int]),
    ([("a", 1)], dict[str, int]),
    ({"a"}, set[int]),
    ([1], set),
    ("green", Literal["red", "blue"]),
    (True, Literal[1]),
    ([], Literal["red"]),
    ("red", Colour),
    (Animal(), Dog),
    (Dog(), type[Animal]),
    (3, abc.Callable),
    (3, Box[int]),
    ([], Place),
    ("x", os.PathLike),
    ("a", Metres),
    ("a", Annotated[float, "metres"]),
    (datetime.date(2024, 1, 1), datetime.datetime),
    (3, typing.Never),
]


@pytest.mark.parametrize(("value", "annotation"), GOOD)
def test_a_value_fits(value: Any, annotation: Any) -> None:
    assert fits(value, annotation)
    assert checker(annotation)(value)


@pytest.mark.parametrize("annotation", ANYTHING, ids=str)
def test_what_cannot_be_decided_agrees_with_everything(annotation: Any) -> None:
    assert all(fits(value, annotation) for value in (3, "a", None, [], Dog()))
    assert all(fits([value], list[annotation]) for value in (3, "a", None))
    assert all(assignable(annotation, other) and assignable(other, annotation) for other in (int, str, list[int], Dog))


@pytest.mark.parametrize(("value", "annotation"), BAD)
def test_a_value_does_not_fit(value: Any, annotation: Any) -> None:
    assert not fits(value, annotation)


def test_an_annotation_that_does_not_hash_is_read_all_the_same() -> None:
    annotation = Annotated[int, ["a list does not hash"]]
    assert fits(3, annotation)
    assert not fits("a", annotation)


def test_an_iterator_is_not_used_up() -> None:
    numbers = iter([1, 2])
    assert fits(numbers, abc.Iterable[int])
    assert list(numbers) == [1, 2]


SCALARS: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(),
    str: st.text(max_size=3),
    float: st.floats(),
    bool: st.booleans(),
    bytes: st.binary(max_size=3),
    type(None): st.none(),
    Colour: st.sampled_from(Colour),
    datetime.date: st.dates(),
}


def annotated(value: st.SearchStrategy[Any], of: Any) -> st.SearchStrategy[tuple[Any, Any]]:
    return value.map(lambda made: (made, of))


@st.composite
def values(draw: Any, depth: int = 2) -> tuple[Any, st.SearchStrategy[Any]]:
    """An annotation, and a strategy for values that agree with it."""
    kind = draw(st.sampled_from(["scalar"] * 3 + (["list", "tuple", "fixed", "dict", "union"] if depth else [])))
    if kind == "scalar":
        annotation = draw(st.sampled_from(list(SCALARS)))
        return annotation, SCALARS[annotation]
    inner, of = draw(values(depth - 1))
    other, of_other = draw(values(depth - 1))
    return {
        "list": (list[inner], st.lists(of, max_size=3)),
        "tuple": (tuple[inner, ...], st.lists(of, max_size=3).map(tuple)),
        "fixed": (tuple[inner, other], st.tuples(of, of_other)),
        "dict": (dict[str, inner], st.dictionaries(st.text(max_size=2), of, max_size=3)),
        "union": (Union[inner, other], of | of_other),
    }[kind]


@settings(deadline=None)
@given(st.data())
def test_every_value_of_a_type_fits_it_and_its_list_does_not(data: st.DataObject) -> None:
    annotation, of = data.draw(values())
    value = data.draw(of)
    assert fits(value, annotation)
    assert fits([value], list[annotation])
    assert not fits(object(), annotation)
    assert assignable(annotation, annotation)
    assert assignable(annotation, Union[annotation, None])
    assert describe(annotation)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (int, int),
        (int, float),
        (bool, int),
        (Dog, Animal),
        (Animal, Dog),  # it may be one
        (list[int], list),
        (list, list[int]),
        (list[int], list[float]),
        (list[int], abc.Sequence[int]),
        (tuple[int, ...], abc.Sequence[int]),
        (tuple[int, int], tuple[int, ...]),
        (tuple[int, ...], tuple[int, int]),
        (tuple[int, int], abc.Iterable[float]),
        (str, abc.Sequence[str]),
        (dict[str, int], abc.Mapping[str, float]),
        (Place, dict[str, str]),
        (int, int | None),
        (int, str | float),
        (int | str, str),  # one of them may come
        (Optional[int], Optional[float]),
        (None, int | None),
        (Literal["a"], str),
        (str, Literal["a"]),
        (Literal["a", "b"], Literal["b", "c"]),
        (Metres, float),
        (float, Metres),
        (Annotated[int, "x"], int),
        (Path, os.PathLike),
        (File, os.PathLike[str]),
        (Box[int], Box[str]),  # nothing is known of a class of the user's
        (Colour, Literal[Colour.RED]),
        (type[Dog], type[Animal]),
    ],
)
def test_what_may_be_right_is_let_through(source: Any, target: Any) -> None:
    assert assignable(source, target)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (str, int),
        (float, int),
        (int, str),
        (None, int),
        (int | None, int),
        (int | str, bytes),
        (list[int], list[str]),
        (list[list[int]], list[list[str]]),
        (list[int], dict),
        (list[int], tuple[int, ...]),
        (dict[str, int], dict[str, str]),
        (dict[int, int], dict[str, int]),
        (tuple[int, int], tuple[int, str]),
        (tuple[int, int], tuple[int, int, int]),
        (tuple[int, str], abc.Sequence[int]),
        (Literal["a"], int),
        (Literal["a"], Literal["b"]),
        (int, Literal["a"]),
        (Dog, Colour),
        (str, os.PathLike),
        (Metres, str),
        (datetime.date, str),
        (int, abc.Callable),
    ],
)
def test_what_is_surely_wrong_is_not(source: Any, target: Any) -> None:
    assert not assignable(source, target)


def test_n8_a_field_that_an_earlier_step_fills() -> None:
    assert not assignable(float | None, float)
    assert assignable(float | None, float, filled=True)
    assert not assignable(float | None, str, filled=True)
    assert not assignable(None, str, filled=True)


@pytest.mark.parametrize(
    ("annotation", "said"),
    [
        (int, "int"),
        (None, "None"),
        (float | None, "float or None"),
        (int | str | None, "int, str or None"),
        (Optional[list[int]], "list[int] or None"),
        (dict[str, Any], "dict[str, anything]"),
        (tuple[int, ...], "tuple[int, ...]"),
        (Literal["a", 1, Colour.RED], "'a', 1 or 'red'"),
        (Annotated[int, "x"], "int"),
        (Metres, "Metres"),
        (Any, "anything"),
        ("Order", "Order"),
        (typing.ForwardRef("Order"), "Order"),
        (abc.Callable[[int], str], "a function"),
        (Colour, "Colour"),
        (T, "T"),
    ],
)
def test_annotations_in_words(annotation: Any, said: str) -> None:
    assert describe(annotation) == said


def test_parts_of_annotations() -> None:
    assert alternatives(Optional[Union[int, str]]) == (int, str, type(None))
    assert alternatives(int) == (int,)
    assert element_types(dict[str, int]) == (str, int)
    assert element_types(list) == ()
    assert strip(Annotated[Metres, "x"]) is float


def test_any_value_is_shown_briefly() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError

    assert brief(10**5000) == "a value of type int"
    assert brief(Broken()) == "a value of type Broken"
    assert len(brief("x" * 10**6)) < 80
    assert len(brief([0] * 10**6)) < 80
    assert "\n" not in brief("a\nb")
    assert "\n" not in brief(type("Lines", (), {"__repr__": lambda self: "a\nb"})())
