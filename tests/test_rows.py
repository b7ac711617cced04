"""What a value is under the type of its field, and as plain data again; run parameters (design 3.2, rule N7; issue item 11)."""

import collections
import collections.abc as abc
import dataclasses
import datetime
import enum
import fractions
import ipaddress
import os
import uuid
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Generic, Literal, NamedTuple, NewType, NotRequired, TypedDict, TypeVar

import attrs
import pytest

from cpgraph.errors import CpgraphError
from cpgraph.models import AUTO, File, auto_id, model
from cpgraph.rows import convert, row_reader
from cpgraph.scalars import Misfit, plain_record, plain_value

T = TypeVar("T")
Metres = NewType("Metres", float)


class Colour(enum.Enum):
    RED = "red"
    PAIR = (1, 2)


class Level(enum.IntEnum):
    LOW = 1


class Mode(enum.StrEnum):
    FAST = "fast"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@attrs.frozen
class Line:
    sku: str
    count: int = 1
    parts: "list[Line]" = attrs.field(factory=list)


@dataclasses.dataclass(frozen=True)
class Spot:
    x: float
    y: float = 0.0


@attrs.frozen
class Box(Generic[T]):
    content: T


class Place(TypedDict):
    name: str
    size: NotRequired[int]


class Pair(NamedTuple):
    left: int
    right: str = "r"


def reader(annotation: Any) -> Any:
    made: Any = model(type("Row", (), {"__annotations__": {"id": int, "value": annotation}, "__module__": __name__}))
    return row_reader(made)


GIVEN = [
    (str, "3", "3"),
    (int, 3, 3),
    (float, 3.5, 3.5),
    (float, 3, 3),  # left as it is: it serves
    (bool, False, False),
    (bytes, b"hi", b"hi"),
    (bytes, "aGk=", b"hi"),
    (complex, "1+2j", 1 + 2j),
    (None, None, None),
    (Any, {"a": [1]}, {"a": [1]}),
    (datetime.date, datetime.date(2024, 1, 2), datetime.date(2024, 1, 2)),
    (datetime.date, "2024-01-02", datetime.date(2024, 1, 2)),
    (datetime.datetime, "2024-01-02T03:04:05Z", datetime.datetime(2024, 1, 2, 3, 4, 5, tzinfo=datetime.UTC)),
    (datetime.datetime, datetime.date(2024, 1, 2), datetime.datetime(2024, 1, 2)),
    (datetime.time, "12:30", datetime.time(12, 30)),
    (datetime.timedelta, 90, datetime.timedelta(seconds=90)),
    (Decimal, "3.10", Decimal("3.10")),
    (Decimal, 3, Decimal(3)),
    (fractions.Fraction, "1/3", fractions.Fraction(1, 3)),
    (uuid.UUID, "00000000-0000-0000-0000-000000000007", uuid.UUID(int=7)),
    (ipaddress.IPv4Address, "10.0.0.1", ipaddress.IPv4Address("10.0.0.1")),
    (Path, "a/b", Path("a/b")),
    (PurePosixPath, "a/b", PurePosixPath("a/b")),
    (os.PathLike, "a", Path("a")),
    (File, "a.csv", File("a.csv")),
    (File, Path("a.csv"), File("a.csv")),
    (Colour, "red", Colour.RED),
    (Colour, [1, 2], Colour.PAIR),
    (Colour, Colour.RED, Colour.RED),
    (Level, 1, Level.LOW),
    (Mode, "fast", Mode.FAST),
    (Rights, 3, Rights.READ | Rights.WRITE),
    (Literal["a", 1], 1, 1),
    (Literal[Colour.RED], "red", Colour.RED),
    (int | None, None, None),
    (float | None, 3, 3),
    (int | str, "3", "3"),
    (str | int, 3, 3),
    (datetime.date | str, "2024-01-02", "2024-01-02"),
    (Path | None, "a", Path("a")),
    (list[Line] | None, [{"sku": "a"}], [Line("a")]),
    (Annotated[int, "x"], 3, 3),
    (Metres, 3.5, 3.5),
    (list, [1, "a"], [1, "a"]),
    (list[int], [1, 2], [1, 2]),
    (list[int], (1, 2), [1, 2]),
    (tuple[int, ...], [1, 2], (1, 2)),
    (tuple[int, str], [1, "a"], (1, "a")),
    (tuple, [1, "a"], (1, "a")),
    (set[int], [1, 1], {1}),
    (frozenset[str], ["a"], frozenset({"a"})),
    (abc.Sequence[int], [1], (1,)),
    (abc.Set[int], [1], frozenset({1})),
    (collections.deque[int], [1], collections.deque([1])),
    (dict[str, int], {"a": 1}, {"a": 1}),
    (dict[int, list[int]], {"1": [2]}, {1: [2]}),  # JSON has no other keys
    (dict[datetime.date, int], {"2024-01-02": 1}, {datetime.date(2024, 1, 2): 1}),
    (abc.Mapping[str, Any], {"a": 1}, {"a": 1}),
    (collections.OrderedDict[str, int], {"a": 1}, collections.OrderedDict(a=1)),
    (collections.Counter[str], {"a": 1}, collections.Counter(a=1)),
    (Line, {"sku": "a", "parts": [{"sku": "b"}]}, Line("a", 1, [Line("b")])),
    (Line, Line("a"), Line("a")),
    (Spot, {"x": 1.5}, Spot(1.5)),
    (Box[Line], {"content": {"sku": "a"}}, Box(Line("a"))),
    (Place, {"name": "a"}, {"name": "a"}),
    (Pair, [1, "b"], Pair(1, "b")),
    (list[Line | Spot], [{"x": 1.5}, {"sku": "a"}], [Spot(1.5), Line("a")]),
    ("Unknown", 3, 3),
]


@pytest.mark.parametrize(("annotation", "given", "value"), GIVEN, ids=lambda value: str(value)[:30])
def test_a_value_under_its_type(annotation: Any, given: Any, value: Any) -> None:
    found = reader(annotation)({"id": 1, "value": given}).value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(("annotation", "given", "value"), GIVEN, ids=lambda value: str(value)[:30])
def test_every_value_is_read_back_from_plain_data(annotation: Any, given: Any, value: Any) -> None:
    row = plain_record(reader(annotation)({"id": 1, "value": value}))
    assert reader(annotation)(row).value == value
    assert plain_value(row) == row


@pytest.mark.parametrize(
    ("annotation", "given", "said"),
    [
        (str, 3.5, "expected str, found 3.5 (float): quote it"),
        (str, False, "expected str, found False (bool): quote it"),
        (str, datetime.date(2024, 1, 2), "quote it"),
        (str, None, "expected str, found nothing (null)"),
        (str, ["a"], "expected str, found ['a'] (list)"),
        (str | None, 12, "expected str or None, found 12 (int): quote it"),
        (int, "3", "expected int, found '3' (str)"),
        (int, 3.0, "expected int, found 3.0 (float)"),
        (int, True, "expected int, found True (bool)"),
        (float, True, "expected float"),
        (float, "3.5", "expected float, found '3.5' (str)"),
        (bool, 1, "expected bool (true or false), found 1 (int)"),
        (bool, "no", "expected bool"),
        (None, 3, "expected None"),
        (bytes, "*", "base64"),
        (complex, "x", "expected complex"),
        (datetime.date, datetime.datetime(2024, 1, 2), "expected date (as 2024-12-31)"),
        (datetime.date, "2024-13-45", "expected date (as 2024-12-31), found '2024-13-45' (str)"),
        (datetime.datetime, "soon", "expected datetime"),
        (datetime.time, 45000, "expected time (as 23:59:59)"),
        (datetime.timedelta, 1e30, "expected timedelta (in seconds)"),
        (Decimal, 3.1, "expected Decimal (as text), found 3.1 (float): quote it"),
        (Decimal, "x", "expected Decimal"),
        (uuid.UUID, 7, "expected UUID (as text)"),
        (ipaddress.IPv4Address, "x", "expected IPv4Address"),
        (File, 3, "expected File (a path)"),
        (Colour, "green", "expected Colour, one of 'red' (str), [1, 2] (list), found 'green' (str)"),
        (Level, True, "expected Level"),
        (Rights, 8, "expected Rights"),
        (Literal["a", 1], True, "expected 'a' or 1, found True (bool)"),
        (int | None, "3", "expected int or None, found '3' (str)"),
        (int | float | None, "x", "expected int, float or None"),
        (list[str], "abc", "expected list[str] (a list), found 'abc' (str)"),
        (list[int], {"a": 1}, "expected list[int] (a list)"),
        (tuple[int, str], [1], "expected tuple[int, str] (2 items), found 1"),
        (set[list], [[1]], "expected set[list]"),
        (dict[str, int], [1], "expected dict[str, int] (a mapping)"),
        (Line, "a", "expected Line (a mapping), found 'a' (str)"),
        (type("Lock", (), {}), 3, "expected Lock, found 3 (int), which cannot be written in data"),
    ],
)
def test_a_value_that_does_not_fit_its_type(annotation: Any, given: Any, said: str) -> None:
    with pytest.raises(Misfit) as caught:
        reader(annotation)({"id": 1, "value": given})
    ((way, text),) = caught.value.problems
    assert way == "value"
    assert said in text


@pytest.mark.parametrize(
    ("annotation", "given", "ways"),
    [
        (list[int], [1, "a", 2, "b"], ["value[1]", "value[3]"]),
        (tuple[int, str], ["a", 1], ["value[0]", "value[1]"]),
        (dict[str, int], {"a": 1, "b": "x"}, ["value['b']"]),
        (dict[int, int], {"x": 1}, ["value['x']"]),
        (list[Line], [{"sku": 3}, {"skuu": "a"}, 7], ["value[0].sku", "value[1].sku", "value[1].skuu", "value[2]"]),
        (Line, {"sku": "a", "parts": [{"sku": "b", "count": "x"}]}, ["value.parts[0].count"]),
        (Line | None, {"sku": 3}, ["value.sku"]),
        (Spot, {"x": "1"}, ["value.x"]),
        (Place, {"size": "x"}, ["value.name", "value.size"]),
        (Box[int], {"content": "x"}, ["value.content"]),
        (Pair, ["x", 1], ["value[0]", "value[1]"]),
    ],
)
def test_the_way_to_every_bad_part_is_said(annotation: Any, given: Any, ways: list[str]) -> None:
    with pytest.raises(Misfit) as caught:
        reader(annotation)({"id": 1, "value": given})
    assert sorted(way for way, _ in caught.value.problems) == ways


@model
class Order:
    id: int
    amount: str
    total: float | None = attrs.field(default=None)
    rate: float = attrs.field(default=0.5, converter=float)
    net: float = attrs.field(init=False, default=1.5)
    _secret: int = 0

    @total.validator
    def _positive(self, attribute: Any, value: Any) -> None:
        if value is not None and value < 0:
            raise ValueError("a total cannot be below 0")


def problems(row: Any) -> dict[str, str]:
    with pytest.raises(Misfit) as caught:
        row_reader(Order)(row)
    return dict(caught.value.problems)


def test_a_row_makes_a_record() -> None:
    read = row_reader(Order)
    assert read({"id": 1, "amount": "3", "_secret": 7}) == Order(id=1, amount="3", secret=7)
    assert read({"id": 1, "amount": "3", "rate": "0.25"}).rate == 0.25  # the converter of the class says what it takes
    assert plain_record(Order(id=1, amount="3")) == {"id": 1, "amount": "3", "total": None, "rate": 0.5, "_secret": 0}


def test_everything_wrong_with_a_row_is_said() -> None:
    assert problems({"amout": "3", "total": "x", True: 1}) == {
        "id": "is missing, expected int",
        "amount": "is missing, expected str",
        "total": "expected float or None, found 'x' (str)",
        "amout": "Order has no such field. Did you mean 'amount'?",
        "True": "Order has no such field: the name is read as True (bool): quote it",
    }
    assert problems({"id": 1, "amount": "3", "net": 3.0}) == {"net": "Order has no such field."}
    assert problems({"id": 1, "amount": "3", "total": -1}) == {"": "ValueError: a total cannot be below 0"}
    assert "ValueError" in problems({"id": 1, "amount": "3", "rate": "x"})[""]


def test_s6_ids_are_ints_or_strs() -> None:
    @model
    class Free:
        id: Any

    assert row_reader(Free)({"id": 1}).id == 1
    for id in (1.5, True, None, (1,)):
        with pytest.raises(Misfit, match="an id is an int or a str"):
            row_reader(Free)({"id": id})


def test_an_id_that_is_made_may_be_left_out() -> None:
    @model
    class Page:
        id: str = auto_id()

    assert row_reader(Page)({}).id is AUTO


# Plain data


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({"b", "a"}, ["a", "b"]),
        (frozenset({3, "a", None, 1}), [None, 1, 3, "a"]),
        ({Level.LOW: Colour.RED, (1, 2): 3}, {1: "red", (1, 2): 3}),
        (Mode.FAST, "fast"),
        (Rights.READ | Rights.WRITE, 3),
        (datetime.time(1, 2), "01:02:00"),
        (datetime.timedelta(days=1), 86400),
        (datetime.timedelta(milliseconds=1500), 1.5),
        (Decimal("3.10"), "3.10"),
        (Path("a/b"), "a/b"),
        (File("a"), "a"),
        (Line("a"), {"sku": "a", "count": 1, "parts": []}),
        (Spot(1.5), {"x": 1.5, "y": 0.0}),
        (Pair(1), [1, "r"]),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (collections.deque([1]), [1]),
        (range(2), [0, 1]),
        (b"hi", b"hi"),
        (type("Text", (str,), {})("a"), "a"),
    ],
    ids=repr,
)
def test_plain(value: Any, plain: Any) -> None:
    found = plain_value(value)
    assert found == plain
    assert type(found) is type(plain)


def test_what_is_not_plain_stays_as_it_is() -> None:
    thing = object()
    assert plain_value([thing]) == [thing]


# Run parameters


@pytest.mark.parametrize(
    ("given", "annotation", "value"),
    [
        ("3", int, 3),
        ("3", float, 3),
        ("1e3", float, 1000.0),
        ("true", bool, True),
        ("no", bool, False),
        ("f.csv", File, File("f.csv")),
        ("012", Path, Path("012")),
        ("3", Path, Path("3")),
        ("3", str, "3"),
        ("3", Any, "3"),
        ("3", "Unknown", "3"),
        ("3", str | None, "3"),
        ("3", int | None, 3),
        ("null", int | None, None),
        ("3", int | File, 3),
        ("f.csv", int | File, File("f.csv")),
        ("[1, 2]", list[int], [1, 2]),
        ("[a, b]", tuple[str, ...], ("a", "b")),
        ("[a, b]", abc.Sequence[str], ("a", "b")),
        ("{a: 1}", dict[str, int], {"a": 1}),
        ('{"1": 2}', dict[int, int], {1: 2}),
        ('{"sku": "a"}', Line, Line("a")),
        ("[a.csv]", list[File], [File("a.csv")]),
        ("2024-01-02", datetime.date, datetime.date(2024, 1, 2)),
        ("3.10", Decimal, Decimal("3.10")),
        ("red", Colour, Colour.RED),
        ("1", Level, Level.LOW),
        ("1", Literal["a", 1], 1),
        (3, int, 3),
        (3, float, 3),
        (True, int, True),
        (Path("f.csv"), File, File("f.csv")),
        ((1, 2), list[int], [1, 2]),
        (AUTO, Any, AUTO),
    ],
)
def test_n7_a_parameter_is_converted_by_its_annotation(given: Any, annotation: Any, value: Any) -> None:
    found = convert(given, annotation, "parameter 'n'")
    assert found == value
    assert type(found) is type(value)


def test_n7_what_fits_is_left() -> None:
    given = [1]
    assert convert(given, list[int], "parameter 'n'") is given


@pytest.mark.parametrize(
    ("given", "annotation", "rows"),
    [
        ("x", int, ["given     'x' (str)", "expected  int"]),
        ("3.5", int, ["given     '3.5' (str)"]),
        ("3", bool, ["Mend: give bool (as text: true or false)."]),
        ("[1, a]", list[int], ["expected  list[int]", "(as text: [1, 2])"]),
        ("[1", list[int], ["given     '[1' (str)"]),
        ("abc", abc.Sequence[str], ["expected  Sequence[str]"]),
        ("green", Colour, ["Mend: give Colour (red or (1, 2))."]),
        (3, str, ["given     3 (int)", "expected  str"]),
        (None, int, ["given     None"]),
        ("!!python/name:os.system", int, ["expected  int"]),
        ([1, "a"], list[int], ["given     [1, 'a'] (list)"]),
    ],
)
def test_n7_one_that_does_not_fit_says_what_was_given_and_expected(given: Any, annotation: Any, rows: list[str]) -> None:
    with pytest.raises(CpgraphError) as caught:
        convert(given, annotation, "parameter 'n'")
    said = str(caught.value)
    assert said.startswith("parameter 'n' does not fit\n")
    assert all(row in said for row in [*rows, "\nMend: "])
