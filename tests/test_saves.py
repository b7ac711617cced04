"""Saved versions: what is resumed from a file is what is resumed from the version, but for what a person edited (rule R7)."""

from __future__ import annotations

import contextlib
import datetime
import enum
import io
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import yaml

import cpgraph as cp
from cpgraph.errors import DataError
from tests.naive import interpret
from tests.programs import Log, generate

RAN: list[str] = []


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    RAN.clear()
    return tmp_path


@cp.model
class Order:
    id: int
    amount: str = "1"
    total: float | None = None
    seen: int = 0


@cp.step(sets="total")
def parse(id: int, amount: str) -> float:
    RAN.append(f"parse[{id}]")
    return float(amount)


@cp.step
def grow(record: Order) -> Any:
    """Orders below 30 make another one."""
    RAN.append(f"grow[{record.id}]")
    return [cp.update(seen=1), cp.create(Order(id=record.id + 10, amount=record.amount))] if record.id < 20 else cp.update(seen=1)


@cp.step
def report(store: cp.Store, parse: dict[int, float]) -> str:
    RAN.append("report")
    return f"{sum(parse.values())} of {store.values(Order, 'id')}"


GRAPH = cp.Graph(cp.pipeline(cp.pipeline(parse, grow, each=Order), report), name="orders")
COUNT = 0


def go(start: Any = None, verb: str = "resume", graph: cp.Graph = GRAPH, dir: str = "", **options: Any) -> cp.Run:
    """Run, or resume, in a directory where nothing has run yet."""
    global COUNT
    COUNT += 1
    RAN.clear()
    with contextlib.redirect_stderr(io.StringIO()):
        run: cp.Run = getattr(graph, verb)(start, dir=dir or f"dir{COUNT}", executor="inline", **options)
    return run


def first(*ids: int, graph: cp.Graph = GRAPH, dir: str = "first") -> cp.Run:
    return go([Order(id=id, amount=str(id)) for id in ids], "run", graph, dir=dir)


class Edited:
    """A saved version as one edits it."""

    def __init__(self, path: str = "good.yml") -> None:
        self.path = path
        self.content: dict[str, Any] = yaml.safe_load(Path(path).read_text())
        self.rows = {row["id"]: row for row in self.content.get("Order", [])}

    def save(self) -> str:
        Path(self.path).write_text(yaml.safe_dump(self.content, sort_keys=False))
        return self.path

    def take_out(self, id: int) -> None:
        self.content["Order"].remove(self.rows[id])


def saved(version: cp.runs.Version, path: str = "good.yml") -> Edited:  # type: ignore[name-defined]
    version.save(path)
    return Edited(path)


def ids(run: cp.Run) -> list[int]:
    return [row["id"] for row in run.data["Order"]]


# The file


@pytest.mark.parametrize("path", ["good.yml", "good.json"])
def test_r7_resuming_the_file_is_resuming_the_version(path: str) -> None:
    run = first(1, 2)
    for version in run.history:
        version.save(path)
        from_version, ran = go(version), list(RAN)
        from_file = go(path)
        assert ran == RAN
        assert from_file.data == from_version.data == run.data
        assert from_file.counts == from_version.counts
        assert from_file.value(report) == run.value(report)
        assert from_file.values(grow) == run.values(grow)
    assert RAN == []


def test_r7_an_edited_record_that_has_lost_its_creator_begins_as_it_was_created_but_for_the_edit() -> None:
    def spawn(id: int) -> Any:
        return cp.create(Order(id=id + 10, amount="made", seen=3)) if id == 1 else None

    def double(record: Order) -> Any:
        return cp.update(seen=record.seen * 2) if record.id > 10 else None

    graph = cp.Graph(cp.pipeline(spawn, double, each=Order), name="orphans")
    run = graph.run([Order(id=1), Order(id=2)], dir="kept")
    path = Path("v.yml")
    run.history[-1].save(path)
    document = yaml.safe_load(path.read_text())
    document["Order"] = [row | ({"amount": "edited"} if row["id"] == 11 else {}) for row in document["Order"] if row["id"] != 1]
    path.write_text(yaml.safe_dump(document, sort_keys=False))
    again = graph.resume(path, dir="other")
    assert [(row["id"], row["amount"], row["seen"]) for row in again.data["Order"]] == [(2, "1", 0), (11, "edited", 6)]


def test_r7_an_edited_record_begins_as_the_run_began_with_it_but_for_the_edit() -> None:
    """What steps have written is no edit: they write it once, not twice. An edit of what they write is told as in vain."""

    def double(record: Order) -> Any:
        return cp.update(seen=record.seen * 2)

    def make(id: int) -> Any:
        return cp.create(Order(id=id + 10, amount="made", seen=3)) if id == 1 else None

    @cp.step(sets="total")
    def length(amount: str) -> float:
        return float(len(amount))

    graph = cp.Graph(cp.pipeline(double, length, make, each=Order), name="edits")
    run = graph.run([Order(id=1, amount="a", seen=5), Order(id=2, amount="b", seen=7)], dir="kept")
    assert [row["seen"] for row in run.data["Order"]] == [10, 14, 6]
    path = Path("v.yml")
    run.history[-1].save(path)
    text = path.read_text().replace("amount: a", "amount: edited", 1).replace("amount: made", "amount: other", 1)
    path.write_text(text.replace("total: 1.0", "total: 9.0", 1))
    plan = graph.plan(path, dir="none")
    assert plan.line.startswith("resume edits: from v.yml") and plan.steps["double"].computed >= 1
    again = graph.resume(path, dir="other")
    found = [(row["amount"], row["seen"], row["total"]) for row in again.data["Order"]]
    assert found == [("edited", 10, 6.0), ("b", 14, 1.0), ("other", 6, 5.0)]
    assert {node.ended for node in again.nodes if node.key == (2,)} == {"cached"}
    (told,) = [hint.text for hint in again.hints if hint.kind == "edited-written"]
    assert told.startswith("total of Order 1: edited by hand")


def test_r7_the_file_is_plain_data_and_says_what_was_done() -> None:
    first(1).history[-1].save("good.yml")
    text = Path("good.yml").read_text()
    assert "!!" not in text
    progress = yaml.safe_load(text)["progress"]
    assert progress["format"] == 1
    assert progress["graph"] == "orders"
    origin = progress["origin"]["Order"]
    assert origin["changed"] == [{"id": 1, "amount": "1", "total": None, "seen": 0}] and origin["created"] == [11, 21]
    assert [(id, sorted(fields)) for id, fields in origin["written"]] == [(id, ["seen", "total"]) for id in (1, 11, 21)]
    (node,) = [node for made in progress["done"] if made["step"] == "parse" for node in made["nodes"] if node["id"] == 1]
    assert node["value"] == 1.0
    assert re.fullmatch("[0-9a-f]{16} [0-9a-f]{16}", node["inputs"])
    assert [made["inputs"] for made in progress["done"]] == [["id", "amount"], ["record"], ["parse"]]
    assert all(re.fullmatch("[0-9a-f]{32}", made["fingerprint"]) for made in progress["done"])


def test_r7_a_resumed_file_is_a_run_like_any_other() -> None:
    run = first(1, 2)
    run.history[3].save("good.yml")
    again = go("good.yml", dir="other")
    assert again.data == run.data
    assert [node.ended for node in again.nodes if node.step == "parse"][:2] == ["cached", "cached"]
    assert go(dir="other").data == run.data
    assert RAN == [], "the next resume has what was taken over"
    assert again.nodes[0].fingerprint == run.nodes[0].fingerprint
    again.history[-1].save("better.yml")
    assert go("better.yml").data == run.data
    assert RAN == []


def test_r7_a_run_is_not_told_by_what_was_resumed_before_it() -> None:
    first(1, 2).history[-1].save("good.yml")
    go("good.yml", dir="other")
    run = go([Order(id=1, amount="1"), Order(id=2, amount="2")], "run", dir="other")
    assert run.ok
    assert len(RAN) == 13, "what was only taken over is in no cache (R4)"


def test_r7_a_version_that_was_found_again_can_be_saved() -> None:
    run = first(1)
    cp.runs("first")[-1].history[-1].save("good.yml")
    assert go("good.yml").data == run.data
    assert RAN == []


def test_r7_kept_in_memory_alone() -> None:
    with contextlib.redirect_stderr(io.StringIO()):
        run = GRAPH.run([Order(id=1, amount="1")], dir=None, executor="inline")
        run.history[2].save("good.yml")
        assert GRAPH.resume("good.yml", dir=None, executor="inline").data == run.data


def test_r7_what_made_a_result_stays_marked() -> None:
    def scale(amount: str) -> float:
        return float(amount)

    def scaled(amount: str) -> float:
        return 10 * float(amount)

    scaled.__name__ = "scale"
    one = cp.Graph(cp.pipeline(scale, each=Order), name="g")
    two = cp.Graph(cp.pipeline(scaled, each=Order), name="g")
    run = first(1, graph=one)
    later = go(graph=two, dir="first", data=[Order(id=1, amount="1"), Order(id=2, amount="2")])
    assert later.values("scale") == {1: 1.0, 2: 20.0}
    makers = [node.fingerprint for node in later.nodes]
    assert makers[0] == run.nodes[0].fingerprint != makers[1]
    later.history[-1].save("good.yml")
    for start in ("good.yml", later.history[-1]):
        assert [node.fingerprint for node in go(start, graph=two).nodes] == makers


# Records edited by hand


def test_r7_an_edited_record_runs_again_and_with_it_what_joins_it() -> None:
    file = saved(first(1, 2).history[-1])
    file.rows[1]["amount"] = "7"
    run = go(file.save())
    assert RAN == ["parse[1]", "grow[1]", "parse[11]", "grow[11]", "parse[21]", "grow[21]", "report"]
    want = go([Order(id=1, amount="7", total=1.0, seen=1), Order(id=2, amount="2")], "run")
    assert run.data == want.data
    assert run.value(report) == want.value(report)
    (hint,) = [hint for hint in run.hints if hint.kind == "edited"]
    assert hint.text == "Order 1: edited or added by hand: what was done for it is not kept"


def test_r7_what_an_edited_record_creates_again_as_it_was_is_kept() -> None:
    file = saved(first(1, 2).history[-1])
    file.rows[1]["total"] = 99.0
    run = go(file.save())
    assert RAN == ["parse[1]", "grow[1]"], "nothing that follows has other inputs"
    assert run.store.find(Order, 1).total == 1.0
    assert ids(run) == [1, 2, 11, 12, 21, 22]


def test_r7_a_created_record_that_was_edited_begins_as_it_was_edited() -> None:
    run = first(1, 2)
    file = saved(run.history[-1])
    file.rows[12]["amount"] = "70"
    edited = go(file.save(), dir="other")
    assert RAN == ["parse[12]", "grow[12]", "parse[22]", "grow[22]", "report"]
    assert ids(edited) == ids(run), "in the order in which they are created"
    assert {row["id"]: row["amount"] for row in edited.data["Order"]} == {1: "1", 2: "2", 11: "1", 12: "70", 21: "1", 22: "70"}
    assert edited.values(grow) == run.values(grow)
    assert edited.ok
    assert go(dir="other").data == edited.data
    assert RAN == [], "also the next time"
    fresh = go([Order(id=1, amount="1"), Order(id=2, amount="2")], "run", dir="other")
    assert fresh.data == run.data, "what a person edited is in no cache"


def test_r7_a_created_record_stays_as_edited_also_if_its_creator_runs_again() -> None:
    file = saved(first(1).history[-1])
    file.rows[1]["amount"] = "5"
    file.rows[11]["amount"] = "70"
    edited = go(file.save(), dir="other")
    assert edited.ok
    assert {row["id"]: row["amount"] for row in edited.data["Order"]} == {1: "5", 11: "70", 21: "70"}
    assert go(dir="other").data == edited.data
    assert RAN == []


def test_r7_an_added_record_runs() -> None:
    run = first(1, 2)
    file = saved(run.history[-1])
    file.content["Order"].append({"id": 25, "amount": "4"})
    added = go(file.save())
    assert RAN == ["parse[25]", "grow[25]", "report"]
    assert ids(added) == [1, 2, 25, 11, 12, 21, 22], "a record of the data comes before those that are created"


def test_r7_a_record_that_was_taken_out_is_gone_with_its_nodes() -> None:
    run = first(1, 2)
    file = saved(run.history[-1])
    file.take_out(2)
    less = go(file.save())
    assert RAN == ["report"]
    assert ids(less) == [1, 12, 11, 22, 21], "what it created stands, as data"
    assert less.data["Order"][1] == run.data["Order"][3]
    assert "parse[2]" not in [node.id for node in less.nodes]
    (hint,) = [hint for hint in less.hints if hint.kind == "removed"]
    assert "Order 2: taken out by hand" in hint.text


def test_r7_a_created_record_that_was_taken_out_stays_gone() -> None:
    run = first(1, 2)
    file = saved(run.history[-1])
    file.take_out(12)
    less = go(file.save(), dir="other")
    assert RAN == ["report"]
    assert ids(less) == [1, 2, 22, 11, 21]
    assert less.values(grow) == {1: [1, 11], 2: [2], 22: 22, 11: [11, 21], 21: 21}
    assert less.ok
    assert go(dir="other").data == less.data
    assert RAN == []


def test_r7_taking_out_all_that_a_node_created_leaves_it_without_changes() -> None:
    def one(id: int) -> Any:
        return cp.create(Order(id=id + 10)) if id < 10 else None

    def several(id: int) -> Any:
        return [cp.create(Order(id=id + 20))] if id < 10 else None

    graph = cp.Graph(cp.pipeline(one, several, each=Order))
    file = saved(first(1, graph=graph).history[-1])
    file.take_out(11)
    file.take_out(21)
    run = go(file.save(), graph=graph)
    assert ids(run) == [1]
    assert (run.value(one, 1), run.value(several, 1)) == (None, [])


def test_r7_ids_that_were_made_do_not_move_when_one_is_taken_out() -> None:
    @cp.model
    class Page:
        id: str = cp.auto_id()
        name: str

    def make() -> Any:
        return [cp.create(Page(name=name)) for name in "abc"]

    graph = cp.Graph(make, models=[Page])
    run = go(None, "run", graph)
    pages = run.data["Page"]
    run.history[-1].save("good.yml")
    content = yaml.safe_load(Path("good.yml").read_text())
    del content["Page"][0]
    Path("good.yml").write_text(yaml.safe_dump(content))
    assert go("good.yml", graph=graph).data["Page"] == pages[1:]


def test_r7_a_deleted_record_is_deleted_again_and_stands_where_it_stood() -> None:
    def drop(record: Order) -> Any:
        return cp.delete(record) if record.id == 2 else None

    def place(store: cp.Store) -> list[int]:
        return store.values(Order, "id")

    graph = cp.Graph(place, cp.pipeline(drop, each=Order, after=place))
    run = first(1, 2, 3, graph=graph)
    run.history[-1].save("good.yml")
    again = go("good.yml", graph=graph)
    assert again.data == run.data
    assert again.counts == {"place": {"cached": 1}, "drop": {"cached": 3}}
    file = Edited()
    file.content["Order"].insert(0, {"id": 2, "amount": "back"})
    again = go(file.save(), graph=graph)
    assert again.counts["drop"] == {"cached": 2, "computed": 1}, "put back by hand, it is a record that was added"


def test_r7_plan_tells_what_a_saved_version_would_run(here: Path) -> None:
    file = saved(first(1, 2).history[-1])
    file.rows[1]["amount"] = "7"
    plan = GRAPH.plan(start=file.save(), dir="nowhere")
    assert (plan.steps["parse"].computed, plan.steps["parse"].cached) == (1, 3)
    assert plan.steps["report"].computed + plan.steps["report"].follows == 1
    assert not (here / "nowhere").exists()
    assert "from good.yml (version v" in plan.line
    version = cp.runs("first")[-1].history[-1]
    assert GRAPH.plan(start=version, dir="nowhere").computed == 0


def test_r7_a_plan_says_the_same_of_a_version_and_of_its_file() -> None:
    run = first(1, 2)
    for version in run.history:
        version.save("good.yml")
        one, other = GRAPH.plan(start=version, dir="nowhere"), GRAPH.plan(start="good.yml", dir="nowhere")
        assert {name: (step.cached, step.computed) for name, step in one.steps.items()} == {
            name: (step.cached, step.computed) for name, step in other.steps.items()
        }


# Values


class Colour(enum.Enum):
    RED = "red"


@attrs.frozen
class Pair:
    one: int
    other: datetime.date


DAY = datetime.date(2024, 2, 29)
VALUES: dict[str, tuple[Any, Any]] = {
    "none": (None, None),
    "float": (float, -0.0),
    "large": (int, 10**50),
    "text": (str, "a: [b]\n\tc\x85 é \x07"),
    "number as text": (str, "1e3"),
    "nested": (dict, {"a": [1, {"b": None}], "c": True}),
    "ids": (dict[int, float], {1: 0.5, 2: 1.5}),
    "tuple": (tuple[int, str], (1, "a")),
    "set": (set[int], {1, 2}),
    "bytes": (bytes, b"\x00\xff"),
    "day": (datetime.date, DAY),
    "decimal": (Decimal, Decimal("1.10")),
    "enum": (Colour, Colour.RED),
    "record": (Order, Order(id=1, amount="x")),
    "records": (list[Order], [Order(id=1), Order(id=2)]),
    "attrs": (Pair, Pair(1, DAY)),
}


def returning(value: Any, annotation: Any) -> Callable[[], Any]:
    def give():  # type: ignore[no-untyped-def]
        RAN.append("give")
        return value

    if annotation is not None:
        give.__annotations__["return"] = annotation
    return give


@pytest.mark.parametrize("path", ["good.yml", "good.json"])
@pytest.mark.parametrize("kind", VALUES)
def test_r7_values_that_can_be_read_back_are_kept(kind: str, path: str) -> None:
    annotation, value = VALUES[kind]
    graph = cp.Graph(returning(value, annotation), models=[Order])
    run = go(None, "run", graph)
    run.history[-1].save(path)
    again = go(path, graph=graph)
    assert RAN == []
    assert again.value("give") == value
    assert type(again.value("give")) is type(value)


@pytest.mark.parametrize(
    "value", [(1, 2), {1, 2}, DAY, b"x", Order(id=1), Pair(1, DAY), object, "\ud800", [["x"]] * 3 + [range(3)]]
)
def test_r7_a_value_that_is_not_plain_is_made_again(value: Any) -> None:
    graph = cp.Graph(returning(value, None), models=[Order])
    run = go(None, "run", graph)
    run.history[-1].save("good.yml")
    again = go("good.yml", graph=graph)
    assert RAN == ["give"]
    assert again.value("give") == value
    assert "1 to be made again" in graph.plan(start="good.yml", dir="nowhere").line


def test_r7_a_value_nested_too_deep_is_made_again() -> None:
    def deep() -> list[Any]:
        value: list[Any] = []
        for _ in range(150):
            value = [value]
        RAN.append("deep")
        return value

    graph = cp.Graph(deep)
    go(None, "run", graph).history[-1].save("good.yml")
    assert go("good.yml", graph=graph).ok
    assert RAN == ["deep"]


def test_r7_the_field_says_how_a_value_that_was_written_to_it_is_read() -> None:
    @cp.model
    class Event:
        id: int
        day: datetime.date | None = None

    @cp.step(sets="day")
    def dated(id: int):  # type: ignore[no-untyped-def]
        RAN.append("dated")
        return DAY

    graph = cp.Graph(cp.pipeline(dated, each=Event))
    run = go([Event(id=1)], "run", graph)
    run.history[-1].save("good.json")
    assert go("good.json", graph=graph).data == run.data
    assert RAN == []


def test_r7_fields_that_were_written_are_read_by_their_types() -> None:
    @cp.model
    class Event:
        id: int
        day: datetime.date | None = None
        colour: Colour = Colour.RED
        tags: frozenset[str] = frozenset()
        anything: Any = None

    def change(record: Event) -> Any:
        RAN.append(f"change[{record.id}]")
        if record.id > 1:
            return cp.update(anything=(1, 2)) if record.id == 3 else None
        return [cp.update(day=DAY, tags=frozenset("ab")), cp.create(Event(id=2, day=DAY)), cp.update(Event, 2, day=None)]

    graph = cp.Graph(cp.pipeline(change, each=Event))
    run = go([Event(id=1)], "run", graph)
    for path in ("good.yml", "good.json"):
        run.history[-1].save(path)
        assert go(path, graph=graph).data == run.data
        assert RAN == []
    run = go([Event(id=1), Event(id=3)], "run", graph)
    with pytest.raises(DataError, match=r"Event 3 \(int\), field 'anything'"):
        run.history[-1].save("good.yml")


def test_r7_a_change_that_cannot_be_written_is_made_again() -> None:
    @cp.model
    class Event:
        id: int
        anything: Any = None

    def change(id: int) -> Any:
        RAN.append("change")
        return cp.result(1, cp.update(anything=(1, 2)))

    def back(change: int) -> Any:
        RAN.append("back")
        return cp.update(anything=None)

    graph = cp.Graph(cp.pipeline(change, back, each=Event))
    run = go([Event(id=1)], "run", graph)
    run.history[-1].save("good.yml")
    assert go("good.yml", graph=graph).data == run.data
    assert RAN == ["change"]


def test_r7_a_record_of_the_beginning_that_cannot_be_written_is_told() -> None:
    @cp.model
    class Event:
        id: int
        anything: Any = None

    def plainer(id: int) -> Any:
        return cp.update(anything=None)

    run = go([Event(id=1, anything=(1, 2))], "run", cp.Graph(cp.pipeline(plainer, each=Event)))
    with pytest.raises(DataError, match="as the run began with it, cannot be saved as plain data") as caught:
        run.history[-1].save("good.yml")
    assert "Event 1" in str(caught.value)
    assert not Path("good.yml").exists()


def test_r7_a_returned_file_is_kept_as_long_as_it_stands() -> None:
    def draw():  # type: ignore[no-untyped-def]
        RAN.append("draw")
        Path("out").write_text("picture")
        return cp.File("out")

    graph = cp.Graph(draw)
    go(None, "run", graph).history[-1].save("good.yml")
    assert go("good.yml", graph=graph).value(draw) == cp.File("out")
    assert RAN == []
    go("good.yml", graph=graph, dir="other")
    Path("out").unlink()
    go(None, graph=graph, dir="other")
    assert RAN == ["draw"]
    Path("out").write_text("altered")
    go("good.yml", graph=graph)
    assert RAN == ["draw"]


def test_r7_the_file_in_a_field_is_an_input_by_its_content() -> None:
    @cp.model
    class Doc:
        id: int
        file: cp.File

    def size(file: cp.File) -> int:
        RAN.append(f"size[{file}]")
        return len(Path(file).read_text())

    for name in "ab":
        Path(name).write_text(name)
    graph = cp.Graph(cp.pipeline(size, each=Doc))
    go({"Doc": [{"id": 1, "file": "a"}, {"id": 2, "file": "b"}]}, "run", graph).history[-1].save("good.yml")
    Path("b").write_text("longer")
    assert go("good.yml", graph=graph).values(size) == {1: 1, 2: 6}
    assert RAN == ["size[b]"]


# What was read, parameters, nested instances


def test_r7_what_was_read_is_asked_again() -> None:
    def look(store: cp.Store, id: int) -> list[Any]:
        RAN.append(f"look[{id}]")
        found = [store.count(Order), store.count(Order, seen=0), [order.id for order in store.where(Order, amount="2")]]
        return [*found, len(store.values(Order, "id", "amount")), store.get(Order, 9) is None]

    graph = cp.Graph(cp.pipeline(look, each=Order))
    run = first(1, 2, graph=graph)
    run.history[-1].save("good.json")
    assert go("good.json", graph=graph).values(look) == run.values(look)
    assert RAN == []
    file = saved(run.history[-1])
    file.content["Order"].append({"id": 9})
    assert go(file.save(), graph=graph).value(look, 1)[0] == 3
    assert RAN == ["look[1]", "look[2]", "look[9]"]


@pytest.mark.parametrize("path", ["good.yml", "good.json"])
def test_r7_parameters_are_kept(path: str) -> None:
    def scale(id: int, factor: int, day: datetime.date, table: cp.File, texts: list[cp.File] = cp.files("t*")) -> str:  # type: ignore[assignment]
        RAN.append(f"scale[{id}]")
        return f"{factor} {day} {Path(table).read_text()} {len(texts)}"

    Path("table").write_text("one")
    graph = cp.Graph(cp.pipeline(scale, each=Order), params=["factor", "day", "table"])
    given = {"factor": 3, "day": DAY, "table": cp.File("table"), "texts": cp.files("tab*")}
    run = go([Order(id=1)], "run", graph, params=given)
    run.history[-1].save(path)
    assert go(path, graph=graph).value(scale, 1) == "3 2024-02-29 one 1"
    assert RAN == []
    assert go(path, graph=graph, params={"factor": 4}).value(scale, 1) == "4 2024-02-29 one 1"
    Path("table").write_text("two")
    Path("table2").write_text("")
    assert go(path, graph=graph).value(scale, 1) == "3 2024-02-29 two 2"


def test_r7_a_parameter_that_could_not_be_saved_has_to_be_given_again() -> None:
    def use(id: int, thing: Any = None) -> str:
        return str(thing)

    graph = cp.Graph(cp.pipeline(use, each=Order))
    run = go([Order(id=1)], "run", graph, params={"thing": (1, 2)})
    run.history[-1].save("good.yml")
    with pytest.raises(cp.CpgraphError, match="parameter 'thing' has no value"):
        go("good.yml", graph=graph)
    again = go("good.yml", graph=graph, params={"thing": (1, 2)})
    assert again.counts["use"] == {"cached": 1}


def test_r7_what_is_inside_of_an_edited_record_runs_again() -> None:
    def pair(order: Order, n: str) -> str:
        RAN.append(f"pair[{order.id},{n}]")
        return f"{order.amount}{n}"

    graph = cp.Graph(cp.pipeline(cp.pipeline(pair, each={"n": ["a", "b", "a"]}), each=Order))
    file = saved(first(1, 2, graph=graph).history[-1])
    file.rows[2]["amount"] = "x"
    run = go(file.save(), graph=graph)
    assert RAN == ["pair[2,a]", "pair[2,b]"]
    assert run.values(pair) == {
        (1, "a"): "1a",
        (1, "b"): "1b",
        (1, "a~2"): "1a",
        (2, "a"): "xa",
        (2, "b"): "xb",
        (2, "a~2"): "xa",
    }


def test_r3_r7_what_failed_runs_from_the_top_of_its_record() -> None:
    broken = ["2"]

    def early(id: int) -> int:
        RAN.append(f"early[{id}]")
        return id

    @cp.step(version="1")
    def late(early: int, amount: str) -> int:
        RAN.append(f"late[{early}]")
        if amount in broken:
            raise ValueError("edge-case")
        return early

    graph = cp.Graph(cp.pipeline(early, late, each=Order))
    run = first(1, 2, graph=graph)
    assert [failure.node for failure in run.failures] == ["late[2]"]
    run.history[-1].save("good.yml")
    broken.clear()
    for start in (run.history[-1], "good.yml"):
        assert go(start, graph=graph).ok
        assert RAN == ["early[2]", "late[2]"]


def test_r3_a_record_in_which_something_failed_is_not_kept_for_what_succeeded_beside_it() -> None:
    broken = ["2"]

    @cp.step(version="1")
    def bad(amount: str) -> str:
        RAN.append(f"bad[{amount}]")
        if amount in broken:
            raise ValueError("edge-case")
        return amount

    def good(amount: str) -> str:
        RAN.append(f"good[{amount}]")
        return amount

    graph = cp.Graph(cp.pipeline([bad, good], each=Order))
    run = first(1, 2, graph=graph)
    assert RAN == ["bad[1]", "good[1]", "bad[2]", "good[2]"], "the failure is noted before the success"
    run.history[-1].save("good.yml")
    broken.clear()
    for start, dir in ((run.history[-1], ""), ("good.yml", ""), (None, "first")):
        assert go(start, graph=graph, dir=dir).ok
        ran = sorted(RAN)
        assert ran == ["bad[2]"] if dir else ran == ["bad[2]", "good[2]"], "in its own directory the cache has the other"


def test_f3_what_one_node_may_not_write_another_with_equal_work_may() -> None:
    def early() -> Any:
        return cp.create(Order(id=3))

    def make(n: int) -> Any:
        return cp.create(Order(id=n))

    graph = cp.Graph(early, cp.pipeline(cp.pipeline(make, each={"n": [3]}), each=Order))
    run = first(1, graph=graph)
    assert [failure.node for failure in run.failures] == ["make[3,3]"]
    again = go(run.history[1], graph=graph)
    assert [failure.node for failure in again.failures] == ["make[3,3]"]
    assert again.counts["make"] == {"failed": 1, "computed": 1}


def test_r7_a_step_that_is_new_or_gone_since_is_told() -> None:
    def other(id: int) -> int:
        RAN.append(f"other[{id}]")
        return id

    first(1).history[-1].save("good.yml")
    graph = cp.Graph(cp.pipeline(cp.pipeline(parse, other, each=Order)), name="orders")
    run = go("good.yml", graph=graph)
    assert RAN == ["other[1]"]
    kinds = {hint.kind: hint.text for hint in run.hints}
    assert "other" in kinds["steps-new"]
    assert "grow, report" in kinds["steps-gone"]


# Files that are not as they were saved


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda content: content.pop("progress"), "there is no section `progress:`"),
        (lambda content: content["progress"].update(format=99), "a later version of cpgraph saved this"),
        (lambda content: content.update(progress=[]), "is not as it was saved"),
        (lambda content: content["progress"].pop("done"), "is not as it was saved"),
        (lambda content: content["progress"]["done"][0]["nodes"][0].update(digest="zz"), "is not as it was saved"),
        (lambda content: content["progress"]["done"][0]["nodes"].append(7), "is not as it was saved"),
        (
            lambda content: content["progress"]["origin"]["Order"].update(changed=[{"id": 1, "amuont": "1"}]),
            "does not fit the models",
        ),
        (lambda content: content["Order"][0].update(amount=3), "expected str, found 3"),
        (lambda content: content.update(Ordr=[]), "no model is called Ordr"),
    ],
)
def test_r7_a_file_that_is_not_as_it_was_saved_is_told(edit: Callable[[dict[str, Any]], Any], said: str, here: Path) -> None:
    file = saved(first(1).history[-1])
    edit(file.content)
    with pytest.raises(DataError) as caught:
        go(file.save(), dir="untouched")
    assert said in str(caught.value)
    assert "good.yml" in str(caught.value)
    assert "Mend: " in str(caught.value)
    assert RAN == []


def test_r7_a_file_of_another_graph_is_told() -> None:
    def alone() -> int:
        return 1

    first(1).history[-1].save("good.yml")
    with pytest.raises(DataError, match="saved by another graph, 'orders'"):
        go("good.yml", graph=cp.Graph(alone, models=[Order]))


def test_r7_there_is_no_such_file() -> None:
    with pytest.raises(DataError, match=r"none\.yml: there is no such file"):
        go("none.yml")
    with pytest.raises(DataError, match="the suffix"):
        first(1).history[-1].save("good.txt")


def test_r7_a_value_edited_in_the_progress_is_not_believed() -> None:
    file = saved(first(1).history[-1])
    file.content["progress"]["done"][0]["nodes"][0]["value"] = 1000.0
    run = go(file.save())
    assert run.value(parse, 1) == 1.0
    assert "parse[1]" in RAN


def test_r7_digests_that_were_taken_out_make_all_records_run_again() -> None:
    file = saved(first(1, 2).history[-1])
    file.content["digests"] = {}
    run = go(file.save())
    assert len([name for name in RAN if name.startswith("parse")]) == 6
    assert run.ok


def test_r7_a_saved_version_is_data_for_a_run() -> None:
    run = first(1)
    run.history[-1].save("good.yml")
    again = go("good.yml", "run")
    assert again.history[0].data == run.data
    assert [failure.node for failure in again.failures] == ["grow[1]", "grow[11]"], "they create what is there"


# Random programs


def programs(count: int) -> Iterator[tuple[int, Any]]:
    """Programs whose answer no clock has a say in."""
    Log(Path("calls.log"))
    for seed in range(count):
        program = generate(Random(seed), 7)
        module = program.load(Path.cwd(), "saved_program")
        if not interpret(module.PIPELINES, module.DATA).clock:
            yield seed, module


def test_r7_random_programs_go_on_from_a_file_as_from_the_version() -> None:
    for seed, module in programs(30):
        graph = cp.Graph(*module.PIPELINES, models=[module.A, module.B])
        run = go(module.DATA, "run", graph)
        for place, version in enumerate(run.history):
            path = f"{seed}-{place}.{'json' if place % 2 else 'yml'}"
            version.save(path)
            one, other = go(version, graph=graph), go(path, graph=graph)
            assert one.data == run.data, (seed, place)
            assert other.data == run.data, (seed, place)
            assert one.counts == other.counts, (seed, place)
            assert all(one.values(step) == other.values(step) == run.values(step) for step in run.counts), (seed, place)


def test_r7_random_programs_go_on_from_an_edited_file_as_from_edited_data() -> None:
    for seed, module in programs(30):
        random = Random(seed)
        graph = cp.Graph(*module.PIPELINES, models=[module.A, module.B])
        run = go(module.DATA, "run", graph)
        version = run.history[random.randrange(len(run.history))]
        content = saved(version).content
        cls = random.choice([module.A, module.B])
        records = {record.id: record for record in module.DATA[cls]}
        rows = [row for row in content.get(cls.__name__, ()) if row["id"] in records]
        if rows and random.random() < 0.6:
            row = random.choice(rows)
            row["v"] = (row["v"] + 1) % 3
            records[row["id"]] = cls(**row)
        else:
            content.setdefault(cls.__name__, []).append({"id": 77, "v": 1})
            records[77] = cls(id=77, v=1)
        data = {**module.DATA, cls: list(records.values())}
        if interpret(module.PIPELINES, data).clock:
            continue
        digests, progress = content.pop("digests"), content.pop("progress")
        Path("edited.yml").write_text(yaml.safe_dump({**content, "digests": digests, "progress": progress}, sort_keys=False))
        want, got = go(data, "run", graph), go("edited.yml", graph=graph, dir=f"edited{seed}")
        assert got.data == want.data, seed
        assert sorted(failure.node for failure in got.failures) == sorted(failure.node for failure in want.failures), seed
        assert go(graph=graph, dir=f"edited{seed}").data == want.data, seed
