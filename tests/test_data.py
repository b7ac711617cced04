"""Data come in, in every way there is, and go out as a file that a person edits.

Acceptance S10, S11, S15, 22, 30, 31; rules C7, R7.
"""

import contextlib
import datetime
import enum
import json
import os
import re
import subprocess
import sys
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpgraph.contents import as_data
from cpgraph.data import Loaded, load, plain, save
from cpgraph.errors import DataError, StorageError
from cpgraph.models import AUTO, File, auto_id, create, delete, model, update


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Line:
    sku: str
    count: int = 1


@model
class Order:
    id: int
    amount: str = "0"
    total: float | None = None
    lines: list[Line] = attrs.field(factory=list)
    done: bool = True


@model
class Page:
    id: str = auto_id()
    url: str


@model
class Free:
    id: Any
    value: Any = None


MODELS = [Order, Page, Free]


def refused(source: Any, models: Any = MODELS) -> str:
    with pytest.raises(DataError) as caught:
        load(source, models)
    assert "\nMend: " in str(caught.value)
    return str(caught.value)


# In every way


@pytest.mark.parametrize(
    "source",
    [
        {"Order": [{"id": 1, "amount": "3"}]},
        {Order: [{"id": 1, "amount": "3"}]},
        {Order: [Order(id=1, amount="3")]},
        {"Order": ({"id": n, "amount": "3"} for n in [1]), "Page": []},
        {"Order": [{"id": 1, "amount": "3"}], "Page": None},
        [Order(id=1, amount="3")],
        (Order(id=1, amount="3"),),
        iter([Order(id=1, amount="3")]),
        [create(Order(id=1, amount="3"))],
        [create(Order(id=1)), update(Order, 1, amount="3")],
        [create(Order(id=1)), update(Order(id=1), amount="3"), create(Order(id=2)), delete(Order, 2)],
        [Order(id=1, amount="3"), create(Order(id=1, amount="7"), if_exists="keep")],
        [create(Order(id=1)), delete(Order(id=1)), create(Order(id=1, amount="3"))],
        lambda: [Order(id=1, amount="3")],
        lambda: {"Order": [{"id": 1, "amount": "3"}]},
        lambda: (create(order) for order in [Order(id=1, amount="3")]),
    ],
)
def test_s10_data_in_every_way(source: Any) -> None:
    assert load(source, MODELS) == Loaded((Order(id=1, amount="3"),))


@pytest.mark.parametrize("source", [None, {}, [], (), {"Order": []}, lambda: None])
def test_no_data_are_no_records(source: Any) -> None:
    assert load(source, MODELS).records == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("o.yml", "Order:\n- {id: 1, amount: '3'}\n"),
        ("o.yaml", "Order: [{id: 1, amount: '3'}]\nPage:\n"),
        ("o.json", '{"Order": [{"id": 1, "amount": "3"}]}'),
    ],
)
def test_s10_data_from_a_file(name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    for source in (path, str(path), File(str(path)), lambda: path):
        assert load(source, MODELS) == Loaded((Order(id=1, amount="3"),), path=str(path))


def test_records_keep_their_order_and_types() -> None:
    source = {"Order": [{"id": 2}, Order(id=1), {"id": 3, "total": 7}], "Free": [{"id": "1"}, {"id": 1}]}
    assert load(source, MODELS).records == (Order(id=2), Order(id=1), Order(id=3, total=7), Free(id="1"), Free(id=1))


def test_22_an_explicit_false_or_0_wins_over_a_default() -> None:
    (order,) = load({"Order": [{"id": 0, "done": False, "total": 0}]}, MODELS).records
    assert (order.id, order.done, order.total) == (0, False, 0)


def test_instances_are_taken_as_they_are() -> None:
    order = Order(id=1)
    assert load([order], MODELS).records[0] is order


# What is wrong


def test_every_bad_row_is_listed_with_file_line_row_and_field(tmp_path: Path) -> None:
    path = tmp_path / "orders.yml"
    path.write_text(
        "Order:\n"  # 1
        "- id: 1\n"
        "  amount: 3.5\n"
        "  lines: [{sku: a}, {sku: 3, cont: 1}]\n"
        "- {id: 2, amout: '3'}\n"  # 5
        "- id: 1\n"
        "- amount: no\n"
        "  total: many\n"
        "- 7\n"
        "Ordr: []\n"  # 10
        "Page: {url: a}\n"
    )
    with pytest.raises(DataError) as caught:
        load(path, MODELS)
    assert [row.removeprefix(str(path)) for row in caught.value.rows] == [
        ":3: Order, row 1, field 'amount': expected str, found 3.5 (float): quote it",
        ":4: Order, row 1, field 'lines[1].sku': expected str, found 3 (int): quote it",
        ":4: Order, row 1, field 'lines[1].cont': Line has no such field. Did you mean 'count'?",
        ":5: Order, row 2, field 'amout': Order has no such field. Did you mean 'amount'?",
        ":6: Order, row 3, field 'id': 1 (int) is there twice, first in row 1",
        ":7: Order, row 4, field 'id': is missing, expected int",
        ":7: Order, row 4, field 'amount': expected str, found False (bool): quote it",
        ":8: Order, row 4, field 'total': expected float or None, found 'many' (str)",
        ": Order, row 5: expected a mapping of fields, found 7 (int)",
        ": no model is called Ordr (known are Order, Page, Free). Did you mean 'Order'?",
        ": Page: expected a list of rows, found {'url': 'a'} (dict)",
    ]
    assert str(caught.value).startswith(f"{path}: 11 problems in the data, nothing has run\n")


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"Order": [{"id": 1}, {"id": 1}]}, "data: Order, row 2, field 'id': 1 (int) is there twice, first in row 1"),
        ({"Order": [{"id": 1}], Order: [{"id": 1}]}, "is there twice"),
        ([Order(id=1), Order(id=1)], "is there twice"),
        ([create(Order(id=1)), create(Order(id=1))], "is there twice"),
        ([Order(id=1, amount=3)], "Order, row 1, field 'amount': expected str, found 3 (int)"),  # type: ignore[arg-type]
        ([Order(id=1.5)], "an id is an int or a str, found 1.5 (float)"),  # type: ignore[arg-type]
        ([Free(id=True)], "an id is an int or a str, found True (bool)"),
        ([Page(url=AUTO)], "AUTO stands for an id"),
        ([Free(id=1, value=[AUTO])], "AUTO stands for an id"),
        ([Line("a")], "entry 1: expected a record or a change, found Line"),
        ([3], "entry 1: expected a record or a change, found 3 (int)"),
        ([{"id": 1}], "entry 1: expected a record or a change"),
        ({"Order": "abc"}, "Order: expected a list of rows, found 'abc' (str)"),
        ({"Order": 3}, "Order: expected a list of rows, found 3 (int)"),
        ({"Order": [Page(url="a")]}, "Order, row 1: expected a mapping of fields, found Page"),
        ({3: []}, "no model is called 3 (int)"),
        ({"Order": [{"id": 1, "on": 1, True: 2}]}, "the name is read as True (bool): quote it"),
        ([update(Order, 1, amount="3")], "entry 1: Order 1 (int) is not there to be updated"),
        ([create(Order(id=1)), delete(Order, "1")], "entry 2: Order '1' (str) is not there to be deleted"),
        ([create(Order(id=1)), update(Order, 1, amout="3")], "Did you mean 'amount'?"),
        ([create(Order(id=1)), update(Order, 1, amount=3)], "field 'amount': expected str, found 3 (int)"),
        ([create(Order(id=1)), update(Order, 1, id=2)], "field 'id': an update cannot change the id"),
        ([update(amount="3")], "update(record, field=…)"),
        (7, "data: 7 (int) holds no records"),
        (Order, "holds no records"),
        (b"Order", "holds no records"),
        (lambda: 7, "data from <lambda>(): 7 (int) holds no records"),
        ("orders", "orders: the suffix does not say"),
        ("missing.yml", "missing.yml: there is no such file"),
    ],
)
def test_what_is_wrong_is_said(source: Any, said: str) -> None:
    assert said in refused(source)


def test_a_class_that_is_not_the_graphs_is_told_once() -> None:
    def declare() -> Any:
        @model
        class Order:
            id: int

        return Order

    other = declare()
    said = refused([other(id=1), other(id=2)])
    assert said.count("another class of that name") == 1
    assert "test_data.py" in said
    assert "another class of that name" in refused({other: []})
    assert "no model is called Order (known are Page)" in refused([Order(id=1)], [Page])
    assert "(the graph has none)" in refused([Order(id=1)], [])


def test_what_a_class_itself_refuses_is_told_with_the_row() -> None:
    @model
    class Even:
        id: int

        def __attrs_post_init__(self) -> None:
            if self.id % 2:
                raise ValueError("odd")

    assert "data: Even, row 2: ValueError: odd" in refused({"Even": [{"id": 2}, {"id": 3}]}, [Even])


def test_what_a_function_raises_is_its_own() -> None:
    def broken() -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        load(broken, MODELS)

    async def later() -> Any: ...

    assert "an async function cannot give data" in refused(later)


def test_a_file_that_holds_something_else(tmp_path: Path) -> None:
    for name, text, said in (
        ("a.yml", "- {id: 1}", "expected rows by model, found [{'id': 1}] (list)"),
        ("b.yml", "just text", "expected rows by model, found 'just text' (str)"),
        ("c.json", "{", "c.json:1: is no JSON"),
        ("d.yml", "Order: [", "d.yml:2: is no YAML"),
        ("e.yml", "Order:\n- !!python/object:os.system {}", "e.yml:2: the tag"),
        ("f.yml", "Order: []\ndigests: 7", "the section `digests:` is not as it was saved"),
        ("g.yml", "Order: []\ndigests: {Order: [7]}", "the section `digests:` is not as it was saved"),
    ):
        (tmp_path / name).write_text(text)
        assert said in refused(tmp_path / name)


def test_31_a_model_that_evolved(tmp_path: Path) -> None:
    @attrs.frozen
    class Old:
        id: int
        gone: str = "x"

    @attrs.frozen
    class New:
        id: int
        added: str = "y"

    Old.__name__ = New.__name__ = "Thing"
    path = tmp_path / "v.yml"
    save(path, {Old: [Old(1)]})
    said = refused(path, [New])
    assert "field 'gone': Thing has no such field." in said

    @attrs.frozen
    class Grown(Old):
        added: str = "y"

    Grown.__name__ = "Thing"
    found = load(path, [Grown])
    assert found.records == (Grown(1),)
    assert found.edited == set()  # the row is as it was saved


# Ids made of content


def test_c7_ids_in_data_are_made_of_content_with_an_ordinal_among_equals() -> None:
    rows = [{"url": "a"}, {"url": "b"}, {"url": "a"}, Page(url="a"), {"url": "c", "id": "mine"}]
    ids = [page.id for page in load({"Page": rows}, MODELS).records]
    assert ids == [ids[0], ids[1], f"{ids[0]}~2", f"{ids[0]}~3", "mine"]
    assert all(re.fullmatch("[0-9a-f]{16}", id) for id in ids[:2])
    assert load([create(Page(url="b"))], MODELS).records[0].id == ids[1]


def test_c7_no_other_record_changes_an_id() -> None:
    alone = load({"Page": [{"url": "a"}]}, MODELS).records[0].id
    assert load({"Order": [{"id": 1}], "Page": [{"url": "z"}, {"url": "a"}]}, MODELS).records[2].id == alone


def test_c7_ids_are_the_same_in_every_process() -> None:
    code = (
        "import cpgraph.models as m, cpgraph.data as d\n"
        "@m.model\nclass P:\n    id: str = m.auto_id()\n    tags: frozenset[str]\n"
        "print(d.load({'P': [{'tags': ['x', 'y', 'z']}]}, [P]).records[0].id)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, check=True)
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert runs[0].stdout


def test_c7_content_without_a_digest_makes_no_id() -> None:
    @model
    class Loose:
        id: str = auto_id()
        value: Any = None

    def numbers() -> Any:
        yield 1

    assert "no id can be made of its content" in refused({"Loose": [{"value": numbers()}]}, [Loose])


def test_c7_an_id_that_is_taken_is_told() -> None:
    id = load({"Page": [{"url": "a"}]}, MODELS).records[0].id
    assert "is taken" in refused({"Page": [{"url": "b", "id": id}, {"url": "a"}]})


# Plain data


def test_s11_plain_data_by_model() -> None:
    records = [Page(id="a", url="/"), Order(id=1, lines=[Line("x")]), Page(id="b", url="/b")]
    pages = [{"id": "a", "url": "/"}, {"id": "b", "url": "/b"}]
    orders = [{"id": 1, "amount": "0", "total": None, "lines": [{"sku": "x", "count": 1}], "done": True}]
    assert list(plain(records).items()) == [("Page", pages), ("Order", orders)]
    assert list(plain(records, [Order, Free]).items()) == [("Order", orders), ("Free", []), ("Page", pages)]


# Saved versions


@model
class Everything:
    id: str
    text: str = ""
    number: float | None = None
    day: datetime.date | None = None
    time: datetime.datetime | None = None
    colour: Colour | None = None
    file: File | None = None
    price: Decimal | None = None
    key: uuid.UUID | None = None
    raw: bytes = b""
    lines: tuple[Line, ...] = ()
    tags: frozenset[str] = frozenset()
    counts: dict[int, list[int]] = attrs.field(factory=dict)
    free: Any = None


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
LINES = st.lists(st.builds(Line, TEXT, st.integers()), max_size=2).map(tuple)
FREE = st.recursive(
    st.none() | st.booleans() | TEXT | st.floats(), lambda of: st.lists(of, max_size=2) | st.dictionaries(TEXT, of, max_size=2)
)
EVERYTHING = st.builds(
    Everything,
    id=st.uuids().map(str),
    text=TEXT,
    number=st.none() | st.floats() | st.integers(),
    day=st.none() | st.dates(),
    time=st.none() | st.datetimes(timezones=st.sampled_from([None, datetime.UTC])).map(lambda time: time.replace(fold=0)),
    colour=st.none() | st.just(Colour.RED),
    file=st.none() | st.just(File("a b.csv")),
    price=st.none() | st.decimals(allow_nan=False),
    key=st.none() | st.uuids(),
    raw=st.binary(max_size=9),
    lines=LINES,
    tags=st.frozensets(TEXT, max_size=3),
    counts=st.dictionaries(st.integers(), st.lists(st.integers(), max_size=2), max_size=2),
    free=FREE,
)
RECORDS = st.lists(EVERYTHING, max_size=3, unique_by=lambda record: record.id)
PROGRESS = st.dictionaries(TEXT, FREE, max_size=2)
KEYS = st.one_of(st.integers(), TEXT)


@pytest.mark.parametrize("suffix", ["yml", "json"])
@settings(deadline=None)
@given(records=RECORDS, keys=st.lists(KEYS, max_size=3, unique_by=lambda key: (type(key), key)), progress=PROGRESS)
def test_s15_r7_what_is_saved_is_read_again(
    suffix: str, records: list[Everything], keys: list[Any], progress: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / f"again.{suffix}"
    free = [Free(id=key) for key in keys]
    save(path, {Everything: records, Free: free}, progress)
    found = load(path, [Everything, Free])
    assert as_data(list(found.records)) == as_data([*records, *free])
    assert as_data(found.progress) == as_data(progress)
    assert (found.edited, found.removed, found.path) == (frozenset(), frozenset(), str(path))


@pytest.mark.parametrize("name", ["good.yml", "good.json"])
def test_r7_what_a_person_did_to_a_saved_version_is_known(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    orders = [Order(id=n, amount=f"{n}.5") for n in range(1, 6)]
    save(path, {"Order": orders, Free: [Free(id=1), Free(id="1")]}, {"done": ["parse[1]"]})
    text = path.read_text()
    assert "!!python" not in text
    text = text.replace("'2.5'", "'2,5'").replace('"2.5"', '"2,5"')
    if name.endswith(".json"):
        tables = json.loads(text)
        tables["Order"] = [row for row in tables["Order"] if row["id"] != 4] + [{"id": 7}]
        tables["Order"].reverse()
        tables["Free"][1]["value"] = 3
        text = json.dumps(tables)
    else:
        text = re.sub(r"- id: 4\n(  .*\n)*", "- {id: 7}\n", text)
        text = text.replace("- id: '1'\n  value: null", '- value: 3\n  id: "1"')
        otherwise = '- {amount: "3.5",  # the same, written otherwise\n   id: 3, done: yes, lines: [], total: ~}\n'
        text = re.sub(r"- id: 3\n(  .*\n)*", otherwise, text)
    path.write_text(text)
    found = load(path, MODELS)
    assert found.edited == {("Order", 2), ("Order", 7), ("Free", "1")}
    assert found.removed == {("Order", 4)}
    assert found.progress == {"done": ["parse[1]"]}
    assert {record.id: record for record in found.records if isinstance(record, Order)}[2] == Order(id=2, amount="2,5")


def test_r7_a_saved_version_reads_like_data(tmp_path: Path) -> None:
    path = tmp_path / "good.yml"
    save(path, {Order: [Order(id=1, amount="3")], Page: []}, {"nodes": {"parse[1]": "ok"}})
    lines = path.read_text().splitlines()
    assert lines[0].startswith("# ")
    body = "\n".join(line for line in lines if not line.startswith("#"))
    pattern = (
        r"Order:\n- id: 1\n  amount: '3'\n  total: null\n  lines: \[\]\n  done: true\nPage: \[\]\n"
        r"digests:\n  Order:\n    1: '?[0-9a-f]{16}'?\n  Page: \{\}\nprogress:\n  nodes: \{'parse\[1\]': ok\}"
    )
    assert re.fullmatch(pattern, body)


def test_r7_digests_that_were_taken_out_count_all_as_edited_or_none(tmp_path: Path) -> None:
    path = tmp_path / "good.yml"
    save(path, {Order: [Order(id=1)]}, {"done": []})
    text = path.read_text()
    path.write_text(re.sub(r"digests:\n(  .*\n)*", "digests: {}\n", text))
    assert load(path, MODELS).edited == {("Order", 1)}
    path.write_text(re.sub(r"digests:\n(  .*\n)*", "", text))
    assert load(path, MODELS).edited == set()  # plain data


def test_a_model_may_be_called_progress(tmp_path: Path) -> None:
    @attrs.frozen
    class Mine:
        id: int

    Mine.__name__ = "progress"
    (tmp_path / "o.yml").write_text("progress:\n- id: 1\n")
    assert load(tmp_path / "o.yml", [Mine]).records == (Mine(1),)
    with pytest.raises(DataError, match="a model cannot be called 'progress'"):
        save(tmp_path / "p.yml", {Mine: [Mine(1)]})


class Opaque: ...


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    "value",
    [(1, 2), {1, 2}, Colour.RED, Opaque(), 1j, Decimal(1), 10**5000, "\ud800", {"a": (1,)}, LOOP, {(1, 2): 3}],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("suffix", ["yml", "json"])
def test_what_would_not_be_read_back_is_not_saved_and_named(value: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"o.{suffix}"
    with pytest.raises(DataError) as caught:
        save(path, {Free: [Free(id=1), Free(id=7, value=value)]})
    assert [row for row in caught.value.rows if row.startswith("Free 7 (int)")]
    assert not [row for row in caught.value.rows if row.startswith("Free 1 (int)")]
    assert "\nMend: " in str(caught.value)
    assert os.listdir(tmp_path) == []


def test_shared_parts_are_written_out(tmp_path: Path) -> None:
    record = Free(id=7, value=[[["x"]] * 3] * 3)
    save(tmp_path / "o.yml", {Free: [record]})
    assert "&" not in (tmp_path / "o.yml").read_text()
    assert load(tmp_path / "o.yml", MODELS).records == (record,)


def test_a_version_with_more_than_a_file_can_say_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="what has been done is not plain data"):
        save(tmp_path / "o.json", {}, {1: "a JSON key is a text"})
    with pytest.raises(DataError, match="the suffix does not say"):
        save(tmp_path / "o.txt", {})
    with pytest.raises(StorageError, match="cannot be written"):
        save(tmp_path / "no" / "o.yml", {})
    assert os.listdir(tmp_path) == []


def test_times_and_dates_in_json_come_back_by_their_fields(tmp_path: Path) -> None:
    record = Everything(id="a", day=datetime.date(2024, 1, 2), raw=b"hi")
    save(tmp_path / "o.json", {Everything: [record]})
    assert load(tmp_path / "o.json", [Everything]).records == (record,)
    with pytest.raises(DataError, match=r"Free 1 \(int\), field 'value'"):
        save(tmp_path / "o.json", {Free: [Free(id=1, value=datetime.date(2024, 1, 2))]})
    save(tmp_path / "o.yml", {Free: [Free(id=1, value=datetime.date(2024, 1, 2))]})


def test_importing_data_is_light() -> None:
    slow = "cattrs yaml"
    code = f"import sys, cpgraph.data; print([name for name in {slow.split()!r} if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.text("{}[]:,-&*!#|>'\" \n\tab1~<?%@", max_size=60)


@settings(deadline=None)
@given(text=ANY_TEXT)
def test_whatever_a_file_says_it_is_data_or_an_error_of_ours(text: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    for name, written in (("any.yml", text), ("any.json", text), ("rows.yml", f"Order:\n- id: 1\n  amount: {text}")):
        path = tmp_path_factory.getbasetemp() / name
        path.write_text(written, encoding="utf-8")
        with contextlib.suppress(DataError):
            load(path, MODELS)
